//! `chain audit`: what LDK's own engine makes of another server, beside what is proven here.

use std::io::Write;
use std::net::TcpListener;

use bitcoin::Txid;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Ran};
use crate::support::electrumx::ElectrumX;
use crate::support::eventually::eventually;
use crate::support::probe::Probe;
use crate::support::proxy::{Proxy, Verdict};
use crate::support::scenes::{close_by_force, two_nodes_with_a_channel};
use crate::support::transcript::{Entry, Kind};
use crate::support::world::World;

fn audit(node: &Daemon, server: &str) -> Ran {
    node.run(&["chain", "audit", "--server", server])
}

/// The reply with another result.
fn bent(line: &Entry, result: Value) -> Verdict {
    Verdict::Replace(json!({ "jsonrpc": "2.0", "id": line.id, "result": result }))
}

/// A closed channel of alice, and a server in front of which somebody may lie: her funding, and what spent it.
struct Scene {
    alice: Daemon,
    bob: Daemon,
    liar: Proxy,
    server: ElectrumX,
    funding: Txid,
    close: Txid,
    world: World,
}

fn closed_channel() -> Scene {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let close = close_by_force(&world, &alice);
    let funding = world.bitcoind.raw_tx(close).input[0].previous_output.txid;
    world.bitcoind.mine(1);
    alice.at_height(world.bitcoind.height());
    let server = world.old_electrumx();
    let liar = Proxy::start(server.tcp());
    Scene { alice, bob, liar, server, funding, close, world }
}

#[test]
fn on_an_honest_server_ldks_own_engine_agrees_and_the_last_result_is_kept() {
    let Scene { mut alice, bob: _bob, liar, server: _server, world, .. } = closed_channel();
    let none = alice.run(&["chain", "audit", "--last"]);
    assert_eq!(none.code, 1, "{none:?}");
    let ran = audit(&alice, &liar.url());
    assert_eq!(ran.code, 0, "{ran:?}");
    let seen = ran.json();
    assert_eq!(
        (&seen["verdict"], &seen["server"], &seen["serves_us"]),
        (&json!("agrees"), &json!(liar.url()), &json!(false))
    );
    assert_eq!((&seen["ours"], &seen["ours"]["height"]), (&seen["theirs"], &json!(world.bitcoind.height())));
    assert!(seen["compared"].as_u64() >= Some(2), "funding and close: {seen}");
    assert!(alice.json(&["status"])["audit"].is_null());

    alice.stop();
    alice.start();
    alice.ready();
    let last = alice.run(&["chain", "audit", "--last"]);
    assert_eq!((last.code, last.json()), (0, seen));
}

#[test]
fn a_hidden_spend_and_a_wrong_height_are_told_with_both_stories_and_change_nothing() {
    let Scene { alice, bob: _bob, liar, server, funding, close, world } = closed_channel();
    let before = alice.json(&["channels"]);

    let hidden = close.to_string();
    liar.set_rule(move |line: &Entry| match (line.kind, line.method.as_str()) {
        (Kind::Reply, "blockchain.scripthash.get_history") => {
            let mut history = line.body["result"].as_array().expect("a list").clone();
            history.retain(|item| item["tx_hash"] != hidden);
            bent(line, json!(history))
        }
        _ => Verdict::Forward,
    });
    let ran = audit(&alice, &liar.url());
    assert_eq!((ran.code, &ran.json()["verdict"]), (1, &json!("disagrees")), "{ran:?}");
    let found = ran.json()["disagreements"].as_array().expect("a list").clone();
    let of_close = found.iter().find(|one| one["txid"] == close.to_string()).expect("the close");
    assert_eq!((&of_close["ours"]["height"], &of_close["theirs"]), (&json!(world.bitcoind.height()), &Value::Null));
    let status = alice.json(&["status"]);
    assert!(status["audit"].as_str().is_some_and(|text| text.contains(&liar.url())), "{status}");

    // One block later than it is, with the header and the proof to go with it.
    let height = world.bitcoind.height() + 1 - world.bitcoind.confirmations(funding);
    let mut probe = Probe::connect(server.tcp());
    let proof = probe.call("blockchain.transaction.get_merkle", &json!([funding, height]));
    let header = probe.call("blockchain.block.header", &json!([height]));
    let moved = funding.to_string();
    liar.set_rule(move |line: &Entry| match (line.kind, line.method.as_str()) {
        (Kind::Reply, "blockchain.scripthash.get_history") => {
            let mut history = line.body["result"].as_array().expect("a list").clone();
            for item in history.iter_mut().filter(|item| item["tx_hash"] == moved) {
                item["height"] = json!(height + 1);
            }
            bent(line, json!(history))
        }
        (Kind::Reply, "blockchain.transaction.get_merkle") if line.params[0] == moved => {
            let mut proof = proof.clone();
            proof["block_height"] = json!(height + 1);
            bent(line, proof)
        }
        (Kind::Reply, "blockchain.block.header") if line.params[0] == height + 1 => bent(line, header.clone()),
        _ => Verdict::Forward,
    });
    let ran = audit(&alice, &liar.url());
    let found = ran.json()["disagreements"].clone();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{ran:?}");
    assert_eq!(found[0]["txid"], funding.to_string());
    assert_eq!((&found[0]["ours"]["height"], &found[0]["theirs"]["height"]), (&json!(height), &json!(height + 1)));

    assert_eq!(alice.json(&["channels"]), before);
    liar.clear_rule();
    assert_eq!(audit(&alice, &liar.url()).code, 0);
    assert!(alice.json(&["status"])["audit"].is_null());
}

