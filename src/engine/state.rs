//! What the engine does, for people.

use std::fmt;
use std::time::SystemTime;

use bitcoin::BlockHash;
use tokio::time::Instant;

use crate::chain::io::ScriptHash;
use crate::chain::machine::{Coverage, Machine, Progress};
use crate::source::pool::{Pool, Role, ServerStatus};

/// What the engine does now. Heights of servers are claims; `tip` is proven.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineState {
    /// What it waits for.
    pub phase: Phase,
    /// The block up to which wallet and channels know the chain; before they were told any, our best header.
    pub tip: Option<Tip>,
    /// Height of our best header.
    pub height: u32,
    /// The height that the servers claim which are asked about scripts ([`Progress::claimed`]).
    pub claimed: Option<u32>,
    /// Scripts followed.
    pub watches: usize,
    /// Scripts whose history is not complete yet on any server.
    pub pending: usize,
    /// Scripts that no server serves.
    pub degraded: Vec<ScriptHash>,
    /// The servers, in the configured order.
    pub servers: Vec<ServerStatus>,
    /// How completely each of them answers.
    pub coverage: Vec<Coverage>,
    /// The height up to which everything of the channels is told; `None` without channels.
    pub least_covered: Option<u32>,
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
    /// All that the servers know was proven and delivered.
    Synced,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "there is no server that can be used",
            Self::Waiting { .. } => "all servers failed, waiting",
            Self::Connecting => "connecting",
            Self::Headers => "fetching headers",
            Self::Histories => "fetching and proving histories",
            Self::Synced => "all that the servers know is proven",
        })
    }
}

impl EngineState {
    /// Blocks that the least covered channel is behind our chain; `None` without channels.
    pub fn channels_behind(&self) -> Option<u32> {
        self.least_covered.map(|covered| self.height.saturating_sub(covered))
    }

    pub(super) fn of(machine: &Machine, pool: &Pool, now: Instant) -> Self {
        let Progress { serving, height, claimed, told, watches, pending, degraded, .. } = machine.progress();
        let servers = pool.status(now);
        let phase = match claimed {
            _ if serving == 0 => Phase::without_server(&servers),
            Some(_) if machine.synced() => Phase::Synced,
            Some(claimed) if claimed <= height => Phase::Histories,
            _ => Phase::Headers,
        };
        // A told block that has left the chain is still what they know.
        let known = told.map_or(height, |told| told.height);
        let header = machine.tree().header_at(known);
        let tip = header.map(|header| Tip { height: known, hash: header.block_hash(), time: header.time });
        let coverage = servers.iter().map(|one| one.id.map_or_else(Coverage::default, |id| machine.coverage(id)));
        let (coverage, least_covered) = (coverage.collect(), machine.least_covered());
        Self { phase, tip, height, claimed, watches, pending, degraded, servers, coverage, least_covered }
    }
}

impl Phase {
    fn without_server(servers: &[ServerStatus]) -> Self {
        if servers.iter().any(|server| server.role == Role::Connecting) {
            return Self::Connecting;
        }
        let until = servers.iter().filter_map(|server| match server.role {
            Role::BackingOff { until } | Role::Unusable { until, .. } => Some(until),
            Role::InUse | Role::Connecting | Role::Standby | Role::Banned { .. } => None,
        });
        until.min().map_or(Self::NoServer, |until| Self::Waiting { until })
    }
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
