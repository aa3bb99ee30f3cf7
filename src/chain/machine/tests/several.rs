//! Several servers, of which some hide, lag, refuse or are silent.

use std::sync::Arc;

use bitcoin::Transaction;

use super::*;

/// Within so many ms after a block its news are told, whatever some servers do: patience, and the way of the proofs.
const SPEND_KNOWN: u64 = 6_000;

/// Three servers over the same chain: the main one, which stays honest, and two more.
fn three(seed: u64) -> (World, [SourceId; 2]) {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], seed);
    let others = [Owners::ALL, LIGHTNING].map(|serves| world.join(world.node.clone(), serves));
    world.settle();
    world.forget();
    (world, others)
}

/// The same with a channel that was just closed by a transaction which nobody has been told of.
fn with_spend(seed: u64) -> (World, [SourceId; 2], Arc<Transaction>) {
    let (mut world, others) = three(seed);
    let funding = deposit(1, &[2]);
    world.node.mine(&[funding.clone()]);
    world.push(true);
    others.into_iter().for_each(|other| world.catch_up(other));
    world.settle();
    world.assert_complete();
    world.forget();
    let close = spend(&funding, &[9]);
    world.node.mine(&[close.clone()]);
    (world, others, close)
}

fn hide(world: &mut World, source: SourceId, tx: &Transaction) {
    world.peer(source).node = world.node.clone();
    world.peer(source).node.hidden.insert(tx.compute_txid());
}

fn has_told(world: &World, tx: &Transaction) -> bool {
    world.listener.confirmed.contains_key(&tx.compute_txid())
}

#[test]
fn a_spend_that_two_of_three_servers_hide_is_told_before_its_tip_and_those_that_left_it_out_are_named() {
    for seed in SEEDS {
        let (mut world, others, close) = with_spend(seed);
        let begun = world.now;
        for other in others {
            hide(&mut world, other, &close);
            world.push_of(other);
        }
        world.push(seed % 2 == 0);
        world.settle_within(SPEND_KNOWN);
        assert!(has_told(&world, &close) && world.now - begun < SPEND_KNOWN);
        world.assert_complete();
        assert!(world.plans()[0].block.is_some(), "the spend, and then the tip");
        world.settle_within(60_000);
        for other in others {
            let omitted = Report::Omitted { script: hash_of(2), txid: close.compute_txid() };
            assert!(world.reported.contains(&(other, omitted)), "{:?}", world.reported);
            assert_eq!(world.machine.coverage(other).degraded, 1);
        }
        assert!(world.reported.iter().all(|(source, _)| *source != world.source));
        assert!(world.machine.progress().degraded.is_empty(), "one server serves it");
        assert!(world.asked.len() < 25, "{:?}", world.asked);
    }
}

#[test]
fn what_the_third_server_shows_after_the_tip_was_told_is_told_as_a_block_below() {
    for seed in SEEDS {
        let (mut world, others, close) = with_spend(seed);
        for other in others {
            hide(&mut world, other, &close);
            world.push_of(other);
        }
        world.settle();
        assert_eq!(world.listener.tip.map(|tip| tip.height), Some(7));
        assert!(!has_told(&world, &close));
        world.forget();
        world.push(true);
        world.settle_within(SPEND_KNOWN);
        world.assert_complete();
        assert!(world.plans().iter().all(|plan| plan.tip.is_none() && plan.fork.is_none()));
    }
}

