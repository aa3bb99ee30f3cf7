//! Merkle proofs.
//!
//! Contract:
//! - A merkle tree does not say where its leaves are. Two 32-byte nodes side by side are 64 bytes, and so is a
//!   transaction made for it (CVE-2017-12842): a 64-byte leaf alone proves nothing, and nothing is proven through an
//!   inner node that reads as a transaction which could have been mined. It is no lie either. Consensus allows such
//!   transactions, and two ids side by side that read as one are found by trying: 2^24 times for any, 2^50 for one that
//!   could be mined.
//! - What decides is how deep the tree is, and that the block's coinbase says: no two nodes can be taken for one, which
//!   would have to begin with 27 zero bytes after five others, nor can one be the parent of what was never mined. What
//!   has a branch as long as the coinbase's is a leaf ([`prove_beside`]); with another branch it is a lie.
//! - A row with an odd number of nodes repeats its last one, so a node may equal its *right* sibling; a node that
//!   equals its *left* one stands on a copy (CVE-2012-2459) and its position is a fiction.
//! - A branch is as deep as the largest possible block needs: 4,000,000 / 240 weight units are less than 2¹⁵
//!   transactions. `pos` must lie in a tree of that depth; servers do not bound it.
//! - LDK and BDK hear of a confirmation only through [`ProvenTx`], which is made here alone.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::hashes::{Hash, HashEngine};
use bitcoin::{Amount, Transaction, TxIn, TxMerkleNode, Txid, consensus};

use super::io::{BlockRef, Coinbase, ProofRecord};

/// Levels of the deepest tree that a block can have.
pub const MAX_DEPTH: usize = 15;

/// Size of two nodes, and of the transaction that plays one.
const NODE_PAIR: usize = 64;
/// Outputs of the largest transaction: 36 weight units each.
const MOST_OUTPUTS: u32 = 4_000_000 / 36;

/// A transaction proven to be in a block of our own header tree, by [`prove`] or [`prove_beside`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenTx {
    tx: Arc<Transaction>,
    txid: Txid,
    branch: Vec<TxMerkleNode>,
    pos: u32,
    header: Header,
    block: BlockRef,
    /// What showed the depth of the tree, where that was needed.
    coinbase: Option<Coinbase>,
}

/// Why a branch proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More levels than a block can have.
    #[error("the branch is deeper than a block can be")]
    TooDeep,
    /// The position is outside a tree of this depth.
    #[error("the position is outside the tree")]
    Position,
    /// The leaf is 64 bytes long and could be an inner node (CVE-2017-12842).
    #[error("the transaction is 64 bytes long, as an inner node is")]
    LeafLikeNode,
    /// An inner node reads as a transaction (CVE-2017-12842).
    #[error("an inner node reads as a transaction")]
    NodeLikeTransaction,
    /// A node equals its left sibling (CVE-2012-2459).
    #[error("a node stands on a copy of its left sibling")]
    Duplicate,
    /// It leads elsewhere than to the header's root.
    #[error("the branch does not lead to the header's root")]
    WrongRoot,
    /// It is not as long as the coinbase's: it leads to an inner node, or from below a leaf (CVE-2017-12842).
    #[error("the branch is not as long as the tree is deep")]
    WrongDepth,
    /// What is shown as the coinbase is none.
    #[error("the first transaction is no coinbase")]
    NoCoinbase,
}

impl ProofError {
    /// True when the branch leads to the header, and it is open what that says: whoever sent it may be honest.
    pub fn is_undecided(self) -> bool {
        matches!(self, ProofError::LeafLikeNode | ProofError::NodeLikeTransaction)
    }
}

/// Proves that `tx` is in the block of `header`, which must come from our own header tree, at `height` there.
pub fn prove(
    tx: Arc<Transaction>,
    branch: Vec<TxMerkleNode>,
    pos: u32,
    header: Header,
    height: u32,
) -> Result<ProvenTx, ProofError> {
    let (led, ambiguous) = lead(tx, branch, pos, header, height)?;
    match (led.tx.base_size() == NODE_PAIR, ambiguous) {
        (true, _) => Err(ProofError::LeafLikeNode),
        (false, true) => Err(ProofError::NodeLikeTransaction),
        (false, false) => Ok(led),
    }
}

/// As [`prove`], where the block's coinbase says how deep the tree is: decides what [`ProofError::is_undecided`].
pub fn prove_beside(
    coinbase: Coinbase,
    tx: Arc<Transaction>,
    branch: Vec<TxMerkleNode>,
    pos: u32,
    header: Header,
    height: u32,
) -> Result<ProvenTx, ProofError> {
    let depth = depth(&coinbase, &header)?;
    let (led, _) = lead(tx, branch, pos, header, height)?;
    match led.branch.len() == depth {
        true => Ok(ProvenTx { coinbase: Some(coinbase), ..led }),
        false => Err(ProofError::WrongDepth),
    }
}

