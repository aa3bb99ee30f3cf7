//! The table of contents of the tests on real parts: a real bitcoind, a real ElectrumX, the real binary.
//!
//! `scripts/regtest-deps` finds or fetches the first two.
#![allow(clippy::unwrap_used)]

mod support;

/// The API on its socket: answers in every state, errors with code, message and hint.
mod api;
/// The house: which room may use which.
mod architecture;
/// Servers whose lines are too slow, too long, too deep, broken off, or full of signs for a terminal.
mod bad_lines;
/// The book for people: pages, beginnings of ids, foreign text made harmless.
mod book;
/// Channels: opened, used in both directions, closed by agreement, remembered over restarts.
mod channels;
/// The command line: every command as JSON and for people, every exit code.
mod cli;
/// A clock that is wrong: noticed, said, and no invoice and no header is wrong for it.
mod clock;
/// Configuration: mistakes are named, files that ship with the project hold.
mod config;
/// Killed before and after every kind of write, and between a write and the act that follows it.
mod crash_points;
/// The database: what an older version wrote is taken over, what a newer one wrote is left alone, and `db check`.
mod database;
/// Servers that only look bad: passed over where others serve, and nobody is banned.
mod demotions;
/// Our engine beside LDK's own, over random chains: the same end, and our calls held to the contract.
mod differential;
/// Disks that are full, read-only or broken, and logs that a power cut has torn.
mod disk;
/// Several servers: who is told which scripts, who is banned, and what comes of it.
mod duties;
/// Esplora servers: what they cost and what they do not get away with.
mod esplora;
/// Stories of the other modules on an Esplora server, alone and beside ElectrumX.
mod esplora_stories;
/// Servers with chains of their own: only work counts.
mod false_chains;
/// Proofs that prove nothing: of 64 bytes, of inner nodes, at places that no block has.
mod false_proofs;
/// What a place in a block costs: claims, and what they cannot do.
mod fees;
/// Channels closed by force, from either side.
mod force_close;
mod forged_witnesses;
/// What the fuzzers have found worth keeping, as ordinary tests.
mod fuzz_corpora;
/// What others learn of a public channel.
mod gossip;
/// Servers that keep something back: one proof is enough, and absence is none.
mod hidden_spends;
/// Killed at random while payments go in all directions: every millisatoshi is accounted for.
mod kills;
/// A chain that falls silent: said, then nothing new is risked, nothing is closed, and blocks end it.
mod ladder;
/// Snapshots of the network that lie: a route fails or is refused for its fee, and a true one mends it.
mod lying_maps;
/// Servers that lie: nothing of it is believed, and the next one serves.
mod lying_servers;
/// Deposits and withdrawals.
mod onchain;
/// Payments whose outcome is not known yet: said so, waited for, never paid twice.
mod outcomes;
/// The tools of the other tests do what those rely on.
mod parts;
/// `pay` and `receive`: outcomes, fees, repetition, routes, bad invoices.
mod payments;
/// A SOCKS proxy: everything through it, nothing beside it, names too.
mod proxy;
/// README: every command in it is one, and the first of them does what it says.
mod readme;
/// Old copies, lost disks: nothing old is acted on, and the money comes back.
mod recovery;
/// Peers that refuse or close a channel.
mod refusals;
/// Blocks that are taken back, with what was in them.
mod reorgs;
/// Killed in the middle of things, the node comes up and its book tells the truth.
mod restarts;
/// Servers of chains that a test makes up: forks of any height, depth and time.
mod scripted_chains;
/// `chain audit`: LDK's own engine, in shadow, beside what is proven here.
mod second_opinion;
/// TLS: keys pinned, changed and accepted; never clear text.
mod secure_servers;
/// The seed under a passphrase: locked, unlocked, changed, shown; and who may read what.
mod seed;
/// Servers that are away, come back, or are of another network.
mod servers;
/// What a server can try, row by row, and the tests that say what it gets.
mod threats;
/// The wallet on bad days: restored from words, deposits and withdrawals that are double-spent.
mod wallet;
/// What a payment costs the disk, for everybody on its way.
mod writes;
