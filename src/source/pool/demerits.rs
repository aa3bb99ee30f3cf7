//! What speaks against a server that cannot be proven to have lied. Pure.
//!
//! Points that halve every [`HALF_LIFE`]. From [`DEMOTED_FROM`] on a server is demoted: others are preferred for
//! everything that others can do. It is restored below half of that, so that one more fault does not swing it.
//! Points die with the process: they say what a server is like now.

use std::time::Duration;

use tokio::time::Instant;

/// After this time points count half.
const HALF_LIFE: Duration = Duration::from_secs(6 * 3600);
/// So many points demote.
const DEMOTED_FROM: f64 = 10.0;
/// Fewer restore.
const RESTORED_BELOW: f64 = 5.0;
/// More are not counted: a bad day is over after some half-lives.
const MOST: f64 = 80.0;

/// Something that a good server does not do, or seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another server proved what this one did not tell.
    Omitted,
    /// It said less of a script than was proven before, or refuses to say.
    Degraded,
    /// It did not answer in time.
    Timeout,
    /// It told a tip that it had left before.
    Flip,
    /// It is more than two blocks behind our chain, for longer than news take.
    Lag,
    /// It told of no new block for so long that another one is asked.
    Stale,
}

impl Fault {
    fn points(self) -> f64 {
        match self {
            // A script of the wallet is told by one server alone: what that one does not serve, nobody does.
            Self::Omitted | Self::Degraded | Self::Lag | Self::Stale => DEMOTED_FROM,
            Self::Flip => 3.0,
            Self::Timeout => 2.0,
        }
    }

    /// In our words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Omitted => "it kept back what another server proved",
            Self::Degraded => "it does not serve the whole history of a script",
            Self::Timeout => "it did not answer in time",
            Self::Flip => "its tip goes back and forth",
            Self::Lag => "it is behind",
            Self::Stale => "it told of no new block for long",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Demerits {
    points: f64,
    at: Instant,
    demoted: bool,
    last: Option<Fault>,
}

impl Demerits {
    pub(super) fn none(now: Instant) -> Self {
        Self { points: 0.0, at: now, demoted: false, last: None }
    }

    /// One more fault; true when it demotes.
    pub(super) fn add(&mut self, fault: Fault, now: Instant) -> bool {
        let before = self.demoted(now);
        self.points = (self.points(now) + fault.points()).min(MOST);
        self.at = now;
        self.demoted = before || self.points >= DEMOTED_FROM;
        self.last = Some(fault);
        self.demoted && !before
    }

    fn points(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.points * (-age / HALF_LIFE.as_secs_f64()).exp2()
    }

    pub(super) fn demoted(&self, now: Instant) -> bool {
        self.demoted && self.points(now) >= RESTORED_BELOW
    }

    /// Whole points, for people and for ordering.
    pub(super) fn score(&self, now: Instant) -> u32 {
        // At most MOST, and never negative.
        self.points(now).round() as u32
    }

    /// The last fault, while it still counts.
    pub(super) fn fault(&self, now: Instant) -> Option<Fault> {
        self.last.filter(|_| self.score(now) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_omission_demotes_at_once_and_time_restores() {
        let now = Instant::now();
        let mut demerits = Demerits::none(now);
        assert!(demerits.add(Fault::Omitted, now));
        assert!(!demerits.add(Fault::Timeout, now), "it is demoted once");
        assert!(demerits.demoted(now + HALF_LIFE));
        assert!(!demerits.demoted(now + 2 * HALF_LIFE));
        assert_eq!(demerits.score(now + HALF_LIFE), 6);
        assert_eq!(demerits.fault(now + 20 * HALF_LIFE), None);
    }

    #[test]
    fn small_faults_demote_when_they_pile_up_and_are_forgiven_when_they_do_not() {
        let mut now = Instant::now();
        let mut demerits = Demerits::none(now);
        for _ in 0..4 {
            assert!(!demerits.add(Fault::Timeout, now));
        }
        assert!(demerits.add(Fault::Timeout, now));
        let mut seldom = Demerits::none(now);
        for _ in 0..50 {
            assert!(!seldom.add(Fault::Timeout, now));
            now += HALF_LIFE;
        }
    }

    #[test]
    fn the_worst_day_is_over_after_a_day() {
        let now = Instant::now();
        let mut demerits = Demerits::none(now);
        for _ in 0..1_000 {
            demerits.add(Fault::Omitted, now);
        }
        assert!(demerits.demoted(now + 3 * HALF_LIFE) && !demerits.demoted(now + 5 * HALF_LIFE));
    }
}
