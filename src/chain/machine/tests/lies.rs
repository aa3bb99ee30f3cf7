//! Servers that lie, withhold, refuse or vanish.

use std::sync::Arc;

use bitcoin::hashes::Hash;

use super::*;
use crate::chain::history::MAX_HISTORY;

/// A world in which a deposit to 1 was just mined, with what will be asked about it.
fn with_deposit(seed: u64) -> (World, Arc<bitcoin::Transaction>) {
    let mut world = World::new(Node::new(20), &[(1, WALLET), (2, LIGHTNING)], seed);
    world.forget();
    let paid = deposit(1, &[1]);
    world.node.mine(&[paid.clone()]);
    (world, paid)
}

#[test]
fn another_body_than_asked_for_is_a_lie() {
    let (mut world, paid) = with_deposit(1);
    let request = Request::Transaction { txid: paid.compute_txid() };
    world.lies.push((request, Ok(Reply::Transaction(deposit(2, &[1])))));
    world.push(true);
    world.settle();
    assert_eq!(world.reports, [Report::Lie(Lie::Body)]);
    assert!(world.listener.confirmed.is_empty());
    assert_eq!(world.machine.progress().serving, 0, "nothing of it is heard any more");
}

#[test]
fn a_malformed_proof_is_a_lie_at_once() {
    let (mut world, paid) = with_deposit(1);
    let request = Request::Proof { txid: paid.compute_txid(), height: 21 };
    let branch = world.branch(paid.compute_txid(), 21);
    world.lies.push((request, Ok(Reply::Proof { branch, pos: 1 << 24 })));
    world.push(true);
    while world.answer_one() {}
    assert_eq!(world.reports, [Report::Lie(Lie::Proof)]);
}

#[test]
fn a_wrong_proof_near_the_tip_is_asked_for_again_and_then_a_lie() {
    let (mut world, paid) = with_deposit(1);
    let request = Request::Proof { txid: paid.compute_txid(), height: 21 };
    let branch = vec![bitcoin::TxMerkleNode::all_zeros()];
    world.lies.push((request.clone(), Ok(Reply::Proof { branch, pos: 1 })));
    world.push(true);
    while world.answer_one() {}
    assert_eq!(world.reports, [], "it may have reorganised and not said so yet");
    world.settle();
    assert_eq!(world.reports, [Report::Lie(Lie::Proof)]);
    assert_eq!(world.asked.iter().filter(|r| **r == request).count(), 3);
}

#[test]
fn a_wrong_proof_far_below_the_tip_is_a_lie_at_once() {
    let (mut world, paid) = with_deposit(1);
    world.node.mine_empty(10);
    let request = Request::Proof { txid: paid.compute_txid(), height: 21 };
    world.lies.push((request, Ok(Reply::Proof { branch: vec![bitcoin::TxMerkleNode::all_zeros()], pos: 1 })));
    world.push(true);
    while world.answer_one() {}
    assert_eq!(world.reports, [Report::Lie(Lie::Proof)]);
}

#[test]
fn a_header_with_easy_bits_is_a_lie() {
    let (mut world, _) = with_deposit(1);
    let mut header = world.node.tip();
    header.bits = bitcoin::CompactTarget::from_consensus(0x2100_ffff);
    world.on(Input::Tip { source: world.source, header, height: 21 });
    assert_eq!(world.reports, [Report::Lie(Lie::Header)]);
}

#[test]
fn a_tip_far_above_that_does_not_link_is_only_a_claim() {
    let (mut world, _) = with_deposit(1);
    let header = crate::chain::testing::mine(&world.node.tip(), crate::chain::testing::salted(1));
    world.on(Input::Tip { source: world.source, header, height: 521 });
    world.settle();
    // The block that it did have is taken, and nothing is told while the server claims more than it shows.
    assert_eq!(world.machine.tree().height(), 21);
    assert!(world.plans().iter().all(|p| p.tip.is_none()));
    assert!(world.count(|r| matches!(r, Request::Headers { .. })) < 12, "it backs off");
    world.push(true);
    world.settle();
    world.assert_complete();
}

#[test]
fn a_tip_at_the_end_of_all_heights_does_no_harm() {
    let (mut world, _) = with_deposit(1);
    let header = world.node.tip();
    for height in [u32::MAX, u32::MAX - 1, 0, 1] {
        world.on(Input::Tip { source: world.source, header, height });
        world.settle();
    }
}

#[test]
fn a_history_that_forgets_what_was_proven_degrades_the_watch_and_the_rest_goes_on() {
    for lie in [Ok(Reply::History(vec![])), Err(Refusal::Error), Err(Refusal::Timeout)] {
        let says_less = lie.is_ok();
        let (mut world, paid) = with_deposit(3);
        world.push(true);
        world.settle();
        world.assert_complete();
        world.forget();
        let id = hash_of(1);
        world.lies.push((Request::History { script: id }, lie));
        world.node.mine(&[deposit(5, &[2])]);
        world.on(Input::Status { source: world.source, script: id, status: Some(Status([7; 32])) });
        world.push_status(hash_of(2));
        world.push_tip();
        world.settle();
        let omitted = says_less.then_some(Report::Omitted { script: id, txid: paid.compute_txid() });
        let expected: Vec<_> = omitted.into_iter().chain([Report::Degraded { script: id }]).collect();
        assert_eq!(world.reports, expected);
        assert_eq!(world.machine.progress().degraded, [id]);
        world.assert_complete();
        assert!(world.listener.confirmed.contains_key(&paid.compute_txid()));
        assert!(world.count(|r| matches!(r, Request::History { .. })) <= 5, "errors are dear: {:?}", world.asked);

        world.forget();
        world.lies.clear();
        world.push_status(id);
        world.settle();
        assert_eq!(world.reports, [Report::Recovered { script: id }]);
        assert!(world.machine.progress().degraded.is_empty());
    }
}

