//! What others learn of a public channel.

use std::io::Cursor;

use bitcoin::Network;
use lightning::routing::gossip::{NetworkGraph, NodeId};
use lightning::util::persist::{
    KVStoreSync, NETWORK_GRAPH_PERSISTENCE_KEY, NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
    NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::ReadableArgs;
use lightnode::keys::Kept;
use lightnode::ln::logger::Logger;
use lightnode::store::Store;
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{DEPOSIT, open};
use crate::support::world::World;

#[test]
pub(crate) fn a_public_channel_is_known_to_others_who_pay_over_it_without_a_hint() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let bob = Daemon::new(&world, "bob").started();
    let carol = Daemon::new(&world, "carol").started();
    carol.funded(&world, DEPOSIT);
    alice.funded(&world, DEPOSIT);
    open(&world, &carol, &alice, &[]);
    open(&world, &alice, &bob, &["--public"]);
    world.bitcoind.mine(1);
    for node in [&alice, &bob, &carol] {
        node.at_height(world.bitcoind.height());
    }
    // Bob's invoice names no way to him: who pays it has heard of the channel.
    let hints = |invoice: &String| carol.json(&["decode", invoice])["route_hints"].clone();
    let invoice = eventually("an invoice without hints", || bob.invoice("50000"), |invoice| hints(invoice) == 0);
    let paid = eventually("carol to hear of the channel", || carol.run(&["pay", &invoice]), |ran| ran.code != 1);
    assert_eq!(paid.code, 0, "{paid:?}");
    assert!(paid.json()["fee_msat"].as_u64().expect("a fee") > 0);
    assert_eq!(paid.json()["already"], json!(false));
}

#[test]
fn the_alias_of_a_node_with_a_public_channel_reaches_one_that_is_no_party_to_it() {
    let world = World::new();
    let hears = |name: &str| {
        let mut node = Daemon::new(&world, name);
        node.surround("LIGHTNODE_LOG_LEVEL", "debug,lightning::gossip=trace");
        node.started()
    };
    let mut alice = Daemon::new(&world, "alice").started();
    let (bob, mut carol) = (hears("bob"), hears("carol"));
    alice.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &["--public"]);
    let id = alice.json(&["status"])["node_id"].as_str().expect("a node id").to_owned();
    let heard = |node: &Daemon| {
        let announced = |line: &str| line.contains("Received message NodeAnnouncement") && line.contains(&id);
        eventually("the announcement to be heard", || node.log(), |log| log.lines().any(announced));
    };
    // With a public channel a node announces itself as it starts.
    alice.stop();
    alice.start();
    heard(&bob);
    carol.json(&["peer", "add", &bob.peer()]);
    heard(&carol);
    carol.stop();
    assert_eq!(alias_on_the_map_of(&carol, &id).as_deref(), Some("alice"));
}

/// The alias of a node as a stopped node has stored it.
fn alias_on_the_map_of(node: &Daemon, id: &str) -> Option<String> {
    let seed = Kept::read(node.folder()).expect("a seed").open(None).expect("an open seed");
    let store = Store::open(node.folder(), Network::Regtest, seed.fingerprint()).expect("a database");
    let map = KVStoreSync::read(
        &*store.kv(),
        NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
        NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE,
        NETWORK_GRAPH_PERSISTENCE_KEY,
    );
    let map = NetworkGraph::read(&mut Cursor::new(map.expect("a stored map")), &Logger).expect("a map");
    let id = NodeId::from_pubkey(&id.parse().expect("a node id"));
    let map = map.read_only();
    map.node(&id)?.announcement_info.as_ref().map(|info| info.alias().to_string())
}
