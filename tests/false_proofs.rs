//! Proofs that prove nothing: of 64 bytes, which are two nodes or a transaction; of nodes shown as transactions; at places
//! that no block has.
//!
//! Row 5 of the table of threats: three servers, of which one or two misbehave, or a miner does.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, transaction};
use lightnode::engine::EngineState;
use lightnode::source::pool::Role;
use serde_json::{Value, json};

use crate::support::adversary::{Adversary, Clause, on};
use crate::support::listening::Listening;
use crate::support::proxy::Gate;
use crate::support::recorder::Call;
use crate::support::watched::Watched;
use crate::support::world::{Kind, World, with};

const GET: &str = "blockchain.transaction.get";
const PROOF: &str = "blockchain.transaction.get_merkle";
const FIRST: &str = "blockchain.transaction.id_from_pos";

#[test]
fn a_mined_transaction_of_64_bytes_is_told_for_one_question_more_and_costs_no_server_its_place() {
    let world = World::new();
    let (watched, other) = (Watched::new(&world), Watched::new(&world));
    let servers: [Adversary; 3] = Adversary::several(&world);
    let listening = listening(&world, &servers, &[&watched, &other]);
    listening.hears_of(watched.outpoint.txid, watched.height);

    let odd = mined_of_64_bytes(&world, &watched);
    listening.hears_of(odd, world.bitcoind.height());
    listening.at(world.bitcoind.best_hash());
    let state = listening.state();
    assert!(state.degraded.is_empty() && (0..3).all(|at| !is_banned(&state, at)), "{state:?}");
    for server in &servers {
        let asked = server.transcript().counts();
        assert!(asked.get(FIRST).is_none_or(|times| *times == 1), "{asked:?}");
    }
    // Everything else goes on, and nothing more is asked.
    let spend = other.spend(&world);
    world.mine(1);
    listening.hears_of(spend, world.bitcoind.height());
    listening.at(world.bitcoind.best_hash());
    let firsts = |server: &Adversary| server.transcript().counts().get(FIRST).copied().unwrap_or(0);
    assert!((1..=3).contains(&servers.iter().map(firsts).sum::<usize>()));
}

#[test]
fn a_mined_transaction_of_64_bytes_is_told_where_an_esplora_server_is_the_only_one() {
    with(Kind::Esplora, || {
        let world = World::new();
        let watched = Watched::new(&world);
        let listening = Listening::start(&world.folder().join("listening"), &[world.server()], &[&watched]);
        listening.hears_of(watched.outpoint.txid, watched.height);
        let odd = mined_of_64_bytes(&world, &watched);
        listening.hears_of(odd, world.bitcoind.height());
        listening.at(world.bitcoind.best_hash());
    });
}

#[test]
fn two_servers_that_show_another_coinbase_are_banned_and_the_third_one_decides() {
    let world = World::new();
    let watched = Watched::new(&world);
    let odd = mined_of_64_bytes(&world, &watched);
    let height = world.bitcoind.height();
    world.mine(8);
    let servers: [Adversary; 3] = Adversary::several(&world);
    for server in &servers[..2] {
        server.does([on(FIRST).tampers(|first| first["merkle"][0] = json!("5a".repeat(32)))]);
    }
    // What the honest one shows first, the others are not asked for.
    let gate = Gate::closed();
    servers[2].does([on(PROOF).waits_for(&gate)]);
    let listening = listening(&world, &servers, &[&watched]);
    let state = listening.until("both to be banned", |state| is_banned(state, 0) && is_banned(state, 1));
    assert!(!is_banned(&state, 2), "{state:?}");
    assert!(!is_told(&listening, odd), "{:?}", listening.calls());
    gate.open();
    listening.hears_of(odd, height);
}

#[test]
fn an_invented_transaction_of_64_bytes_bans_its_server_and_is_told_to_nobody() {
    let world = World::new();
    let watched = Watched::new(&world);
    world.mine(8);
    let servers: [Adversary; 3] = Adversary::several(&world);
    let odd = of_64_bytes(&world, watched.outpoint);
    let (txid, height) = (odd.compute_txid(), watched.height + 1);
    let proof = json!({ "block_height": height, "merkle": ["5a".repeat(32)], "pos": 0 });
    let invented = [Adversary::invents(GET, txid, json!(serialize_hex(&odd))), Adversary::invents(PROOF, txid, proof)];
    servers[0].does(listed(&watched, txid, height).into_iter().chain(invented.into_iter().flatten()));
    let listening = listening(&world, &servers, &[&watched]);
    let state = listening.until("the liar to be banned", |state| is_banned(state, 0));
    assert!(!is_banned(&state, 1) && !is_banned(&state, 2), "{state:?}");
    listening.hears_of(watched.outpoint.txid, watched.height);
    listening.at(world.bitcoind.best_hash());
    assert!(!is_told(&listening, txid), "{:?}", listening.calls());
    assert!(servers[0].transcript().requests().count() < 60, "{:?}", servers[0].transcript().counts());
}

