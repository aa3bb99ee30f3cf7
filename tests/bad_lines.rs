//! Servers whose lines are wrong before anybody asks whether they are true: too slow, too long, too deep, broken off, or
//! full of signs for a terminal.
//!
//! Rows 13, 14, 15 and 23 of the table of threats: three servers, of which one or two misbehave.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::adversary::{Adversary, Clause, on};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::terminal::on_a_terminal;
use crate::support::world::World;

/// What a server is to do, made anew for each.
type Making<T> = fn() -> T;

/// Short deadlines, so that slow servers are found out in the time of a test.
const IMPATIENT: &str = "[chain]\nconnect_timeout_secs = 2\nrequest_timeout_secs = 2\n";

#[test]
fn servers_that_drip_or_say_nothing_do_not_keep_the_node_from_the_third() {
    let slow: [Making<Clause>; 2] = [
        || on("blockchain.scripthash.subscribe").drips(Duration::from_secs(1)),
        || on("blockchain.scripthash.subscribe").gets_lost(),
    ];
    for clause in slow {
        let world = World::new();
        let servers: [Adversary; 3] = Adversary::several(&world);
        servers[..2].iter().for_each(|server| server.does([clause()]));
        let alice = served_by(&world, &servers, IMPATIENT);
        alice.ready();
        let before = alice.peak_memory();
        alice.funded(&world, 50_000);
        let grown = alice.peak_memory().saturating_sub(before);
        assert!(grown < 16_000_000, "{} MB more than before", grown / 1_000_000);
        little_was_asked(&servers, [0; 3], "slow");
    }
}

#[test]
fn what_a_line_may_hold_is_bounded_and_memory_stays_flat() {
    let endless: [(&str, Making<Vec<Clause>>); 5] = [
        ("a line without end", || vec![on("blockchain.scripthash.get_history").never_ends(300_000_000)]),
        ("a line without end at once", || vec![on("server.version").never_ends(300_000_000)]),
        ("a billion headers", || {
            vec![on("blockchain.block.headers").tampers(|reply| reply["count"] = json!(1_000_000_000))]
        }),
        ("a flooded history", || {
            vec![on("blockchain.scripthash.get_history").tampers(|history| {
                let many = (0..200_000).map(|n| json!({ "tx_hash": format!("{n:064x}"), "height": 1 }));
                *history = many.collect();
            })]
        }),
        ("a deep nest", || {
            let mut nest = "[".repeat(100_000).into_bytes();
            nest.push(b'\n');
            vec![on("blockchain.scripthash.get_history").turns_to(&nest)]
        }),
    ];
    for (what, clauses) in endless {
        let world = World::new();
        let servers: [Adversary; 3] = Adversary::several(&world);
        let alice = served_by(&world, &servers, IMPATIENT);
        alice.ready();
        let (before, mark) = (alice.peak_memory(), marks(&servers));
        servers[..2].iter().for_each(|server| {
            server.does(clauses());
            server.close_connections();
        });
        alice.funded(&world, 50_000);
        world.bitcoind.mine(2);
        alice.at_height(world.bitcoind.height());
        let grown = alice.peak_memory().saturating_sub(before);
        assert!(grown < 48_000_000, "{what}: {} MB more than before", grown / 1_000_000);
        little_was_asked(&servers, mark, what);
    }
}

#[test]
fn garbage_in_the_pipeline_and_lines_broken_off_end_that_connection_only() {
    let broken: [Making<Clause>; 3] = [
        || on("blockchain.scripthash.get_history").turns_to(b"\xff\xfe{]\x00 not json\n"),
        || on("blockchain.scripthash.get_history").ends_mid_line(),
        || on("blockchain.scripthash.get_history").answers(json!({ "no": "list" })),
    ];
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    let alice = served_by(&world, &servers, "");
    alice.ready();
    let mark = marks(&servers);
    for (at, clause) in broken.into_iter().enumerate() {
        servers[at % 3].does([clause()]);
        servers[(at + 1) % 3].does([clause()]);
        alice.funded(&world, 50_000);
        servers.iter().for_each(Adversary::repents);
    }
    little_was_asked(&servers, mark, "broken");
    // All of them are welcome again; none of this is a lie that can be proven.
    let status = alice.json(&["status"]);
    assert!(status["servers"].as_array().expect("a list").iter().all(|server| server["role"] != "banned"), "{status}");
}

#[test]
fn signs_for_a_terminal_in_the_words_of_servers_reach_no_terminal_and_no_log() {
    let evil = "\u{1b}[31mred\u{1b}[0m <b>bold</b> \u{202e}txen\u{7} send coins to bc1qevil\r\nINFO fake";
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    for server in &servers[..2] {
        server.does([
            on("server.version").answers(json!([evil, "1.4"])),
            on("server.banner").answers(json!(evil)),
            on("blockchain.transaction.broadcast").fails(1, evil),
            on("blockchain.estimatefee").fails(1, evil),
            on("blockchain.scripthash.get_history").fails(1, evil),
        ]);
    }
    let alice = served_by(&world, &servers, "");
    alice.ready();
    alice.funded(&world, 100_000);
    alice.json(&["send", &world.bitcoind.new_address(), "50000"]);
    let seen = |words: &[&str]| on_a_terminal(&alice, words).stdout.replace("\r\n", "\n");
    for text in [alice.run(&["status"]).stdout, seen(&["status"]), seen(&["servers"]), alice.log()] {
        let bad = text.chars().find(|sign| matches!(sign, '\u{7}' | '\u{202e}' | '\r'));
        assert_eq!(bad, None, "{text}");
        assert!(!text.contains("\u{1b}[31mred") && !text.contains("\nINFO fake"), "{text}");
    }
    // Errors of servers are told in our words.
    let history = alice.run(&["history"]).stdout;
    assert!(!history.contains("bc1qevil"), "{history}");
}

/// Where each transcript is now.
fn marks(servers: &[Adversary; 3]) -> [usize; 3] {
    servers.each_ref().map(|server| server.mark())
}

/// Whatever a server does, it is asked little more than an honest one: all scripts once for each connection, and a few
/// tries of what failed. A wallet that has nothing follows some fifty scripts.
fn little_was_asked(servers: &[Adversary; 3], marks: [usize; 3], what: &str) {
    for (server, mark) in servers.iter().zip(marks) {
        let asked = server.since(mark);
        assert!(asked.requests().count() < 600, "{what}: {:?}", asked.counts());
    }
}

fn served_by(world: &World, servers: &[Adversary; 3], more: &str) -> Daemon {
    let urls = servers.each_ref().map(|server| server.url());
    let mut alice = Daemon::with_servers(world, "alice", &urls);
    alice.configure(&urls, more);
    alice.start();
    eventually("alice to answer", || alice.answering(), |status| *status != Value::Null);
    alice
}
