use std::sync::{Arc, Barrier};

use super::*;
use crate::ledger::{Side, State};

#[test]
fn a_begun_payment_is_in_the_book_before_ldk_hears_of_it_also_after_a_restart() {
    let (dir, store, ledger) = fresh();
    begin(&ledger, 1);
    drop(ledger);
    store.close().unwrap();
    let (_store, ledger) = open(dir.path());
    let record = sent(&ledger, 1);
    assert_eq!((record.state, record.amount_msat, record.created_at), (State::Pending, Some(1000), NOW));
    assert_eq!(ledger.open_sends().unwrap(), [record]);
}

#[test]
fn an_open_payment_is_not_begun_again_and_a_succeeded_one_is_told_of() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    assert!(matches!(ledger.begin_send(new_send(1)).unwrap(), Begun::InFlight(_)));
    ledger.unknown([1; 32], "we waited 60 s", Some(900)).unwrap();
    let Begun::InFlight(record) = ledger.begin_send(new_send(1)).unwrap() else { panic!("begun twice") };
    assert_eq!((record.state, record.open_until_height), (State::Unknown, Some(900)));
    ledger.sent([1; 32], [2; 32], Some(3)).unwrap();
    let Begun::Paid(record) = ledger.begin_send(new_send(1)).unwrap() else { panic!("paid twice") };
    assert_eq!((record.fee_msat, record.preimage), (Some(3), Some("02".repeat(32))));
    assert_eq!((record.open_until_height, record.reason), (None, None));
}

#[test]
fn a_payment_that_failed_for_certain_may_be_begun_again() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    begin(&ledger, 2);
    ledger.attempt([1; 32]);
    ledger.failed([1; 32], "no route").unwrap();
    assert_eq!(sent(&ledger, 1).attempts, 1);
    begin(&ledger, 1);
    let record = sent(&ledger, 1);
    assert_eq!((record.state, record.attempts, record.reason), (State::Pending, 0, None));
    let newest = ledger.list(&Default::default(), 1, None).unwrap();
    assert_eq!(newest.records[0].id, "01".repeat(32));
}

#[test]
fn of_many_beginnings_at_once_one_is_fresh() {
    let (_dir, _store, ledger) = fresh();
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (ledger, start) = (ledger.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                matches!(ledger.begin_send(new_send(1)).unwrap(), Begun::Fresh(_))
            })
        })
        .collect();
    let fresh = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|fresh| *fresh);
    assert_eq!(fresh.count(), 1);
}

#[test]
fn what_ldk_refuses_to_begin_has_failed_for_certain() {
    let (_dir, _store, ledger) = fresh();
    let Begun::Fresh(token) = ledger.begin_send(new_send(1)).unwrap() else { panic!("not fresh") };
    let record = ledger.refused(token, "the invoice has expired").unwrap().unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (State::Failed, Some("the invoice has expired")));
    assert!(ledger.open_sends().unwrap().is_empty());
}

#[test]
fn attempts_are_counted_without_writing_and_kept_with_the_outcome() {
    let (_dir, store, ledger) = fresh();
    begin(&ledger, 1);
    let path = store.path().with_extension("db-wal");
    let before = std::fs::metadata(&path).unwrap().len();
    for _ in 0..5 {
        ledger.attempt([1; 32]);
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), before);
    assert_eq!(sent(&ledger, 1).attempts, 5);
    ledger.sent([1; 32], [2; 32], Some(0)).unwrap();
    assert_eq!(sent(&ledger, 1).attempts, 5);
}

#[test]
fn a_preimage_overrides_a_failure_and_a_payment_unknown_to_the_book_is_booked() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    ledger.failed([1; 32], "no route").unwrap();
    ledger.sent([1; 32], [2; 32], Some(1)).unwrap();
    assert_eq!(sent(&ledger, 1).state, State::Succeeded);
    assert_eq!(ledger.failed([3; 32], "never begun").unwrap(), None);
    assert_eq!(ledger.sent([3; 32], [4; 32], None).unwrap().state, State::Succeeded);
    assert_eq!(sent(&ledger, 3).amount_msat, None);
}

#[test]
fn replayed_events_write_and_announce_nothing() {
    let (_dir, store, ledger) = fresh();
    begin(&ledger, 1);
    ledger.sent([1; 32], [2; 32], Some(3)).unwrap();
    let before = sent(&ledger, 1);
    let log = std::fs::metadata(store.path().with_extension("db-wal")).unwrap().len();
    let mut changes = ledger.changes();
    ledger.sent([1; 32], [2; 32], Some(3)).unwrap();
    ledger.failed([1; 32], "late").unwrap();
    ledger.unknown([1; 32], "late", None).unwrap();
    assert_eq!(sent(&ledger, 1), before);
    assert!(changes.try_recv().is_err());
    assert_eq!(std::fs::metadata(store.path().with_extension("db-wal")).unwrap().len(), log);
}

#[tokio::test]
async fn a_waiter_wakes_when_the_payment_is_settled_and_not_before() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    let id = "01".repeat(32);
    let waiting = ledger.wait_settled(&id, Side::Send);
    tokio::pin!(waiting);
    assert!(is_pending(waiting.as_mut()).await);
    begin(&ledger, 2);
    ledger.unknown([1; 32], "we waited", None).unwrap();
    assert!(is_pending(waiting.as_mut()).await);
    ledger.sent([1; 32], [2; 32], None).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().state, State::Succeeded);
    // Settled before it was asked for; and nothing to wait for.
    assert!(ledger.wait_settled(&id, Side::Send).await.unwrap().is_some());
    assert!(ledger.wait_settled(&id, Side::Receive).await.unwrap().is_none());
}

#[tokio::test]
async fn a_waiter_that_missed_announcements_looks_again() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    let id = "01".repeat(32);
    let waiting = ledger.wait_settled(&id, Side::Send);
    tokio::pin!(waiting);
    assert!(is_pending(waiting.as_mut()).await);
    ledger.sent([1; 32], [2; 32], None).unwrap();
    for _ in 0..1000 {
        ledger.announce("another".into(), Side::Chain);
    }
    assert_eq!(waiting.await.unwrap().unwrap().state, State::Succeeded);
}

async fn is_pending<F: Future + Unpin>(future: F) -> bool {
    let mut future = future;
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut future).poll(context).is_pending()))
        .await
}