#[test]
fn an_inner_node_that_is_shown_as_a_transaction_is_told_to_nobody_and_the_others_serve() {
    let world = World::new();
    let watched = Watched::new(&world);
    world.mine(8);
    let servers: [Adversary; 3] = Adversary::several(&world);
    // The root of its block: its proof is the shortest, and leads to our header.
    let block = world.bitcoind.block(world.bitcoind.hash_at(watched.height));
    assert_eq!(block.txdata.len(), 2);
    let pair: String = block.txdata.iter().map(|tx| serialize_hex(&tx.compute_txid())).collect();
    let node = Txid::from_byte_array(block.header.merkle_root.to_byte_array());
    let proof = json!({ "block_height": watched.height, "merkle": [], "pos": 0 });
    let invented = [Adversary::invents(GET, node, json!(pair)), Adversary::invents(PROOF, node, proof)];
    let listed = listed(&watched, node, watched.height);
    servers[0].does(listed.into_iter().chain(invented.into_iter().flatten()));
    let listening = listening(&world, &servers, &[&watched]);
    listening.hears_of(watched.outpoint.txid, watched.height);
    let state = listening.until("it to be passed over", |state| state.servers[0].demoted || is_banned(state, 0));
    assert!(state.degraded.is_empty() && !is_banned(&state, 1) && !is_banned(&state, 2), "{state:?}");
    let spend = watched.spend(&world);
    world.mine(1);
    listening.hears_of(spend, world.bitcoind.height());
    assert!(!is_told(&listening, node), "{:?}", listening.calls());
    assert!(servers[0].transcript().requests().count() < 60, "{:?}", servers[0].transcript().counts());
}

#[test]
fn two_servers_with_impossible_places_are_banned_and_the_third_proves() {
    let world = World::new();
    for (at, pos) in [json!(1u64 << 24), json!(u32::MAX), json!(1u64 << 40)].into_iter().enumerate() {
        let watched = Watched::new(&world);
        let servers: [Adversary; 3] = Adversary::several(&world);
        for server in &servers[..2] {
            let pos = pos.clone();
            server.does([on(PROOF).tampers(move |proof| proof["pos"] = pos.clone())]);
        }
        // What the honest one proves first, the others are not asked for.
        let gate = Gate::closed();
        servers[2].does([on(PROOF).waits_for(&gate)]);
        let urls = servers.each_ref().map(|server| server.url());
        let folder = world.folder().join(format!("listening-{at}"));
        let listening = Listening::start(&folder, &urls, &[&watched]);
        let state = listening.until("both to be banned", |state| is_banned(state, 0) && is_banned(state, 1));
        assert!(!is_banned(&state, 2), "{pos}: {state:?}");
        assert!(!is_told(&listening, watched.outpoint.txid), "{pos}: {:?}", listening.calls());
        gate.open();
        listening.hears_of(watched.outpoint.txid, watched.height);
        for server in &servers[..2] {
            let asked = server.transcript().counts();
            assert_eq!(asked.get(PROOF), Some(&1), "{pos}: {asked:?}");
        }
    }
}

/// A block with a spend of this that is as long as two nodes; a miner takes what nobody relays.
fn mined_of_64_bytes(world: &World, watched: &Watched) -> Txid {
    let odd = of_64_bytes(world, watched.outpoint);
    let to = json!(world.bitcoind.new_address());
    let _: Value = world.bitcoind.call("generateblock", &[to, json!([serialize_hex(&odd)])]);
    world.sync();
    odd.compute_txid()
}

/// A transaction as long as two nodes, signed, that spends this output of the miner's wallet.
fn of_64_bytes(world: &World, from: OutPoint) -> Transaction {
    let input =
        TxIn { previous_output: from, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness: Witness::new() };
    // Pay to anchor, the shortest script that anybody would use.
    let output =
        TxOut { value: Amount::from_sat(90_000), script_pubkey: ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]) };
    let tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    let signed: Value = world.bitcoind.call("signrawtransactionwithwallet", &[json!(serialize_hex(&tx))]);
    let signed: Transaction = deserialize_hex(signed["hex"].as_str().expect("hex")).expect("bitcoind's own encoding");
    assert_eq!((signed.base_size(), signed.compute_txid()), (64, tx.compute_txid()));
    signed
}

/// Its history of the script has one more entry, and a status to match.
fn listed(watched: &Watched, txid: Txid, height: u32) -> Vec<Clause> {
    let entry = json!({ "tx_hash": txid.to_string(), "height": height });
    let adds = move |history: &mut Value| history.as_array_mut().expect("a list").push(entry.clone());
    vec![
        on("blockchain.scripthash.subscribe").about(&watched.script).answers(json!("5a".repeat(32))),
        on("blockchain.scripthash.get_history").about(&watched.script).tampers(adds),
    ]
}

fn listening(world: &World, servers: &[Adversary; 3], watched: &[&Watched]) -> Listening {
    let urls = servers.each_ref().map(|server| server.url());
    Listening::start(&world.folder().join("listening"), &urls, watched)
}

fn is_banned(state: &EngineState, server: usize) -> bool {
    matches!(state.servers[server].role, Role::Banned { .. })
}

fn is_told(listening: &Listening, txid: Txid) -> bool {
    let named = |call: &Call| match call {
        Call::Confirmed(_, txs) => txs.iter().any(|(_, told)| *told == txid),
        Call::Unconfirmed(_) | Call::Tip(_) => false,
    };
    listening.calls().iter().any(named)
}
