//! What became of payments while the node was down.

use std::collections::{BTreeSet, HashMap};

use bitcoin::hex::FromHex;
use lightning::ln::channelmanager::{PaymentId, RecentPaymentDetails};
use lightning::types::payment::PaymentHash;

use super::Payer;
use crate::store::StoreError;

impl Payer {
    /// Compares the book's open payments with LDK's at a start, before anything is paid. What LDK does not know has
    /// never left and has failed for certain; what it knows is open, and its events settle it. Blocks.
    ///
    /// `given_up` are the ids of those whose channels were given up with them: LDK knows nothing of these, and they
    /// may have arrived.
    pub fn reconcile(&self, given_up: &BTreeSet<String>) -> Result<(), StoreError> {
        let _handing_over = self.hand_over.lock();
        let known: HashMap<PaymentId, RecentPaymentDetails> =
            self.manager.list_recent_payments().into_iter().map(|payment| (payment_id(&payment), payment)).collect();
        for record in self.ledger.open_sends()? {
            let Ok(bytes) = <[u8; 32]>::from_hex(&record.id) else {
                tracing::error!(id = %record.id, "a payment in the book has no payment hash for an id");
                continue;
            };
            if given_up.contains(&record.id) {
                let reason =
                    "its channel was given up while the payment was out: only the payee knows whether it arrived";
                self.ledger.unknown(bytes, reason, None)?;
                continue;
            }
            let hash = PaymentHash(bytes);
            match fate(known.get(&PaymentId(bytes)), self.open_until(hash)) {
                Fate::NeverLeft => {
                    let reason = "the node stopped before the payment had left; no money has moved";
                    self.ledger.failed(bytes, reason)?;
                }
                Fate::Open(height) => {
                    let reason = "the node was restarted while the payment was out; it may still arrive";
                    self.ledger.unknown(bytes, reason, height)?;
                }
                Fate::Arrived => {}
            }
        }
        Ok(())
    }
}

/// What became of an open line while the node was down.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// LDK does not know it, and no channel carries it.
    NeverLeft,
    /// Under way, until this height.
    Open(Option<u32>),
    /// The preimage is there: `PaymentSent` is in LDK's queue.
    Arrived,
}

fn fate(known: Option<&RecentPaymentDetails>, open_until: Option<u32>) -> Fate {
    match known {
        Some(RecentPaymentDetails::Fulfilled { .. }) => Fate::Arrived,
        Some(RecentPaymentDetails::Pending { .. } | RecentPaymentDetails::Abandoned { .. }) => Fate::Open(open_until),
        // An HTLC in a channel contradicts LDK's silence: believe the HTLC.
        Some(RecentPaymentDetails::AwaitingInvoice { .. }) | None if open_until.is_some() => Fate::Open(open_until),
        Some(RecentPaymentDetails::AwaitingInvoice { .. }) | None => Fate::NeverLeft,
    }
}

fn payment_id(payment: &RecentPaymentDetails) -> PaymentId {
    let (RecentPaymentDetails::AwaitingInvoice { payment_id }
    | RecentPaymentDetails::Pending { payment_id, .. }
    | RecentPaymentDetails::Fulfilled { payment_id, .. }
    | RecentPaymentDetails::Abandoned { payment_id, .. }) = payment;
    *payment_id
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PaymentId = PaymentId([1; 32]);
    const HASH: PaymentHash = PaymentHash([1; 32]);

    #[test]
    fn only_what_neither_ldk_nor_a_channel_knows_has_never_left() {
        let pending = RecentPaymentDetails::Pending { payment_id: ID, payment_hash: HASH, total_msat: 1 };
        let abandoned = RecentPaymentDetails::Abandoned { payment_id: ID, payment_hash: HASH };
        let fulfilled = RecentPaymentDetails::Fulfilled { payment_id: ID, payment_hash: Some(HASH) };
        assert_eq!(fate(None, None), Fate::NeverLeft);
        assert_eq!(fate(None, Some(800)), Fate::Open(Some(800)));
        assert_eq!(fate(Some(&pending), None), Fate::Open(None));
        assert_eq!(fate(Some(&abandoned), Some(800)), Fate::Open(Some(800)));
        assert_eq!(fate(Some(&fulfilled), None), Fate::Arrived);
    }
}
