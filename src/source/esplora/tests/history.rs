use bitcoin::OutPoint;
use bitcoin::hashes::sha256d;

use super::*;

fn txid(number: u8) -> Txid {
    Txid::from_raw_hash(sha256d::Hash::from_byte_array([number; 32]))
}

fn listed(number: u8, height: Option<u32>, parents: &[u8]) -> Listed {
    let parents = parents.iter().map(|parent| txid(*parent)).collect();
    Listed { txid: txid(number), height, tx: None, parents, coins: Vec::<OutPoint>::new() }
}

fn hashed(text: &str) -> Option<Status> {
    Some(Status(sha256::Hash::hash(text.as_bytes()).to_byte_array()))
}

#[test]
fn the_status_is_electrums_over_the_chain_in_order_and_then_the_mempool() {
    let history = History::read(
        &[listed(5, None, &[4]), listed(4, None, &[1]), listed(3, Some(9), &[]), listed(1, Some(7), &[])],
        &BTreeMap::new(),
    );
    let text = format!("{}:7:{}:9:{}:0:{}:-1:", txid(1), txid(3), txid(4), txid(5));
    assert_eq!(history.status(), hashed(&text));
    let heights: Vec<_> = history.entries().iter().map(|entry| entry.height).collect();
    assert_eq!(heights, [Some(7), Some(9), None, None]);
    assert_eq!(History::default().status(), None);
}

#[test]
fn several_of_one_block_stand_in_the_order_of_the_block() {
    let pages = [listed(1, Some(7), &[]), listed(2, Some(7), &[]), listed(3, Some(6), &[])];
    let history = History::read(&pages, &BTreeMap::new());
    assert_eq!(history.ties(), [(txid(1), 7), (txid(2), 7)], "only there places matter");
    let places = BTreeMap::from([((txid(1), 7), 4), ((txid(2), 7), 2)]);
    let history = History::read(&pages, &places);
    assert_eq!(history.ties(), []);
    assert_eq!(history.status(), hashed(&format!("{}:6:{}:7:{}:7:", txid(3), txid(2), txid(1))));
}

#[test]
fn a_transaction_that_is_confirmed_meanwhile_is_not_unconfirmed_too() {
    let history = History::read(&[listed(1, None, &[]), listed(1, Some(7), &[])], &BTreeMap::new());
    assert_eq!((history.confirmed.len(), history.pending.len()), (1, 0));
}

#[test]
fn what_a_block_showed_is_kept_whatever_is_listed_later() {
    let mut before = History::default();
    before.confirmed.insert(txid(1), Line { height: 7, pos: Some(3), found: true });
    before.confirmed.insert(txid(2), Line { height: 7, pos: Some(4), found: false });
    let mut after = History::read(&[listed(1, None, &[])], &BTreeMap::new());
    after.keep_found(&before);
    assert_eq!(after.confirmed.keys().collect::<Vec<_>>(), [&txid(1)]);
    assert!(after.pending.is_empty());
}