#[test]
fn servers_that_ldks_client_cannot_speak_to_are_said_to_be_so() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let tls = format!("ssl://{}", world.electrumx.tls());
    let refused = "tcp://127.0.0.1:1".to_owned();
    for (server, why) in [
        (world.server(), "wants to hear `server.version` first, which LDK's client never says"),
        (tls, "certificate"),
        (refused, "cannot connect"),
        ("https://electrum.example.org/api".into(), "for Electrum servers only"),
    ] {
        let ran = audit(&alice, &server);
        assert_eq!((ran.code, &ran.json()["verdict"]), (1, &json!("no_opinion")), "{ran:?}");
        let none = &ran.json()["without_opinion"][0];
        assert_eq!(none["server"], server);
        assert!(none["why"].as_str().is_some_and(|text| text.contains(why)), "{server}: {none}");
    }
    let wrong = audit(&alice, "tcp://no port:x");
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[test]
fn replies_that_kill_ldks_client_do_not_kill_the_node() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    let pid = alice.process().pid();
    let server = world.old_electrumx();
    let killer = Proxy::start(server.tcp());
    for reply in [json!(7), json!([]), json!("x"), json!(true)] {
        let bad = reply.clone();
        killer.set_rule(move |line: &Entry| match line.kind {
            Kind::Reply => Verdict::Replace(bad.clone()),
            _ => Verdict::Forward,
        });
        let ran = audit(&alice, &killer.url());
        let why = ran.json()["without_opinion"][0]["why"].clone();
        assert!(why.as_str().is_some_and(|text| text.contains("died of what the server sent")), "{reply}: {ran:?}");
    }
    let ran = audit(&alice, &flood());
    let why = ran.json()["without_opinion"][0]["why"].clone();
    assert!(why.as_str().is_some_and(|text| text.contains("died of what the server sent")), "{ran:?}");
    alice.ready();
    assert_eq!(alice.process().pid(), pid);
}

/// A server that says one line without an end.
fn flood() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback interface");
    let url = format!("tcp://{}", listener.local_addr().expect("a bound socket"));
    std::thread::spawn(move || {
        let Ok((mut client, _)) = listener.accept() else { return };
        let dots = vec![b'.'; 1 << 20];
        while client.write_all(&dots).is_ok() {}
    });
    url
}

#[test]
fn the_clock_has_it_made_and_what_it_finds_is_in_status() {
    let Scene { mut alice, bob: _bob, liar, server: _server, close, world, .. } = closed_channel();
    alice.stop();
    let hidden = close.to_string();
    liar.set_rule(move |line: &Entry| match (line.kind, line.method.as_str()) {
        (Kind::Reply, "blockchain.scripthash.get_history") => {
            let mut history = line.body["result"].as_array().expect("a list").clone();
            history.retain(|item| item["tx_hash"] != hidden);
            bent(line, json!(history))
        }
        _ => Verdict::Forward,
    });
    alice.configure(&[world.server(), liar.url()], "[chain]\naudit_interval_secs = 1\n");
    alice.start();
    alice.ready();
    let there = |status: &Value| status["audit"].as_str().is_some_and(|text| text.contains("another story than"));
    eventually("what the audit found", || alice.json(&["status"]), there);
    let last = alice.run(&["chain", "audit", "--last"]);
    assert_eq!((last.code, &last.json()["verdict"]), (1, &json!("disagrees")));
    let log = alice.log();
    assert!(log.contains("LDK's own engine was told another story; nothing was done about it"), "{log}");
    assert!(log.contains(&close.to_string()));
}
