//! Which cached values are written when. Pure: the time is told.
//!
//! A value that was not written within its interval is due at once; the following ones wait, and only the last of
//! them is written. What waits is lost in a power cut: so only caches that can be built again go through here.
//!
//! Decision: the interval grows with the value, so that a cache of any size writes [`A_DAY`] at most. The map of mainnet
//! has 10 MB from snapshots and 40 MB from peers, and LDK gives it every hour: a gigabyte a day for an SD card. Cost: after
//! a power cut the map is some days old, and peers or a snapshot bring what has changed since; after an orderly end it is
//! as it was.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kv::Key;

/// What one cache writes in a day, in bytes; SQLite writes it twice, into its log and into the database.
const A_DAY: u64 = 3_000_000;

/// A value that did not reach the disk is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// A held value that is to be written; `None`: to be removed.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) key: Key,
    pub(super) value: Option<Arc<Vec<u8>>>,
    number: u64,
}

#[derive(Debug)]
struct Pending {
    value: Option<Arc<Vec<u8>>>,
    number: u64,
    due: Instant,
}

#[derive(Debug)]
pub(super) struct Debounce {
    /// The shortest.
    interval: Duration,
    pending: HashMap<Key, Pending>,
    written: HashMap<Key, Instant>,
    counter: u64,
}

impl Debounce {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, pending: HashMap::new(), written: HashMap::new(), counter: 0 }
    }

    /// Holds a value (`None`: that there is none).
    pub(super) fn put(&mut self, key: Key, value: Option<Vec<u8>>, now: Instant) {
        let due = match (self.pending.get(&key), value.as_ref().map_or(0, Vec::len)) {
            (Some(earlier), _) => earlier.due,
            (None, length) => self.due_at(&key, length).unwrap_or(now),
        };
        self.counter += 1;
        self.pending.insert(key, Pending { value: value.map(Arc::new), number: self.counter, due });
    }

    /// The disk has a value of this key, from before. It counts as written now.
    pub(super) fn found(&mut self, key: &Key, now: Instant) {
        self.written.entry(key.clone()).or_insert(now);
    }

    /// True when a value of this length would not have to wait.
    pub(super) fn is_due(&self, key: &Key, length: usize, now: Instant) -> bool {
        self.due_at(key, length).is_none_or(|due| due <= now)
    }

    /// When a value of this length may be written; `None`: at once.
    fn due_at(&self, key: &Key, length: usize) -> Option<Instant> {
        self.written.get(key).map(|written| *written + pause(self.interval, length))
    }

    /// The held value: `Some(None)` when it is held that there is none.
    pub(super) fn get(&self, key: &Key) -> Option<Option<Arc<Vec<u8>>>> {
        self.pending.get(key).map(|pending| pending.value.clone())
    }

    /// When the next value is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Values due at `until`; all of them without it. They stay readable here until they are settled.
    pub(super) fn due(&self, until: Option<Instant>) -> Vec<Due> {
        self.pending
            .iter()
            .filter(|(_, pending)| until.is_none_or(|until| pending.due <= until))
            .map(|(key, pending)| Due { key: key.clone(), value: pending.value.clone(), number: pending.number })
            .collect()
    }

    /// A due value was written, or could not be. A newer value that came meanwhile stays, and waits its turn.
    pub(super) fn settle(&mut self, due: &Due, written: bool, now: Instant) {
        if written {
            self.written.insert(due.key.clone(), now);
        }
        let Some(pending) = self.pending.get_mut(&due.key) else { return };
        if !written {
            pending.due = now + AGAIN;
        } else if pending.number == due.number {
            self.pending.remove(&due.key);
        } else {
            let length = pending.value.as_ref().map_or(0, |value| value.len());
            pending.due = now + pause(self.interval, length);
        }
    }
}

/// Between two writes of a value of this length.
fn pause(shortest: Duration, length: usize) -> Duration {
    shortest.max(Duration::from_secs(length as u64 * 86_400 / A_DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    fn key() -> Key {
        Key::new("", "", "scorer")
    }

    fn values(due: &[Due]) -> Vec<Option<Vec<u8>>> {
        due.iter().map(|due| due.value.as_deref().cloned()).collect()
    }

    #[test]
    fn the_first_value_is_due_at_once_and_the_next_only_after_the_interval() {
        let start = Instant::now();
        let mut held = Debounce::new(INTERVAL);
        held.put(key(), Some(vec![1]), start);
        let due = held.due(Some(start));
        assert_eq!(values(&due), [Some(vec![1])]);
        held.settle(&due[0], true, start);
        assert_eq!(held.deadline(), None);
        let minute = Duration::from_secs(60);
        held.put(key(), Some(vec![2]), start + minute);
        held.put(key(), Some(vec![3]), start + 2 * minute);
        assert_eq!(held.deadline(), Some(start + INTERVAL));
        assert!(held.due(Some(start + INTERVAL - minute)).is_empty());
        assert_eq!(values(&held.due(Some(start + INTERVAL))), [Some(vec![3])]);
    }

    #[test]
    fn a_cache_of_any_size_writes_no_more_than_its_part_of_a_day() {
        let start = Instant::now();
        for (length, every) in [(400_000, 300), (10_000_000, 3600), (40_000_000, 3600)] {
            let mut held = Debounce::new(INTERVAL);
            held.found(&key(), start);
            let mut written = 0;
            let days = 60;
            for second in (every..=days * 86_400).step_by(every as usize) {
                let now = start + Duration::from_secs(second);
                if held.is_due(&key(), length, now) {
                    held.put(key(), Some(vec![0; length]), now);
                }
                for due in held.due(Some(now)) {
                    written += due.value.as_ref().map_or(0, |value| value.len() as u64);
                    held.settle(&due, true, now);
                }
            }
            assert!(written > 0 && written <= days * A_DAY, "{length}: {written}");
        }
    }

    #[test]
    fn what_was_on_the_disk_at_the_start_is_not_written_anew_at_once() {
        let start = Instant::now();
        let mut held = Debounce::new(INTERVAL);
        assert!(held.is_due(&key(), 1, start), "there is none yet");
        held.found(&key(), start);
        assert!(!held.is_due(&key(), 1, start));
        held.put(key(), Some(vec![1]), start);
        assert_eq!(held.deadline(), Some(start + INTERVAL));
    }

    #[test]
    fn a_value_that_comes_while_an_older_one_is_written_is_not_lost() {
        let start = Instant::now();
        let mut held = Debounce::new(INTERVAL);
        held.put(key(), Some(vec![1]), start);
        let due = held.due(Some(start));
        held.put(key(), None, start);
        held.settle(&due[0], true, start);
        assert_eq!(held.get(&key()), Some(None));
        assert_eq!(held.deadline(), Some(start + INTERVAL));
        assert_eq!(values(&held.due(None)), [None]);
    }

    #[test]
    fn a_value_that_could_not_be_written_is_tried_again_soon() {
        let start = Instant::now();
        let mut held = Debounce::new(INTERVAL);
        held.put(key(), Some(vec![1]), start);
        let due = held.due(Some(start));
        held.settle(&due[0], false, start);
        assert_eq!(held.deadline(), Some(start + AGAIN));
        assert_eq!(held.get(&key()).flatten().as_deref(), Some(&vec![1]));
    }
}
