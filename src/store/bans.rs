//! Servers that were caught lying, until when they are not asked again.

use super::{Store, StoreError};

/// A banned server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Host as configured.
    pub host: String,
    /// Unix seconds; over when reached.
    pub until: u64,
    /// In our words.
    pub reason: String,
}

impl Store {
    /// Bans that are not over at `now` (unix seconds).
    pub fn bans(&self, now: u64) -> Result<Vec<Ban>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT host, until, reason FROM ban WHERE until > ?1 ORDER BY host")?
                .query_map([now], |row| Ok(Ban { host: row.get(0)?, until: row.get(1)?, reason: row.get(2)? }))?
                .collect()
        })
    }

    /// Bans a host, or replaces its ban.
    pub fn ban(&self, ban: Ban) -> Result<(), StoreError> {
        self.write("ban a server", move |tx| {
            tx.execute(
                "INSERT INTO ban (host, until, reason) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET until = excluded.until, reason = excluded.reason",
                (ban.host, ban.until, ban.reason),
            )
            .map(|_| ())
        })
    }

    /// Lifts a ban; true when there was one.
    pub fn unban(&self, host: &str) -> Result<bool, StoreError> {
        let host = host.to_owned();
        self.write("lift the ban of a server", move |tx| {
            tx.execute("DELETE FROM ban WHERE host = ?1", [host]).map(|rows| rows > 0)
        })
    }
}
