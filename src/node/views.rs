//! What the node shows: plain data, written to the wire as it stands (`api::types` re-exports it).
//!
//! Amounts are integers with their unit in the name; times are unix seconds; hashes and keys are lower-case hex.

mod audit;
mod fees;
mod recovery;
mod servers;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

pub use audit::{AuditDisagreement, AuditRequest, BlockId, ChainAudit, NoOpinion, Verdict};
pub use fees::{FeeEstimate, FeeLimits, FeeSource, FeeTarget, Fees};
pub use recovery::{BackupMade, BackupState, LostChannel, RecoveryState};
pub use servers::{AlarmView, Ban, ChangedKey, LeastCovered, ServerDetail, TrustKey, Trusted};

/// State of the node, in every answer of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum State {
    /// Opening the store, restoring channels.
    Starting,
    /// The seed is encrypted and not yet unlocked.
    Locked,
    /// Restored; catching up with the chain. What it waits for is in the text.
    Syncing(String),
    /// All is well.
    Ready,
    /// Works, but something that matters does not; the text says what.
    Degraded(String),
    /// Does nothing more; the text says why and what to do.
    Halted(String),
}

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub state: State,
    pub version: String,
    /// `bitcoin`, `testnet`, `testnet4`, `signet` or `regtest`.
    pub network: String,
    /// Our node id; absent until the seed is open.
    pub node_id: Option<String>,
    pub alias: Option<String>,
    pub tip: Option<Tip>,
    /// In words, everything that the node waits for now; empty when it waits for nothing.
    pub waits_for: Vec<String>,
    /// In words, what makes it less safe than it could be: few servers, suspects.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// No block comes, or nobody tells everything about a channel.
    pub alarm: Option<AlarmView>,
    /// How far the least covered channel is told; absent without channels.
    pub least_covered: Option<LeastCovered>,
    pub servers: Vec<Server>,
    /// In words, what the last audit of the chain found; absent when it found nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    pub peers_connected: usize,
    pub peers_known: usize,
    pub channels: ChannelCounts,
    pub balance: Option<Balance>,
    /// Addresses it listens on for peers.
    pub listening: Vec<String>,
    /// Channels that were given up, and how far their money has come; absent when there are none.
    pub recovery: Option<RecoveryState>,
    /// The backup of the channels; absent until they are read.
    pub backup: Option<BackupState>,
    /// In words, what is wrong with the clock of this machine, or was not long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    pub started_at: u64,
}

/// `POST /v1/unlock`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// Of the seed.
    pub passphrase: Secret,
}

/// `lightnode db check`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbReport {
    /// True when nothing is wrong.
    pub ok: bool,
    /// The file.
    pub database: String,
    pub checks: Vec<DbCheck>,
}

/// One part of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbCheck {
    /// `file`, `headers`, `channels`, `book`, `wallet` or `outbox`.
    pub name: String,
    pub ok: bool,
    /// In words, what was looked at.
    pub says: String,
    /// In words, what is wrong.
    pub wrong: Vec<String>,
    /// What to do, when something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Text that is wiped when it is dropped, and never shown by `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a copy.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Our own best block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    pub height: u32,
    pub hash: String,
    /// The time in the block's header.
    pub time: u64,
    /// Seconds since the time in its header.
    pub age_secs: u64,
}

/// A configured server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub address: String,
    /// `in_use`, `connecting`, `standby`, `backing_off` or `banned`.
    pub role: String,
    pub software: Option<String>,
    /// When it will be tried again (unix seconds).
    pub retry_at: Option<u64>,
    /// The last trouble, in our words.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelCounts {
    pub usable: usize,
    pub opening: usize,
    pub inactive: usize,
    pub closing: usize,
}

/// `GET /v1/balance`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Spendable over Lightning now.
    pub lightning_sat: u64,
    /// Receivable over Lightning now.
    pub lightning_inbound_sat: u64,
    /// On-chain, confirmed and not locked, without the reserve.
    pub onchain_spendable_sat: u64,
    /// On-chain, all confirmed coins.
    pub onchain_confirmed_sat: u64,
    /// On-chain, seen but not confirmed.
    pub onchain_pending_sat: u64,
    /// Locked as inputs of fundings that are pending.
    pub onchain_locked_sat: u64,
    /// Held back to pay fees if a channel must be closed by force (anchor reserve).
    pub reserve_sat: u64,
    /// In channels that are closing; each with what it waits for.
    pub closing: Vec<ClosingBalance>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingBalance {
    pub channel_id: String,
    pub amount_sat: u64,
    /// In words: what it waits for.
    pub waits_for: String,
    /// Height at which it can be claimed, where known.
    pub claimable_height: Option<u32>,
}

/// `POST /v1/address`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewAddress {
    pub address: String,
    /// True when an older, unused address was given again because too many are unused.
    pub reused: bool,
}

/// `POST /v1/send`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    pub address: String,
    /// Absent: all.
    pub amount_sat: Option<u64>,
    /// sat/vB; absent: the node's estimate.
    pub feerate: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    pub txid: String,
    pub amount_sat: u64,
    pub fee_sat: u64,
    /// sat/vB
    pub feerate: f64,
}

