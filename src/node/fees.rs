//! `fees`: what a place in a block costs us, and who says so.

use super::views::{FeeEstimate, FeeLimits, FeeSource, FeeTarget, Fees};
use super::{Answer, Node, unix_now};
use crate::engine::fees::{Bound, FeeView, LastWord, Origin, TARGETS};

impl Node {
    /// Rates in force, where they come from, and each server's last word.
    pub async fn fees(&self) -> Answer<Fees> {
        let FeeView { rates, origins, at, servers } = self.parts()?.fees.view();
        let now = unix_now();
        let [targets @ .., urgent] = origins;
        let target = |blocks, urgent, rate, from| FeeTarget { blocks, urgent, sat_per_vb: of_kw(rate), from };
        let mut all = vec![target(6, true, rates.urgent, words(urgent, true))];
        for ((blocks, rate), origin) in TARGETS.into_iter().zip(rates.targets).zip(targets) {
            all.push(target(blocks, false, rate, words(origin, false)));
        }
        let limits = &self.config().fees;
        Ok(Fees {
            targets: all,
            at,
            age_secs: at.map(|at| now.saturating_sub(at)),
            limits: FeeLimits {
                min_sat_per_vb: limits.min_sat_per_vb,
                max_sat_per_vb: limits.max_sat_per_vb,
                fallback_sat_per_vb: limits.fallback_sat_per_vb,
                max_factor_per_hour: limits.max_factor_per_hour,
            },
            sources: servers.into_iter().map(|(server, word)| source(server, word, now)).collect(),
        })
    }
}

fn source(server: String, LastWord { at, said }: LastWord, now: u64) -> FeeSource {
    let (word, trouble) = match said {
        Ok(word) => (word, None),
        Err(why) => (Default::default(), Some(why)),
    };
    let estimate = |(blocks, rate)| FeeEstimate { blocks, sat_per_vb: of_kvb(rate) };
    FeeSource {
        server,
        at,
        age_secs: now.saturating_sub(at),
        estimates: word.estimates.into_iter().map(estimate).collect(),
        next_block_sat_per_vb: word.next_block.map(of_kvb),
        relay_sat_per_vb: word.relay.map(of_kvb),
        trouble,
    }
}

/// Where a rate comes from, in words.
fn words(origin: Origin, urgent: bool) -> String {
    let (from, bound) = match origin {
        Origin::Fallback => return "the configured fallback: no server gives an estimate".into(),
        Origin::Remembered => return "remembered: no server has given an estimate since the start".into(),
        Origin::Servers(1, bound) => ("1 server".to_owned(), bound),
        Origin::Servers(count, bound) if urgent => {
            (format!("the upper of {count} servers, at most twice their median"), bound)
        }
        Origin::Servers(count, bound) => (format!("the median of {count} servers"), bound),
        Origin::Faster(bound) => ("a faster target: no server has an estimate for this one".to_owned(), bound),
    };
    match bound {
        None => from,
        Some(Bound::Most) => format!("{from}; held by fees.max_sat_per_vb"),
        Some(Bound::Least) => format!("{from}; raised to what is relayed"),
        Some(Bound::Slower) => format!("{from}; raised to what a slower target costs"),
        Some(Bound::Pace) => format!("{from}; held by fees.max_factor_per_hour"),
    }
}

/// sat per 1000 weight units to sat/vB: 250 are 1, exactly.
fn of_kw(rate: u32) -> f64 {
    f64::from(rate) / 250.0
}

/// sat per 1000 virtual bytes to sat/vB. What can be used is below 2^24.
fn of_kvb(rate: u64) -> f64 {
    rate as f64 / 1000.0
}
