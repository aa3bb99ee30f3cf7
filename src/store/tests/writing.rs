use std::sync::mpsc;
use std::sync::{Arc, Barrier};

use crate::store::testing::{after_power_cut, fresh, open};
use crate::store::{Store, StoreError};

fn put(store: &Store, key: &'static str) -> Result<(), StoreError> {
    store.write("put a key", move |tx| insert(tx, key))
}

fn insert(tx: &rusqlite::Transaction<'_>, key: &str) -> rusqlite::Result<()> {
    tx.execute("INSERT INTO meta (key, value) VALUES (?1, x'00')", [key]).map(|_| ())
}

fn keys(store: &Store) -> Vec<String> {
    store
        .read(|connection| {
            connection.prepare("SELECT key FROM meta ORDER BY key")?.query_map([], |row| row.get(0))?.collect()
        })
        .unwrap()
}

/// Holds the writer inside a job until the sender is used or dropped.
fn hold(store: &Store) -> (mpsc::Sender<()>, impl Future<Output = Result<(), StoreError>> + use<>) {
    let (release, held) = mpsc::channel::<()>();
    let (inside, entered) = mpsc::channel();
    let future = store.write_async("hold the writer", move |_| {
        inside.send(()).unwrap();
        let _ = held.recv();
        Ok(())
    });
    entered.recv().unwrap();
    (release, future)
}

#[test]
fn what_a_write_acknowledged_survives_a_power_cut() {
    let (dir, store) = fresh();
    put(&store, "a").unwrap();
    let (_copy, after) = after_power_cut(dir.path());
    assert_eq!(keys(&after.unwrap()), ["a"]);
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let (dir, store) = fresh();
    put(&store, "a").unwrap();
    store.close().unwrap();
    assert_eq!(keys(&open(dir.path())), ["a"]);
}

#[tokio::test]
async fn jobs_queued_together_share_a_commit_and_a_failing_one_fails_alone() {
    let (dir, store) = fresh();
    let (release, held) = hold(&store);
    let first = store.write_async("put", |tx| insert(tx, "first"));
    let failing = store.write_async("fail", |tx| {
        insert(tx, "half")?;
        insert(tx, "half")
    });
    let last = store.write_async("put", |tx| {
        // What the failing job did is undone already.
        let count: i64 = tx.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?;
        insert(tx, "last").map(|()| count)
    });
    drop(release);
    held.await.unwrap();
    first.await.unwrap();
    let error = failing.await.unwrap_err();
    assert!(matches!(&error, StoreError::Sqlite { what: "fail", .. }), "{error}");
    assert_eq!(last.await.unwrap(), 1);
    assert_eq!(keys(&store), ["first", "last"]);
    let (_copy, after) = after_power_cut(dir.path());
    assert_eq!(keys(&after.unwrap()), ["first", "last"]);
}

#[tokio::test]
async fn asynchronous_writes_take_effect_in_the_order_of_their_calls_whatever_is_polled_first() {
    let (_dir, store) = fresh();
    let write = |value: u8| {
        store.write_async("put", move |tx| {
            tx.execute(
                "INSERT INTO meta (key, value) VALUES ('key', ?1) ON CONFLICT DO UPDATE SET value = excluded.value",
                [vec![value]],
            )
        })
    };
    let (one, two, three) = (write(1), write(2), write(3));
    three.await.unwrap();
    assert_eq!(store.meta("key").unwrap().unwrap(), [3]);
    one.await.unwrap();
    drop(two);
    assert_eq!(store.meta("key").unwrap().unwrap(), [3]);
}

#[test]
fn a_write_whose_future_was_dropped_is_done_all_the_same() {
    let (_dir, store) = fresh();
    drop(store.write_async("put", |tx| insert(tx, "a")));
    store.write("wait for it", |_| Ok(())).unwrap();
    assert_eq!(keys(&store), ["a"]);
}

#[test]
fn later_writes_ride_with_the_next_commit_in_their_order() {
    let (_dir, store) = fresh();
    store.write_later("put", |tx| insert(tx, "a")).unwrap();
    store.write_later("move", |tx| tx.execute("UPDATE meta SET key = 'b' WHERE key = 'a'", []).map(|_| ())).unwrap();
    let seen =
        store.write("look", |tx| tx.query_row("SELECT key FROM meta", [], |row| row.get::<_, String>(0))).unwrap();
    assert_eq!(seen, "b");
}

