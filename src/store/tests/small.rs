use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Amount, BlockHash, OutPoint, Transaction, TxIn, TxOut, Txid};

use crate::chain::io::{ProofRecord, ScriptHash, ScriptRecord};
use crate::store::testing::{fresh, open};
use crate::store::{Ban, KnownPeer, Store, Verdict};

#[test]
fn values_are_kept_by_name() {
    let (dir, store) = fresh();
    assert_eq!(store.meta("fees").unwrap(), None);
    store.set_meta("fees", b"{}").unwrap();
    store.set_meta("fees", b"{\"1\":2}").unwrap();
    store.close().unwrap();
    assert_eq!(open(dir.path()).meta("fees").unwrap().unwrap(), b"{\"1\":2}");
}

#[test]
fn keys_are_pinned_by_server_and_can_be_replaced() {
    let (_dir, store) = fresh();
    assert_eq!(store.pin("a.example:50002").unwrap(), None);
    store.set_pin("a.example:50002", [1; 32]).unwrap();
    store.set_pin("a.example:50003", [2; 32]).unwrap();
    assert_eq!(store.pin("a.example:50002").unwrap(), Some([1; 32]));
    store.set_pin("a.example:50002", [3; 32]).unwrap();
    assert_eq!(store.pin("a.example:50002").unwrap(), Some([3; 32]));
    assert_eq!(store.pin("a.example:50003").unwrap(), Some([2; 32]));
}

#[test]
fn bans_end_by_themselves_or_by_hand() {
    let (_dir, store) = fresh();
    let ban = |host: &str, until| Ban { host: host.into(), until, reason: "a false proof".into() };
    store.ban(ban("a", 100)).unwrap();
    store.ban(ban("b", 200)).unwrap();
    store.ban(ban("b", 300)).unwrap();
    assert_eq!(store.bans(99).unwrap(), [ban("a", 100), ban("b", 300)]);
    assert_eq!(store.bans(100).unwrap(), [ban("b", 300)]);
    assert!(store.unban("b").unwrap());
    assert!(store.bans(100).unwrap().is_empty());
}

#[test]
fn peers_keep_their_newest_address_and_last_connection() {
    let (_dir, store) = fresh();
    let key = |byte| PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[byte; 32]).unwrap());
    store.add_peer(key(1), "a:9735", 10).unwrap();
    store.add_peer(key(2), "[::1]:9735", 20).unwrap();
    store.peer_connected(key(1), 1000).unwrap();
    store.peer_connected(key(1), 1001).unwrap();
    store.add_peer(key(1), "b:9735", 2000).unwrap();
    let expected = [
        KnownPeer { node_id: key(1), address: "b:9735".into(), added_at: 10, last_connected: Some(1000) },
        KnownPeer { node_id: key(2), address: "[::1]:9735".into(), added_at: 20, last_connected: None },
    ];
    assert_eq!(store.peers().unwrap(), expected);
    store.peer_connected(key(1), 4600).unwrap();
    assert_eq!(store.peers().unwrap()[0].last_connected, Some(4600));
    assert!(store.remove_peer(key(1)).unwrap());
    assert_eq!(store.peers().unwrap(), expected[1..]);
}

fn tx(number: u32) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(number),
        input: vec![TxIn::default()],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: Default::default() }],
    }
}

#[test]
fn the_outbox_keeps_packages_in_order_until_they_are_removed() {
    let (dir, store) = fresh();
    let single = store.outbox_add(&[tx(9)], "withdrawal", 10).unwrap();
    let package = store.outbox_add(&[tx(1), tx(2)], "close", 11).unwrap();
    assert_eq!(package, tx(2).compute_txid());
    assert!(store.outbox_add(&[], "nothing", 12).is_err());
    store.close().unwrap();
    let store = open(dir.path());
    let outbox = store.outbox().unwrap();
    assert_eq!(outbox.iter().map(|entry| entry.txid).collect::<Vec<_>>(), [single, package]);
    assert_eq!(outbox[1].package, [tx(1), tx(2)]);
    assert_eq!((outbox[1].attempts, &outbox[1].last), (0, &None));
    assert!(store.outbox_remove(single).unwrap());
    assert!(!store.outbox_remove(single).unwrap());
    assert_eq!(store.outbox().unwrap().len(), 1);
}

