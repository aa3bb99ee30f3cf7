//! What the serving server claims to be unconfirmed, of the wallet's scripts. Good for display only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::io::{MempoolChange, ScriptHash};

/// Bytes of unconfirmed bodies kept at once: they cost a liar nothing.
const MAX_BYTES: usize = 16 << 20;

#[derive(Clone, Debug)]
struct Unconfirmed {
    tx: Arc<Transaction>,
    scripts: BTreeSet<ScriptHash>,
}

/// Unconfirmed transactions and what the wallet has not heard of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Mempool {
    txs: BTreeMap<Txid, Unconfirmed>,
    bytes: usize,
    seen: BTreeSet<Txid>,
    gone: BTreeSet<Txid>,
}

impl Mempool {
    /// The body of an unconfirmed transaction.
    pub(super) fn get(&self, txid: &Txid) -> Option<&Arc<Transaction>> {
        self.txs.get(txid).map(|entry| &entry.tx)
    }

    /// A script's history lists this one as unconfirmed.
    pub(super) fn list(&mut self, script: ScriptHash, txid: Txid, tx: &Arc<Transaction>) {
        if let Some(entry) = self.txs.get_mut(&txid) {
            entry.scripts.insert(script);
            return;
        }
        let size = tx.total_size();
        if self.bytes + size > MAX_BYTES {
            return;
        }
        self.bytes += size;
        self.txs.insert(txid, Unconfirmed { tx: tx.clone(), scripts: BTreeSet::from([script]) });
        // The wallet still believes in one whose going it has not been told of.
        if !self.gone.remove(&txid) {
            self.seen.insert(txid);
        }
    }

    /// A script's history no longer lists it as unconfirmed; `confirmed` when we have proven why.
    pub(super) fn unlist(&mut self, script: ScriptHash, txid: Txid, confirmed: bool) {
        let Some(entry) = self.txs.get_mut(&txid) else { return };
        entry.scripts.remove(&script);
        if !entry.scripts.is_empty() {
            return;
        }
        self.bytes -= entry.tx.total_size();
        self.txs.remove(&txid);
        let untold = self.seen.remove(&txid);
        if !untold && !confirmed {
            self.gone.insert(txid);
        }
    }

    /// What the wallet has not heard of yet; from now on it counts as told.
    pub(super) fn tell(&mut self) -> MempoolChange {
        let seen = std::mem::take(&mut self.seen).iter().filter_map(|t| self.get(t).cloned()).collect();
        MempoolChange { seen, gone: std::mem::take(&mut self.gone).into_iter().collect() }
    }
}
