//! Transactions of the on-chain wallet and of channels.

use bitcoin::Txid;

use super::book::Ledger;
use super::record::{self, Direction, Kind, Record, Side};
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

impl NewOnchain {
    pub(super) fn record(self, now: u64) -> Record {
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

impl Ledger {
    /// Books a transaction, or what is now better known of it. A special kind replaces a general one, never the other
    /// way round. One that was gone is pending again.
    pub fn onchain(&self, new: NewOnchain) -> Result<(), StoreError> {
        let told = new.record(self.now());
        let id = told.id.clone();
        let first = told.clone();
        self.change_or_insert(
            "book a transaction",
            id,
            Side::Chain,
            move |record| record::seen(record, &told),
            move || Some(first),
        )
        .map(|_| ())
    }

    /// It is in a block of our chain. False: not in the book.
    pub fn confirmed(&self, txid: Txid, height: u32) -> Result<bool, StoreError> {
        self.of_tx("book a confirmation", txid, move |record| record::confirmed(record, height))
    }

    /// Its block left our chain. False: not in the book.
    pub fn unconfirmed(&self, txid: Txid) -> Result<bool, StoreError> {
        self.of_tx("book a reorganisation", txid, record::unconfirmed)
    }

    /// It no longer counts; `reason` says why (replaced, evicted, in conflict). False: not in the book.
    pub fn gone(&self, txid: Txid, reason: &str) -> Result<bool, StoreError> {
        let reason = reason.to_owned();
        self.of_tx("book a vanished transaction", txid, move |record| record::gone(record, &reason))
    }

    fn of_tx(
        &self,
        what: &'static str,
        txid: Txid,
        change: impl FnOnce(&mut Record) -> bool + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.change(what, txid.to_string(), Side::Chain, change).map(|record| record.is_some())
    }
}
