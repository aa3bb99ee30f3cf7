//! Incoming Lightning payments.

use super::book::{Ledger, hex};
use super::record::{self, Direction, Kind, Record, Side};
use crate::store::StoreError;

/// An invoice that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvoice {
    /// Its id in the book.
    pub payment_hash: [u8; 32],
    /// `None`: the payer chooses.
    pub amount_msat: Option<u64>,
    /// Our own words.
    pub description: Option<String>,
    /// BOLT11.
    pub invoice: String,
    /// Unix seconds.
    pub expires_at: u64,
}

/// A payment that was claimed (LDK's `PaymentClaimed`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Hash of the invoice or keysend.
    pub payment_hash: [u8; 32],
    /// LDK's payment id of this claim; `None`: the hash stands for it.
    pub claim: Option<[u8; 32]>,
    /// What came.
    pub amount_msat: u64,
    /// The preimage, where known.
    pub preimage: Option<[u8; 32]>,
    /// True for a payment without invoice.
    pub keysend: bool,
}

impl Ledger {
    /// Books an invoice, durably, before it is handed out. A second one of the same hash changes nothing.
    pub fn invoice(&self, new: NewInvoice) -> Result<(), StoreError> {
        let id = hex(&new.payment_hash);
        let record = Record {
            amount_msat: new.amount_msat,
            description: new.description,
            invoice: Some(new.invoice),
            expires_at: Some(new.expires_at),
            ..Record::new(id.clone(), Kind::Receive, Direction::In, self.now())
        };
        self.change_or_insert("book an invoice", id, Side::Receive, |_| false, move || Some(record)).map(|_| ())
    }

    /// Books a claimed payment. The same claim again changes nothing; another claim of the same hash adds its amount.
    /// One without an invoice in the book is booked all the same: it is our money.
    pub fn received(&self, received: Received) -> Result<Record, StoreError> {
        const WHAT: &str = "book a received payment";
        let id = hex(&received.payment_hash);
        let (first_id, now) = (id.clone(), self.now());
        let kind = if received.keysend { Kind::Keysend } else { Kind::Receive };
        let claim = hex(&received.claim.unwrap_or(received.payment_hash));
        let preimage = received.preimage.map(|preimage| hex(&preimage));
        let record = self.change_or_insert(
            WHAT,
            id,
            Side::Receive,
            move |record| record::received(record, &claim, received.amount_msat, preimage.as_deref()),
            move || Some(Record::new(first_id, kind, Direction::In, now)),
        )?;
        record.ok_or(StoreError::Closed { what: WHAT })
    }

    /// The invoice or received payment with this hash.
    pub fn receive_of(&self, payment_hash: [u8; 32]) -> Result<Option<Record>, StoreError> {
        self.line(&hex(&payment_hash), Side::Receive)
    }

    /// Invoices that can still be paid.
    pub fn open_invoices(&self) -> Result<Vec<Record>, StoreError> {
        let now = self.now();
        let mut open = self.open_lines(Side::Receive)?;
        open.retain(|record| record.expires_at.is_none_or(|end| end > now));
        Ok(open)
    }
}
