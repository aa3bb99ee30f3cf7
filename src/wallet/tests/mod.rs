//! A tiny world: a regtest chain in memory, blocks of one transaction, a store in a directory that goes away.

mod book;
mod chain;
mod claims;
mod fundings;
mod model;
mod sends;
mod world;
