//! The key-value store under LDK.
//!
//! Upstream rules (`lightning::util::persist`):
//!
//! - `write` is durable when it returns, or its future completes. Writes to one key take effect in the order of the
//!   calls, whatever the order in which futures are polled: they queue when called, and one thread carries them out.
//! - `read` says `NotFound` only when the key is absent; any other trouble is another error.
//! - A lazy `remove` may be lost in a power cut and may be seen by `list` for a while; a later `write` overrides it.
//!
//! Graph and scorer are caches, written by LDK far too often for an SD card: they are held in memory and written at
//! most once in [`CACHE_INTERVAL`], large ones less often (`debounce`), and when the store is closed. `read` sees what is
//! held.
//!
//! A failed write is returned at once, not tried again here: a later one to the same key may already be queued.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lightning::io;
use lightning::util::async_poll::AsyncResult;
use lightning::util::persist::{KVStore, KVStoreSync, NETWORK_GRAPH_PERSISTENCE_KEY, SCORER_PERSISTENCE_KEY};
use rusqlite::Connection;

use super::debounce::{Debounce, Due};
use super::{Store, StoreError, locked, series, values};

/// Caches are written at most this often; large ones less often.
const CACHE_INTERVAL: Duration = Duration::from_secs(600);

const WRITE: &str = "write a state of LDK";
const REMOVE: &str = "remove a state of LDK";

/// LDK's view of the store; `Arc<KvStore>` serves as `K` for the synchronous and the asynchronous trait.
#[derive(Clone, Debug)]
pub struct KvStore {
    store: Store,
}

/// A key with its namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) primary: String,
    pub(super) secondary: String,
    pub(super) key: String,
}

impl Key {
    pub(super) fn new(primary: &str, secondary: &str, key: &str) -> Self {
        Self { primary: primary.to_owned(), secondary: secondary.to_owned(), key: key.to_owned() }
    }

    /// Both are kept in the empty namespaces.
    fn is_cache(&self) -> bool {
        self.primary.is_empty()
            && self.secondary.is_empty()
            && (self.key == NETWORK_GRAPH_PERSISTENCE_KEY || self.key == SCORER_PERSISTENCE_KEY)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.primary, self.secondary, self.key)
    }
}

/// Values held back, shared with the writer.
pub(super) struct Held(Mutex<Debounce>);

impl Default for Held {
    fn default() -> Self {
        Self(Mutex::new(Debounce::new(CACHE_INTERVAL)))
    }
}

impl Held {
    pub(super) fn due(&self, now: Instant) -> Vec<Due> {
        locked(&self.0).due(Some(now))
    }

    pub(super) fn all(&self) -> Vec<Due> {
        locked(&self.0).due(None)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        locked(&self.0).deadline()
    }

    pub(super) fn settle(&self, due: &Due, written: bool, now: Instant) {
        locked(&self.0).settle(due, written, now);
    }
}

/// Carries out a due write or removal.
pub(super) fn put_or_remove(connection: &Connection, due: &Due) -> rusqlite::Result<()> {
    match &due.value {
        // Caches are large, and much of them is new each time.
        Some(value) => values::put_whole(connection, &due.key, value),
        None => values::delete(connection, &due.key),
    }
}

/// A change of one key, to be made together with others in one [`Store::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvChange {
    key: Key,
    /// `None`: the key goes.
    value: Option<Vec<u8>>,
}

impl KvChange {
    /// The key gets this value.
    pub fn put(primary: &str, secondary: &str, key: &str, value: Vec<u8>) -> Self {
        Self { key: Key::new(primary, secondary, key), value: Some(value) }
    }

    /// The key goes.
    pub fn remove(primary: &str, secondary: &str, key: &str) -> Self {
        Self { key: Key::new(primary, secondary, key), value: None }
    }

    /// The new value, if it is this key that changes.
    pub fn of(&self, primary: &str, secondary: &str, key: &str) -> Option<Option<&[u8]>> {
        (self.key == Key::new(primary, secondary, key)).then_some(self.value.as_deref())
    }

    /// The key and whether it stays, if it is one of these namespaces.
    pub fn within(&self, primary: &str, secondary: &str) -> Option<(&str, bool)> {
        let here = self.key.primary == primary && self.key.secondary == secondary;
        here.then_some((self.key.key.as_str(), self.value.is_some()))
    }

    /// Carries it out.
    pub fn apply(&self, tx: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        match &self.value {
            Some(value) => values::put(tx, &self.key, value),
            None => values::delete(tx, &self.key),
        }
    }
}

