//! The database: what an older version wrote is taken over, what a newer one wrote is left alone, and `db check`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::ports::free_port;
use crate::support::scenes::{DEPOSIT, pay, two_nodes_with_a_channel};
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

/// Written by the version of schema 1; its seed stands in a comment.
const SCHEMA_1: &str = include_str!("fixtures/schema-1.sql");

/// Every file of a data directory but log and configuration: content and time of the last write.
fn state(folder: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    fs::read_dir(folder)
        .expect("a data directory")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_type().expect("a type").is_file())
        .map(|entry| {
            let written = entry.metadata().expect("its own file").modified().expect("a time");
            (entry.file_name().to_string_lossy().into_owned(), (written, fs::read(entry.path()).expect("its own file")))
        })
        .filter(|(name, _)| name.starts_with("lightnode.db") || name.starts_with("seed"))
        .collect()
}

fn database(node: &Daemon) -> Connection {
    Connection::open(node.folder().join("lightnode.db")).expect("a database")
}

/// The checks that are not ok, with what they say.
fn wrong(report: &Value) -> BTreeMap<String, String> {
    let checks = report["checks"].as_array().expect("checks").iter().filter(|check| check["ok"] == false);
    checks.map(|check| (check["name"].as_str().expect("a name").to_owned(), check["wrong"].to_string())).collect()
}

#[test]
fn a_database_of_an_older_version_is_taken_over_with_its_channel_its_coins_and_its_book() {
    let world = World::new();
    let nowhere = format!("tcp://127.0.0.1:{}", free_port());
    let mut alice = Daemon::with_servers(&world, "alice", &[nowhere]);
    let words = SCHEMA_1.lines().nth(2).and_then(|line| line.strip_prefix("-- ")).expect("the words of its seed");
    assert_eq!(alice.run_with_input(&["init", "--restore", "--yes"], words).code, 0);
    database(&alice).execute_batch(SCHEMA_1).expect("a database of schema 1");

    let old = alice.run(&["db", "check"]);
    assert!(old.code == 6 && old.stderr.contains("of an older schema (1;"), "{old:?}");
    alice.start();
    alice.answering();
    let history = crate::support::eventually::eventually_ok("the book to be read", || {
        let ran = alice.run(&["history"]);
        if ran.code == 0 { Ok(ran.json()) } else { Err(ran.stderr) }
    });
    assert_eq!(history["entries"].as_array().map(Vec::len), Some(4), "{history}");
    assert_eq!(alice.json(&["channels"])[0]["capacity_sat"], json!(500_000));
    assert!(alice.balance("onchain_confirmed_sat") > 490_000);
    assert!(alice.log().contains("brought up to date"), "the update is not in the log");
    let copy = alice.folder().join("lightnode.db.version-1");
    assert!(copy.exists(), "there is no copy from before");
    alice.stop();
    let version: i64 = Connection::open(&copy)
        .expect("the copy is a database")
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("a version");
    assert_eq!(version, 1);
    let report = alice.json(&["db", "check"]);
    assert_eq!(report["ok"], true, "{report}");
}

#[test]
fn the_copy_from_before_an_update_goes_once_the_node_has_come_up_again() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.stop();
    let copy = alice.folder().join("lightnode.db.version-1");
    fs::write(&copy, "old channel states").expect("the test's own folder");
    alice.start();
    alice.ready();
    assert!(!copy.exists());
}

#[test]
fn a_newer_database_is_refused_without_touching_a_byte_also_after_a_kill() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.kill();
    assert!(fs::metadata(alice.folder().join("lightnode.db-wal")).is_ok_and(|log| log.len() > 0));
    {
        let database = database(&alice);
        database.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("an option");
        database.execute("INSERT INTO program (version, schema) VALUES ('9.9.9', 99)", []).expect("a signature");
        database.pragma_update(None, "user_version", 99).expect("a version");
    }
    let before = state(alice.folder());
    assert!(before.contains_key("lightnode.db-wal"), "{:?}", before.keys());
    for words in [vec!["run"], vec!["db", "check"]] {
        let refused = alice.run(&words);
        assert_eq!(refused.code, 6, "{words:?}: {refused:?}");
        for word in ["9.9.9", "schema 99", "Nothing was changed"] {
            assert!(refused.stderr.contains(word), "{words:?}: {refused:?}");
        }
        assert_eq!(before, state(alice.folder()), "{words:?} has touched it");
    }
}

