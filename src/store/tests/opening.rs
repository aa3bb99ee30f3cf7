use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bitcoin::Network;

use crate::store::testing::{FINGERPRINT, fresh, open};
use crate::store::{DATABASE, Store, StoreError};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Every byte of the directory but the lock's, which each attempt may write, and when it was last written.
fn bytes(dir: &Path) -> Vec<(String, std::time::SystemTime, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let written = entry.metadata().unwrap().modified().unwrap();
            (entry.file_name().into_string().unwrap(), written, std::fs::read(entry.path()).unwrap())
        })
        .filter(|(name, ..)| name != "lock")
        .collect();
    files.sort();
    files
}

/// The same database closed in order, and as a kill leaves it: with a log that was not emptied.
fn closed_and_killed(change: impl FnOnce(&Store)) -> [tempfile::TempDir; 2] {
    let (dir, store) = fresh();
    store.set_meta("key", b"value").unwrap();
    change(&store);
    let killed = tempfile::tempdir().unwrap();
    for name in [DATABASE, "lightnode.db-wal"] {
        std::fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
    }
    store.close().unwrap();
    assert!(std::fs::metadata(killed.path().join("lightnode.db-wal")).unwrap().len() > 0);
    assert!(!dir.path().join("lightnode.db-wal").exists());
    [dir, killed]
}

#[test]
fn a_new_directory_and_its_files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a").join("b");
    let store = open(&dir);
    store.set_meta("key", b"value").unwrap();
    assert_eq!(mode(&dir), 0o700);
    for name in [DATABASE, "lightnode.db-wal", "lock"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    assert!(!dir.join("lightnode.db-shm").exists(), "the log's index is written, too");
}

#[test]
fn a_database_that_others_could_read_is_made_private() {
    let (dir, store) = fresh();
    store.close().unwrap();
    let path = dir.path().join(DATABASE);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = open(dir.path());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_second_opener_is_refused_and_told_who_holds_the_directory() {
    let (dir, _store) = fresh();
    let error = Store::open(dir.path(), Network::Regtest, FINGERPRINT).unwrap_err();
    assert!(matches!(error, StoreError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
}

#[test]
fn closing_or_dropping_the_last_clone_gives_the_directory_free() {
    let (dir, store) = fresh();
    let clone = store.clone();
    drop(store);
    assert!(Store::open(dir.path(), Network::Regtest, FINGERPRINT).is_err());
    drop(clone);
    let store = open(dir.path());
    store.close().unwrap();
    let _open = open(dir.path());
}

#[test]
fn another_network_or_seed_is_refused_and_no_byte_is_touched() {
    for dir in closed_and_killed(|_| {}) {
        let before = bytes(dir.path());
        let error = Store::open(dir.path(), Network::Bitcoin, FINGERPRINT).unwrap_err();
        assert!(matches!(error, StoreError::WrongNetwork { .. }), "{error}");
        assert!(error.to_string().contains("network = \"regtest\""), "{error}");
        let error = Store::open(dir.path(), Network::Regtest, [9; 4]).unwrap_err();
        assert!(matches!(error, StoreError::WrongSeed { .. }), "{error}");
        assert!(error.to_string().contains("01020304") && error.to_string().contains("09090909"), "{error}");
        assert_eq!(before, bytes(dir.path()));
        assert_eq!(open(dir.path()).meta("key").unwrap().unwrap(), b"value");
    }
}

#[test]
fn a_newer_schema_is_refused_with_the_version_that_knows_it_and_no_byte_is_touched() {
    let newer = |store: &Store| {
        let pretend = |tx: &rusqlite::Transaction<'_>| {
            tx.execute("INSERT INTO program (version, schema) VALUES ('7.1.0', 999)", [])?;
            tx.pragma_update(None, "user_version", 999)
        };
        store.write("pretend to be newer", pretend).unwrap();
    };
    for dir in closed_and_killed(newer) {
        let before = bytes(dir.path());
        let error = Store::open(dir.path(), Network::Regtest, FINGERPRINT).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error}");
        assert!(error.to_string().contains("7.1.0"), "{error}");
        assert_eq!(before, bytes(dir.path()));
    }
}

#[test]
fn the_copy_from_before_an_update_goes_with_the_next_good_start() {
    let (dir, store) = fresh();
    let copy = dir.path().join("lightnode.db.version-1");
    std::fs::write(&copy, "old").unwrap();
    assert!(copy.exists());
    store.came_up().unwrap();
    assert!(!copy.exists());
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE);
    std::fs::write(
        &path,
        "a text that somebody put here, long enough for a header of SQLite, which has 100 bytes. ".repeat(9),
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(dir.path(), Network::Regtest, FINGERPRINT).unwrap_err();
    // A database whose beginning is overwritten looks the same.
    assert!(error.is_damage(), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let dir = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(dir.path().join(DATABASE)).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(other);
    let error = Store::open(dir.path(), Network::Regtest, FINGERPRINT).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_database_whose_making_was_cut_off_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(DATABASE), b"").unwrap();
    open(dir.path()).close().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let half = rusqlite::Connection::open(dir.path().join(DATABASE)).unwrap();
    half.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(half);
    open(dir.path()).close().unwrap();
}

#[test]
fn every_call_after_closing_says_that_the_database_is_closed() {
    let (_dir, store) = fresh();
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(store.read(|_| Ok(())), Err(StoreError::Closed { .. })));
    assert!(matches!(store.write("write", |_| Ok(())), Err(StoreError::Closed { .. })));
    assert!(matches!(store.write_later("write", |_| Ok(())), Err(StoreError::Closed { .. })));
    let kv = store.kv();
    assert!(lightning::util::persist::KVStoreSync::write(&*kv, "", "", "scorer", vec![1]).is_err());
}
