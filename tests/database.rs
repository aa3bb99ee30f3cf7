//! The database: what an older version wrote is taken over, what a newer one wrote is left alone, and `db check`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use lightnode::crash::Point;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::recovery::comes_back;
use crate::support::daemon::{Daemon, LIGHTNODE, Ran};
use crate::support::eventually::eventually;
use crate::support::ports::free_port;
use crate::support::scenes::{DEPOSIT, pay, two_nodes_with_a_channel};
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

/// Written by the versions of schema 1, 2 and so on; the seed of each stands in a comment.
const SCHEMAS: [&str; 4] = [
    include_str!("fixtures/schema-1.sql"),
    include_str!("fixtures/schema-2.sql"),
    include_str!("fixtures/schema-3.sql"),
    include_str!("fixtures/schema-4.sql"),
];

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
    for (version, schema) in (1..).zip(SCHEMAS) {
        let mut alice = Daemon::with_servers(&world, &format!("alice{version}"), std::slice::from_ref(&nowhere));
        let words = schema.lines().nth(2).and_then(|line| line.strip_prefix("-- ")).expect("the words of its seed");
        assert_eq!(alice.run_with_input(&["init", "--restore", "--yes"], words).code, 0);
        database(&alice).execute_batch(schema).expect("a database");

        let old = alice.run(&["db", "check"]);
        assert!(old.code == 6 && old.stderr.contains(&format!("of an older schema ({version};")), "{old:?}");
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
        let copy = alice.folder().join(format!("lightnode.db.version-{version}"));
        assert!(copy.exists(), "there is no copy from before");
        alice.stop();
        let copied: i64 = Connection::open(&copy)
            .expect("the copy is a database")
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .expect("a version");
        assert_eq!(copied, version);
        let report = alice.json(&["db", "check"]);
        assert_eq!(report["ok"], true, "{report}");
    }
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

#[test]
fn a_payment_that_the_channels_have_otherwise_than_the_book_is_found() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    pay(&alice, &bob, 20_000);
    // Greeted anew, neither owes the other a word, and the next payment leaves at once.
    alice.stop();
    alice.start();
    alice.ready();
    alice.usable(1);
    bob.usable(1);
    let invoice = bob.invoice("30000");
    // Gone when it is written, and before it leaves.
    let written = (Point::VaultWritten, 1);
    alice.arm(written.0, written.1);
    let mut paying = alice.begin(&["pay", &invoice]);
    assert!(alice.crashes(true, |_| false));
    paying.wait().expect("the command ends");
    let report = alice.json(&["db", "check"]);
    assert!(report["ok"] == true && report.to_string().contains("1 payments under way"), "{report}");
    database(&alice).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("an empty log");
    fs::copy(alice.folder().join("lightnode.db"), alice.folder().join("whole")).expect("a copy");
    for (damage, words) in [
        (
            "UPDATE payment SET record = replace(record, '30000000', '29999999') WHERE open = 1",
            "30000000 msat, and stands",
        ),
        (
            "UPDATE payment SET open = 0, record = replace(record, '\"pending\"', '\"failed\"') WHERE open = 1",
            "but not open",
        ),
        ("UPDATE payment SET record = replace(record, '\"succeeded\"', '\"failed\"') WHERE side = 'send'", "was paid"),
    ] {
        database(&alice).execute_batch(damage).unwrap_or_else(|error| panic!("{damage}: {error}"));
        let ran = alice.run(&["db", "check"]);
        let found = wrong(&ran.json());
        assert!(found.get("book").is_some_and(|said| said.contains(words)), "{damage}: {ran:?}");
        fs::copy(alice.folder().join("whole"), alice.folder().join("lightnode.db")).expect("a copy");
    }
}

