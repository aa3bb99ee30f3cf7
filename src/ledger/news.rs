//! On-chain news booked in the transaction of the room that has them, so that a power cut finds the wallet and the book
//! in step, and a block costs one write.

use bitcoin::Txid;
use rusqlite::Transaction;

use super::book::{Changed, Ledger};
use super::onchain::NewOnchain;
use super::record::{self, Record, Side};
use super::table;
use crate::store::StoreError;

/// One thing to book of a transaction; each is idempotent, as the method of [`Ledger`] that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainNews {
    /// [`Ledger::onchain`].
    Seen(NewOnchain),
    /// [`Ledger::confirmed`].
    Confirmed(Txid, u32),
    /// [`Ledger::unconfirmed`].
    Unconfirmed(Txid),
    /// [`Ledger::gone`].
    Gone(Txid, &'static str),
}

impl Ledger {
    /// Books the news and does `more` in one write, then announces what has changed.
    pub fn with_chain_news(
        &self,
        what: &'static str,
        news: Vec<ChainNews>,
        more: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let now = self.now();
        let changed = self.store().write(what, move |tx| {
            more(tx)?;
            let booked: Result<Vec<_>, _> = news.into_iter().map(|piece| book(tx, piece, now)).collect();
            Ok(booked?.into_iter().flatten().collect::<Vec<_>>())
        })?;
        changed.into_iter().for_each(|Changed { id, side }| self.announce(id, side));
        Ok(())
    }
}

fn book(tx: &Transaction<'_>, piece: ChainNews, now: u64) -> rusqlite::Result<Option<Changed>> {
    match piece {
        ChainNews::Seen(new) => {
            let told = new.record(now);
            let first = told.clone();
            change(tx, told.id.clone(), now, move |record| record::seen(record, &told), Some(first))
        }
        ChainNews::Confirmed(txid, height) => {
            change(tx, txid.to_string(), now, |record| record::confirmed(record, height), None)
        }
        ChainNews::Unconfirmed(txid) => change(tx, txid.to_string(), now, record::unconfirmed, None),
        ChainNews::Gone(txid, reason) => {
            change(tx, txid.to_string(), now, |record| record::gone(record, reason), None)
        }
    }
}

/// Changes the line, or puts in `first` when there is none.
fn change(
    tx: &Transaction<'_>,
    id: String,
    now: u64,
    change: impl FnOnce(&mut Record) -> bool,
    first: Option<Record>,
) -> rusqlite::Result<Option<Changed>> {
    match (table::find(tx, &id, Side::Chain)?, first) {
        (Some(mut line), _) => {
            if !change(&mut line.record) {
                return Ok(None);
            }
            line.record.updated_at = now;
            table::update(tx, &line)?;
        }
        (None, Some(first)) => table::insert(tx, &first)?,
        (None, None) => return Ok(None),
    }
    Ok(Some(Changed { id, side: Side::Chain }))
}
