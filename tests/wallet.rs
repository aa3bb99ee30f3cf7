//! The wallet on bad days: restored from words, deposits and withdrawals that are double-spent.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::own::OwnServer;
use crate::support::scenes::in_mempool;
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

/// Unused addresses in a row that are watched (`wallet.gap_limit`).
const GAP: usize = 20;

#[test]
pub(crate) fn a_node_restored_from_its_words_finds_deposits_up_to_the_gap_and_from_there_on() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice");
    let words = alice.json(&["init", "--yes"])["words"].as_str().expect("words").to_string();
    let mut alice = alice.started();
    let addresses = unused(&alice);
    // To the last address that a restored node looks at, and when that is used, to the last after it.
    world.bitcoind.pay(&addresses[GAP - 1], 10_000);
    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 10_000);
    let addresses = unused(&alice);
    world.bitcoind.pay(&addresses[GAP - 1], 20_000);
    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 30_000);
    alice.stop();

    let restored = Daemon::new(&world, "restored");
    assert_eq!(restored.run_with_input(&["init", "--restore", "--yes"], &words).code, 0);
    let restored = restored.started();
    restored.balance_is("onchain_confirmed_sat", 30_000);
    let history = restored.json(&["history"]);
    assert_eq!(history["entries"].as_array().expect("entries").len(), 2, "{history}");
    assert!(!addresses.contains(&restored.address()), "an address that was paid to is given out again");
}

#[test]
fn an_address_that_is_given_a_second_time_is_said_to_be_an_older_one() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let addresses = unused(&alice);
    let again = alice.json(&["address"]);
    assert_eq!((&again["reused"], &again["address"]), (&json!(true), &json!(addresses[0])));
    let seen = on_a_terminal(&alice, &["address"]);
    assert!(plain(&seen.stdout).contains("An older address"), "{seen:?}");
    // Still one of ours.
    alice.funded(&world, 10_000);
}

#[test]
pub(crate) fn a_deposit_that_its_payer_takes_back_is_no_longer_pending_and_booked_as_gone() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
    alice.balance_is("onchain_pending_sat", 70_000);
    alice.entry(&txid, "pending");
    // The same coins, to the payer, for a higher fee.
    let back = json!([{ world.bitcoind.new_address(): "0.0005" }]);
    let replaced: Value = world.bitcoind.call("bumpfee", &[json!(txid), json!({ "fee_rate": 50, "outputs": back })]);
    assert_ne!(replaced["txid"], json!(txid));
    alice.balance_is("onchain_pending_sat", 0);
    alice.entry(&txid, "failed");
    world.bitcoind.mine(1);
    alice.at_height(world.bitcoind.height());
    assert_eq!(alice.balance("onchain_confirmed_sat"), 0);
    assert_eq!(alice.json(&["show", &txid])["status"], "failed");
}

#[test]
pub(crate) fn a_deposit_whose_fee_its_payer_raises_is_counted_once() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let first = world.bitcoind.pay(alice.address(), 70_000).to_string();
    alice.entry(&first, "pending");
    let bumped: Value = world.bitcoind.call("bumpfee", &[json!(first), json!({ "fee_rate": 50 })]);
    let second = bumped["txid"].as_str().expect("a txid");
    alice.entry(&first, "failed");
    alice.entry(second, "pending");
    assert_eq!(alice.balance("onchain_pending_sat"), 70_000);
    world.bitcoind.mine(1);
    alice.entry(second, "succeeded");
    alice.balance_is("onchain_confirmed_sat", 70_000);
}

#[test]
pub(crate) fn a_withdrawal_whose_coins_the_same_words_spent_elsewhere_is_booked_as_failed() {
    let world = World::new();
    let server = OwnServer::new(&world);
    let alice = Daemon::with_servers(&world, "alice", &[server.url()]).started();
    alice.funded(&world, 100_000);
    // Alice's words on another machine, which she forgot about.
    let twin = Daemon::new(&world, "twin");
    fs::copy(alice.folder().join("seed"), twin.folder().join("seed")).expect("the test's own folder");
    let twin = twin.started();
    twin.balance_is("onchain_confirmed_sat", 100_000);

    server.go_down();
    eventually("alice to notice", || alice.answering(), |status| status["state"] != "ready");
    let here = alice.json(&["send", &world.bitcoind.new_address(), "40000"]);
    let elsewhere = twin.json(&["send", &world.bitcoind.new_address(), "all"]);
    in_mempool(&world, elsewhere["txid"].as_str().expect("a txid"));
    world.bitcoind.mine(1);
    server.come_back();
    alice.ready();
    let failed = alice.entry(here["txid"].as_str().expect("a txid"), "failed");
    assert_eq!(failed["kind"], "withdrawal");
    alice.balance_is("onchain_confirmed_sat", 0);
    assert_eq!(alice.balance("onchain_pending_sat"), 0);
}

/// All the addresses that can be out without a payment.
fn unused(node: &Daemon) -> Vec<String> {
    let addresses: Vec<String> = (0..GAP).map(|_| node.address()).collect();
    let different: std::collections::BTreeSet<&String> = addresses.iter().collect();
    assert_eq!(different.len(), GAP, "{addresses:?}");
    addresses
}
