//! Channels on disk: the manager, its monitors and what they broadcast, in one write.
//!
//! Rules (`ChannelMonitorUpdateStatus`, `ChannelManager` "Persistence", rust-lightning #2505, #4351):
//!
//! - A monitor that is older than what the peer has seen can lose the channel's money. LDK tells the peer nothing of a
//!   new state until its monitor update is completed.
//! - A manager that is older than its monitors closes those channels at the next start. A manager that is newer is
//!   well: it holds the updates that are not completed yet, and applies them again.
//! - A completed update is never taken back, and `Completed` and `InProgress` are never mixed in one run.
//! - A funding transaction is broadcast only when its monitor is on disk; a commitment transaction that we broadcast
//!   must be the newest one for ever after.
//!
//! Decision: monitor updates are put on a [`Stage`] and answered with `InProgress`; [`Vault::flush`] then writes the
//! manager as it is now, all that is on the stage, and the outbox rows of what LDK wants broadcast, in *one*
//! transaction, and only then reports the updates as completed and lets the transactions out. So a power cut finds one
//! consistent state, never a manager behind its monitors, and a step of a payment costs one fsync.
//! Rejected: monitors written before the call returns, as LDK's examples do. Between such a write and the manager's, a
//! power cut costs the channel: with `kill -9` in mid-payment, two of five channels. Cost: LDK calls `InProgress` beta;
//! what is left of that concerns updates that stay open for long, and ours are completed within one write.
//!
//! LDK goes on while the manager is encoded, and each of its steps is whole: it is in what is encoded, or after it. So
//! what is staged meanwhile belongs to the same write (`Stage::seal`).
//!
//! Decision: a write that the disk refuses is tried until it succeeds ([`Store::insist`]), with what it holds kept as it
//! is. Meanwhile nothing is completed: the channels are frozen where their peers last saw them, no transaction goes out,
//! and the node is halted for everybody else. Rejected: ending the process. What is in memory is newer than the disk and
//! whole, and a new process on the same disk could not do more. Cost: HTLCs that time out meanwhile are the peer's to
//! close for. Only a write that fails for another reason than the disk (a defect) ends the process.
//!
//! What changes the manager alone (an event that was handled, a peer that came) is no hurry: LDK brings it forth again
//! after a crash. It waits up to a second for a step of a channel to go along with.

mod stage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lightning::io;
use lightning::util::async_poll::AsyncResult;
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStore,
};
use lightning::util::ser::Writeable;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::types::{ChainMonitor, ChannelManager, Kv, PeerManager};
use crate::clock::unix_now;
use crate::crash::{self, Point};
use crate::store::{Advance, KvChange, Mark, Store, StoreError};
use crate::task::Shutdown;

pub use self::stage::{Batch, Package, Stage};

/// Says why, and ends the process.
pub type Halt = fn(why: &str) -> !;

/// The [`Halt`] of a real node. LDK's locks may be held, so that an orderly shutdown would wait for ever.
pub fn halt(why: &str) -> ! {
    tracing::error!(why, "stopping at once");
    std::process::exit(1)
}

/// Namespaces and key of the manager.
pub const MANAGER: [&str; 3] = [
    CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_KEY,
];

/// How long a change of the manager alone may wait for company.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes channels; the only one who writes the manager once it is restored.
pub struct Vault {
    stage: Arc<Stage>,
    store: Store,
    channels: Arc<ChannelManager>,
    monitors: Arc<ChainMonitor>,
    /// To be woken when messages to peers are free to go.
    peers: OnceLock<Arc<PeerManager>>,
    /// Where packages go once they are in the outbox.
    packages: mpsc::UnboundedSender<Package>,
    /// Rises with what is written, so that a copy of the database that is put back is noticed.
    mark: Option<Arc<Mark>>,
    /// Counts the writes.
    written: watch::Sender<u64>,
    halt: Halt,
    /// One flush at a time, so that an older manager never follows a newer one. What was taken from the stage, and could
    /// not be written before the end, stays here.
    one: Mutex<Batch>,
    /// The manager has changed since it was written, and LDK counts on its being written.
    owed: AtomicBool,
    owing: Notify,
}

