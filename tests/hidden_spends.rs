//! Servers that keep something back, or show it and take it away: what one of them proves is told, and what none of them
//! says changes nothing.
//!
//! Rows 1, 2, 11, 12, 16 and 19 of the table of threats: three servers, of which one or two misbehave.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use serde_json::{Value, json};

use crate::support::adversary::{Adversary, Clause, on};
use crate::support::daemon::Daemon;
use crate::support::eventually::{eventually, throughout};
use crate::support::listening::Listening;
use crate::support::recorder::Call;
use crate::support::scenes::{DEPOSIT, in_mempool, mine_until, open, punished, revoked_commitment};
use crate::support::watched::Watched;
use crate::support::world::{A_WHILE, World};

/// What a server does with the history of a script.
type Hiding = fn(&ScriptBuf) -> Vec<Clause>;

#[test]
fn a_spend_that_two_of_three_servers_hide_is_told_on_the_thirds_proof() {
    let world = World::new();
    for honest in 0..3 {
        let watched = Watched::new(&world);
        let (servers, listening) = listening(&world, &format!("honest-{honest}"), &watched);
        for (_, server) in servers.iter().enumerate().filter(|(at, _)| *at != honest) {
            server.hides(&watched.script, watched.height + 1);
        }
        let spend = watched.spend(&world);
        world.mine(1);
        listening.hears_of(spend, world.bitcoind.height());
        assert!(!unconfirms(&listening), "{:?}", listening.calls());
    }
}

#[test]
fn a_spend_that_was_hidden_while_we_were_away_is_told_after_the_start() {
    let world = World::new();
    let watched = Watched::new(&world);
    let (servers, first) = listening(&world, "alice", &watched);
    drop(first);
    let spend = watched.spend(&world);
    world.mine(3);
    servers[..2].iter().for_each(|server| server.hides(&watched.script, watched.height + 1));
    let urls = servers.each_ref().map(|server| server.url());
    let again = Listening::start(&world.folder().join("alice"), &urls, &[&watched]);
    again.hears_of(spend, watched.height + 1);
}

#[test]
fn a_history_that_is_emptied_refused_or_nulled_takes_nothing_back_and_hides_nothing() {
    let world = World::new();
    let bad: [(&str, Hiding); 4] = [
        ("empty", |script| {
            vec![
                on("blockchain.scripthash.subscribe").about(script).answers(Value::Null),
                on("blockchain.scripthash.get_history").about(script).answers(json!([])),
            ]
        }),
        ("null", |script| vec![on("blockchain.scripthash.get_history").about(script).answers(Value::Null)]),
        ("refused", |script| {
            vec![
                on("blockchain.scripthash.subscribe").about(script).fails(-32600, "history too large"),
                on("blockchain.scripthash.get_history").about(script).fails(1, "history too large"),
            ]
        }),
        ("flooded", |script| {
            vec![on("blockchain.scripthash.get_history").about(script).tampers(|history| {
                let many = (0..30_000).map(|n| json!({ "tx_hash": format!("{n:064x}"), "height": 1 }));
                *history = many.collect();
            })]
        }),
    ];
    for (name, clauses) in bad {
        let watched = Watched::new(&world);
        let (servers, listening) = listening(&world, name, &watched);
        for server in &servers[..2] {
            server.does(clauses(&watched.script));
            server.close_connections();
        }
        let spend = watched.spend(&world);
        world.mine(1);
        listening.hears_of(spend, world.bitcoind.height());
        listening.at(world.bitcoind.best_hash());
        assert!(!unconfirms(&listening), "{name}: {:?}", listening.calls());
        assert!(servers[0].transcript().requests().count() < 400, "{name}: {:?}", servers[0].transcript().counts());
    }
}

