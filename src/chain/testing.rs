//! Chains small enough to mine in a test.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{CompactTarget, Network, TxMerkleNode, constants};

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
