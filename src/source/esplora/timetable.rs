//! When the server is looked at again. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::LOOKS;
use crate::chain::io::ScriptHash;

/// Looks are so many times as frequent while something is under way.
const QUICKER: u32 = 4;
/// News of the mempool keep the looks quick for so many poll intervals: an hour by default.
const AFTER_MEMPOOL: u32 = 60;
/// Scripts with unconfirmed transactions that are looked at in each interval, beside [`LOOKS`] others.
const MOST_PENDING: usize = 8;
/// Scripts that wait for a look of their own.
const MOST_WANTED: usize = 256;

/// The plan of looks at one server.
#[derive(Debug)]
pub(super) struct Timetable {
    poll: Duration,
    tip_at: Instant,
    mempool_at: Instant,
    quick_until: Instant,
    /// All followed scripts, the one that was looked at longest ago in front.
    round: VecDeque<ScriptHash>,
    /// Scripts to be looked at out of turn.
    wanted: BTreeSet<ScriptHash>,
}

impl Timetable {
    /// Begins quickly: a fresh start is news.
    pub(super) fn new(poll: Duration, now: Instant) -> Self {
        Self {
            poll,
            tip_at: now + poll / QUICKER,
            mempool_at: now + poll,
            quick_until: now + poll,
            round: VecDeque::new(),
            wanted: BTreeSet::new(),
        }
    }

    /// Between two looks at the tip.
    fn interval(&self, now: Instant) -> Duration {
        if now < self.quick_until { self.poll / QUICKER } else { self.poll }
    }

    /// When something is due.
    pub(super) fn wake(&self, now: Instant) -> Instant {
        if self.wanted.is_empty() { self.tip_at.min(self.mempool_at) } else { now }
    }

    /// True when the tip is due; the next look is an interval later.
    pub(super) fn tip_is_due(&mut self, now: Instant) -> bool {
        let due = self.tip_at <= now;
        if due {
            self.tip_at = now + self.interval(now);
        }
        due
    }

    /// Have the tip looked at now.
    pub(super) fn tip_now(&mut self, now: Instant) {
        self.tip_at = now;
    }

    /// A block came: others may, and what was unconfirmed may be confirmed.
    pub(super) fn block_came(&mut self, now: Instant) {
        self.quicken(now + self.poll, now);
    }

    /// A transaction of ours is new in the mempool.
    pub(super) fn mempool_moved(&mut self, now: Instant) {
        self.quicken(now + self.poll * AFTER_MEMPOOL, now);
    }

    fn quicken(&mut self, until: Instant, now: Instant) {
        self.quick_until = self.quick_until.max(until);
        self.tip_at = self.tip_at.min(now + self.interval(now));
    }

    /// A script takes its place in the round.
    pub(super) fn add(&mut self, script: ScriptHash) {
        self.round.push_back(script);
    }

    /// A script is to be looked at out of turn.
    pub(super) fn want(&mut self, script: ScriptHash) {
        if self.wanted.len() < MOST_WANTED {
            self.wanted.insert(script);
        }
    }

    /// Scripts to look at now. `pending` are those with unconfirmed transactions.
    pub(super) fn looks(&mut self, pending: impl Iterator<Item = ScriptHash>, now: Instant) -> BTreeSet<ScriptHash> {
        let mut looks = std::mem::take(&mut self.wanted);
        if self.mempool_at <= now {
            self.mempool_at = now + self.poll;
            looks.extend(pending.take(MOST_PENDING));
            let turn = LOOKS.min(self.round.len());
            looks.extend(self.round.iter().take(turn));
            self.round.rotate_left(turn);
        }
        looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn script(number: u8) -> ScriptHash {
        ScriptHash([number; 32])
    }

    /// Looks at the tip and at the mempool within a span.
    fn looks(table: &mut Timetable, from: Instant, span: Duration) -> (usize, usize) {
        let (mut now, mut tips, mut scripts) = (from, 0, 0);
        while now < from + span {
            tips += usize::from(table.tip_is_due(now));
            scripts += table.looks(std::iter::empty(), now).len();
            now = table.wake(now);
        }
        (tips, scripts)
    }

    #[test]
    fn an_idle_hour_costs_a_look_a_minute_and_a_few_scripts_each() {
        let begin = Instant::now();
        let mut table = Timetable::new(MINUTE, begin);
        (0..200).for_each(|number| table.add(script(number)));
        // The first minute is quick.
        let idle = begin + 2 * MINUTE;
        looks(&mut table, begin, 2 * MINUTE);
        let (tips, scripts) = looks(&mut table, idle, 60 * MINUTE);
        assert!(tips <= 61, "{tips}");
        assert!(scripts <= 61 * LOOKS, "{scripts}");
    }

    #[test]
    fn every_script_has_its_turn() {
        let begin = Instant::now();
        let mut table = Timetable::new(MINUTE, begin);
        (0..10).for_each(|number| table.add(script(number)));
        let mut seen = BTreeSet::new();
        for minute in 1..=3 {
            seen.extend(table.looks(std::iter::empty(), begin + minute * MINUTE));
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn news_make_looks_quicker_for_a_while_and_not_for_ever() {
        let begin = Instant::now();
        let mut table = Timetable::new(MINUTE, begin);
        looks(&mut table, begin, 10 * MINUTE);
        let (quiet, _) = looks(&mut table, begin + 10 * MINUTE, 10 * MINUTE);
        table.mempool_moved(begin + 20 * MINUTE);
        let (quick, _) = looks(&mut table, begin + 20 * MINUTE, 60 * MINUTE);
        assert!(quiet <= 11 && quick > 220 && quick <= 241, "{quiet} {quick}");
        let (after, _) = looks(&mut table, begin + 81 * MINUTE, 60 * MINUTE);
        assert!(after <= 61, "{after}");
    }

    #[test]
    fn what_is_wanted_is_looked_at_at_once_and_once() {
        let now = Instant::now();
        let mut table = Timetable::new(MINUTE, now);
        table.want(script(1));
        table.want(script(1));
        assert_eq!(table.wake(now), now);
        assert_eq!(table.looks(std::iter::empty(), now).len(), 1);
        assert!(table.wake(now) > now);
        assert!(table.looks([script(2)].into_iter(), now).is_empty());
    }
}
