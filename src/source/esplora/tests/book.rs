use bitcoin::Block;
use bitcoin::consensus::encode::serialize;

use super::super::super::error::SourceError;
use super::super::tests::{genesis, id, mine, outside, pays};
use super::*;

fn begun() -> Book {
    Book::new(&[(0, genesis().header)])
}

/// Fetched, as a server would list these.
fn listing(script: ScriptHash, txs: &[(&Transaction, Option<u32>)]) -> Fetched {
    let line = |(tx, height): &(&Transaction, Option<u32>)| {
        let outputs = (0..).zip(&tx.output).filter(|(_, out)| ScriptHash::of(&out.script_pubkey) == script);
        Listed {
            txid: tx.compute_txid(),
            height: *height,
            tx: Some((*tx).clone().into()),
            parents: tx.input.iter().map(|input| input.previous_output.txid).collect(),
            coins: outputs.map(|(vout, _)| OutPoint::new(tx.compute_txid(), vout)).collect(),
        }
    };
    Fetched { pages: txs.iter().map(line).collect(), ..Fetched::default() }
}

fn subscribed(book: &mut Book, number: u8, txs: &[(&Transaction, Option<u32>)]) -> Option<Status> {
    book.follow(id(number));
    book.learn(id(number), listing(id(number), txs));
    book.tell(id(number))
}

fn connect(book: &mut Book, block: &Block) -> BTreeSet<ScriptHash> {
    book.connect(&serialize(block), block.block_hash()).unwrap().touched
}

fn heights(book: &mut Book, number: u8) -> Vec<Option<u32>> {
    book.history(&id(number)).expect("a fresh history").iter().map(|entry| entry.height).collect()
}

#[test]
fn a_block_confirms_what_was_unconfirmed_and_its_proof_is_at_hand() {
    let mut book = begun();
    let tx = pays(outside(1), &[1]);
    subscribed(&mut book, 1, &[(&tx, None)]);
    assert_eq!(heights(&mut book, 1), [None]);
    assert_eq!(book.history(&id(1)), None, "the second time the server is asked");
    let block = mine(&genesis().header, 0, std::slice::from_ref(&tx));
    assert_eq!(connect(&mut book, &block), BTreeSet::from([id(1)]));
    let news = book.news();
    assert_eq!(news.len(), 1);
    assert_eq!(book.news(), []);
    assert_eq!(heights(&mut book, 1), [Some(1)]);
    assert!(book.proof(tx.compute_txid(), 1).is_some());
    assert!(book.body(&tx.compute_txid()).is_some());
    assert_eq!(book.pending().count(), 0);
    // The same that a server would say, asked anew.
    book.learn(id(1), listing(id(1), &[(&tx, Some(1))]));
    assert_eq!(book.tell(id(1)), news[0].1);
}

#[test]
fn a_spend_is_found_by_the_coins_of_the_history_of_the_mempool_and_of_the_block_itself() {
    let mut book = begun();
    let [a, b, c] = [1, 2, 3].map(|number| pays(outside(number), &[1]));
    subscribed(&mut book, 1, &[(&b, None), (&a, Some(0))]);
    let spends = |tx: &Transaction| pays(OutPoint::new(tx.compute_txid(), 0), &[9]);
    let txs = [spends(&a), c.clone(), spends(&c)];
    let first = mine(&genesis().header, 0, &txs);
    connect(&mut book, &first);
    assert_eq!(heights(&mut book, 1), [Some(0), Some(1), Some(1), Some(1), None]);
    connect(&mut book, &mine(&first.header, 0, &[b.clone(), spends(&b)]));
    assert_eq!(heights(&mut book, 1), [Some(0), Some(1), Some(1), Some(1), Some(2), Some(2)]);
}

#[test]
fn what_leaves_the_chain_waits_in_the_mempool_and_its_proof_is_void() {
    let mut book = begun();
    let [a, b] = [1, 2].map(|number| pays(outside(number), &[1]));
    subscribed(&mut book, 1, &[]);
    subscribed(&mut book, 2, &[]);
    let first = mine(&genesis().header, 0, std::slice::from_ref(&a));
    let second = mine(&first.header, 0, std::slice::from_ref(&b));
    connect(&mut book, &first);
    connect(&mut book, &second);
    book.news();
    let shared = book.find(first.block_hash()).unwrap();
    assert_eq!(book.part(shared), BTreeSet::from([id(1)]));
    assert_eq!(book.tip(), shared);
    assert_eq!(book.find(second.block_hash()), None);
    assert_eq!(heights(&mut book, 1), [Some(1), None]);
    assert!(book.proof(b.compute_txid(), 2).is_none());
    assert!(book.proof(a.compute_txid(), 1).is_some());
    // On the other branch it is in a block of the same height: the status may be the same, the proof is not.
    let other = mine(&first.header, 1, &[pays(outside(9), &[9]), b.clone()]);
    connect(&mut book, &other);
    assert_eq!(heights(&mut book, 1), [Some(1), Some(2)]);
    assert!(matches!(book.proof(b.compute_txid(), 2), Some(Reply::Proof { pos: 2, .. })));
}

