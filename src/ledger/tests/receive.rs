use super::*;
use crate::ledger::{Filter, Kind, NewInvoice, Received, Side, State, Status};

fn invoice(hash: u8, expires_at: u64) -> NewInvoice {
    NewInvoice {
        payment_hash: [hash; 32],
        amount_msat: Some(5000),
        description: Some("a coffee".into()),
        invoice: format!("lnbcrt{hash}"),
        expires_at,
    }
}

fn claim(hash: u8, claim: u8, amount_msat: u64) -> Received {
    Received {
        payment_hash: [hash; 32],
        claim: Some([claim; 32]),
        amount_msat,
        preimage: Some([9; 32]),
        keysend: false,
    }
}

fn received(ledger: &Ledger, hash: u8) -> Record {
    ledger.receive_of([hash; 32]).unwrap().unwrap()
}

#[test]
fn an_invoice_is_open_until_it_is_paid_or_its_time_is_over() {
    let (_dir, _store, ledger) = fresh();
    ledger.invoice(invoice(1, NOW + 1)).unwrap();
    ledger.invoice(invoice(2, NOW)).unwrap();
    assert_eq!(received(&ledger, 1).status(NOW), Status::Pending);
    assert_eq!(received(&ledger, 2).status(NOW), Status::Expired);
    let open = ledger.open_invoices().unwrap();
    assert_eq!(open.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), ["01".repeat(32)]);
    ledger.received(claim(1, 1, 5000)).unwrap();
    assert_eq!(received(&ledger, 1).status(NOW + 100), Status::Succeeded);
    assert!(ledger.open_invoices().unwrap().is_empty());
}

#[test]
fn a_payment_that_comes_after_the_expiry_counts_all_the_same() {
    let (_dir, _store, ledger) = fresh();
    ledger.invoice(invoice(1, NOW - 1)).unwrap();
    assert_eq!(ledger.received(claim(1, 1, 5000)).unwrap().state, State::Succeeded);
}

#[test]
fn a_replayed_claim_is_booked_once_and_a_second_payment_of_an_invoice_is_added() {
    let (_dir, _store, ledger) = fresh();
    ledger.invoice(invoice(1, NOW + 1)).unwrap();
    for _ in 0..3 {
        let record = ledger.received(claim(1, 1, 6000)).unwrap();
        assert_eq!((record.amount_msat, record.preimage), (Some(6000), Some("09".repeat(32))));
    }
    assert_eq!(ledger.received(claim(1, 2, 5000)).unwrap().amount_msat, Some(11_000));
    assert_eq!(received(&ledger, 1).description.as_deref(), Some("a coffee"));
    assert_eq!(ledger.list(&Filter::default(), 9, None).unwrap().records.len(), 1);
}

#[test]
fn an_invoice_booked_twice_stays_as_it_is() {
    let (_dir, _store, ledger) = fresh();
    ledger.invoice(invoice(1, NOW + 1)).unwrap();
    ledger.received(claim(1, 1, 5000)).unwrap();
    ledger.invoice(invoice(1, NOW + 1000)).unwrap();
    assert_eq!(received(&ledger, 1).state, State::Succeeded);
    assert_eq!(received(&ledger, 1).expires_at, Some(NOW + 1));
}

#[test]
fn money_without_an_invoice_is_booked_too() {
    let (_dir, _store, ledger) = fresh();
    let keysend = Received { keysend: true, claim: None, ..claim(1, 0, 700) };
    ledger.received(keysend.clone()).unwrap();
    assert_eq!(ledger.received(keysend).unwrap().amount_msat, Some(700));
    assert_eq!(received(&ledger, 1).kind, Kind::Keysend);
    assert_eq!(ledger.received(claim(2, 1, 800)).unwrap().kind, Kind::Receive);
}

#[test]
fn a_payment_back_with_the_hash_of_ours_does_not_touch_ours() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    ledger.received(Received { keysend: true, ..claim(1, 1, 1) }).unwrap();
    assert_eq!(sent(&ledger, 1).state, State::Pending);
    ledger.failed([1; 32], "no route").unwrap();
    assert_eq!(received(&ledger, 1).state, State::Succeeded);
    let id = "01".repeat(32);
    assert_eq!(ledger.line(&id, Side::Send).unwrap().unwrap().state, State::Failed);
}
