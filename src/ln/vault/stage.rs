//! What LDK has written and the disk has not: changes of keys, the monitor updates that they complete, and transactions
//! that wait for them. Filled under LDK's locks, so nothing here blocks on anything but its own short lock.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::Transaction;
use lightning::io;
use lightning::ln::types::ChannelId;
use lightning::util::persist::KVStoreSync;
use tokio::sync::Notify;

use crate::ln::types::Kv;
use crate::store::KvChange;

/// A child and its parents, parents first.
pub type Package = Vec<Transaction>;

/// What goes to the disk in one write.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order in which they were made.
    pub changes: Arc<Vec<KvChange>>,
    /// Channels and the ids of their updates that are complete once the changes are written.
    pub completed: Vec<(ChannelId, u64)>,
    /// May be broadcast once the changes are written.
    pub packages: Vec<Package>,
}

impl Batch {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.completed.is_empty() && self.packages.is_empty()
    }
}

/// A key-value store whose writes wait for the next flush; reads see them at once.
pub struct Stage {
    below: Arc<Kv>,
    waiting: Mutex<Waiting>,
    wanted: Notify,
}

#[derive(Default)]
struct Waiting {
    changes: Vec<KvChange>,
    completed: Vec<(ChannelId, u64)>,
    packages: Vec<Package>,
    /// Taken, and not yet on the disk.
    writing: Arc<Vec<KvChange>>,
    /// How often something was taken, and at which of these times everything taken was on the disk.
    taken: u64,
    written: u64,
}

impl Waiting {
    /// Newest last.
    fn all(&self) -> impl DoubleEndedIterator<Item = &KvChange> {
        self.writing.iter().chain(&self.changes)
    }
}

impl Stage {
    /// Nothing staged over `below`.
    pub fn new(below: Arc<Kv>) -> Self {
        Self { below, waiting: Mutex::default(), wanted: Notify::new() }
    }

    /// An update is complete once what was written before this call is on the disk.
    pub fn completes(&self, channel: ChannelId, update: u64) {
        self.waiting().completed.push((channel, update));
        self.wanted.notify_one();
    }

    /// To be broadcast once what was written before this call is on the disk.
    pub fn broadcast(&self, package: Package) {
        self.waiting().packages.push(package);
        self.wanted.notify_one();
    }

    /// Returns when something was staged since the last call returned.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Takes all that is staged. Reads go on seeing it until [`Self::written`].
    #[cfg(test)]
    pub(in crate::ln) fn take(&self) -> Batch {
        let mut batch = Batch::default();
        self.take_into(&mut batch);
        batch
    }

    /// Takes what was staged since into a batch that is not written yet. False: there was nothing.
    pub(super) fn take_into(&self, batch: &mut Batch) -> bool {
        let mut waiting = self.waiting();
        if waiting.changes.is_empty() && waiting.completed.is_empty() && waiting.packages.is_empty() {
            return false;
        }
        let mut changes = batch.changes.to_vec();
        changes.append(&mut waiting.changes);
        batch.changes = Arc::new(changes);
        waiting.writing = Arc::clone(&batch.changes);
        waiting.taken += 1;
        batch.completed.append(&mut waiting.completed);
        batch.packages.append(&mut waiting.packages);
        true
    }

    /// The state that `encode` gives, with all that belongs to it added to `batch`: it is encoded again until nothing
    /// was staged in the meantime. That ends, because a channel whose update is not completed stages no other.
    ///
    /// What is staged while the state is encoded is part of it and would be missing beside it. LDK gives a funding
    /// transaction out once, and forgets it: a power cut after such a write would leave nobody to send it.
    pub(super) fn seal(&self, batch: &mut Batch, mut encode: impl FnMut() -> Vec<u8>) -> Vec<u8> {
        loop {
            let state = encode();
            if !self.take_into(batch) {
                return state;
            }
        }
    }

    /// What was taken is on the disk.
    pub(super) fn written(&self) {
        let mut waiting = self.waiting();
        waiting.writing = Arc::default();
        waiting.written = waiting.taken;
    }

    /// Stands for all that was staged before this call, for [`Self::is_written`].
    pub(in crate::ln) fn mark(&self) -> u64 {
        let waiting = self.waiting();
        match waiting.changes.is_empty() && waiting.completed.is_empty() && waiting.packages.is_empty() {
            true => waiting.taken,
            false => waiting.taken + 1,
        }
    }

    /// True once all that a mark stands for is on the disk.
    pub(in crate::ln) fn is_written(&self, mark: u64) -> bool {
        self.waiting().written >= mark
    }

