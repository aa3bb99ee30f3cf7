//! The book as a whole; each file has its own subject.

mod model;
mod onchain;
mod queries;
mod receive;
mod send;

use std::path::Path;

use bitcoin::Network;

use super::{Begun, Ledger, NewSend, Record};
use crate::store::Store;

/// The time of all tests.
const NOW: u64 = 1_000_000;

fn open(dir: &Path) -> (Store, Ledger) {
    let store = Store::open(dir, Network::Regtest, [0; 4]).unwrap();
    (store.clone(), Ledger::with_clock(store, || NOW))
}

fn fresh() -> (tempfile::TempDir, Store, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let (store, ledger) = open(dir.path());
    (dir, store, ledger)
}

fn new_send(hash: u8) -> NewSend {
    NewSend {
        payment_hash: [hash; 32],
        amount_msat: 1000,
        max_fee_msat: Some(10),
        invoice: Some("lnbcrt…".into()),
        payee: Some("02ab".into()),
        description: None,
    }
}

/// Begins a payment that must be fresh, and hands it over.
fn begin(ledger: &Ledger, hash: u8) {
    match ledger.begin_send(new_send(hash)).unwrap() {
        Begun::Fresh(token) => token.handed_over(),
        other => panic!("not fresh: {other:?}"),
    }
}

fn sent(ledger: &Ledger, hash: u8) -> Record {
    ledger.send_of([hash; 32]).unwrap().unwrap()
}
