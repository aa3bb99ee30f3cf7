//! `Confirm`: what the chain did, told to LDK. The most dangerous file of the house: a wrong word here closes channels.
//!
//! Rules (`lightning::chain::Confirm`, and what its implementations do):
//!
//! - All `transaction_unconfirmed` come en bloc, before any `transactions_confirmed`. A monitor panics when a
//!   transaction that it tracks confirms in another block without having been unconfirmed (same-height reorg included).
//! - Unconfirming a channel's funding after `channel_ready` force-closes the channel. So nothing is unconfirmed unless
//!   our own tree holds *another* block at that height, or left that height in a reorg. Not knowing is no reason.
//! - The confirmables have different memories: the manager lists each funding for ever, monitors their events of less
//!   than 6 confirmations, the sweeper its sweeps for 4038 blocks. Each is asked, and told, for itself.
//! - Unconfirming one transaction makes a monitor forget every event at or above that height: the sync machine tells
//!   everything from the fork on again, and after each start everything (LDK writes chain state lazily).
//! - Transactions before the tip: the other order closes inbound channels that were away for 2016 blocks. Per block
//!   one call, in block order: each call writes the monitors that have claims pending.
//! - A lower tip makes the manager close channels whose funding falls to 0 confirmations, and monitors forget. A tip is
//!   told only if our tree contains the tip told before, or provably left it. Heights may be skipped.
//! - Telling the same again is harmless.
//!
//! Decision: on every plan, what LDK has is compared with our tree, rather than only when a plan says "fork". It costs
//! a list of txids for each plan; it makes the manager's, the monitors' and the tree's different ages after a crash a
//! case like every other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Transaction, Txid};
use lightning::chain::Confirm;
use tokio::sync::watch;

use crate::chain::io::{BlockRef, Plan};
use crate::chain::tree::HeaderTree;
use crate::engine::{DeliveryError, Listener};

/// One of LDK's confirmables, and the best block that it knows of.
pub struct Confirmable {
    /// For the log.
    pub name: &'static str,
    /// Where the calls go.
    pub confirm: Arc<dyn Confirm + Send + Sync>,
    /// The best block it was last told, in this run or before.
    pub told: BlockRef,
}

/// Tells LDK's confirmables what the engine delivers.
pub struct Feeder {
    confirmables: Mutex<Vec<Confirmable>>,
    tip: watch::Sender<Option<BlockRef>>,
}

impl Feeder {
    /// A feeder of these, told in this order: the manager, the monitors, the sweeper.
    pub fn new(confirmables: Vec<Confirmable>) -> Self {
        Self { confirmables: Mutex::new(confirmables), tip: watch::Sender::new(None) }
    }

    /// The best block that all were told in this run; `None` until then.
    pub fn tip(&self) -> watch::Receiver<Option<BlockRef>> {
        self.tip.subscribe()
    }

    pub(super) fn apply(&self, news: &News<'_>, chain: &impl BestChain) {
        let mut confirmables = self.confirmables.lock().unwrap_or_else(PoisonError::into_inner);
        for one in confirmables.iter() {
            for txid in left(&one.confirm.get_relevant_txids(), news.fork, chain) {
                tracing::warn!(who = one.name, %txid, "a transaction was reorganised out of the chain");
                one.confirm.transaction_unconfirmed(&txid);
            }
        }
        if let Some(BlockNews { header, height, txs }) = &news.block {
            for one in confirmables.iter() {
                one.confirm.transactions_confirmed(header, txs, *height);
            }
        }
        let Some((header, height)) = news.tip else { return };
        let tip = BlockRef { height, hash: header.block_hash() };
        let mut all = true;
        for one in confirmables.iter_mut() {
            if may_follow(one.told, news.fork, chain) {
                one.confirm.best_block_updated(&header, height);
                one.told = tip;
            } else {
                all = false;
                tracing::warn!(
                    who = one.name,
                    height,
                    knows = one.told.height,
                    "our headers do not reach what was told before; waiting until they do"
                );
            }
        }
        if all {
            self.tip.send_replace(Some(tip));
        }
    }
}

