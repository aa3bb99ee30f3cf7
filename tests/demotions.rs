//! Servers that only look bad: behind, silent, forgetful. They are passed over where others serve, which is said with the
//! reason, and nobody is banned.
//!
//! Rows 2 and 3 of the table of threats: three servers or more, of which one or two misbehave.

use lightnode::engine::EngineState;
use lightnode::source::pool::Fault;
use serde_json::{Value, json};

use crate::support::adversary::{Adversary, on};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::listening::Listening;
use crate::support::watched::Watched;
use crate::support::world::World;

#[test]
fn two_servers_that_stay_more_than_two_blocks_behind_are_demoted_and_the_third_serves() {
    let world = World::new();
    let watched = Watched::new(&world);
    let (servers, listening) = listening(&world, &watched);
    servers[..2].iter().for_each(Adversary::freezes);
    let marks = servers.each_ref().map(|server| server.mark());
    let spend = watched.spend(&world);
    world.mine(3);
    listening.hears_of(spend, world.bitcoind.height() - 2);
    listening.at(world.bitcoind.best_hash());
    let state = listening.until("both to be demoted", |state| demoted(state) == [true, true, false]);
    let faults = [Some(Fault::Lag), Some(Fault::Lag), None];
    assert_eq!(state.servers.iter().map(|server| server.fault).collect::<Vec<_>>(), faults);
    for (server, mark) in servers.iter().zip(marks) {
        let asked = server.since(mark);
        assert!(asked.requests().count() < 40, "{:?}", asked.counts());
    }
    // Seen again at the tip, they may serve again; points take their time.
    servers.iter().for_each(Adversary::repents);
    world.mine(1);
    listening.at(world.bitcoind.best_hash());
}

#[test]
fn one_server_that_forgets_a_history_is_demoted_and_nothing_is_taken_back() {
    let world = World::new();
    let watched = Watched::new(&world);
    let (servers, listening) = listening(&world, &watched);
    let before = listening.calls().len();
    servers[0].does([
        on("blockchain.scripthash.subscribe").about(&watched.script).answers(Value::Null),
        on("blockchain.scripthash.get_history").about(&watched.script).answers(json!([])),
    ]);
    servers[0].close_connections();
    let mark = servers[0].mark();
    let state = listening.until("it to be demoted", |state| demoted(state) == [true, false, false]);
    assert!(matches!(state.servers[0].fault, Some(Fault::Degraded | Fault::Omitted)), "{state:?}");
    // The others serve the script, so that nothing is missing.
    assert!(state.degraded.is_empty(), "{state:?}");
    assert_eq!(listening.calls().len(), before, "{:?}", listening.calls());
    let asked = servers[0].since(mark);
    assert!(asked.count("blockchain.scripthash.get_history") <= 5, "{:?}", asked.counts());
}

#[test]
fn when_no_block_comes_one_watcher_hands_the_channels_to_the_server_that_had_none() {
    let world = World::new();
    let servers: [Adversary; 5] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let mut alice = Daemon::with_servers(&world, "alice", &urls);
    let alarms = "[alarms]\nrotate_after_secs = 20\ndegraded_after_secs = 3600\nrefuse_after_secs = 7200\n";
    alice.configure(&urls, alarms);
    world.mine(1);
    alice.start();
    alice.ready();
    let watchers = |servers: &Value| with_channels(servers).len();
    let spare = |servers: &Value| {
        let duties = |at: usize| servers[at]["duties"].as_array().map_or(0, Vec::len);
        (0..5).filter(|at| duties(*at) == 2).collect::<Vec<_>>()
    };
    let shown = || alice.json(&["servers"]);
    let first =
        eventually("the duties to be divided", shown, |servers| watchers(servers) == 3 && spare(servers).len() == 1);
    let then = eventually("one to be demoted", shown, |servers| {
        servers.as_array().is_some_and(|all| all.iter().any(|server| server["demoted"] == true))
            && with_channels(servers).contains(&spare(&first)[0])
    });
    let demoted: Vec<usize> = (0..5).filter(|at| then[*at]["demoted"] == true).collect();
    assert_eq!(demoted.len(), 1, "{then}");
    assert!(with_channels(&first).contains(&demoted[0]) && !with_channels(&then).contains(&demoted[0]), "{then}");
    assert_eq!(then[demoted[0]]["fault"], "it told of no new block for long");
    // It goes on, and the next block is taken.
    world.bitcoind.mine(1);
    alice.at_height(world.bitcoind.height());
    alice.ready();
}

/// Places of the servers that are told the channels' scripts.
fn with_channels(servers: &Value) -> Vec<usize> {
    let has = |at: &usize| servers[*at]["duties"].as_array().is_some_and(|duties| duties.contains(&json!("channels")));
    (0..5).filter(has).collect()
}

fn demoted(state: &EngineState) -> Vec<bool> {
    state.servers.iter().map(|server| server.demoted).collect()
}

/// Three servers, and an engine that has heard from them of the output.
fn listening(world: &World, watched: &Watched) -> ([Adversary; 3], Listening) {
    let servers: [Adversary; 3] = Adversary::several(world);
    let urls = servers.each_ref().map(|server| server.url());
    let listening = Listening::start(&world.folder().join("listening"), &urls, &[watched]);
    listening.hears_of(watched.outpoint.txid, watched.height);
    listening.at(world.bitcoind.best_hash());
    (servers, listening)
}
