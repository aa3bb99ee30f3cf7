//! What a place in a block costs, made of claims. Reading is cheap and never waits: LDK asks under its locks.
//!
//! Rules: a claim that is no positive number, or absurd, is no estimate; the median of the servers counts, each joined
//! with what its mempool says of the next block; no rate is below what a node relays (253 sat per 1000 weight units, the
//! configured floor, or the servers' own minimum) nor above the configured limit; a faster target never costs less than
//! a slower one; within an hour a rate changes by a configured factor at most; without estimates the last good ones
//! stay, after a day no lower than the configured fallback, which a node uses that never had any. No floating point.
//!
//! Decision: the urgent rate, which pays for what a peer could take after a deadline, follows the upper server, up to
//! twice the median. Too little there can cost the money itself, too much costs a fee; so a server that alone sees the
//! fees rise is heard, and one that lies can double this one rate and no more. Rejected: the upper server without that
//! bound. Cost: a liar makes urgent transactions up to twice as dear.

mod claim;
mod slew;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::clock::unix_now;
use crate::config;
use crate::source::{FeeClaims, SourceError};

pub use claim::Word;
use slew::Slew;

/// What every node relays, in sat per 1000 weight units: 1 sat/vB, rounded up.
pub const FLOOR: u32 = 253;
/// Targets of the book in blocks, fastest first; also those that servers are asked for.
pub const TARGETS: [u16; PLACES] = crate::source::fees::TARGETS;
const PLACES: usize = crate::source::fees::TARGETS.len();
/// The place of the target that the urgent rate is for: 6 blocks.
const URGENT: usize = 1;
/// The urgent rate is at most so many times the median.
const URGENT_FACTOR: u32 = 2;
/// Claims of a server that is no longer asked count for so many seconds.
const CLAIM_LIFE: u64 = 1800;
/// What was heard longer ago than this, in seconds, does not keep a rate below the fallback any more.
const STALE: u64 = 24 * 3600;

/// The book. Clones share it.
#[derive(Clone, Debug)]
pub struct FeeBook(Arc<RwLock<Book>>);

/// Rates in sat per 1000 weight units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// By the places of [`TARGETS`].
    pub targets: [u32; PLACES],
    /// For what must not wait.
    pub urgent: u32,
}

/// Estimates, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeRecord {
    /// Unix seconds.
    pub at: u64,
    /// What was in force.
    #[serde(flatten)]
    pub rates: Rates,
}

/// Rates, where they come from, and what each server said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeView {
    /// What is in force now.
    pub rates: Rates,
    /// Where each of [`TARGETS`] comes from, and last the urgent rate.
    pub origins: [Origin; PLACES + 1],
    /// When servers last gave estimates (Unix seconds); `None`: never.
    pub at: Option<u64>,
    /// Each server's last word, by name.
    pub servers: Vec<(String, LastWord)>,
}

/// Where a rate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configured fallback: no server ever gave an estimate, or it is long ago and was lower.
    Fallback,
    /// From before the node started; no server has given an estimate since.
    Remembered,
    /// So many servers, held within bounds by this.
    Servers(usize, Option<Bound>),
    /// No server has an estimate for this target: a faster one's, held within bounds by this.
    Faster(Option<Bound>),
}

/// What holds a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The configured limit.
    Most,
    /// The least that is relayed.
    Least,
    /// A slower target costs as much.
    Slower,
    /// It changes no faster.
    Pace,
}

/// What a server said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWord {
    /// Unix seconds.
    pub at: u64,
    /// What of it can be used; or why there is nothing, in our words.
    pub said: Result<Word, String>,
}

#[derive(Debug)]
struct Book {
    /// In sat per 1000 weight units.
    floor: u32,
    cap: u32,
    fallback: u32,
    known: Option<FeeRecord>,
    /// Of what is known, unless it is from before the start.
    origins: Option<[Origin; PLACES + 1]>,
    slew: Slew,
    /// By the server's address.
    words: BTreeMap<String, LastWord>,
}

