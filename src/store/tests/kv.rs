use std::collections::{BTreeMap, HashMap};

use lightning::io::ErrorKind;
use lightning::util::persist::{KVStore, KVStoreSync};
use proptest::prelude::*;

use crate::store::testing::{after_power_cut, fresh, open};
use crate::store::{KvStore, Store};

fn read(kv: &KvStore, key: &str) -> Option<Vec<u8>> {
    match KVStoreSync::read(kv, "one", "two", key) {
        Ok(value) => Some(value),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

fn rows(store: &Store) -> i64 {
    store.read(|connection| connection.query_row("SELECT count(*) FROM kv", [], |row| row.get(0))).unwrap()
}

#[test]
fn namespaces_and_keys_are_kept_apart() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    for (primary, secondary, key) in [("", "", "k"), ("a", "", "k"), ("a", "b", "k"), ("a", "b", "l"), ("ab", "", "k")]
    {
        KVStoreSync::write(&*kv, primary, secondary, key, format!("{primary}/{secondary}/{key}").into_bytes()).unwrap();
    }
    assert_eq!(KVStoreSync::read(&*kv, "a", "b", "k").unwrap(), b"a/b/k");
    assert_eq!(KVStoreSync::list(&*kv, "a", "b").unwrap(), ["k", "l"]);
    assert_eq!(KVStoreSync::list(&*kv, "a", "").unwrap(), ["k"]);
    assert!(KVStoreSync::list(&*kv, "none", "").unwrap().is_empty());
    KVStoreSync::remove(&*kv, "a", "b", "k", false).unwrap();
    KVStoreSync::remove(&*kv, "a", "b", "k", false).unwrap();
    assert_eq!(KVStoreSync::list(&*kv, "a", "b").unwrap(), ["l"]);
}

#[test]
fn not_found_is_said_only_of_what_is_absent() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    assert_eq!(KVStoreSync::read(&*kv, "a", "b", "c").unwrap_err().kind(), ErrorKind::NotFound);
    store.close().unwrap();
    assert_ne!(KVStoreSync::read(&*kv, "a", "b", "c").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_synchronous_write_is_durable_when_it_returns() {
    let (dir, store) = fresh();
    KVStoreSync::write(&*store.kv(), "monitors", "", "a", vec![7; 100_000]).unwrap();
    let (_copy, after) = after_power_cut(dir.path());
    assert_eq!(KVStoreSync::read(&*after.unwrap().kv(), "monitors", "", "a").unwrap(), vec![7; 100_000]);
}

#[tokio::test]
async fn an_asynchronous_write_is_durable_when_it_is_ready_and_ordered_by_its_call() {
    let (dir, store) = fresh();
    let kv = store.kv();
    let first = KVStore::write(&*kv, "", "", "manager", vec![1]);
    let second = KVStore::write(&*kv, "", "", "manager", vec![2]);
    second.await.unwrap();
    let (_copy, after) = after_power_cut(dir.path());
    assert_eq!(KVStore::read(&*after.unwrap().kv(), "", "", "manager").await.unwrap(), [2]);
    first.await.unwrap();
    assert_eq!(KVStore::read(&*kv, "", "", "manager").await.unwrap(), [2]);
    KVStore::remove(&*kv, "", "", "manager", false).await.unwrap();
    assert!(KVStore::list(&*kv, "", "").await.unwrap().is_empty());
}

#[test]
fn a_write_after_a_lazy_removal_stays_and_the_removal_is_kept_across_a_restart() {
    let (dir, store) = fresh();
    let kv = store.kv();
    for key in ["a", "b"] {
        KVStoreSync::write(&*kv, "one", "two", key, vec![1]).unwrap();
        KVStoreSync::remove(&*kv, "one", "two", key, true).unwrap();
    }
    KVStoreSync::write(&*kv, "one", "two", "a", vec![2]).unwrap();
    store.close().unwrap();
    let kv = open(dir.path()).kv();
    assert_eq!(read(&kv, "a"), Some(vec![2]));
    assert_eq!(read(&kv, "b"), None);
}

#[test]
fn graph_and_scorer_are_read_as_last_written_and_not_written_every_time() {
    let (dir, store) = fresh();
    let kv = store.kv();
    for number in 0..50u8 {
        KVStoreSync::write(&*kv, "", "", "scorer", vec![number]).unwrap();
        KVStoreSync::write(&*kv, "", "", "network_graph", vec![number]).unwrap();
        assert_eq!(KVStoreSync::read(&*kv, "", "", "scorer").unwrap(), [number]);
    }
    store.close().unwrap();
    let store = open(dir.path());
    assert_eq!(rows(&store), 2);
    let kv = store.kv();
    for key in ["scorer", "network_graph"] {
        assert_eq!(KVStoreSync::read(&*kv, "", "", key).unwrap(), [49]);
    }
}

#[test]
fn a_removed_cache_is_gone_at_once_and_after_a_restart() {
    let (dir, store) = fresh();
    let kv = store.kv();
    KVStoreSync::write(&*kv, "", "", "scorer", vec![1]).unwrap();
    KVStoreSync::remove(&*kv, "", "", "scorer", false).unwrap();
    assert_eq!(KVStoreSync::read(&*kv, "", "", "scorer").unwrap_err().kind(), ErrorKind::NotFound);
    store.close().unwrap();
    assert_eq!(rows(&open(dir.path())), 0);
}

#[test]
fn values_of_every_size_come_back_as_they_were() {
    let (dir, store) = fresh();
    let value = |size: usize| (0..size).map(|at| (at % 251) as u8 + 1).collect::<Vec<_>>();
    let sizes = [0, 1, 511, 2047, 2048, 2049, 2559, 2560, 2561, 70_000];
    for size in sizes {
        KVStoreSync::write(&*store.kv(), "one", "two", &size.to_string(), value(size)).unwrap();
        // Shrinks and grows in its place.
        KVStoreSync::write(&*store.kv(), "one", "two", "same", value(size)).unwrap();
        assert_eq!(read(&store.kv(), "same").unwrap(), value(size));
    }
    store.close().unwrap();
    let store = open(dir.path());
    for size in sizes {
        assert_eq!(read(&store.kv(), &size.to_string()).unwrap(), value(size));
    }
}

#[test]
fn a_value_of_nearly_the_same_size_is_overwritten_in_its_place() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    let log = || std::fs::metadata(store.path().with_extension("db-wal")).unwrap().len();
    KVStoreSync::write(&*kv, "", "", "manager", vec![7; 50_000]).unwrap();
    let before = log();
    let mut value = vec![7; 50_030];
    value[20_000] = 8;
    KVStoreSync::write(&*kv, "", "", "manager", value).unwrap();
    let written = log() - before;
    assert!(written < 6 * 1024, "{written} bytes for a change of some");
}

/// Of no pattern, and always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// How many values have patches that count.
fn patched(store: &Store) -> i64 {
    let count = "SELECT count(*) FROM kv_patch WHERE substr(patches, 1, 1) <> x'00'";
    store.read(|connection| connection.query_row(count, [], |row| row.get(0))).unwrap()
}

#[test]
fn of_a_large_value_only_what_is_new_is_written_and_it_is_whole_also_after_a_power_cut() {
    let (dir, store) = fresh();
    let kv = store.kv();
    let log = || std::fs::metadata(store.path().with_extension("db-wal")).unwrap().len();
    let mut value = noise(40_000);
    KVStoreSync::write(&*kv, "one", "two", "large", value.clone()).unwrap();
    let before = log();
    // So often that it is written whole in between, for want of room.
    for round in 0..200u8 {
        // All that follows is moved to and fro.
        let new = noise(300 + usize::from(round)).into_iter().map(|byte| byte ^ round);
        value.splice(1_000..1_000 + usize::from(round % 3) * 300, new);
        KVStoreSync::write(&*kv, "one", "two", "large", value.clone()).unwrap();
        assert_eq!(read(&kv, "large"), Some(value.clone()));
    }
    let written = (log() - before) / 200;
    assert!(written < 5 * 1024, "{written} bytes for each change of some");
    let whole: i64 = store.read(|db| db.query_row("SELECT length FROM kv", [], |row| row.get(0))).unwrap();
    assert!(whole > 40_000, "it was never written whole");
    let (_copy, after) = after_power_cut(dir.path());
    assert_eq!(read(&after.unwrap().kv(), "large"), Some(value));
}

#[test]
fn a_large_value_of_which_much_is_new_is_written_whole_again() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    let value = noise(20_000);
    for start in [0, 1, 10_000] {
        KVStoreSync::write(&*kv, "one", "two", "large", value[start..].to_vec()).unwrap();
    }
    assert_eq!((read(&kv, "large"), patched(&store)), (Some(value[10_000..].to_vec()), 1));
    let other: Vec<u8> = value.iter().map(|byte| !byte).collect();
    for next in [other, vec![1; 10]] {
        KVStoreSync::write(&*kv, "one", "two", "large", next.clone()).unwrap();
        assert_eq!((read(&kv, "large"), patched(&store)), (Some(next), 0));
    }
}

