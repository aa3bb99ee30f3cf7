//! Outgoing Lightning payments.

use super::book::{Ledger, hex};
use super::record::{self, Direction, Kind, Record, Side, State};
use super::table;
use crate::store::StoreError;

/// A payment to be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSend {
    /// Its id in the book, and in LDK.
    pub payment_hash: [u8; 32],
    /// What the payee is to get.
    pub amount_msat: u64,
    /// The most that may be paid in fees.
    pub max_fee_msat: Option<u64>,
    /// As given; `None` for a keysend.
    pub invoice: Option<String>,
    /// Node id, hex.
    pub payee: Option<String>,
    /// Of the invoice, foreign text.
    pub description: Option<String>,
}

/// What came of beginning.
#[derive(Debug)]
pub enum Begun {
    /// It is in the book, durably: LDK may hear of it now.
    Fresh(SendToken),
    /// An earlier payment of this hash is open (pending or unknown): it must not be paid again.
    InFlight(Box<Record>),
    /// An earlier payment of this hash has succeeded.
    Paid(Box<Record>),
}

/// The right to hand a payment to LDK, once. Dropped unused, the line stays pending until the next start settles it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "hand the payment to LDK and call `handed_over`, or give it back with `Ledger::refused`"]
pub struct SendToken {
    hash: [u8; 32],
}

impl SendToken {
    /// The payment hash.
    pub fn payment_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// LDK has taken the payment: its events settle it from now on.
    pub fn handed_over(self) {}
}

impl Ledger {
    /// Puts a payment into the book, durably, unless one of the same hash is open or has succeeded. One that failed for
    /// certain is begun again, as the newest line. Of several at once, one is fresh.
    pub fn begin_send(&self, new: NewSend) -> Result<Begun, StoreError> {
        let hash = new.payment_hash;
        let id = hex(&hash);
        let record = Record {
            amount_msat: Some(new.amount_msat),
            max_fee_msat: new.max_fee_msat,
            payee: new.payee,
            description: new.description,
            ..Record::new(
                id.clone(),
                if new.invoice.is_some() { Kind::Pay } else { Kind::Keysend },
                Direction::Out,
                self.now(),
            )
        };
        let record = Record { invoice: new.invoice, ..record };
        let known = self.store().write("begin a payment", move |tx| {
            let Some(mut line) = table::find(tx, &record.id, Side::Send)? else {
                return table::insert(tx, &record).map(|()| None);
            };
            if line.record.state != State::Failed {
                return Ok(Some(line.record));
            }
            line.record = record;
            table::renew(tx, &line).map(|()| None)
        })?;
        match known {
            None => {
                self.attempts().remove(&id);
                self.announce(id, Side::Send);
                Ok(Begun::Fresh(SendToken { hash }))
            }
            Some(record) if record.state == State::Succeeded => Ok(Begun::Paid(Box::new(record))),
            Some(record) => Ok(Begun::InFlight(Box::new(record))),
        }
    }

    /// LDK refused to begin: nothing has left, so it has failed for certain.
    pub fn refused(&self, token: SendToken, reason: &str) -> Result<Option<Record>, StoreError> {
        self.failed(token.hash, reason)
    }

    /// One more way is tried. Counted in memory: it is written with the outcome.
    pub fn attempt(&self, payment_hash: [u8; 32]) {
        let mut attempts = self.attempts();
        let count = attempts.entry(hex(&payment_hash)).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// The preimage is here. Also right for a payment that the book does not know, or had for failed: the proof counts.
    pub fn sent(
        &self,
        payment_hash: [u8; 32],
        preimage: [u8; 32],
        fee_msat: Option<u64>,
    ) -> Result<Record, StoreError> {
        const WHAT: &str = "book a payment as paid";
        let id = hex(&payment_hash);
        let (first_id, now) = (id.clone(), self.now());
        let preimage = hex(&preimage);
        let record = self.change_or_insert(
            WHAT,
            id,
            Side::Send,
            move |record| record::sent(record, &preimage, fee_msat),
            move || Some(Record::new(first_id, Kind::Pay, Direction::Out, now)),
        )?;
        record.ok_or(StoreError::Closed { what: WHAT })
    }

    /// No HTLC of it is left and none will be. Ignored when it has succeeded, as events may come again.
    ///
    /// A caller that begins failed payments again has to know that a *replayed* failure is of the earlier one: LDK's
    /// `PaymentFailed` counts only if LDK has no payment of that id any more (`list_recent_payments`).
    pub fn failed(&self, payment_hash: [u8; 32], reason: &str) -> Result<Option<Record>, StoreError> {
        let reason = reason.to_owned();
        self.change("book a payment as failed", hex(&payment_hash), Side::Send, move |record| {
            record::failed(record, &reason)
        })
    }

    /// Nobody waits any more, but HTLCs are out: it may succeed until `open_until_height`.
    pub fn unknown(
        &self,
        payment_hash: [u8; 32],
        reason: &str,
        open_until_height: Option<u32>,
    ) -> Result<Option<Record>, StoreError> {
        let reason = reason.to_owned();
        self.change("book a payment as open", hex(&payment_hash), Side::Send, move |record| {
            record::unknown(record, &reason, open_until_height)
        })
    }

    /// The payment to somebody with this hash.
    pub fn send_of(&self, payment_hash: [u8; 32]) -> Result<Option<Record>, StoreError> {
        self.line(&hex(&payment_hash), Side::Send)
    }

    /// Payments whose outcome is open, to be compared with LDK's at a start.
    pub fn open_sends(&self) -> Result<Vec<Record>, StoreError> {
        self.open_lines(Side::Send)
    }
}
