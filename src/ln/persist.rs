//! Monitors on disk: durable before the call returns.
//!
//! Rules (`lightning::chain::chainmonitor::Persist`, `util/persist.rs`):
//!
//! - A new channel, each update of a monitor and each new monitor are on disk when the call returns `Completed`. A
//!   monitor that is older than what the peer has seen can lose the channel's money.
//! - `UnrecoverableError` makes LDK panic while it holds its locks, and `InProgress` must never be mixed with
//!   `Completed` in one run. The store has tried a failed write again for some seconds before it says so; then the
//!   process ends here, on purpose: nothing was told to the peer that is not on disk.
//! - Updates are written alone, and folded into a whole monitor every [`MAX_PENDING_UPDATES`] of them.
//! - Archiving a monitor leaves its updates behind; [`tidy`] takes them away.
//!
//! Decision: blocking writes under LDK's locks. The alternative, asynchronous persistence, is beta in 0.2; the cost is
//! that a stalling disk stalls the node, which is the truth about a node with a stalling disk.

use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::ChannelMonitorUpdate;
use lightning::io;
use lightning::sign::InMemorySigner;
use lightning::util::persist::{
    ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE,
    CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE, KVStoreSync, MonitorName,
};

use super::types::{ChannelMonitor, Kv, MonitorPersister};

/// Updates kept beside a monitor before it is written whole. A monitor is tens of kB and an update well under one: this
/// bounds the bytes written per payment, and the time to read a channel at start.
pub const MAX_PENDING_UPDATES: u64 = 100;

/// Says why, and ends the process.
pub type Halt = fn(why: &str) -> !;

/// The [`Halt`] of a real node. LDK's locks are held, so that an orderly shutdown would wait for ever.
pub fn halt(why: &str) -> ! {
    tracing::error!(why, "stopping at once");
    std::process::exit(1)
}

/// [`MonitorPersister`] that stops the process rather than let LDK panic.
pub struct Persister {
    inner: MonitorPersister,
    halt: Halt,
}

impl Persister {
    /// Wraps `inner`; `halt` is called when a write failed for good.
    pub fn new(inner: MonitorPersister, halt: Halt) -> Self {
        Self { inner, halt }
    }

    /// The wrapped one: for reading at start.
    pub fn inner(&self) -> &MonitorPersister {
        &self.inner
    }

    fn insist(&self, what: &str, outcome: ChannelMonitorUpdateStatus) -> ChannelMonitorUpdateStatus {
        match outcome {
            ChannelMonitorUpdateStatus::UnrecoverableError => (self.halt)(&format!(
                "{what} could not be written to the database. Nothing acknowledged is lost: the peer was told \
                 nothing that is not on disk. Look after the disk, then start again"
            )),
            done => done,
        }
    }
}

impl Persist<InMemorySigner> for Persister {
    fn persist_new_channel(&self, name: MonitorName, monitor: &ChannelMonitor) -> ChannelMonitorUpdateStatus {
        self.insist("a new channel", self.inner.persist_new_channel(name, monitor))
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor,
    ) -> ChannelMonitorUpdateStatus {
        self.insist("a channel's new state", self.inner.update_persisted_channel(name, update, monitor))
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        Persist::<InMemorySigner>::archive_persisted_channel(&self.inner, name);
    }
}

/// Removes updates that are part of a written monitor already (a crash may leave some), and those of archived
/// monitors. Reads every monitor: for a quiet moment, on a thread that may block.
pub fn tidy(persister: &Persister, kv: &Kv) -> Result<(), io::Error> {
    persister.inner.cleanup_stale_updates(true)?;
    let archived = KVStoreSync::list(
        kv,
        ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE,
        ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE,
    )?;
    let updates = CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE;
    for monitor in archived {
        for update in KVStoreSync::list(kv, updates, &monitor)? {
            KVStoreSync::remove(kv, updates, &monitor, &update, true)?;
        }
    }
    Ok(())
}
