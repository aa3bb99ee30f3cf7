//! `GET /v1/servers`

use serde::{Deserialize, Serialize};

/// A configured server, with all that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDetail {
    /// As configured.
    pub address: String,
    /// `in_use`, `connecting`, `standby`, `backing_off`, `unusable` or `banned`.
    pub role: String,
    /// One's own (`trusted = true`).
    pub trusted: bool,
    /// What it is used for now: `headers` and `broadcasts` (every connected one), `channels` (it is told the scripts of
    /// channels), `wallet` (it is told those of the wallet).
    pub duties: Vec<String>,
    /// The server's own name for its software.
    pub software: Option<String>,
    /// The protocol agreed on.
    pub protocol: Option<String>,
    /// `clear`, `authority`, `pinned` or `first_use`.
    pub protection: Option<String>,
    /// The height that it claims, or claimed last.
    pub tip: Option<u32>,
    /// Blocks that it is behind our chain.
    pub behind: Option<u32>,
    /// Smoothed time from question to answer.
    pub latency_ms: Option<u64>,
    /// When something was heard from it last (unix seconds).
    pub heard_at: Option<u64>,
    pub connected_since: Option<u64>,
    /// Scripts that are followed on it.
    pub watches: usize,
    /// Of these, scripts whose history it does not serve whole.
    pub degraded: usize,
    /// The height up to which it has told everything of them.
    pub covered: Option<u32>,
    /// What speaks against it: 0 is nothing, from 10 on it is demoted. Halves every six hours.
    pub score: u32,
    /// True while others are preferred for everything that others can do.
    pub demoted: bool,
    /// The last thing that speaks against it, in our words.
    pub fault: Option<String>,
    /// The last trouble with it, in our words.
    pub trouble: Option<String>,
    /// When it is tried again, unless it is in use (unix seconds).
    pub retry_at: Option<u64>,
    pub ban: Option<Ban>,
    /// Present while it shows another key than the known one; it is not used then.
    pub changed_key: Option<ChangedKey>,
}

/// A server shows another key than it has to. Keys are SHA-256 of a SubjectPublicKeyInfo, in hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedKey {
    /// The known one; absent: any, with a certificate that a public authority vouches for.
    pub known: Option<String>,
    pub shown: String,
    /// A public authority vouches for what is shown.
    pub vouched: bool,
}

/// `POST /v1/servers/{host}/trust`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustKey {
    /// The key that was read and is accepted, as `shown` has it.
    pub key: String,
}

/// What is accepted from a server from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// `host:port`
    pub server: String,
    pub key: String,
    /// Any certificate that a public authority vouches for, as the shown one is; not this key alone.
    pub by_authority: bool,
}

/// Why a server is not used at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// In our words.
    pub reason: String,
    /// Unix seconds.
    pub until: u64,
}

/// How far up the ladder of alarms the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    /// `rotating`: other servers are asked; `degraded`; `refusing`: nothing new is begun.
    pub step: String,
    pub why: String,
    /// Of the silence, or of the gap.
    pub age_secs: u64,
}

/// The channel whose history is told least far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeastCovered {
    /// By the server that tells most of it.
    pub height: u32,
    /// Blocks behind our best header.
    pub behind: u32,
}
