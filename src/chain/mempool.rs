//! What the servers that serve the wallet claim to be unconfirmed, of its scripts. Good for display only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::io::{MempoolChange, ScriptHash, SourceId};

/// Bytes of unconfirmed bodies kept at once: they cost a liar nothing.
const MAX_BYTES: usize = 16 << 20;

#[derive(Clone, Debug)]
struct Unconfirmed {
    tx: Arc<Transaction>,
    /// Who lists it, and of which script.
    listed: BTreeSet<(SourceId, ScriptHash)>,
}

/// Unconfirmed transactions, and what the wallet believes of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Mempool {
    txs: BTreeMap<Txid, Unconfirmed>,
    bytes: usize,
    /// Listed by a server that has gone: there until every history is known again.
    left: BTreeSet<Txid>,
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

    /// A server's history of a script lists this one as unconfirmed.
    pub(super) fn list(&mut self, source: SourceId, script: ScriptHash, txid: Txid, tx: &Arc<Transaction>) {
        if let Some(entry) = self.txs.get_mut(&txid) {
            entry.listed.insert((source, script));
            self.left.remove(&txid);
            return;
        }
        let size = tx.total_size();
        if self.bytes + size <= MAX_BYTES {
            self.bytes += size;
            self.txs.insert(txid, Unconfirmed { tx: tx.clone(), listed: BTreeSet::from([(source, script)]) });
            self.seen.insert(txid);
        }
    }

    /// A server's history of a script no longer lists it as unconfirmed.
    pub(super) fn unlist(&mut self, source: SourceId, script: ScriptHash, txid: Txid) {
        let Some(entry) = self.txs.get_mut(&txid) else { return };
        entry.listed.remove(&(source, script));
        if entry.listed.is_empty() && !self.left.contains(&txid) {
            self.drop(txid);
        }
    }

    /// Its body is not to be believed.
    pub(super) fn reject(&mut self, txid: Txid) {
        self.left.remove(&txid);
        self.drop(txid);
    }

    /// A server is listened to no more: that says nothing of what it listed.
    pub(super) fn forget(&mut self, source: SourceId) {
        for (txid, entry) in &mut self.txs {
            let before = entry.listed.len();
            entry.listed.retain(|(other, _)| *other != source);
            if entry.listed.is_empty() && before > 0 {
                self.left.insert(*txid);
            }
        }
    }

    fn drop(&mut self, txid: Txid) {
        if let Some(entry) = self.txs.remove(&txid) {
            self.bytes -= entry.tx.total_size();
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

    /// True when something is believed or listed that may turn out to be nowhere.
    pub(super) fn has_doubts(&self) -> bool {
        !self.believed.is_empty() || !self.left.is_empty()
    }

    /// What the wallet has not heard of yet; from now on it counts as told. `whole` when every history is known: only
    /// then a transaction that is nowhere is gone; `proven` says where else it may be.
    pub(super) fn tell(&mut self, whole: bool, proven: impl Fn(&Txid) -> bool) -> MempoolChange {
        if whole {
            for txid in std::mem::take(&mut self.left) {
                self.drop(txid);
            }
        }
        // A server may be behind, or ahead of the header that takes a transaction back out of its block.
        let (later, seen): (BTreeSet<Txid>, BTreeSet<Txid>) = self.seen.iter().partition(|txid| proven(txid));
        self.seen = later;
        self.believed.extend(&seen);
        let gone = |txid: &&Txid| whole && !self.txs.contains_key(*txid) && !proven(txid);
        let gone: Vec<Txid> = self.believed.iter().filter(gone).copied().collect();
        for txid in &gone {
            self.believed.remove(txid);
        }
        MempoolChange { seen: seen.iter().filter_map(|txid| self.get(txid).cloned()).collect(), gone }
    }
}
