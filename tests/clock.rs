//! A clock that is wrong: noticed, said, and no invoice and no header is wrong for it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::clock::WrongClock;
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::world::World;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// Unix seconds, by the clock of the test.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs().try_into().expect("before 2106")
}

/// A world whose last eleven blocks are of now, so that the chain's median time is.
fn world() -> World {
    let world = World::new();
    world.mine(11);
    world
}

#[test]
fn a_clock_years_behind_is_said_and_nothing_that_the_node_makes_is_of_the_past() {
    let world = world();
    let bob = Daemon::new(&world, "bob").started();
    let short = bob.json(&["receive", "1000", "--expiry", "1s"])["invoice"].as_str().expect("an invoice").to_owned();
    let clock = WrongClock::new(world.folder(), -20 * YEAR);
    let mut alice = Daemon::new(&world, "alice");
    alice.start_with(&clock.variables());
    alice.answering();
    // Headers of a future twenty years away are taken, for it is the clock that is wrong.
    alice.at_height(world.bitcoind.height());
    let status = eventually(
        "the clock to be said",
        || alice.json(&["status"]),
        |status| status["state"] == "degraded" && status["why"].to_string().contains("clock"),
    );
    assert!(status["clock"].as_str().is_some_and(|said| said.contains("behind the chain's by")), "{status}");

    let invoice = alice.invoice("1000");
    let read = bob.json(&["decode", &invoice]);
    assert_eq!(read["expired"], false, "{read}");
    let entry = &alice.json(&["history"])["entries"][0];
    let made = entry["created_at"].as_i64().expect("a time");
    assert!((made - now()).abs() < 2 * HOUR, "{made} is not of now: {entry}");
    // What has expired long ago by the chain's time is not paid because our clock says otherwise.
    eventually("the invoice to expire", || bob.json(&["decode", &short]), |read| read["expired"] == true);
    alice.stop();
    let long_ago = bob.json(&["receive", "1000", "--expiry", "1s"])["invoice"].as_str().expect("an invoice").to_owned();
    clock.set(-20 * YEAR);
    alice.start_with(&clock.variables());
    alice.answering();
    alice.at_height(world.bitcoind.height());
    eventually("it to be expired for alice", || alice.json(&["decode", &long_ago]), |read| read["expired"] == true);
    eventually(
        "it to be refused",
        || alice.run(&["pay", &long_ago]),
        |ran| ran.code == 6 && ran.stderr.contains("expired"),
    );

    // The network's time arrives.
    clock.set(0);
    let status = eventually(
        "the jump to be said",
        || alice.json(&["status"]),
        |status| status["state"] == "ready" && status["clock"].to_string().contains("set forward by"),
    );
    assert!(status["clock"].as_str().is_some_and(|said| said.contains("7300 days")), "{status}");
    assert!(alice.log().contains("the clock of this machine was set forward"), "the log is silent");
}

#[test]
pub(crate) fn a_clock_that_jumps_back_while_the_node_runs_is_said_and_blocks_are_still_taken() {
    let world = world();
    let clock = WrongClock::new(world.folder(), 0);
    let mut alice = Daemon::new(&world, "alice");
    alice.start_with(&clock.variables());
    alice.ready();
    assert_eq!(alice.json(&["status"])["clock"], serde_json::Value::Null);
    clock.set(-5 * HOUR);
    eventually("the jump to be in the log", || alice.json(&["status"]), |_| alice.log().contains("was set back by"));
    world.mine(1);
    alice.at_height(world.bitcoind.height());
    let status = alice.json(&["status"]);
    assert!(status["state"] == "degraded" && status["clock"].to_string().contains("behind"), "{status}");
    alice.funded(&world, 100_000);
    let seen = alice.entries("deposit")[0]["created_at"].as_i64().expect("a time");
    assert!((seen - now()).abs() < 2 * HOUR, "{seen} is not of now");
}

#[test]
fn a_clock_that_is_a_little_off_changes_nothing() {
    let world = world();
    for off_by in [-20 * 60, 20 * 60] {
        let clock = WrongClock::new(world.folder(), off_by);
        let mut alice = Daemon::new(&world, "alice");
        alice.start_with(&clock.variables());
        alice.ready();
        assert_eq!(alice.json(&["status"])["clock"], serde_json::Value::Null);
        let read = alice.json(&["decode", &alice.invoice("1000")]);
        assert_eq!(read["expired"], false, "{read}");
        alice.stop();
    }
}
