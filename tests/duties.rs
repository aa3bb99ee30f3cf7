//! Several servers: who is told which scripts, who is banned, and what comes of it.

use std::collections::BTreeSet;

use bitcoin::Address;
use bitcoin::consensus::encode::serialize_hex;
use serde_json::json;

use crate::support::adversary::script;
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::forge::announces_no_work;
use crate::support::probe::script_hash;
use crate::support::proxy::Proxy;
use crate::support::scenes::{DEPOSIT, open};
use crate::support::world::World;

#[test]
fn channel_scripts_are_told_to_three_servers_and_the_wallets_to_a_fourth_also_after_a_restart() {
    let world = World::new();
    let servers = servers(&world, 5);
    let mut alice = Daemon::with_servers(&world, "alice", &urls(&servers)).started();
    let bob = Daemon::new(&world, "bob").started();
    let address = alice.address();
    alice.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &[]);
    let deposit = script_hash(&of(&address));
    let funding = alice.channels("usable")[0]["funding"].as_str().expect("an outpoint").to_owned();
    let (txid, vout) = funding.split_once(':').expect("an outpoint");
    let funding_tx = world.bitcoind.raw_tx(txid.parse().expect("a txid"));
    let channel = script_hash(&funding_tx.output[vout.parse::<usize>().expect("a number")].script_pubkey);

    let told = |script: &String, marks: &[usize]| -> Vec<usize> {
        (0..servers.len()).filter(|at| asked(&servers[*at], marks[*at]).contains(script)).collect()
    };
    let from_the_start = [0; 5];
    let home = told(&deposit, &from_the_start);
    let watchers = told(&channel, &from_the_start);
    assert_eq!((home.len(), watchers.len()), (1, 3), "{home:?} {watchers:?}");
    assert!(!watchers.contains(&home[0]), "{home:?} {watchers:?}");
    // `servers` says the same.
    let shown = alice.json(&["servers"]);
    for (at, server) in shown.as_array().expect("a list").iter().enumerate() {
        let duties = server["duties"].as_array().expect("a list");
        assert_eq!(duties.contains(&json!("wallet")), home.contains(&at), "{shown}");
        assert_eq!(duties.contains(&json!("channels")), watchers.contains(&at), "{shown}");
        assert_eq!(server["protection"], "clear");
    }
    // Everybody got the funding transaction.
    for server in &servers {
        let transcript = server.transcript();
        let sent = transcript.requests().filter(|line| line.method.starts_with("blockchain.transaction.broadcast"));
        assert!(sent.map(|line| line.params.to_string()).any(|params| params.contains(&serialize_hex(&funding_tx))));
    }

    // The wallet's server stays the same, and nobody else learns its scripts.
    alice.stop();
    let marks: Vec<usize> = servers.iter().map(Proxy::mark).collect();
    alice.start();
    alice.ready();
    eventually("the wallet's server to be asked", || told(&deposit, &marks), |told| !told.is_empty());
    assert_eq!(told(&deposit, &marks), home);
    eventually("three to watch the channel", || told(&channel, &marks).len(), |number| *number == 3);
    assert!(!told(&channel, &marks).contains(&home[0]));
}

#[test]
fn a_ban_outlives_a_restart_and_ends_with_forgiveness() {
    let world = World::new();
    let servers = servers(&world, 2);
    servers[0].set_rule(script([announces_no_work()]));
    let mut alice = Daemon::with_servers(&world, "alice", &urls(&servers)).started();
    world.bitcoind.mine(1);
    let role = |alice: &Daemon| alice.json(&["servers"])[0]["role"].clone();
    eventually("the liar to be banned", || role(&alice), |role| role == "banned");
    servers[0].clear_rule();

    alice.kill();
    alice.start();
    alice.ready();
    let banned = alice.json(&["servers"])[0].clone();
    assert_eq!(banned["role"], "banned");
    assert_eq!(banned["ban"]["reason"], "it sent a header that breaks the rules of the network");
    let month = banned["ban"]["until"].as_u64().expect("a time");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    assert!((now + 29 * 86_400..now + 31 * 86_400).contains(&month), "{banned}");

    assert_eq!(alice.run(&["servers", "forgive", "127.77.0.1"]).code, 1);
    let host = servers[0].address().ip().to_string();
    assert!(alice.json(&["servers", "forgive", &host])["done"].as_str().is_some_and(|done| done.contains(&host)));
    eventually("it to be used again", || role(&alice), |role| role == "in_use");
    alice.kill();
    alice.start();
    alice.ready();
    eventually("it to be used from the start", || role(&alice), |role| role == "in_use");
}

#[test]
fn status_says_how_far_behind_the_least_covered_channel_is() {
    let world = World::new();
    let servers = servers(&world, 4);
    let alice = Daemon::with_servers(&world, "alice", &urls(&servers)).started();
    let bob = Daemon::new(&world, "bob").started();
    alice.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &[]);
    let behind = || alice.json(&["status"])["least_covered"]["behind"].clone();
    eventually("all to be told", behind, |blocks| *blocks == json!(0));
    // The watchers fall silent; the fourth still tells headers.
    let shown = alice.json(&["servers"]);
    let watchers: Vec<&Proxy> = servers
        .iter()
        .zip(shown.as_array().expect("a list"))
        .filter(|(_, server)| server["duties"].as_array().is_some_and(|duties| duties.contains(&json!("channels"))))
        .map(|(proxy, _)| proxy)
        .collect();
    assert_eq!(watchers.len(), 3, "{shown}");
    watchers.iter().for_each(|proxy| proxy.hold());
    world.bitcoind.mine(2);
    eventually("two blocks behind", behind, |blocks| *blocks == json!(2));
    watchers.iter().for_each(|proxy| proxy.release());
    eventually("all to be told again", behind, |blocks| *blocks == json!(0));
    alice.at_height(world.bitcoind.height());
}

/// So many servers, each of another host and network, in front of one ElectrumX.
fn servers(world: &World, number: u8) -> Vec<Proxy> {
    (1..=number).map(|at| Proxy::start_at(&format!("127.{at}.0.1"), world.electrumx.tcp())).collect()
}

fn urls(servers: &[Proxy]) -> Vec<String> {
    servers.iter().map(Proxy::url).collect()
}

/// The scripts that a server was asked about since then.
fn asked(server: &Proxy, mark: usize) -> BTreeSet<String> {
    let since = server.since(mark);
    let about = since.requests().filter(|line| line.method.starts_with("blockchain.scripthash."));
    about.filter_map(|line| line.params[0].as_str().map(str::to_owned)).collect()
}

fn of(address: &str) -> bitcoin::ScriptBuf {
    let address: Address<_> = address.parse().expect("an address");
    address.assume_checked().script_pubkey()
}
