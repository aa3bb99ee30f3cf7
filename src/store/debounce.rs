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
            .map(|(key, pending)| Due {
                key: key.clone(),
                value: pending.value.clone(),
                number: pending.number,
            })
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
