//! What a place in a block costs, made of claims. Reading is cheap and never waits: LDK asks under its locks.
//!
//! Rules: a claim that is no positive number is no estimate; the median of the servers counts; no rate is below what a
//! node relays (253 sat per 1000 weight units, or the servers' own minimum) nor above the configured limit; a faster
//! target never costs less than a slower one; one step at a time (`SLEW`); without estimates the last good ones
//! stay, and only a node that never had any uses the configured fallback. No floating point.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::source::FeeClaims;

/// What every node relays, in sat per 1000 weight units: 1 sat/vB, rounded up.
pub const FLOOR: u32 = 253;
/// Targets of the book in blocks, fastest first; also those that servers are asked for.
pub const TARGETS: [u16; 4] = crate::source::fees::TARGETS;
/// A rate changes by this factor at most in [`STEP`] seconds: a lying server alone cannot make us pay the limit, or
/// nothing, from one minute to the next. What is older may change by as many steps as have passed.
const SLEW: u64 = 2;
const STEP: u64 = 600;
/// Claims of a server that is no longer asked count for so many seconds.
const CLAIM_LIFE: u64 = 1800;
/// Virtual bytes in a block.
const BLOCK: u64 = 1_000_000;

/// The book. Clones share it.
#[derive(Clone, Debug)]
pub struct FeeBook(Arc<RwLock<Book>>);

/// Rates, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeView {
    /// Target in blocks and rate in sat per 1000 weight units, fastest first.
    pub rates: Vec<(u16, u32)>,
    /// When servers last said so (Unix seconds); `None`: never, these are the configured fallback.
    pub at: Option<u64>,
}

/// Estimates, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeRecord {
    /// Unix seconds.
    pub at: u64,
    /// By the places of [`TARGETS`], in sat per 1000 weight units.
    pub rates: [u32; TARGETS.len()],
}

#[derive(Debug)]
struct Book {
    /// In sat per 1000 weight units.
    cap: u32,
    fallback: u32,
    known: Option<FeeRecord>,
    /// What each server claimed last, by name.
    claims: BTreeMap<String, (u64, FeeClaims)>,
}

impl FeeBook {
    /// A book within the configured limits that begins with what was stored.
    pub fn new(limits: &config::Fees, stored: Option<FeeRecord>) -> Self {
        let per_kw = |sat_per_vb: u32| sat_per_vb.saturating_mul(250).max(FLOOR);
        let cap = per_kw(limits.max_sat_per_vb);
        let fallback = per_kw(limits.fallback_sat_per_vb).min(cap);
        Self(Arc::new(RwLock::new(Book { cap, fallback, known: stored, claims: BTreeMap::new() })))
    }

    /// The rate for confirmation within so many blocks, in sat per 1000 weight units. Between two targets it is that
    /// of the faster one.
    pub fn within(&self, blocks: u16) -> u32 {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let place = TARGETS.iter().rposition(|target| *target <= blocks).unwrap_or(0);
        book.rates()[place]
    }

    /// All rates, for people.
    pub fn view(&self) -> FeeView {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let rates = TARGETS.into_iter().zip(book.rates()).collect();
        FeeView { rates, at: book.known.as_ref().map(|known| known.at) }
    }

    /// Takes what a server claims; `now` is in Unix seconds. Gives what is to be stored, if there is an estimate.
    pub fn learn(&self, server: &str, claims: FeeClaims, now: u64) -> Option<FeeRecord> {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        book.claims.retain(|_, (at, _)| now.saturating_sub(*at) < CLAIM_LIFE);
        book.claims.insert(server.to_owned(), (now, claims));
        let claimed = book.claimed()?;
        let record = FeeRecord { at: now, rates: book.step(claimed, now) };
        book.known = Some(record.clone());
        Some(record)
    }
}

impl Book {
    fn rates(&self) -> [u32; TARGETS.len()] {
        match &self.known {
            // The limit may be lower than when they were stored.
            Some(known) => known.rates.map(|rate| rate.clamp(FLOOR, self.cap)),
            None => [self.fallback; TARGETS.len()],
        }
    }

    /// The servers' median for each target, within the limits; `None`: there is no estimate at all.
    fn claimed(&self) -> Option<[u32; TARGETS.len()]> {
        let all = || self.claims.values().map(|(_, claims)| claims);
        let relay = median(all().filter_map(|claims| claims.relay).collect()).map_or(FLOOR, per_kw);
        let floor = relay.clamp(FLOOR, self.cap);
        let estimates = TARGETS.map(|target| median(all().filter_map(|claims| estimate(claims, target)).collect()));
        // A target without an estimate costs as much as the next faster one.
        let mut last = estimates.iter().flatten().next().copied()?;
        let mut rates = estimates.map(|estimate| {
            last = estimate.unwrap_or(last);
            per_kw(last).clamp(floor, self.cap)
        });
        for place in (1..rates.len()).rev() {
            rates[place - 1] = rates[place - 1].max(rates[place]);
        }
        Some(rates)
    }

    /// `rates`, but not further from the known ones than the time since then allows.
    fn step(&self, rates: [u32; TARGETS.len()], now: u64) -> [u32; TARGETS.len()] {
        let Some(known) = &self.known else { return rates };
        let steps = u32::try_from(now.saturating_sub(known.at) / STEP).unwrap_or(u32::MAX).saturating_add(1);
        let factor = SLEW.saturating_pow(steps);
        let mut place = 0;
        rates.map(|rate| {
            let from = u64::from(known.rates[place].clamp(FLOOR, self.cap));
            place += 1;
            let lowest = u32::try_from(from / factor).unwrap_or(u32::MAX);
            let highest = u32::try_from(from.saturating_mul(factor)).unwrap_or(u32::MAX);
            rate.clamp(lowest, highest).clamp(FLOOR, self.cap)
        })
    }
}

