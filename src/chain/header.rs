//! The rules for one header, given its ancestors.
//!
//! Contract (Bitcoin Core, `pow.cpp` and `ContextualCheckBlockHeader` in `validation.cpp`):
//! - `bits` equal what the rules of the network say, and only then is the hash compared with *that* target: a
//!   header's own idea of its target proves nothing.
//! - The timespan of a retarget is signed (a period may end before it began) and clamped to a quarter and four times
//!   two weeks. It has 2015 steps, not 2016: an old mistake that is now the rule.
//! - `time` is above the median of the eleven before, and at most two hours ahead of a sane clock. A clock that is
//!   behind that median is wrong (a Raspberry Pi has no battery): then the future is not judged.
//! - testnet4 (BIP 94): the first block of a period is at most 600 s older than its parent.
//! - Not checkable from headers: signet's signatures. There, anybody with a little work can extend the chain.

use bitcoin::block::{Header, Version};
use bitcoin::{BlockHash, CompactTarget, Network, Target};

use super::params::{PERIOD, Params, Retarget};

/// How far ahead of the clock a header may be, in seconds (Core: `MAX_FUTURE_BLOCK_TIME`).
const MAX_FUTURE: u32 = 2 * 60 * 60;
/// How much older than its parent the first block of a period may be on testnet4, in seconds (BIP 94).
const MAX_TIMEWARP: u32 = 600;
/// Headers whose median time a new one must exceed.
const MEDIAN_SPAN: u32 = 11;

/// What is wrong with a header, whoever looks at it and whenever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `bits` are not those that the rules of the network give.
    #[error("the header's bits are not what the retarget rules give")]
    Bits,
    /// The hash is above the target.
    #[error("the header's hash does not meet its target")]
    Work,
    /// Not later than the median of the eleven headers before it.
    #[error("the header is not later than the median of the eleven before it")]
    MedianTime,
    /// First block of a period, too much older than its parent (BIP 94).
    #[error("the header bends time at the start of a retarget period")]
    TimeWarp,
    /// A version that no upgraded node accepts at this height (BIP 34, 65, 66).
    #[error("the header has a version that is no longer allowed")]
    Version,
    /// Another block than the one that is known to be at this height.
    #[error("the header contradicts a checkpoint")]
    Checkpoint,
    /// Headers said to be consecutive are not.
    #[error("the headers are not linked")]
    Linkage,
}

/// Why a header did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It never will.
    Fault(Fault),
    /// It may later: it is ahead of our clock.
    Future,
    /// An ancestor that the rules need is not held.
    Unjudged,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Failed::Fault(fault)
    }
}

/// The ancestors of a header, by height.
pub(super) trait Ancestry {
    /// `None` below the lowest one that is held.
    fn ancestor(&self, height: u32) -> Option<Header>;
}

/// Checks a header at `height` (above 0) whose parent is `chain`'s ancestor at `height - 1`. `clock` is in Unix
/// seconds. Gives the header's hash.
pub(super) fn check(
    params: &Params,
    header: &Header,
    height: u32,
    chain: &impl Ancestry,
    clock: u64,
) -> Result<BlockHash, Failed> {
    let parent = chain.ancestor(height - 1).ok_or(Failed::Unjudged)?;
    let bits = next_bits(params, height, &parent, header.time, chain).ok_or(Failed::Unjudged)?;
    if header.bits != bits {
        return Err(Fault::Bits.into());
    }
    let hash = header.validate_pow(Target::from_compact(bits)).map_err(|_| Fault::Work)?;
    let median = median_time(height - 1, chain);
    if header.time <= median {
        return Err(Fault::MedianTime.into());
    }
    let warped = i64::from(header.time) < i64::from(parent.time) - i64::from(MAX_TIMEWARP);
    if params.retarget == Retarget::Bip94 && height % PERIOD == 0 && warped {
        return Err(Fault::TimeWarp.into());
    }
    if !version_allowed(params, header.version, height) {
        return Err(Fault::Version.into());
    }
    let sane = clock >= u64::from(median);
    if sane && u64::from(header.time) > clock + u64::from(MAX_FUTURE) {
        return Err(Failed::Future);
    }
    Ok(hash)
}

/// Regtest nodes choose these heights themselves.
fn version_allowed(params: &Params, version: Version, height: u32) -> bool {
    let rules = params.consensus;
    let least = match height {
        _ if params.network() == Network::Regtest => return true,
        h if h >= rules.bip65_height => 4,
        h if h >= rules.bip66_height => 3,
        h if h >= rules.bip34_height => 2,
        _ => return true,
    };
    version.to_consensus() >= least
}

/// The bits that a header at `height` with this `time` must have; `None` when an ancestor is missing.
pub(super) fn next_bits(
    params: &Params,
    height: u32,
    parent: &Header,
    time: u32,
    chain: &impl Ancestry,
) -> Option<CompactTarget> {
    let limit = params.consensus.max_attainable_target.to_compact_lossy();
    if params.retarget == Retarget::Constant {
        return Some(limit);
    }
    if height % PERIOD == 0 {
        let first = chain.ancestor(height - PERIOD)?;
        let before = if params.retarget == Retarget::Bip94 { first.bits } else { parent.bits };
        return Some(retarget(params, before, first.time, parent.time));
    }
    if params.retarget == Retarget::Steady {
        return Some(parent.bits);
    }
    let pause = 2 * i64::try_from(params.consensus.pow_target_spacing).ok()?;
    if i64::from(time) > i64::from(parent.time) + pause {
        return Some(limit);
    }
    // The last bits of this period that were not a 20-minute exception.
    let mut at = height - 1;
    let mut bits = parent.bits;
    while at % PERIOD != 0 && bits == limit {
        at -= 1;
        bits = chain.ancestor(at)?.bits;
    }
    Some(bits)
}

/// The bits of a new period, from the bits `before` and the times of the old period's first and last block.
fn retarget(params: &Params, before: CompactTarget, first: u32, last: u32) -> CompactTarget {
    let timespan = i64::from(last) - i64::from(first);
    // A negative span is clamped from below all the same, so 0 stands for all of them.
    CompactTarget::from_next_work_required(before, u64::try_from(timespan).unwrap_or(0), params.consensus)
}

/// Median time of the eleven headers that end at `height`, or of as many as there are.
pub(super) fn median_time(height: u32, chain: &impl Ancestry) -> u32 {
    let lowest = height.saturating_sub(MEDIAN_SPAN - 1);
    let mut times: Vec<u32> = (lowest..=height).rev().map_while(|h| chain.ancestor(h)).map(|h| h.time).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
