//! Disks that fail: nothing is acknowledged that is not durable, the API answers, nothing new begins, and when the disk is
//! well again the node goes on by itself.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::eventually::{eventually, throughout};
use crate::support::failing::{Disk, Failure};
use crate::support::scenes::{DEPOSIT, at_rest, open, pay};
use crate::support::world::{A_WHILE, World};

/// Alice, whose disk can fail, with a channel to bob; each has a part of it.
fn two_nodes(world: &World) -> (Daemon, Disk, Daemon) {
    let mut alice = Daemon::new(world, "alice");
    let disk = Disk::under(&mut alice);
    let (alice, bob) = (alice.started(), Daemon::new(world, "bob").started());
    alice.funded(world, DEPOSIT);
    open(world, &alice, &bob, &[]);
    pay(&alice, &bob, 100_000);
    (alice, disk, bob)
}

fn state(node: &Daemon) -> (String, String) {
    let status = node.answering();
    (status["state"].as_str().expect("a state").into(), status["why"].as_str().unwrap_or_default().into())
}

fn halted(node: &Daemon) -> String {
    eventually("the node to say that it is halted", || state(node), |(state, _)| state == "halted").1
}

fn goes_on(node: &Daemon) {
    eventually("the node to go on", || state(node).0, |state| state == "ready");
    node.usable(1);
}