impl Rates {
    fn all(rate: u32) -> Self {
        Self { targets: [rate; PLACES], urgent: rate }
    }

    fn map(self, mut f: impl FnMut(u32) -> u32) -> Self {
        Self { targets: self.targets.map(&mut f), urgent: f(self.urgent) }
    }

    fn zip(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        let mut targets = self.targets;
        for (rate, other) in targets.iter_mut().zip(other.targets) {
            *rate = f(*rate, other);
        }
        Self { targets, urgent: f(self.urgent, other.urgent) }
    }
}

impl FeeBook {
    /// A book within the configured limits that begins with what was stored.
    pub fn new(limits: &config::Fees, stored: Option<FeeRecord>) -> Self {
        let per_kw = |sat_per_vb: u32| sat_per_vb.saturating_mul(250).max(FLOOR);
        let cap = per_kw(limits.max_sat_per_vb);
        let floor = per_kw(limits.min_sat_per_vb).min(cap);
        let fallback = per_kw(limits.fallback_sat_per_vb).clamp(floor, cap);
        let slew = Slew::new(limits.max_factor_per_hour, stored.map(|stored| (stored.at, stored.rates)));
        let words = BTreeMap::new();
        Self(Arc::new(RwLock::new(Book { floor, cap, fallback, known: stored, origins: None, slew, words })))
    }

    /// The rate for confirmation within so many blocks, in sat per 1000 weight units. Between two targets it is that
    /// of the faster one.
    pub fn within(&self, blocks: u16) -> u32 {
        let place = TARGETS.iter().rposition(|target| *target <= blocks).unwrap_or(0);
        self.rates().targets[place]
    }

    /// The rate for what must not wait, in sat per 1000 weight units; never below that for 6 blocks.
    pub fn urgent(&self) -> u32 {
        self.rates().urgent
    }

    fn rates(&self) -> Rates {
        self.read(|book| book.rates(unix_now()).0)
    }

    /// All of it, for people.
    pub fn view(&self) -> FeeView {
        self.read(|book| book.view(unix_now()))
    }

    /// What is to be stored.
    pub fn record(&self) -> Option<FeeRecord> {
        self.read(|book| book.known)
    }

    fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what a server claims; `now` is in Unix seconds. True when there is an estimate.
    pub fn learn(&self, server: &str, claims: &FeeClaims, now: u64) -> bool {
        self.write(|book| {
            book.words.insert(server.to_owned(), LastWord { at: now, said: Ok(Word::of(claims)) });
            book.settle(now)
        })
    }

    /// A server did not say anything that can be understood.
    pub fn failed(&self, server: &str, why: &SourceError, now: u64) {
        self.write(|book| book.words.insert(server.to_owned(), LastWord { at: now, said: Err(why.to_string()) }));
    }

    /// A server is not to be heard any more.
    pub fn forget(&self, server: &str) {
        self.write(|book| book.words.remove(server));
    }
}

impl Book {
    /// What is in force, and whether it is only because nothing was heard for long.
    fn rates(&self, now: u64) -> (Rates, bool) {
        let Some(known) = &self.known else { return (Rates::all(self.fallback), true) };
        // The limits may be other ones than when it was stored.
        let rates = known.rates.map(|rate| rate.clamp(self.floor, self.cap));
        match now.saturating_sub(known.at) > STALE {
            true => (rates.map(|rate| rate.max(self.fallback)), true),
            false => (rates, false),
        }
    }

    fn view(&self, now: u64) -> FeeView {
        let (rates, stale) = self.rates(now);
        let fresh = self.origins.unwrap_or([Origin::Remembered; PLACES + 1]);
        let mut place = 0;
        let origins = fresh.map(|origin| {
            let rate = rates.targets.get(place).copied().unwrap_or(rates.urgent);
            place += 1;
            if stale && rate == self.fallback { Origin::Fallback } else { origin }
        });
        let servers = self.words.iter().map(|(server, word)| (server.clone(), word.clone())).collect();
        FeeView { rates, origins, at: self.known.map(|known| known.at), servers }
    }

