//! The copy that is made before a migration.
//!
//! It is there for the case that the new version cannot use what it made of the database: then the old version can be
//! given its old database back, as long as nothing has run on the new one since. That is why it goes with the first good
//! start after the one that made it: from then on its channel states are old, and running it would cost money.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::super::StoreError;
use super::super::lock::{private_file, sync_dir};

const COPY: &str = "copy the database before the update";
const REMOVE: &str = "remove the copy from before the update";
/// Between the database's name and the version of the copy.
const MARK: &str = ".version-";

/// Copies the database as it is; durable when it returns.
pub(super) fn copy_before(connection: &Connection, path: &Path, version: usize) -> Result<(), StoreError> {
    let made = PathBuf::from(format!("{}{MARK}{version}", path.display()));
    let partial = PathBuf::from(format!("{}.partial", made.display()));
    remove(&partial)?;
    private_file(&partial)?;
    let name =
        partial.to_str().ok_or_else(|| StoreError::broken(COPY, "the path of the data directory is not UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(StoreError::sqlite(COPY))?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &partial))?;
    fs::rename(&partial, &made).map_err(StoreError::io("name the copy", &made))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Removes all copies of this database, finished or not. True when there was one.
pub(in crate::store) fn drop_copies(path: &Path) -> Result<bool, StoreError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(false);
    };
    let prefix = format!("{name}{MARK}");
    let mut found = false;
    for entry in fs::read_dir(dir).map_err(StoreError::io(REMOVE, dir))? {
        let entry = entry.map_err(StoreError::io(REMOVE, dir))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            remove(&entry.path())?;
            found = true;
        }
    }
    if found {
        sync_dir(dir)?;
    }
    Ok(found)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io(REMOVE, path)(error)),
        _ => Ok(()),
    }
}
