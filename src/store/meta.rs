//! Small values of other rooms, by name.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{Store, StoreError};

impl Store {
    /// The value last set under this name.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| get(connection, key))
    }

    /// Sets a value; an equal one is not written again.
    pub fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        if self.meta(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write("keep a value", move |tx| Self::meta_put(tx, &key, &value))
    }

    /// As [`Self::set_meta`], in a transaction of [`Self::write`].
    pub fn meta_put(tx: &Transaction<'_>, key: &str, value: &[u8]) -> rusqlite::Result<()> {
        tx.prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?
        .execute((key, value))
        .map(|_| ())
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}