#[test]
fn a_patch_goes_with_its_value() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    for start in [0, 1] {
        KVStoreSync::write(&*kv, "one", "two", "large", noise(5_000)[start..].to_vec()).unwrap();
    }
    assert_eq!(patched(&store), 1);
    KVStoreSync::remove(&*kv, "one", "two", "large", false).unwrap();
    assert_eq!((read(&kv, "large"), patched(&store)), (None, 0));
}

#[test]
fn a_patch_that_does_not_fit_its_value_is_an_error_and_never_another_value() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    for start in [0, 1] {
        KVStoreSync::write(&*kv, "one", "two", "large", noise(5_000)[start..].to_vec()).unwrap();
    }
    store.write("damage a value", |tx| tx.execute("UPDATE kv SET value = zeroblob(length(value))", [])).unwrap();
    let error = KVStoreSync::read(&*kv, "one", "two", "large").unwrap_err();
    assert_ne!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("one/two/large does not fit together"), "{error}");
}

#[test]
fn updates_of_monitors_are_kept_by_number_and_those_of_an_older_version_stay_in_sight() {
    let (_dir, store) = fresh();
    let kv = store.kv();
    let names = ["monitor_updates", "m"];
    let read = |key: &str| KVStoreSync::read(&*kv, names[0], names[1], key).ok();
    let list = || {
        let mut keys = KVStoreSync::list(&*kv, names[0], names[1]).unwrap();
        keys.sort();
        keys
    };
    store
        .write("write as before", |tx| {
            let rows = "INSERT INTO kv (primary_ns, secondary_ns, key, length, value) VALUES
                            ('monitor_updates', 'm', '1', 1, x'01'), ('monitor_updates', 'm', '2', 1, x'02')";
            tx.execute(rows, [])
        })
        .unwrap();
    // The first is written anew; the last two are no plain numbers, and must not be taken for others.
    let keys = ["1", "10", "1099511627775", "1099511627776", "010"];
    for (at, key) in keys.iter().enumerate() {
        KVStoreSync::write(&*kv, names[0], names[1], key, vec![at as u8 + 10]).unwrap();
        KVStoreSync::write(&*kv, names[0], "n", key, vec![99]).unwrap();
    }
    assert_eq!(list(), ["010", "1", "10", "1099511627775", "1099511627776", "2"]);
    assert_eq!(
        (read("1"), read("2"), read("10"), read("010")),
        (Some(vec![10]), Some(vec![2]), Some(vec![11]), Some(vec![14]))
    );
    assert_eq!(read("1099511627775"), Some(vec![12]));
    for key in ["1", "2", "10", "1099511627775", "1099511627776"] {
        KVStoreSync::remove(&*kv, names[0], names[1], key, false).unwrap();
    }
    assert_eq!((list(), read("1"), read("2")), (vec!["010".to_owned()], None, None));
    assert_eq!(KVStoreSync::list(&*kv, names[0], "n").unwrap().len(), 5, "those of another monitor stay");
    store.write("put aside", |tx| Store::kv_put_aside(tx, "monitor_updates", "n", None, "aside.")).unwrap();
    assert!(KVStoreSync::list(&*kv, names[0], "n").unwrap().is_empty());
    assert!(KVStoreSync::read(&*kv, names[0], "n", "10").is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8, Vec<u8>),
    Queue(u8, Vec<u8>),
    Remove(u8),
    RemoveLazily(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let small = || prop::collection::vec(any::<u8>(), 0..40);
    // Patched, when one follows another.
    let large = || {
        (0..6_000usize, small()).prop_map(|(at, new)| {
            let mut value = noise(6_000);
            value.splice(at.saturating_sub(30)..at, new);
            value
        })
    };
    let value = || prop_oneof![small(), large()];
    prop_oneof![
        4 => (0..4u8, value()).prop_map(|(key, value)| Step::Write(key, value)),
        4 => (0..4u8, value()).prop_map(|(key, value)| Step::Queue(key, value)),
        2 => (0..4u8).prop_map(Step::Remove),
        2 => (0..4u8).prop_map(Step::RemoveLazily),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Writes and removals of every sort, mixed, against a map.
    #[test]
    fn the_store_is_a_map(steps in prop::collection::vec(step(), 1..40)) {
        let (dir, mut store) = fresh();
        let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
        for step in steps {
            let kv = store.kv();
            match step {
                Step::Write(key, value) => {
                    KVStoreSync::write(&*kv, "one", "two", &key.to_string(), value.clone()).unwrap();
                    model.insert(key, value);
                }
                Step::Queue(key, value) => {
                    drop(KVStore::write(&*kv, "one", "two", &key.to_string(), value.clone()));
                    model.insert(key, value);
                }
                Step::Remove(key) => {
                    KVStoreSync::remove(&*kv, "one", "two", &key.to_string(), false).unwrap();
                    model.remove(&key);
                }
                Step::RemoveLazily(key) => {
                    KVStoreSync::remove(&*kv, "one", "two", &key.to_string(), true).unwrap();
                    model.remove(&key);
                }
                Step::Restart => {
                    drop(kv);
                    store.close().unwrap();
                    store = open(dir.path());
                }
            }
        }
        store.write("wait for what is queued", |_| Ok(())).unwrap();
        let kv = store.kv();
        let kept: BTreeMap<u8, Vec<u8>> = KVStoreSync::list(&*kv, "one", "two").unwrap()
            .into_iter()
            .map(|key| (key.parse().unwrap(), read(&kv, &key).unwrap()))
            .collect();
        prop_assert_eq!(kept, model.into_iter().collect::<BTreeMap<_, _>>());
    }
}
