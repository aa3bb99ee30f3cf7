//! True transactions that come with false witnesses.

use std::sync::Arc;

use bitcoin::Transaction;

use super::*;

/// Commitment transactions of two channels, the outputs that they have, and a transaction that spends both.
struct Closed {
    first: Arc<Transaction>,
    second: Arc<Transaction>,
    claim: Arc<Transaction>,
}

const FIRST: u8 = 201;
const SECOND: u8 = 202;

impl Closed {
    /// The claim as somebody else would have it.
    fn forged(&self, keys: [u8; 2]) -> Arc<Transaction> {
        let forged = open(&[&self.first, &self.second], &keys, &[9]);
        assert_eq!(forged.compute_txid(), self.claim.compute_txid(), "the txid does not tell");
        forged
    }

    fn claim(&self) -> Request {
        Request::Transaction { txid: self.claim.compute_txid() }
    }

    /// The witnesses that the listener was told of the claim, in turn.
    fn told(&self, world: &World) -> Vec<bool> {
        let blocks = world.plans().iter().filter_map(|plan| plan.block.as_ref());
        let txs = blocks.flat_map(|block| &block.txs).map(|tx| tx.proven.tx());
        let claims = txs.filter(|tx| tx.compute_txid() == self.claim.compute_txid());
        claims.map(|tx| tx == &self.claim).collect()
    }
}

/// Two servers, and two channels whose closing they both show; the claim is mined and not shown yet.
fn closed(seed: u64) -> (World, SourceId, Closed) {
    let mut world = World::new(Node::new(5), &[(2, LIGHTNING), (3, LIGHTNING)], seed);
    let other = world.join(world.node.clone(), LIGHTNING);
    let fundings = [deposit(1, &[2]), deposit(2, &[3])];
    world.node.mine(&fundings);
    let [first, second] = [spend(&fundings[0], &[FIRST]), spend(&fundings[1], &[SECOND])];
    let claim = open(&[&first, &second], &[FIRST, SECOND], &[9]);
    for (tx, n) in [(&first, FIRST), (&second, SECOND)] {
        let watch = Watch { script: script(n), owners: LIGHTNING };
        world.listener.reacts.insert(tx.compute_txid(), vec![watch]);
    }
    world.push(true);
    world.catch_up(other);
    world.settle();
    (world, other, Closed { first, second, claim })
}

/// `other` alone shows one channel's closing, and the claim; gives the node that shows everything.
fn show_half(world: &mut World, other: SourceId, closed: &Closed) -> Node {
    let mut node = world.node.clone();
    node.mine(&[closed.first.clone(), closed.second.clone()]);
    node.mine(&[closed.claim.clone()]);
    world.peer(other).node = node.clone();
    world.peer(other).node.hidden.insert(closed.second.compute_txid());
    world.push_of(other);
    world.settle();
    node
}

fn lied(world: &World, source: SourceId) -> bool {
    world.reported.contains(&(source, Report::Lie(Lie::Witness)))
}

#[test]
fn a_forged_witness_is_a_lie_and_the_true_one_is_told() {
    for seed in SEEDS {
        for keys in [[FIRST, 7], [7, SECOND], [0, 0]] {
            let (mut world, other, closed) = closed(seed);
            world.block(&[closed.first.clone(), closed.second.clone()]);
            world.catch_up(other);
            world.settle();
            world.forget();
            world.node.mine(&[closed.claim.clone()]);
            world.peer(other).lies.push((closed.claim(), Ok(Reply::Transaction(closed.forged(keys)))));
            world.catch_up(other);
            if seed % 2 == 0 {
                world.settle();
                assert!(lied(&world, other));
                assert!(closed.told(&world).is_empty() && world.plans().iter().all(|plan| plan.tip.is_none()));
            }
            world.push(true);
            world.settle();
            world.assert_complete();
            assert!(closed.told(&world).iter().all(|is_true| *is_true), "{:?}", closed.told(&world));
            assert!(world.reported.iter().all(|(source, _)| *source == other), "{:?}", world.reported);
        }
    }
}

#[test]
fn a_witness_left_out_is_forged_too_and_a_lone_liar_is_waited_out() {
    let (mut world, other, closed) = closed(1);
    world.leave(other);
    let mut bare = Transaction::clone(&closed.claim);
    bare.input.iter_mut().for_each(|input| input.witness.clear());
    world.lies.push((closed.claim(), Ok(Reply::Transaction(Arc::new(bare)))));
    world.block(&[closed.first.clone(), closed.second.clone()]);
    world.forget();
    world.block(&[closed.claim.clone()]);
    assert!(lied(&world, world.source) && world.plans().is_empty());
    world.disconnect();
    world.lies.clear();
    world.connect();
    world.settle();
    world.assert_complete();
    assert_eq!(closed.told(&world), [true]);
}

#[test]
fn a_witness_of_an_output_that_was_hidden_is_looked_at_when_the_output_is_shown() {
    for seed in SEEDS {
        let (mut world, other, closed) = closed(seed);
        world.peer(other).lies.push((closed.claim(), Ok(Reply::Transaction(closed.forged([FIRST, 7])))));
        let whole = show_half(&mut world, other, &closed);
        assert_eq!(closed.told(&world), [false], "nothing says yet that it is one");
        world.forget();
        world.node = whole;
        world.push(true);
        world.settle_within(60_000);
        world.assert_complete();
        assert!(lied(&world, other), "{:?}", world.reported);
        assert_eq!(closed.told(&world), [true]);
    }
}

#[test]
fn what_spends_an_output_that_was_hidden_is_told_once_more_when_the_output_is_shown() {
    for seed in SEEDS {
        let (mut world, other, closed) = closed(seed);
        let whole = show_half(&mut world, other, &closed);
        assert_eq!(closed.told(&world), [true]);
        world.forget();
        world.node = whole;
        world.push(true);
        world.settle_within(60_000);
        world.assert_complete();
        assert_eq!(closed.told(&world), [true], "LDK has passed over its second input before");
    }
}

#[test]
fn a_forged_witness_that_was_stored_is_not_told_after_a_restart() {
    let (mut world, other, closed) = closed(1);
    world.block(&[closed.first.clone(), closed.second.clone()]);
    world.block(&[closed.claim.clone()]);
    world.leave(other);
    world.disconnect();
    for record in world.store.records.values_mut() {
        for proof in record.confirmed.iter_mut().filter(|proof| proof.tx == closed.claim) {
            proof.tx = closed.forged([7, 7]);
        }
    }
    world.restart();
    world.forget();
    world.connect();
    world.settle();
    world.assert_complete();
    assert_eq!(closed.told(&world), [true]);
    assert_eq!(world.reports, [], "nobody is known to have sent it");
    assert!(world.store.records.values().all(|record| record.confirmed.iter().all(|p| p.tx != closed.forged([7, 7]))));
}
