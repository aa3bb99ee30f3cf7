//! Sentences over a tiny world. `b5` is the block at height 5; a prime marks another branch.

#![allow(clippy::cloned_ref_to_slice_refs)] // `&[tx.clone()]` reads as the block that it is.

mod anchor;
mod chaos;
mod crowd;
mod depths;
mod forged;
mod lies;
mod node;
mod peers;
mod reorgs;
mod several;
mod world;

use super::{Coverage, Machine, UnknownTold};
use crate::chain::io::*;
use node::*;
use world::*;

const SEEDS: std::ops::Range<u64> = 1..8;

fn is_fetch(request: &Request) -> bool {
    !matches!(request, Request::Subscribe { .. } | Request::Headers { .. })
}

#[test]
fn a_new_node_follows_the_headers_and_is_told_the_tip() {
    for seed in SEEDS {
        let world = World::new(Node::new(30), &[(1, WALLET)], seed);
        world.assert_complete();
        assert_eq!(world.plans().len(), 1);
    }
}

#[test]
fn a_deposit_is_seen_unconfirmed_and_then_confirmed() {
    for (seed, header_first) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], seed);
        world.forget();
        let paid = deposit(1, &[1]);
        world.node.mempool.push(paid.clone());
        world.push_status(hash_of(1));
        world.settle();
        assert_eq!(world.plans().len(), 1);
        assert_eq!(world.plans()[0].mempool.seen, [paid.clone()]);

        world.forget();
        world.node.mine(&[paid.clone()]);
        world.push(header_first);
        world.settle();
        world.assert_complete();
        let [block, tip] = world.plans() else { panic!("a block and a tip: {:?}", world.plans()) };
        assert_eq!(block.block.as_ref().unwrap().txs[0].owners, WALLET);
        assert!(tip.mempool.gone.is_empty() && tip.tip.is_some());
        assert_eq!(world.count(is_fetch), 2, "history and proof; the body was there: {:?}", world.asked);
    }
}

#[test]
fn a_block_with_nothing_of_ours_costs_no_request() {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 1);
    world.forget();
    world.block(&[deposit(7, &[9])]);
    world.assert_complete();
    assert_eq!(world.asked, []);
    assert_eq!(world.plans().len(), 1);
}

#[test]
fn unconfirmed_transactions_of_channels_are_not_fetched() {
    let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], 1);
    world.forget();
    world.node.mempool.push(deposit(1, &[2]));
    world.push_status(hash_of(2));
    world.settle();
    assert!(world.plans().is_empty());
    assert_eq!(world.count(|r| matches!(r, Request::Transaction { .. })), 0);
}

#[test]
fn what_a_told_transaction_makes_us_watch_is_found_in_the_same_block_and_in_the_next_before_the_tip() {
    //  b6: funding → 2     b6: 2 → 3, told once 3's history is asked     b7: 3 → nobody
    for seed in SEEDS {
        let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], seed);
        let funding = deposit(1, &[2]);
        let close = spend(&funding, &[3]);
        let claim = spend(&close, &[4]);
        let (closed, claimed) = (close.compute_txid(), claim.compute_txid());
        world.listener.reacts.insert(funding.compute_txid(), vec![]);
        world.listener.reacts.insert(closed, vec![Watch { script: script(3), owners: LIGHTNING }]);
        world.listener.reacts.insert(claimed, vec![Watch { script: script(4), owners: LIGHTNING }]);
        let sweep = spend(&claim, &[5]);
        world.forget();
        world.node.mine(&[funding, close, claim]);
        world.node.mine(&[sweep.clone()]);
        world.push(seed % 2 == 0);
        world.settle();
        world.assert_complete();
        let heights: Vec<_> = world.plans().iter().map(|p| p.block.as_ref().map(|b| b.height)).collect();
        assert_eq!(heights, [Some(6), Some(6), Some(7), None], "the tip comes last");
    }
}

#[test]
fn a_restart_with_equal_statuses_only_subscribes_and_tells_everything_again() {
    for seed in SEEDS {
        let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], seed);
        world.block(&[deposit(1, &[1]), deposit(2, &[2])]);
        world.block(&[deposit(3, &[2])]);
        world.assert_complete();
        world.forget();
        world.restart();
        world.connect();
        world.settle();
        world.assert_complete();
        assert_eq!(world.count(is_fetch), 0);
        assert_eq!(world.count(|r| matches!(r, Request::Subscribe { .. })), 2);
        let told: usize = world.plans().iter().filter_map(|p| p.block.as_ref()).map(|b| b.txs.len()).sum();
        assert_eq!(told, 3);
    }
}

