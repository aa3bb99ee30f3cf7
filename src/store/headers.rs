//! Our best chain, on the disk: consecutive heights, no gap.

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use rusqlite::{Connection, Transaction};

use super::{Store, StoreError};

const STORE: &str = "store block headers";
const LOAD: &str = "load the block headers";

impl Store {
    /// All heights from `from` on are replaced by these headers.
    ///
    /// `from` may be anything up to one above the highest stored one, and lies below the lowest only when the list
    /// replaces everything: to extend the chain downwards see [`Self::prepend_headers`].
    pub fn store_headers(&self, from: u32, headers: &[Header]) -> Result<(), StoreError> {
        let headers = headers.to_vec();
        self.write(STORE, move |tx| {
            if let Some((_, high)) = bounds(tx)? {
                if i64::from(from) > high + 1 {
                    return Ok(Err(format!("height {from} does not follow the highest stored one, {high}")));
                }
            }
            tx.execute("DELETE FROM header WHERE height >= ?1", [from])?;
            insert(tx, from, &headers).map(Ok)
        })?
        .map_err(|why| StoreError::broken(STORE, why))
    }

    /// Extends the stored chain downwards: the last of `headers`, which begin at height `from`, must be the parent of
    /// the lowest stored header.
    pub fn prepend_headers(&self, from: u32, headers: &[Header]) -> Result<(), StoreError> {
        let headers = headers.to_vec();
        self.write(STORE, move |tx| {
            let Some((low, _)) = bounds(tx)? else { return insert(tx, from, &headers).map(Ok) };
            let Some(last) = headers.last() else { return Ok(Ok(())) };
            let lowest: Vec<u8> =
                tx.query_row("SELECT header FROM header WHERE height = ?1", [low], |row| row.get(0))?;
            let follows = i64::from(from) + headers.len() as i64 == low
                && decode(&lowest).is_ok_and(|lowest| lowest.prev_blockhash == last.block_hash());
            if !follows {
                return Ok(Err(format!("{} headers from height {from} do not lead to height {low}", headers.len())));
            }
            insert(tx, from, &headers).map(Ok)
        })?
        .map_err(|why| StoreError::broken(STORE, why))
    }

    /// The lowest stored height and all headers from there; `(0, [])` when there are none.
    ///
    /// Only that heights are consecutive is checked here; linkage and work are the header tree's.
    pub fn load_headers(&self) -> Result<(u32, Vec<Header>), StoreError> {
        let rows = self.read(|connection| {
            connection
                .prepare("SELECT height, header FROM header ORDER BY height")?
                .query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, [u8; 80]>(1)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let base = rows.first().map_or(0, |(height, _)| *height);
        let mut headers = Vec::with_capacity(rows.len());
        for (expected, (height, bytes)) in (base..).zip(rows) {
            if height != expected {
                return Err(StoreError::broken(LOAD, format!("height {expected} is missing")));
            }
            headers.push(decode(&bytes).map_err(|why| StoreError::broken(LOAD, format!("height {height}: {why}")))?);
        }
        Ok((base, headers))
    }
}

fn bounds(connection: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
    connection.query_row("SELECT min(height), max(height) FROM header", [], |row| {
        Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?))
    })
}

fn insert(tx: &Transaction<'_>, from: u32, headers: &[Header]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO header (height, header) VALUES (?1, ?2)")?;
    for (height, header) in (i64::from(from)..).zip(headers) {
        insert.execute((height, serialize(header)))?;
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<Header, bitcoin::consensus::encode::Error> {
    deserialize(bytes)
}