    fn stage(&self, change: KvChange, urgent: bool) {
        self.waiting().changes.push(change);
        if urgent {
            self.wanted.notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KVStoreSync for Stage {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, io::Error> {
        let staged = {
            let waiting = self.waiting();
            let newest = waiting.all().rev().find_map(|change| change.of(primary, secondary, key));
            newest.map(|value| value.map(<[u8]>::to_vec))
        };
        match staged {
            Some(Some(value)) => Ok(value),
            Some(None) => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{primary}/{secondary}/{key} is removed")))
            }
            None => KVStoreSync::read(&*self.below, primary, secondary, key),
        }
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, buf: Vec<u8>) -> Result<(), io::Error> {
        self.stage(KvChange::put(primary, secondary, key, buf), true);
        Ok(())
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> Result<(), io::Error> {
        self.stage(KvChange::remove(primary, secondary, key), !lazy);
        Ok(())
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
        // The disk first: what is written in between is then seen twice, not missed.
        let mut keys: BTreeSet<String> = KVStoreSync::list(&*self.below, primary, secondary)?.into_iter().collect();
        for (key, stays) in self.waiting().all().filter_map(|change| change.within(primary, secondary)) {
            if stays {
                keys.insert(key.to_owned());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn stage() -> (tempfile::TempDir, Store, Stage) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), bitcoin::Network::Regtest, [0; 4]).unwrap();
        let stage = Stage::new(store.kv());
        (dir, store, stage)
    }

    #[test]
    fn what_is_staged_is_read_listed_and_removed_before_it_is_on_the_disk() {
        let (_dir, store, stage) = stage();
        KVStoreSync::write(&*store.kv(), "a", "b", "old", vec![1]).unwrap();
        stage.write("a", "b", "new", vec![2]).unwrap();
        assert_eq!(stage.read("a", "b", "new").unwrap(), [2]);
        assert_eq!(stage.list("a", "b").unwrap(), ["new", "old"]);
        assert!(KVStoreSync::read(&*store.kv(), "a", "b", "new").is_err(), "it is on the disk already");
        stage.remove("a", "b", "old", true).unwrap();
        assert_eq!(stage.read("a", "b", "old").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(stage.list("a", "b").unwrap(), ["new"]);
    }

    #[test]
    fn what_is_being_written_is_still_seen_and_newer_changes_cover_it() {
        let (_dir, _store, stage) = stage();
        stage.write("a", "", "key", vec![1]).unwrap();
        let batch = stage.take();
        assert_eq!(batch.changes.len(), 1);
        assert_eq!(stage.read("a", "", "key").unwrap(), [1]);
        stage.write("a", "", "key", vec![2]).unwrap();
        assert_eq!(stage.read("a", "", "key").unwrap(), [2]);
        stage.written();
        assert_eq!(stage.take().changes.len(), 1);
    }

    #[test]
    fn an_update_is_never_taken_as_complete_before_its_change() {
        let (_dir, _store, stage) = stage();
        stage.write("m", "", "key", vec![1]).unwrap();
        let early = stage.take();
        stage.completes(ChannelId([1; 32]), 7);
        assert!(early.completed.is_empty());
        assert_eq!(stage.take().completed, [(ChannelId([1; 32]), 7)]);
    }

    #[test]
    fn what_is_staged_while_the_state_is_encoded_is_written_with_it() {
        let (_dir, _store, stage) = stage();
        stage.write("m", "", "first", vec![1]).unwrap();
        let mut batch = stage.take();
        let mut rounds = 0;
        let state = stage.seal(&mut batch, || {
            rounds += 1;
            if rounds == 1 {
                stage.write("m", "", "second", vec![2]).unwrap();
                stage.completes(ChannelId([1; 32]), 7);
                stage.broadcast(Vec::new());
            }
            vec![rounds]
        });
        assert_eq!(state, [2], "the state that was encoded before the second change is not written");
        assert_eq!((batch.changes.len(), batch.completed.len(), batch.packages.len()), (2, 1, 1));
        assert_eq!(stage.read("m", "", "first").unwrap(), [1]);
        assert_eq!(stage.read("m", "", "second").unwrap(), [2]);
        assert!(stage.take().is_empty());
    }

    #[test]
    fn a_mark_is_written_when_all_that_was_staged_before_it_is() {
        let (_dir, _store, stage) = stage();
        assert!(stage.is_written(stage.mark()), "nothing was staged");
        stage.write("m", "", "first", vec![1]).unwrap();
        let first = stage.mark();
        let mut batch = stage.take();
        let taken = stage.mark();
        stage.write("m", "", "second", vec![2]).unwrap();
        let second = stage.mark();
        assert_eq!((first == taken, stage.is_written(first)), (true, false));
        stage.written();
        assert_eq!((stage.is_written(first), stage.is_written(second)), (true, false));
        assert!(stage.take_into(&mut batch));
        stage.written();
        assert!(stage.is_written(second));
    }

    #[tokio::test]
    async fn whatever_is_staged_asks_for_a_flush() {
        let (_dir, _store, stage) = stage();
        stage.write("a", "", "key", vec![1]).unwrap();
        stage.wanted().await;
        stage.completes(ChannelId([1; 32]), 7);
        stage.wanted().await;
        stage.broadcast(Vec::new());
        stage.wanted().await;
    }
}
