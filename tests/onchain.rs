//! Deposits and withdrawals.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::in_mempool;
use crate::support::world::World;

#[test]
fn a_deposit_is_seen_unconfirmed_and_then_confirmed_by_what_the_server_pushes() {
    let world = World::new();
    let proxy = world.proxy();
    let alice = Daemon::with_servers(&world, "alice", &[proxy.url()]).started();
    let address = alice.address();
    let subscribe = "blockchain.scripthash.subscribe";
    eventually(
        "every address to be followed",
        || (proxy.transcript().count(subscribe), proxy.transcript().replies(subscribe)),
        |(asked, answered)| *asked > 0 && asked == answered,
    );
    let mark = proxy.mark();

    let txid = world.bitcoind.pay(&address, 123_456).to_string();
    alice.balance_is("onchain_pending_sat", 123_456);
    assert_eq!(alice.balance("onchain_confirmed_sat"), 0, "nothing is credited before it is confirmed");
    let pending = alice.entry(&txid, "pending");
    assert_eq!(pending["kind"], "deposit");
    assert_eq!(pending["amount_msat"], 123_456_000);

    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 123_456);
    assert_eq!(alice.balance("onchain_pending_sat"), 0);
    let done = alice.entry(&txid, "succeeded");
    assert_eq!(done["height"], json!(world.bitcoind.height()));

    // One question for each notification, one for the body, one for the proof: nothing is polled.
    let counts = proxy.since(mark).counts();
    for (method, most) in [
        ("blockchain.scripthash.get_history", 2),
        ("blockchain.transaction.get", 1),
        ("blockchain.transaction.get_merkle", 1),
    ] {
        let asked = counts.get(method).copied().unwrap_or(0);
        assert!(asked >= 1 && asked <= most, "{method} was asked {asked} times: {counts:?}");
    }
    let known = [
        "get_history",
        "transaction.get",
        "get_merkle",
        "scripthash.subscribe",
        "estimatefee",
        "get_fee_histogram",
        "relayfee",
        "mempool.get_info",
    ];
    for method in counts.keys() {
        assert!(known.iter().any(|known| method.contains(known)), "asked without need: {counts:?}");
    }
}

#[test]
pub(crate) fn a_withdrawal_is_sent_confirmed_and_booked_with_its_fee() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    alice.funded(&world, 500_000);
    let target = world.bitcoind.new_address();
    let sent = alice.json(&["send", &target, "200000"]);
    assert_eq!(sent["amount_sat"], 200_000);
    let fee = sent["fee_sat"].as_u64().expect("a fee");
    let txid = sent["txid"].as_str().expect("a txid");
    in_mempool(&world, txid);
    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 300_000 - fee);
    let entry = alice.entry(txid, "succeeded");
    assert_eq!(entry["kind"], "withdrawal");
    assert_eq!(entry["amount_msat"], 200_000_000);
    assert_eq!(entry["fee_msat"], fee * 1000);
}

#[test]
pub(crate) fn everything_can_be_sent_away() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    alice.funded(&world, 500_000);
    let sent = alice.json(&["send", &world.bitcoind.new_address(), "all", "--feerate", "3"]);
    let (amount, fee) = (sent["amount_sat"].as_u64().expect("sat"), sent["fee_sat"].as_u64().expect("sat"));
    assert_eq!(amount + fee, 500_000);
    in_mempool(&world, sent["txid"].as_str().expect("a txid"));
    world.bitcoind.mine(1);
    alice.balance_is("onchain_confirmed_sat", 0);
}

#[test]
pub(crate) fn a_withdrawal_that_no_server_took_is_sent_again_after_a_restart() {
    let mut world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.funded(&world, 500_000);
    world.stop_servers();
    let sent = alice.json(&["send", &world.bitcoind.new_address(), "200000"]);
    alice.kill();
    world.start_servers();
    alice.start();
    alice.ready();
    in_mempool(&world, sent["txid"].as_str().expect("a txid"));
}

#[test]
fn amounts_and_addresses_that_make_no_sense_are_refused() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    alice.funded(&world, 100_000);
    let target = world.bitcoind.new_address();
    for amount in ["0", "-5", "21000001btc", "1.001", "12x", ""] {
        let refused = alice.run(&["send", &target, amount]);
        assert_eq!(refused.code, 2, "{amount}: {refused:?}");
    }
    let too_much = alice.run(&["send", &target, "100001"]);
    assert_eq!(too_much.code, 5, "{too_much:?}");
    let foreign = alice.run(&["send", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "1000"]);
    assert_eq!(foreign.code, 2, "{foreign:?}");
    assert!(foreign.stderr.contains("not an address of regtest"), "{foreign:?}");
    let garbage = alice.run(&["send", "hello", "1000"]);
    assert_eq!(garbage.code, 2, "{garbage:?}");
}
