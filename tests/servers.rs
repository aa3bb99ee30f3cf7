//! Servers that are away, come back, or are of another network: the node stays up, says so, and catches up.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::own::OwnServer;
use crate::support::scenes::{CHANNEL, pay, two_nodes_with_a_channel};
use crate::support::world::World;

#[test]
fn with_every_server_down_the_node_is_up_and_says_what_it_waits_for() {
    let world = World::new();
    let nowhere = format!("tcp://127.0.0.1:{}", crate::support::ports::free_port());
    let mut alice = Daemon::with_servers(&world, "alice", std::slice::from_ref(&nowhere));
    alice.start();
    alice.answering();
    let status = eventually(
        "status to name the trouble and the next try",
        || alice.json(&["status"]),
        |status| !status["servers"][0]["trouble"].is_null() && !status["servers"][0]["retry_at"].is_null(),
    );
    assert_eq!(status["state"], "syncing", "{status}");
    assert!(!status["waits_for"].as_array().expect("a list").is_empty(), "{status}");
    assert_eq!(status["servers"][0]["address"], json!(nowhere));
    alice.stop();
}

#[test]
pub(crate) fn a_server_that_goes_away_is_waited_for_and_what_was_missed_is_caught_up() {
    let mut world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let address = alice.address();
    world.stop_servers();
    eventually("alice to notice", || alice.json(&["status"])["state"].clone(), |state| *state != json!("ready"));
    world.bitcoind.pay(&address, 50_000);
    world.bitcoind.mine(3);
    world.start_servers();
    alice.ready();
    alice.balance_is("onchain_confirmed_sat", 50_000);
    alice.at_height(world.bitcoind.height());
}

#[test]
pub(crate) fn the_next_server_takes_over_when_the_first_dies() {
    let world = World::new();
    let first = OwnServer::new(&world);
    let servers = [first.url(), world.server()];
    let alice = Daemon::with_servers(&world, "alice", &servers).started();
    assert_eq!(in_use(&alice), json!(first.url()));
    first.go_down();
    eventually("the second to be in use", || in_use(&alice), |address| *address == json!(world.server()));
    alice.ready();
    alice.funded(&world, 80_000);
}

#[test]
fn a_server_of_another_network_is_not_used() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice");
    alice.start();
    alice.ready();
    alice.stop();
    // The same server, seen by a node of signet.
    let folder = world.folder().join("signet");
    std::fs::create_dir_all(&folder).expect("the test's own folder");
    let mut other = Daemon::new(&world, "signet");
    let text = format!("network = \"signet\"\n[[server]]\nurl = \"{}\"\n[node]\nlisten = []\n", world.server());
    std::fs::write(folder.join("lightnode.toml"), text).expect("the test's own folder");
    other.start();
    let status = eventually(
        "the server to be refused",
        || other.answering(),
        |status| status["servers"][0]["trouble"].as_str().is_some_and(|words| words.contains("network")),
    );
    assert_ne!(status["state"], "ready", "{status}");
}

#[test]
pub(crate) fn channels_work_on_after_the_server_was_away() {
    let mut world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    world.stop_servers();
    // Paying needs no server.
    pay(&alice, &bob, 30_000);
    world.bitcoind.mine(2);
    world.start_servers();
    alice.ready();
    alice.at_height(world.bitcoind.height());
    alice.usable(1);
    pay(&bob, &alice, 10_000);
}

#[test]
pub(crate) fn a_node_that_starts_without_any_server_shows_what_it_has_and_goes_on_when_one_comes() {
    let mut world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    let (invoice, before) = (bob.invoice("30000"), alice.balance("onchain_confirmed_sat"));
    alice.stop();
    world.stop_servers();
    alice.start();
    let status = eventually("alice to be up", || alice.answering(), |status| status["state"] == "syncing");
    assert!(status["waits_for"][0].as_str().expect("words").contains("server"), "{status}");
    assert_eq!(status["tip"]["height"], world.bitcoind.height());
    assert_eq!(alice.balance("onchain_confirmed_sat"), before);
    assert_eq!(alice.json(&["channels"])[0]["capacity_sat"], CHANNEL);
    // A channel could have been closed meanwhile: nothing is done with it before the chain was looked at.
    let early = alice.run(&["pay", &invoice]);
    assert_eq!(early.code, 3, "{early:?}");
    world.start_servers();
    alice.ready();
    alice.usable(1);
    assert_eq!(alice.json(&["pay", &invoice])["status"], "succeeded");
}

#[test]
fn a_block_with_nothing_of_ours_is_not_asked_about() {
    let world = World::new();
    let proxy = world.proxy();
    let alice = Daemon::with_servers(&world, "alice", &[proxy.url()]).started();
    alice.funded(&world, 50_000);
    let mark = proxy.mark();
    world.bitcoind.mine(1);
    alice.at_height(world.bitcoind.height());
    alice.ready();
    let asked = proxy.since(mark).counts();
    let about_fees = |method: &String| ["fee", "mempool"].iter().any(|word| method.contains(word));
    assert!(asked.keys().all(about_fees), "{asked:?}");
}

fn in_use(node: &Daemon) -> serde_json::Value {
    let status = node.json(&["status"]);
    let servers = status["servers"].as_array().expect("a list").iter();
    servers
        .filter(|server| server["role"] == "in_use")
        .map(|server| server["address"].clone())
        .next()
        .unwrap_or(json!(null))
}