impl Store {
    /// Takes keys out of LDK's sight, in a transaction of [`Store::write`]: the key of these namespaces, or all of
    /// theirs, stay under a primary namespace that begins with `under`.
    pub fn kv_put_aside(
        tx: &rusqlite::Transaction<'_>,
        primary: &str,
        secondary: &str,
        key: Option<&str>,
        under: &str,
    ) -> rusqlite::Result<()> {
        tx.execute(
            "UPDATE kv SET primary_ns = ?4 || primary_ns
             WHERE primary_ns = ?1 AND secondary_ns = ?2 AND (?3 IS NULL OR key = ?3)",
            (primary, secondary, key, under),
        )?;
        match key {
            None => series::put_aside(tx, primary, secondary, under),
            Some(_) => Ok(()),
        }
    }
}

impl KvStore {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(held) = locked(&self.store.0.kv.0).get(key) {
            return Ok(held.map(|value| value.to_vec()));
        }
        let found = self.store.read(|connection| values::get(connection, key))?;
        if found.is_some() && key.is_cache() {
            locked(&self.store.0.kv.0).found(key, Instant::now());
        }
        Ok(found)
    }

    /// False: a value of this length is a cache's that would only be held, and a later one will do.
    pub fn wants(&self, primary: &str, secondary: &str, key: &str, length: usize) -> bool {
        let key = Key::new(primary, secondary, key);
        !key.is_cache() || locked(&self.store.0.kv.0).is_due(&key, length, Instant::now())
    }

    fn keys(&self, primary: &str, secondary: &str) -> Result<Vec<String>, StoreError> {
        self.store.read(|connection| values::keys(connection, primary, secondary))
    }

    fn hold(&self, key: Key, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        locked(&self.store.0.kv.0).put(key, value, Instant::now());
        if self.store.0.writer.wake() { Ok(()) } else { Err(StoreError::Closed { what: "hold a cached value" }) }
    }

    fn remove_lazily(&self, key: Key) -> Result<(), StoreError> {
        self.store.write_later(REMOVE, move |tx| values::delete(tx, &key))
    }
}

fn io_error(error: StoreError) -> io::Error {
    io::Error::new(io::ErrorKind::Other, error)
}

fn found(key: &Key, value: Option<Vec<u8>>) -> Result<Vec<u8>, io::Error> {
    value.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {key}")))
}

impl KVStoreSync for KvStore {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, io::Error> {
        let key = Key::new(primary, secondary, key);
        found(&key, self.get(&key).map_err(io_error)?)
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, buf: Vec<u8>) -> Result<(), io::Error> {
        let key = Key::new(primary, secondary, key);
        if key.is_cache() {
            self.hold(key, Some(buf))
        } else {
            self.store.write(WRITE, move |tx| values::put(tx, &key, &buf))
        }
        .map_err(io_error)
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> Result<(), io::Error> {
        let key = Key::new(primary, secondary, key);
        if key.is_cache() {
            self.hold(key, None)
        } else if lazy {
            self.remove_lazily(key)
        } else {
            self.store.write(REMOVE, move |tx| values::delete(tx, &key))
        }
        .map_err(io_error)
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
        self.keys(primary, secondary).map_err(io_error)
    }
}

impl KVStore for KvStore {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> AsyncResult<'static, Vec<u8>, io::Error> {
        ready(KVStoreSync::read(self, primary, secondary, key))
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, buf: Vec<u8>) -> AsyncResult<'static, (), io::Error> {
        let key = Key::new(primary, secondary, key);
        if key.is_cache() {
            return ready(self.hold(key, Some(buf)).map_err(io_error));
        }
        let queued = self.store.write_async(WRITE, move |tx| values::put(tx, &key, &buf));
        Box::pin(async move { queued.await.map_err(io_error) })
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> AsyncResult<'static, (), io::Error> {
        let key = Key::new(primary, secondary, key);
        if key.is_cache() {
            return ready(self.hold(key, None).map_err(io_error));
        }
        if lazy {
            return ready(self.remove_lazily(key).map_err(io_error));
        }
        let queued = self.store.write_async(REMOVE, move |tx| values::delete(tx, &key));
        Box::pin(async move { queued.await.map_err(io_error) })
    }

    fn list(&self, primary: &str, secondary: &str) -> AsyncResult<'static, Vec<String>, io::Error> {
        ready(KVStoreSync::list(self, primary, secondary))
    }
}

fn ready<T: Send + 'static>(outcome: Result<T, io::Error>) -> AsyncResult<'static, T, io::Error> {
    Box::pin(std::future::ready(outcome))
}
