//! What is known of each watched script. Loaded proofs are only material: they are checked again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, TxMerkleNode};
use rusqlite::{Connection, Row, Transaction};

use super::{Store, StoreError};
use crate::chain::io::{Coinbase, ProofRecord, ScriptHash, ScriptRecord, Status};

const LOAD: &str = "load the script histories";

impl Store {
    /// Replaces what is stored of a script. Only what changed is written.
    pub fn store_history(&self, record: &ScriptRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.write("store a script's history", move |tx| replace(tx, &record))
    }

    /// Replaces several at once, in one transaction.
    pub fn store_histories(&self, records: Vec<ScriptRecord>) -> Result<(), StoreError> {
        self.write("store script histories", move |tx| records.iter().try_for_each(|record| replace(tx, record)))
    }

    /// Removes what is stored of these scripts, in one transaction. Unknown ones change nothing.
    pub fn forget_histories(&self, scripts: Vec<ScriptHash>) -> Result<(), StoreError> {
        self.write("forget script histories", move |tx| {
            for script in &scripts {
                tx.prepare_cached("DELETE FROM proof WHERE script = ?1")?.execute([script.0])?;
                tx.prepare_cached("DELETE FROM script WHERE hash = ?1")?.execute([script.0])?;
            }
            Ok(())
        })
    }

    /// All stored histories; confirmed transactions in chain order.
    pub fn load_histories(&self) -> Result<Vec<ScriptRecord>, StoreError> {
        let (scripts, proofs) = self.read(|connection| {
            let scripts = connection
                .prepare("SELECT hash, status, unconfirmed FROM script ORDER BY hash")?
                .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
                .collect::<rusqlite::Result<BTreeMap<[u8; 32], (Option<[u8; 32]>, bool)>>>()?;
            let proofs = connection
                .prepare(
                    "SELECT script, tx, height, block, branch, pos, coinbase, coinbase_branch
                     FROM proof ORDER BY script, height, pos",
                )?
                .query_map([], RawProof::read)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((scripts, proofs))
        })?;
        let mut records: BTreeMap<[u8; 32], ScriptRecord> = scripts
            .into_iter()
            .map(|(script, (status, unconfirmed))| {
                let status = status.map(Status);
                (script, ScriptRecord { script: ScriptHash(script), status, confirmed: Vec::new(), unconfirmed })
            })
            .collect();
        for raw in proofs {
            let record =
                records.get_mut(&raw.script).ok_or_else(|| StoreError::broken(LOAD, "a proof belongs to no script"))?;
            record.confirmed.push(raw.decode().map_err(|why| StoreError::broken(LOAD, why))?);
        }
        Ok(records.into_values().collect())
    }
}

fn replace(tx: &Transaction<'_>, record: &ScriptRecord) -> rusqlite::Result<()> {
    let script = record.script.0;
    tx.prepare_cached(
        "INSERT INTO script (hash, status, unconfirmed) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET status = excluded.status, unconfirmed = excluded.unconfirmed
         WHERE status IS NOT excluded.status OR unconfirmed <> excluded.unconfirmed",
    )?
    .execute((script, record.status.map(|status| status.0), record.unconfirmed))?;
    let mut old = stored(tx, script)?;
    let mut upsert = tx.prepare_cached(
        "INSERT INTO proof (script, txid, height, block, pos, branch, tx, coinbase, coinbase_branch)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET height = excluded.height, block = excluded.block, pos = excluded.pos,
                                   branch = excluded.branch, tx = excluded.tx, coinbase = excluded.coinbase,
                                   coinbase_branch = excluded.coinbase_branch",
    )?;
    for proof in &record.confirmed {
        let txid = proof.tx.compute_txid().to_byte_array();
        let place = (proof.height, proof.block.to_byte_array());
        // Block and txid fix the position, the branch and the body, and whether the coinbase is needed.
        if old.remove(&txid) == Some(place) {
            continue;
        }
        let (branch, tx) = (encode(&proof.branch), serialize(&*proof.tx));
        let coinbase = proof.coinbase.as_ref().map(|coinbase| serialize(&*coinbase.tx));
        let coinbase_branch = proof.coinbase.as_ref().map(|coinbase| encode(&coinbase.branch));
        upsert.execute((script, txid, place.0, place.1, proof.pos, branch, tx, coinbase, coinbase_branch))?;
    }
    let mut delete = tx.prepare_cached("DELETE FROM proof WHERE script = ?1 AND txid = ?2")?;
    old.into_keys().try_for_each(|txid| delete.execute((script, txid)).map(|_| ()))
}

fn encode(branch: &[TxMerkleNode]) -> Vec<u8> {
    branch.iter().flat_map(|node| node.to_byte_array()).collect()
}

fn decode(branch: &[u8]) -> Result<Vec<TxMerkleNode>, String> {
    let nodes = branch.chunks_exact(32);
    if !nodes.remainder().is_empty() {
        return Err("a merkle branch of odd length".into());
    }
    nodes.map(|node| TxMerkleNode::from_slice(node).map_err(|error| error.to_string())).collect()
}

fn body(bytes: &[u8]) -> Result<Arc<bitcoin::Transaction>, String> {
    Ok(Arc::new(deserialize(bytes).map_err(|error| format!("a transaction body: {error}"))?))
}

type Places = BTreeMap<[u8; 32], (u32, [u8; 32])>;

fn stored(connection: &Connection, script: [u8; 32]) -> rusqlite::Result<Places> {
    connection
        .prepare_cached("SELECT txid, height, block FROM proof WHERE script = ?1")?
        .query_map([script], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect()
}

struct RawProof {
    script: [u8; 32],
    tx: Vec<u8>,
    height: u32,
    block: [u8; 32],
    branch: Vec<u8>,
    pos: u32,
    coinbase: Option<Vec<u8>>,
    coinbase_branch: Option<Vec<u8>>,
}

impl RawProof {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            script: row.get(0)?,
            tx: row.get(1)?,
            height: row.get(2)?,
            block: row.get(3)?,
            branch: row.get(4)?,
            pos: row.get(5)?,
            coinbase: row.get(6)?,
            coinbase_branch: row.get(7)?,
        })
    }

    fn decode(self) -> Result<ProofRecord, String> {
        let coinbase = match (self.coinbase, self.coinbase_branch) {
            (Some(tx), Some(branch)) => Some(Coinbase { tx: body(&tx)?, branch: decode(&branch)? }),
            (None, None) => None,
            _ => return Err("a coinbase without its branch".into()),
        };
        Ok(ProofRecord {
            tx: body(&self.tx)?,
            height: self.height,
            block: BlockHash::from_byte_array(self.block),
            branch: decode(&self.branch)?,
            pos: self.pos,
            coinbase,
        })
    }
}
