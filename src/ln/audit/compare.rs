//! Their conclusions beside our facts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Txid};

use super::{Block, Watched};
use crate::engine::Proven;

/// Blocks that a server may be behind, as one is that was asked in the moment of a block.
const LAG: u32 = 2;

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Transactions that either side holds for confirmed, of those that were looked for.
    pub compared: usize,
    /// In chain order.
    pub disagreements: Vec<Disagreement>,
}

/// One thing of which both sides tell another story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Of what.
    pub of: Subject,
    /// Where we have proven it; `None`: we hold it for unconfirmed (or the block for none of our chain's).
    pub ours: Option<Block>,
    /// Where LDK's engine was told it is; `None`: for unconfirmed.
    pub theirs: Option<Block>,
}

/// What both sides tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The best block.
    Tip,
    /// A transaction.
    Transaction(Txid),
}

impl Disagreement {
    /// The lowest height that one of the stories names.
    pub fn height(&self) -> Option<u32> {
        let heights = [self.ours, self.theirs].into_iter().flatten().map(|block| block.height);
        heights.min()
    }
}

/// Compares. `ours` was asked whether it contains `tip`, theirs.
///
/// A server that is behind, with a tip in our chain, is compared up to there: what lies above it, it cannot know yet.
/// Being behind by more than `LAG` blocks is a story of its own.
pub fn compare(watched: &Watched, ours: &Proven, tip: Block, theirs: &[(Txid, Block)]) -> Comparison {
    let transactions: BTreeSet<Txid> = watched.transactions.iter().map(|(txid, _)| *txid).collect();
    let outputs: BTreeSet<OutPoint> = watched.outputs.iter().map(|(outpoint, _)| *outpoint).collect();
    let behind = ours.contains && tip.height < ours.tip.height;
    let wanted = ours.txs.iter().filter(|proven| {
        let spends = || proven.tx().input.iter().any(|input| outputs.contains(&input.previous_output));
        transactions.contains(&proven.txid()) || spends()
    });
    let known = wanted.filter(|proven| !behind || proven.height() <= tip.height);
    let ours_by_id: BTreeMap<Txid, Block> = known.map(|proven| (proven.txid(), proven.block().into())).collect();
    let theirs_by_id: BTreeMap<Txid, Block> = theirs.iter().copied().collect();

    let all: BTreeSet<Txid> = ours_by_id.keys().chain(theirs_by_id.keys()).copied().collect();
    let mut disagreements: Vec<Disagreement> = all
        .iter()
        .map(|txid| Disagreement {
            of: Subject::Transaction(*txid),
            ours: ours_by_id.get(txid).copied(),
            theirs: theirs_by_id.get(txid).copied(),
        })
        .filter(|one| one.ours != one.theirs)
        .collect();
    if !ours.contains || tip.height.saturating_add(LAG) < ours.tip.height {
        disagreements.push(Disagreement { of: Subject::Tip, ours: Some(ours.tip.into()), theirs: Some(tip) });
    }
    disagreements.sort_by_key(Disagreement::height);
    Comparison { compared: all.len(), disagreements }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitcoin::absolute::LockTime;
    use bitcoin::block::{Header, Version};
    use bitcoin::hashes::Hash;
    use bitcoin::{BlockHash, CompactTarget, ScriptBuf, Transaction, TxIn, TxMerkleNode, transaction};

    use super::*;
    use crate::chain::io::BlockRef;
    use crate::chain::merkle::{ProvenTx, prove};

    fn spend(of: OutPoint) -> Transaction {
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output: of, ..TxIn::default() }],
            output: Vec::new(),
        }
    }

    /// Alone in the block at this height.
    fn proven(tx: &Transaction, height: u32) -> Arc<ProvenTx> {
        let header = Header {
            version: Version::ONE,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::from(tx.compute_txid()),
            time: height,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        Arc::new(prove(Arc::new(tx.clone()), Vec::new(), 0, header, height).expect("alone in its block"))
    }

    fn outpoint(n: u32) -> OutPoint {
        OutPoint::new(Txid::from_byte_array([7; 32]), n)
    }

    fn block(height: u32, letter: u8) -> Block {
        Block { height, hash: BlockHash::from_byte_array([letter; 32]) }
    }

    fn watched(outputs: &[OutPoint]) -> Watched {
        let outputs = outputs.iter().map(|outpoint| (*outpoint, ScriptBuf::new())).collect();
        Watched { transactions: Vec::new(), outputs }
    }

    fn facts(contains: bool, txs: &[Arc<ProvenTx>]) -> Proven {
        let tip = BlockRef { height: 9, hash: block(9, b'a').hash };
        Proven { tip, contains, txs: txs.to_vec() }
    }

    #[test]
    fn the_same_transaction_in_the_same_block_is_agreement_and_what_was_not_looked_for_is_left_out() {
        let (ours, other) = (proven(&spend(outpoint(0)), 5), proven(&spend(outpoint(1)), 6));
        let theirs = [(ours.txid(), ours.block().into())];
        let facts = facts(true, &[ours, other]);
        let found = compare(&watched(&[outpoint(0)]), &facts, block(9, b'a'), &theirs);
        assert_eq!(found, Comparison { compared: 1, disagreements: Vec::new() });
    }

    #[test]
    fn a_registered_transaction_is_compared_by_its_id() {
        let funding = proven(&spend(outpoint(0)), 5);
        let watched = Watched { transactions: vec![(funding.txid(), ScriptBuf::new())], outputs: Vec::new() };
        let found = compare(&watched, &facts(true, std::slice::from_ref(&funding)), block(9, b'a'), &[]);
        let (of, ours) = (Subject::Transaction(funding.txid()), Some(funding.block().into()));
        assert_eq!(found.disagreements, [Disagreement { of, ours, theirs: None }]);
    }

    #[test]
    fn another_height_a_hidden_spend_and_one_that_we_do_not_know_are_told_with_both_stories() {
        let [a, b, c] = [0, 1, 2].map(|n| proven(&spend(outpoint(n)), 3 + n));
        let theirs = [(a.txid(), block(8, b'x')), (c.txid(), c.block().into())];
        let all = watched(&[outpoint(0), outpoint(1), outpoint(2)]);
        let found = compare(&all, &facts(true, &[a.clone(), b.clone()]), block(9, b'a'), &theirs);
        let stories: Vec<_> = found.disagreements.iter().map(|one| (one.height(), one.ours, one.theirs)).collect();
        let at = |tx: &ProvenTx| Some(Block::from(tx.block()));
        let expected = [(Some(3), at(&a), Some(block(8, b'x'))), (Some(4), at(&b), None), (Some(5), None, at(&c))];
        assert_eq!((found.compared, stories), (3, expected.to_vec()));
    }

    #[test]
    fn a_server_that_is_behind_is_compared_up_to_its_tip() {
        let (old, new) = (proven(&spend(outpoint(0)), 5), proven(&spend(outpoint(1)), 9));
        let theirs = [(old.txid(), old.block().into())];
        let both = watched(&[outpoint(0), outpoint(1)]);
        let found = compare(&both, &facts(true, &[old.clone(), new]), block(8, b'a'), &theirs);
        assert_eq!(found, Comparison { compared: 1, disagreements: Vec::new() });
    }

    #[test]
    fn a_server_that_is_far_behind_disagrees_about_the_tip() {
        let [near, far] = [7, 6].map(|height| compare(&watched(&[]), &facts(true, &[]), block(height, b'a'), &[]));
        assert_eq!((near.disagreements.len(), far.disagreements.len()), (0, 1));
    }

    #[test]
    fn a_tip_that_is_not_in_our_chain_is_a_disagreement() {
        let found = compare(&watched(&[]), &facts(false, &[]), block(9, b'b'), &[]);
        let (ours, theirs) = (Some(block(9, b'a')), Some(block(9, b'b')));
        assert_eq!(found.disagreements, [Disagreement { of: Subject::Tip, ours, theirs }]);
    }
}
