//! Read connections: each has its own snapshot and never waits for the writer.

use std::path::PathBuf;
use std::sync::Mutex;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{StoreError, locked};

/// Connections that are kept for the next reader; more are opened when more read at once.
const KEPT: usize = 2;

pub(super) struct Readers {
    path: PathBuf,
    /// `None`: closed.
    idle: Mutex<Option<Vec<Connection>>>,
    /// False: what is idle is all that there is.
    more: bool,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Some(Vec::new())), more: true }
    }

    /// One connection, and no other.
    pub(super) fn only(connection: Connection, path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Some(vec![connection])), more: false }
    }

    pub(super) fn read<T>(&self, f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        const WHAT: &str = "read the database";
        let idle = locked(&self.idle).as_mut().ok_or(StoreError::Closed { what: WHAT })?.pop();
        let connection = match idle {
            Some(connection) => connection,
            None if !self.more => return Err(StoreError::broken(WHAT, "it is read already, and by one at a time")),
            None => self.connect().map_err(StoreError::sqlite("open the database for reading"))?,
        };
        let value = {
            let snapshot = Transaction::new_unchecked(&connection, TransactionBehavior::Deferred);
            snapshot.and_then(|snapshot| f(&snapshot)).map_err(StoreError::sqlite(WHAT))
        };
        if let Some(idle) = locked(&self.idle).as_mut().filter(|idle| idle.len() < KEPT) {
            idle.push(connection);
        }
        value
    }

    pub(super) fn close(&self) {
        locked(&self.idle).take();
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags_and_vfs(&self.path, flags, super::schema::VFS)?;
        connection.busy_timeout(super::schema::BUSY)?;
        connection.pragma_update(None, "query_only", true)?;
        // Pages are shared through the operating system's cache; little is kept for each reader.
        connection.pragma_update(None, "cache_size", -256)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }
}
