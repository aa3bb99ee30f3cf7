//! What came along with something else and will be asked for soon: bodies and proofs. Bounded, oldest out first. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use bitcoin::{Transaction, TxMerkleNode, Txid};

use crate::chain::io::Reply;

/// Bytes of bodies kept.
const MOST_BODIES: usize = 2 << 20;
/// Proofs kept; each has at most 32 nodes.
const MOST_PROOFS: usize = 512;

/// Answers that need no question.
#[derive(Debug, Default)]
pub(super) struct Stock {
    bodies: Shelf<Txid, Arc<Transaction>>,
    bytes: usize,
    proofs: Shelf<(Txid, u32), (Vec<TxMerkleNode>, u32)>,
}

/// A map that knows what came first.
#[derive(Debug)]
struct Shelf<K, V> {
    all: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self { all: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Hash + Eq + Copy, V> Shelf<K, V> {
    /// False when it is there already.
    fn put(&mut self, key: K, value: V) -> bool {
        let new = self.all.insert(key, value).is_none();
        if new {
            self.order.push_back(key);
        }
        new
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.all.remove(key)?;
        self.order.retain(|other| other != key);
        Some(value)
    }

    fn pop_oldest(&mut self) -> Option<V> {
        let key = self.order.pop_front()?;
        self.all.remove(&key)
    }
}

impl Stock {
    pub(super) fn put_body(&mut self, txid: Txid, tx: &Arc<Transaction>) {
        if self.bodies.put(txid, tx.clone()) {
            self.bytes += tx.total_size();
        }
        while self.bytes > MOST_BODIES {
            let Some(oldest) = self.bodies.pop_oldest() else { break };
            self.bytes -= oldest.total_size();
        }
    }

    /// A body, which is not kept any longer: who asks for it keeps it.
    pub(super) fn take_body(&mut self, txid: &Txid) -> Option<Reply> {
        let tx = self.bodies.remove(txid)?;
        self.bytes -= tx.total_size();
        Some(Reply::Transaction(tx))
    }

    pub(super) fn put_proof(&mut self, txid: Txid, height: u32, branch: Vec<TxMerkleNode>, pos: u32) {
        self.proofs.put((txid, height), (branch, pos));
        if self.proofs.all.len() > MOST_PROOFS {
            self.proofs.pop_oldest();
        }
    }

    /// A proof, as [`Stock::take_body`].
    pub(super) fn take_proof(&mut self, txid: Txid, height: u32) -> Option<Reply> {
        let (branch, pos) = self.proofs.remove(&(txid, height))?;
        Some(Reply::Proof { branch, pos })
    }

    /// The blocks above are other ones now.
    pub(super) fn drop_proofs_above(&mut self, height: u32) {
        self.proofs.all.retain(|(_, its), _| *its <= height);
        let Shelf { all, order } = &mut self.proofs;
        order.retain(|key| all.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, ScriptBuf, TxOut};

    use super::*;

    fn tx(number: u64, size: usize) -> (Txid, Arc<Transaction>) {
        let output = TxOut { value: Amount::from_sat(number), script_pubkey: ScriptBuf::from_bytes(vec![0x6a; size]) };
        let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![], output: vec![output] };
        (tx.compute_txid(), Arc::new(tx))
    }

    #[test]
    fn bodies_are_kept_until_taken_or_until_newer_ones_need_the_room() {
        let mut stock = Stock::default();
        let all: Vec<_> = (0..10).map(|number| tx(number, MOST_BODIES / 5)).collect();
        for (txid, tx) in &all {
            stock.put_body(*txid, tx);
            stock.put_body(*txid, tx);
        }
        assert!(stock.bytes <= MOST_BODIES);
        assert!(stock.take_body(&all[0].0).is_none());
        assert!(matches!(stock.take_body(&all[9].0), Some(Reply::Transaction(tx)) if tx == all[9].1));
        assert!(stock.take_body(&all[9].0).is_none());
        while stock.bodies.order.front().copied().and_then(|txid| stock.take_body(&txid)).is_some() {}
        assert_eq!((stock.bytes, stock.bodies.all.len()), (0, 0));
    }

    #[test]
    fn proofs_of_blocks_that_left_are_gone_and_their_number_is_bounded() {
        let mut stock = Stock::default();
        for height in 0..2 * u32::try_from(MOST_PROOFS).unwrap() {
            stock.put_proof(Txid::all_zeros(), height, vec![], 7);
        }
        assert_eq!((stock.proofs.all.len(), stock.proofs.order.len()), (MOST_PROOFS, MOST_PROOFS));
        stock.drop_proofs_above(1000);
        assert!(stock.take_proof(Txid::all_zeros(), 1001).is_none());
        assert!(matches!(stock.take_proof(Txid::all_zeros(), 1000), Some(Reply::Proof { pos: 7, .. })));
        assert_eq!(stock.proofs.all.len(), stock.proofs.order.len());
    }
}
