//! What the wallet keeps in the database: BDK's tables, the fundings under way, and what a transaction was for.
//!
//! Everything that one operation changes goes in one transaction of the store, so that a power cut finds either all
//! of it or nothing: BDK's staged change set, rows of our own, the book's entries, the outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use bdk_wallet::ChangeSet;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use rusqlite::types::Type;
use rusqlite::{Connection, params};

use super::purpose::Purpose;
use crate::store::{Store, StoreError};

/// Checkpoints this far below the tip are dropped when the wallet is opened, unless a transaction is anchored there.
/// Above, every height is kept, so that a reorganisation always meets a block that it replaces.
pub(super) const DENSE: u32 = 144;

/// Transactions that no block ever had, and no server shows any more, are forgotten after two weeks, as mempools do;
/// measured against the newest claim, for the clock may be wrong.
const HIDDEN_KEPT_SECONDS: u32 = 14 * 24 * 3600;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS wallet_funding (
        txid BLOB PRIMARY KEY CHECK (length(txid) = 32),
        tx   BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS wallet_purpose (
        txid    BLOB PRIMARY KEY CHECK (length(txid) = 32),
        purpose TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;";

/// A change of our own tables.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// A funding transaction was made; its inputs are locked.
    Funding(Arc<Transaction>),
    /// It is confirmed or given up; its inputs are no longer locked by it.
    FundingEnded(Txid),
    /// What a transaction is for.
    Purpose(Txid, Purpose),
    /// A withdrawal, for the outbox; made at this Unix time.
    Send(Arc<Transaction>, u64),
    /// Given up: not to be sent any more. (What is buried in the chain leaves the outbox by itself.)
    Unsend(Txid),
}

/// Our own tables as they were when the wallet was opened.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) fundings: BTreeMap<Txid, Arc<Transaction>>,
    pub(super) purposes: BTreeMap<Txid, Purpose>,
}

impl Rows {
    /// Follows a change that is durable.
    pub(super) fn apply(&mut self, row: Row) {
        match row {
            Row::Funding(tx) => {
                self.fundings.insert(tx.compute_txid(), tx);
            }
            Row::FundingEnded(txid) => {
                self.fundings.remove(&txid);
            }
            Row::Purpose(txid, purpose) => {
                self.purposes.insert(txid, purpose);
            }
            // The outbox is read where it is used.
            Row::Send(..) | Row::Unsend(_) => {}
        }
    }
}

/// Makes the tables if they are missing, drops what nobody needs any more, and reads the rest.
pub(super) fn load(store: &Store) -> Result<(ChangeSet, Rows), StoreError> {
    store.write("open the wallet", |db| {
        ChangeSet::init_sqlite_tables(db)?;
        db.execute_batch(TABLES)?;
        db.execute(
            "DELETE FROM bdk_txs WHERE last_evicted >= coalesce(last_seen, 0)
                AND last_evicted + ?1 < (SELECT max(max(coalesce(last_evicted, 0), coalesce(last_seen, 0))) FROM bdk_txs)
                AND txid NOT IN (SELECT txid FROM bdk_anchors)",
            [HIDDEN_KEPT_SECONDS],
        )?;
        db.execute(
            "DELETE FROM bdk_blocks WHERE block_height > 0
                AND block_height + ?1 < (SELECT max(block_height) FROM bdk_blocks)
                AND block_height NOT IN (SELECT block_height FROM bdk_anchors)",
            [DENSE],
        )?;
        Ok((ChangeSet::from_sqlite(db)?, rows(db)?))
    })
}

/// What is stored, as it lies there; `None` when no wallet was made yet.
pub(super) fn look(store: &Store) -> Result<Option<(ChangeSet, Rows)>, StoreError> {
    store.read(|db| {
        let tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('bdk_wallet', 'wallet_funding')";
        if db.query_row(tables, [], |row| row.get::<_, i64>(0))? < 2 {
            return Ok(None);
        }
        let found = (ChangeSet::from_sqlite(db)?, rows(db)?);
        Ok(Some(found).filter(|(changes, _)| *changes != ChangeSet::default()))
    })
}

/// Writes BDK's changes and our rows, in the transaction of the caller.
pub(super) fn put(db: &rusqlite::Transaction<'_>, changes: &ChangeSet, rows: &[Row]) -> rusqlite::Result<()> {
    changes.persist_to_sqlite(db)?;
    for row in rows {
        match row {
            Row::Funding(tx) => db
                .prepare_cached("INSERT OR REPLACE INTO wallet_funding (txid, tx) VALUES (?1, ?2)")?
                .execute(params![tx.compute_txid().to_byte_array(), serialize(tx.as_ref())])
                .map(|_| ())?,
            Row::FundingEnded(txid) => db
                .prepare_cached("DELETE FROM wallet_funding WHERE txid = ?1")?
                .execute([txid.to_byte_array()])
                .map(|_| ())?,
            Row::Purpose(txid, purpose) => db
                .prepare_cached("INSERT OR REPLACE INTO wallet_purpose (txid, purpose) VALUES (?1, ?2)")?
                .execute(params![txid.to_byte_array(), purpose.as_str()])
                .map(|_| ())?,
            Row::Send(tx, now) => Store::outbox_put(db, std::slice::from_ref(tx.as_ref()), "withdrawal", *now)?,
            Row::Unsend(txid) => Store::outbox_drop(db, *txid).map(|_| ())?,
        }
    }
    Ok(())
}

fn rows(db: &Connection) -> rusqlite::Result<Rows> {
    let mut rows = Rows::default();
    let mut fundings = db.prepare("SELECT tx FROM wallet_funding")?;
    for raw in fundings.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
        let tx: Transaction =
            deserialize(&raw?).map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(e)))?;
        rows.fundings.insert(tx.compute_txid(), Arc::new(tx));
    }
    let mut purposes = db.prepare("SELECT txid, purpose FROM wallet_purpose")?;
    for row in purposes.query_map([], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?)))? {
        let (txid, purpose) = row?;
        let purpose =
            purpose.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(e)))?;
        rows.purposes.insert(Txid::from_byte_array(txid), purpose);
    }
    Ok(rows)
}
