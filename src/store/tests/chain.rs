use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Transaction, TxMerkleNode};

use crate::chain::io::{Coinbase, ProofRecord, ScriptHash, ScriptRecord, Status};
use crate::store::StoreError;
use crate::store::testing::{after_power_cut, fresh, open};

/// A chain of headers on `parent`; the store does not look at work.
fn chain(parent: BlockHash, length: u32, nonce: u32) -> Vec<Header> {
    let mut parent = parent;
    (0..length)
        .map(|time| {
            let header = Header {
                version: Version::ONE,
                prev_blockhash: parent,
                merkle_root: TxMerkleNode::all_zeros(),
                time,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce,
            };
            parent = header.block_hash();
            header
        })
        .collect()
}

#[test]
fn headers_come_back_as_they_were_stored() {
    let (dir, store) = fresh();
    assert_eq!(store.load_headers().unwrap(), (0, Vec::new()));
    let headers = chain(BlockHash::all_zeros(), 40_000, 1);
    store.store_headers(800_000, &headers).unwrap();
    let (_copy, after) = after_power_cut(dir.path());
    assert_eq!(after.unwrap().load_headers().unwrap(), (800_000, headers));
}

#[test]
fn a_reorganisation_replaces_everything_from_the_fork_on() {
    // 10 ─ 11 ─ 12 ─ 13
    //       └── 12'
    let (_dir, store) = fresh();
    let old = chain(BlockHash::all_zeros(), 4, 1);
    store.store_headers(10, &old).unwrap();
    let new = chain(old[1].block_hash(), 1, 2);
    store.store_headers(12, &new).unwrap();
    assert_eq!(store.load_headers().unwrap(), (10, vec![old[0], old[1], new[0]]));
    store.store_headers(13, &chain(new[0].block_hash(), 1, 2)).unwrap();
    assert_eq!(store.load_headers().unwrap().1.len(), 4);
}

#[test]
fn headers_that_would_leave_a_gap_are_refused() {
    let (_dir, store) = fresh();
    let headers = chain(BlockHash::all_zeros(), 3, 1);
    store.store_headers(10, &headers).unwrap();
    let error = store.store_headers(14, &headers).unwrap_err();
    assert!(matches!(error, StoreError::Broken { .. }), "{error}");
    assert_eq!(store.load_headers().unwrap(), (10, headers));
}

#[test]
fn the_chain_can_grow_downwards_when_the_parts_fit() {
    let (_dir, store) = fresh();
    let all = chain(BlockHash::all_zeros(), 10, 1);
    store.store_headers(105, &all[5..]).unwrap();
    let strangers = chain(BlockHash::all_zeros(), 5, 2);
    for (from, headers) in [(100, &strangers[..]), (101, &all[..5]), (99, &all[..5]), (100, &all[..4])] {
        assert!(store.prepend_headers(from, headers).is_err());
        assert_eq!(store.load_headers().unwrap(), (105, all[5..].to_vec()));
    }
    store.prepend_headers(100, &all[..5]).unwrap();
    store.prepend_headers(100, &[]).unwrap();
    assert_eq!(store.load_headers().unwrap(), (100, all));
}

#[test]
fn a_gap_that_somebody_made_is_noticed() {
    let (_dir, store) = fresh();
    store.store_headers(10, &chain(BlockHash::all_zeros(), 3, 1)).unwrap();
    store.write("damage", |tx| tx.execute("DELETE FROM header WHERE height = 11", [])).unwrap();
    assert!(store.load_headers().unwrap_err().to_string().contains("height 11 is missing"));
}

fn proof(number: u8, height: u32, pos: u32) -> ProofRecord {
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(u32::from(number)),
        input: vec![bitcoin::TxIn::default()],
        output: vec![bitcoin::TxOut { value: bitcoin::Amount::from_sat(1), script_pubkey: Default::default() }],
    };
    ProofRecord {
        tx: Arc::new(tx),
        height,
        block: BlockHash::from_byte_array([height as u8; 32]),
        branch: (0..number).map(|node| TxMerkleNode::from_byte_array([node; 32])).collect(),
        pos,
        coinbase: None,
    }
}

/// The same, with what shows how deep its tree is.
fn deep(number: u8, height: u32, pos: u32) -> ProofRecord {
    let first = proof(number + 100, height, 0);
    let coinbase = Coinbase { tx: first.tx, branch: first.branch[..usize::from(number)].to_vec() };
    ProofRecord { coinbase: Some(coinbase), ..proof(number, height, pos) }
}

fn record(script: u8, status: Option<u8>, confirmed: Vec<ProofRecord>) -> ScriptRecord {
    ScriptRecord {
        script: ScriptHash([script; 32]),
        status: status.map(|status| Status([status; 32])),
        confirmed,
        unconfirmed: status == Some(9),
    }
}

#[test]
fn histories_come_back_in_chain_order_and_replace_what_was_there() {
    let (dir, store) = fresh();
    let unused = record(1, None, Vec::new());
    let used = record(2, Some(9), vec![proof(1, 10, 5), proof(2, 12, 0), deep(3, 12, 7)]);
    // The same transaction concerns two scripts.
    let shared = record(3, Some(1), vec![proof(1, 10, 5)]);
    for record in [&unused, &used, &shared] {
        store.store_history(record).unwrap();
    }
    // A reorganisation moved 2, dropped 3 and brought 4.
    let moved = record(2, Some(5), vec![proof(1, 10, 5), deep(4, 11, 1), deep(2, 13, 2)]);
    store.store_history(&moved).unwrap();
    store.close().unwrap();
    assert_eq!(open(dir.path()).load_histories().unwrap(), [unused, moved, shared]);
}

#[test]
fn an_emptied_history_is_kept_as_empty() {
    let (_dir, store) = fresh();
    store.store_history(&record(1, Some(1), vec![proof(1, 10, 5)])).unwrap();
    store.store_history(&record(1, None, Vec::new())).unwrap();
    assert_eq!(store.load_histories().unwrap(), [record(1, None, Vec::new())]);
}

#[test]
fn a_history_that_is_forgotten_takes_nothing_of_another_with_it() {
    let (_dir, store) = fresh();
    let shared = record(3, Some(1), vec![proof(1, 10, 5)]);
    store.store_histories(vec![record(2, Some(9), vec![proof(1, 10, 5), proof(2, 12, 0)]), shared.clone()]).unwrap();
    store.forget_histories(vec![ScriptHash([2; 32]), ScriptHash([7; 32])]).unwrap();
    assert_eq!(store.load_histories().unwrap(), [shared]);
}
