//! The door for unconfirmed transactions: what a server merely says is in its mempool.
//!
//! Nobody checked these. A server may show what was never signed, hide what it showed, and repeat it for ever. So:
//!
//! - What spends a coin of ours is believed only with our own signatures (`SIGHASH_ALL`), which no server can make;
//!   otherwise it could make our coins look spent, or plant "change" of a transaction that we never made.
//! - What we signed stays, whatever the mempool says: its inputs are free again only when another transaction that
//!   spends them is proven. Nothing that merely conflicts with it is let in, not even an older version of it.
//! - What pays us is shown as pending and never spent ([`super::coins`]).
//! - It must pay a script that was handed out: else it could drive the gap of unused scripts before it.
//! - No values that overflow a sum, no coinbase, nothing bigger than is relayed, no flood: what was only claimed
//!   stays in the database until it is old ([`super::disk::load`]), hidden or not, and there is room for so many.
//!
//! Witnesses are not part of a txid, so a known transaction is never replaced by a server's copy of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bdk_wallet::{KeychainKind, Wallet as Bdk};
use bitcoin::policy::MAX_STANDARD_TX_WEIGHT;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, PublicKey, ScriptBuf, Transaction, TxIn, TxOut, Txid, ecdsa};

use super::state::State;

/// Transactions of other people that no block ever had, at most, hidden ones included.
const CLAIMS_AT_MOST: usize = 300;

/// Why a claim is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// We know it already.
    Known,
    /// Only blocks have coinbases.
    Coinbase,
    /// More than there will ever be.
    Value,
    /// Bigger than what nodes relay.
    Size,
    /// Spends our coins without our signatures.
    Unsigned,
    /// Against a transaction that we signed.
    Conflict,
    /// Pays a script that nobody was given, or none of ours.
    Unrevealed,
    /// Enough is enough.
    Flood,
}

/// Takes in what servers show in their mempools.
pub(super) fn seen(state: &mut State, txs: &[Arc<Transaction>]) {
    if txs.is_empty() {
        return;
    }
    let mut unconfirmed = state.unconfirmed();
    for tx in txs {
        match doubt(state, &unconfirmed, tx) {
            Ok(()) => {
                let stamp = state.stamp();
                state.bdk.apply_unconfirmed_txs([(Arc::clone(tx), stamp)]);
                unconfirmed.insert(tx.compute_txid(), Arc::clone(tx));
            }
            Err(doubt) => {
                tracing::debug!(txid = %tx.compute_txid(), ?doubt, "an unconfirmed transaction is ignored")
            }
        }
    }
    recognise(state);
}

/// Takes out what servers no longer show. What we signed stays.
pub(super) fn gone(state: &mut State, txids: &[Txid]) {
    for txid in txids {
        if !state.bdk.tx_graph().get_tx(*txid).is_some_and(|tx| state.spends_ours(&tx)) {
            evict(state, *txid);
        }
    }
}

/// Takes a transaction out of what counts, until it is seen again or proven.
pub(super) fn evict(state: &mut State, txid: Txid) {
    let stamp = state.stamp();
    state.own.remove(&txid);
    state.bdk.apply_evicted_txs([(txid, stamp)]);
}

/// Looks again at unconfirmed transactions that spend our coins: a parent may have come after its child, and made
/// of a stranger's transaction one that ought to bear our signature. Those that do not are taken out.
pub(super) fn recognise(state: &mut State) {
    loop {
        let mut forged = None;
        for (txid, tx) in state.unconfirmed() {
            if state.own.contains(&txid) || !state.spends_ours(&tx) {
                continue;
            }
            if state.was_proven(txid) || signed_by_us(&state.bdk, &tx) {
                state.own.insert(txid);
            } else {
                forged = Some(txid);
                break;
            }
        }
        // What it conflicted with may count again: look once more.
        let Some(txid) = forged else { return };
        tracing::warn!(%txid, "a server showed a transaction that spends our coins without our signature");
        evict(state, txid);
    }
}

fn doubt(state: &State, unconfirmed: &BTreeMap<Txid, Arc<Transaction>>, tx: &Transaction) -> Result<(), Doubt> {
    let txid = tx.compute_txid();
    if unconfirmed.contains_key(&txid) || state.is_confirmed(txid) {
        return Err(Doubt::Known);
    }
    if tx.is_coinbase() {
        return Err(Doubt::Coinbase);
    }
    let total = tx.output.iter().try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value));
    if total.is_none_or(|total| total > Amount::MAX_MONEY) {
        return Err(Doubt::Value);
    }
    if tx.weight().to_wu() > u64::from(MAX_STANDARD_TX_WEIGHT) {
        return Err(Doubt::Size);
    }
    if unconfirmed.iter().any(|(other, own)| state.own.contains(other) && conflict(own, tx)) {
        return Err(Doubt::Conflict);
    }
    if state.spends_ours(tx) {
        return if signed_by_us(&state.bdk, tx) { Ok(()) } else { Err(Doubt::Unsigned) };
    }
    if !pays_revealed_only(&state.bdk, tx) {
        return Err(Doubt::Unrevealed);
    }
    let graph = state.bdk.tx_graph();
    let claimed = |node: &Txid| !graph.all_anchors().contains_key(node) && !state.own.contains(node);
    if graph.get_tx(txid).is_none() && graph.full_txs().filter(|node| claimed(&node.txid)).count() >= CLAIMS_AT_MOST {
        return Err(Doubt::Flood);
    }
    Ok(())
}

fn conflict(a: &Transaction, b: &Transaction) -> bool {
    a.input.iter().any(|x| b.input.iter().any(|y| x.previous_output == y.previous_output))
}

/// Pays at least one script that was handed out, and none of those that are only watched.
fn pays_revealed_only(bdk: &Bdk, tx: &Transaction) -> bool {
    let revealed = |(keychain, index): (KeychainKind, u32)| {
        bdk.spk_index().last_revealed_index(keychain).is_some_and(|last| index <= last)
    };
    let mut ours = tx.output.iter().filter_map(|out| bdk.derivation_of_spk(out.script_pubkey.clone())).peekable();
    ours.peek().is_some() && ours.all(revealed)
}

/// True when every input that spends a coin of ours bears our valid signature over the whole transaction.
pub(super) fn signed_by_us(bdk: &Bdk, tx: &Transaction) -> bool {
    let mut sighashes = SighashCache::new(tx);
    tx.input.iter().enumerate().all(|(i, input)| match bdk.spk_index().txout(input.previous_output) {
        Some((_, coin)) => signature_holds(bdk, &mut sighashes, i, input, coin),
        None => true,
    })
}

fn signature_holds(
    bdk: &Bdk,
    sighashes: &mut SighashCache<&Transaction>,
    i: usize,
    input: &TxIn,
    coin: &TxOut,
) -> bool {
    let mut witness = input.witness.iter();
    let (Some(signature), Some(key), None) = (witness.next(), witness.next(), witness.next()) else {
        return false;
    };
    let (Ok(signature), Ok(key)) = (ecdsa::Signature::from_slice(signature), PublicKey::from_slice(key)) else {
        return false;
    };
    let Ok(hash) = key.wpubkey_hash() else { return false };
    if ScriptBuf::new_p2wpkh(&hash) != coin.script_pubkey || signature.sighash_type != EcdsaSighashType::All {
        return false;
    }
    sighashes.p2wpkh_signature_hash(i, &coin.script_pubkey, coin.value, EcdsaSighashType::All).is_ok_and(|hash| {
        let message = Message::from(hash);
        bdk.secp_ctx().verify_ecdsa(&message, &signature.signature, &key.inner).is_ok()
    })
}
