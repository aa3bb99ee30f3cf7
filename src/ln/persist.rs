//! Monitors on disk: durable before the call returns.
//!
//! Rules (`lightning::chain::chainmonitor::Persist`, `util/persist.rs`):
//!
//! - A new channel, each update of a monitor and each new monitor are on disk when the call returns `Completed`. A
//!   monitor that is older than what the peer saw can lose funds: LDK then punishes nobody, and we may be punished.
//! - `UnrecoverableError` makes LDK panic while it holds its locks; `InProgress` must never be mixed with `Completed`
//!   in one run. So a failed write is tried again for a while, in place, and if the disk does not come back the
//!   process ends here, on purpose: nothing was told to the peer that is not on disk.
//! - Updates are written alone and folded into a whole monitor every [`MAX_PENDING_UPDATES`] of them.
//!
//! Decision: blocking retries under LDK's locks. The alternative, asynchronous persistence, is beta in 0.2; the cost is
//! that a stalling disk stalls the node, which is the truth about a node with a stalling disk.

use std::thread::sleep;
use std::time::Duration;

use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::ChannelMonitorUpdate;
use lightning::sign::InMemorySigner;
use lightning::util::persist::MonitorName;

use super::types::{ChannelMonitor, MonitorPersister};

/// Updates kept beside a monitor before it is written whole. A monitor is tens of kB and an update well under one, so
/// that this bounds both the bytes written per payment and the time to read a channel at start.
pub const MAX_PENDING_UPDATES: u64 = 100;

/// Pauses before each further attempt at a failed write: 8 s in all.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(700),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Says why, and ends the process.
pub type Halt = fn(why: &str) -> !;

/// [`MonitorPersister`] that tries again, and then stops the process rather than let LDK panic.
pub struct Persister {
    inner: MonitorPersister,
    halt: Halt,
}

impl Persister {
    /// Wraps `inner`; `halt` is called when a write fails for good, and must end the process.
    pub fn new(inner: MonitorPersister, halt: Halt) -> Self {
        Self { inner, halt }
    }

    /// The wrapped one: reading at start, cleaning up.
    pub fn inner(&self) -> &MonitorPersister {
        &self.inner
    }

    fn insist(
        &self,
        what: &str,
        write: impl Fn() -> ChannelMonitorUpdateStatus,
    ) -> ChannelMonitorUpdateStatus {
        match insist(&PAUSES, sleep, what, write) {
            Some(status) => status,
            None => (self.halt)(what),
        }
    }
}

/// Runs `write` until it succeeds, at most once more than there are `pauses`. `None`: it never did.
fn insist(
    pauses: &[Duration],
    pause: impl Fn(Duration),
    what: &str,
    write: impl Fn() -> ChannelMonitorUpdateStatus,
) -> Option<ChannelMonitorUpdateStatus> {
    for next in pauses.iter().map(Some).chain([None]) {
        match write() {
            ChannelMonitorUpdateStatus::UnrecoverableError => {
                tracing::error!(what, again = next.is_some(), "could not write channel state to disk");
            }
            done => return Some(done),
        }
        if let Some(time) = next {
            pause(*time);
        }
    }
    None
}

impl Persist<InMemorySigner> for Persister {
    fn persist_new_channel(&self, name: MonitorName, monitor: &ChannelMonitor) -> ChannelMonitorUpdateStatus {
        self.insist("a new channel", || self.inner.persist_new_channel(name, monitor))
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor,
    ) -> ChannelMonitorUpdateStatus {
        self.insist("an update of a channel", || self.inner.update_persisted_channel(name, update, monitor))
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        Persist::<InMemorySigner>::archive_persisted_channel(&self.inner, name);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_write_that_fails_twice_is_tried_again_and_then_done() {
        let (writes, pauses) = (Cell::new(0), Cell::new(0));
        let outcome = insist(
            &PAUSES,
            |_| pauses.set(pauses.get() + 1),
            "x",
            || {
                writes.set(writes.get() + 1);
                if writes.get() < 3 {
                    ChannelMonitorUpdateStatus::UnrecoverableError
                } else {
                    ChannelMonitorUpdateStatus::Completed
                }
            },
        );
        assert!(matches!(outcome, Some(ChannelMonitorUpdateStatus::Completed)));
        assert_eq!((writes.get(), pauses.get()), (3, 2));
    }

    #[test]
    fn a_write_that_always_fails_is_given_up_after_the_last_pause() {
        let writes = Cell::new(0);
        let outcome = insist(
            &PAUSES,
            |_| (),
            "x",
            || {
                writes.set(writes.get() + 1);
                ChannelMonitorUpdateStatus::UnrecoverableError
            },
        );
        assert!(outcome.is_none());
        assert_eq!(writes.get(), PAUSES.len() + 1);
    }
}
