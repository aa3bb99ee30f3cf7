//! What the book (`ledger/`) is told of on-chain transactions: the difference between two views.

use bdk_wallet::KeychainKind;
use bitcoin::{Address, Txid};

use super::purpose::Purpose;
use super::state::{State, View};

/// One thing to tell the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A transaction of ours that the book may not have yet.
    Seen(Seen),
    /// It is in a block of this height.
    Confirmed(Txid, u32),
    /// It is in no block any more.
    Unconfirmed(Txid),
    /// It no longer counts: evicted, or in conflict with another one.
    Gone(Txid),
}

/// What the book keeps of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) txid: Txid,
    /// What we know it is for; else it is a deposit or a withdrawal.
    pub(super) purpose: Option<Purpose>,
    /// Coins of ours that it spends, in sat.
    pub(super) spent_sat: u64,
    /// What it pays to us, in sat.
    pub(super) received_sat: u64,
    /// Known when all of its inputs are ours.
    pub(super) fee_sat: Option<u64>,
    /// Where the money went: the first foreign output when we pay, our own when we are paid.
    pub(super) address: Option<String>,
}

/// What has changed since the book was told last.
pub(super) fn news(state: &State, now: &View) -> Vec<Entry> {
    let told = &state.view;
    let mut entries: Vec<Entry> =
        told.keys().filter(|txid| !now.contains_key(*txid)).map(|txid| Entry::Gone(*txid)).collect();
    for (txid, height) in now {
        let before = told.get(txid);
        if before.is_none() {
            entries.extend(seen(state, *txid).map(Entry::Seen));
        }
        match (before.copied().flatten(), *height) {
            (before, Some(now)) if before != Some(now) => entries.push(Entry::Confirmed(*txid, now)),
            (Some(_), None) => entries.push(Entry::Unconfirmed(*txid)),
            _ => {}
        }
    }
    entries
}

/// The transaction as the book should have it.
pub(super) fn seen(state: &State, txid: Txid) -> Option<Seen> {
    let tx = state.bdk.tx_graph().get_tx(txid)?;
    let (spent, received) = state.bdk.sent_and_received(&tx);
    let external = |keychain| keychain == KeychainKind::External;
    let shown = tx.output.iter().find(|out| match state.bdk.derivation_of_spk(out.script_pubkey.clone()) {
        None => spent.to_sat() > 0,
        Some((keychain, _)) => spent.to_sat() == 0 && external(keychain),
    });
    Some(Seen {
        txid,
        purpose: state.rows.purposes.get(&txid).copied(),
        spent_sat: spent.to_sat(),
        received_sat: received.to_sat(),
        fee_sat: state.bdk.calculate_fee(&tx).ok().map(|fee| fee.to_sat()),
        address: shown
            .and_then(|out| Address::from_script(&out.script_pubkey, state.bdk.network()).ok())
            .map(|address| address.to_string()),
    })
}