#[test]
fn adding_a_package_again_keeps_its_place_and_what_was_said_of_it() {
    let (_dir, store) = fresh();
    let first = store.outbox_add(&[tx(1)], "close", 10).unwrap();
    store.outbox_add(&[tx(2)], "sweep", 11).unwrap();
    let verdict = Verdict { at: 12, accepted: false, note: "min relay fee not met".into() };
    store.outbox_result(first, verdict.clone()).unwrap();
    store.outbox_add(&[tx(1)], "close", 13).unwrap();
    // With a parent that was missing.
    store.outbox_add(&[tx(5), tx(1)], "close", 14).unwrap();
    let entry = store.outbox().unwrap().remove(0);
    assert_eq!((entry.txid, entry.added_at, entry.attempts, entry.last), (first, 10, 1, Some(verdict)));
    assert_eq!(entry.package.len(), 2);
    store.outbox_result(tx(7).compute_txid(), Verdict { at: 1, accepted: true, note: String::new() }).unwrap();
}

/// Spends the first output of `parent`; `number` makes it another one.
fn spend(parent: Txid, number: u32) -> Transaction {
    let mut tx = tx(number);
    tx.input[0].previous_output = OutPoint::new(parent, 0);
    tx
}

fn confirm(store: &Store, height: u32, txs: &[&Transaction]) {
    let proof = |(pos, tx): (u32, &&Transaction)| ProofRecord {
        coinbase: None,
        tx: Arc::new((*tx).clone()),
        height,
        block: BlockHash::from_byte_array([height as u8; 32]),
        branch: Vec::new(),
        pos,
    };
    let confirmed = (0..).zip(txs).map(proof).collect();
    let script = ScriptHash([height as u8; 32]);
    store.store_history(&ScriptRecord { script, status: None, confirmed, unconfirmed: false }).unwrap();
}

#[test]
fn a_package_leaves_the_outbox_when_all_of_it_is_six_blocks_deep() {
    //  coin ─ parent ─ child          100: parent      101: child
    let (_dir, store) = fresh();
    let parent = spend(tx(0).compute_txid(), 1);
    let child = spend(parent.compute_txid(), 2);
    let package = store.outbox_add(&[parent.clone(), child.clone()], "close", 10).unwrap();
    assert!(store.outbox_prune(200).unwrap().is_empty());
    confirm(&store, 100, &[&parent]);
    assert!(store.outbox_prune(200).unwrap().is_empty());
    confirm(&store, 101, &[&child]);
    assert!(store.outbox_prune(105).unwrap().is_empty());
    assert_eq!(store.outbox_prune(106).unwrap(), [package]);
    assert!(store.outbox().unwrap().is_empty());
    assert!(store.outbox_prune(107).unwrap().is_empty());
}

#[test]
fn a_package_leaves_the_outbox_when_another_transaction_took_one_of_its_coins() {
    //  coin ─┬─ ours ─ child
    //        └─ theirs                100: theirs
    let (_dir, store) = fresh();
    let coin = tx(0).compute_txid();
    let (ours, theirs, other) = (spend(coin, 1), spend(coin, 2), spend(tx(9).compute_txid(), 3));
    let child = spend(ours.compute_txid(), 4);
    let package = store.outbox_add(&[ours, child], "close", 10).unwrap();
    let unrelated = store.outbox_add(&[other], "withdrawal", 11).unwrap();
    confirm(&store, 100, &[&theirs]);
    assert!(store.outbox_prune(104).unwrap().is_empty());
    assert_eq!(store.outbox_prune(105).unwrap(), [package]);
    assert_eq!(store.outbox().unwrap()[0].txid, unrelated);
}
