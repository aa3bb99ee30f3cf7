//! A store that is only looked at: no byte of any file changes, and nothing can be written.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bitcoin::Network;
use rusqlite::config::DbConfig;

use super::health::Health;
use super::lock::DirLock;
use super::reader::Readers;
use super::writer::Writer;
use super::{DATABASE, Inner, Store, StoreError, kv, schema};

impl Store {
    /// The database in `dir` for looking at; `None` when there is none. Refused as by [`Store::open`], and when it is of
    /// an older schema: that one is brought up to date by `run`.
    ///
    /// Every write fails with [`StoreError::Closed`]. One reader at a time.
    pub fn look(dir: &Path, network: Network, seed_fingerprint: [u8; 4]) -> Result<Option<Self>, StoreError> {
        let lock = DirLock::look(dir)?;
        let path = dir.join(DATABASE);
        let Some(seen) = schema::look(&path)? else { return Ok(None) };
        seen.check_present(&path, schema::Identity { network, fingerprint: seed_fingerprint })?;
        let readers = Readers::only(seen.connection, path.clone());
        let (writer, kv) = (Writer::absent(), Arc::new(kv::Held::default()));
        let health = Arc::new(Health::new());
        Ok(Some(Self(Arc::new(Inner { readers, writer, kv, health, lock: Mutex::new(lock), path, migrated: false }))))
    }

    /// What is wrong with the pages of the database, in words; `None`: nothing. Reads all of them, and nothing else of the
    /// node may have begun: where something is wrong, not a byte of the file changes any more, also not at the end.
    pub fn damage(&self) -> Result<Option<String>, StoreError> {
        let looked = self.read(|connection| {
            connection
                .prepare("PRAGMA quick_check(5)")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        let wrong = match looked {
            Ok(lines) => lines.into_iter().filter(|line| line != "ok").collect(),
            Err(error) if error.is_damage() => vec![error.to_string()],
            Err(error) => return Err(error),
        };
        if wrong.is_empty() {
            return Ok(None);
        }
        // The log stays beside it as it is.
        self.write("leave the log", |tx| {
            tx.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
        })?;
        Ok(Some(wrong.join("; ")))
    }

    /// What SQLite finds wrong with the file, and rows that refer to nothing; empty when all is well. Reads every page.
    pub fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut wrong: Vec<String> = connection
                .prepare("PRAGMA integrity_check(20)")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            wrong.retain(|line| line != "ok");
            let mut orphans = connection.prepare("PRAGMA foreign_key_check")?;
            let orphans = orphans.query_map([], |row| row.get::<_, String>(0))?;
            for table in orphans.take(20) {
                wrong.push(format!("a row of table {} refers to one that is not there", table?));
            }
            Ok(wrong)
        })
    }
}
