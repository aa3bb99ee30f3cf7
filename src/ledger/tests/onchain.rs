use bitcoin::Txid;
use bitcoin::hashes::Hash;

use super::*;
use crate::ledger::{ChainNews, ClosedChannel, Direction, Forward, Kind, NewOnchain, Side, State};

fn txid(number: u8) -> Txid {
    Txid::from_byte_array([number; 32])
}

fn deposit(number: u8) -> NewOnchain {
    NewOnchain {
        txid: txid(number),
        kind: Kind::Deposit,
        direction: Direction::In,
        amount_sat: 50,
        fee_sat: None,
        payee: Some("bcrt1q…".into()),
        description: None,
    }
}

fn seen(ledger: &Ledger, new: NewOnchain) {
    told(ledger, ChainNews::Seen(new));
}

fn told(ledger: &Ledger, news: ChainNews) {
    ledger.with_chain_news("book news", vec![news], |_| Ok(())).unwrap();
}

fn line(ledger: &Ledger, number: u8) -> Record {
    ledger.line(&txid(number).to_string(), Side::Chain).unwrap().unwrap()
}

#[test]
fn a_deposit_is_pending_until_it_is_confirmed_and_again_after_a_reorganisation() {
    let (_dir, _store, ledger) = fresh();
    seen(&ledger, deposit(1));
    assert_eq!((line(&ledger, 1).state, line(&ledger, 1).amount_msat), (State::Pending, Some(50_000)));
    for _ in 0..2 {
        told(&ledger, ChainNews::Confirmed(txid(1), 100));
        assert_eq!((line(&ledger, 1).state, line(&ledger, 1).height), (State::Succeeded, Some(100)));
    }
    for _ in 0..2 {
        told(&ledger, ChainNews::Unconfirmed(txid(1)));
        assert_eq!((line(&ledger, 1).state, line(&ledger, 1).height), (State::Pending, None));
    }
    told(&ledger, ChainNews::Confirmed(txid(1), 101));
    assert_eq!(line(&ledger, 1).height, Some(101));
}

#[test]
fn a_vanished_transaction_has_failed_until_it_is_seen_again() {
    let (_dir, _store, ledger) = fresh();
    seen(&ledger, deposit(1));
    told(&ledger, ChainNews::Gone(txid(1), "replaced"));
    told(&ledger, ChainNews::Unconfirmed(txid(1)));
    assert_eq!((line(&ledger, 1).state, line(&ledger, 1).reason.as_deref()), (State::Failed, Some("replaced")));
    seen(&ledger, deposit(1));
    assert_eq!((line(&ledger, 1).state, line(&ledger, 1).reason), (State::Pending, None));
    told(&ledger, ChainNews::Gone(txid(1), "evicted"));
    told(&ledger, ChainNews::Confirmed(txid(1), 7));
    assert_eq!((line(&ledger, 1).state, line(&ledger, 1).reason), (State::Succeeded, None));
}

#[test]
fn what_a_transaction_is_for_is_learnt_and_not_forgotten() {
    let (_dir, _store, ledger) = fresh();
    seen(&ledger, deposit(1));
    told(&ledger, ChainNews::Confirmed(txid(1), 7));
    seen(&ledger, NewOnchain { kind: Kind::Sweep, fee_sat: Some(2), ..deposit(1) });
    seen(&ledger, deposit(1));
    let line = line(&ledger, 1);
    assert_eq!((line.kind, line.fee_msat, line.state), (Kind::Sweep, Some(2000), State::Succeeded));
}

#[test]
fn of_a_transaction_that_is_not_in_the_book_nothing_is_booked() {
    let (_dir, _store, ledger) = fresh();
    told(&ledger, ChainNews::Confirmed(txid(1), 7));
    told(&ledger, ChainNews::Unconfirmed(txid(1)));
    told(&ledger, ChainNews::Gone(txid(1), "evicted"));
    assert!(ledger.list(&Default::default(), 9, None).unwrap().records.is_empty());
}

#[test]
fn news_and_what_belongs_to_them_are_booked_together_or_not_at_all() {
    let (_dir, store, ledger) = fresh();
    let mut changes = ledger.changes();
    let refused = ledger.with_chain_news("book news", vec![ChainNews::Seen(deposit(1))], |tx| {
        tx.execute("INSERT INTO meta (key, value) VALUES ('a', x'00')", [])?;
        tx.execute("INSERT INTO meta (key, value) VALUES ('a', x'00')", []).map(|_| ())
    });
    assert!(refused.is_err() && changes.try_recv().is_err());
    assert!(ledger.list(&Default::default(), 9, None).unwrap().records.is_empty());
    assert_eq!(store.meta("a").unwrap(), None);
    let news = vec![ChainNews::Seen(deposit(1)), ChainNews::Confirmed(txid(1), 7), ChainNews::Gone(txid(2), "evicted")];
    ledger.with_chain_news("book news", news, |_| Ok(())).unwrap();
    assert_eq!(line(&ledger, 1).height, Some(7));
    assert_eq!(changes.try_recv().unwrap().id, txid(1).to_string());
}

#[test]
fn forwards_are_summed_and_survive_a_restart() {
    let (dir, store, ledger) = fresh();
    let forward = |fee_msat| Forward { incoming: "a".into(), outgoing: "b".into(), amount_out_msat: 1000, fee_msat };
    ledger.forwarded(forward(3)).unwrap();
    ledger.forwarded(forward(4)).unwrap();
    drop(ledger);
    store.close().unwrap();
    let (_store, ledger) = open(dir.path());
    assert_eq!(ledger.forwarding_earned(0).unwrap(), (2, 7));
    assert_eq!(ledger.forwarding_earned(NOW + 1).unwrap(), (0, 0));
}

#[test]
fn the_end_of_a_channel_is_booked_once_with_its_reason() {
    let (_dir, _store, ledger) = fresh();
    let closed = |id: &str, reason: &str| ClosedChannel {
        channel_id: id.into(),
        peer: None,
        funding: None,
        capacity_sat: Some(1000),
        balance_msat: None,
        reason: reason.into(),
        closed_at: NOW,
    };
    ledger.channel_closed(closed("a", "the peer asked")).unwrap();
    ledger.channel_closed(closed("b", "we asked")).unwrap();
    ledger.channel_closed(closed("a", "replayed")).unwrap();
    assert_eq!(ledger.closed_channels(9).unwrap(), [closed("b", "we asked"), closed("a", "the peer asked")]);
    assert_eq!(ledger.closed_channels(1).unwrap().len(), 1);
}
