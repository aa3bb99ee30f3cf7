//! What LDK's on-chain transactions are for: told to the wallet, which has the book call them by their names.
//!
//! What we broadcast is named before the wallet sees it. A close that the peer broadcast is named when it comes: from a
//! block, or shown in a mempool. A mistake here costs a word in the book and no money, so that a failed write is
//! recorded, and the next delivery goes on.

use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction};

use super::types::ChainMonitor;
use crate::chain::io::Plan;
use crate::chain::tree::HeaderTree;
use crate::engine::{DeliveryError, Listener};
use crate::wallet::{Purpose, Wallet, WalletError};

/// Names transactions.
pub struct Purposes {
    wallet: Wallet,
    monitors: Arc<ChainMonitor>,
}

impl Purposes {
    /// Knows the channels by their monitors, which outlive them.
    pub fn new(wallet: Wallet, monitors: Arc<ChainMonitor>) -> Self {
        Self { wallet, monitors }
    }

    /// Tells the wallet of a package that LDK broadcasts.
    pub fn tell(&self, txs: &[Transaction]) -> Result<(), WalletError> {
        let fundings = self.fundings();
        let named: Vec<(&Transaction, Option<Purpose>)> = txs
            .iter()
            .map(|tx| (tx, ours(tx, |input| fundings.contains(input), |input| self.wallet.owns_coin(*input))))
            .collect();
        self.wallet.broadcasting(&named)
    }

    /// Outputs that fund channels, open or closed.
    fn fundings(&self) -> HashSet<OutPoint> {
        let monitors = self.monitors.list_monitors().into_iter();
        // Archived between the two calls: its close was named long ago.
        let funding = |id| self.monitors.get_monitor(id).ok().map(|monitor| monitor.get_funding_txo());
        monitors.filter_map(funding).map(|funding| funding.into_bitcoin_outpoint()).collect()
    }
}

impl Listener for Purposes {
    /// Comes after the wallet, which has the transactions then.
    fn deliver(&self, plan: &Plan, _headers: &HeaderTree) -> Result<(), DeliveryError> {
        let block = plan.block.iter().flat_map(|block| &block.txs);
        let proven = block.filter(|tx| tx.owners.wallet).map(|tx| tx.proven.tx());
        let mut seen = proven.chain(&plan.mempool.seen).peekable();
        if seen.peek().is_none() {
            return Ok(());
        }
        let fundings = self.fundings();
        for tx in seen.filter(|tx| closes(tx, |input| fundings.contains(input))) {
            let txid = tx.compute_txid();
            if let Err(error) = self.wallet.note_purpose(txid, Purpose::ChannelClose) {
                tracing::error!(%error, %txid, "the close of a channel stands in the book as a deposit");
            }
        }
        Ok(())
    }
}

/// What a transaction that LDK broadcasts is for. `None`: a funding, which was named when it was made.
///
/// A close spends the funding (so does a splice, which this node neither makes nor accepts). What takes coins of ours
/// together with others is a child or a claim whose fee we pay. All the rest is the sweeper's, or a claim: it brings
/// home what a close has left.
fn ours(
    tx: &Transaction,
    is_funding: impl Fn(&OutPoint) -> bool,
    is_coin: impl Fn(&OutPoint) -> bool,
) -> Option<Purpose> {
    if closes(tx, is_funding) {
        return Some(Purpose::ChannelClose);
    }
    match tx.input.iter().filter(|input| is_coin(&input.previous_output)).count() {
        0 => Some(Purpose::Sweep),
        coins if coins < tx.input.len() => Some(Purpose::FeeBump),
        _ => None,
    }
}

fn closes(tx: &Transaction, is_funding: impl Fn(&OutPoint) -> bool) -> bool {
    tx.input.iter().any(|input| is_funding(&input.previous_output))
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{TxIn, Txid};

    use super::*;

    /// Inputs by letter: `f`unding, `c`oin of ours, `o`utput of a close.
    fn named(inputs: &str) -> Option<Purpose> {
        let outpoint = |letter: u8| OutPoint { txid: Txid::from_byte_array([letter; 32]), vout: 0 };
        let input =
            inputs.bytes().map(|letter| TxIn { previous_output: outpoint(letter), ..TxIn::default() }).collect();
        let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: Vec::new() };
        ours(&tx, |input| *input == outpoint(b'f'), |input| *input == outpoint(b'c'))
    }

    #[test]
    fn what_spends_a_funding_is_a_close() {
        assert_eq!(named("f"), Some(Purpose::ChannelClose));
    }

    #[test]
    fn what_brings_outputs_of_closes_home_is_a_sweep() {
        assert_eq!(named("o"), Some(Purpose::Sweep));
        assert_eq!(named("oo"), Some(Purpose::Sweep));
    }

    #[test]
    fn what_adds_our_coins_to_an_output_of_a_close_is_a_fee_bump() {
        assert_eq!(named("oc"), Some(Purpose::FeeBump));
        assert_eq!(named("coc"), Some(Purpose::FeeBump));
    }

    #[test]
    fn a_funding_keeps_the_name_that_it_was_given_when_it_was_made() {
        assert_eq!(named("c"), None);
        assert_eq!(named("cc"), None);
    }
}