#[test]
fn twenty_scripts_in_one_block_are_one_plan() {
    for seed in SEEDS {
        let watches: Vec<_> = (1..=20).map(|n| (n, if n % 2 == 0 { WALLET } else { LIGHTNING })).collect();
        let mut world = World::new(Node::new(5), &watches, seed);
        world.forget();
        let txs: Vec<_> = (1..=20).map(|n| deposit(n, &[n as u8])).collect();
        world.node.mine(&txs);
        world.push(seed % 2 == 0);
        world.settle();
        world.assert_complete();
        assert_eq!(world.plans().len(), 2, "the block, and the tip");
        assert_eq!(world.plans()[0].block.as_ref().unwrap().txs.len(), 20);
    }
}

#[test]
fn notifications_that_come_after_the_header_are_gathered() {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 4);
    world.forget();
    world.node.mine(&[deposit(1, &[1]), deposit(2, &[2])]);
    world.push_tip();
    for n in [1, 2] {
        world.now += 50;
        world.on(Input::Tick);
        world.push_status(hash_of(n));
        while world.answer_one() {}
    }
    assert!(world.plans().is_empty());
    world.settle();
    assert_eq!(world.plans()[0].block.as_ref().unwrap().txs.len(), 2);
}

#[test]
fn a_transaction_of_both_is_told_to_both_and_again_to_one_who_joins_later() {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 4);
    world.forget();
    world.block(&[deposit(1, &[1, 2]), deposit(2, &[2])]);
    let both = WALLET.union(LIGHTNING);
    let owners: Vec<_> = world.plans()[0].block.as_ref().unwrap().txs.iter().map(|tx| tx.owners).collect();
    assert_eq!(owners, [both, LIGHTNING]);

    world.forget();
    world.on(Input::Watch(Watch { script: script(2), owners: WALLET }));
    world.settle();
    let owners: Vec<_> = world.plans()[0].block.as_ref().unwrap().txs.iter().map(|tx| tx.owners).collect();
    assert_eq!(owners, [both], "only the one that the wallet had not heard of");
    assert!(world.plans()[0].tip.is_none());
    assert_eq!(world.asked, [], "it is known already");
}

#[test]
fn a_transaction_replaced_in_the_mempool_is_gone() {
    let mut world = World::new(Node::new(5), &[(1, WALLET)], 4);
    let (first, second) = (deposit(1, &[1]), deposit(1, &[1, 9]));
    world.node.mempool.push(first.clone());
    world.push_status(hash_of(1));
    world.settle();
    world.forget();
    world.node.mempool = vec![second.clone()];
    world.push_status(hash_of(1));
    world.settle();
    let [seen, gone] = world.plans() else { panic!("{:?}", world.plans()) };
    assert_eq!(seen.mempool.seen, [second], "at once");
    assert_eq!(gone.mempool.gone, [first.compute_txid()], "when nothing else is to come");
}

#[test]
fn the_shared_anchor_script_is_never_subscribed() {
    let mut world = World::new(Node::new(5), &[], 1);
    world.forget();
    let anchor = bitcoin::ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]);
    world.on(Input::Watch(Watch { script: anchor, owners: LIGHTNING }));
    world.settle();
    assert_eq!(world.asked, []);
    assert_eq!(world.machine.progress().watches, 0);
}

#[test]
fn a_busy_mempool_does_not_hold_the_tip_back() {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 4);
    world.forget();
    world.node.mine(&[deposit(1, &[2])]);
    world.push(true);
    for salt in 0..200 {
        world.node.mempool.push(deposit(1000 + salt, &[1]));
        world.push_status(hash_of(1));
        world.now += 40;
        world.answer_one();
        world.on(Input::Tick);
    }
    assert!(world.plans().iter().any(|p| p.tip.is_some()), "though a status came every 40 ms");
}

#[test]
fn an_idle_hour_is_quiet() {
    let watches: Vec<_> = (1..=200).map(|n| (n, WALLET)).collect();
    let mut world = World::new(Node::new(5), &watches, 4);
    world.forget();
    world.settle_within(3_600_000);
    assert!(world.asked.len() <= 24, "{}", world.asked.len());
    assert!(world.plans().is_empty());
}

#[test]
fn a_lost_notification_is_made_up_for() {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 4);
    world.node.mine(&[deposit(1, &[2])]);
    world.push_tip();
    world.settle();
    assert!(world.listener.confirmed.is_empty());
    world.settle_within(400_000);
    world.assert_complete();
}

#[test]
fn a_clock_that_jumps_back_makes_no_wait_longer() {
    let mut world = World::new(Node::new(5), &[(1, WALLET)], 4);
    world.node.mine(&[deposit(1, &[1])]);
    world.push(true);
    world.now -= 1_000_000;
    world.on(Input::Tick);
    world.settle_within(2_000);
    world.assert_complete();
}

