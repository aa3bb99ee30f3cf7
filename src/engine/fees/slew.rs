//! How fast a rate may change: by a factor in an hour. Pure.
//!
//! Decision: an hour is measured against the rates at the end of the hour before, not against the last ones heard.
//! Servers answer one after the other, and the first of them may lie: until the others have spoken too, nothing is
//! measured against it. Rejected: a step each time that something is heard, which a server that answers often could
//! take often. Cost: a node that knows nothing yet takes its first hour as it comes, within the limits.

use super::{FLOOR, Rates};

const HOUR: u64 = 3600;

/// Against what the present hour is measured.
#[derive(Debug)]
pub(super) struct Slew {
    /// At most, up or down, in an hour.
    factor: u64,
    /// When it was so, and what.
    anchor: Option<(u64, Rates)>,
    /// When the present hour began.
    since: Option<u64>,
}

impl Slew {
    pub(super) fn new(factor: u32, anchor: Option<(u64, Rates)>) -> Self {
        Self { factor: factor.into(), anchor, since: None }
    }

    /// `wanted`, as far as it may be reached at `now`. `last` is what is in force.
    pub(super) fn step(&mut self, wanted: Rates, last: Option<(u64, Rates)>, now: u64) -> Rates {
        match self.since {
            Some(since) if now.saturating_sub(since) >= HOUR => {
                self.anchor = last;
                self.since = Some(now);
            }
            // A clock that was set back begins a new hour.
            Some(since) if now >= since => {}
            _ => self.since = Some(now),
        }
        let Some((at, from)) = self.anchor else { return wanted };
        // What is older may change by as many hours as have passed.
        let hours = u32::try_from(now.saturating_sub(at) / HOUR).unwrap_or(u32::MAX).max(1);
        let factor = self.factor.saturating_pow(hours);
        wanted.zip(from, |rate, from| {
            let from = u64::from(from.max(FLOOR));
            let narrow = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
            rate.clamp(narrow(from.div_ceil(factor)), narrow(from.saturating_mul(factor)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(rate: u32) -> Rates {
        Rates { targets: [rate; 4], urgent: rate }
    }

    #[test]
    fn within_an_hour_a_rate_moves_by_the_factor_however_often_it_is_heard() {
        let mut slew = Slew::new(4, Some((0, flat(10_000))));
        let mut last = (0, flat(10_000));
        for now in 1..600 {
            last = (now, slew.step(flat(1_000_000), Some(last), now));
            assert_eq!(last.1, flat(40_000));
        }
        for now in 600..1200 {
            last = (now, slew.step(flat(1), Some(last), now));
            assert_eq!(last.1, flat(2500));
        }
        // The next hour begins where this one ended.
        last = (HOUR + 1, slew.step(flat(1_000_000), Some(last), HOUR + 1));
        assert_eq!(last.1, flat(10_000));
    }

    #[test]
    fn what_is_heard_first_is_not_what_the_others_are_measured_against() {
        // Off for two days; the liar is the first to answer.
        let mut slew = Slew::new(4, Some((0, flat(10_000))));
        let now = 48 * HOUR;
        let lie = slew.step(flat(125_000), Some((0, flat(10_000))), now);
        assert_eq!(lie, flat(125_000));
        assert_eq!(slew.step(flat(1000), Some((now, lie)), now + 1), flat(1000));
        let mut fresh = Slew::new(4, None);
        assert_eq!(fresh.step(flat(125_000), None, now), flat(125_000));
        assert_eq!(fresh.step(flat(1000), Some((now, flat(125_000))), now + 1), flat(1000));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut slew = Slew::new(4, Some((1_000_000, flat(10_000))));
        assert_eq!(slew.step(flat(20_000), None, 1_000_000), flat(20_000));
        assert_eq!(slew.step(flat(50_000), None, 5), flat(40_000));
    }
}
