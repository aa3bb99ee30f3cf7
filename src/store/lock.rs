//! The directory and its lock: one process for one database.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use fs4::fs_std::FileExt;

use super::StoreError;

/// Held as long as the database is open. The kernel gives it free when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes the directory (0700) when it is not there, and takes its lock.
    ///
    /// A directory that exists keeps its mode: a service manager may have given its group a way to the socket. The
    /// files in it are ours alone (0600).
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(StoreError::io("make the data directory", dir))?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("open the lock file", &path))?;
        let free = FileExt::try_lock_exclusive(&file).map_err(StoreError::io("lock", &path))?;
        if !free {
            let mut holder = String::new();
            // Who holds it is a courtesy; that it is held is the fact.
            let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
            return Err(StoreError::InUse { dir: dir.to_owned(), pid });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(StoreError::io("write the lock file", &path))?;
        Ok(Self { _file: file })
    }
}

/// Makes an empty file of mode 0600 if there is none, and takes rights of others from one that has them.
pub(super) fn private_file(path: &Path) -> Result<(), StoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("open the database", path))?;
    let mode = file.metadata().map_err(StoreError::io("look at", path))?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(StoreError::io("make private", path))?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync the directory", dir))
}
