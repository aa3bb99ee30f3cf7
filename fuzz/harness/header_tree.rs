//! Headers in any order, on any parent, with any field bent, at any claimed height, under any clock.

use std::collections::HashMap;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Network, TxMerkleNode, constants};
use lightnode::chain::io::BlockRef;
use lightnode::chain::params::Params;
use lightnode::chain::tree::{Accepted, HeaderTree};

/// Headers that one input may make: mining costs time.
const MOST: usize = 256;

/// Feeds a tree; panics when it contradicts itself or a naive count of heights.
pub(crate) fn run(data: &[u8]) {
    let genesis = constants::genesis_block(Network::Regtest).header;
    let mut tree = HeaderTree::new(Params::new(Network::Regtest));
    let mut pool = vec![(genesis, 0)];
    let mut heights = HashMap::from([(genesis.block_hash(), 0)]);
    let mut longest = 0;
    for step in data.chunks_exact(4).take(MOST) {
        let &[pick, bend, value, clock] = step else { continue };
        let (parent, height) = pool[pool.len() - 1 - usize::from(pick) % pool.len()];
        let (header, claimed) = bent(&parent, height, bend, value);
        let before = tree.tip();
        let outcome = tree.accept(header, claimed, u64::from(genesis.time) + u64::from(clock) * 3_600);
        assert!(tree.height() >= before.height, "with equal bits, work is height");
        match outcome {
            Ok(Accepted::Known | Accepted::Stale) | Err(_) => assert_eq!(tree.tip(), before),
            Ok(Accepted::Extended) => assert_eq!(header.prev_blockhash, before.hash),
            Ok(Accepted::Reorganized { fork, old }) => {
                assert!(tree.contains(fork) && !tree.contains(old));
                assert_eq!(old, before);
                assert_eq!(tree.common(old), Some(fork));
            }
        }
        if outcome.is_ok() {
            let linked = heights.get(&header.prev_blockhash).map_or(0, |h| h + 1);
            assert!(header.block_hash() == genesis.block_hash() || linked == claimed, "taken at its own height");
            heights.insert(header.block_hash(), claimed);
            longest = longest.max(claimed);
            pool.push((header, claimed));
        }
    }
    assert_eq!(tree.height(), longest);
    for height in 0..=tree.height() {
        let hash = tree.hash_at(height).expect("the best chain has no holes");
        assert_eq!(tree.header_at(height).map(|h| h.block_hash()), Some(hash));
    }
    let again = HeaderTree::restore(Params::new(Network::Regtest), 0, tree.headers_from(0));
    assert_eq!(again.expect("what it stores, it takes").tip(), tree.tip());
    assert!(!tree.contains(BlockRef { height: u32::MAX, hash: BlockHash::all_zeros() }));
}

/// A header on `parent`, mined, with one thing wrong in most cases; and the height that is claimed for it.
fn bent(parent: &Header, height: u32, bend: u8, value: u8) -> (Header, u32) {
    let mut header = Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::from_byte_array([value; 32]),
        time: parent.time.wrapping_add(600),
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut claimed = height + 1;
    match bend % 8 {
        0 => header.time = parent.time.wrapping_add(u32::from(value)).wrapping_sub(128),
        1 => header.time = u32::from_le_bytes([value; 4]),
        2 => header.prev_blockhash = BlockHash::from_byte_array([value; 32]),
        3 => claimed = u32::from_le_bytes([value; 4]),
        4 => header.bits = CompactTarget::from_consensus(0x207f_ff00 | u32::from(value)),
        _ => {}
    }
    let target = CompactTarget::from_consensus(0x207f_ffff).into();
    let wanted = bend & 0x80 == 0;
    while bitcoin::Target::is_met_by(&target, header.block_hash()) != wanted {
        header.nonce += 1;
    }
    (header, claimed)
}