#[test]
fn whatever_two_of_three_servers_do_the_third_is_heard_within_seconds() {
    type Fault = fn(&mut World, SourceId, &Transaction);
    let faults: [(&str, Fault); 9] = [
        ("hides", |world, source, close| {
            hide(world, source, close);
            world.push_of(source);
        }),
        ("is frozen", |_, _, _| {}),
        ("is silent", |world, source, _| {
            world.catch_up(source);
            world.peer(source).silent = true;
        }),
        ("says null", |world, source, _| {
            world.peer(source).node = world.node.clone();
            world.push_tip_of(source);
            world.on(Input::Status { source, script: hash_of(2), status: None });
        }),
        ("has an empty history", |world, source, _| {
            let request = Request::History { script: hash_of(2) };
            world.peer(source).lies.push((request, Ok(Reply::History(Vec::new()))));
            world.catch_up(source);
        }),
        ("refuses", |world, source, _| {
            let request = Request::History { script: hash_of(2) };
            world.peer(source).lies.push((request, Err(Refusal::Error)));
            world.catch_up(source);
        }),
        ("pushes garbage", |world, source, close| {
            hide(world, source, close);
            world.push_tip_of(source);
            for n in 0..50 {
                world.on(Input::Status { source, script: hash_of(2), status: Some(Status([n; 32])) });
            }
        }),
        ("flips its tip", |world, source, close| {
            hide(world, source, close);
            for height in [4, 7, 5, 7, 6] {
                let header = world.node.blocks[height as usize].0;
                world.on(Input::Tip { source, header, height });
            }
        }),
        ("is on a branch of its own", |world, source, _| {
            let mut node = world.node.clone();
            node.unwind(1);
            node.mine(&[deposit(77, &[9])]);
            world.peer(source).node = node;
            world.push_of(source);
        }),
    ];
    for ((name, fault), seed) in faults.into_iter().flat_map(|fault| SEEDS.map(move |seed| (fault, seed))) {
        let (mut world, others, close) = with_spend(seed);
        for other in others {
            fault(&mut world, other, &close);
        }
        // More work than any branch.
        world.node.mine_empty(1);
        let begun = world.now;
        world.push(seed % 2 == 0);
        world.settle_within(SPEND_KNOWN);
        assert!(has_told(&world, &close), "a server that {name} held it back");
        world.assert_complete();
        assert!(world.now - begun <= SPEND_KNOWN, "a server that {name} held the tip back");
        assert!(!world.reports.iter().any(|report| matches!(report, Report::Lie(_))), "{name}");
        world.settle_within(300_000);
        for other in others {
            assert!(world.count_of(other, |_| true) <= 20, "a server that {name}: {:?}", world.asked_of);
        }
    }
}

#[test]
fn another_header_at_a_funding_height_on_one_server_unconfirms_nothing() {
    for seed in SEEDS {
        let (mut world, others, _) = with_spend(seed);
        let mut forked = world.node.clone();
        forked.unwind(2);
        forked.mine_empty(2);
        world.push(true);
        world.settle();
        world.forget();
        world.peer(others[0]).node = forked;
        world.push_of(others[0]);
        world.settle_within(60_000);
        world.assert_complete();
        assert!(world.plans().is_empty(), "{:?}", world.plans());
        assert_eq!(world.machine.coverage(others[0]).covered, None, "it is on a branch with no more work");
    }
}

#[test]
fn what_one_server_proved_is_not_asked_of_the_others() {
    for seed in SEEDS {
        let (mut world, others) = three(seed);
        world.node.mine(&[deposit(1, &[2]), deposit(2, &[2])]);
        others.into_iter().for_each(|other| world.catch_up(other));
        world.push(seed % 2 == 0);
        world.settle();
        world.assert_complete();
        let counts = [
            world.count(|r| matches!(r, Request::History { .. })),
            world.count(|r| matches!(r, Request::Transaction { .. })),
            world.count(|r| matches!(r, Request::Proof { .. })),
        ];
        assert_eq!((counts, world.asked.len()), ([1, 2, 2], 5));

        world.forget();
        let late = world.join(world.node.clone(), Owners::ALL);
        world.settle();
        assert_eq!((world.count(is_fetch), world.count_of(late, |_| true)), (0, 2), "two subscriptions");
        assert!(world.plans().is_empty());
    }
}

#[test]
fn a_block_with_nothing_of_ours_costs_no_request_of_any_server_and_an_idle_hour_a_few_of_each() {
    let (mut world, others) = three(3);
    world.node.mine(&[deposit(7, &[9])]);
    world.push(true);
    others.into_iter().for_each(|other| world.catch_up(other));
    world.settle();
    world.assert_complete();
    assert_eq!((world.asked.len(), world.plans().len()), (0, 1));
    world.settle_within(3_600_000);
    for source in [others[0], others[1], world.source] {
        assert!(world.count_of(source, |_| true) <= 24);
    }
}

