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

/// Unconfirmed transactions, and what the wallet believes of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Mempool {
    txs: BTreeMap<Txid, Unconfirmed>,
    bytes: usize,
    /// To be told.
    seen: BTreeSet<Txid>,
    /// The wallet thinks that these are unconfirmed.
    believed: BTreeSet<Txid>,
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
        if self.bytes + size <= MAX_BYTES {
            self.bytes += size;
            self.txs.insert(txid, Unconfirmed { tx: tx.clone(), scripts: BTreeSet::from([script]) });
            self.seen.insert(txid);
        }
    }

    /// A script's history no longer lists it as unconfirmed.
    pub(super) fn unlist(&mut self, script: ScriptHash, txid: Txid) {
        let Some(entry) = self.txs.get_mut(&txid) else { return };
        entry.scripts.remove(&script);
        if entry.scripts.is_empty() {
            self.bytes -= entry.tx.total_size();
            self.txs.remove(&txid);
            self.seen.remove(&txid);
        }
    }

    /// The wallet believes these to be unconfirmed: it says so, or was told that their blocks left the chain.
    pub(super) fn believe(&mut self, txids: impl IntoIterator<Item = Txid>) {
        self.believed.extend(txids);
    }

    /// The wallet is told that it is confirmed.
    pub(super) fn confirmed(&mut self, txid: &Txid) {
        self.believed.remove(txid);
    }

    /// What the wallet has not heard of yet; from now on it counts as told. `whole` when every history is known: only
    /// then a transaction that is nowhere is gone; `proven` says where else it may be.
    pub(super) fn tell(&mut self, whole: bool, proven: impl Fn(&Txid) -> bool) -> MempoolChange {
        let seen = std::mem::take(&mut self.seen);
        self.believed.extend(&seen);
        let gone = |txid: &&Txid| whole && !self.txs.contains_key(*txid) && !proven(txid);
        let gone: Vec<Txid> = self.believed.iter().filter(gone).copied().collect();
        for txid in &gone {
            self.believed.remove(txid);
        }
        MempoolChange { seen: seen.iter().filter_map(|txid| self.get(txid).cloned()).collect(), gone }
    }
}