impl Vault {
    /// A vault, and what may be broadcast, for [`super::broadcast::carry`]. `halt` is called when a write failed for
    /// good.
    pub fn new(
        stage: Arc<Stage>,
        store: Store,
        channels: Arc<ChannelManager>,
        monitors: Arc<ChainMonitor>,
        mark: Option<Arc<Mark>>,
        halt: Halt,
    ) -> (Self, mpsc::UnboundedReceiver<Package>) {
        let (packages, receiver) = mpsc::unbounded_channel();
        let vault = Self {
            stage,
            store,
            channels,
            monitors,
            peers: OnceLock::new(),
            packages,
            mark,
            written: watch::Sender::default(),
            halt,
            one: Mutex::default(),
            owed: AtomicBool::new(false),
            owing: Notify::new(),
        };
        (vault, receiver)
    }

    /// Whom to wake after each flush. To be told once.
    pub fn wakes(&self, peers: Arc<PeerManager>) {
        // A second call would bring the same manager.
        let _ = self.peers.set(peers);
    }

    /// Changes after each write of channel state.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// The manager is to be written, alone if nothing comes along in time.
    fn owe(&self) {
        self.owed.store(true, Ordering::SeqCst);
        self.owing.notify_one();
    }

    /// Writes what is staged together with the manager, and the manager alone if it has changed; without anything to write
    /// it does nothing. Blocks for one fsync, and as long as the disk refuses. Never called from inside LDK.
    ///
    /// An error: the node is ending, and the disk has refused to the last. Nothing of it was told to anybody.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write_out(true).map(|_| ())
    }

    /// As [`Self::flush`]; the manager `alone` only if that is wanted. False: nothing was written.
    fn write_out(&self, alone: bool) -> Result<bool, StoreError> {
        let Some(mark) = &self.mark else { return Ok(false) };
        let mut one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = std::mem::take(&mut *one);
        self.stage.take_into(&mut batch);
        if batch.is_empty() && !alone {
            return Ok(false);
        }
        // Both, and before the manager is encoded: what changes later is owed anew.
        let changed = self.channels.get_and_clear_needs_persistence() | self.owed.swap(false, Ordering::SeqCst);
        if batch.is_empty() && !changed {
            return Ok(false);
        }
        crash::passes(Point::VaultStaged);
        let manager = self.stage.seal(&mut batch, || self.channels.encode());
        let advance = self.write(&batch, manager, mark);
        match advance {
            Ok(advance) => mark.publish(advance),
            Err(error) => {
                if !error.is_transient() {
                    (self.halt)(&format!(
                        "the channels' state could not be written: {error}. Nothing acknowledged is lost: no peer was \
                         told what is not on disk. Look after the disk, then start again"
                    ));
                }
                *one = batch;
                self.owed.store(true, Ordering::SeqCst);
                return Err(error);
            }
        }
        crash::passes(Point::VaultWritten);
        self.stage.written();
        let Batch { completed, packages, .. } = batch;
        for (channel, update) in &completed {
            if let Err(error) = self.monitors.channel_monitor_updated(*channel, *update) {
                // Archived meanwhile: nobody waits for it.
                tracing::debug!(%channel, update, ?error, "a written update belongs to no channel any more");
            }
        }
        crash::passes(Point::VaultCompleted);
        for package in packages {
            // The receiver is gone only when the process is ending; the outbox goes on after the next start.
            let _ = self.packages.send(package);
        }
        crash::passes(Point::VaultOut);
        drop(one);
        self.written.send_modify(|count| *count += 1);
        if let (false, Some(peers)) = (completed.is_empty(), self.peers.get()) {
            peers.process_events();
        }
        Ok(true)
    }

    fn write(&self, batch: &Batch, manager: Vec<u8>, mark: &Arc<Mark>) -> Result<Advance, StoreError> {
        let [primary, secondary, key] = MANAGER;
        let manager = Arc::new(KvChange::put(primary, secondary, key, manager));
        let now = unix_now();
        self.store.insist(StoreError::is_transient, || {
            let (manager, changes, packages) =
                (Arc::clone(&manager), Arc::clone(&batch.changes), batch.packages.clone());
            let mark = Arc::clone(mark);
            self.store.write("write the channels' state", move |tx| {
                manager.apply(tx)?;
                changes.iter().try_for_each(|change| change.apply(tx))?;
                packages.iter().try_for_each(|package| Store::outbox_put(tx, package, "lightning", now))?;
                mark.advance(tx)
            })
        })
    }
}

