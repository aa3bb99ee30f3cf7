//! The stored wallet looked at as a whole, for `lightnode db check`.

use std::collections::{BTreeMap, BTreeSet};

use bdk_wallet::template::Bip84;
use bdk_wallet::{KeychainKind, Wallet as Bdk};
use bitcoin::bip32::Xpriv;
use bitcoin::{Network, OutPoint};

use super::state::GAP;
use super::{WalletError, disk};
use crate::store::Store;

/// What the stored wallet says.
#[derive(Debug)]
pub struct Checked {
    /// BDK's own sum of what is unspent, confirmed or not.
    pub balance_sat: u64,
    /// The same, added up output by output from the transactions that count.
    pub added_up_sat: u64,
    /// Transactions that count.
    pub transactions: usize,
}

/// Reads the wallet as it is stored; `None` when none was made yet. Nothing is written.
pub fn check(store: &Store, master: &Xpriv, network: Network) -> Result<Option<Checked>, WalletError> {
    let Some((changes, _)) = disk::look(store)? else { return Ok(None) };
    let [external, internal] =
        [KeychainKind::External, KeychainKind::Internal].map(|keychain| Bip84(*master, keychain));
    let bdk = Bdk::load()
        .descriptor(KeychainKind::External, Some(external))
        .descriptor(KeychainKind::Internal, Some(internal))
        .check_network(network)
        .lookahead(GAP)
        .load_wallet_no_persist(changes)
        .map_err(|error| WalletError::Load(error.to_string()))?
        .ok_or_else(|| WalletError::Load("it has no descriptors".into()))?;
    let mut ours: BTreeMap<OutPoint, u64> = BTreeMap::new();
    let mut spent: BTreeSet<OutPoint> = BTreeSet::new();
    let mut transactions = 0;
    for tx in bdk.transactions() {
        let (txid, tx) = (tx.tx_node.txid, &tx.tx_node.tx);
        transactions += 1;
        spent.extend(tx.input.iter().map(|input| input.previous_output));
        for (vout, out) in (0..).zip(&tx.output) {
            if bdk.is_mine(out.script_pubkey.clone()) {
                ours.insert(OutPoint { txid, vout }, out.value.to_sat());
            }
        }
    }
    let added_up_sat = ours.iter().filter(|(outpoint, _)| !spent.contains(outpoint)).map(|(_, sat)| *sat).sum();
    Ok(Some(Checked { balance_sat: bdk.balance().total().to_sat(), added_up_sat, transactions }))
}
