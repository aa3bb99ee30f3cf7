//! Transactions that are truly in the chain, with witnesses that are not: a txid does not commit to them, and LDK reads from
//! them how an HTLC ended.
//!
//! Row 16 of the table of threats.

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use lightnode::source::pool::Role;
use serde_json::{Value, json};

use crate::support::adversary::{Adversary, Clause, on};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::listening::Listening;
use crate::support::proxy::Gate;
use crate::support::scenes::{DEPOSIT, close_by_force, mine_until, open, pay};
use crate::support::watched::Watched;
use crate::support::world::World;

/// What a ban for it says.
const REASON: &str = "it sent a transaction with a forged witness";

#[test]
fn a_witness_that_two_of_three_servers_forge_is_not_told_and_the_thirds_is() {
    let world = World::new();
    for honest in 0..3 {
        let watched = Watched::locked(&world);
        let servers: [Adversary; 3] = Adversary::several(&world);
        let urls = servers.each_ref().map(|server| server.url());
        let listening = Listening::start(&world.folder().join(format!("honest-{honest}")), &urls, &[&watched]);
        listening.hears_of(watched.outpoint.txid, watched.height);
        listening.at(world.bitcoind.best_hash());
        // The honest one is the last to speak.
        let gate = Gate::closed();
        for (at, server) in servers.iter().enumerate() {
            server.does([match at == honest {
                true => on("blockchain.transaction.get").waits_for(&gate),
                false => forging(|tx| {
                    let lock = tx.input[0].witness.last().unwrap_or_default().to_vec();
                    tx.input[0].witness = vec![vec![9], lock].into();
                }),
            }]);
        }
        let spend = watched.spend(&world);
        world.mine(1);
        let liars = || servers.iter().enumerate().filter(|(at, _)| *at != honest);
        let banned = |host: &str| {
            let servers = listening.state().servers;
            let named = servers.iter().find(|server| server.addr.to_string().contains(host)).expect("it is configured");
            matches!(named.role, Role::Banned { .. })
        };
        for (_, liar) in liars() {
            eventually("the liar to be banned", || banned(liar.host()), |is| *is);
        }
        assert!(listening.witness(spend).is_none(), "told of a forged one");
        gate.open();
        listening.hears_of(spend, world.bitcoind.height());
        assert_eq!(listening.witness(spend), Some(world.bitcoind.raw_tx(spend).input[0].witness.clone()));
        assert!(!banned(servers[honest].host()));
    }
}

#[test]
fn a_close_that_comes_without_its_witness_bans_the_server_and_is_believed_of_the_next() {
    let world = World::new();
    let [server] = Adversary::several(&world);
    let (mut alice, mut bob) =
        (Daemon::with_servers(&world, "alice", &[server.url()]).started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    bob.funded(&world, 100_000);
    open(&world, &alice, &bob, &[]);
    pay(&alice, &bob, 200_000);
    // Nobody but the chain tells alice of it.
    alice.stop();
    let id = bob.json(&["channels"])[0]["channel_id"].as_str().expect("an id").to_owned();
    close_by_force(&world, &bob);
    bob.kill();
    world.bitcoind.mine(1);

    server.does([forging(|tx| tx.input.iter_mut().for_each(|input| input.witness.clear()))]);
    alice.start();
    let first = || alice.answering()["servers"][0].clone();
    eventually("the ban", first, |server| server["role"] == "banned" && server["trouble"] == REASON);
    assert_eq!(alice.json(&["channels"])[0]["channel_id"], id, "told of the close");

    server.repents();
    alice.json(&["servers", "forgive", server.host()]);
    mine_until(&world, 1100, &[&alice], || alice.balance("onchain_confirmed_sat") > DEPOSIT - 220_000);
    alice.without_channels();
}

/// Each transaction comes with other witnesses.
fn forging(forge: fn(&mut Transaction)) -> Clause {
    on("blockchain.transaction.get").tampers(move |body: &mut Value| {
        let mut tx: Transaction = deserialize_hex(body.as_str().expect("hex")).expect("a transaction");
        let txid = tx.compute_txid();
        forge(&mut tx);
        assert_eq!(tx.compute_txid(), txid, "that is no forged witness");
        *body = json!(serialize_hex(&tx));
    })
}