/// One server's estimate, in sat per 1000 virtual bytes; from its mempool where it has none of its own.
fn estimate(claims: &FeeClaims, target: u16) -> Option<u64> {
    if !claims.estimates.is_empty() {
        return claims.estimates.iter().find(|(its, _)| *its == target).map(|(_, rate)| *rate);
    }
    // What still fits into so many blocks if nothing new comes. A mempool below one block says nothing.
    let depth = u64::from(target).saturating_mul(BLOCK);
    let mut above = 0u64;
    let mut fits = None;
    for (rate, size) in &claims.histogram {
        above = above.saturating_add(*size);
        fits = Some(*rate);
        if above >= depth {
            break;
        }
    }
    fits.filter(|rate| above >= BLOCK && *rate > 0)
}

/// sat per 1000 virtual bytes to sat per 1000 weight units, rounded up.
fn per_kw(rate: u64) -> u32 {
    u32::try_from(rate.div_ceil(4)).unwrap_or(u32::MAX)
}

/// The middle one; of two middle ones, their mean.
fn median(mut rates: Vec<u64>) -> Option<u64> {
    rates.sort_unstable();
    let upper = *rates.get(rates.len() / 2)?;
    let lower = rates[(rates.len() - 1) / 2];
    Some(lower + (upper - lower) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn limits() -> config::Fees {
        config::Fees { max_sat_per_vb: 500, fallback_sat_per_vb: 10 }
    }

    fn book() -> FeeBook {
        FeeBook::new(&limits(), None)
    }

    /// Estimates in sat/vB for the four targets.
    fn says(estimates: [u64; 4]) -> FeeClaims {
        let estimates = TARGETS.into_iter().zip(estimates.map(|rate| rate * 1000)).filter(|(_, rate)| *rate > 0);
        FeeClaims { estimates: estimates.collect(), ..FeeClaims::default() }
    }

    /// In sat/vB, for the four targets.
    fn rates(book: &FeeBook) -> [u32; 4] {
        TARGETS.map(|target| book.within(target) / 250)
    }

    #[test]
    fn before_any_estimate_the_fallback_is_used_and_said() {
        assert_eq!(rates(&book()), [10; 4]);
        assert_eq!(book().view().at, None);
    }

    #[test]
    fn without_estimates_the_last_good_ones_stay() {
        let book = book();
        assert!(book.learn("a", says([30, 20, 5, 2]), 0).is_some());
        assert_eq!(book.learn("a", FeeClaims::default(), HOUR), None);
        assert_eq!(rates(&book), [30, 20, 5, 2]);
        assert_eq!(book.view().at, Some(0));
    }

    #[test]
    fn a_faster_target_never_costs_less_and_between_two_the_faster_counts() {
        let book = book();
        book.learn("a", says([10, 20, 0, 3]), 0);
        assert_eq!(rates(&book), [20, 20, 20, 3]);
        assert_eq!(book.within(1), book.within(2));
        assert_eq!(book.within(143), book.within(6));
        assert_eq!(book.within(u16::MAX), 750);
    }

    #[test]
    fn no_claim_leads_out_of_the_limits() {
        let book = book();
        let absurd = FeeClaims { estimates: vec![(2, u64::MAX), (6, 1)], relay: Some(u64::MAX), histogram: vec![] };
        book.learn("a", absurd, 0);
        assert_eq!(rates(&book), [500; 4]);
        let stored = FeeRecord { at: 0, rates: [u32::MAX, 1000, 1, 0] };
        let book = FeeBook::new(&limits(), Some(stored));
        assert_eq!(TARGETS.map(|target| book.within(target)), [125_000, 1000, FLOOR, FLOOR]);
    }

    #[test]
    fn one_server_among_three_does_not_move_the_book() {
        let book = book();
        book.learn("a", says([30, 20, 10, 5]), 0);
        book.learn("b", says([32, 22, 12, 6]), 1);
        book.learn("liar", says([500, 500, 500, 500]), 2);
        assert_eq!(rates(&book), [32, 22, 12, 6]);
        book.learn("liar", says([1, 1, 1, 1]), 3);
        assert_eq!(rates(&book), [30, 20, 10, 5]);
    }

    #[test]
    fn a_rate_at_most_doubles_or_halves_in_ten_minutes() {
        let book = book();
        book.learn("a", says([20, 20, 20, 20]), 0);
        book.learn("a", says([500, 500, 500, 500]), 1);
        assert_eq!(rates(&book)[0], 40);
        book.learn("a", says([1, 1, 1, 1]), 2);
        assert_eq!(rates(&book)[0], 20);
        // After a long time off, the world may be another.
        book.learn("a", says([400, 300, 200, 100]), 24 * HOUR);
        assert_eq!(rates(&book), [400, 300, 200, 100]);
    }

    #[test]
    fn a_full_mempool_is_an_estimate_and_an_empty_one_is_none() {
        let book = book();
        let empty = FeeClaims { histogram: vec![(50_000, 100_000)], ..FeeClaims::default() };
        assert_eq!(book.learn("a", empty, 0), None);
        let histogram = vec![(50_000, BLOCK), (20_000, BLOCK), (5000, 10 * BLOCK), (1000, BLOCK)];
        book.learn("a", FeeClaims { histogram, ..FeeClaims::default() }, 0);
        assert_eq!(rates(&book), [20, 5, 1, 1]);
    }

    #[test]
    fn nothing_is_below_what_the_server_relays() {
        let book = book();
        book.learn("a", FeeClaims { relay: Some(4000), ..says([9, 3, 1, 1]) }, 0);
        assert_eq!(rates(&book), [9, 4, 4, 4]);
    }
}
