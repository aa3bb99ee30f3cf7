//! What a power cut leaves of the last write: the log cut off anywhere in it, or garbage in its place.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use bitcoin::block::Header;
use bitcoin::constants::genesis_block;

use crate::store::testing::{FINGERPRINT, fresh, open};
use crate::store::{Store, StoreError};

fn log_of(dir: &Path) -> std::path::PathBuf {
    dir.join("lightnode.db-wal")
}

fn length(dir: &Path) -> u64 {
    fs::metadata(log_of(dir)).unwrap().len()
}

fn header(nonce: u32) -> Header {
    Header { nonce, ..genesis_block(bitcoin::Network::Regtest).header }
}

/// What is stored: a value, and headers.
fn read(store: &Store) -> (Option<Vec<u8>>, usize) {
    (store.meta("value").unwrap(), store.load_headers().unwrap().1.len())
}

/// Two acknowledged writes, a third, and where in the log the third lies.
fn three_writes() -> (tempfile::TempDir, Store, std::ops::Range<u64>) {
    let (dir, store) = fresh();
    store.set_meta("value", b"first").unwrap();
    store.store_headers(1, &[header(1), header(2)]).unwrap();
    let start = length(dir.path());
    store.store_headers(3, &[header(3), header(4), header(5)]).unwrap();
    let end = length(dir.path());
    assert!(end > start);
    (dir, store, start..end)
}

/// The database in a folder of its own, after `damage` to its log.
fn after(dir: &Path, damage: impl FnOnce(&mut fs::File)) -> Result<(Option<Vec<u8>>, usize), StoreError> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["lightnode.db", "lightnode.db-wal"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    damage(&mut OpenOptions::new().write(true).open(log_of(copy.path())).unwrap());
    let store = Store::open(copy.path(), bitcoin::Network::Regtest, FINGERPRINT)?;
    let seen = read(&store);
    // It takes the next write, too, and keeps it.
    store.store_headers(seen.1 as u32 + 1, &[header(9)])?;
    store.close()?;
    drop(store);
    assert_eq!(read(&open(copy.path())).1, seen.1 + 1);
    Ok(seen)
}

#[test]
fn a_log_cut_off_anywhere_in_the_last_write_has_all_before_it_and_of_it_all_or_nothing() {
    let (dir, _store, last) = three_writes();
    for cut in last.clone().step_by(97).chain([last.end - 1, last.end]) {
        let seen = after(dir.path(), |log| log.set_len(cut).unwrap()).unwrap();
        let headers = if cut == last.end { 5 } else { 2 };
        assert_eq!(seen, (Some(b"first".to_vec()), headers), "cut at {cut} of {last:?}");
    }
}

#[test]
fn garbage_anywhere_in_the_last_write_is_noticed_and_the_write_is_not_there() {
    let (dir, _store, last) = three_writes();
    for at in last.clone().step_by(131) {
        let garbage = |log: &mut fs::File| {
            log.seek(SeekFrom::Start(at)).unwrap();
            let rest = usize::try_from(last.end - at).unwrap();
            log.write_all(&vec![0xa5; rest.min(512)]).unwrap();
        };
        assert_eq!(after(dir.path(), garbage).unwrap(), (Some(b"first".to_vec()), 2), "garbage at {at} of {last:?}");
    }
}

#[test]
fn half_a_write_behind_what_was_acknowledged_takes_nothing_away() {
    let (dir, _store, last) = three_writes();
    let more = |log: &mut fs::File| {
        log.seek(SeekFrom::Start(last.end)).unwrap();
        log.write_all(&[0x5a; 1500]).unwrap();
    };
    assert_eq!(after(dir.path(), more).unwrap(), (Some(b"first".to_vec()), 5));
}

#[test]
fn a_database_that_is_cut_off_is_refused_with_words() {
    let (dir, store) = fresh();
    store.store_headers(1, &(0..2000).map(header).collect::<Vec<_>>()).unwrap();
    store.close().unwrap();
    drop(store);
    let path = dir.path().join("lightnode.db");
    let whole = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(whole / 2).unwrap();
    let refused = Store::open(dir.path(), bitcoin::Network::Regtest, FINGERPRINT)
        .and_then(|store| store.load_headers().map(|_| ()))
        .unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
}
