//! The book itself: changes, announcements, queries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::OptionalExtension;
use tokio::sync::broadcast;

use super::record::{Direction, Kind, Record, Side};
use super::table::{self, Altered};
use crate::clock::unix_now;
use crate::store::{Store, StoreError};

/// Announcements kept for a slow listener; past that it hears that it missed some.
const ANNOUNCED: usize = 256;

/// Shortest prefix by which a line can be named.
const SHORTEST_PREFIX: usize = 8;

const READ: &str = "read the book";

/// The book of payments. Clones share it.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    store: Store,
    clock: fn() -> u64,
    changes: broadcast::Sender<Changed>,
    /// Attempts of open payments, by payment hash; written when the line is.
    attempts: Mutex<HashMap<String, u32>>,
}

/// Announces that a line is another one than before. Already durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Payment hash, or txid.
    pub id: String,
    /// Its part of the book.
    pub side: Side,
}

/// Which lines are wanted; the default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only this direction.
    pub direction: Option<Direction>,
    /// Only open (true) or settled (false) ones.
    pub open: Option<bool>,
}

impl Filter {
    fn wants(&self, record: &Record) -> bool {
        self.kind.is_none_or(|kind| kind == record.kind)
            && self.direction.is_none_or(|direction| direction == record.direction)
            && self.open.is_none_or(|open| open == record.is_open())
    }
}

/// A page of the book, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The lines.
    pub records: Vec<Record>,
    /// `before` of the next page; `None` at the end.
    pub next: Option<String>,
}

/// What a (shortened) id leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// One line.
    One(Box<Record>),
    /// Nothing has an id like this.
    Nothing,
    /// Several have; some of their ids.
    Several(Vec<String>),
    /// Not hex, or fewer than 8 digits.
    NoId,
}

impl Ledger {
    /// The book in `store`.
    pub fn open(store: Store) -> Self {
        Self::with_clock(store, unix_now)
    }

    pub(super) fn with_clock(store: Store, clock: fn() -> u64) -> Self {
        let attempts = Mutex::new(HashMap::new());
        Self(Arc::new(Inner { store, clock, changes: broadcast::Sender::new(ANNOUNCED), attempts }))
    }

    /// Announcements of changes from now on. A listener that lags behind is told so: it must read anew.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.0.changes.subscribe()
    }

    /// The line with this id, or the only one that begins so (8 hex digits at least). Of a payment that we sent and
    /// one that we received with the same hash, the sent one.
    pub fn get(&self, id: &str) -> Result<Found, StoreError> {
        let prefix = id.trim().to_ascii_lowercase();
        if prefix.len() < SHORTEST_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Found::NoId);
        }
        let lines = self.0.store.read(|connection| table::by_prefix(connection, &prefix, 8))?;
        let mut ids: Vec<String> = lines.iter().map(|line| line.record.id.clone()).collect();
        ids.dedup();
        if ids.len() > 1 {
            return Ok(Found::Several(ids));
        }
        let chosen = lines.into_iter().min_by_key(|line| line.record.side() != Side::Send);
        Ok(chosen.map_or(Found::Nothing, |line| Found::One(Box::new(self.with_attempts(line.record)))))
    }

    /// The line with exactly this id in one part of the book.
    pub fn line(&self, id: &str, side: Side) -> Result<Option<Record>, StoreError> {
        let line = self.0.store.read(|connection| table::find(connection, id, side))?;
        Ok(line.map(|line| self.with_attempts(line.record)))
    }

    /// At most `limit` lines, newest first, from before `before`: a [`Page::next`], or the id of a line. Pending ones
    /// are among them. An unknown `before` gives an empty page.
    pub fn list(&self, filter: &Filter, limit: usize, before: Option<&str>) -> Result<Page, StoreError> {
        let mut lines = self.0.store.read(|connection| {
            let before = match before {
                None => Some(i64::MAX),
                Some(cursor) if cursor.len() < 20 => cursor.parse().ok(),
                Some(id) => connection
                    .query_row("SELECT max(seq) FROM payment WHERE id = ?1", [id], |row| row.get(0))
                    .optional()?
                    .flatten(),
            };
            match before {
                Some(before) => table::page(connection, before, limit.saturating_add(1), |record| filter.wants(record)),
                None => Ok(Vec::new()),
            }
        })?;
        let more = lines.len() > limit;
        lines.truncate(limit);
        let next = lines.last().filter(|_| more).map(|line| line.seq.to_string());
        let records = lines.into_iter().map(|line| self.with_attempts(line.record)).collect();
        Ok(Page { records, next })
    }

    /// All open lines of one part of the book, oldest first.
    pub fn open_lines(&self, side: Side) -> Result<Vec<Record>, StoreError> {
        let lines = self.0.store.read(|connection| table::open(connection))?;
        let records = lines.into_iter().map(|line| line.record).filter(|record| record.side() == side);
        Ok(records.map(|record| self.with_attempts(record)).collect())
    }

    /// The line, as soon as `enough` holds for it. `None`: there is no such line. Race-free: it listens before it looks.
    pub async fn wait_until(
        &self,
        id: &str,
        side: Side,
        enough: impl Fn(&Record) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        let mut changes = self.changes();
        loop {
            match self.line(id, side)? {
                Some(record) if !enough(&record) => {}
                found => return Ok(found),
            }
            loop {
                match changes.recv().await {
                    Ok(changed) if changed.id == id && changed.side == side => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => {
                        return Err(StoreError::Closed { what: READ });
                    }
                }
            }
        }
    }

    /// The line, once it is succeeded or failed.
    pub async fn wait_settled(&self, id: &str, side: Side) -> Result<Option<Record>, StoreError> {
        self.wait_until(id, side, Record::is_settled).await
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn now(&self) -> u64 {
        (self.0.clock)()
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the line, durably, and announces it. `None`: there is none. Nothing is written or announced when
    /// `change` says that nothing changed.
    pub(super) fn change(
        &self,
        what: &'static str,
        id: String,
        side: Side,
        change: impl FnOnce(&mut Record) -> bool + Send + 'static,
    ) -> Result<Option<Record>, StoreError> {
        self.change_or_insert(what, id, side, change, || None)
    }

    /// As [`Self::change`]; if there is no line, `first` makes one, to which `change` is applied too.
    pub(super) fn change_or_insert(
        &self,
        what: &'static str,
        id: String,
        side: Side,
        change: impl FnOnce(&mut Record) -> bool + Send + 'static,
        first: impl FnOnce() -> Option<Record> + Send + 'static,
    ) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        let attempts = self.attempts().get(&id).copied();
        let key = id.clone();
        let Altered { record, changed } = self.0.store.write(what, move |tx| {
            let change = |record: &mut Record| {
                let changed = change(record);
                record.attempts = attempts.unwrap_or(record.attempts);
                changed
            };
            table::alter(tx, &key, side, now, change, first)
        })?;
        if let Some(record) = record.as_ref().filter(|_| changed) {
            if record.is_settled() {
                self.attempts().remove(&id);
            }
            self.announce(id, side);
        }
        Ok(record)
    }

    pub(super) fn announce(&self, id: String, side: Side) {
        // No listener is no trouble.
        let _ = self.0.changes.send(Changed { id, side });
    }

    fn with_attempts(&self, mut record: Record) -> Record {
        if record.side() == Side::Send && record.is_open() {
            record.attempts = self.attempts().get(&record.id).copied().unwrap_or(record.attempts);
        }
        record
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use bitcoin::hex::DisplayHex;
    bytes.to_lower_hex_string()
}
