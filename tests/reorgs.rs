//! Blocks that are taken back, with what was in them.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{CHANNEL, DEPOSIT, in_mempool, pay, two_nodes_with_a_channel};
use crate::support::world::World;

#[test]
pub(crate) fn a_deposit_taken_back_with_its_block_is_pending_again_and_then_confirmed_elsewhere() {
    let world = World::new();
    for depth in [1, 3, 6] {
        let alice = Daemon::new(&world, &format!("alice{depth}")).started();
        let address = alice.address();
        let txid = world.bitcoind.pay(&address, 70_000);
        world.bitcoind.mine(depth);
        alice.balance_is("onchain_confirmed_sat", 70_000);
        // A longer chain without the deposit, which is back in the mempool.
        world.bitcoind.reorg_without(depth, depth + 1, &[txid]);
        alice.at_height(world.bitcoind.height());
        alice.balance_is("onchain_confirmed_sat", 0);
        alice.balance_is("onchain_pending_sat", 70_000);
        world.bitcoind.mine(1);
        alice.balance_is("onchain_confirmed_sat", 70_000);
    }
}

#[test]
pub(crate) fn a_deposit_that_moves_to_another_block_of_the_same_height_is_proven_again() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let txid = world.bitcoind.pay(alice.address(), 70_000);
    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 70_000);
    let before = world.bitcoind.best_hash();
    world.bitcoind.reorg(1, 2);
    alice.at_height(world.bitcoind.height());
    assert_ne!(world.bitcoind.hash_at(world.bitcoind.height() - 1), before);
    alice.balance_is("onchain_confirmed_sat", 70_000);
    let entry = alice.entry(&txid.to_string(), "succeeded");
    assert_eq!(entry["height"], json!(world.bitcoind.height() - 1));
}

#[test]
pub(crate) fn a_funding_taken_back_before_the_channel_is_ready_confirms_again_and_the_channel_lives() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let opened = alice.json(&["open", &bob.peer(), &CHANNEL.to_string()]);
    in_mempool(&world, opened["funding_txid"].as_str().expect("a txid"));
    world.bitcoind.mine(2);
    for node in [&alice, &bob] {
        node.at_height(world.bitcoind.height());
    }
    world.bitcoind.reorg_without(2, 3, &[funding(&opened)]);
    for node in [&alice, &bob] {
        node.at_height(world.bitcoind.height());
        assert_eq!(node.channels("opening").len(), 1);
    }
    world.bitcoind.mine(6);
    alice.usable(1);
    bob.usable(1);
    pay(&alice, &bob, 50_000);
}

#[test]
pub(crate) fn a_shallow_reorganisation_leaves_a_ready_channel_alone() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    world.bitcoind.reorg(2, 4);
    for node in [&alice, &bob] {
        node.at_height(world.bitcoind.height());
        node.usable(1);
    }
    pay(&alice, &bob, 50_000);
}

#[test]
pub(crate) fn a_funding_taken_back_after_the_channel_was_ready_closes_it_and_the_money_stays_in_view() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    // Deeper than the funding: LDK closes a channel whose funding is gone.
    let point = alice.usable(1)[0]["funding"].as_str().expect("an outpoint").to_string();
    let txid = point.split(':').next().expect("a txid").parse().expect("a txid");
    world.bitcoind.reorg_without(6, 7, &[txid]);
    for node in [&alice, &bob] {
        node.at_height(world.bitcoind.height());
    }
    eventually(
        "the channel to be given up",
        || alice.channels("usable").len() + bob.channels("usable").len(),
        |count| *count == 0,
    );
    // The funding and then the commitment confirm again, and alice is whole but for fees.
    crate::support::scenes::mine_until(&world, 1100, &[&alice, &bob], || {
        alice.balance("onchain_confirmed_sat") > DEPOSIT - 30_000
    });
}

fn funding(opened: &serde_json::Value) -> bitcoin::Txid {
    opened["funding_txid"].as_str().and_then(|text| text.parse().ok()).expect("a txid")
}
