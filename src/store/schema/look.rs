//! Looking at a database without changing a byte of its files.
//!
//! SQLite's rules (wal.html, c3ref/open.html, pragma.html#pragma_locking_mode):
//!
//! - Also a read-only connection makes or changes the log's index (`-shm`), and may make an empty log (`-wal`).
//! - With `immutable=1` it reads the database file alone, and touches nothing: right as long as the log is empty.
//! - In exclusive locking mode the index is kept in memory, and the log is read as it lies on the disk; that needs a
//!   connection that may write, and `SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE`, so that its end does not empty the log.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::super::StoreError;
use super::{APPLICATION_ID, BUSY, Identity, NEWEST, OPEN};

/// A database as it was found.
#[derive(Debug)]
pub(in crate::store) struct Seen {
    pub(in crate::store) connection: Connection,
    /// 1 and up.
    pub(in crate::store) schema: u32,
    pub(in crate::store) network: String,
    pub(in crate::store) fingerprint: [u8; 4],
}

/// Looks; `None` when there is no database yet, or one whose making was cut off before its first transaction. Refuses
/// what is not one of ours. The caller holds the directory's lock: nobody writes meanwhile.
pub(in crate::store) fn look(path: &Path) -> Result<Option<Seen>, StoreError> {
    if length(path)? == 0 {
        return Ok(None);
    }
    let foreign = |why: &str| StoreError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let connection = connect(path)?;
    let version = match connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)) {
        Ok(version) => version,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            let why =
                "it does not begin as a database does: its beginning is overwritten, or another file lies in its place";
            return Err(StoreError::Damaged { path: path.to_owned(), why: why.into() });
        }
        Err(error) => return Err(StoreError::sqlite(OPEN)(error)),
    };
    if version == 0 {
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
            .map_err(StoreError::sqlite(OPEN))?;
        return if tables == 0 { Ok(None) } else { Err(foreign("it has tables, but no version")) };
    }
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(StoreError::sqlite(OPEN))?;
    if application != APPLICATION_ID {
        return Err(foreign("another program made it"));
    }
    let schema = u32::try_from(version).map_err(|_| foreign("its version is out of range"))?;
    let (network, fingerprint) = connection
        .query_row("SELECT network, fingerprint FROM identity", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(StoreError::sqlite(OPEN))?;
    Ok(Some(Seen { connection, schema, network, fingerprint }))
}

impl Seen {
    /// Refuses what this program, with this network and seed, must not open.
    pub(in crate::store) fn check(&self, path: &Path, wanted: Identity, known: usize) -> Result<(), StoreError> {
        let path = path.to_owned();
        if self.schema as usize > known {
            let by = self.program().map_err(StoreError::sqlite(OPEN))?;
            return Err(StoreError::Newer { path, found: self.schema, known: NEWEST, by });
        }
        let (found, network) = (self.network.clone(), wanted.network.to_string());
        if found != network {
            return Err(StoreError::WrongNetwork { path, found, wanted: network });
        }
        if self.fingerprint != wanted.fingerprint {
            let hex = |bytes: [u8; 4]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let (found, wanted) = (hex(self.fingerprint), hex(wanted.fingerprint));
            return Err(StoreError::WrongSeed { path, found, wanted });
        }
        Ok(())
    }

    /// As [`Self::check`], and refuses an older schema, which looking cannot bring up to date.
    pub(in crate::store) fn check_present(&self, path: &Path, wanted: Identity) -> Result<(), StoreError> {
        self.check(path, wanted, NEWEST as usize)?;
        if self.schema < NEWEST {
            return Err(StoreError::Older { path: path.to_owned(), found: self.schema, known: NEWEST });
        }
        Ok(())
    }

    /// The version of lightnode that last wrote it, if it has signed.
    fn program(&self) -> rusqlite::Result<Option<String>> {
        let signs: bool = self.connection.query_row(
            "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'program'",
            [],
            |row| row.get(0),
        )?;
        if !signs {
            return Ok(None);
        }
        let last = "SELECT version FROM program ORDER BY seq DESC LIMIT 1";
        self.connection.query_row(last, [], |row| row.get(0)).optional()
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let log = {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        length(&PathBuf::from(name))?
    };
    let open = || -> rusqlite::Result<Connection> {
        if log == 0 {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            return Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(StoreError::sqlite(OPEN))
}

/// The path as a URI of SQLite: what is not plain is written as `%XX`.
fn immutable(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let escaped: String = path
        .as_os_str()
        .as_bytes()
        .iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("file:{escaped}?immutable=1")
}

/// Bytes; zero when there is no such file.
fn length(path: &Path) -> Result<u64, StoreError> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_marks_of_a_uri_is_still_the_same_path() {
        assert_eq!(immutable(Path::new("/a b/50%?#é/x.db")), "file:/a%20b/50%25%3F%23%C3%A9/x.db?immutable=1");
    }
}
