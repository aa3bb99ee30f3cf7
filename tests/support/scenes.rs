//! Situations that many tests begin with.

use bitcoin::Txid;

use super::daemon::Daemon;
use super::eventually::eventually;
use super::world::World;

/// What the one who opens gets as a deposit, in sat.
pub(crate) const DEPOSIT: u64 = 1_000_000;
/// The channel's size, in sat.
pub(crate) const CHANNEL: u64 = 500_000;

/// Two nodes; alice has opened a channel of [`CHANNEL`] sat to bob, out of a deposit of [`DEPOSIT`] sat.
pub(crate) fn two_nodes_with_a_channel(world: &World) -> (Daemon, Daemon) {
    let (alice, bob) = (Daemon::new(world, "alice").started(), Daemon::new(world, "bob").started());
    alice.funded(world, DEPOSIT);
    open(world, &alice, &bob, &[]);
    (alice, bob)
}

/// Opens a channel of [`CHANNEL`] sat and mines until both can use it; returns its id.
pub(crate) fn open(world: &World, from: &Daemon, to: &Daemon, more: &[&str]) -> String {
    let (had_from, had_to) = (from.channels("usable").len(), to.channels("usable").len());
    let (peer, amount) = (to.peer(), CHANNEL.to_string());
    let opened = from.json(&[&["open", peer.as_str(), amount.as_str()], more].concat());
    in_mempool(world, opened["funding_txid"].as_str().expect("a txid"));
    world.bitcoind.mine(6);
    from.usable(had_from + 1);
    to.usable(had_to + 1);
    opened["channel_id"].as_str().expect("a channel id").to_string()
}

/// Waits until bitcoind has this transaction in its mempool.
pub(crate) fn in_mempool(world: &World, txid: &str) {
    let wanted = txid.parse().expect("a txid");
    eventually("the transaction in bitcoind's mempool", || world.bitcoind.mempool(), |all| all.contains(&wanted));
}

/// `from` pays `to` this many sat; both books agree, and nothing of it is left in flight.
pub(crate) fn pay(from: &Daemon, to: &Daemon, sat: u64) -> serde_json::Value {
    let paid = from.json(&["pay", &to.invoice(&sat.to_string())]);
    assert_eq!(paid["status"], "succeeded", "{paid}");
    to.entry(paid["id"].as_str().expect("an id"), "succeeded");
    for node in [from, to] {
        at_rest(node);
    }
    paid
}

/// Waits until no payment is on a commitment transaction of the node any more.
pub(crate) fn at_rest(node: &Daemon) {
    let moving = |channels: &serde_json::Value| {
        channels.as_array().expect("a list of channels").iter().any(|channel| channel["pending_htlcs"] != 0)
    };
    eventually("payments to be off the commitments", || node.json(&["channels"]), |channels| !moving(channels));
}

/// Mines blocks one by one until `there` holds: what waits for a height is found at that height. Where servers are polled,
/// several at a time. What is not there after `most` may need time more than blocks, and gets both for a while.
pub(crate) fn mine_until(world: &World, most: usize, nodes: &[&Daemon], mut there: impl FnMut() -> bool) {
    let stride = world.stride();
    let mut mined = || {
        if !there() {
            world.bitcoind.mine(stride);
            nodes.iter().for_each(|node| node.at_height(world.bitcoind.height()));
        }
        there()
    };
    if !(0..most.div_ceil(stride as usize)).any(|_| mined()) {
        eventually(&format!("what {most} blocks should have brought"), mined, |there| *there);
    }
}

/// Closes its only channel by force; gives the commitment, once the network has it. A child that pays for it may come along.
pub(crate) fn close_by_force(world: &World, node: &Daemon) -> Txid {
    let id = node.json(&["channels"])[0]["channel_id"].as_str().expect("an id").to_string();
    node.json(&["close", &id, "--force"]);
    // Parents before children.
    eventually("the commitment", || world.bitcoind.mempool(), |all| !all.is_empty())[0]
}

/// Bob broadcasts a commitment that he has revoked: of the day on which 150,000 sat more were his. Alice does not see it,
/// she is stopped, and both are gone afterwards; bob needs a coin for this.
pub(crate) fn revoked_commitment(world: &World, alice: &mut Daemon, bob: &mut Daemon) -> Txid {
    pay(alice, bob, 200_000);
    bob.stop();
    let mut thief = bob.copied("thief");
    bob.start();
    bob.ready();
    bob.usable(1);
    pay(bob, alice, 150_000);
    bob.stop();
    alice.stop();
    thief.start();
    thief.ready();
    let revoked = close_by_force(world, &thief);
    thief.kill();
    revoked
}

/// Waits until bitcoind has a transaction in its mempool that takes from this commitment.
pub(crate) fn punished(world: &World, commitment: Txid) {
    let there = || {
        let takes = |txid: &Txid| {
            world.bitcoind.raw_tx(*txid).input.iter().any(|input| input.previous_output.txid == commitment)
        };
        world.bitcoind.mempool().iter().any(takes)
    };
    eventually("the punishment", there, |there| *there);
}
