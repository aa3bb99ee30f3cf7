//! How careful the node has to be now, for all who take risks.
//!
//! The engine says what it sees; who asks gets an answer for the moment of the question, so that an engine that hangs
//! makes the node careful, too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ladder::{Alarm, Cause, LAG, Rungs, Sight, Step};
use crate::config::Alarms;

/// Shared; cheap to clone.
#[derive(Clone, Debug)]
pub struct Caution(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rungs: Rungs,
    seen: Mutex<Seen>,
    news: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The time in the header of the last block that was told; none if there was none yet.
    mined: Option<u32>,
    told: Instant,
    uncovered: Option<Instant>,
}

impl Caution {
    /// Of a node that begins now, at a block with this time in its header; at none if it is new.
    pub fn new(alarms: &Alarms, mined: Option<u32>) -> Self {
        let rung = |after: Duration| (!after.is_zero()).then_some(after);
        let rungs = Rungs {
            rotate: rung(alarms.rotate_after),
            degraded: rung(alarms.degraded_after),
            refuse: rung(alarms.refuse_after),
        };
        let seen = Mutex::new(Seen { mined, told: Instant::now(), uncovered: None });
        Self(Arc::new(Inner { rungs, seen, news: Notify::new() }))
    }

    /// A block was told to wallet and channels.
    pub fn told(&self, mined: u32) {
        self.change(|seen| Seen { mined: Some(mined), told: Instant::now(), ..seen });
    }

    /// The least covered channel is so many blocks behind our chain.
    pub(super) fn behind(&self, blocks: u32) {
        let uncovered = blocks > LAG;
        if uncovered != self.seen().uncovered.is_some() {
            self.change(|seen| Seen { uncovered: uncovered.then(Instant::now), ..seen });
        }
    }

    /// Where we stand now.
    pub fn alarm(&self) -> Alarm {
        self.0.rungs.climb(self.sight())
    }

    /// Why nothing new may be begun; `None`: it may.
    pub fn refusing(&self) -> Option<String> {
        let alarm = self.alarm();
        (alarm.step == Step::Refuse).then(|| alarm.to_string())
    }

    /// Ends when the answer may be another one than at the time of this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<'_> {
        let (news, wait) = (self.0.news.notified(), self.next());
        async move {
            match wait {
                Some(wait) => tokio::select! {
                    () = news => {}
                    () = tokio::time::sleep(wait) => {}
                },
                None => news.await,
            }
        }
    }

    /// How long until the next rung is reached, if nothing is heard.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.rungs.next(self.sight())
    }

    fn sight(&self) -> Sight {
        let (seen, now) = (self.seen(), Instant::now());
        let now_unix = Duration::from_secs(crate::clock::unix_now());
        Sight {
            since_mined: seen.mined.map(|mined| now_unix.saturating_sub(Duration::from_secs(mined.into()))),
            since_told: now.saturating_duration_since(seen.told),
            uncovered: seen.uncovered.map(|since| now.saturating_duration_since(since)),
        }
    }

    fn seen(&self) -> Seen {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(Seen) -> Seen) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = change(*seen);
        drop(seen);
        self.0.news.notify_waiters();
    }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let age = span(self.age);
        match self.cause {
            Cause::Silence => write!(
                f,
                "the newest block that is known with all that concerns this node is {age} old: its servers may keep \
                 blocks back, or are behind (or the clock of this machine is wrong)"
            ),
            Cause::Beginning => f.write_str("no block is known yet with all that concerns this node"),
            Cause::Coverage => {
                write!(f, "for {age} no server has told everything about a channel, so its theft would not be seen")
            }
        }
    }
}

fn span(age: Duration) -> String {
    match age.as_secs() {
        secs @ 0..120 => format!("{secs} seconds"),
        secs @ 120..7200 => format!("{} minutes", secs / 60),
        secs @ 7200..172_800 => format!("{} hours", secs / 3600),
        secs => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> u32 {
        crate::clock::unix_now().try_into().unwrap()
    }

    fn alarms() -> Alarms {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Alarms { rotate_after: minutes(60), degraded_after: minutes(90), refuse_after: minutes(120) }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_recovery_wake_whoever_waits() {
        let caution = Caution::new(&alarms(), Some(now()));
        let begun = Instant::now();
        for (step, minutes) in [(Step::Rotate, 60), (Step::Degraded, 90), (Step::Refuse, 120)] {
            // The header's age is measured in seconds, by the clock on the wall.
            while caution.alarm().step < step {
                caution.changed().await;
            }
            assert_eq!(caution.alarm().step, step);
            assert!(begun.elapsed().as_secs().abs_diff(60 * minutes) < 10, "{:?}", begun.elapsed());
        }
        assert!(caution.refusing().is_some_and(|why| why.contains("2 hours")));
        let (waiting, told) = (caution.clone(), caution.clone());
        let waiting = waiting.changed();
        told.told(now());
        waiting.await;
        assert_eq!((caution.alarm().step, caution.refusing()), (Step::Calm, None));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_coverage_counts_from_when_it_was_lost_and_ends_when_it_is_back() {
        let caution = Caution::new(&alarms(), Some(now()));
        caution.behind(LAG + 1);
        for _ in 0..9 {
            tokio::time::advance(Duration::from_secs(15 * 60)).await;
            caution.behind(LAG + 2);
            caution.told(now());
        }
        let alarm = caution.alarm();
        assert_eq!((alarm.step, alarm.cause), (Step::Refuse, Cause::Coverage));
        assert!(alarm.to_string().contains("channel"), "{alarm}");
        caution.behind(LAG);
        assert_eq!(caution.alarm().step, Step::Calm);
    }

    #[test]
    fn a_tip_that_was_old_at_the_start_is_old() {
        let old = Some(now() - 3 * 3600);
        assert_eq!(Caution::new(&alarms(), old).alarm().step, Step::Refuse);
        let off = Alarms { degraded_after: Duration::ZERO, refuse_after: Duration::ZERO, ..alarms() };
        assert_eq!(Caution::new(&off, old).alarm().step, Step::Rotate);
    }
}
