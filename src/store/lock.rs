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
    /// A directory that exists keeps its mode: a service manager may have given its group a way to the socket. But
    /// nobody else may write in it: who can may put other files in the place of ours. The files in it are ours alone
    /// (0600). What is too open is mended, with a word in the log: nothing secret is lost by it that was not lost before.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(StoreError::io("make the data directory", dir))?;
        let mode = std::fs::metadata(dir).map_err(StoreError::io("look at", dir))?.permissions().mode() & 0o7777;
        if mode & 0o022 != 0 {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode & !0o022))
                .map_err(StoreError::io("take the rights of other users from", dir))?;
            tracing::warn!("{} could be written to by other users (mode {mode:o}); it no longer can", dir.display());
        }
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
            return Err(StoreError::InUse { dir: dir.to_owned(), pid: holder(&mut file) });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(StoreError::io("write the lock file", &path))?;
        Ok(Self { _file: file })
    }
}

impl DirLock {
    /// For who only looks: others may look, too, and nobody may write. `None` when there never was a lock. Writes
    /// nothing.
    pub(super) fn look(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join("lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open the lock file", &path)(error)),
        };
        if FileExt::try_lock_shared(&file).map_err(StoreError::io("lock", &path))? {
            return Ok(Some(Self { _file: file }));
        }
        Err(StoreError::InUse { dir: dir.to_owned(), pid: holder(&mut file) })
    }
}

/// Who holds the lock is a courtesy; that it is held is the fact.
fn holder(file: &mut File) -> Option<u32> {
    let mut holder = String::new();
    file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok())
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
    close_to_others(path, &file)
}

/// Takes rights of others from a file that is there.
pub(super) fn close_if_there(path: &Path) -> Result<(), StoreError> {
    match File::open(path) {
        Ok(file) => close_to_others(path, &file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("open", path)(error)),
    }
}

fn close_to_others(path: &Path, file: &File) -> Result<(), StoreError> {
    let mode = file.metadata().map_err(StoreError::io("look at", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(StoreError::io("make private", path))?;
        tracing::warn!("{} could be read or written by other users (mode {mode:o}); it no longer can", path.display());
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync the directory", dir))
}
