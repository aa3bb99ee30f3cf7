//! Transactions of the on-chain wallet and of channels.
//!
//! They are booked in the transaction of the room that has the news, so that a power cut finds the wallet and the book in
//! step, and a block costs one write.

use bitcoin::Txid;
use rusqlite::Transaction;

use super::book::Ledger;
use super::record::{self, Direction, Kind, Record, Side};
use super::table::{self, Altered};
use crate::store::StoreError;

/// What is known of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOnchain {
    /// Its id in the book.
    pub txid: Txid,
    /// [`Kind::Deposit`] or [`Kind::Withdrawal`] when nothing more is known.
    pub kind: Kind,
    /// Seen from the wallet.
    pub direction: Direction,
    /// Without the fee.
    pub amount_sat: u64,
    /// What we paid for it, where known.
    pub fee_sat: Option<u64>,
    /// Address it went to.
    pub payee: Option<String>,
    /// In our words.
    pub description: Option<String>,
}

/// One thing to book of a transaction. Idempotent; of a transaction that is not in the book only `Seen` is booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainNews {
    /// It exists, or more is known of it. A special kind replaces a general one, never the other way round. One that
    /// was gone is pending again.
    Seen(NewOnchain),
    /// It is in a block of our chain, at this height.
    Confirmed(Txid, u32),
    /// Its block left our chain.
    Unconfirmed(Txid),
    /// It no longer counts; the text says why (replaced, evicted, in conflict).
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
        let changed: Vec<String> = self.store().write(what, move |tx| {
            more(tx)?;
            let booked: Result<Vec<_>, _> = news.into_iter().map(|piece| book(tx, piece, now)).collect();
            let changed = booked?.into_iter().filter(|altered| altered.changed);
            Ok(changed.filter_map(|altered| altered.record).map(|record| record.id).collect())
        })?;
        changed.into_iter().for_each(|id| self.announce(id, Side::Chain));
        Ok(())
    }
}

fn book(tx: &Transaction<'_>, piece: ChainNews, now: u64) -> rusqlite::Result<Altered> {
    let alter = |txid: Txid, change: &dyn Fn(&mut Record) -> bool| {
        table::alter(tx, &txid.to_string(), Side::Chain, now, change, || None)
    };
    match piece {
        ChainNews::Seen(new) => {
            let told = new.record(now);
            table::alter(tx, &told.id, Side::Chain, now, |record| record::seen(record, &told), || Some(told.clone()))
        }
        ChainNews::Confirmed(txid, height) => alter(txid, &|record| record::confirmed(record, height)),
        ChainNews::Unconfirmed(txid) => alter(txid, &record::unconfirmed),
        ChainNews::Gone(txid, reason) => alter(txid, &|record| record::gone(record, reason)),
    }
}

impl NewOnchain {
    fn record(self, now: u64) -> Record {
        let id = self.txid.to_string();
        Record {
            txid: Some(id.clone()),
            amount_msat: Some(self.amount_sat.saturating_mul(1000)),
            fee_msat: self.fee_sat.map(|fee| fee.saturating_mul(1000)),
            payee: self.payee,
            description: self.description,
            ..Record::new(id, self.kind, self.direction, now)
        }
    }
}
