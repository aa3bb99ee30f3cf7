//! The table of contents of the tests on real parts: a real bitcoind, a real ElectrumX, the real binary.
//!
//! `scripts/regtest-deps` finds or fetches the first two.
#![allow(clippy::unwrap_used)]

mod support;

/// The tools of the other tests do what those rely on.
mod parts;