/// `POST /v1/peers`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddPeer {
    /// `node_id@host:port`
    pub peer: String,
}

/// `GET /v1/peers`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    pub node_id: String,
    pub address: Option<String>,
    pub connected: bool,
    pub inbound: bool,
    /// True when it is reconnected after a restart.
    pub persisted: bool,
    pub channels: usize,
    /// When it will be dialled again (unix seconds).
    pub retry_at: Option<u64>,
}

/// `POST /v1/channels`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenChannel {
    /// `node_id@host:port`, or only the node id of a known peer.
    pub peer: String,
    /// Absent: all that can be spent.
    pub amount_sat: Option<u64>,
    #[serde(default)]
    pub push_msat: u64,
    /// Announced to the network; needs reachable addresses.
    #[serde(default)]
    pub public: bool,
    /// sat/vB of the funding transaction; absent: the node's estimate.
    pub feerate: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    pub channel_id: String,
    pub user_channel_id: String,
    pub funding_txid: String,
    pub amount_sat: u64,
    pub confirmations_required: Option<u32>,
}

/// `GET /v1/channels`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Channel {
    pub channel_id: String,
    pub user_channel_id: String,
    pub peer: String,
    pub peer_connected: bool,
    /// `opening`, `usable`, `inactive`, `closing`
    pub state: String,
    /// In words: what the state waits for.
    pub waits_for: Option<String>,
    pub funding: Option<String>,
    pub short_channel_id: Option<String>,
    pub public: bool,
    pub outbound: bool,
    pub capacity_sat: u64,
    pub spendable_msat: u64,
    pub receivable_msat: u64,
    pub our_reserve_sat: Option<u64>,
    pub confirmations: Option<u32>,
    pub confirmations_required: Option<u32>,
    /// sat per 1000 weight units of the commitment transaction.
    pub feerate_sat_per_kw: Option<u32>,
    pub pending_htlcs: usize,
}

/// `POST /v1/channels/{id}/close`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseChannel {
    #[serde(default)]
    pub force: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Closing {
    pub channel_id: String,
    /// In words: what happens next and when the money is back.
    pub next: String,
}

/// `POST /v1/invoices`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    /// Absent: the payer chooses.
    pub amount_msat: Option<u64>,
    #[serde(default)]
    pub description: String,
    pub expiry_secs: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invoice {
    pub invoice: String,
    pub payment_hash: String,
    pub amount_msat: Option<u64>,
    pub description: String,
    pub expires_at: u64,
    /// In words, when it may not be payable now (no inbound capacity, no channel); absent when all is well.
    pub warning: Option<String>,
}

/// `POST /v1/decode`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decode {
    pub invoice: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoded {
    pub network: String,
    pub payee: String,
    pub payment_hash: String,
    pub amount_msat: Option<u64>,
    pub description: Option<String>,
    pub description_hash: Option<String>,
    pub created_at: u64,
    pub expires_at: u64,
    pub expired: bool,
    pub min_final_cltv_expiry: u64,
    pub route_hints: usize,
    /// True when it is our own.
    pub own: bool,
}

/// `POST /v1/payments`: waits for the outcome, at most `timeout_secs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pay {
    pub invoice: String,
    /// Needed for an invoice without amount, refused for one with another.
    pub amount_msat: Option<u64>,
    /// Absent: 1 % + 50 sat (config `payments`).
    pub max_fee_msat: Option<u64>,
    /// How long the command waits and new attempts are made; absent: 60.
    pub timeout_secs: Option<u32>,
}

/// A line of the book. `GET /v1/history`, `GET /v1/history/{id}`, and the answer of `pay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Payment hash, or txid.
    pub id: String,
    /// `pay`, `receive`, `keysend`, `deposit`, `withdrawal`, `channel_open`, `channel_close`, `sweep`,
    /// `fee_bump`
    pub kind: String,
    /// `in` or `out`
    pub direction: String,
    /// `pending`, `succeeded`, `failed`, `unknown`, `expired`
    pub status: String,
    pub amount_msat: Option<u64>,
    pub fee_msat: Option<u64>,
    pub created_at: u64,
    pub updated_at: u64,
    pub description: Option<String>,
    pub payee: Option<String>,
    pub preimage: Option<String>,
    pub invoice: Option<String>,
    pub txid: Option<String>,
    pub height: Option<u32>,
    pub attempts: u32,
    /// Why it failed, or why it is not known, in words.
    pub reason: Option<String>,
    /// While unknown: the block height until which the outcome can stay open.
    pub open_until_height: Option<u32>,
    /// True when the answer is that of an earlier payment of the same invoice.
    #[serde(default)]
    pub already: bool,
}

/// `GET /v1/history`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// How many, newest first; absent: 50.
    pub limit: Option<u32>,
    /// Only entries created before this one (its id), for paging.
    pub before: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    pub entries: Vec<Entry>,
    /// `before` for the next page; absent at the end.
    pub next: Option<String>,
    pub forwarding_fees_msat: u64,
}

/// An answer with nothing more to say than what was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    pub done: String,
}
