//! The real parts that tests run on: bitcoind, ElectrumX, an Esplora, and a proxy that can misbehave.
//!
//! Begin with [`world::World`]. Wait with [`eventually`](eventually::eventually), never with a sleep.

// A helper may wait for the test that will need it.
#![allow(dead_code)]

pub(crate) mod adversary;
pub(crate) mod bitcoind;
pub(crate) mod clock;
pub(crate) mod crash;
pub(crate) mod daemon;
pub(crate) mod electrumx;
pub(crate) mod engines;
pub(crate) mod esplora;
pub(crate) mod esplora_index;
pub(crate) mod eventually;
pub(crate) mod failing;
pub(crate) mod forge;
pub(crate) mod identity;
pub(crate) mod listening;
pub(crate) mod locks;
pub(crate) mod own;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod recorder;
pub(crate) mod scenes;
pub(crate) mod scripted;
pub(crate) mod snapshots;
pub(crate) mod socks;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod tools;
pub(crate) mod transcript;
pub(crate) mod watched;
pub(crate) mod world;
