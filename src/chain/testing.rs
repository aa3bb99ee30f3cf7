//! Chains small enough to mine in a test.

use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{CompactTarget, Network, Transaction, TxMerkleNode, constants};

/// Mines a regtest header (two tries on average) on `parent`, ten minutes later. `salt` tells siblings apart.
pub(super) fn mine(parent: &Header, root: TxMerkleNode) -> Header {
    let mut header = Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: parent.block_hash(),
        merkle_root: root,
        time: parent.time + 600,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    grind(&mut header);
    header
}

/// Finds a nonce with which the header meets its own target.
pub(super) fn grind(header: &mut Header) {
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
}

/// A merkle root that stands for nothing but `salt`.
pub(super) fn salted(salt: u64) -> TxMerkleNode {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&salt.to_le_bytes());
    TxMerkleNode::from_byte_array(bytes)
}

/// The regtest genesis header.
pub(super) fn genesis() -> Header {
    constants::genesis_block(Network::Regtest).header
}

/// `count` headers on `parent`.
pub(super) fn chain(parent: &Header, count: usize, salt: u64) -> Vec<Header> {
    let mut headers = Vec::with_capacity(count);
    let mut parent = *parent;
    for i in 0..count as u64 {
        parent = mine(&parent, salted(salt * 1_000_000 + i));
        headers.push(parent);
    }
    headers
}

/// The merkle root of a block of these.
pub(super) fn root_of(txs: &[Arc<Transaction>]) -> TxMerkleNode {
    let leaves = txs.iter().map(|tx| TxMerkleNode::from(tx.compute_txid()));
    bitcoin::merkle_tree::calculate_root(leaves).expect("a block has a transaction")
}

/// The branch of the transaction at `pos`, from the leaf upwards.
pub(super) fn branch_of(txs: &[Arc<Transaction>], mut pos: usize) -> Vec<TxMerkleNode> {
    let mut row: Vec<TxMerkleNode> = txs.iter().map(|tx| tx.compute_txid().into()).collect();
    let mut branch = Vec::new();
    while row.len() > 1 {
        if row.len() % 2 == 1 {
            row.push(row[row.len() - 1]);
        }
        branch.push(row[pos ^ 1]);
        row = row.chunks(2).map(|pair| parent_of(pair[0], pair[1])).collect();
        pos /= 2;
    }
    branch
}

/// The node above two.
pub(super) fn parent_of(left: TxMerkleNode, right: TxMerkleNode) -> TxMerkleNode {
    let pair = [left.to_byte_array(), right.to_byte_array()].concat();
    TxMerkleNode::hash(&pair)
}
