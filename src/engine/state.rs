//! What the engine does, for people.

use std::time::SystemTime;

use bitcoin::BlockHash;

use crate::chain::io::ScriptHash;
use crate::source::pool::ServerStatus;

/// What the engine does now. Heights of servers are claims; `tip` is proven.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineState {
    /// What it waits for.
    pub phase: Phase,
    /// Our best block; `None` until the first headers are in.
    pub tip: Option<Tip>,
    /// The height that the serving server claims.
    pub claimed: Option<u32>,
    /// Scripts followed.
    pub watches: usize,
    /// Scripts whose history is not complete yet.
    pub pending: usize,
    /// Scripts that the serving server does not serve.
    pub degraded: Vec<ScriptHash>,
    /// Our clock is behind the chain's, so it is wrong.
    pub clock_behind: bool,
    /// The servers, in the configured order.
    pub servers: Vec<ServerStatus>,
}

/// What the engine waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No server is configured, or all are banned.
    #[default]
    NoServer,
    /// All servers failed; nothing is tried before a known time.
    Waiting {
        /// When the next try is made.
        until: SystemTime,
    },
    /// A connection is being made.
    Connecting,
    /// Headers are fetched.
    Headers,
    /// Histories are fetched and proven.
    Histories,
    /// All that the server knows was proven and delivered.
    Synced,
}

/// Our best block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// The time that its miner gave it, Unix seconds.
    pub time: u32,
}
