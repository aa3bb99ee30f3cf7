//! Fees are made of claims: what a server can do to them, what is done without any, and how fast they move.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::proxy::{Proxy, Verdict};
use crate::support::transcript::{Entry, Kind, Transcript};
use crate::support::world::World;

/// What a server says: sat/vB for 2, 6, 144 and 1008 blocks, and its mempool.
#[derive(Clone)]
struct Claims {
    estimates: [Value; 4],
    histogram: Value,
}

impl Claims {
    /// Estimates in sat/vB, and a mempool that fits into a block.
    fn of(estimates: [f64; 4]) -> Self {
        Self { estimates: estimates.map(|rate| json!(rate / 100_000.0)), histogram: json!([[1.0, 1000]]) }
    }

    fn raw(estimates: Value) -> Self {
        Self { estimates: [estimates.clone(), estimates.clone(), estimates.clone(), estimates], histogram: json!([]) }
    }

    fn with_mempool(self, histogram: Value) -> Self {
        Self { histogram, ..self }
    }

    /// Lets the server say so, also on connections that exist.
    fn said_by(&self, proxy: &Proxy) {
        let claims = self.clone();
        proxy.set_rule(move |line: &Entry| {
            if line.kind != Kind::Reply {
                return Verdict::Forward;
            }
            let result = match (line.method.as_str(), line.params[0].as_u64()) {
                ("blockchain.estimatefee", Some(2)) => claims.estimates[0].clone(),
                ("blockchain.estimatefee", Some(6)) => claims.estimates[1].clone(),
                ("blockchain.estimatefee", Some(144)) => claims.estimates[2].clone(),
                ("blockchain.estimatefee", Some(1008)) => claims.estimates[3].clone(),
                ("mempool.get_fee_histogram", _) => claims.histogram.clone(),
                _ => return Verdict::Forward,
            };
            // A string stands for an error.
            let error = result.as_str().map(|text| json!({ "code": 1, "message": text }));
            let mut body = json!({ "jsonrpc": "2.0", "id": line.id });
            match error {
                Some(error) => body["error"] = error,
                None => body["result"] = result,
            }
            Verdict::Replace(body)
        });
    }
}

/// A node that comes back at once to servers that it lost.
fn node(world: &World, servers: &[&Proxy]) -> Daemon {
    let node = Daemon::new(world, "alice");
    let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
    node.configure(&urls, "[chain]\nmax_backoff_secs = 1\n");
    node
}

/// What a server said last, as the node has it.
fn word(fees: &Value, proxy: &Proxy) -> Value {
    let mut sources = fees["sources"].as_array().expect("a list").iter();
    sources.find(|source| source["server"] == proxy.url()).cloned().unwrap_or(Value::Null)
}

/// Rates in force for 2, 6, 144 and 1008 blocks, in sat/vB.
fn rates(fees: &Value) -> Vec<f64> {
    let targets = fees["targets"].as_array().expect("a list").iter();
    targets.filter(|target| target["urgent"] == false).map(|target| number(&target["sat_per_vb"])).collect()
}

