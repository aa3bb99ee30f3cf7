//! How often a payment makes the disk write, and how much: for who sends it, who receives it, and who passes it on.
//!
//! Commits are counted, each of which is one fsync, and what the database's log grows by. The budget is in bytes as the disk
//! sees them (`scripts/bench store` counts those, from outside): pages of 4 kB, of which each commit begins one anew.

use std::fs;

use lightnode::crash::Point;

use crate::support::daemon::Daemon;
use crate::support::scenes::{DEPOSIT, open, pay};
use crate::support::world::World;

/// Payments of which the mean is taken: what meets in one commit depends on the moment.
const ROUNDS: u32 = 8;
const COMMITS: u32 = 10;
const BYTES: u64 = 120_000;
const PAGE: u64 = 4096;

/// Its length rises with every commit, until SQLite begins at the front again after 4 MB.
fn log_of(node: &Daemon) -> u64 {
    fs::metadata(node.folder().join("lightnode.db-wal")).expect("a running node has a log").len()
}

#[test]
fn a_payment_is_sent_received_and_passed_on_within_the_budget_of_writes() {
    let world = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Daemon::new(&world, name).started());
    alice.funded(&world, DEPOSIT);
    bob.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &[]);
    open(&world, &bob, &carol, &[]);
    for (from, to) in [(&alice, &bob), (&alice, &carol)] {
        // The first one makes what the others use again.
        pay(from, to, 10_000);
        let nodes = [&alice, &bob, &carol];
        let before = nodes.map(log_of);
        nodes.iter().for_each(|node| node.record());
        for _ in 0..ROUNDS {
            pay(from, to, 1_000);
        }
        for (node, before) in nodes.into_iter().zip(before) {
            // Some of them are the invoices'.
            let commits = node.recorded().get(&Point::CommitAfter).copied().unwrap_or(0);
            let bytes = log_of(node) - before + u64::from(commits) * PAGE;
            let name = node.folder().display();
            println!("{name}: {commits} commits, {bytes} bytes, for {ROUNDS} payments");
            assert!(commits <= COMMITS * ROUNDS, "{name}: {commits} commits for {ROUNDS} payments");
            assert!(bytes <= BYTES * u64::from(ROUNDS), "{name}: {bytes} bytes for {ROUNDS} payments");
        }
    }
}
