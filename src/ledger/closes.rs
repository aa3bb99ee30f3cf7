//! Channels that are no more.

use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::book::Ledger;
use super::table::{decode, encode};
use crate::store::StoreError;

/// A closed channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedChannel {
    /// Hex.
    pub channel_id: String,
    /// Node id, hex.
    pub peer: Option<String>,
    /// `txid:vout`.
    pub funding: Option<String>,
    /// In satoshi.
    pub capacity_sat: Option<u64>,
    /// Ours at the end, as far as known.
    pub balance_msat: Option<u64>,
    /// In our words; what the peer said is escaped by who shows it.
    pub reason: String,
    /// Unix seconds.
    pub closed_at: u64,
}

impl ClosedChannel {
    /// Books it in a transaction that does other things, too; a replay changes nothing.
    pub fn book(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute(
            "INSERT INTO closed_channel (channel, record) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (&self.channel_id, encode(self)?),
        )
        .map(|_| ())
    }
}

impl Ledger {
    /// Books the end of a channel; a replay changes nothing.
    pub fn channel_closed(&self, closed: ClosedChannel) -> Result<(), StoreError> {
        self.store().write("book the end of a channel", move |tx| closed.book(tx))
    }

    /// Closed channels, the last one first.
    pub fn closed_channels(&self, limit: usize) -> Result<Vec<ClosedChannel>, StoreError> {
        self.store().read(|connection| {
            connection
                .prepare_cached("SELECT record FROM closed_channel ORDER BY seq DESC LIMIT ?1")?
                .query_map([limit as i64], |row| decode(&row.get::<_, String>(0)?, 0))?
                .collect()
        })
    }
}
