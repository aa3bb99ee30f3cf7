//! Lost and old channels on their way home, while the power goes.

use std::fs;

use lightnode::crash::Point;
use serde_json::Value;

use super::Story::*;
use super::{Case, cases, knows_height};
use crate::recovery::{alice_behind, becomes_an_older_copy, comes_back, halted, is_whole, saved, words};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::own::OwnServer;
use crate::support::scenes::{DEPOSIT, open, two_nodes_with_a_channel};
use crate::support::world::World;

/// How many lost channels it knows of, once it knows of a recovery.
fn lost(node: &Daemon) -> usize {
    let status = eventually("the node to be in recovery", || node.answering(), |status| status["recovery"].is_object());
    status["recovery"]["channels"].as_array().expect("a list of channels").len()
}

#[test]
fn a_restore_without_power_at_any_point_begins_or_can_be_begun_again() {
    let world = World::new();
    let (mut alice, mut bob) = two_nodes_with_a_channel(&world);
    let (file, words) = (saved(&world, &alice), words(&alice));
    alice.kill();
    bob.kill();
    let init = ["init", "--restore", "--backup", &file, "--yes"];
    let mut first = Daemon::new(&world, "first");
    first.record();
    assert_eq!(first.run_with_input(&init, &words).code, 0);
    first.start();
    assert_eq!(lost(&first), 1);
    first.stop();
    for (number, case) in cases(Restoring, &first.recorded()).into_iter().enumerate() {
        eprintln!("{Restoring:?}: {case:?}");
        let mut node = Daemon::new(&world, &format!("node{number}"));
        let there = |name: &str| node.folder().join(name).exists();
        node.arm(case.point, case.number);
        let made = node.run_with_input(&init, &words);
        assert_eq!(made.code == 0, !node.has_crashed(), "{case:?}: {made:?}");
        if there("restore") && !there("seed") {
            // It must not become a node with new words by a mere start.
            let refused = node.run(&["run"]);
            assert!(refused.code == 6 && refused.stderr.contains("was cut off"), "{case:?}: {refused:?}");
        }
        if !there("seed") {
            let again = node.run_with_input(&init, &words);
            assert_eq!((again.code, &again.json()["channels"]), (0, &1.into()), "{case:?}: {again:?}");
        }
        node.start();
        if !node.has_crashed() {
            assert!(node.crashes(true, |_| false));
            node.start();
        }
        assert_eq!(lost(&node), 1, "{case:?}");
        assert!(!node.folder().join("restore").exists(), "{case:?}: it would begin again");
        node.stop();
    }
}

/// A node made anew from its words and its backup, after its disk was lost; it has not run yet.
fn restored(world: &World, bob: &Daemon, number: usize) -> Daemon {
    let mut node = Daemon::new(world, &format!("lost{number}")).started();
    node.funded(world, DEPOSIT);
    open(world, &node, bob, &[]);
    let (file, words) = (saved(world, &node), words(&node));
    node.kill();
    fs::remove_dir_all(node.folder()).expect("the test's own folder");
    let again = Daemon::new(world, &format!("again{number}"));
    let made = again.run_with_input(&["init", "--restore", "--backup", &file, "--yes"], &words);
    assert_eq!(made.code, 0, "{made:?}");
    again
}

/// Brings the money home; true when the power went once meanwhile.
fn recovers(world: &World, bob: &Daemon, node: &mut Daemon, case: Case) -> bool {
    let mut gone = false;
    node.start();
    for _ in 0..40 {
        let height = world.bitcoind.height();
        // Once it has gone, the block is waited for: blocks that come all at once leave nobody time to close.
        let seen = || !gone && node.has_crashed() || knows_height(node, height);
        eventually("the block, or the power to go", seen, |there| *there);
        if node.has_crashed() && !gone {
            gone = node.crashes(true, |_| false);
            node.start();
            eventually("the block", || knows_height(node, height), |there| *there);
        }
        let over = || node.try_json(&["status"]).is_some_and(|status| status["recovery"].is_null());
        if over() && is_whole(node, DEPOSIT) {
            return gone;
        }
        let close = || node.has_crashed() && !gone || !world.bitcoind.mempool().is_empty() || !lives(node, bob);
        eventually("bob's close", close, |there| *there);
        world.bitcoind.mine(1);
    }
    panic!("{case:?}: the money is not back after 40 blocks: {:?}", node.try_json(&["status"]));
}

/// Bob has a channel with this node that he has not closed.
fn lives(node: &Daemon, bob: &Daemon) -> bool {
    let Some(status) = node.try_json(&["status"]) else { return true };
    let channels = bob.json(&["channels"]);
    let peers = channels.as_array().expect("a list of channels").iter();
    peers.filter(|channel| channel["state"] != "closing").any(|channel| channel["peer"] == status["node_id"])
}

#[test]
fn a_recovery_without_power_at_any_point_brings_the_money_home_once() {
    let world = World::new();
    let bob = Daemon::new(&world, "bob").started();
    (0..4).for_each(|_| bob.funded(&world, 200_000));
    let mut first = restored(&world, &bob, 0);
    first.record();
    assert!(!recovers(&world, &bob, &mut first, Case { point: Point::RecoveryOver, number: 0, must: false }));
    let passed = first.recorded();
    first.stop();
    for (number, case) in cases(Recovering, &passed).into_iter().enumerate() {
        eprintln!("{Recovering:?}: {case:?}");
        let mut node = restored(&world, &bob, number + 1);
        node.arm(case.point, case.number);
        let gone = recovers(&world, &bob, &mut node, case);
        assert!(gone || !case.must, "{case:?}: it did not come there");
        node.disarm();
        assert_eq!(node.entries("sweep").len(), 1, "{case:?}");
        node.ready();
        node.stop();
    }
}

#[test]
fn channels_that_are_given_up_without_power_at_any_point_are_given_up_once_and_come_home() {
    // The first commit is of what is read anew, the second gives up.
    for (point, number) in
        [(Point::CommitAfter, 1), (Point::CommitBefore, 2), (Point::CommitAfter, 2), (Point::GivenUp, 1)]
    {
        eprintln!("{GivingUp:?}: {point:?}, {number}");
        let world = World::new();
        let server = OwnServer::new(&world);
        let (mut alice, bob) = alice_behind(&world, &server);
        becomes_an_older_copy(&mut alice, &bob);
        alice.start();
        halted(&alice);
        alice.arm(point, number);
        let _answered = alice.run(&["recover"]);
        assert!(alice.crashes(true, |_| false));
        alice.start();
        let known = |status: &Value| status["state"] == "halted" || status["recovery"].is_object();
        let status = eventually("the node to know where it is", || alice.answering(), known);
        if status["state"] == "halted" {
            alice.json(&["recover"]);
        }
        assert_eq!(lost(&alice), 1, "{point:?}");
        comes_back(&world, &alice, &bob, DEPOSIT - 100_000);
        alice.stop();
        let database = rusqlite::Connection::open(alice.folder().join("lightnode.db")).expect("a database");
        let ended: String = database
            .query_row("SELECT group_concat(record) FROM closed_channel", [], |row| row.get(0))
            .expect("the end of the channel in the book");
        assert_eq!(ended.matches("given up: its database was an older copy").count(), 1, "{point:?}: {ended}");
    }
}