/// Flushes whenever something is staged, and what is owed in time, until shutdown. Has to run before LDK is told the
/// chain.
pub async fn keep(vault: Arc<Vault>, shutdown: Shutdown) -> Result<(), JoinError> {
    let mut due: Option<Instant> = None;
    loop {
        let patience = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let alone = tokio::select! {
            _ = shutdown.wait() => return Ok(()),
            () = vault.owing.notified() => {
                due.get_or_insert_with(|| Instant::now() + PATIENCE);
                continue;
            }
            // The step that asked may have gone along with the write before; the manager alone can wait.
            () = vault.stage.wanted() => false,
            () = patience => true,
        };
        match write_out(&vault, alone).await? {
            Ok(written) => due = due.filter(|_| !written && !alone),
            // The node is ending: the motor's last flush tries once more.
            Err(error) => {
                due = None;
                tracing::error!(%error, "the channels' newest state is not on disk; nothing of it was told to anybody");
            }
        }
    }
}

async fn write_out(vault: &Arc<Vault>, alone: bool) -> Result<Result<bool, StoreError>, JoinError> {
    let vault = Arc::clone(vault);
    tokio::task::spawn_blocking(move || vault.write_out(alone)).await
}

/// The store as LDK's background processor and sweeper see it: the manager goes through the vault, which encodes it
/// itself, in its own time ([`super::background`] has it flushed at the end); everything else goes straight to the
/// database. Caches that it would only hold are let go until the end, for LDK brings them again: the map of the network may
/// have 40 MB.
pub struct ManagedKv {
    plain: Arc<Kv>,
    vault: Arc<Vault>,
    ending: AtomicBool,
}

impl ManagedKv {
    /// Over `plain`.
    pub fn new(plain: Arc<Kv>, vault: Arc<Vault>) -> Self {
        Self { plain, vault, ending: AtomicBool::new(false) }
    }

    /// From now on LDK writes everything for the last time.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Writes what the manager is owed, now.
    pub async fn settle(&self) -> Result<Result<(), StoreError>, JoinError> {
        Ok(write_out(&self.vault, true).await?.map(|_| ()))
    }
}

impl KVStore for ManagedKv {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> AsyncResult<'static, Vec<u8>, io::Error> {
        KVStore::read(&*self.plain, primary, secondary, key)
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, buf: Vec<u8>) -> AsyncResult<'static, (), io::Error> {
        if [primary, secondary, key] != MANAGER {
            if !self.ending.load(Ordering::SeqCst) && !self.plain.wants(primary, secondary, key, buf.len()) {
                return Box::pin(std::future::ready(Ok(())));
            }
            return KVStore::write(&*self.plain, primary, secondary, key, buf);
        }
        self.vault.owe();
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> AsyncResult<'static, (), io::Error> {
        KVStore::remove(&*self.plain, primary, secondary, key, lazy)
    }

    fn list(&self, primary: &str, secondary: &str) -> AsyncResult<'static, Vec<String>, io::Error> {
        KVStore::list(&*self.plain, primary, secondary)
    }
}