#[test]
fn an_unconfirmed_deposit_that_is_shown_and_taken_away_is_never_counted_as_ours() {
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let alice = Daemon::with_servers(&world, "alice", &urls).started();
    let address = alice.address();
    let txid = world.pay(&address, 70_000);
    alice.balance_is("onchain_pending_sat", 70_000);
    assert_eq!(alice.balance("onchain_confirmed_sat"), 0);
    // All of them: whoever serves the wallet hides it again, and no coin of it may be spent meanwhile.
    for server in &servers {
        server.does([
            on("blockchain.scripthash.subscribe").answers(Value::Null),
            on("blockchain.scripthash.get_history").tampers(without(txid.to_string())),
        ]);
        server.close_connections();
    }
    let refused = alice.run(&["send", &world.bitcoind.new_address(), "50000"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    servers.iter().for_each(Adversary::repents);
    servers.iter().for_each(|server| server.close_connections());
    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 70_000);
}

#[test]
fn a_transaction_that_two_of_three_servers_take_and_drop_reaches_the_network_by_the_third() {
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let alice = Daemon::with_servers(&world, "alice", &urls).started();
    alice.funded(&world, 100_000);
    servers[..2].iter().for_each(takes_and_drops);
    let sent = alice.json(&["send", &world.bitcoind.new_address(), "50000"]);
    in_mempool(&world, sent["txid"].as_str().expect("a txid"));
}

#[test]
fn a_transaction_that_every_server_takes_and_drops_is_sent_again_with_the_next_block() {
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let alice = Daemon::with_servers(&world, "alice", &urls).started();
    alice.funded(&world, 100_000);
    servers.iter().for_each(takes_and_drops);
    let sent = alice.json(&["send", &world.bitcoind.new_address(), "50000"]);
    throughout(A_WHILE, "nobody has it", || world.bitcoind.mempool().is_empty());
    servers.iter().for_each(Adversary::repents);
    world.bitcoind.mine(1);
    in_mempool(&world, sent["txid"].as_str().expect("a txid"));
}

#[test]
fn another_body_from_one_of_three_servers_bans_it_and_the_true_one_is_told() {
    let world = World::new();
    let watched = Watched::new(&world);
    let (servers, listening) = listening(&world, "alice", &watched);
    servers[0].does([on("blockchain.transaction.get").tampers(|body| {
        let mut tx: Transaction = deserialize_hex(body.as_str().expect("hex")).expect("a transaction");
        tx.output.iter_mut().for_each(|output| output.value *= 2);
        *body = json!(serialize_hex(&tx));
    })]);
    // Nobody else answers before it did.
    let spend = watched.spend(&world);
    world.mine(1);
    listening.hears_of(spend, world.bitcoind.height());
    let confirmed = listening.calls().iter().filter(|call| matches!(call, Call::Confirmed(..))).count();
    assert_eq!(confirmed, 2, "{:?}", listening.calls());
}

#[test]
fn a_server_that_hangs_up_after_each_subscription_is_left_alone_longer_and_longer() {
    let world = World::new();
    let watched = Watched::new(&world);
    let (servers, listening) = listening(&world, "alice", &watched);
    servers[0].does([on("blockchain.scripthash.subscribe").hangs_up()]);
    servers[0].close_connections();
    let before = servers[0].accepted();
    let spend = watched.spend(&world);
    world.mine(1);
    listening.hears_of(spend, world.bitcoind.height());
    eventually("a second try", || servers[0].accepted(), |accepted| *accepted >= before + 2);
    // 1 s, 2 s, 4 s …: what was heard by now fits into a few tries.
    assert!(servers[0].accepted() <= before + 8, "{} tries", servers[0].accepted() - before);
    let watched = Watched::new(&world);
    listening.follow(&watched);
    listening.hears_of(watched.outpoint.txid, watched.height);
}

#[test]
fn a_revoked_commitment_that_two_of_three_servers_hide_is_punished_within_one_block_of_the_thirds_word() {
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let (mut alice, mut bob) =
        (Daemon::with_servers(&world, "alice", &urls).started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    bob.funded(&world, 100_000);
    open(&world, &alice, &bob, &[]);
    let script = funding_script(&world, &alice);
    let revoked = revoked_commitment(&world, &mut alice, &mut bob);
    servers[..2].iter().for_each(|server| server.hides(&script, world.bitcoind.height() + 1));
    alice.start();
    alice.ready();
    world.bitcoind.mine_exactly(&[revoked]);
    // No block comes in between.
    punished(&world, revoked);
    mine_until(&world, 30, &[&alice], || alice.balance("onchain_confirmed_sat") > DEPOSIT - 20_000);
    alice.without_channels();
}

fn funding_script(world: &World, node: &Daemon) -> ScriptBuf {
    let funding = node.json(&["channels"])[0]["funding"].as_str().expect("an outpoint").to_owned();
    let OutPoint { txid, vout } = funding.parse().expect("an outpoint");
    world.bitcoind.raw_tx(txid).output[vout as usize].script_pubkey.clone()
}

/// Three servers, and an engine that has heard from them of the output.
fn listening(world: &World, name: &str, watched: &Watched) -> ([Adversary; 3], Listening) {
    let servers: [Adversary; 3] = Adversary::several(world);
    let urls = servers.each_ref().map(|server| server.url());
    let listening = Listening::start(&world.folder().join(name), &urls, &[watched]);
    listening.hears_of(watched.outpoint.txid, watched.height);
    listening.at(world.bitcoind.best_hash());
    (servers, listening)
}

fn unconfirms(listening: &Listening) -> bool {
    listening.calls().iter().any(|call| matches!(call, Call::Unconfirmed(_)))
}

fn without(txid: String) -> impl FnMut(&mut Value) + Send + 'static {
    move |history| {
        if let Some(items) = history.as_array_mut() {
            items.retain(|item| item["tx_hash"] != json!(txid));
        }
    }
}

/// Says "ok" to every transaction, and gives none to the network.
fn takes_and_drops(server: &Adversary) {
    server.does([
        on("blockchain.transaction.broadcast").asked().becomes("server.ping", json!([])),
        on("blockchain.transaction.broadcast").answers(json!("00".repeat(32))),
        on("blockchain.transaction.broadcast_package").asked().becomes("server.ping", json!([])),
        on("blockchain.transaction.broadcast_package").answers(json!({ "success": true })),
    ]);
}