#[test]
fn a_restart_among_three_servers_with_equal_statuses_only_subscribes() {
    for seed in SEEDS {
        let (mut world, others, close) = with_spend(seed);
        world.push(true);
        others.into_iter().for_each(|other| world.catch_up(other));
        world.settle();
        world.forget();
        world.restart();
        world.connect();
        for serves in [Owners::ALL, LIGHTNING] {
            world.join(world.node.clone(), serves);
        }
        world.settle();
        world.assert_complete();
        assert_eq!(world.count(is_fetch), 0);
        assert!(has_told(&world, &close) && world.plans().len() == 3, "two blocks and the tip");
    }
}

#[test]
fn a_wallet_server_that_is_frozen_holds_back_no_tip_of_lightning_for_long_and_its_own_news_come_later() {
    let mut world = World::offline(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 3);
    world.connect();
    world.on(Input::Serve { source: world.source, serves: LIGHTNING });
    let wallets = world.join(world.node.clone(), WALLET);
    world.settle();
    world.assert_complete();
    let paid = deposit(1, &[1]);
    world.node.mine(&[paid.clone()]);
    world.push(true);
    world.settle_within(4_000);
    assert_eq!(world.listener.tip.map(|tip| tip.height), Some(5), "the wallet's server may come");
    world.settle_within(SPEND_KNOWN);
    assert_eq!(world.listener.tip.map(|tip| tip.height), Some(6));
    assert!(!world.machine.synced() && !has_told(&world, &paid));
    world.catch_up(wallets);
    world.settle();
    world.assert_complete();
}

#[test]
fn a_tip_that_no_server_of_lightning_has_announced_is_not_told() {
    let mut world = World::offline(Node::new(5), &[(2, LIGHTNING)], 3);
    world.connect();
    world.on(Input::Serve { source: world.source, serves: WALLET });
    let [channels, _] = [LIGHTNING, Owners::default()].map(|serves| world.join(world.node.clone(), serves));
    world.settle();
    world.assert_complete();
    assert_eq!(world.machine.least_covered(), Some(5));
    world.node.mine_empty(2);
    world.push(true);
    world.settle_within(100_000);
    assert_eq!(world.listener.tip.map(|tip| tip.height), Some(5));
    assert_eq!((world.machine.tree().height(), world.machine.least_covered()), (7, Some(5)));
    world.catch_up(channels);
    world.settle();
    world.assert_complete();
    assert_eq!(world.machine.coverage(channels), Coverage { watches: 1, covered: Some(7), ..Coverage::default() });
}

#[test]
fn unconfirmed_transactions_are_heard_of_from_servers_of_the_wallet_alone_and_survive_the_loss_of_one() {
    let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 3);
    let channels = world.join(world.node.clone(), LIGHTNING);
    world.settle();
    world.forget();
    world.peer(channels).node.mempool.push(deposit(1, &[1, 2]));
    world.push_of(channels);
    world.settle();
    assert!(world.plans().is_empty(), "of no concern");
    let paid = deposit(2, &[1]);
    world.node.mempool.push(paid.clone());
    world.push_status(hash_of(1));
    world.settle();
    assert_eq!(world.plans()[0].mempool.seen, [paid.clone()]);
    world.forget();
    world.disconnect();
    world.settle_within(60_000);
    world.connect();
    world.settle();
    assert!(world.plans().is_empty(), "neither gone nor seen again: {:?}", world.plans());
    world.node.mempool.clear();
    world.disconnect();
    world.connect();
    world.settle();
    assert_eq!(world.plans()[0].mempool.gone, [paid.compute_txid()]);
}

#[test]
fn duties_that_end_end_the_watches_and_new_ones_begin_them() {
    let (mut world, others) = three(5);
    let watches = |world: &World, source| world.machine.coverage(source).watches;
    assert_eq!((watches(&world, others[0]), watches(&world, others[1])), (2, 1));
    world.on(Input::Serve { source: others[0], serves: WALLET });
    world.on(Input::Serve { source: others[1], serves: Owners::default() });
    world.settle();
    assert_eq!((watches(&world, others[0]), watches(&world, others[1])), (1, 0));
    assert_eq!(world.asked, [], "nothing to ask");
    world.on(Input::Serve { source: others[1], serves: Owners::ALL });
    world.settle();
    assert_eq!(watches(&world, others[1]), 2);
    assert_eq!(world.asked.len(), 2);
    world.leave(others[0]);
    assert_eq!(watches(&world, others[0]), 0);
    world.block(&[deposit(4, &[1, 2])]);
    world.assert_complete();
}

