//! `GET /v1/fees`. Rates are in sat/vB.

use serde::{Deserialize, Serialize};

/// What the node pays for a place in a block, and who says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fees {
    /// In force now: first what is urgent, then from fast to slow.
    pub targets: Vec<FeeTarget>,
    /// When servers last gave estimates (unix seconds); absent: never.
    pub at: Option<u64>,
    /// Seconds since then.
    pub age_secs: Option<u64>,
    /// As configured.
    pub limits: FeeLimits,
    /// Each server's last word, also when it is too old to count (half an hour).
    pub sources: Vec<FeeSource>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeeTarget {
    /// To be confirmed within so many.
    pub blocks: u16,
    /// For transactions that a deadline stands behind.
    pub urgent: bool,
    pub sat_per_vb: f64,
    /// In words: where it comes from, and what holds it.
    pub from: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeLimits {
    pub min_sat_per_vb: u32,
    pub max_sat_per_vb: u32,
    pub fallback_sat_per_vb: u32,
    pub max_factor_per_hour: u32,
}

/// What a server said last; what is no rate, or absurd, is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeeSource {
    pub server: String,
    /// Unix seconds.
    pub at: u64,
    /// Seconds since then.
    pub age_secs: u64,
    pub estimates: Vec<FeeEstimate>,
    /// What its mempool says of the next block; absent when all of it fits.
    pub next_block_sat_per_vb: Option<f64>,
    /// The least that it relays.
    pub relay_sat_per_vb: Option<f64>,
    /// Why it said nothing, in our words.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeeEstimate {
    pub blocks: u16,
    pub sat_per_vb: f64,
}
