//! One server that lies: nothing of it is believed, it is banned with the reason, and the next one serves.

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use serde_json::{Value, json};

use crate::support::adversary::script;
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::forge::announces_no_work;
use crate::support::proxy::{Proxy, Verdict};
use crate::support::transcript::{Entry, Kind};
use crate::support::world::World;

#[test]
fn a_deposit_that_is_said_to_be_in_a_block_without_proof_is_not_credited() {
    let world = World::new();
    let (liar, mut alice) = served_by_a_liar(&world);
    let height = world.bitcoind.height();
    liar.set_rule(move |line: &Entry| match (line.kind, line.method.as_str()) {
        (Kind::Reply, "blockchain.scripthash.get_history") => bent(line, |history| {
            for item in history.as_array_mut().expect("a list") {
                item["height"] = json!(height);
            }
        }),
        (Kind::Reply, "blockchain.transaction.get_merkle") => Verdict::Replace(json!({
            "jsonrpc": "2.0",
            "id": line.id,
            "result": { "block_height": height, "merkle": ["5a".repeat(32)], "pos": 1 },
        })),
        _ => Verdict::Forward,
    });
    let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
    banned(&world, &alice, "it sent a proof that does not prove what it says");
    // The honest one knows it as pending, and that is all it was ever taken for.
    alice.entry(&txid, "pending");
    assert_eq!(alice.balance("onchain_confirmed_sat"), 0);
    alice.balance_is("onchain_pending_sat", 70_000);

    // A ban is remembered.
    alice.kill();
    alice.start();
    alice.ready();
    banned(&world, &alice, "it sent a proof that does not prove what it says");
}

#[test]
fn a_proof_of_another_place_in_the_block_is_refused_and_the_truth_found_elsewhere() {
    let world = World::new();
    let (liar, alice) = served_by_a_liar(&world);
    liar.set_rule(|line: &Entry| match (line.kind, line.method.as_str()) {
        (Kind::Reply, "blockchain.transaction.get_merkle") => {
            bent(line, |proof| proof["merkle"][0] = json!("5a".repeat(32)))
        }
        _ => Verdict::Forward,
    });
    let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
    world.bitcoind.mine(1);
    banned(&world, &alice, "it sent a proof that does not prove what it says");
    alice.balance_is("onchain_confirmed_sat", 70_000);
    assert_eq!(alice.entry(&txid, "succeeded")["height"], world.bitcoind.height());
}

#[test]
fn another_transaction_than_asked_for_is_refused_and_never_shown_as_a_deposit() {
    let world = World::new();
    let (liar, alice) = served_by_a_liar(&world);
    liar.set_rule(|line: &Entry| match (line.kind, line.method.as_str()) {
        // The same one, with a hundred times the money.
        (Kind::Reply, "blockchain.transaction.get") => bent(line, |body| {
            let mut tx: Transaction = deserialize_hex(body.as_str().expect("hex")).expect("a transaction");
            tx.output.iter_mut().for_each(|output| output.value *= 100);
            *body = json!(serialize_hex(&tx));
        }),
        _ => Verdict::Forward,
    });
    let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
    banned(&world, &alice, "it sent another transaction than asked for");
    alice.balance_is("onchain_pending_sat", 70_000);
    assert_eq!(alice.entry(&txid, "pending")["amount_msat"], 70_000_000);
    let history = alice.json(&["history"]);
    assert_eq!(history["entries"].as_array().expect("entries").len(), 1, "{history}");
}

#[test]
fn a_header_without_work_is_refused_and_the_chain_followed_elsewhere() {
    let world = World::new();
    let (liar, alice) = served_by_a_liar(&world);
    liar.set_rule(script([announces_no_work()]));
    world.bitcoind.mine(1);
    banned(&world, &alice, "it sent a header that breaks the rules of the network");
    alice.at_height(world.bitcoind.height());
    assert_eq!(alice.json(&["status"])["tip"]["hash"], json!(world.bitcoind.best_hash()));
}

#[test]
fn a_history_that_forgets_a_proven_deposit_takes_nothing_away_and_is_said() {
    let world = World::new();
    let forgetful = world.proxy();
    let alice = Daemon::with_servers(&world, "alice", &[forgetful.url()]).started();
    alice.funded(&world, 70_000);
    // From now on it knows of nothing, of no script.
    forgetful.set_rule(|line: &Entry| match (line.kind, line.method.as_str()) {
        (Kind::Reply, "blockchain.scripthash.subscribe") => bent(line, |status| *status = Value::Null),
        (Kind::Reply, "blockchain.scripthash.get_history") => bent(line, |history| *history = json!([])),
        _ => Verdict::Forward,
    });
    forgetful.close_connections();
    let status = eventually(
        "the gap to be told",
        || alice.answering(),
        |status| status["state"] == "degraded" && status["servers"][0]["role"] == "in_use",
    );
    assert!(status["why"].as_str().expect("words").contains("no server serves 1 of"), "{status}");
    world.bitcoind.mine(1);
    alice.at_height(world.bitcoind.height());
    assert_eq!(alice.balance("onchain_confirmed_sat"), 70_000);
    assert_eq!(alice.balance("onchain_pending_sat"), 0);
}

/// Alice's wallet is served by the proxy, since she knew no other server at first, and could be by ElectrumX under another
/// name: a ban is of a host.
fn served_by_a_liar(world: &World) -> (Proxy, Daemon) {
    let liar = world.proxy();
    let mut alice = Daemon::with_servers(world, "alice", &[liar.url()]).started();
    alice.stop();
    alice.configure(&[liar.url(), honest(world)], "");
    alice.start();
    alice.ready();
    let duties = || alice.json(&["servers"])[0]["duties"].clone();
    eventually("the liar to serve the wallet", duties, |duties| duties.to_string().contains("wallet"));
    (liar, alice)
}

fn honest(world: &World) -> String {
    format!("tcp://localhost:{}", world.electrumx.tcp().port())
}

/// The reply, with its result bent.
fn bent(line: &Entry, bend: impl FnOnce(&mut Value)) -> Verdict {
    let mut body = line.body.clone();
    bend(&mut body["result"]);
    Verdict::Replace(body)
}

/// Waits until the first server is banned for this reason and the second one serves.
fn banned(world: &World, node: &Daemon, why: &str) {
    let status = eventually(
        "the liar to be banned and the honest one in use",
        || node.answering(),
        |status| status["servers"][0]["role"] == "banned" && status["servers"][1]["role"] == "in_use",
    );
    assert_eq!(status["servers"][0]["trouble"], why, "{status}");
    assert_eq!(status["servers"][1]["address"], json!(honest(world)));
    node.ready();
}
