//! What is done when the chain falls silent. Pure.
//!
//! Rules under which this file lives (threats row 3):
//!
//! - A node that hears of no new block may be cut off by its servers, and then cannot see a channel being stolen. Six
//!   blocks' time of silence happens by chance once in 400 blocks, nine once in 8,000, twelve once in 160,000.
//! - So: servers are rotated first, which costs nothing; then it is said; at last no new risk is taken: no HTLC is
//!   offered, forwarded or accepted, no channel opened. Nothing is ever closed for it: a close by force costs money and
//!   would be what the one who cuts us off wants.
//! - Coverage climbs the same rungs: a channel that nobody tells us about is as blind as a silent chain.
//!
//! Decision: the age of the tip is the larger of two: the time since its header's time, and the time since we learned
//! of it, by a clock that nobody sets. Headers alone would let a clock that is behind hide the silence, and a miner's
//! clock that is ahead; learning alone would let an attacker feed us old blocks slowly, each one "new". Cost: a wrong
//! clock of ours, hours ahead, refuses payments until it is set; the reason says so.
//!
//! Decision: what counts is the block that wallet and channels were told, not our best header: headers that come
//! without what is in their blocks leave us just as blind.

use std::time::Duration;

/// Blocks that the least covered channel may be behind before it counts as not covered.
pub(super) const LAG: u32 = 2;

/// From which age on each step is taken; `None`: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rungs {
    pub(super) rotate: Option<Duration>,
    pub(super) degraded: Option<Duration>,
    pub(super) refuse: Option<Duration>,
}

/// How far up the ladder we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// All is well.
    #[default]
    Calm,
    /// Other servers are asked.
    Rotate,
    /// It is said.
    Degraded,
    /// Nothing new is begun.
    Refuse,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No new block.
    Silence,
    /// Blocks come, but nobody tells everything about a channel.
    Coverage,
    /// No block was ever told: the node is new. As blind as it can be, whatever the times.
    Beginning,
}

/// Where we stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// How far up.
    pub step: Step,
    /// Which of the two is worse.
    pub cause: Cause,
    /// Its age.
    pub age: Duration,
}

/// What is seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    /// Since the time in the header of the last block that we told; zero if that lies ahead, none if there was none yet.
    pub(super) since_mined: Option<Duration>,
    /// Since we told it, or began.
    pub(super) since_told: Duration,
    /// Since the least covered channel is more than [`LAG`] blocks behind, if it is.
    pub(super) uncovered: Option<Duration>,
}

impl Sight {
    /// What is worse, and its age.
    fn worst(self) -> (Cause, Duration) {
        let Some(since_mined) = self.since_mined else { return (Cause::Beginning, self.since_told) };
        let silence = since_mined.max(self.since_told);
        match self.uncovered {
            Some(age) if age > silence => (Cause::Coverage, age),
            _ => (Cause::Silence, silence),
        }
    }
}

impl Rungs {
    pub(super) fn climb(&self, sight: Sight) -> Alarm {
        let (cause, age) = sight.worst();
        let reached = |rung: Option<Duration>| rung.is_some_and(|rung| age >= rung || cause == Cause::Beginning);
        let steps = [(self.refuse, Step::Refuse), (self.degraded, Step::Degraded), (self.rotate, Step::Rotate)];
        let step = steps.into_iter().find(|(rung, _)| reached(*rung)).map_or(Step::Calm, |(_, step)| step);
        Alarm { step, cause, age }
    }

    /// How long until a rung is reached that is not reached now, if nothing is heard.
    pub(super) fn next(&self, sight: Sight) -> Option<Duration> {
        let (cause, age) = sight.worst();
        let ahead = [self.rotate, self.degraded, self.refuse].into_iter().flatten().filter(|rung| *rung > age);
        ahead.min().map(|rung| rung - age).filter(|_| cause != Cause::Beginning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const RUNGS: Rungs = Rungs {
        rotate: Some(Duration::from_secs(3600)),
        degraded: Some(Duration::from_secs(5400)),
        refuse: Some(Duration::from_secs(7200)),
    };

    fn minutes(mined: u32, told: u32) -> Sight {
        Sight { since_mined: Some(MINUTE * mined), since_told: MINUTE * told, uncovered: None }
    }

    #[test]
    fn silence_climbs_rung_by_rung_and_a_block_ends_it() {
        for (age, step) in [
            (0, Step::Calm),
            (59, Step::Calm),
            (60, Step::Rotate),
            (89, Step::Rotate),
            (90, Step::Degraded),
            (119, Step::Degraded),
            (120, Step::Refuse),
            (100_000, Step::Refuse),
        ] {
            let alarm = RUNGS.climb(minutes(age, age));
            assert_eq!((alarm.step, alarm.cause, alarm.age), (step, Cause::Silence, MINUTE * age));
        }
        assert_eq!(RUNGS.climb(minutes(1, 0)).step, Step::Calm);
    }

    #[test]
    fn a_new_node_risks_nothing_until_a_block_is_told() {
        for told in [0, 1, 100_000] {
            let sight = Sight { since_mined: None, ..minutes(0, told) };
            let alarm = RUNGS.climb(sight);
            assert_eq!((alarm.step, alarm.cause, alarm.age), (Step::Refuse, Cause::Beginning, MINUTE * told));
            assert_eq!(RUNGS.next(sight), None);
        }
        let said = Rungs { refuse: None, ..RUNGS };
        assert_eq!(said.climb(Sight { since_mined: None, ..minutes(0, 0) }).step, Step::Degraded);
    }

    #[test]
    fn old_blocks_that_are_fed_slowly_are_silence() {
        assert_eq!(RUNGS.climb(minutes(125, 3)).step, Step::Refuse);
    }

    #[test]
    fn a_clock_or_header_that_is_wrong_by_hours_does_not_hide_silence() {
        // The header's time lies ahead of our clock: its age is zero for hours.
        assert_eq!(RUNGS.climb(minutes(0, 121)).step, Step::Refuse);
    }

    #[test]
    fn a_channel_that_nobody_tells_about_is_as_bad_as_silence() {
        let sight = |uncovered| Sight { uncovered: Some(MINUTE * uncovered), ..minutes(5, 5) };
        assert_eq!(RUNGS.climb(sight(3)).step, Step::Calm);
        let alarm = RUNGS.climb(sight(95));
        assert_eq!((alarm.step, alarm.cause), (Step::Degraded, Cause::Coverage));
        assert_eq!(RUNGS.climb(sight(120)).step, Step::Refuse);
    }

    #[test]
    fn a_rung_that_is_off_is_never_reached() {
        let off = Rungs { degraded: None, refuse: None, ..RUNGS };
        assert_eq!(off.climb(minutes(500, 500)).step, Step::Rotate);
        assert_eq!(off.next(minutes(500, 500)), None);
    }

    #[test]
    fn the_next_rung_is_known_beforehand() {
        for age in [0, 30, 60, 75, 90, 119] {
            let sight = minutes(age, 0);
            let wait = RUNGS.next(sight).unwrap();
            let then = Sight { since_mined: sight.since_mined.map(|since| since + wait), ..sight };
            assert!(RUNGS.climb(then).step > RUNGS.climb(sight).step);
            let before = Sight { since_mined: then.since_mined.map(|since| since - MINUTE / 60), ..sight };
            assert_eq!(RUNGS.climb(before).step, RUNGS.climb(sight).step);
        }
        assert_eq!(RUNGS.next(minutes(120, 0)), None);
    }
}
