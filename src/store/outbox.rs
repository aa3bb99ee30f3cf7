//! Transactions to be broadcast again and again until their outcome is final ([`Store::outbox_prune`]).
//!
//! A package is named by its last transaction (the child that pays for the others).

use std::collections::{BTreeSet, HashMap};

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Transaction, Txid};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row};

use super::{Store, StoreError};

const ADD: &str = "keep a transaction for broadcasting";

const PRUNE: &str = "take settled transactions out of the outbox";

/// From so many confirmations on, what is confirmed is taken for final (as LDK does).
const FINAL_DEPTH: u32 = 6;

/// A package in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Txid of the last transaction of the package.
    pub txid: Txid,
    /// Parents first.
    pub package: Vec<Transaction>,
    /// What it is for, in our words.
    pub purpose: String,
    /// Unix seconds.
    pub added_at: u64,
    /// Broadcasts noted by [`Store::outbox_result`].
    pub attempts: u32,
    /// The last of them.
    pub last: Option<Verdict>,
}

/// What a server said to a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Unix seconds.
    pub at: u64,
    /// True: it was taken, or known already. A claim, as everything a server says.
    pub accepted: bool,
    /// The server's words, foreign text.
    pub note: String,
}

impl Store {
    /// Adds a package; durable when it returns. Adding the same again changes and writes nothing. The txid names it.
    pub fn outbox_add(&self, package: &[Transaction], purpose: &str, now: u64) -> Result<Txid, StoreError> {
        let txid = package
            .last()
            .map(Transaction::compute_txid)
            .ok_or_else(|| StoreError::broken(ADD, "the package is empty"))?;
        let key = txid.to_byte_array();
        let bytes = serialize(&package.to_vec());
        let known: Option<Vec<u8>> = self.read(|connection| {
            connection
                .prepare_cached("SELECT package FROM outbox WHERE txid = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })?;
        if known.as_ref() == Some(&bytes) {
            return Ok(txid);
        }
        let (package, purpose) = (package.to_vec(), purpose.to_owned());
        self.write(ADD, move |tx| Self::outbox_put(tx, &package, &purpose, now).map(|()| txid))
    }

    /// As [`Self::outbox_add`], in a transaction of [`Self::write`], for rooms that store more with it. An empty
    /// package is nothing.
    pub fn outbox_put(
        tx: &rusqlite::Transaction<'_>,
        package: &[Transaction],
        purpose: &str,
        now: u64,
    ) -> rusqlite::Result<()> {
        let Some(txid) = package.last().map(Transaction::compute_txid) else { return Ok(()) };
        tx.execute(
            "INSERT INTO outbox (txid, package, purpose, added_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET package = excluded.package, purpose = excluded.purpose",
            (txid.to_byte_array(), serialize(&package.to_vec()), purpose, now),
        )
        .map(|_| ())
    }

    /// All packages, in the order in which they were added.
    pub fn outbox(&self) -> Result<Vec<OutboxEntry>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT txid, package, purpose, added_at, attempts, last_at, accepted, note
                     FROM outbox ORDER BY seq",
                )?
                .query_map([], entry)?
                .collect()
        })
    }

    /// Notes what came of a broadcast. An unknown txid is ignored: it may have been removed meanwhile.
    pub fn outbox_result(&self, txid: Txid, verdict: Verdict) -> Result<(), StoreError> {
        self.write("note the outcome of a broadcast", move |tx| {
            tx.execute(
                "UPDATE outbox SET attempts = attempts + 1, last_at = ?2, accepted = ?3, note = ?4 WHERE txid = ?1",
                (txid.to_byte_array(), verdict.at, verdict.accepted, verdict.note),
            )
            .map(|_| ())
        })
    }

    /// Takes out the packages whose outcome is final at this tip: all of it confirmed, or one of its inputs spent by
    /// another transaction, six blocks deep in both cases. Goes by the stored, proven histories. Writes only when
    /// there is something to take out, and looks at the histories only when there is something in the outbox.
    pub fn outbox_prune(&self, tip: u32) -> Result<Vec<Txid>, StoreError> {
        let packages: Vec<_> = self.outbox()?.into_iter().map(|entry| (entry.txid, entry.package)).collect();
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let proven: Vec<Vec<u8>> = self.read(|connection| {
            connection
                .prepare_cached("SELECT DISTINCT tx FROM proof WHERE height + ?1 <= ?2 + 1")?
                .query_map([FINAL_DEPTH, tip], |row| row.get(0))?
                .collect()
        })?;
        let mut facts = Facts::default();
        for bytes in proven {
            let tx = deserialize(&bytes).map_err(|error| StoreError::broken(PRUNE, error.to_string()))?;
            facts.add(&tx);
        }
        let over: Vec<Txid> =
            packages.into_iter().filter(|(_, package)| facts.settle(package)).map(|(txid, _)| txid).collect();
        if !over.is_empty() {
            let over = over.clone();
            self.write(PRUNE, move |tx| {
                let mut delete = tx.prepare_cached("DELETE FROM outbox WHERE txid = ?1")?;
                over.iter().try_for_each(|txid| delete.execute([txid.to_byte_array()]).map(|_| ()))
            })?;
        }
        Ok(over)
    }

    /// Takes a package out that is no longer wanted; true when it was there.
    pub fn outbox_remove(&self, txid: Txid) -> Result<bool, StoreError> {
        self.write("remove a broadcast transaction", move |tx| Self::outbox_drop(tx, txid))
    }

    /// As [`Self::outbox_remove`], in a transaction of [`Self::write`].
    pub fn outbox_drop(tx: &rusqlite::Transaction<'_>, txid: Txid) -> rusqlite::Result<bool> {
        tx.execute("DELETE FROM outbox WHERE txid = ?1", [txid.to_byte_array()]).map(|rows| rows > 0)
    }
}

/// What deeply confirmed transactions say.
#[derive(Default)]
struct Facts {
    confirmed: BTreeSet<Txid>,
    spenders: HashMap<OutPoint, Txid>,
}

impl Facts {
    fn add(&mut self, tx: &Transaction) {
        let txid = tx.compute_txid();
        self.confirmed.insert(txid);
        self.spenders.extend(tx.input.iter().map(|input| (input.previous_output, txid)));
    }

    /// True when the package is all confirmed, or never can be.
    fn settle(&self, package: &[Transaction]) -> bool {
        let spent_by_another = |tx: &Transaction| {
            let txid = tx.compute_txid();
            let spender = |input: &bitcoin::TxIn| self.spenders.get(&input.previous_output);
            tx.input.iter().any(|input| spender(input).is_some_and(|spender| *spender != txid))
        };
        package.iter().all(|tx| self.confirmed.contains(&tx.compute_txid())) || package.iter().any(spent_by_another)
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<OutboxEntry> {
    let package = deserialize(&row.get::<_, Vec<u8>>(1)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, Box::new(error)))?;
    let last = match row.get(5)? {
        Some(at) => Some(Verdict { at, accepted: row.get(6)?, note: row.get(7)? }),
        None => None,
    };
    Ok(OutboxEntry {
        txid: Txid::from_byte_array(row.get(0)?),
        package,
        purpose: row.get(2)?,
        added_at: row.get(3)?,
        attempts: row.get(4)?,
        last,
    })
}
