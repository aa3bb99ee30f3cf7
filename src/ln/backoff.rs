//! When a peer is dialled again: pure, one for each peer.

use std::time::{Duration, Instant};

/// The first pauses are short, because after our own restart peers are most likely there.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);
/// A connection that lasted so long was a good one; a shorter one counts as a failure.
const GOOD: Duration = Duration::from_secs(30);

/// Where a peer stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    failures: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Dialled at this time.
    Waiting(Instant),
    /// Being dialled.
    Dialling,
    /// Connected since.
    Connected(Instant),
}

impl Dial {
    /// To be dialled at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, stage: Stage::Waiting(now) }
    }

    /// Looks at whether the peer is connected now, whoever dialled.
    pub(super) fn look(&mut self, connected: bool, now: Instant, jitter: impl Fn(Duration) -> Duration) {
        match (self.stage, connected) {
            (Stage::Connected(since), false) => {
                self.failures = if now.duration_since(since) >= GOOD { 0 } else { self.failures + 1 };
                self.stage = Stage::Waiting(now + jitter(pause(self.failures)));
            }
            (Stage::Waiting(_), true) => self.stage = Stage::Connected(now),
            // Its outcome comes through `done`.
            (Stage::Dialling, _) | (Stage::Waiting(_), false) | (Stage::Connected(_), true) => {}
        }
    }

    /// True when it is time to dial.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting(at) if at <= now)
    }

    /// How long until it is dialled; `None` while it is connected or being dialled.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        match self.stage {
            Stage::Waiting(at) => Some(at.saturating_duration_since(now)),
            Stage::Dialling | Stage::Connected(_) => None,
        }
    }

    /// It is being dialled.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Dialling;
    }

    /// The outcome of dialling.
    pub(super) fn done(&mut self, connected: bool, now: Instant, jitter: impl Fn(Duration) -> Duration) {
        if connected {
            self.stage = Stage::Connected(now);
        } else {
            self.failures += 1;
            self.stage = Stage::Waiting(now + jitter(pause(self.failures)));
        }
    }
}

/// Twice as long after each failure.
fn pause(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST)
}

/// Between three quarters and five quarters, so that nodes which went down together do not come back together.
pub(super) fn jitter(pause: Duration) -> Duration {
    // Without random numbers, peers are dialled all the same.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(pause: Duration) -> Duration {
        pause
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> = (0..12).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(pause(u32::MAX), LONGEST);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for _ in 0..100 {
            let jittered = jitter(Duration::from_secs(100));
            assert!((75..=125).contains(&jittered.as_secs()), "{jittered:?}");
        }
    }

    #[test]
    fn a_peer_is_dialled_at_once_and_then_later_and_later() {
        let now = Instant::now();
        let mut dial = Dial::new(now);
        assert!(dial.is_due(now));
        dial.begin();
        assert!(!dial.is_due(now) && dial.wait(now).is_none());
        dial.done(false, now, none);
        assert_eq!(dial.wait(now), Some(Duration::from_secs(2)));
        dial.begin();
        dial.done(false, now, none);
        assert_eq!(dial.wait(now), Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_good_connection_that_breaks_is_dialled_soon() {
        let now = Instant::now();
        let mut dial = Dial::new(now);
        for _ in 0..5 {
            dial.done(false, now, none);
        }
        dial.done(true, now, none);
        let later = now + GOOD;
        dial.look(false, later, none);
        assert_eq!(dial.wait(later), Some(FIRST));
    }

    #[test]
    fn a_peer_that_hangs_up_at_once_is_not_spun_on() {
        let mut now = Instant::now();
        let mut dial = Dial::new(now);
        for _ in 0..8 {
            dial.begin();
            dial.done(true, now, none);
            dial.look(false, now, none);
            now += dial.wait(now).expect("waiting");
        }
        dial.begin();
        dial.done(true, now, none);
        dial.look(false, now, none);
        assert!(dial.wait(now).expect("waiting") >= Duration::from_secs(256));
    }

    #[test]
    fn a_peer_that_connects_to_us_is_not_dialled() {
        let now = Instant::now();
        let mut dial = Dial::new(now);
        dial.look(true, now, none);
        assert!(!dial.is_due(now + LONGEST));
    }
}
