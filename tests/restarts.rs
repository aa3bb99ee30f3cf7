//! Power cuts: killed in the middle of things, the node comes up and its book tells the truth.

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{CHANNEL, DEPOSIT, in_mempool, pay, two_nodes_with_a_channel};
use crate::support::world::World;

#[test]
pub(crate) fn a_restart_changes_nothing() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    pay(&alice, &bob, 100_000);
    // The reserve aside, bob's side is what alice can be sent once the payment is off the commitment transactions.
    alice.balance_is("lightning_inbound_sat", 95_000);
    let (before, history) = (alice.json(&["balance"]), alice.json(&["history"]));
    alice.stop();
    alice.start();
    alice.ready();
    alice.usable(1);
    bob.usable(1);
    assert_eq!(alice.json(&["balance"]), before);
    assert_eq!(alice.json(&["history"]), history);
    pay(&alice, &bob, 10_000);
    pay(&bob, &alice, 10_000);
}

#[test]
pub(crate) fn a_node_killed_while_its_channel_opens_finishes_opening_it() {
    let world = World::new();
    let (mut alice, mut bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let opened = alice.json(&["open", &bob.peer(), &CHANNEL.to_string()]);
    alice.kill();
    bob.kill();
    alice.start();
    bob.start();
    alice.ready();
    bob.ready();
    in_mempool(&world, opened["funding_txid"].as_str().expect("a txid"));
    world.bitcoind.mine(6);
    alice.usable(1);
    bob.usable(1);
    pay(&alice, &bob, 50_000);
}

#[test]
pub(crate) fn a_channel_that_confirmed_while_we_were_down_is_usable_after_the_start() {
    let world = World::new();
    let (mut alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let opened = alice.json(&["open", &bob.peer(), &CHANNEL.to_string()]);
    in_mempool(&world, opened["funding_txid"].as_str().expect("a txid"));
    alice.kill();
    world.bitcoind.mine(10);
    alice.start();
    alice.ready();
    alice.usable(1);
    bob.usable(1);
}

#[test]
pub(crate) fn a_payer_killed_while_its_payment_is_out_tells_the_truth_afterwards() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    for _ in 0..5 {
        let invoice = bob.invoice("10000");
        let hash = bob.json(&["decode", &invoice])["payment_hash"].as_str().expect("a hash").to_string();
        let mut paying = alice.begin(&["pay", &invoice]);
        // Somewhere between the book and the last message.
        eventually("the payment to begin", || alice.run(&["show", &hash]).code, |code| *code == 0);
        alice.kill();
        paying.wait().expect("the command ends");
        alice.start();
        alice.ready();
        alice.usable(1);
        bob.usable(1);
        settled_alike(&alice, &bob, &hash);
    }
}

#[test]
pub(crate) fn a_payee_killed_while_a_payment_comes_in_tells_the_truth_afterwards() {
    let world = World::new();
    let (alice, mut bob) = two_nodes_with_a_channel(&world);
    for _ in 0..5 {
        let invoice = bob.invoice("10000");
        let hash = alice.json(&["decode", &invoice])["payment_hash"].as_str().expect("a hash").to_string();
        let mut paying = alice.begin(&["pay", &invoice, "--timeout", "60s"]);
        eventually("the payment to begin", || alice.run(&["show", &hash]).code, |code| *code == 0);
        bob.kill();
        bob.start();
        bob.ready();
        // A peer that goes away again and again is dialled less and less often; that is shown elsewhere.
        alice.json(&["peer", "add", &bob.peer()]);
        alice.usable(1);
        bob.usable(1);
        paying.wait().expect("the command ends");
        settled_alike(&alice, &bob, &hash);
    }
}

/// Paid on both sides, or on none; and if not, it can be paid now.
fn settled_alike(alice: &Daemon, bob: &Daemon, hash: &str) {
    let entry = eventually(
        "alice's book to be settled",
        || alice.json(&["show", hash]),
        |entry| entry["status"] == "succeeded" || entry["status"] == "failed",
    );
    if entry["status"] == "failed" {
        let invoice = bob.json(&["show", hash])["invoice"].as_str().expect("an invoice").to_string();
        let paid = alice.json(&["pay", &invoice]);
        assert_eq!(paid["status"], "succeeded");
        assert_eq!(paid["already"], false, "the book said failed, and it was paid");
    }
    let received = bob.entry(hash, "succeeded");
    assert_eq!(received["amount_msat"], 10_000_000);
}
