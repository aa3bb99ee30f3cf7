//! A body of an Esplora server, read as everything that a body can be.

use bitcoin::BlockHash;
use bitcoin::hashes::{Hash, HashEngine};
use lightnode::chain::io::{Reply, ScriptHash};
use lightnode::chain::merkle::{self, ProofError};
use lightnode::source::esplora::{block, replies};

/// Must return, whatever the body is; panics when what was let in breaks a promise of the door.
pub(crate) fn run(body: &[u8]) {
    let script = ScriptHash([7; 32]);
    let _ = replies::block_hash(body);
    let _ = replies::txid(body);
    let _ = replies::transaction(body);
    let _ = replies::package_errors(body);
    let _ = replies::histogram(body);
    if let Ok(headers) = replies::blocks(body) {
        for pair in headers.windows(2) {
            assert_eq!(pair[0].0 + 1, pair[1].0);
            assert_eq!(pair[0].1.block_hash(), pair[1].1.prev_blockhash);
        }
    }
    if let Ok(page) = replies::history(body, script) {
        let heights: Vec<u32> = page.iter().filter_map(|line| line.height).collect();
        assert!(heights.is_sorted_by(|above, below| above >= below));
        for line in &page {
            assert!(line.tx.as_ref().is_none_or(|tx| tx.compute_txid() == line.txid));
            assert!(line.coins.iter().all(|coin| coin.txid == line.txid));
        }
    }
    if let Ok(Reply::Proof { branch, .. }) = replies::proof(body, 123_456) {
        assert!(branch.len() <= 32);
    }
    for (target, rate) in replies::estimates(body, &[2, 6, 144, 1008]).unwrap_or_default() {
        assert!(rate > 0 && [2, 6, 144, 1008].contains(&target));
    }
    search(body);
}

/// The body as a block, asked for by the hash that it has: what is found in it can be proven.
fn search(body: &[u8]) {
    let Some(header) = body.get(..80) else { return };
    let mut engine = BlockHash::engine();
    engine.input(header);
    let hash = BlockHash::from_engine(engine);
    assert!(block::search(body, BlockHash::all_zeros(), |_| true, |_| None).is_err());
    if let Ok(seen) = block::search(body, hash, |_| true, |_| None) {
        for found in seen.found {
            if let Err(why) = merkle::prove(found.tx, found.branch, found.pos, seen.header, 1) {
                // What the machine refuses whatever a block says: doubtful forms, and trees that are too deep.
                assert_ne!(why, ProofError::WrongRoot);
            }
        }
    }
}
