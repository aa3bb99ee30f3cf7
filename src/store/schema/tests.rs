//! Migrations: every version is brought to the newest one, with what was in it.

use std::path::PathBuf;

use super::*;

const IDENTITY: Identity = Identity { network: Network::Regtest, fingerprint: [1, 2, 3, 4] };
const NEXT: &str = "ALTER TABLE meta ADD COLUMN note TEXT; INSERT INTO meta VALUES ('two', x'02', 'new')";

/// Rows of each version's own tables, as that version writes them; one entry for each migration. What stands here is
/// there before the next migration, and must be there, or be what became of it, after the newest.
const SAMPLES: &[&str] = &[
    "INSERT INTO kv (primary_ns, secondary_ns, key, length, value) VALUES ('', '', 'manager', 2, x'0102');
     INSERT INTO header VALUES (0, zeroblob(80)), (1, zeroblob(80));
     INSERT INTO script VALUES (zeroblob(32), NULL, 0);
     INSERT INTO proof VALUES (zeroblob(32), zeroblob(32), 1, zeroblob(32), 0, x'', x'00');
     INSERT INTO outbox (txid, package, purpose, added_at) VALUES (zeroblob(32), x'00', 'withdrawal', 7);
     INSERT INTO meta VALUES ('one', x'01');
     INSERT INTO pin VALUES ('host:50002', zeroblob(32));
     INSERT INTO ban VALUES ('host', 9, 'lied');
     INSERT INTO peer VALUES (zeroblob(33), 'host:9735', 5, NULL);
     INSERT INTO payment (id, side, open, record) VALUES ('aa', 'send', 0, '{}');
     INSERT INTO forward (at, incoming, outgoing, amount_out_msat, fee_msat) VALUES (1, 'a', 'b', 1000, 1);
     INSERT INTO closed_channel (channel, record) VALUES ('cc', '{}');",
    "INSERT INTO program (version, schema) VALUES ('0.0.9', 2);",
    "INSERT INTO kv_patch (seq, patches) VALUES (1, x'00');",
    "INSERT INTO kv_series (primary_ns, secondary_ns) VALUES ('monitor_updates', 'm');
     INSERT INTO kv_item (id, value) VALUES (1 << 40, x'01');",
    "UPDATE proof SET coinbase = x'00', coinbase_branch = x'';",
];

