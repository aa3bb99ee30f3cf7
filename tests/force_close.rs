//! Channels closed by force, from either side: the money comes back to the wallet, and is never out of view.

use crate::support::daemon::Daemon;
use crate::support::scenes::{
    CHANNEL, DEPOSIT, close_by_force, mine_until, open, pay, punished, revoked_commitment, two_nodes_with_a_channel,
};
use crate::support::world::World;

/// Longer than any delay that two of our own nodes agree on.
const MOST_BLOCKS: usize = 1100;

#[test]
pub(crate) fn the_one_who_closes_by_force_gets_its_share_after_the_delay() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    // Claims of payments that are still under way take their fees from here.
    bob.funded(&world, 100_000);
    pay(&alice, &bob, 100_000);
    both_are_paid(&world, &alice, &bob);
}

#[test]
pub(crate) fn the_one_who_did_not_fund_can_close_by_force_too() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    bob.funded(&world, 100_000);
    pay(&alice, &bob, 100_000);
    both_are_paid(&world, &bob, &alice);
}

#[test]
pub(crate) fn a_force_close_while_the_other_is_away_is_found_when_it_returns() {
    let world = World::new();
    let (alice, mut bob) = two_nodes_with_a_channel(&world);
    pay(&alice, &bob, 100_000);
    bob.kill();
    close_by_force(&world, &alice);
    world.bitcoind.mine(6);
    bob.start();
    bob.ready();
    mine_until(&world, 20, &[&bob], || bob.balance("onchain_confirmed_sat") > 90_000);
    bob.without_channels();
    swept(&bob);
}

#[test]
pub(crate) fn a_revoked_commitment_is_punished_before_the_next_block_and_the_whole_channel_is_ours() {
    let world = World::new();
    let (mut alice, mut bob) = two_nodes_with_a_channel(&world);
    bob.funded(&world, 100_000);
    let revoked = revoked_commitment(&world, &mut alice, &mut bob);
    alice.start();
    alice.ready();
    world.bitcoind.mine_exactly(&[revoked]);
    punished(&world, revoked);
    mine_until(&world, 30, &[&alice], || alice.balance("onchain_confirmed_sat") > DEPOSIT - 20_000);
    alice.without_channels();
}

#[test]
pub(crate) fn a_force_close_for_which_fees_have_risen_is_paid_for_by_a_child() {
    let world = World::new();
    let (mut alice, mut bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    // Without coins bob would refuse anchors, and the channel would be one without.
    bob.funded(&world, 100_000);
    open(&world, &alice, &bob, &[]);
    // The commitment keeps the rate of its day, for bob is away when fees rise.
    bob.kill();
    alice.stop();
    alice.configure(&[world.server()], "[fees]\nfallback_sat_per_vb = 60\n");
    alice.start();
    alice.ready();
    close_by_force(&world, &alice);
    crate::support::eventually::eventually(
        "the commitment and its child",
        || world.bitcoind.mempool(),
        |all| all.len() == 2,
    );
    world.bitcoind.mine(1);
    let bumps = crate::support::eventually::eventually(
        "the child in the book",
        || alice.entries("fee_bump"),
        |bumps| bumps.iter().any(|bump| bump["status"] == "succeeded"),
    );
    assert_eq!((&bumps[0]["direction"], &bumps[0]["amount_msat"]), (&"out".into(), &0.into()), "{bumps:?}");
    assert!(bumps[0]["fee_msat"].as_u64().is_some_and(|fee| fee > 1_000_000), "{bumps:?}");
    assert!(alice.entries("withdrawal").is_empty());
}

fn both_are_paid(world: &World, closer: &Daemon, other: &Daemon) {
    let before = (closer.balance("onchain_confirmed_sat"), other.balance("onchain_confirmed_sat"));
    close_by_force(world, closer);
    world.bitcoind.mine(1);
    closer.at_height(world.bitcoind.height());
    let closing = closer.json(&["balance"])["closing"].clone();
    assert!(!closing.as_array().expect("a list").is_empty(), "the money went out of view: {closing}");

    // Both are paid; together they have all but the fees.
    let there = || {
        let (mine, theirs) = (closer.balance("onchain_confirmed_sat"), other.balance("onchain_confirmed_sat"));
        mine + theirs > before.0 + before.1 + CHANNEL - 30_000
    };
    mine_until(world, MOST_BLOCKS, &[closer, other], there);
    assert!(closer.balance("onchain_confirmed_sat") + other.balance("onchain_confirmed_sat") < DEPOSIT + 200_000);
    swept(closer);
    swept(other);
}

/// Its book calls what came home by its name, once, and not a deposit.
fn swept(node: &Daemon) {
    let sweeps = node.entries("sweep");
    let there: Vec<_> = sweeps.iter().filter(|sweep| sweep["status"] == "succeeded").collect();
    assert_eq!(there.len(), 1, "{sweeps:?}");
    assert_eq!(there[0]["direction"], "in", "{sweeps:?}");
}
