//! Proofs that only the depth of the tree decides.

use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Transaction, TxMerkleNode, Txid};

use super::*;
use crate::chain::testing::parent_of;

const HEIGHT: u32 = 22;

/// A spend from script 2 as long as two nodes, and a world in which the block with it has just been mined.
fn with_odd(seed: u64) -> (World, Arc<Transaction>) {
    let mut world = World::new(Node::new(20), &[(1, WALLET), (2, LIGHTNING)], seed);
    let coin = deposit(1, &[2]);
    world.block(&[coin.clone()]);
    let odd = spend(&coin, &[SHORT]);
    assert_eq!(odd.base_size(), 64);
    world.forget();
    world.node.mine(&[odd.clone(), deposit(2, &[1])]);
    (world, odd)
}

fn asked(world: &World) -> usize {
    world.count(|request| *request == Request::Coinbase { height: HEIGHT })
}

fn place(world: &World, tx: &Transaction) -> Option<u32> {
    world.listener.confirmed.get(&tx.compute_txid()).map(|block| block.height)
}

#[test]
fn a_transaction_of_64_bytes_is_told_once_the_coinbase_shows_that_it_is_a_leaf() {
    for seed in SEEDS {
        let (mut world, odd) = with_odd(seed);
        world.push(true);
        world.settle();
        world.assert_complete();
        assert_eq!((place(&world, &odd), asked(&world)), (Some(HEIGHT), 1));
        assert_eq!(world.reports, []);
        // What was shown is stored, and nobody is asked for it again.
        world.restart();
        assert!(world.machine.is_proven(&odd.compute_txid()));
        world.connect();
        world.settle();
        world.assert_complete();
        assert_eq!(world.count(|request| matches!(request, Request::Coinbase { .. } | Request::Proof { .. })), 0);
    }
}

#[test]
fn a_server_that_does_not_give_the_coinbase_leaves_it_open_and_another_one_decides() {
    for lie in [Refusal::Error, Refusal::Timeout] {
        let (mut world, odd) = with_odd(1);
        let request = Request::Coinbase { height: HEIGHT };
        world.lies.push((request, Err(lie)));
        world.push(true);
        world.settle();
        assert_eq!(world.reports, [Report::Degraded { script: hash_of(2) }]);
        assert_eq!((place(&world, &odd), world.listener.tip.map(|tip| tip.height)), (None, Some(HEIGHT)));
        assert!(world.asked.len() < 20, "{:?}", world.asked);
        world.join(world.node.clone(), LIGHTNING);
        world.settle();
        assert_eq!(place(&world, &odd), Some(HEIGHT));
        world.assert_complete();
    }
}

#[test]
fn a_witness_of_the_coinbase_is_not_kept() {
    let (mut world, odd) = with_odd(1);
    let request = Request::Coinbase { height: HEIGHT };
    let Ok(Reply::Coinbase(mut coinbase)) = world.node.answer(&request) else { panic!() };
    Arc::make_mut(&mut coinbase.tx).input[0].witness.push(vec![0; 100_000]);
    world.lies.push((request, Ok(Reply::Coinbase(coinbase))));
    world.push(true);
    world.settle();
    assert_eq!((place(&world, &odd), world.reports.len()), (Some(HEIGHT), 0));
    let stored = world.store.records[&hash_of(2)].confirmed.iter().filter_map(|proof| proof.coinbase.as_ref());
    assert_eq!(stored.map(|coinbase| coinbase.tx.input[0].witness.len()).collect::<Vec<_>>(), [0]);
}

#[test]
fn the_coinbase_of_another_block_is_a_lie_far_below_the_tip_and_asked_for_again_near_it() {
    for (above, tries) in [(0, 3), (10, 1)] {
        let (mut world, odd) = with_odd(1);
        world.node.mine_empty(above);
        let other = world.node.answer(&Request::Coinbase { height: HEIGHT - 1 });
        world.lies.push((Request::Coinbase { height: HEIGHT }, other));
        world.push(true);
        world.settle();
        assert_eq!(world.reports, [Report::Lie(Lie::Proof)]);
        assert_eq!((place(&world, &odd), asked(&world)), (None, tries));
    }
}

#[test]
fn a_reorganisation_between_a_proof_and_the_coinbase_is_no_lie() {
    for seed in SEEDS {
        for above in [0, 8] {
            let (mut world, odd) = with_odd(seed);
            world.node.mine_empty(above);
            world.push(true);
            while asked(&world) == 0 {
                assert!(world.answer_one());
            }
            world.node.unwind(above + 1);
            world.node.mine(&[deposit(3, &[1]), odd.clone(), deposit(2, &[1]), deposit(4, &[9])]);
            world.node.mine_empty(above + 1);
            // The chain first: what is in flight is answered from the new one.
            world.push_tip();
            let header = |request: &Request| matches!(request, Request::Headers { .. });
            while let Some(at) = world.in_flight.iter().position(|(_, request)| header(request)) {
                let (source, request) = world.in_flight.swap_remove(at);
                let reply = world.node.answer(&request);
                world.on(Input::Answer { source, request, reply });
            }
            world.push(true);
            world.settle();
            assert_eq!((place(&world, &odd), world.reports.len()), (Some(HEIGHT), 0), "{:?}", world.reports);
            world.assert_complete();
        }
    }
}

/// The ids of the last two transactions of this block read as a transaction of 64 bytes (sought for among 2^24).
#[test]
fn an_inner_node_that_is_shown_as_a_transaction_is_a_lie() {
    for seed in SEEDS {
        let mut world = World::new(Node::new(20), &[(1, WALLET), (2, LIGHTNING)], seed);
        let pair = [deposit(2, &[9]), deposit(13_333_585, &[9])];
        let [left, right] = pair.each_ref().map(|tx| TxMerkleNode::from(tx.compute_txid()));
        let ids = pair.each_ref().map(|tx| serialize(&tx.compute_txid())).concat();
        let invented: Transaction = deserialize(&ids).unwrap();
        let txid: Txid = invented.compute_txid();
        assert_eq!((invented.base_size(), TxMerkleNode::from(txid)), (64, parent_of(left, right)));

        let coin = deposit(1, &[2]);
        world.node.mine(&[coin.clone(), pair[0].clone(), pair[1].clone()]);
        let node = world.node.clone();
        let liar = world.join(node.clone(), LIGHTNING);
        let Ok(Reply::Proof { branch, .. }) = node.answer(&Request::Proof { txid: pair[0].compute_txid(), height: 21 })
        else {
            panic!()
        };
        let mut entries = node.history(hash_of(2));
        entries.push(HistoryEntry { txid, height: Some(21) });
        let proof = Reply::Proof { branch: branch[1..].to_vec(), pos: 1 };
        world.peer(liar).lies = vec![
            (Request::Subscribe { script: hash_of(2) }, Ok(Reply::Status(status_of(&entries)))),
            (Request::History { script: hash_of(2) }, Ok(Reply::History(entries))),
            (Request::Transaction { txid }, Ok(Reply::Transaction(Arc::new(invented)))),
            (Request::Proof { txid, height: 21 }, Ok(proof)),
        ];
        world.settle();
        world.push(true);
        world.settle();
        assert_eq!(world.reported, [(liar, Report::Lie(Lie::Proof))]);
        assert!(!world.listener.confirmed.contains_key(&txid));
        world.assert_complete();
    }
}
