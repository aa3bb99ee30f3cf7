//! When a transaction need not be sent any more: it is buried in our chain, or one that spends a coin of it is.
//!
//! That holds for every package of the outbox whose last transaction touches the wallet, whoever put it there. Only what
//! is proven counts: a server's word that it has seen a transaction ends nothing.

use bitcoin::Transaction;

use super::WalletError;
use super::disk::Row;
use super::state::State;
use crate::store::Store;

/// Blocks, the first one included, after which nothing is expected to come back.
const BURIED: u32 = 6;

/// What can leave the outbox at the present tip.
pub(super) fn sent(state: &State, store: &Store) -> Result<Vec<Row>, WalletError> {
    let entries = store.outbox()?;
    let done = |last: &Transaction| {
        let graph = state.bdk.tx_graph();
        let beaten = graph.direct_conflicts(last).any(|(_, other)| is_buried(state, other));
        is_buried(state, last.compute_txid()) || beaten
    };
    Ok(entries
        .iter()
        .filter(|entry| entry.package.last().is_some_and(done))
        .map(|entry| Row::Sent(entry.txid))
        .collect())
}

fn is_buried(state: &State, txid: bitcoin::Txid) -> bool {
    let tip = state.bdk.latest_checkpoint().height();
    state.proven_height(txid).is_some_and(|height| height + BURIED <= tip + 1)
}
