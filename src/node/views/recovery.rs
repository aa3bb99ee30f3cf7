//! Lost channels, and the backup that they are found by.

use serde::{Deserialize, Serialize};

/// A recovery that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryState {
    /// What led to it.
    pub why: String,
    pub since: u64,
    pub channels: Vec<LostChannel>,
    /// What closes have paid us and the sweeper does not have yet.
    pub found_sat: u64,
    /// The scripts of the seed are being looked through.
    pub looking: bool,
    /// Height until which later closes are looked for.
    pub looks_until_height: Option<u32>,
}

/// A channel that its peer is to close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostChannel {
    pub channel_id: String,
    pub peer: String,
    pub capacity_sat: u64,
    /// What closed it, once that is in a block.
    pub closing_txid: Option<String>,
    /// When its owner gave up waiting for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned_at: Option<u64>,
    /// In words.
    pub waits_for: Option<String>,
}

/// The backup of the channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupState {
    /// The file that is written by itself.
    pub path: Option<String>,
    /// When it was last written in this run (unix seconds).
    pub written_at: Option<u64>,
    /// Why the last write failed; it is tried again.
    pub trouble: Option<String>,
}

/// `POST /v1/backup`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMade {
    /// How many channels it names.
    pub channels: usize,
    /// The configured file, if it was written.
    pub path: Option<String>,
    /// Why the configured file or command was not served.
    pub trouble: Option<String>,
    /// The backup itself, encrypted, in hex.
    pub content: String,
}