#[test]
fn a_script_that_is_given_up_costs_nothing_any_more_and_what_was_told_of_it_stands() {
    for seed in SEEDS {
        let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING), (3, LIGHTNING)], seed);
        let funding = deposit(1, &[2]);
        world.block(&[funding.clone()]);
        let told = world.listener.confirmed.clone();
        assert_eq!(told.len(), 1);
        world.forget();
        world.unwatch(2, LIGHTNING);
        world.settle();
        assert_eq!(world.machine.progress().watches, 2);
        assert!(!world.store.records.contains_key(&hash_of(2)), "nothing of it is stored");

        // The server goes on saying what it has to say.
        world.block(&[spend(&funding, &[9]), deposit(2, &[3])]);
        assert_eq!(world.count(|r| matches!(r, Request::History { script } if *script == hash_of(2))), 0);
        assert_eq!(world.listener.confirmed.len(), 2, "the other channel's is told: {:?}", world.listener.confirmed);
        world.restart();
        world.connect();
        world.settle();
        assert_eq!(world.listener.confirmed.len(), 2);
        assert!(world.machine.synced());
        assert_eq!(world.count(|r| *r == Request::Subscribe { script: hash_of(2) }), 0);
    }
}

#[test]
fn what_the_wallet_follows_too_is_not_given_up_with_the_channel() {
    let mut world = World::new(Node::new(5), &[(1, Owners::ALL)], 1);
    world.block(&[deposit(1, &[1])]);
    world.forget();
    world.unwatch(1, LIGHTNING);
    assert!(world.store.records.contains_key(&hash_of(1)));
    world.block(&[deposit(2, &[1])]);
    world.assert_complete();
    let blocks: Vec<_> = world.plans().iter().filter_map(|plan| plan.block.as_ref()).collect();
    assert_eq!(blocks[0].txs[0].owners, WALLET);
}

#[test]
fn a_script_that_is_given_up_in_the_middle_of_its_history_and_wanted_again_is_followed_whole() {
    for (seed, steps) in SEEDS.flat_map(|seed| (0..8).map(move |steps| (seed, steps))) {
        let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], seed);
        world.node.mine(&[deposit(1, &[2])]);
        world.push(seed % 2 == 0);
        for _ in 0..steps {
            world.answer_one();
        }
        world.unwatch(2, LIGHTNING);
        assert_eq!(world.machine.progress().watches, 0);
        for _ in 0..steps % 3 {
            world.answer_one();
        }
        let watch = Watch { script: script(2), owners: LIGHTNING };
        world.watches.push(watch.clone());
        world.on(Input::Watch(watch));
        world.settle();
        world.assert_complete();
        assert_eq!(world.store.records[&hash_of(2)].confirmed.len(), 1, "and stored");
    }
}

#[test]
fn what_is_stored_of_a_script_stays_until_a_tip_covers_what_was_told_of_it_and_when_it_is_wanted_again() {
    for again in [false, true] {
        // A block is told and its tip is not, since another script's history is still asked for.
        let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], 1);
        let funding = deposit(1, &[2]);
        world.listener.reacts.insert(funding.compute_txid(), vec![Watch { script: script(3), owners: LIGHTNING }]);
        world.node.mine(&[funding.clone()]);
        world.push(true);
        while world.listener.confirmed.is_empty() {
            if !world.answer_one() {
                world.now = world.machine.deadline().unwrap();
                world.on(Input::Tick);
            }
        }
        assert_eq!(world.listener.tip.map(|tip| tip.height), Some(5));
        world.unwatch(2, LIGHTNING);
        assert!(world.store.records.contains_key(&hash_of(2)));
        if again {
            world.on(Input::Watch(Watch { script: script(2), owners: LIGHTNING }));
        }
        world.settle();
        assert_eq!(world.listener.tip.map(|tip| tip.height), Some(6));
        assert_eq!(world.store.records.contains_key(&hash_of(2)), again);
    }
}

#[test]
fn what_is_proven_and_untold_when_its_script_is_given_up_is_stored_until_it_is_told() {
    let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], 1);
    world.node.mine(&[deposit(1, &[2])]);
    world.push(true);
    while world.answer_one() {}
    assert!(world.listener.confirmed.is_empty() && world.store.records.contains_key(&hash_of(2)));
    world.unwatch(2, LIGHTNING);
    // The listener asserts that what it is told is stored.
    world.settle();
    assert_eq!(world.listener.confirmed.len(), 1);
    assert!(!world.store.records.contains_key(&hash_of(2)));
}
