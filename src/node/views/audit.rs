//! The second opinion.

use serde::{Deserialize, Serialize};

/// `POST /v1/chain/audit`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// `tcp://host:port` or `ssl://host:port`. Absent: one of the known servers, if possible one that does not serve us.
    pub server: Option<String>,
}

/// What LDK's own engine, in shadow, made of the chain, beside what is proven here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainAudit {
    /// When it was begun.
    pub at: u64,
    pub verdict: Verdict,
    /// The server that gave the opinion.
    pub server: Option<String>,
    /// True when that server also feeds the node's own engine: it cannot tell of what this server hides.
    pub serves_us: bool,
    /// Transactions and outputs that were looked for.
    pub watched: usize,
    /// Transactions that either side holds for confirmed.
    pub compared: usize,
    /// Our best block.
    pub ours: Option<BlockId>,
    /// The server's best block.
    pub theirs: Option<BlockId>,
    /// In chain order; nothing was done about them.
    pub disagreements: Vec<AuditDisagreement>,
    /// Servers that gave none, and why not.
    pub without_opinion: Vec<NoOpinion>,
}

/// What an audit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Agrees,
    Disagrees,
    /// No server gave an opinion.
    NoOpinion,
}

/// One thing with two stories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDisagreement {
    /// The transaction; absent: the best block itself.
    pub txid: Option<String>,
    /// The lowest height that a story names.
    pub height: Option<u32>,
    /// The block where it is proven to be; absent: unconfirmed.
    pub ours: Option<BlockId>,
    /// The block where LDK's engine was told it is; absent: unconfirmed.
    pub theirs: Option<BlockId>,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockId {
    pub height: u32,
    pub hash: String,
}

/// A server without an opinion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoOpinion {
    pub server: String,
    /// In words; may quote the server.
    pub why: String,
}
