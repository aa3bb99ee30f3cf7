//! The seed's file: 0600, never overwritten by a new seed, replaced in one step by another form of the same one.
//!
//! What can be promised: at every instant `seed` is the whole old form or the whole new one, and after a change no
//! file holds the old. Where an unencrypted form is replaced, its bytes are overwritten before they are given back to the
//! file system. What cannot be promised: that an SD card, an SSD, a journal, a snapshot or a backup keeps none of
//! them. Whoever fears for words that once lay on a disk in the clear makes a new seed and moves the coins.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;
use zeroize::Zeroizing;

use super::error::io;
use super::{SEED_FILE, SeedError};
use crate::crash::{self, Point};

/// A form that is not complete yet.
const UNFINISHED: &str = "seed.new";
/// The longest form has some 300 bytes.
const MOST: u64 = 4096;

/// True when `dir` has a seed file, readable or not.
pub(super) fn exists(dir: &Path) -> Result<bool, SeedError> {
    let path = dir.join(SEED_FILE);
    path.try_exists().map_err(io("look for", &path))
}

/// Its text. Refuses a file that others may read.
pub(super) fn read(dir: &Path) -> Result<(PathBuf, Zeroizing<String>), SeedError> {
    let path = dir.join(SEED_FILE);
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => SeedError::Missing(path.clone()),
        _ => io("open", &path)(error),
    })?;
    let mode = file.metadata().map_err(io("look at", &path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SeedError::Exposed { path, mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize));
    file.take(MOST).read_to_string(&mut text).map_err(io("read", &path))?;
    if text.trim().is_empty() {
        return Err(SeedError::Empty(path));
    }
    Ok((path, text))
}

/// Never over an existing file; file and name are synced, so that no coin is received before the words are safe. A power
/// cut leaves none or a whole one.
pub(super) fn create(dir: &Path, text: &str) -> Result<(), SeedError> {
    let change = Change::begin(dir)?;
    // Whoever makes one holds the same right.
    if exists(dir)? {
        return Err(SeedError::Exists(dir.join(SEED_FILE)));
    }
    change.put(text)
}

/// The right to replace the file of a directory, held by one at a time.
pub(super) struct Change {
    dir: PathBuf,
    _held: File,
}

impl Change {
    /// Takes it, and tidies up after a change that a power cut has stopped.
    pub(super) fn begin(dir: &Path) -> Result<Self, SeedError> {
        let path = dir.join(SEED_FILE);
        let held = File::open(dir).map_err(io("open the directory of", &path))?;
        if !FileExt::try_lock_exclusive(&held).map_err(io("lock the directory of", &path))? {
            return Err(SeedError::Busy(path));
        }
        let change = Self { dir: dir.to_owned(), _held: held };
        change.tidy()?;
        Ok(change)
    }

    /// The unfinished form may be the words in the clear.
    fn tidy(&self) -> Result<(), SeedError> {
        let path = self.dir.join(UNFINISHED);
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => {
                fs::remove_file(&path).map_err(io("remove", &path))?;
                overwrite(file).map_err(io("overwrite", &path))?;
                sync(&self.dir)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io("open", &path)(error)),
        }
    }

    /// Puts `text` in the place of the present form.
    pub(super) fn replace(self, text: &str) -> Result<(), SeedError> {
        let path = self.dir.join(SEED_FILE);
        let old = OpenOptions::new().write(true).open(&path).map_err(io("open", &path))?;
        self.put(text)?;
        overwrite(old).map_err(io("overwrite the old form of", &path))?;
        crash::passes(Point::SeedWiped);
        Ok(())
    }

    /// Written beside, synced, and given its name.
    fn put(&self, text: &str) -> Result<(), SeedError> {
        let (path, fresh) = (self.dir.join(SEED_FILE), self.dir.join(UNFINISHED));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(io("create", &fresh))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &fresh))?;
        crash::passes(Point::SeedWritten);
        fs::rename(&fresh, &path).map_err(io("replace", &path))?;
        sync(&self.dir)?;
        crash::passes(Point::SeedReplaced);
        Ok(())
    }
}

/// Removes what a change that was stopped by a power cut has left; without a word when there is nothing, or when a
/// change is going on.
pub(super) fn tidy(dir: &Path) -> Result<(), SeedError> {
    match Change::begin(dir) {
        Ok(_) | Err(SeedError::Busy(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn overwrite(mut file: File) -> std::io::Result<()> {
    let length = usize::try_from(file.metadata()?.len().min(MOST)).unwrap_or(0);
    // Another name for it is a copy that somebody wanted.
    if file.metadata()?.nlink() > 0 {
        return Ok(());
    }
    file.rewind()?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

fn sync(dir: &Path) -> Result<(), SeedError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of", &dir.join(SEED_FILE)))
}