impl Listener for Feeder {
    fn deliver(&self, plan: &Plan, headers: &HeaderTree) -> Result<(), DeliveryError> {
        let news = News::of(plan);
        if news.fork.is_some() || news.block.is_some() || news.tip.is_some() {
            self.apply(&news, headers);
        }
        Ok(())
    }
}

/// What of a plan concerns LDK.
pub(super) struct News<'a> {
    pub(super) fork: Option<BlockRef>,
    pub(super) block: Option<BlockNews<'a>>,
    pub(super) tip: Option<(Header, u32)>,
}

/// A block, and those of its transactions that concern LDK, each with its position, in block order.
pub(super) struct BlockNews<'a> {
    pub(super) header: Header,
    pub(super) height: u32,
    pub(super) txs: Vec<(usize, &'a Transaction)>,
}

impl<'a> News<'a> {
    fn of(plan: &'a Plan) -> Self {
        let block = plan.block.as_ref().and_then(|block| {
            let txs: Vec<(usize, &Transaction)> = block
                .txs
                .iter()
                .filter(|tx| tx.owners.lightning)
                .map(|tx| (tx.proven.pos() as usize, &**tx.proven.tx()))
                .collect();
            (!txs.is_empty()).then_some(BlockNews { header: block.header, height: block.height, txs })
        });
        Self { fork: plan.fork, block, tip: plan.tip }
    }
}

/// Our own best chain.
pub(super) trait BestChain {
    fn hash_at(&self, height: u32) -> Option<BlockHash>;
}

impl BestChain for HeaderTree {
    fn hash_at(&self, height: u32) -> Option<BlockHash> {
        HeaderTree::hash_at(self, height)
    }
}

/// True when the block is provably not (any more) in our best chain.
fn is_gone(height: u32, hash: Option<BlockHash>, fork: Option<BlockRef>, chain: &impl BestChain) -> bool {
    match (chain.hash_at(height), hash) {
        (Some(ours), Some(theirs)) => ours != theirs,
        // The chain is shorter now, or the block's hash was never noted: only a fork below it is proof.
        _ => fork.is_some_and(|fork| fork.height < height),
    }
}

/// Those of `relevant` that are to be unconfirmed, each once.
fn left(relevant: &[(Txid, u32, Option<BlockHash>)], fork: Option<BlockRef>, chain: &impl BestChain) -> BTreeSet<Txid> {
    relevant.iter().filter(|(_, height, hash)| is_gone(*height, *hash, fork, chain)).map(|(txid, ..)| *txid).collect()
}

