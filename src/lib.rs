//! lightnode: a Lightning node with no Bitcoin Core.
//!
//! The map of the house. A room may use only rooms on lower floors, and its own; `tests/architecture.rs`
//! holds the table of allowed edges.
//!
//! | floor | room | what lives there |
//! |---|---|---|
//! | 0 | [`chain`] | pure: header rules and tree, merkle proofs, witnesses, the sync machine that turns claims into proven plans |
//! | 1 | [`amount`], [`clock`], [`config`], [`files`], [`keys`], [`task`], [`logs`], [`text`] | amounts; the time; settings; files; the seed; named tasks; records; foreign text |
//! | 1 | [`dial`] | the only way out: streams through the proxy, or directly |
//! | 1 | [`crash`] | names of the places at which tests end the process; nothing in a released build |
//! | 1 | [`source`] | untrusted servers: wire codec, TLS and pins, client, choice and backoff |
//! | 1 | [`store`] | the one SQLite database |
//! | 2 | [`engine`] | drives the sync machine: sources in, store, listeners out |
//! | 2 | [`ledger`] | the book of payments, Lightning and on-chain |
//! | 3 | [`wallet`] | BDK: addresses, coins, funding |
//! | 4 | [`ln`] | LDK: restore, confirm, peers, channels, payments, events |
//! | 5 | [`node`] | the assembly, and the façade that the API calls |
//! | 6 | [`api`] | HTTP + JSON on a Unix socket |
//! | 7 | [`cli`] | the command line |

pub mod amount;
pub mod api;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod dial;
pub mod engine;
pub mod files;
pub mod keys;
pub mod ledger;
pub mod ln;
pub mod logs;
pub mod node;
pub mod source;
pub mod store;
pub mod task;
pub mod text;
pub mod wallet;
