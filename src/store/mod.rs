//! Floor 1: the one SQLite database.
//!
//! Rules under which this room lives:
//!
//! - One file, `lightnode.db`, one process: the directory lock is held from [`Store::open`] to [`Store::close`].
//! - What a call acknowledges is on the disk: WAL, `synchronous=FULL`; a commit is one fsync of the log.
//! - One thread writes. It commits together what is queued at that moment (group commit), each job in its own
//!   savepoint, in the order of the calls. A failed job is undone alone; a failed commit fails all of its jobs.
//! - Readers have their own connections and see whole commits only.
//! - While the disk refuses, nothing is acknowledged and nothing is lost (`health`).
//! - Only caches (network graph, scorer) and removals that may be replayed are ever held back.
//!
//! Decision: a thread and plain blocking calls rather than an async pool. LDK persists from synchronous code, and one
//! writer gives order and grouping for free; the cost is that [`Store::write`] blocks its caller for one fsync.

mod bans;
mod debounce;
mod error;
mod headers;
mod health;
mod history;
mod kv;
mod lock;
mod look;
mod mark;
mod meta;
mod outbox;
mod patch;
mod peers;
mod pins;
mod reader;
mod reserve;
mod schema;
mod series;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Transaction;

pub use self::bans::Ban;
pub use self::error::StoreError;
pub use self::kv::{KvChange, KvStore};
pub use self::mark::{Advance, MARK_FILE, Mark, Standing};
pub use self::outbox::{OutboxEntry, Verdict};
pub use self::peers::KnownPeer;

use self::health::Health;
use self::lock::DirLock;
use self::reader::Readers;
use self::reserve::Reserve;
use self::writer::Writer;

/// Name of the database in the data directory.
pub const DATABASE: &str = "lightnode.db";

/// The open database. Clones share it; the last clone to go closes it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    // The order of the fields is the order in which they are dropped: the lock last.
    readers: Readers,
    writer: Writer,
    kv: Arc<kv::Held>,
    health: Arc<Health>,
    lock: Mutex<Option<DirLock>>,
    path: PathBuf,
    /// This opening has changed the schema.
    migrated: bool,
}

impl Store {
    /// Opens the database in `dir`, making both when they are not there, and brings its schema up to date.
    ///
    /// Refuses, and changes not one byte of the database and its log, when another process has it, when
    /// it is of another network or seed, or when a newer lightnode wrote it.
    pub fn open(dir: &Path, network: bitcoin::Network, seed_fingerprint: [u8; 4]) -> Result<Self, StoreError> {
        let lock = DirLock::take(dir)?;
        let path = dir.join(DATABASE);
        let identity = schema::Identity { network, fingerprint: seed_fingerprint };
        let schema::Opened { connection, migrated } = schema::open(&path, identity)?;
        let kv = Arc::new(kv::Held::default());
        let (health, reserve) = (Arc::new(Health::new()), Reserve::of(dir));
        let writer = Writer::start(connection, path.clone(), Arc::clone(&kv), Arc::clone(&health), reserve)?;
        let readers = Readers::new(path.clone());
        Ok(Self(Arc::new(Inner { readers, writer, kv, health, lock: Mutex::new(Some(lock)), path, migrated })))
    }

    /// Runs `f` in the writer's transaction and returns when what it did is durable. `what` completes "could not …".
    ///
    /// Blocks for one fsync. An error of `f` undoes what `f` did and nothing else. Must not be called from inside `f`.
    pub fn write<T, F>(&self, what: &'static str, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.health.check(what)?;
        self.0.writer.write(what, f)
    }

    /// As [`Self::write`]; takes its place in the queue when it is called, not when it is first polled, and is carried
    /// out even when the future is dropped.
    pub fn write_async<T, F>(
        &self,
        what: &'static str,
        f: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let queued = self.0.health.check(what).map(|()| self.0.writer.write_async(what, f));
        async move { queued?.await }
    }

    /// As [`Self::write`], but returns at once: done with the next commit, or after half a minute, in the order of the
    /// calls. May be lost in a power cut before that, and a failure is only logged: for what can bear it.
    pub fn write_later<F>(&self, what: &'static str, f: F) -> Result<(), StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        if self.0.writer.write_lazily(what, f) { Ok(()) } else { Err(StoreError::Closed { what }) }
    }

    /// Runs `f` on a read-only snapshot of what is committed.
    pub fn read<T>(&self, f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.0.readers.read(f)
    }

    /// The key-value store for LDK: one type for both of its traits.
    pub fn kv(&self) -> Arc<KvStore> {
        Arc::new(KvStore::new(self.clone()))
    }

    /// Writes what was held back, empties the log into the database, ends the writer and gives the directory free.
    ///
    /// Everything asked for before is carried out; everything asked for later fails. A second call does nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }

    /// The node has come up with this database: the copy from before an update goes, unless it was made in this very
    /// start. From now on its channel states are old, and running it could cost the channels' balances.
    pub fn came_up(&self) -> Result<(), StoreError> {
        if !self.0.migrated && schema::drop_copies(&self.0.path)? {
            tracing::info!("the copy of the database from before the last update is removed");
        }
        Ok(())
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Inner {
    fn close(&self) -> Result<(), StoreError> {
        self.readers.close();
        let ended = self.writer.close();
        locked(&self.lock).take();
        ended
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the database was not closed in order");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.path).finish()
    }
}

/// Locks a mutex whose holder cannot leave it half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