#[test]
fn what_a_block_showed_cannot_be_listed_away() {
    let mut book = begun();
    let tx = pays(outside(1), &[1]);
    subscribed(&mut book, 1, &[]);
    connect(&mut book, &mine(&genesis().header, 0, std::slice::from_ref(&tx)));
    let before = book.tell(id(1));
    book.learn(id(1), listing(id(1), &[]));
    assert_eq!(book.tell(id(1)), before);
    // After a jump nothing is certain any more, and the server's word counts again.
    book.jump(&[(0, genesis().header)]);
    book.learn(id(1), listing(id(1), &[]));
    assert_eq!(book.tell(id(1)), None);
}

#[test]
fn a_refused_block_changes_nothing() {
    let mut book = begun();
    subscribed(&mut book, 1, &[]);
    let block = mine(&genesis().header, 0, &[pays(outside(1), &[1])]);
    let raw = serialize(&block);
    let refused = book.connect(&raw[..raw.len() - 1], block.block_hash());
    assert!(matches!(refused, Err(SourceError::Refused(_))));
    assert_eq!((book.tip().height, book.news()), (0, vec![]));
}

#[test]
fn a_history_that_is_lost_is_told_by_a_status_that_nothing_has() {
    let mut book = begun();
    assert_eq!(subscribed(&mut book, 1, &[]), None);
    book.lose(id(1));
    let news = book.news();
    assert_eq!(news.len(), 1);
    assert!(news[0].1.is_some());
    assert_eq!(book.history(&id(1)), None);
    book.learn(id(1), listing(id(1), &[]));
    assert_eq!(book.news(), [(id(1), None)]);
}

#[test]
fn a_look_at_the_mempool_tells_news_and_what_was_replaced() {
    let mut book = begun();
    let [a, b] = [1, 2].map(|number| pays(outside(number), &[1]));
    let look = |txs: &[&Transaction]| {
        let all: Vec<_> = txs.iter().map(|tx| (*tx, None)).collect();
        listing(id(1), &all).pages
    };
    subscribed(&mut book, 1, &[(&a, None)]);
    assert!(!book.differs(&id(1), &look(&[&a])));
    assert!(book.differs(&id(1), &look(&[&b])));
    assert!(book.differs(&id(1), &look(&[&a, &b])));
    assert!(book.differs(&id(1), &look(&[])));
    assert!(!book.differs(&id(2), &look(&[&b])), "not followed");
    // A server that has not seen the block yet.
    connect(&mut book, &mine(&genesis().header, 0, std::slice::from_ref(&a)));
    assert!(!book.differs(&id(1), &look(&[&a])));
}

#[test]
fn only_the_newest_blocks_are_remembered() {
    let mut book = begun();
    let (mut tip, mut hashes) = (genesis().header, Vec::new());
    for _ in 0..2 * REMEMBERED {
        let block = mine(&tip, 0, &[]);
        connect(&mut book, &block);
        tip = block.header;
        hashes.push(block.block_hash());
    }
    assert_eq!(book.find(hashes[0]), None);
    assert_eq!(book.find(hashes[REMEMBERED]).map(|block| block.height), Some(REMEMBERED as u32 + 1));
    assert_eq!(book.tip().height, 2 * REMEMBERED as u32);
}

#[test]
fn what_was_sent_concerns_those_whom_it_pays_and_those_whose_coins_it_spends() {
    let mut book = begun();
    let tx = pays(outside(1), &[1]);
    subscribed(&mut book, 1, &[(&tx, None)]);
    subscribed(&mut book, 2, &[]);
    let sent = pays(OutPoint::new(tx.compute_txid(), 0), &[2, 9]);
    assert_eq!(book.concerned(&sent), BTreeSet::from([id(1), id(2)]));
}
