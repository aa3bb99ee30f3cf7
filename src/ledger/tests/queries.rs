use super::*;
use crate::ledger::{Changed, Direction, Filter, Found, Kind, Received, Side};

fn ids(ledger: &Ledger, filter: &Filter) -> Vec<String> {
    let page = ledger.list(filter, 100, None).unwrap();
    page.records.into_iter().map(|record| record.id[..2].to_owned()).collect()
}

fn keysend(hash: u8) -> Received {
    Received { payment_hash: [hash; 32], claim: None, amount_msat: 1, preimage: None, keysend: true }
}

#[test]
fn the_list_is_newest_first_with_pending_ones_among_it() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    ledger.received(keysend(2)).unwrap();
    begin(&ledger, 3);
    ledger.sent([1; 32], [9; 32], None).unwrap();
    assert_eq!(ids(&ledger, &Filter::default()), ["03", "02", "01"]);
    assert_eq!(ids(&ledger, &Filter { open: Some(true), ..Filter::default() }), ["03"]);
    assert_eq!(ids(&ledger, &Filter { direction: Some(Direction::In), ..Filter::default() }), ["02"]);
    assert_eq!(ids(&ledger, &Filter { kind: Some(Kind::Pay), open: Some(false), ..Filter::default() }), ["01"]);
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition() {
    let (_dir, _store, ledger) = fresh();
    for hash in 1..=7 {
        begin(&ledger, hash);
    }
    // One that has the hash of another, on the other side of the book.
    ledger.received(keysend(3)).unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = ledger.list(&Filter::default(), 3, before.as_deref()).unwrap();
        seen.extend(page.records.into_iter().map(|record| (record.id[..2].to_owned(), record.direction)));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    let mut expected: Vec<_> = (1..=7).rev().map(|hash| (format!("0{hash}"), Direction::Out)).collect();
    expected.insert(0, ("03".into(), Direction::In));
    assert_eq!(seen, expected);
}

#[test]
fn a_page_can_begin_before_a_line_named_by_its_id() {
    let (_dir, _store, ledger) = fresh();
    for hash in 1..=3 {
        begin(&ledger, hash);
    }
    let page = ledger.list(&Filter::default(), 9, Some(&"03".repeat(32))).unwrap();
    assert_eq!(page.records.len(), 2);
    assert_eq!(page.next, None);
    assert!(ledger.list(&Filter::default(), 9, Some(&"99".repeat(32))).unwrap().records.is_empty());
    assert!(ledger.list(&Filter::default(), 9, Some("nonsense")).unwrap().records.is_empty());
}

#[test]
fn a_line_is_found_by_its_id_or_a_unique_beginning_of_it() {
    let (_dir, _store, ledger) = fresh();
    begin(&ledger, 1);
    let mut near = new_send(1);
    near.payment_hash[31] = 2;
    let _token = ledger.begin_send(near).unwrap();
    begin(&ledger, 0xab);
    assert!(matches!(ledger.get("ABABABAB").unwrap(), Found::One(record) if record.id == "ab".repeat(32)));
    assert!(matches!(ledger.get(&"01".repeat(32)).unwrap(), Found::One(_)));
    assert!(matches!(ledger.get("01010101").unwrap(), Found::Several(ids) if ids.len() == 2));
    assert_eq!(ledger.get("77777777").unwrap(), Found::Nothing);
    for no_id in ["abababa", "", "ababababzz", "%%%%%%%%"] {
        assert_eq!(ledger.get(no_id).unwrap(), Found::NoId, "{no_id}");
    }
}

#[test]
fn a_change_is_announced_after_it_can_be_read() {
    let (_dir, _store, ledger) = fresh();
    let mut changes = ledger.changes();
    begin(&ledger, 1);
    let id = "01".repeat(32);
    assert_eq!(changes.try_recv().unwrap(), Changed { id: id.clone(), side: Side::Send });
    assert!(ledger.line(&id, Side::Send).unwrap().is_some());
}