/// A database of the version with this many migrations, with its samples.
fn of_version(dir: &Path, version: usize) -> PathBuf {
    let path = dir.join("lightnode.db");
    private_file(&path).unwrap();
    let connection = connect(&path).unwrap();
    for (migration, samples) in MIGRATIONS.iter().zip(SAMPLES).take(version) {
        connection.execute_batch(migration).unwrap();
        connection.execute_batch(samples).unwrap();
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    connection.execute("INSERT INTO identity VALUES (1, 'regtest', ?1)", [IDENTITY.fingerprint]).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
    path
}

fn tables(connection: &Connection) -> Vec<(String, String)> {
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn keys(connection: &Connection) -> Vec<String> {
    let mut statement = connection.prepare("SELECT key FROM meta ORDER BY key").unwrap();
    let keys = statement.query_map([], |row| row.get(0)).unwrap();
    keys.map(|key| key.unwrap()).collect()
}

fn copies_in(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut copies: Vec<String> = names.filter(|name| name.contains("version")).collect();
    copies.sort();
    copies
}

#[test]
fn every_version_becomes_the_newest_with_all_that_was_in_it() {
    assert_eq!(SAMPLES.len(), MIGRATIONS.len(), "each migration has its samples");
    let fresh = tempfile::tempdir().unwrap();
    let fresh = open(&fresh.path().join("lightnode.db"), IDENTITY).unwrap().connection;
    for version in 1..MIGRATIONS.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = of_version(dir.path(), version);
        let before = Connection::open(&path).unwrap();
        let rows: Vec<(String, i64)> = tables(&before)
            .into_iter()
            .filter(|(name, _)| !name.contains("payment_"))
            .map(|(name, _)| (name.clone(), count(&before, &name)))
            .collect();
        assert!(rows.iter().all(|(_, rows)| *rows > 0), "version {version} has a table without a sample: {rows:?}");
        drop(before);
        let Opened { connection, migrated } = open(&path, IDENTITY).unwrap();
        assert!(migrated, "{version}");
        assert_eq!(tables(&connection), tables(&fresh), "version {version} does not become what a new one is");
        for (table, rows) in rows.iter().filter(|(table, _)| table != "program") {
            assert_eq!(count(&connection, table), *rows, "version {version}: rows of {table}");
        }
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        assert_eq!(copies_in(dir.path()), [format!("lightnode.db.version-{version}")]);
        drop(connection);
        assert!(!open(&path, IDENTITY).unwrap().migrated, "once is enough");
    }
}

#[test]
fn a_migration_keeps_what_was_there_and_leaves_a_private_copy_of_the_old_database() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = of_version(dir.path(), MIGRATIONS.len());
    let more: Vec<&str> = MIGRATIONS.iter().copied().chain([NEXT]).collect();
    let Opened { connection, migrated } = open_with(&path, IDENTITY, &more).unwrap();
    assert!(migrated);
    assert_eq!(keys(&connection), ["one", "two"]);
    let copied = dir.path().join(format!("lightnode.db.version-{}", MIGRATIONS.len()));
    assert_eq!(std::fs::metadata(&copied).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(keys(&Connection::open(copied).unwrap()), ["one"]);
    drop(connection);
    let again = open_with(&path, IDENTITY, &more).unwrap();
    assert!(!again.migrated && keys(&again.connection) == ["one", "two"]);
    assert!(drop_copies(&path).unwrap());
    assert!(copies_in(dir.path()).is_empty() && !drop_copies(&path).unwrap());
}

#[test]
fn a_failing_migration_leaves_the_database_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = of_version(dir.path(), MIGRATIONS.len());
    let broken = format!("{NEXT}; INSERT INTO no_such_table VALUES (1)");
    let more: Vec<&str> = MIGRATIONS.iter().copied().chain([broken.as_str()]).collect();
    for _ in 0..2 {
        let error = open_with(&path, IDENTITY, &more).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("it is as it was before"), "{error}");
    }
    assert_eq!(keys(&open(&path, IDENTITY).unwrap().connection), ["one"]);
}

#[test]
fn a_fresh_database_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&dir.path().join("lightnode.db"), IDENTITY).unwrap();
    assert!(!opened.migrated && copies_in(dir.path()).is_empty());
}

#[test]
fn a_database_that_a_released_version_has_written_is_brought_up_to_date() {
    let stored = [
        (1, include_str!("../../../tests/fixtures/schema-1.sql"), [0xab, 0x81, 0xc1, 0x08], 129, 14),
        (2, include_str!("../../../tests/fixtures/schema-2.sql"), [0x82, 0x1f, 0x5f, 0x35], 117, 14),
        (3, include_str!("../../../tests/fixtures/schema-3.sql"), [0x5e, 0x3f, 0xd1, 0x49], 117, 14),
        (4, include_str!("../../../tests/fixtures/schema-4.sql"), [0x6d, 0xfb, 0x71, 0x65], 117, 4),
    ];
    assert_eq!(stored.len(), MIGRATIONS.len() - 1, "every version but this one has left a database");
    for (version, dump, fingerprint, headers, values) in stored {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lightnode.db");
        private_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch(dump).unwrap();
        let identity = Identity { fingerprint, ..IDENTITY };
        let Opened { connection, migrated } = open(&path, identity).unwrap();
        assert!(migrated, "{version}");
        for (table, rows) in [("header", headers), ("payment", 4), ("kv", values), ("bdk_txs", 2)] {
            assert_eq!(count(&connection, table), rows, "version {version}: {table}");
        }
    }
}
