//! TLS certificates as first seen (trust on first use).

use rusqlite::OptionalExtension;

use super::{Store, StoreError};

impl Store {
    /// SHA-256 of the certificate first seen at `host:port`.
    pub fn pin(&self, server: &str) -> Result<Option<[u8; 32]>, StoreError> {
        self.read(|connection| {
            connection.query_row("SELECT hash FROM pin WHERE server = ?1", [server], |row| row.get(0)).optional()
        })
    }

    /// Sets or replaces the pin of `host:port`.
    pub fn set_pin(&self, server: &str, hash: [u8; 32]) -> Result<(), StoreError> {
        let server = server.to_owned();
        self.write("pin a server's certificate", move |tx| {
            tx.execute(
                "INSERT INTO pin (server, hash) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET hash = excluded.hash",
                (server, hash),
            )
            .map(|_| ())
        })
    }

    /// Forgets the pin of `host:port`; true when there was one.
    pub fn remove_pin(&self, server: &str) -> Result<bool, StoreError> {
        let server = server.to_owned();
        self.write("forget a server's certificate", move |tx| {
            tx.execute("DELETE FROM pin WHERE server = ?1", [server]).map(|rows| rows > 0)
        })
    }
}