#[test]
fn a_null_status_where_something_was_proven_degrades_the_watch() {
    let (mut world, paid) = with_deposit(3);
    world.push(true);
    world.settle();
    world.forget();
    let id = hash_of(1);
    world.on(Input::Status { source: world.source, script: id, status: None });
    world.settle();
    let omitted = Report::Omitted { script: id, txid: paid.compute_txid() };
    assert_eq!(world.reports, [omitted, Report::Degraded { script: id }]);
    assert_eq!(world.listener.confirmed.len(), 1);
}

#[test]
fn a_flooded_history_degrades_the_watch() {
    let (mut world, _) = with_deposit(3);
    let flood = |n: usize| {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        HistoryEntry { txid: bitcoin::Txid::from_byte_array(bytes), height: Some(1) }
    };
    let entries = (0..=MAX_HISTORY).map(flood).collect();
    world.lies.push((Request::History { script: hash_of(1) }, Ok(Reply::History(entries))));
    world.push(true);
    world.settle();
    assert_eq!(world.reports, [Report::Degraded { script: hash_of(1) }]);
    assert_eq!(world.count(|r| matches!(r, Request::Transaction { .. })), 0);
}

#[test]
fn a_history_padded_with_the_transactions_of_others_is_not_kept() {
    let (mut world, _) = with_deposit(3);
    let strange = deposit(77, &[9]);
    world.node.mine(&[strange.clone()]);
    let mut entries = world.node.history(hash_of(1));
    entries.push(HistoryEntry { txid: strange.compute_txid(), height: Some(22) });
    world.lies.push((Request::History { script: hash_of(1) }, Ok(Reply::History(entries))));
    world.push(true);
    world.settle();
    assert_eq!(world.reports, [Report::Degraded { script: hash_of(1) }]);
    world.assert_complete();
}

#[test]
fn a_server_that_goes_mid_job_is_replaced_by_the_next() {
    for seed in SEEDS {
        for answered in 0..4 {
            let (mut world, _) = with_deposit(seed);
            world.node.mine(&[deposit(2, &[2])]);
            world.push(true);
            for _ in 0..answered {
                world.answer_one();
            }
            world.disconnect();
            world.settle();
            assert!(!world.machine.synced());
            world.connect();
            world.settle();
            world.assert_complete();
        }
    }
}

#[test]
fn when_one_of_two_servers_goes_the_other_one_tells_all() {
    let (mut world, _) = with_deposit(1);
    let first = world.source;
    world.connect();
    assert_eq!(world.machine.progress().serving, 2);
    world.in_flight.retain(|(source, _)| *source != first);
    world.on(Input::Down { source: first });
    assert_eq!(world.machine.progress().serving, 1);
    world.settle();
    world.assert_complete();
}

#[test]
fn a_server_that_lags_can_add_to_the_past_and_not_lower_the_tip() {
    let (mut world, _) = with_deposit(1);
    let early = deposit(8, &[3]);
    world.node.mine(&[early.clone()]);
    world.node.mine_empty(3);
    world.push(true);
    world.settle();
    world.assert_complete();
    world.forget();
    world.disconnect();
    let ahead = world.node.clone();
    world.node.unwind(3);
    world.connect();
    let watch = Watch { script: script(3), owners: LIGHTNING };
    world.watches.push(watch.clone());
    world.on(Input::Watch(watch));
    world.settle();
    assert!(world.listener.confirmed.contains_key(&early.compute_txid()));
    assert!(world.plans().iter().all(|p| p.tip.is_none() && p.fork.is_none()));
    assert!(!world.machine.synced());
    world.node = ahead;
    world.push(true);
    world.settle();
    world.assert_complete();
}

#[test]
fn answers_that_nobody_asked_for_and_of_the_wrong_kind_are_ignored() {
    let (mut world, paid) = with_deposit(1);
    let txid = paid.compute_txid();
    let source = world.source;
    for request in [
        Request::Headers { start: 0, count: 1 },
        Request::Subscribe { script: hash_of(1) },
        Request::History { script: hash_of(9) },
        Request::Transaction { txid },
        Request::Proof { txid, height: 21 },
    ] {
        for reply in [Ok(Reply::Status(None)), Ok(Reply::History(vec![])), Err(Refusal::Error)] {
            world.on(Input::Answer { source, request: request.clone(), reply });
        }
    }
    world.on(Input::Status { source: SourceId(99), script: hash_of(1), status: None });
    world.on(Input::Status { source, script: hash_of(99), status: None });
    world.on(Input::Down { source: SourceId(99) });
    assert_eq!(world.reports, []);
    world.lies.push((Request::History { script: hash_of(1) }, Ok(Reply::Status(None))));
    world.push(true);
    world.settle();
    assert_eq!(world.reports, [Report::Degraded { script: hash_of(1) }]);
}
