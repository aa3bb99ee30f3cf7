//! Which cached values are written when. Pure: the time is told.
//!
//! A value that was not written within the interval is due at once; the following ones wait, and only the last of
//! them is written. What waits is lost in a power cut: so only caches that can be built again go through here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kv::Key;

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
        let due = match (self.pending.get(&key), self.written.get(&key)) {
            (Some(earlier), _) => earlier.due,
            (None, Some(written)) => *written + self.interval,
            (None, None) => now,
        };
        self.counter += 1;
        self.pending.insert(key, Pending { value: value.map(Arc::new), number: self.counter, due });
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
            pending.due = now + self.interval;
        }
    }
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