#[test]
fn later_writes_are_done_at_closing_at_the_latest() {
    let (dir, store) = fresh();
    store.write_later("put", |tx| insert(tx, "a")).unwrap();
    store.close().unwrap();
    assert_eq!(keys(&open(dir.path())), ["a"]);
}

#[test]
fn a_write_inside_a_write_is_refused_instead_of_waiting_for_itself() {
    let (_dir, store) = fresh();
    let inner = store.clone();
    let refused = store.write("outer", move |_| Ok(inner.write("inner", |_| Ok(())).is_err())).unwrap();
    assert!(refused);
}

#[test]
fn a_job_that_ends_the_transaction_fails_with_all_that_shared_it() {
    let (_dir, store) = fresh();
    assert!(store.write("misbehave", |tx| tx.execute_batch("ROLLBACK")).is_err());
    put(&store, "a").unwrap();
    assert_eq!(keys(&store), ["a"]);
}

#[test]
fn readers_see_whole_commits_only_and_cannot_write() {
    let (_dir, store) = fresh();
    let other = store.clone();
    let seen = store
        .read(|connection| {
            let count = || connection.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0));
            let before = count()?;
            put(&other, "a").unwrap();
            Ok((before, count()?))
        })
        .unwrap();
    assert_eq!(seen, (0, 0));
    assert_eq!(keys(&store), ["a"]);
    assert!(store.read(|connection| connection.execute("DELETE FROM meta", [])).is_err());
}

#[test]
fn many_threads_write_and_read_at_once_and_nothing_is_lost() {
    let (_dir, store) = fresh();
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let (store, start) = (store.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                for number in 0..25 {
                    let key = format!("{thread}-{number}");
                    let name = key.clone();
                    store.write("put", move |tx| insert(tx, &name)).unwrap();
                    assert!(store.meta(&key).unwrap().is_some());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(keys(&store).len(), 200);
}

#[test]
fn bdk_can_persist_within_a_write() {
    let (_dir, store) = fresh();
    let changes = store
        .write("prepare the wallet's tables", |tx| {
            bdk_wallet::ChangeSet::init_sqlite_tables(tx)?;
            bdk_wallet::ChangeSet { network: Some(bitcoin::Network::Regtest), ..Default::default() }
                .persist_to_sqlite(tx)?;
            bdk_wallet::ChangeSet::from_sqlite(tx)
        })
        .unwrap();
    assert_eq!(changes.network, Some(bitcoin::Network::Regtest));
}

#[test]
fn a_full_disk_fails_the_write_says_so_and_spares_what_was_there() {
    let (_dir, store) = fresh();
    put(&store, "a").unwrap();
    let pages: i64 =
        store.read(|connection| connection.pragma_query_value(None, "page_count", |row| row.get(0))).unwrap();
    store
        .write("make the disk small", move |tx| {
            tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        })
        .unwrap();
    let error = store
        .write("write much", |tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('much', zeroblob(1000000))", []).map(|_| ())
        })
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("Nothing acknowledged is lost"), "{error}");
    assert_eq!(keys(&store), ["a"]);
    // There is no space for a trial either.
    assert!(matches!(put(&store, "b"), Err(StoreError::Halted { .. })));
    assert_eq!(keys(&store), ["a"]);
}

#[test]
fn a_log_cut_off_anywhere_gives_back_every_write_that_ended_before_the_cut() {
    let (dir, store) = fresh();
    let wal = dir.path().join("lightnode.db-wal");
    let length = || std::fs::metadata(&wal).unwrap().len();
    let mut ends = Vec::new();
    for key in ["a", "b", "c", "d"] {
        put(&store, key).unwrap();
        ends.push(length());
    }
    let begin = ends[0] - 5000;
    for cut in (begin..=length()).step_by(1013).chain(ends.iter().flat_map(|end| [end - 1, *end])) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("lightnode.db"), copy.path().join("lightnode.db")).unwrap();
        let bytes = std::fs::read(&wal).unwrap();
        std::fs::write(copy.path().join("lightnode.db-wal"), &bytes[..cut as usize]).unwrap();
        let expected = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(keys(&open(copy.path())), &["a", "b", "c", "d"][..expected], "cut at {cut} of {ends:?}");
    }
}