/// True when the tip of `chain` may be told to one who knows `told`.
fn may_follow(told: BlockRef, fork: Option<BlockRef>, chain: &impl BestChain) -> bool {
    chain.hash_at(told.height).is_some() || is_gone(told.height, Some(told.hash), fork, chain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;

    use super::super::testing::Letters;
    use super::*;

    fn tx(number: u32) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(number),
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Writes down what it hears, remembers confirmations as LDK does, and panics where LDK would.
    #[derive(Default)]
    struct Recorder {
        calls: Mutex<Vec<String>>,
        confirmed: Mutex<BTreeMap<Txid, (u32, BlockHash)>>,
    }

    impl Recorder {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.calls.lock().expect("no panic"))
        }

        fn knows(&self, tx: &Transaction, block: BlockRef) {
            self.confirmed.lock().expect("no panic").insert(tx.compute_txid(), (block.height, block.hash));
        }

        fn say(&self, call: String) {
            self.calls.lock().expect("no panic").push(call);
        }
    }

    impl Confirm for Recorder {
        fn transactions_confirmed(&self, header: &Header, txdata: &[(usize, &Transaction)], height: u32) {
            let mut confirmed = self.confirmed.lock().expect("no panic");
            for (_, tx) in txdata {
                let before = confirmed.insert(tx.compute_txid(), (height, header.block_hash()));
                assert!(
                    before.is_none_or(|(_, hash)| hash == header.block_hash()),
                    "confirmed again elsewhere without having been unconfirmed"
                );
            }
            let numbers: Vec<u32> = txdata.iter().map(|(_, tx)| tx.lock_time.to_consensus_u32()).collect();
            self.say(format!("block {height} {numbers:?}"));
        }

        fn transaction_unconfirmed(&self, txid: &Txid) {
            self.confirmed.lock().expect("no panic").remove(txid);
            let number = (0..100).find(|n| tx(*n).compute_txid() == *txid).expect("a test transaction");
            self.say(format!("gone {number}"));
        }

        fn best_block_updated(&self, _header: &Header, height: u32) {
            self.say(format!("tip {height}"));
        }

        fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
            let confirmed = self.confirmed.lock().expect("no panic");
            confirmed.iter().map(|(txid, (height, hash))| (*txid, *height, Some(*hash))).collect()
        }
    }

    fn feeder(told: &[BlockRef]) -> (Feeder, Vec<Arc<Recorder>>) {
        let recorders: Vec<Arc<Recorder>> = told.iter().map(|_| Arc::default()).collect();
        let confirmables = recorders
            .iter()
            .zip(told)
            .map(|(recorder, told)| Confirmable { name: "recorder", confirm: recorder.clone(), told: *told })
            .collect();
        (Feeder::new(confirmables), recorders)
    }

    #[test]
    fn a_block_is_told_in_one_call_and_before_the_tip() {
        let chain = Letters("aaaa");
        let (feeder, heard) = feeder(&[chain.at(1)]);
        feeder.apply(&chain.news(None, Some((3, &[tx(1), tx(2)])), Some(4)), &chain);
        assert_eq!(heard[0].take(), ["block 3 [1, 2]", "tip 4"]);
        assert_eq!(*feeder.tip().borrow(), Some(chain.at(4)));
    }

    #[test]
    fn the_tip_is_unknown_until_it_was_told() {
        let chain = Letters("aa");
        let (feeder, _) = feeder(&[chain.at(2)]);
        assert_eq!(*feeder.tip().borrow(), None);
        feeder.apply(&chain.news(None, Some((1, &[tx(1)])), None), &chain);
        assert_eq!(*feeder.tip().borrow(), None);
    }

    #[test]
    fn all_that_left_is_unconfirmed_en_bloc_before_anything_is_confirmed() {
        // 0 - a - a - a - a      1 in the third, 2 in the fourth
        //          \- b - b - b  2 in the third, 1 in the fourth
        let (old, new) = (Letters("aaaa"), Letters("aabbb"));
        let (feeder, heard) = feeder(&[old.at(4), old.at(4)]);
        for recorder in &heard {
            recorder.knows(&tx(1), old.at(3));
            recorder.knows(&tx(2), old.at(4));
        }
        feeder.apply(&new.news(Some(2), Some((3, &[tx(2)])), None), &new);
        feeder.apply(&new.news(None, Some((4, &[tx(1)])), Some(5)), &new);
        for recorder in heard {
            let mut calls = recorder.take();
            calls[..2].sort();
            assert_eq!(calls, ["gone 1", "gone 2", "block 3 [2]", "block 4 [1]", "tip 5"]);
        }
    }

    #[test]
    fn a_transaction_that_moves_to_another_block_of_the_same_height_is_unconfirmed_first() {
        // The heavier branch has the same height: possible where difficulty changes.
        let (old, new) = (Letters("aaa"), Letters("aab"));
        let (feeder, heard) = feeder(&[old.at(3)]);
        heard[0].knows(&tx(1), old.at(3));
        feeder.apply(&new.news(Some(2), Some((3, &[tx(1)])), Some(3)), &new);
        assert_eq!(heard[0].take(), ["gone 1", "block 3 [1]", "tip 3"]);
    }

    #[test]
    fn a_confirmation_below_the_fork_is_left_alone() {
        let (old, new) = (Letters("aaaa"), Letters("aaabb"));
        let (feeder, heard) = feeder(&[old.at(4)]);
        heard[0].knows(&tx(1), old.at(2));
        feeder.apply(&new.news(Some(3), None, Some(5)), &new);
        assert_eq!(heard[0].take(), ["tip 5"]);
    }

    #[test]
    fn each_confirmable_is_asked_and_told_for_itself() {
        let (old, new) = (Letters("aaa"), Letters("aabb"));
        let (feeder, heard) = feeder(&[old.at(3), old.at(3)]);
        heard[1].knows(&tx(1), old.at(3));
        feeder.apply(&new.news(Some(2), None, Some(4)), &new);
        assert_eq!(heard[0].take(), ["tip 4"]);
        assert_eq!(heard[1].take(), ["gone 1", "tip 4"]);
    }

    #[test]
    fn after_a_restart_a_reorg_that_nobody_tells_of_is_found_in_the_tree() {
        // Headers of the new branch were stored, then the process died: no plan says "fork" any more.
        let (old, new) = (Letters("aaaa"), Letters("aabbb"));
        let (feeder, heard) = feeder(&[old.at(4)]);
        heard[0].knows(&tx(1), old.at(3));
        feeder.apply(&new.news(None, Some((4, &[tx(1)])), Some(5)), &new);
        assert_eq!(heard[0].take(), ["gone 1", "block 4 [1]", "tip 5"]);
    }

    #[test]
    fn after_a_restart_a_manager_that_is_behind_and_monitors_that_are_ahead_hear_the_same() {
        let chain = Letters("aaaaa");
        let (feeder, heard) = feeder(&[chain.at(1), chain.at(4)]);
        heard[1].knows(&tx(1), chain.at(3));
        feeder.apply(&chain.news(None, Some((3, &[tx(1)])), None), &chain);
        feeder.apply(&chain.news(None, None, Some(5)), &chain);
        for recorder in heard {
            assert_eq!(recorder.take(), ["block 3 [1]", "tip 5"]);
        }
    }

    #[test]
    fn a_tree_that_does_not_reach_what_was_told_before_tells_no_tip_and_unconfirms_nothing() {
        // The headers were lost, and are being fetched again.
        let (whole, short) = (Letters("aaaaaa"), Letters("aaa"));
        let (feeder, heard) = feeder(&[whole.at(5), whole.at(2)]);
        heard[0].knows(&tx(1), whole.at(5));
        feeder.apply(&short.news(None, None, Some(3)), &short);
        assert_eq!(heard[0].take(), [""; 0]);
        assert_eq!(heard[1].take(), ["tip 3"]);
        assert_eq!(*feeder.tip().borrow(), None);
        feeder.apply(&whole.news(None, None, Some(6)), &whole);
        assert_eq!(heard[0].take(), ["tip 6"]);
        assert_eq!(*feeder.tip().borrow(), Some(whole.at(6)));
    }

    #[test]
    fn a_shorter_chain_with_more_work_is_told_with_its_lower_tip() {
        let (old, new) = (Letters("aaaaaa"), Letters("aabb"));
        let (feeder, heard) = feeder(&[old.at(6)]);
        heard[0].knows(&tx(1), old.at(6));
        feeder.apply(&new.news(Some(2), None, Some(4)), &new);
        assert_eq!(heard[0].take(), ["gone 1", "tip 4"]);
    }

    #[test]
    fn a_confirmation_without_a_noted_block_is_unconfirmed_only_by_a_fork_below_it() {
        let chain = Letters("aaab");
        let entry = [(tx(1).compute_txid(), 3, None)];
        assert!(left(&entry, None, &chain).is_empty());
        assert!(left(&entry, Some(chain.at(3)), &chain).is_empty());
        assert_eq!(left(&entry, Some(chain.at(2)), &chain).len(), 1);
    }
}