fn goes_wrong_and_well_again(failure: Failure, words: &str) {
    let world = World::new();
    let (alice, disk, bob) = two_nodes(&world);
    let (from_bob, from_alice) = (bob.invoice("1000"), alice.invoice("2000"));
    let (before, had) = (alice.json(&["history"]), (held(&alice), held(&bob)));
    disk.fail(failure);

    // The first write finds out; it is refused, and so is everything else that would begin something.
    let refused = alice.run(&["receive", "3000"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    let why = halted(&alice);
    assert!(why.contains(words), "{why}");
    for words in [
        vec!["receive", "3000"],
        vec!["pay", &from_bob],
        vec!["open", &bob.peer(), "100000"],
        vec!["send", &world.bitcoind.new_address(), "10000"],
        vec!["close", alice.json(&["channels"])[0]["channel_id"].as_str().expect("an id")],
        vec!["address"],
    ] {
        let refused = alice.run(&words);
        assert_eq!(refused.code, 6, "{words:?}: {refused:?}");
        assert!(refused.stderr.contains("goes on"), "what is to be done is not said: {refused:?}");
    }
    // What only looks is answered.
    assert_eq!(alice.json(&["history"]), before);
    alice.json(&["balance"]);
    alice.json(&["channels"]);

    // A payment that comes in gets stuck before anything is promised, and blocks are not lost.
    let mut paying = bob.begin(&["pay", &from_alice, "--timeout", "60s", "--json"]);
    let deposit = world.bitcoind.pay(before_address(&alice), 50_000);
    world.bitcoind.mine(1);
    throughout(A_WHILE, "nothing is paid that is not on disk", || {
        matches!(paying.try_wait(), Ok(None)) && alice.json(&["history"]) == before
    });
    assert!(disk.refusals() > 0);

    disk.heal();
    goes_on(&alice);
    let paid = paying.wait_with_output().expect("the command ends");
    assert!(paid.status.success(), "{paid:?}");
    alice.at_height(world.bitcoind.height());
    alice.entry(&deposit.to_string(), "succeeded");
    assert_eq!(alice.json(&["pay", &from_bob])["status"], "succeeded");
    at_rest(&alice);
    at_rest(&bob);
    assert_eq!((held(&alice), held(&bob)), (had.0 + 2_000_000 - 1_000_000, had.1 - 2_000_000 + 1_000_000));
    alice.invoice("3000");
}

/// An address that was shown before the disk failed.
fn before_address(node: &Daemon) -> String {
    let deposit = node.entries("deposit").remove(0);
    deposit["payee"].as_str().expect("the address that was paid").to_string()
}

fn held(node: &Daemon) -> u64 {
    let channel: Value = node.usable(1).remove(0);
    channel["spendable_msat"].as_u64().expect("msat") + 1000 * channel["our_reserve_sat"].as_u64().expect("sat")
}

#[test]
fn a_full_disk_halts_the_node_until_there_is_space() {
    goes_wrong_and_well_again(Failure::Full, "free some space");
}

#[test]
fn a_disk_that_turns_read_only_halts_the_node_until_it_is_writable() {
    goes_wrong_and_well_again(Failure::ReadOnly, "disk");
}

#[test]
fn a_disk_with_io_errors_halts_the_node_until_it_is_well() {
    goes_wrong_and_well_again(Failure::Broken, "dmesg");
}

#[test]
fn a_node_on_a_full_disk_closes_in_order_with_its_reserve_and_starts_when_there_is_space() {
    let world = World::new();
    let (mut alice, disk, bob) = two_nodes(&world);
    let (invoice, had) = (alice.invoice("2000"), held(&alice));
    disk.fail(Failure::Full);
    assert_eq!(alice.run(&["receive", "3000"]).code, 6);
    halted(&alice);
    // In mid-payment: bob has promised it, and alice has not even kept that.
    let paying = bob.begin(&["pay", &invoice, "--timeout", "90s", "--json"]);
    eventually("the payment to be out", || bob.json(&["channels"])[0]["pending_htlcs"].clone(), |out| *out == 1);
    assert!(alice.folder().join("reserve").exists());
    alice.stop();
    assert!(!alice.folder().join("reserve").exists());
    assert_eq!(fs::metadata(alice.folder().join("lightnode.db-wal")).map_or(0, |log| log.len()), 0, "not closed");

    disk.heal();
    alice.start();
    goes_on(&alice);
    assert!(alice.folder().join("reserve").exists());
    let paid = paying.wait_with_output().expect("the command ends");
    assert!(paid.status.success(), "{paid:?}");
    at_rest(&alice);
    assert_eq!(held(&alice), had + 2_000_000);
}

#[test]
fn a_close_that_the_peer_asks_for_while_the_disk_fails_is_booked_when_it_is_well() {
    let world = World::new();
    let (alice, disk, bob) = two_nodes(&world);
    disk.fail(Failure::Broken);
    assert_eq!(alice.run(&["receive", "3000"]).code, 6);
    halted(&alice);
    let id = bob.json(&["channels"])[0]["channel_id"].as_str().expect("an id").to_string();
    bob.json(&["close", &id]);
    eventually("the closing transaction", || world.bitcoind.mempool(), |all| all.len() == 1);
    world.bitcoind.mine(1);
    bob.without_channels();
    assert!(alice.entries("channel_close").is_empty(), "booked, and not on disk");
    disk.heal();
    alice.without_channels();
    eventually(
        "the close in the book",
        || alice.entries("channel_close"),
        |closes| closes.len() == 1 && closes[0]["status"] == "succeeded",
    );
}

/// Damages the database's log as a power cut can, starts again, and expects that all that was acknowledged is there.
fn torn(what: &str, damage: impl Fn(&mut fs::File, u64)) {
    let world = World::new();
    let (mut alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &[]);
    for sat in [50_000, 1_000, 2_000] {
        pay(&alice, &bob, sat);
    }
    let (before, height) = (alice.json(&["history"]), world.bitcoind.height());
    alice.kill();
    let log = alice.folder().join("lightnode.db-wal");
    let length = fs::metadata(&log).expect("the log").len();
    assert!(length > 100_000, "{what}: a log of {length} bytes shows nothing");
    let mut file = OpenOptions::new().read(true).write(true).open(&log).expect("the log");
    damage(&mut file, length);
    drop(file);
    alice.start();
    goes_on(&alice);
    alice.at_height(height);
    assert_eq!(alice.json(&["history"]), before, "{what}");
    pay(&alice, &bob, 3_000);
    pay(&bob, &alice, 4_000);
}

#[test]
fn a_log_with_half_a_write_behind_what_was_acknowledged_is_survived() {
    // Half a frame, all of it garbage: what a power cut leaves of a write that nobody was told of.
    torn("garbage", |file, length| {
        file.seek(SeekFrom::Start(length)).expect("a file");
        file.write_all(&[0xa5; 700]).expect("a file");
    });
}

#[test]
fn a_log_beside_an_index_of_another_time_is_read_as_it_lies() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.funded(&world, DEPOSIT);
    let invoice = alice.invoice("1000");
    alice.kill();
    // As a version that still wrote the index may have left one.
    fs::write(alice.folder().join("lightnode.db-shm"), [0xa5; 32 << 10]).expect("the test's own folder");
    alice.start();
    alice.ready();
    assert_eq!(alice.balance("onchain_confirmed_sat"), DEPOSIT);
    let hash = alice.json(&["decode", &invoice])["payment_hash"].as_str().expect("a hash").to_string();
    assert_eq!(alice.json(&["show", &hash])["invoice"], invoice.as_str());
}