/// What the branch leads from to the header, wherever in the tree that is, and whether a node on the way could be a mined
/// transaction.
fn lead(
    tx: Arc<Transaction>,
    branch: Vec<TxMerkleNode>,
    pos: u32,
    header: Header,
    height: u32,
) -> Result<(ProvenTx, bool), ProofError> {
    let txid = tx.compute_txid();
    let (root, ambiguous) = root(txid, &branch, pos)?;
    if root != header.merkle_root {
        return Err(ProofError::WrongRoot);
    }
    let block = BlockRef { height, hash: header.block_hash() };
    Ok((ProvenTx { tx, txid, branch, pos, header, block, coinbase: None }, ambiguous))
}

/// Proves what is stored once more.
pub fn prove_again(stored: ProofRecord, header: Header) -> Result<ProvenTx, ProofError> {
    let ProofRecord { tx, height, branch, pos, coinbase, .. } = stored;
    match coinbase {
        Some(coinbase) => prove_beside(coinbase, tx, branch, pos, header, height),
        None => prove(tx, branch, pos, header, height),
    }
}

/// How many levels the tree of this header has above its leaves.
pub fn depth(coinbase: &Coinbase, header: &Header) -> Result<usize, ProofError> {
    let (root, _) = root(coinbase.tx.compute_txid(), &coinbase.branch, 0)?;
    match (root == header.merkle_root, coinbase.tx.is_coinbase()) {
        (false, _) => Err(ProofError::WrongRoot),
        (true, false) => Err(ProofError::NoCoinbase),
        (true, true) => Ok(coinbase.branch.len()),
    }
}

/// The root that a branch leads to, and whether a node on the way could be a mined transaction.
fn root(txid: Txid, branch: &[TxMerkleNode], pos: u32) -> Result<(TxMerkleNode, bool), ProofError> {
    if branch.len() > MAX_DEPTH {
        return Err(ProofError::TooDeep);
    }
    if pos >> branch.len() != 0 {
        return Err(ProofError::Position);
    }
    let mut node = TxMerkleNode::from(txid);
    let mut ambiguous = false;
    for (level, &sibling) in branch.iter().enumerate() {
        let is_right = (pos >> level) & 1 == 1;
        if is_right && sibling == node {
            return Err(ProofError::Duplicate);
        }
        let (left, right) = if is_right { (sibling, node) } else { (node, sibling) };
        let mut pair = [0; NODE_PAIR];
        pair[..32].copy_from_slice(left.as_ref());
        pair[32..].copy_from_slice(right.as_ref());
        ambiguous |= could_be_mined(&pair);
        let mut engine = TxMerkleNode::engine();
        engine.input(&pair);
        node = TxMerkleNode::from_engine(engine);
    }
    Ok((node, ambiguous))
}

/// True when two nodes read as a transaction that consensus lets into a block, with an id that is the hash of them. An
/// attacker who wants one mined has to keep to this; one who tries ids until they look like one has to keep to it too.
fn could_be_mined(pair: &[u8; NODE_PAIR]) -> bool {
    let Ok(tx) = consensus::deserialize::<Transaction>(pair) else { return false };
    let exists = |input: &TxIn| input.previous_output.is_null() || input.previous_output.vout < MOST_OUTPUTS;
    tx.base_size() == NODE_PAIR
        && !tx.output.is_empty()
        && tx.output.iter().all(|output| output.value <= Amount::MAX_MONEY)
        && tx.input.iter().all(exists)
}

impl ProvenTx {
    /// The transaction.
    pub fn tx(&self) -> &Arc<Transaction> {
        &self.tx
    }
    /// Its id.
    pub fn txid(&self) -> Txid {
        self.txid
    }
    /// Header of its block.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// Its block.
    pub fn block(&self) -> BlockRef {
        self.block
    }
    /// Height of its block.
    pub fn height(&self) -> u32 {
        self.block.height
    }
    /// Position in its block; 0 is the coinbase.
    pub fn pos(&self) -> u32 {
        self.pos
    }
    /// Merkle branch from the leaf upwards.
    pub fn branch(&self) -> &[TxMerkleNode] {
        &self.branch
    }
    /// The proof as it is stored.
    pub fn to_record(&self) -> ProofRecord {
        ProofRecord {
            tx: self.tx.clone(),
            height: self.block.height,
            block: self.block.hash,
            branch: self.branch.clone(),
            pos: self.pos,
            coinbase: self.coinbase.clone(),
        }
    }
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