fn urgent(fees: &Value) -> f64 {
    number(&fees["targets"][0]["sat_per_vb"])
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Waits until the node has heard claims of all of them.
fn heard(node: &Daemon, proxies: &[&Proxy]) -> Value {
    let all = |fees: &Value| proxies.iter().all(|proxy| !word(fees, proxy).is_null());
    eventually("all servers to have spoken of fees", || node.json(&["fees"]), all)
}

/// Lets a server be asked again, and waits until its word is `there`.
fn asked_again(node: &Daemon, proxy: &Proxy, there: impl Fn(&Value) -> bool) -> Value {
    let mark = proxy.mark();
    proxy.close_connections();
    // The histogram is asked for last.
    let asked = |seen: &Transcript| seen.replies("mempool.get_fee_histogram") > 0;
    eventually("the server to be asked again", || proxy.since(mark), asked);
    eventually("its word to be known", || node.json(&["fees"]), |fees| there(&word(fees, proxy)))
}

#[test]
fn one_server_of_three_that_claims_absurd_fees_moves_no_rate_and_at_most_doubles_the_urgent_one() {
    let world = World::new();
    let (one, two, liar) = (world.proxy(), world.proxy(), world.proxy());
    Claims::of([30.0, 20.0, 10.0, 5.0]).said_by(&one);
    Claims::of([30.0, 20.0, 10.0, 5.0]).said_by(&two);
    // Above the limit, and below what is taken for absurd.
    Claims::of([9000.0, 9000.0, 9000.0, 9000.0]).with_mempool(json!([[9000.0, 50_000_000]])).said_by(&liar);
    let all = [&one, &two, &liar];
    let alice = node(&world, &all).started();
    alice.funded(&world, 100_000);
    let fees = heard(&alice, &all);
    assert_eq!(rates(&fees), [30.0, 20.0, 10.0, 5.0], "{fees}");
    assert_eq!(urgent(&fees), 40.0, "{fees}");
    assert_eq!(fees["targets"][1]["from"], "the median of 3 servers");

    for claim in [json!(0), json!(-1), json!(1e300), json!("no")] {
        Claims::raw(claim.clone()).with_mempool(json!([[-5, 1000]])).said_by(&liar);
        let nothing = |word: &Value| word["estimates"] == json!([]) && word["next_block_sat_per_vb"].is_null();
        let fees = asked_again(&alice, &liar, nothing);
        assert_eq!(rates(&fees), [30.0, 20.0, 10.0, 5.0], "{claim}: {fees}");
        assert_eq!(urgent(&fees), 20.0, "{claim}: {fees}");
    }
}

#[test]
fn what_the_only_server_claims_stays_within_the_limits_and_is_shown_with_where_it_comes_from() {
    let world = World::new();
    let server = world.proxy();
    Claims::of([9000.0, 20.0, 10.0, 5.0]).with_mempool(json!([[30.0, 50_000_000]])).said_by(&server);
    let alice = node(&world, &[&server]).started();
    alice.funded(&world, 100_000);
    let fees = heard(&alice, &[&server]);
    assert_eq!(rates(&fees), [500.0, 20.0, 10.0, 5.0], "{fees}");
    assert_eq!(urgent(&fees), 20.0, "{fees}");
    assert_eq!(fees["targets"][1]["from"], "1 server; held by fees.max_sat_per_vb");
    let said = word(&fees, &server);
    assert_eq!((&said["estimates"][0]["sat_per_vb"], &said["next_block_sat_per_vb"]), (&json!(9000.0), &json!(30.0)));

    // What is no rate is no estimate: the last good ones stay.
    let nothing = |word: &Value| word["estimates"] == json!([]) && word["next_block_sat_per_vb"].is_null();
    for claim in [json!(0), json!(-0.5), json!(1e300), json!("no"), json!([1])] {
        Claims::raw(claim.clone()).with_mempool(json!([[-5, 1000]])).said_by(&server);
        let fees = asked_again(&alice, &server, nothing);
        assert_eq!(rates(&fees), [500.0, 20.0, 10.0, 5.0], "{claim}: {fees}");
    }

    // And it is what a withdrawal pays.
    let sent = alice.json(&["send", &world.bitcoind.new_address(), "50k"]);
    assert!((number(&sent["feerate"]) - 20.0).abs() < 0.5, "{sent}");
}

#[test]
fn of_three_servers_without_estimates_the_mempools_serve_and_the_word_of_one_is_enough() {
    let world = World::new();
    let servers = [world.proxy(), world.proxy(), world.proxy()];
    let all = servers.each_ref();
    let nothing = [json!(0), json!(-1), json!("estimates are unavailable")];
    for (server, claim) in servers.iter().zip(&nothing) {
        Claims::raw(claim.clone()).said_by(server);
    }
    let mut alice = node(&world, &all).started();
    assert_eq!(rates(&heard(&alice, &all)), [10.0; 4]);

    // One of them estimates: that is what there is.
    Claims::of([30.0, 20.0, 10.0, 5.0]).said_by(&servers[2]);
    let fees = asked_again(&alice, &servers[2], |word| word["estimates"] != json!([]));
    assert_eq!(rates(&fees), [30.0, 20.0, 10.0, 5.0], "{fees}");

    // It stops; two have a mempool, the third one lies about its own.
    let full = json!([[40.0, 1_000_000], [15.0, 2_000_000_000]]);
    for (server, mempool) in servers.iter().zip([full.clone(), full, json!([[9000.0, 2_000_000_000]])]) {
        Claims::raw(json!(-1)).with_mempool(mempool).said_by(server);
        asked_again(&alice, server, |word| !word["next_block_sat_per_vb"].is_null() && word["estimates"] == json!([]));
    }
    let fees = alice.json(&["fees"]);
    assert_eq!(rates(&fees), [40.0, 15.0, 15.0, 15.0], "{fees}");

    // Nothing at all, also after a restart: the last good rates, and no floor.
    servers.iter().zip(&nothing).for_each(|(server, claim)| Claims::raw(claim.clone()).said_by(server));
    alice.stop();
    alice.start();
    alice.ready();
    let fees = heard(&alice, &all);
    assert_eq!(rates(&fees), [40.0, 15.0, 15.0, 15.0], "{fees}");
    alice.stop();
}

#[test]
fn without_estimates_the_mempool_serves_then_the_last_good_rates_and_never_a_floor() {
    let world = World::new();
    let server = world.proxy();
    Claims::raw(json!("estimates are unavailable")).said_by(&server);
    let mut alice = node(&world, &[&server]).started();
    let fees = heard(&alice, &[&server]);
    assert_eq!(rates(&fees), [10.0; 4], "{fees}");
    assert!(fees["targets"][1]["from"].as_str().is_some_and(|from| from.contains("fallback")), "{fees}");

    // The mempool fills: what pays 40 sat/vB and more fills one block, what pays 15 waits for days.
    Claims::raw(json!(-1)).with_mempool(json!([[40.0, 1_000_000], [15.0, 2_000_000_000]])).said_by(&server);
    let fees = asked_again(&alice, &server, |word| word["next_block_sat_per_vb"] == 40.0);
    assert_eq!(rates(&fees), [40.0, 15.0, 15.0, 15.0], "{fees}");

    // Off, and back with a server that says nothing.
    alice.stop();
    Claims::raw(json!(-1)).said_by(&server);
    alice.start();
    alice.ready();
    let fees = heard(&alice, &[&server]);
    assert_eq!(rates(&fees), [40.0, 15.0, 15.0, 15.0], "{fees}");
    assert!(fees["targets"][1]["from"].as_str().is_some_and(|from| from.contains("remembered")), "{fees}");

    // What changes faster than the pace allows is held, and said to be.
    Claims::of([450.0, 450.0, 450.0, 1.0]).said_by(&server);
    let fees = asked_again(&alice, &server, |word| word["estimates"][0]["sat_per_vb"] == 450.0);
    assert_eq!(rates(&fees), [160.0, 60.0, 60.0, 3.752], "{fees}");
    assert!(fees["targets"][1]["from"].as_str().is_some_and(|from| from.contains("max_factor_per_hour")), "{fees}");
    alice.stop();
}