#[test]
fn a_sound_database_passes_every_check_and_is_not_touched() {
    let world = World::new();
    let (mut alice, mut bob) = two_nodes_with_a_channel(&world);
    pay(&alice, &bob, 50_000);
    pay(&bob, &alice, 1_000);
    let running = alice.run(&["db", "check"]);
    assert!(running.code == 6 && running.stderr.contains("lightnode stop"), "{running:?}");
    // An unconfirmed withdrawal counts, too: it is in the outbox, and its change in the wallet.
    alice.json(&["send", &world.bitcoind.new_address(), "10000"]);
    alice.kill();
    bob.stop();
    for node in [&alice, &bob] {
        let before = state(node.folder());
        let ran = node.run(&["db", "check"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let report = ran.json();
        assert!(report["ok"] == true && wrong(&report).is_empty(), "{report}");
        assert_eq!(report["checks"].as_array().map(Vec::len), Some(6), "{report}");
        assert_eq!(before, state(node.folder()), "looking has changed it");
    }
    let text = plain(&on_a_terminal(&alice, &["db", "check"]).stdout);
    for word in ["nothing is wrong with it", "1 open or opening, 1 monitors", "50000000 msat sent"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    alice.start();
    alice.ready();
}

#[test]
fn what_is_wrong_is_said_in_words_with_what_to_do() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.funded(&world, DEPOSIT);
    alice.stop();
    let whole = fs::read(alice.folder().join("lightnode.db")).expect("a database");
    for (damage, check, words) in [
        ("UPDATE header SET header = zeroblob(80) WHERE height = 60", "headers", "link"),
        ("DELETE FROM header WHERE height = 60", "headers", "missing"),
        ("UPDATE kv SET value = x'ff', length = 1 WHERE key = 'manager'", "channels", "cannot be read"),
        (
            "UPDATE payment SET record = replace(record, '1000000000', '900000000')",
            "wallet",
            "add up to 900000000 msat",
        ),
        ("UPDATE payment SET record = 'x'", "book", "cannot be read"),
        ("UPDATE payment SET side = 'send'", "book", "filed under another"),
        ("DELETE FROM bdk_anchors; DELETE FROM bdk_txs", "wallet", "its balance is 0 sat"),
        ("INSERT INTO outbox (txid, package, purpose, added_at) VALUES (zeroblob(32), x'ff', 'x', 1)", "outbox", ""),
    ] {
        fs::write(alice.folder().join("lightnode.db"), &whole).expect("the test's own folder");
        database(&alice).execute_batch(damage).unwrap_or_else(|error| panic!("{damage}: {error}"));
        let ran = alice.run(&["db", "check"]);
        assert_eq!(ran.code, 1, "{damage}: {ran:?}");
        let found = wrong(&ran.json());
        assert!(found.get(check).is_some_and(|said| said.contains(words)), "{damage}: {found:?}");
        let advice = ran.json()["checks"].to_string();
        assert!(advice.contains("\"advice\""), "{damage}: {advice}");
    }
    // A page of the file itself.
    let mut torn = whole.clone();
    let middle = torn.len() / 2 / 1024 * 1024;
    torn[middle..middle + 4096].fill(0xa5);
    fs::write(alice.folder().join("lightnode.db"), &torn).expect("the test's own folder");
    let ran = alice.run(&["db", "check"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(wrong(&ran.json()).contains_key("file"), "{ran:?}");
}
