//! Whether the disk takes what it is given, and what happens while it does not.
//!
//! Decision: a commit that the disk refuses (no space, read-only, an I/O error) halts the node instead of ending it. From
//! then on every write is refused at once, so that nothing is acknowledged and no request hangs in a dying card; the
//! writer alone tries, first after a second and then ever more seldom, and when a trial write is durable all goes on.
//! What must not be dropped waits: the vault with the channels' newest states (LDK's channels are frozen meanwhile, for
//! their updates stay `InProgress`, and no peer is told anything), the engine with what it has proven, events with their
//! replay. SQLite rolls a failed commit back, and writes its pages again the next time, so that an fsync that has failed
//! once is never believed later.
//! Rejected: ending the process, as LDK's examples do. A node that is down misses what its peers do, and comes up no
//! better while the disk is as it is. Cost: payments that were on their way stay there until the disk is well.
//!
//! At the end of the process the reserve is given free first ([`super::reserve`]), and who still waits tries once more.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Store, StoreError, locked};

/// Between two attempts of who insists, also when the disk has been well in between.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Health {
    present: Mutex<Present>,
    turned: Condvar,
    /// True while the disk is well, or nobody is to wait any more.
    well: watch::Sender<bool>,
}

#[derive(Default)]
struct Present {
    /// In words for people; `None`: the disk is well.
    trouble: Option<Arc<str>>,
    closing: bool,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { present: Mutex::default(), turned: Condvar::new(), well: watch::Sender::new(true) }
    }

    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        locked(&self.present).trouble.clone()
    }

    /// Refuses while the disk is failing. At the end everything is tried.
    pub(super) fn check(&self, what: &'static str) -> Result<(), StoreError> {
        let present = locked(&self.present);
        match &present.trouble {
            Some(why) if !present.closing => Err(StoreError::Halted { what, why: why.to_string() }),
            _ => Ok(()),
        }
    }

    pub(super) fn set(&self, trouble: Option<Arc<str>>) {
        self.change(|present| present.trouble = trouble);
    }

    pub(super) fn close(&self) {
        self.change(|present| present.closing = true);
    }

    fn change(&self, change: impl FnOnce(&mut Present)) {
        let mut present = locked(&self.present);
        change(&mut present);
        self.well.send_replace(present.trouble.is_none() || present.closing);
        self.turned.notify_all();
    }

    /// Waits until the disk is well; false when it is not and the end has come.
    fn wait(&self) -> bool {
        let waiting = |present: &mut Present| present.trouble.is_some() && !present.closing;
        let present = self.turned.wait_while(locked(&self.present), waiting).unwrap_or_else(PoisonError::into_inner);
        present.trouble.is_none()
    }
}

impl Store {
    /// Why the disk takes nothing, in words for people; `None`: it is well.
    pub fn trouble(&self) -> Option<String> {
        self.0.health.trouble().map(|why| why.to_string())
    }

    /// Returns when the disk is well, at once if it is; also when the node is ending.
    pub async fn well(&self) {
        // The sender lives as long as this store.
        let _ = self.0.health.well.subscribe().wait_for(|well| *well).await;
    }

    /// Attempts again, each time that the disk is well, what only the disk has refused (`by_disk`). Blocks. Gives up when
    /// the node is ending and the disk still refuses.
    pub fn insist<T, E>(
        &self,
        by_disk: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            match attempt() {
                Err(error) if by_disk(&error) && self.0.health.wait() => std::thread::sleep(PAUSE),
                outcome => return outcome,
            }
        }
    }

    /// The node is ending: the reserve is given free, and who insists tries a last time.
    pub fn prepare_close(&self) {
        self.0.writer.prepare_close();
        self.0.health.close();
    }
}
