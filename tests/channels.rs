//! Channels: opened, used in both directions, closed by agreement, remembered over restarts.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::{eventually, throughout};
use crate::support::scenes::{CHANNEL, DEPOSIT, in_mempool, open, pay, two_nodes_with_a_channel};
use crate::support::world::{A_WHILE, World};

#[test]
pub(crate) fn a_channel_opens_carries_payments_both_ways_and_closes_by_agreement() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    pay(&alice, &bob, 120_000);
    pay(&bob, &alice, 20_000);

    let channel = alice.usable(1).remove(0);
    assert_eq!(channel["capacity_sat"], CHANNEL);
    let closing = alice.json(&["close", channel["channel_id"].as_str().expect("an id")]);
    assert_eq!(closing["channel_id"], channel["channel_id"]);
    eventually("the closing transaction", || world.bitcoind.mempool(), |all| all.len() == 1);
    world.bitcoind.mine(1);

    // One block later the money is in both wallets: nothing is swept.
    alice.without_channels();
    bob.without_channels();
    bob.balance_is("onchain_confirmed_sat", 100_000);
    let alice_has = eventually(
        "alice's share in her wallet",
        || alice.balance("onchain_confirmed_sat"),
        |seen| *seen > DEPOSIT - 100_000 - 20_000,
    );
    assert!(alice_has < DEPOSIT - 100_000, "fees were paid, so {alice_has} is too much");
    for node in [&alice, &bob] {
        assert_eq!(node.json(&["balance"])["closing"], json!([]), "counted twice");
        let closes = node.entries("channel_close");
        assert_eq!(closes.len(), 1, "{closes:?}");
        assert_eq!(closes[0]["status"], "succeeded", "{closes:?}");
        assert_eq!(closes[0]["direction"], "in", "{closes:?}");
    }
    assert_eq!(bob.entries("channel_close")[0]["amount_msat"], 100_000_000);
    assert_eq!(bob.entries("deposit"), [json!(null); 0]);

    // Nor later, when LDK is done with the channel.
    world.bitcoind.mine(6);
    for node in [&alice, &bob] {
        node.at_height(world.bitcoind.height());
    }
    throughout(A_WHILE, "nothing is swept", || world.bitcoind.mempool().is_empty());
    assert_eq!(bob.entries("sweep"), [json!(null); 0]);
    bob.balance_is("onchain_confirmed_sat", 100_000);
}

#[test]
pub(crate) fn several_channels_with_one_peer_are_funded_from_what_is_left() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, 3 * CHANNEL);
    let first = open(&world, &alice, &bob, &[]);
    let second = open(&world, &alice, &bob, &[]);
    assert_ne!(first, second);
    assert_eq!(alice.channels("usable").len(), 2);
}

#[test]
pub(crate) fn a_funding_locks_its_coins_until_it_confirms() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let opened = alice.json(&["open", &bob.peer(), &CHANNEL.to_string()]);
    in_mempool(&world, opened["funding_txid"].as_str().expect("a txid"));
    let listed = alice.channels("opening");
    assert_eq!(listed.len(), 1);
    assert!(listed[0]["waits_for"].as_str().expect("words").contains("confirmation"), "{listed:?}");
    // The change is our own and can be spent, the coin that funds the channel cannot.
    let balance = alice.json(&["balance"]);
    assert_eq!(balance["onchain_confirmed_sat"], 0, "{balance}");
    let refused = alice.run(&["send", &world.bitcoind.new_address(), &(DEPOSIT - 100).to_string()]);
    assert_eq!(refused.code, 5, "{refused:?}");
}

#[test]
fn opening_says_what_is_missing_and_what_is_held_back() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice");
    // The usual reserve.
    alice.configure(&[world.server()], "[channels]\n");
    let (alice, bob) = (alice.started(), Daemon::new(&world, "bob").started());
    let nothing = alice.run(&["open", &bob.peer(), "100000"]);
    assert_eq!(nothing.code, 5, "{nothing:?}");
    alice.funded(&world, 105_000);
    let reserve = alice.run(&["open", &bob.peer(), "104000"]);
    assert_eq!(reserve.code, 5, "{reserve:?}");
    assert!(reserve.stderr.contains("reserve"), "{reserve:?}");
}

#[test]
fn a_peer_that_is_away_or_is_none_is_named() {
    let world = World::new();
    let (alice, mut bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let peer = bob.peer();
    bob.stop();
    let away = alice.run(&["open", &peer, "100000"]);
    assert_eq!(away.code, 1, "{away:?}");
    assert!(away.stderr.contains("127.0.0.1"), "{away:?}");
    let garbage = alice.run(&["open", "02notakey@127.0.0.1:1", "100000"]);
    assert_eq!(garbage.code, 2, "{garbage:?}");
    // Nothing is left locked.
    assert_eq!(alice.balance("onchain_locked_sat"), 0);
}

#[test]
fn peers_are_listed_remembered_and_removed() {
    let world = World::new();
    let (mut alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    let added = alice.json(&["peer", "add", &bob.peer()]);
    assert_eq!(added["connected"], json!(true), "{added}");
    alice.stop();
    alice.start();
    alice.ready();
    eventually(
        "alice to dial bob again by herself",
        || alice.json(&["peer", "list"]),
        |peers| peers[0]["connected"] == json!(true),
    );
    alice.json(&["peer", "remove", &bob.node_id()]);
    eventually("bob to be gone", || alice.json(&["peer", "list"]), |peers| peers == &json!([]));
}
