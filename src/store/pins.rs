//! What servers have to show of themselves (trust on first use).

use rusqlite::OptionalExtension;

use super::{Store, StoreError};

impl Store {
    /// SHA-256 of the public key that `host:port` has to show; zeros stand for a certificate authority's word.
    pub fn pin(&self, server: &str) -> Result<Option<[u8; 32]>, StoreError> {
        self.read(|connection| {
            connection.query_row("SELECT hash FROM pin WHERE server = ?1", [server], |row| row.get(0)).optional()
        })
    }

    /// Sets or replaces the pin of `host:port`.
    pub fn set_pin(&self, server: &str, hash: [u8; 32]) -> Result<(), StoreError> {
        let server = server.to_owned();
        self.write("pin a server's key", move |tx| {
            tx.execute(
                "INSERT INTO pin (server, hash) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET hash = excluded.hash",
                (server, hash),
            )
            .map(|_| ())
        })
    }
}
