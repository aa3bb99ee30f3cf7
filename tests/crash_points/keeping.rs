//! What keeps the money findable while the power goes: the seed under its passphrase, the backup, the generation mark.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lightnode::crash::Point;
use serde_json::Value;

use super::Story::*;
use super::{Case, Net, cases};
use crate::support::daemon::{Daemon, Ran};
use crate::support::eventually::{eventually, within};
use crate::support::scenes::{pay, two_nodes_with_a_channel};
use crate::support::world::World;

const OLD: &str = "a horse of no colour";
const NEW: &str = "a colour of no horse";

/// The words that open with this passphrase (or without one), if they do.
fn words(node: &Daemon, passphrase: Option<&str>) -> Option<String> {
    let ran = match passphrase {
        Some(passphrase) => node.run_with_input(&["seed", "show", "--yes", "--stdin"], passphrase),
        None => node.run(&["seed", "show", "--yes"]),
    };
    (ran.code == 0).then(|| ran.json()["words"].as_str().expect("words").to_string())
}

/// What lies in the seed's file.
fn form(node: &Daemon) -> Option<Vec<u8>> {
    fs::read(node.folder().join("seed")).ok()
}

/// A command of its own that ends at this place.
fn cut_off(node: &Daemon, case: Case, words: &[&str], input: &str) -> Ran {
    node.arm(case.point, case.number);
    let ran = node.run_with_input(words, input);
    assert!(node.has_crashed(), "{case:?}: {ran:?}");
    ran
}

#[test]
fn a_new_encrypted_seed_without_power_at_any_point_is_not_there_or_whole() {
    let world = World::new();
    let init = ["init", "--encrypt", "--stdin", "--yes"];
    let first = Daemon::new(&world, "first");
    first.record();
    assert_eq!(first.run_with_input(&init, OLD).code, 0);
    for (number, case) in cases(Making, &first.recorded()).into_iter().enumerate() {
        eprintln!("{Making:?}: {case:?}");
        let mut node = Daemon::new(&world, &format!("node{number}"));
        cut_off(&node, case, &init, OLD);
        let there = form(&node);
        let again = node.run_with_input(&init, OLD);
        match &there {
            None => assert_eq!(again.code, 0, "{case:?}: {again:?}"),
            Some(_) => assert_eq!((again.code, form(&node)), (6, there), "{case:?}: {again:?}"),
        }
        assert!(words(&node, Some(OLD)).is_some(), "{case:?}: its passphrase does not open it");
        assert!(!node.folder().join("seed.new").exists(), "{case:?}: half a seed lies there");
        node.start();
        assert_eq!(node.answering()["state"], "locked", "{case:?}");
        node.stop();
    }
}

#[test]
fn a_passphrase_that_is_changed_without_power_at_any_point_is_the_old_or_the_new_one() {
    let world = World::new();
    // Set for the first time, changed, removed.
    for (number, (before, after)) in
        [(None, Some(OLD)), (Some(OLD), Some(NEW)), (Some(NEW), None)].into_iter().enumerate()
    {
        let change: &[&str] = match after {
            Some(_) => &["passphrase", "change", "--stdin"],
            None => &["passphrase", "change", "--remove", "--stdin"],
        };
        let input = [before, after].into_iter().flatten().collect::<Vec<_>>().join("\n");
        let fresh = |name: String| {
            let node = Daemon::new(&world, &name);
            let made = match before {
                Some(before) => node.run_with_input(&["init", "--encrypt", "--stdin", "--yes"], before),
                None => node.run(&["init", "--yes"]),
            };
            assert_eq!(made.code, 0, "{made:?}");
            let words = made.json()["words"].as_str().expect("words").to_string();
            (node, words)
        };
        let (first, _) = fresh(format!("first{number}"));
        first.record();
        assert_eq!(first.run_with_input(change, &input).code, 0);
        for (at, case) in cases(Sealing, &first.recorded()).into_iter().enumerate() {
            eprintln!("{Sealing:?} {before:?} to {after:?}: {case:?}");
            let (mut node, made) = fresh(format!("node{number}-{at}"));
            let was = form(&node);
            cut_off(&node, case, change, &input);
            let now = if form(&node) == was { before } else { after };
            assert_eq!(words(&node, now), Some(made), "{case:?}: neither the old nor the new one opens it");
            node.start();
            let locked = node.answering()["state"] == "locked";
            assert_eq!(locked, now.is_some(), "{case:?}");
            assert!(!node.folder().join("seed.new").exists(), "{case:?}: words in the clear may lie there");
            node.stop();
        }
    }
}

