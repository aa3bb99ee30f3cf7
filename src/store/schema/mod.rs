//! Opening: whose database it is, its settings, and forward-only migrations.
//!
//! Rules:
//!
//! - What is not to be opened (of a newer schema, another network, another seed, another program) is refused before one
//!   byte of any file changes, the log and its index included ([`look`]).
//! - A schema goes forwards only, all steps in one transaction, after a durable copy of what was there ([`copies`]).
//! - A migration is never edited once a release has it. Each has sample rows of its version in `tests.rs`, which a test
//!   brings to the newest schema; `tests/fixtures` holds whole databases that released versions have written.
//!
//! Decision: pages of 1 kB, and the log is brought into the database every 4 MB. A commit writes whole pages, and most of
//! ours change a few hundred bytes in two or three places: against pages of 4 kB a payment writes a quarter less (as the
//! disk sees it) and a half less into the log. The cost is more pages for the large values, which are written seldom.
//!
//! Decision: the log's index is kept in memory ([`VFS`]), for all connections of this process and no other. As a file that is
//! mapped into memory the system writes it, too, 16 to 32 kB after each commit of an idle node, and nobody ever reads that
//! again. The cost: other programs cannot open the database while the node runs; the directory's lock says the same.

mod copies;
mod look;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use bitcoin::Network;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::StoreError;
use super::lock::{close_if_there, private_file, sync_dir};

pub(super) use self::copies::drop_copies;
pub(super) use self::look::look;

/// How long a connection waits for another one (a person with the sqlite3 shell, say).
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// "LNOD": says in the file's header whose format it is.
const APPLICATION_ID: i32 = 0x4c4e_4f44;

/// The migrations, in order; number `n` of them brings `user_version` from `n - 1` to `n`. Never edited once
/// released, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
    include_str!("../migrations/0005.sql"),
];

/// The newest schema known here.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;

/// As it signs a database.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

const OPEN: &str = "open the database";

/// SQLite's name for the way to files that keeps the log's index in memory.
pub(super) const VFS: &str = "unix-excl";

/// Whom a database belongs to.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    pub(super) network: Network,
    pub(super) fingerprint: [u8; 4],
}

/// The writer's connection, of the present schema.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// This opening brought the schema up to date, and a copy of what was before lies beside the database.
    pub(super) migrated: bool,
}

pub(super) fn open(path: &Path, identity: Identity) -> Result<Opened, StoreError> {
    open_with(path, identity, MIGRATIONS)
}

fn open_with(path: &Path, identity: Identity, migrations: &[&str]) -> Result<Opened, StoreError> {
    if let Some(seen) = look(path)? {
        seen.check(path, identity, migrations.len())?;
    }
    private_file(path)?;
    for more in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(more);
        close_if_there(Path::new(&name))?;
    }
    let mut connection = connect(path).map_err(StoreError::sqlite(OPEN))?;
    let migrated = migrate(&mut connection, path, identity, migrations)?;
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    Ok(Opened { connection, migrated })
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, VFS)?;
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

/// Brings the schema up to date in one transaction, after a copy of what was there. True when there was something to
/// bring up to date.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    identity: Identity,
    migrations: &[&str],
) -> Result<bool, StoreError> {
    const WHAT: &str = "bring the database up to date (it is as it was before)";
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(StoreError::sqlite(WHAT))?;
    if version == migrations.len() && signed(connection, version).map_err(StoreError::sqlite(WHAT))? {
        return Ok(false);
    }
    let migrated = version > 0 && version < migrations.len();
    if migrated {
        copies::copy_before(connection, path, version)?;
        tracing::warn!(
            from = version,
            to = migrations.len(),
            "the database is brought up to date; a copy of what was before lies beside it until the next good start"
        );
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
        sign(tx, migrations.len())?;
        tx.pragma_update(None, "user_version", migrations.len())
    };
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::sqlite(WHAT))?;
    run(&tx).and_then(|()| tx.commit()).map_err(StoreError::sqlite(WHAT))?;
    Ok(migrated)
}

/// True when the last program that signed the database is this one, with this schema.
fn signed(connection: &Connection, schema: usize) -> rusqlite::Result<bool> {
    let last = connection
        .query_row("SELECT version, schema FROM program ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, usize>(1)?))
        })
        .optional()?;
    Ok(last == Some((PROGRAM.to_owned(), schema)))
}

/// So that an older program that has to refuse the database can say which one to start instead.
fn sign(tx: &Transaction<'_>, schema: usize) -> rusqlite::Result<()> {
    tx.execute("INSERT INTO program (version, schema) VALUES (?1, ?2)", (PROGRAM, schema)).map(|_| ())
}