/// Runs a command line as it was shown, with this on its stdin.
fn as_shown(line: &str, input: &str) -> Ran {
    let mut command = Command::new(LIGHTNODE);
    command.args(line.split(' ').skip(1)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary under test starts");
    // A command that reads nothing may be over.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes());
    child.wait_with_output().expect("the command ends").into()
}

fn halted(node: &Daemon) -> Value {
    eventually("the node to be halted", || node.answering(), |status| status["state"] == "halted")
}

#[test]
fn a_damaged_database_halts_the_node_untouched_and_the_commands_that_it_names_bring_the_money_back() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    bob.funded(&world, 100_000);
    pay(&alice, &bob, 100_000);
    let backup = world.folder().join("node.backup");
    alice.stop();
    alice.configure(&[world.server()], &format!("[backup]\npath = \"{}\"\n", backup.display()));
    alice.start();
    alice.ready();
    eventually("the backup", || backup.exists(), |there| *there);
    let words = fs::read_to_string(alice.folder().join("seed")).expect("a seed");
    alice.stop();
    let database = alice.folder().join("lightnode.db");
    let mut torn = fs::read(&database).expect("a database");
    let middle = torn.len() / 2 / 1024 * 1024;
    torn[middle..middle + 4096].fill(0xa5);
    fs::write(&database, &torn).expect("the test's own folder");

    alice.start();
    let status = halted(&alice);
    let why = status["why"].as_str().expect("a reason");
    for word in ["is damaged, and was not changed", "24 words", "Nothing was sent"] {
        assert!(why.contains(word), "{word}: {why}");
    }
    for words in [vec!["balance"], vec!["channels"], vec!["recover"], vec!["receive", "1k"]] {
        let refused = alice.run(&words);
        assert!(refused.code == 7 && refused.stderr.contains("init --restore --backup"), "{refused:?}");
    }
    alice.stop();
    assert!(fs::read(&database).expect("a database") == torn, "it was changed");
    assert!(world.bitcoind.mempool().is_empty(), "something was broadcast");

    // What it names, word for word.
    let way = status["waits_for"][0].as_str().expect("a way back").to_string();
    let shown: Vec<&str> = way.split('`').skip(1).step_by(2).collect();
    let [check, show, init, run] = shown[..] else { panic!("other commands: {way}") };
    assert_eq!(as_shown(check, "").code, 1);
    assert_eq!(as_shown(&format!("{show} --yes"), "").json()["words"], words.trim());
    let mut again = Daemon::new(&world, "alice.restored");
    assert!(run.contains(again.folder().to_str().expect("UTF-8")), "{run}");
    let made = as_shown(init, &words);
    assert_eq!((made.code, &made.json()["channels"]), (0, &json!(1)), "{made:?}");
    again.start();
    comes_back(&world, &again, &bob, DEPOSIT - 100_000);
}

#[test]
fn a_database_that_begins_wrongly_makes_no_sense_or_is_gone_is_said_to_be_damaged_and_not_made_anew() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.stop();
    let file = alice.folder().join("lightnode.db");
    let whole = fs::read(&file).expect("a database");
    let ends = |node: &Daemon, word: &str| {
        let ran = node.run(&["run"]);
        assert_eq!(ran.code, 7, "{ran:?}");
        for word in [word, "24 words", "init --restore"] {
            assert!(ran.stderr.contains(word), "{word}: {ran:?}");
        }
    };
    let mut torn = whole.clone();
    torn[..512].fill(0);
    fs::write(&file, &torn).expect("the test's own folder");
    ends(&alice, "its beginning is overwritten");
    assert!(fs::read(&file).expect("a database") == torn, "it was changed");
    fs::remove_file(&file).expect("the test's own folder");
    ends(&alice, "is gone, or empty");
    assert!(!file.exists(), "a new one was made");

    for damage in [
        "UPDATE kv SET value = x'ff', length = 1 WHERE key = 'manager'",
        "UPDATE header SET header = zeroblob(80) WHERE height = 60",
    ] {
        // As if nothing had run since.
        fs::write(&file, &whole).expect("the test's own folder");
        fs::remove_file(alice.folder().join("mark")).expect("a mark");
        fs::remove_dir_all(alice.state_home()).expect("a mark");
        database(&alice).execute_batch(damage).unwrap_or_else(|error| panic!("{damage}: {error}"));
        alice.start();
        let status = halted(&alice);
        assert!(status["why"].as_str().is_some_and(|why| why.contains("24 words")), "{damage}: {status}");
        assert_eq!(alice.run(&["balance"]).code, 7, "{damage}");
        alice.stop();
    }
}
