//! Floor 0, pure: no tokio, no LDK, no IO, no clock of its own.
//!
//! Servers claim; this room decides. Headers are checked against the rules of the network ([`header`]) and kept in a
//! tree ([`tree`]); a transaction counts as confirmed only as a [`merkle::ProvenTx`]; the [`machine`] turns claims
//! from servers into [`io::Plan`]s that are safe to tell LDK and BDK.

mod facts;
pub mod header;
pub mod history;
pub mod io;
pub mod machine;
mod mempool;
pub mod merkle;
pub mod params;
pub mod tree;
mod view;
pub mod watch;
pub mod witness;

#[cfg(test)]
mod testing;
