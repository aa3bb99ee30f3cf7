//! Monitors on their way to the disk.
//!
//! Rules (`lightning::chain::chainmonitor::Persist`, `util/persist.rs`):
//!
//! - `InProgress` freezes the channel until `channel_monitor_updated` is called with the update's id; it must never be
//!   mixed with `Completed` in one run. [`super::vault`] says why we answer so, and completes the updates.
//! - `UnrecoverableError` makes LDK panic while it holds its locks; the process ends before that, on purpose.
//! - Updates are written alone, and folded into a whole monitor every [`MAX_PENDING_UPDATES`] of them.
//! - Archiving a monitor leaves its updates behind; [`tidy`] takes them away.

use std::sync::Arc;

use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::ChannelMonitorUpdate;
use lightning::io;
use lightning::ln::types::ChannelId;
use lightning::sign::InMemorySigner;
use lightning::util::persist::{
    ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE,
    CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE, KVStoreSync, MonitorName,
};

use super::types::{ChannelMonitor, Kv, MonitorPersister};
use super::vault::{Halt, Stage};

/// Updates kept beside a monitor before it is written whole. A monitor is tens of kB and an update well under one: this
/// bounds the bytes written per payment, and the time to read a channel at start.
pub const MAX_PENDING_UPDATES: u64 = 100;

/// [`MonitorPersister`] over the stage of the vault.
pub struct Persister {
    inner: MonitorPersister,
    stage: Arc<Stage>,
    halt: Halt,
}

impl Persister {
    /// Wraps `inner`, which writes to `stage`; `halt` is called when a monitor cannot be staged.
    pub fn new(inner: MonitorPersister, stage: Arc<Stage>, halt: Halt) -> Self {
        Self { inner, stage, halt }
    }

    /// The wrapped one: for reading at start.
    pub fn inner(&self) -> &MonitorPersister {
        &self.inner
    }

    /// `staged` is what the wrapped one says of the stage. `update`: completed by the flush.
    fn answer(
        &self,
        staged: ChannelMonitorUpdateStatus,
        channel: ChannelId,
        update: Option<u64>,
    ) -> ChannelMonitorUpdateStatus {
        if staged != ChannelMonitorUpdateStatus::Completed {
            (self.halt)("the stored state of a channel could not be read. Nothing acknowledged is lost");
        }
        if let Some(update) = update {
            self.stage.completes(channel, update);
        }
        ChannelMonitorUpdateStatus::InProgress
    }
}

impl Persist<InMemorySigner> for Persister {
    fn persist_new_channel(&self, name: MonitorName, monitor: &ChannelMonitor) -> ChannelMonitorUpdateStatus {
        let staged = self.inner.persist_new_channel(name, monitor);
        self.answer(staged, monitor.channel_id(), Some(monitor.get_latest_update_id()))
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor,
    ) -> ChannelMonitorUpdateStatus {
        let staged = self.inner.update_persisted_channel(name, update, monitor);
        // Without an update it is what the chain told: nobody waits for it.
        self.answer(staged, monitor.channel_id(), update.map(|update| update.update_id))
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
