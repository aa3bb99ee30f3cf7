//! Peers that refuse or close a channel.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{CHANNEL, DEPOSIT, two_nodes_with_a_channel};
use crate::support::world::World;

#[test]
fn a_peer_that_refuses_a_channel_is_quoted_and_the_money_stays_free() {
    let world = World::new();
    let (alice, mut bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let small = alice.run(&["open", &bob.peer(), "19999"]);
    assert_eq!(small.code, 1, "{small:?}");
    assert!(small.stderr.contains("too small: at least 20000 sat"), "{small:?}");

    bob.stop();
    bob.configure(&[world.server()], "[channels]\naccept_inbound = false\n");
    bob.start();
    bob.ready();
    let none = alice.run(&["open", &bob.peer(), &CHANNEL.to_string()]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("saying \"No inbound channels accepted\""), "{none:?}");

    assert_eq!(alice.json(&["channels"]), json!([]));
    assert_eq!(alice.balance("onchain_locked_sat"), 0);
    assert_eq!(alice.balance("onchain_confirmed_sat"), DEPOSIT);
    assert_eq!(world.bitcoind.mempool(), []);
}

#[test]
pub(crate) fn a_peer_that_closes_the_channel_gives_us_our_share() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let id = bob.usable(1)[0]["channel_id"].as_str().expect("an id").to_string();
    bob.json(&["close", &id[..8]]);
    let closing = eventually("the closing transaction", || world.bitcoind.mempool(), |all| all.len() == 1);
    // The closing transaction pays the wallet: until it is confirmed the money is pending there.
    let pending = || alice.balance("onchain_pending_sat");
    eventually("alice's share to be in view", pending, |sat| *sat > CHANNEL - 20_000);
    world.bitcoind.mine(6);
    alice.without_channels();
    let home = |node: &Daemon| node.balance("onchain_confirmed_sat");
    eventually("alice's share in her wallet", || home(&alice), |sat| *sat > DEPOSIT - 20_000);
    assert!(world.bitcoind.confirmations(closing[0]) > 0);
    let gone = alice.run(&["pay", &bob.invoice("1000")]);
    assert_eq!(gone.code, 5, "{gone:?}");
    assert!(gone.stderr.contains("no channel to pay through"), "{gone:?}");
}

#[test]
fn a_peer_with_a_channel_cannot_be_removed() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let refused = alice.run(&["peer", "remove", &bob.node_id()]);
    assert_eq!(refused.code, 6, "{refused:?}");
    alice.usable(1);
}

#[test]
fn a_channel_needs_coins_for_its_reserve_on_both_sides() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob"));
    // The usual reserve.
    bob.configure(&[world.server()], "[channels]\n");
    let bob = bob.started();
    alice.funded(&world, DEPOSIT);
    let (peer, amount) = (bob.peer(), CHANNEL.to_string());
    let refused = alice.run(&["open", &peer, &amount]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("anchor"), "{refused:?}");
    assert_eq!(alice.balance("onchain_locked_sat"), 0);
    bob.funded(&world, 25_000);
    alice.json(&["open", &peer, &amount]);
    assert_eq!(bob.balance("reserve_sat"), 25_000);
}