    /// Makes rates of what the servers said; false when that is no estimate.
    fn settle(&mut self, now: u64) -> bool {
        let Some((wanted, mut origins)) = self.claimed(now) else { return false };
        let stepped = self.slew.step(wanted, self.known.map(|known| (known.at, known.rates)), now);
        let rates = stepped.map(|rate| rate.clamp(self.floor, self.cap));
        let both =
            rates.targets.into_iter().chain([rates.urgent]).zip(wanted.targets.into_iter().chain([wanted.urgent]));
        for (origin, (rate, wanted)) in origins.iter_mut().zip(both) {
            if rate != wanted {
                *origin = origin.held(Bound::Pace);
            }
        }
        self.known = Some(FeeRecord { at: now, rates });
        self.origins = Some(origins);
        true
    }

    /// The servers' median for each target, within the limits; `None`: there is no estimate at all.
    fn claimed(&self, now: u64) -> Option<(Rates, [Origin; PLACES + 1])> {
        let fresh = |word: &&LastWord| now.saturating_sub(word.at) < CLAIM_LIFE;
        let words: Vec<&Word> = self.words.values().filter(fresh).filter_map(|word| word.said.as_ref().ok()).collect();
        let relay = median(words.iter().filter_map(|word| word.relay.map(per_kw)).collect()).unwrap_or(FLOOR);
        let floor = relay.clamp(self.floor, self.cap);
        let said: Vec<[Option<u32>; PLACES]> = words.iter().map(|word| word.rates()).collect();
        let of = |place: usize| said.iter().filter_map(move |rates| rates[place]).collect::<Vec<u32>>();

        // A target without an estimate costs as much as the next faster one; before the first, as that one.
        let mut last = (0..PLACES).find_map(|place| median(of(place)))?;
        let mut targets = [0; PLACES];
        let mut origins = [Origin::Fallback; PLACES + 1];
        for place in 0..PLACES {
            let claims = of(place);
            origins[place] = match median(claims.clone()) {
                Some(median) => {
                    last = median;
                    Origin::Servers(claims.len(), None)
                }
                None => Origin::Faster(None),
            };
            (targets[place], origins[place]) = within(last, floor, self.cap, origins[place]);
        }
        for place in (1..PLACES).rev() {
            if targets[place - 1] < targets[place] {
                targets[place - 1] = targets[place];
                origins[place - 1] = origins[place - 1].held(Bound::Slower);
            }
        }
        let most = targets[URGENT].saturating_mul(URGENT_FACTOR).min(self.cap);
        let upper = of(URGENT).into_iter().max().unwrap_or(0);
        origins[PLACES] = origins[URGENT];
        Some((Rates { targets, urgent: upper.clamp(targets[URGENT], most) }, origins))
    }
}

impl Origin {
    fn held(self, bound: Bound) -> Self {
        match self {
            Self::Servers(count, _) => Self::Servers(count, Some(bound)),
            Self::Faster(_) => Self::Faster(Some(bound)),
            Self::Fallback | Self::Remembered => self,
        }
    }
}

fn within(rate: u32, floor: u32, cap: u32, origin: Origin) -> (u32, Origin) {
    match rate {
        rate if rate > cap => (cap, origin.held(Bound::Most)),
        rate if rate < floor => (floor, origin.held(Bound::Least)),
        rate => (rate, origin),
    }
}

/// sat per 1000 virtual bytes to sat per 1000 weight units, rounded up.
fn per_kw(rate: u64) -> u32 {
    u32::try_from(rate.div_ceil(4)).unwrap_or(u32::MAX)
}

/// The middle one; of two middle ones, their mean.
fn median(mut rates: Vec<u32>) -> Option<u32> {
    rates.sort_unstable();
    let upper = *rates.get(rates.len() / 2)?;
    let lower = rates[(rates.len() - 1) / 2];
    Some(lower + (upper - lower) / 2)
}