#[test]
fn a_tip_waits_for_a_server_that_has_announced_it_and_is_still_telling() {
    for seed in SEEDS {
        let (mut world, others, close) = with_spend(seed);
        for other in others {
            hide(&mut world, other, &close);
            world.push_of(other);
        }
        world.push(seed % 2 == 0);
        for _ in 0..30 {
            world.now += 100;
            world.on(Input::Tick);
        }
        assert!(world.plans().is_empty(), "its history is asked for");
        world.settle();
        assert!(world.plans()[0].block.is_some() && world.plans()[1].tip.is_some());
    }
}

#[test]
fn a_script_that_one_server_does_not_serve_is_waited_for_on_another() {
    let (mut world, paid) = (World::new(Node::new(5), &[(2, LIGHTNING)], 3), deposit(1, &[2]));
    world.lies.push((Request::History { script: hash_of(2) }, Err(Refusal::Error)));
    world.block(&[paid.clone()]);
    assert_eq!(world.machine.progress().degraded, [hash_of(2)]);
    let other = world.join(world.node.clone(), LIGHTNING);
    world.peer(other).silent = true;
    world.settle();
    world.forget();
    world.node.mine_empty(1);
    world.push_tip();
    world.catch_up(other);
    world.settle_within(9_000);
    assert!(world.plans().is_empty() && world.machine.progress().degraded.is_empty());
    world.peer(other).silent = false;
    world.settle();
    world.assert_complete();
    let covered = [other, world.source].map(|source| world.machine.coverage(source).degraded);
    assert_eq!(covered, [0, 0], "what the refusing one says commits to what the other proved");
}

#[test]
fn patience_unconfirms_nothing_that_a_server_of_lightning_has_not_proved_again() {
    //  b5 - b6(wallet, funding)
    //     \ b6' - b7'(wallet, funding)
    let mut world = World::offline(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], 3);
    world.connect();
    world.on(Input::Serve { source: world.source, serves: WALLET });
    let channels = world.join(world.node.clone(), LIGHTNING);
    world.settle();
    let both = [deposit(1, &[1]), deposit(2, &[2])];
    world.node.mine(&both);
    world.push(true);
    world.catch_up(channels);
    world.settle();
    world.assert_complete();
    world.forget();
    world.peer(channels).silent = true;
    world.node.unwind(1);
    world.node.mine_empty(1);
    world.node.mine(&both);
    world.push(true);
    world.catch_up(channels);
    world.settle_within(9_000);
    assert!(world.plans().is_empty(), "{:?}", world.plans());
    world.peer(channels).silent = false;
    world.settle();
    world.assert_complete();
    assert_eq!(world.plans()[0].fork.map(|fork| fork.height), Some(5));
}

#[test]
fn how_far_a_channel_is_covered_outlives_the_servers_and_the_process_and_a_degraded_watch_stays_behind() {
    let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], 3);
    assert_eq!(world.machine.least_covered(), Some(5));
    world.disconnect();
    assert_eq!(world.machine.least_covered(), Some(5));
    world.restart();
    assert_eq!(world.machine.least_covered(), Some(5));
    world.connect();
    world.settle();
    world.lies.push((Request::History { script: hash_of(2) }, Err(Refusal::Error)));
    world.node.mine(&[deposit(1, &[2])]);
    world.push(true);
    world.settle();
    assert_eq!((world.listener.tip.map(|tip| tip.height), world.machine.least_covered()), (Some(6), Some(5)));
    world.on(Input::Watch(Watch { script: script(4), owners: LIGHTNING }));
    assert_eq!(world.machine.least_covered(), Some(0), "of a new script nothing is known yet");
    world.settle();
    assert_eq!(world.machine.least_covered(), Some(5));
}
