//! One server's word on fees, made usable: what is no rate is left out, and its mempool joins its estimates. Pure.

use super::{PLACES, TARGETS, per_kw};
use crate::source::FeeClaims;

/// Claims above this, in sat per 1000 virtual bytes, are no estimates: 10,000 sat/vB, which no block ever asked for.
const ABSURD: u64 = 10_000_000;
/// Virtual bytes in a block.
const BLOCK: u64 = 1_000_000;

/// What a server said that can be used. Rates in sat per 1000 virtual bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Target in blocks and the rate for it, fastest first; only targets of the book.
    pub estimates: Vec<(u16, u64)>,
    /// What still fits into the next block, from the mempool by rate; `None`: all of it does, or nobody said.
    pub next_block: Option<u64>,
    /// The lowest rate that is relayed.
    pub relay: Option<u64>,
    /// By the places of the targets: what the mempool alone says.
    depths: [Option<u64>; PLACES],
}

impl Word {
    /// Of what a server claims.
    pub(super) fn of(claims: &FeeClaims) -> Self {
        let known = |(target, rate): &&(u16, u64)| TARGETS.contains(target) && usable(*rate);
        let mut estimates: Vec<(u16, u64)> = claims.estimates.iter().filter(known).copied().collect();
        estimates.sort_by_key(|(target, _)| *target);
        estimates.dedup_by_key(|(target, _)| *target);
        let depths = TARGETS.map(|target| fits(&claims.histogram, target));
        let relay = claims.relay.filter(|rate| usable(*rate));
        Self { estimates, next_block: fits(&claims.histogram, 1), relay, depths }
    }

    /// Its rate for each target, in sat per 1000 weight units.
    ///
    /// Estimates look back at blocks, so they are late when the mempool fills: for the fastest target the next block's
    /// rate counts where it is higher. A server without any estimate is taken by its mempool alone.
    pub(super) fn rates(&self) -> [Option<u32>; PLACES] {
        let mut rates = match self.estimates.is_empty() {
            true => self.depths,
            false => TARGETS.map(|target| self.estimates.iter().find(|(its, _)| *its == target).map(|(_, rate)| *rate)),
        };
        rates[0] = rates[0].max(self.next_block);
        rates.map(|rate| rate.map(per_kw))
    }
}

fn usable(rate: u64) -> bool {
    (1..=ABSURD).contains(&rate)
}

/// What still fits into so many blocks if nothing new comes. A mempool below one block says nothing.
fn fits(histogram: &[(u64, u64)], blocks: u16) -> Option<u64> {
    let depth = u64::from(blocks).saturating_mul(BLOCK);
    let mut above = 0u64;
    let mut last = None;
    for (rate, size) in histogram.iter().filter(|(rate, _)| usable(*rate)) {
        above = above.saturating_add(*size);
        last = Some(*rate);
        if above >= depth {
            break;
        }
    }
    last.filter(|_| above >= BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In sat/vB; 0 is none.
    fn rates(word: &Word) -> [u32; PLACES] {
        word.rates().map(|rate| rate.map_or(0, |rate| rate / 250))
    }

    fn estimates(estimates: &[(u16, u64)]) -> FeeClaims {
        FeeClaims { estimates: estimates.to_vec(), ..FeeClaims::default() }
    }

    #[test]
    fn what_is_no_rate_or_absurd_is_left_out() {
        let claims = estimates(&[(2, 0), (6, u64::MAX), (144, ABSURD + 1), (1008, 7000), (7, 5000), (1008, 9000)]);
        let word = Word::of(&FeeClaims { relay: Some(u64::MAX), ..claims });
        assert_eq!(word.estimates, [(1008, 7000)]);
        assert_eq!(word.relay, None);
        assert_eq!(rates(&word), [0, 0, 0, 7]);
    }

    #[test]
    fn a_full_mempool_is_an_estimate_and_an_empty_one_is_none() {
        let empty = FeeClaims { histogram: vec![(50_000, 100_000)], ..FeeClaims::default() };
        assert_eq!(rates(&Word::of(&empty)), [0; 4]);
        let histogram = vec![(50_000, BLOCK), (20_000, BLOCK), (5000, 10 * BLOCK), (1000, BLOCK)];
        let full = FeeClaims { histogram, ..FeeClaims::default() };
        // The fastest target is joined with the next block.
        assert_eq!(rates(&Word::of(&full)), [50, 5, 1, 1]);
    }

    #[test]
    fn the_next_block_raises_the_fastest_target_and_never_lowers_it() {
        let histogram = |rate| vec![(rate, 2 * BLOCK)];
        let said = estimates(&[(2, 10_000), (6, 5000)]);
        let rising = FeeClaims { histogram: histogram(60_000), ..said.clone() };
        assert_eq!(rates(&Word::of(&rising)), [60, 5, 0, 0]);
        let falling = FeeClaims { histogram: histogram(2000), ..said };
        assert_eq!(rates(&Word::of(&falling)), [10, 5, 0, 0]);
    }

    #[test]
    fn absurd_bins_of_a_mempool_do_not_count() {
        let histogram = vec![(u64::MAX, u64::MAX), (ABSURD + 1, BLOCK), (3000, BLOCK)];
        let word = Word::of(&FeeClaims { histogram, ..FeeClaims::default() });
        assert_eq!(word.next_block, Some(3000));
    }
}
