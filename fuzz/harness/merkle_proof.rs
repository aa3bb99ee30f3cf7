//! A proof made of any bytes, and a good one with any bytes bent.

use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::deserialize_partial;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Transaction, TxMerkleNode};
use lightnode::chain::io::Coinbase;
use lightnode::chain::merkle::{self, ProofError};

/// Byte 0: levels; bytes 1–4: position; 32 bytes a level; the rest: a transaction. Panics when a proof is believed
/// that a second, independent walk does not confirm, or the other way round.
pub(crate) fn run(data: &[u8]) {
    let Some((&[levels, p0, p1, p2, p3], rest)) = data.split_first_chunk::<5>() else { return };
    let pos = u32::from_le_bytes([p0, p1, p2, p3]);
    let size = usize::from(levels % 20) * 32;
    let Some((nodes, rest)) = rest.split_at_checked(size) else { return };
    let Ok((tx, _)) = deserialize_partial::<Transaction>(rest) else { return };
    let branch: Vec<TxMerkleNode> = nodes.chunks_exact(32).filter_map(|n| TxMerkleNode::from_slice(n).ok()).collect();
    let tx = Arc::new(tx);

    let root = walk(tx.compute_txid().to_byte_array(), &branch, pos);
    let proof = merkle::prove(tx.clone(), branch.clone(), pos, header(root), 1);
    let other = merkle::prove(tx.clone(), branch.clone(), pos, header(TxMerkleNode::all_zeros()), 1);
    assert!(other.is_err());
    match proof {
        Ok(proven) => {
            assert!(branch.len() <= merkle::MAX_DEPTH && u64::from(pos) < 1 << branch.len());
            assert_ne!(tx.base_size(), 64);
            assert_eq!((proven.txid(), proven.pos(), proven.branch()), (tx.compute_txid(), pos, &branch[..]));
            assert_eq!(other, Err(ProofError::WrongRoot));
        }
        Err(why) => assert_ne!(why, ProofError::WrongRoot, "this root is the one that the branch leads to"),
    }

    // Beside itself, what is first in its block decides for itself, if it is a coinbase.
    let coinbase = Coinbase { tx: tx.clone(), branch: branch.clone() };
    let beside =
        merkle::prove_beside(coinbase, tx.clone(), branch.clone(), 0, header(walk_from_first(&tx, &branch)), 1);
    let decides = tx.is_coinbase() && branch.len() <= merkle::MAX_DEPTH;
    assert_eq!(beside.is_ok(), decides, "{beside:?}");
}

fn walk_from_first(tx: &Transaction, branch: &[TxMerkleNode]) -> TxMerkleNode {
    walk(tx.compute_txid().to_byte_array(), branch, 0)
}

fn walk(leaf: [u8; 32], branch: &[TxMerkleNode], pos: u32) -> TxMerkleNode {
    let mut at = u64::from(pos);
    let mut node = TxMerkleNode::from_byte_array(leaf);
    for sibling in branch {
        let pair = if at % 2 == 0 { [node, *sibling] } else { [*sibling, node] };
        node = TxMerkleNode::hash(&pair.map(|n| n.to_byte_array()).concat());
        at /= 2;
    }
    node
}

fn header(merkle_root: TxMerkleNode) -> Header {
    Header {
        version: Version::ONE,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root,
        time: 0,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    }
}
