//! Lightning peers to stay connected with.

use bitcoin::secp256k1::PublicKey;
use rusqlite::Row;
use rusqlite::types::Type;

use super::{Store, StoreError};

/// A peer that we were told to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// Its node id.
    pub node_id: PublicKey,
    /// `host:port`; an IPv6 host in brackets.
    pub address: String,
    /// Unix seconds.
    pub added_at: u64,
    /// Unix seconds of the last successful handshake.
    pub last_connected: Option<u64>,
}

impl Store {
    /// All known peers, the oldest first.
    pub fn peers(&self) -> Result<Vec<KnownPeer>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT node_id, address, added_at, last_connected FROM peer ORDER BY added_at, node_id",
                )?
                .query_map([], peer)?
                .collect()
        })
    }

    /// Adds a peer, or gives a known one a new address.
    pub fn add_peer(&self, node_id: PublicKey, address: &str, now: u64) -> Result<(), StoreError> {
        let address = address.to_owned();
        self.write("keep a peer", move |tx| {
            tx.execute(
                "INSERT INTO peer (node_id, address, added_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET address = excluded.address WHERE address <> excluded.address",
                (node_id.serialize(), address, now),
            )
            .map(|_| ())
        })
    }

    /// Notes a handshake. Written once an hour at most: it is there to tell dead addresses, not to keep a diary.
    pub fn peer_connected(&self, node_id: PublicKey, now: u64) -> Result<(), StoreError> {
        self.write("note a peer's connection", move |tx| {
            tx.execute(
                "UPDATE peer SET last_connected = ?2
                 WHERE node_id = ?1 AND (last_connected IS NULL OR last_connected + 3600 <= ?2)",
                (node_id.serialize(), now),
            )
            .map(|_| ())
        })
    }

    /// Forgets a peer; true when it was known.
    pub fn remove_peer(&self, node_id: PublicKey) -> Result<bool, StoreError> {
        self.write("forget a peer", move |tx| {
            tx.execute("DELETE FROM peer WHERE node_id = ?1", [node_id.serialize()]).map(|rows| rows > 0)
        })
    }
}

fn peer(row: &Row<'_>) -> rusqlite::Result<KnownPeer> {
    let node_id = PublicKey::from_slice(&row.get::<_, [u8; 33]>(0)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error)))?;
    Ok(KnownPeer { node_id, address: row.get(1)?, added_at: row.get(2)?, last_connected: row.get(3)? })
}
