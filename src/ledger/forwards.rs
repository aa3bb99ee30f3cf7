//! What forwarding earned.

use super::book::Ledger;
use crate::store::StoreError;

/// A forwarded payment (LDK's `PaymentForwarded` with a known fee; without, LDK may repeat it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Channel id, hex.
    pub incoming: String,
    /// Channel id, hex.
    pub outgoing: String,
    /// What was passed on.
    pub amount_out_msat: u64,
    /// What was earned.
    pub fee_msat: u64,
}

impl Ledger {
    /// Books a forwarded payment with the next commit. That is before LDK's own record of the event is written, since
    /// jobs keep their order; a replay after a power cut between the two counts it twice, which only a statistic bears.
    pub fn forwarded(&self, forward: Forward) -> Result<(), StoreError> {
        let now = self.now();
        self.store().write_later("book a forwarded payment", move |tx| {
            tx.prepare_cached(
                "INSERT INTO forward (at, incoming, outgoing, amount_out_msat, fee_msat) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((now, forward.incoming, forward.outgoing, forward.amount_out_msat, forward.fee_msat))
            .map(|_| ())
        })
    }

    /// Number of forwards and the fees earned with them, in msat, from `since` (unix seconds) on.
    pub fn forwarding_earned(&self, since: u64) -> Result<(u64, u64), StoreError> {
        self.store().read(|connection| {
            connection.query_row(
                "SELECT count(*), coalesce(sum(fee_msat), 0) FROM forward WHERE at >= ?1",
                [since],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
    }
}