/// Asserts that it opens with these words, and names one channel.
fn is_whole(world: &World, file: &Path, words: &str) {
    let elsewhere = Daemon::new(world, "elsewhere");
    let file = file.to_str().expect("UTF-8");
    let made = elsewhere.run_with_input(&["init", "--restore", "--backup", file, "--yes"], words);
    assert_eq!((made.code, &made.json()["channels"]), (0, &1.into()), "{made:?}");
    fs::remove_dir_all(elsewhere.folder()).expect("the test's own folder");
}

#[test]
fn a_backup_without_power_at_any_point_is_the_old_or_the_new_one_whole_and_is_made_up_for() {
    let world = World::new();
    let (mut alice, _bob) = two_nodes_with_a_channel(&world);
    let words = words(&alice, None).expect("words");
    let (file, taken) = (world.folder().join("node.backup"), world.folder().join("taken"));
    // Where it goes is part of what was written last: with another command it is written at the next start.
    let to = |alice: &Daemon, number: usize| {
        let into = format!("{}-{number}", taken.display());
        let command = format!("cat > {into}.new && mv {into}.new {into}");
        let more = format!("[backup]\npath = \"{}\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n", file.display());
        alice.configure(&[world.server()], &more);
        into
    };
    let arrived = |into: &str| {
        let both = || (fs::read(into).ok(), fs::read(&file).ok());
        eventually("the backup at both places", both, |(sent, kept)| sent.is_some() && sent == kept);
    };
    alice.stop();
    let into = to(&alice, 0);
    alice.record();
    alice.start();
    alice.ready();
    arrived(&into);
    alice.stop();
    for (number, case) in cases(Backing, &alice.recorded()).into_iter().enumerate() {
        eprintln!("{Backing:?}: {case:?}");
        let (before, into) = (fs::read(&file).expect("a backup"), to(&alice, number + 1));
        alice.arm(case.point, case.number);
        alice.start();
        assert!(alice.crashes(true, |_| false));
        let there = fs::read(&file).expect("a backup");
        let is_new = !matches!(case.point, Point::BackupSealed | Point::FileWritten);
        assert_eq!(there != before, is_new, "{case:?}");
        is_whole(&world, &file, &words);
        alice.start();
        alice.ready();
        arrived(&into);
        is_whole(&world, &file, &words);
        alice.stop();
    }
}

#[test]
fn a_mark_without_power_at_any_point_never_takes_the_newest_database_for_an_old_one() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice");
    alice.record();
    alice.start();
    alice.ready();
    alice.stop();
    let mut all = cases(Marking, &alice.recorded());
    all.retain(|case| matches!(case.point, Point::MarkRaised | Point::MarkWritten));
    for case in all {
        eprintln!("{Marking:?}: {case:?}");
        alice.arm(case.point, case.number);
        alice.start();
        // The last of them are passed at an orderly end.
        let up = || alice.has_crashed() || alice.try_json(&["status"]).is_some_and(|status| status["state"] == "ready");
        eventually("the node to be up, or gone", up, |there| *there);
        if !alice.has_crashed() {
            let _ = alice.run(&["stop"]);
        }
        assert!(alice.crashes(true, |_| false));
        alice.start();
        alice.ready();
        alice.stop();
    }
}

#[test]
fn a_mark_that_follows_a_channel_is_never_ahead_of_it() {
    let mut net = Net::chain(&["alice", "bob"]);
    for (point, number) in [(Point::MarkRaised, 1), (Point::MarkWritten, 1), (Point::MarkWritten, 2)] {
        eprintln!("{Marking:?}: {point:?}, {number}");
        net.nodes[0].arm(point, number);
        // It is raised with a write of channel state, once a second.
        let paid = || {
            let shown = net.nodes[1].json(&["receive", "1000"]);
            let ran = net.nodes[0].run(&["pay", shown["invoice"].as_str().expect("an invoice")]);
            (ran.code, net.nodes[0].has_crashed())
        };
        within(Duration::from_secs(60), "a payment that raises the mark", paid, |(_, gone)| *gone);
        assert!(net.nodes[0].crashes(true, |_| false));
        net.revive(0);
        net.nodes.iter().for_each(|node| drop(node.usable(1)));
        pay(&net.nodes[0], &net.nodes[1], 1_000);
    }
    // What lies there now is the newest; a copy of it is old after one more start.
    let (alice, copy) = (&mut net.nodes[0], net.world.folder().join("copy"));
    alice.stop();
    let kept = std::process::Command::new("cp").arg("-a").args([alice.folder(), copy.as_path()]).status();
    assert!(kept.expect("cp").success());
    alice.start();
    alice.ready();
    alice.kill();
    fs::remove_dir_all(alice.folder()).expect("the test's own folder");
    fs::rename(&copy, alice.folder()).expect("the test's own folder");
    alice.start();
    let state = |status: &Value| status["state"] == "halted";
    eventually("the copy to be noticed", || alice.answering(), state);
}
