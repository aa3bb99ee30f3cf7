//! Settings: TOML, and who overrides whom.
//!
//! Command line, over environment, over the file, over the defaults below. `[fees] max_sat_per_vb` is
//! `--set fees.max_sat_per_vb=…` and `LIGHTNODE_FEES_MAX_SAT_PER_VB`; an unknown name is refused in all three,
//! with the nearest known one. `config/all.toml` has every setting at its default.
//!
//! One directory holds one node of one network: `~/.lightnode` for mainnet, `~/.lightnode/<network>` for the others,
//! or exactly the one that `--data-dir`, `LIGHTNODE_DATA_DIR` or `data_dir` names. The file is the one that `--config`
//! or `LIGHTNODE_CONFIG` names, else `lightnode.toml` in that directory (as `--data-dir`, `--network` and their
//! variables alone place it; the file cannot send us to another file).

mod address;
mod error;
mod load;
mod parse;
mod proxy;
mod read;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;

pub use address::{AddressError, HostPort, ServerAddr, Transport};
pub use error::{ConfigError, Origin};
pub use load::{Overrides, example};
pub use proxy::{Login, Proxy, ProxyError};

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub network: Network,
    /// Holds one node: seed, database, log, socket.
    pub data_dir: PathBuf,
    /// Opens an encrypted seed at the start: as configured, or systemd's credential of that name.
    pub passphrase_file: Option<PathBuf>,
    /// The configuration file, whether it exists or not.
    pub file: PathBuf,
    /// A directory of this machine, outside of `data_dir`, for the generation mark. Absent: the machine has none.
    pub mark_dir: Option<PathBuf>,
    /// In order of preference. Empty only when none is configured and the network has no public ones.
    pub servers: Vec<Server>,
    /// Between us and everybody: servers, peers, snapshots.
    pub proxy: Option<Proxy>,
    pub chain: Chain,
    pub alarms: Alarms,
    pub node: Identity,
    pub channels: Channels,
    pub payments: Payments,
    pub fees: Fees,
    pub wallet: Wallet,
    pub gossip: GossipSource,
    pub backup: Backup,
    pub api: Api,
    pub log: Log,
}

/// `[[server]]`: an Electrum or Esplora server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: ServerAddr,
    /// One's own: always used, told everything, and enough alone. What it says is proven like any other's.
    pub trusted: bool,
    /// SHA-256 of the public key (DER, SubjectPublicKeyInfo) that it must show. Absent: a certificate authority, or pin
    /// on first use.
    pub pin: Option<[u8; 32]>,
}

/// `[chain]`: how servers are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub connect_timeout: Duration,
    /// For one answer; a server that takes longer is left.
    pub request_timeout: Duration,
    /// How often an idle connection shows that it lives. Servers drop it after 600 s.
    pub ping_interval: Duration,
    /// The longest pause between two tries of a server.
    pub max_backoff: Duration,
    /// Between two audits by LDK's own engine; `None`: only when asked for.
    pub audit_interval: Option<Duration>,
    /// Between two looks at an Esplora server while nothing is under way: it cannot push.
    pub poll_interval: Duration,
}

/// `[alarms]`: what is done when no block comes. Zero: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarms {
    /// Other servers are asked.
    pub rotate_after: Duration,
    /// The node says that it is degraded.
    pub degraded_after: Duration,
    /// Nothing new is begun: no payment, forwarding, receiving or opening.
    pub refuse_after: Duration,
}

/// `[node]`: what others see of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// At most 32 bytes. Absent: made from the node id.
    pub alias: Option<String>,
    pub color: [u8; 3],
    /// Where peers may connect; empty: nowhere, the node only dials.
    pub listen: Vec<HostPort>,
    /// Addresses that are announced with public channels.
    pub announce: Vec<HostPort>,
}

/// `[channels]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    pub accept_inbound: bool,
    pub min_inbound_sat: u64,
    /// Largest channel that is opened or accepted.
    pub max_funding_sat: u64,
    /// Confirmations before a channel that a peer opens to us is used; never 0.
    pub minimum_depth: u32,
    /// Blocks that the *peer* waits for its money after it closes by force (LDK's `our_to_self_delay`).
    pub their_delay_blocks: u16,
    /// The most blocks that we agree to wait for ours (LDK's limit `their_to_self_delay`).
    pub max_our_delay_blocks: u16,
    /// Share of a channel that may be in flight towards us, in percent.
    pub max_in_flight_percent: u8,
    pub forwarding_base_fee_msat: u32,
    pub forwarding_fee_ppm: u32,
    pub cltv_expiry_delta: u16,
    /// Kept on-chain for each channel, to pay for a close by force.
    pub reserve_sat: u64,
    /// Forgo up to this much in a cooperative close rather than close by force over its fee.
    pub force_close_avoidance_sat: u64,
}

/// `[payments]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payments {
    /// Parts per million of the amount (`max_fee_percent` in the file).
    pub max_fee_ppm: u32,
    pub max_fee_base_sat: u64,
    /// How long `pay` makes attempts and waits.
    pub timeout: Duration,
    /// Most parts that a payment is split into.
    pub max_parts: u8,
    /// Of an invoice made without `--expiry`.
    pub invoice_expiry: Duration,
}

impl Payments {
    /// The fee limit for an amount, unless the request names one.
    pub fn max_fee_msat(&self, amount_msat: u64) -> u64 {
        let share = u128::from(amount_msat) * u128::from(self.max_fee_ppm) / 1_000_000;
        u64::try_from(share).unwrap_or(u64::MAX).saturating_add(self.max_fee_base_sat.saturating_mul(1000))
    }
}

/// `[fees]`: bounds for what we pay for a place in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Never pay more, whatever a server says.
    pub max_sat_per_vb: u32,
    /// Never pay less.
    pub min_sat_per_vb: u32,
    /// When no server has an estimate and none is remembered; also the least when what is remembered is a day old.
    pub fallback_sat_per_vb: u32,
    /// Within an hour, a rate rises or falls by this factor at most.
    pub max_factor_per_hour: u32,
}

/// `[wallet]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wallet {
    /// Unused addresses in a row that are watched.
    pub gap_limit: u32,
}

/// `[gossip] source`: where the map of the network comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GossipSource {
    /// From peers.
    P2p,
    /// Rapid gossip sync from this URL, without a slash at the end.
    Rapid(String),
}

/// `[backup]`: where the list of channels goes, encrypted, whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The file that is replaced each time. Absent: none.
    pub path: Option<PathBuf>,
    /// A program and its arguments; it gets the same bytes on its standard input. Empty: none.
    pub command: Vec<String>,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    pub socket: PathBuf,
    /// Only when configured, and only with the token.
    pub tcp: Option<HostPort>,
    pub token_file: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, then optionally levels by module: `info,lightnode::ln=debug`.
    pub level: String,
    /// How many daily files are kept.
    pub keep_days: u32,
}
