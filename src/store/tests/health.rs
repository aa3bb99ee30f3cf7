use std::sync::atomic::{AtomicU32, Ordering};

use crate::store::StoreError;
use crate::store::testing::fresh;

/// The error of a disk without space, as a job meets it.
fn full() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None)
}

#[test]
fn a_full_disk_refuses_every_write_at_once_until_a_trial_is_durable() {
    let (_dir, store) = fresh();
    let refused = store.write::<(), _>("write", |_| Err(full())).unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("disk is full"), "{refused}");
    assert!(store.trouble().is_some_and(|why| why.contains("free some space")));
    assert!(matches!(store.set_meta("key", b"value"), Err(StoreError::Halted { .. })));
    // This disk is well in truth: who insists goes on when the writer has found that out.
    store.insist(StoreError::is_transient, || store.set_meta("key", b"value")).unwrap();
    assert_eq!((store.trouble(), store.meta("key").unwrap()), (None, Some(b"value".to_vec())));
    assert_eq!(store.meta("disk.trial").unwrap(), None);
}

#[tokio::test]
async fn who_waits_for_the_disk_wakes_when_it_is_well() {
    let (_dir, store) = fresh();
    store.well().await;
    store.write::<(), _>("write", |_| Err(full())).unwrap_err();
    store.well().await;
    assert_eq!(store.trouble(), None);
}

#[test]
fn at_the_end_the_reserve_is_free_and_who_insists_tries_once_more_and_no_longer() {
    let (dir, store) = fresh();
    assert_eq!(std::fs::metadata(dir.path().join("reserve")).unwrap().len(), 8 << 20);
    store.write::<(), _>("write", |_| Err(full())).unwrap_err();
    let attempts = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let insisting = scope.spawn(|| {
            store.insist(StoreError::is_transient, || {
                attempts.fetch_add(1, Ordering::Relaxed);
                store.set_meta("key", b"value")
            })
        });
        store.prepare_close();
        insisting.join().unwrap().unwrap();
    });
    assert!(!dir.path().join("reserve").exists());
    assert_eq!(store.meta("key").unwrap(), Some(b"value".to_vec()));
    store.close().unwrap();
}
