//! Opening: whose database it is, its settings, and forward-only migrations.
//!
//! Decision: pages of 1 kB, and the log is brought into the database every 4 MB. A commit writes whole pages, and most of
//! ours change a few hundred bytes in two or three places: against pages of 4 kB a payment writes a quarter less (as the
//! disk sees it) and a half less into the log. The cost is more pages for the large values, which are written seldom.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::StoreError;
use super::lock::{private_file, sync_dir};

/// How long a connection waits for another one (a person with the sqlite3 shell, say).
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// "LNOD": says in the file's header whose format it is.
const APPLICATION_ID: i32 = 0x4c4e_4f44;

/// The migrations, in order; number `n` of them brings `user_version` from `n - 1` to `n`. Never edited once
/// released, only added to.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

const OPEN: &str = "open the database";

/// Whom a database belongs to.
#[derive(Clone, Copy)]
struct Identity {
    network: Network,
    fingerprint: [u8; 4],
}

/// The writer's connection, of the present schema.
pub(super) fn open(path: &Path, network: Network, fingerprint: [u8; 4]) -> Result<Connection, StoreError> {
    open_with(path, Identity { network, fingerprint }, MIGRATIONS)
}

fn open_with(path: &Path, identity: Identity, migrations: &[&str]) -> Result<Connection, StoreError> {
    inspect(path, identity, migrations.len())?;
    private_file(path)?;
    let mut connection = connect(path).map_err(StoreError::sqlite(OPEN))?;
    migrate(&mut connection, path, identity, migrations)?;
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    Ok(connection)
}

/// Looks at an existing database without changing it, and refuses what is not to be opened.
fn inspect(path: &Path, wanted: Identity, known: usize) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(file) if file.len() > 0 => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("look at", path)(error)),
    }
    let foreign = |why: &str| StoreError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(StoreError::sqlite(OPEN))?;
    connection.busy_timeout(BUSY).map_err(StoreError::sqlite(OPEN))?;
    let version = match connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)) {
        Ok(version) => version,
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(foreign("it is not an SQLite file"));
        }
        Err(error) => return Err(StoreError::sqlite(OPEN)(error)),
    };
    if version == 0 {
        // Made, but the power went before its first transaction; or not ours.
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
            .map_err(StoreError::sqlite(OPEN))?;
        return if tables == 0 { Ok(()) } else { Err(foreign("it has tables, but no version")) };
    }
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(StoreError::sqlite(OPEN))?;
    if application != APPLICATION_ID {
        return Err(foreign("another program made it"));
    }
    let found = u32::try_from(version).map_err(|_| foreign("its version is out of range"))?;
    if found as usize > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: known as u32 });
    }
    let (network, fingerprint) = connection
        .query_row("SELECT network, fingerprint FROM identity", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 4]>(1)?))
        })
        .map_err(StoreError::sqlite(OPEN))?;
    if network != wanted.network.to_string() {
        return Err(StoreError::WrongNetwork {
            path: path.to_owned(),
            found: network,
            wanted: wanted.network.to_string(),
        });
    }
    if fingerprint != wanted.fingerprint {
        let hex = |bytes: [u8; 4]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(StoreError::WrongSeed {
            path: path.to_owned(),
            found: hex(fingerprint),
            wanted: hex(wanted.fingerprint),
        });
    }
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    // Of effect only before the first table.
    connection.pragma_update(None, "page_size", 1024)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Once in the database, a log that a burst made long is cut to this.
    connection.pragma_update(None, "journal_size_limit", 8 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Brings the schema up to date in one transaction, after a copy of what was there.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    identity: Identity,
    migrations: &[&str],
) -> Result<(), StoreError> {
    const WHAT: &str = "bring the database up to date (it is as it was before)";
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(StoreError::sqlite(WHAT))?;
    if version == migrations.len() {
        return Ok(());
    }
    if version > 0 {
        copy_before(connection, path, version)?;
    }
    let run = |tx: &Transaction<'_>| -> rusqlite::Result<()> {
        for migration in migrations.iter().skip(version) {
            tx.execute_batch(migration)?;
        }
        if version == 0 {
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.execute(
                "INSERT INTO identity (one, network, fingerprint) VALUES (1, ?1, ?2)",
                (identity.network.to_string(), identity.fingerprint),
            )?;
        }
        tx.pragma_update(None, "user_version", migrations.len())
    };
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::sqlite(WHAT))?;
    run(&tx).and_then(|()| tx.commit()).map_err(StoreError::sqlite(WHAT))
}

/// Copies the database as it is before a migration. The copy is for a developer to look at when a migration went
/// wrong; it must not be run, for its channel states are old.
fn copy_before(connection: &Connection, path: &Path, version: usize) -> Result<(), StoreError> {
    let made = PathBuf::from(format!("{}.version-{version}", path.display()));
    let partial = PathBuf::from(format!("{}.partial", made.display()));
    match std::fs::remove_file(&partial) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("remove the unfinished copy", &partial)(error)),
    }
    private_file(&partial)?;
    let name = partial.to_str().ok_or_else(|| {
        StoreError::broken("copy the database before the update", "the path of the data directory is not UTF-8")
    })?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(StoreError::sqlite("copy the database before the update"))?;
    std::fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &partial))?;
    std::fs::rename(&partial, &made).map_err(StoreError::io("name the copy", &made))?;
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { network: Network::Regtest, fingerprint: [1, 2, 3, 4] };
    const SECOND: &str = "ALTER TABLE meta ADD COLUMN note TEXT; INSERT INTO meta VALUES ('two', x'02', 'new')";

    fn keys(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("SELECT key FROM meta ORDER BY key").unwrap();
        let keys = statement.query_map([], |row| row.get(0)).unwrap();
        keys.map(|key| key.unwrap()).collect()
    }

    fn version_one(dir: &Path) -> PathBuf {
        let path = dir.join("lightnode.db");
        let connection = open_with(&path, IDENTITY, MIGRATIONS).unwrap();
        connection.execute("INSERT INTO meta VALUES ('one', x'01')", []).unwrap();
        path
    }

    #[test]
    fn a_migration_keeps_what_was_there_and_leaves_a_copy_of_the_old_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = version_one(dir.path());
        let connection = open_with(&path, IDENTITY, &[MIGRATIONS[0], SECOND]).unwrap();
        assert_eq!(keys(&connection), ["one", "two"]);
        let copy = Connection::open(dir.path().join("lightnode.db.version-1")).unwrap();
        assert_eq!(keys(&copy), ["one"]);
        drop(connection);
        // Done once.
        assert_eq!(keys(&open_with(&path, IDENTITY, &[MIGRATIONS[0], SECOND]).unwrap()), ["one", "two"]);
    }

    #[test]
    fn a_failing_migration_leaves_the_database_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = version_one(dir.path());
        let broken = format!("{SECOND}; INSERT INTO no_such_table VALUES (1)");
        for _ in 0..2 {
            let error = open_with(&path, IDENTITY, &[MIGRATIONS[0], &broken]).unwrap_err();
            assert!(error.to_string().contains("it is as it was before"), "{error}");
        }
        assert_eq!(keys(&open_with(&path, IDENTITY, MIGRATIONS).unwrap()), ["one"]);
    }

    #[test]
    fn a_fresh_database_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        version_one(dir.path());
        let copies = std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("version"));
        assert_eq!(copies.count(), 0);
    }
}
