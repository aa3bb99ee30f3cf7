//! Space kept for the end: on a full disk the node must still be able to write its last states and close its database.
//!
//! A file of [`SIZE`] bytes that the file system has really set aside. It is there as long as the node runs, also while
//! the node is halted for want of space; it goes when the node closes, and is made again by the next start.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;

use super::StoreError;

/// The log at its longest is brought into the database with this, and the last states of many channels find room.
const SIZE: u64 = 8 << 20;

pub(super) struct Reserve(PathBuf);

impl Reserve {
    pub(super) fn of(dir: &Path) -> Self {
        Self(dir.join("reserve"))
    }

    /// Sets the space aside, unless it is.
    pub(super) fn hold(&self) -> Result<(), StoreError> {
        let held = self.allocate();
        if held.is_err() {
            // Half a reserve is of no use, and somebody may need the space.
            let _ = fs::remove_file(&self.0);
        }
        held.map_err(StoreError::io("set 8 MB aside, with which to close in order on a full disk, in", &self.0))
    }

    fn allocate(&self) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
        match file.allocate(SIZE) {
            // Not every file system can promise; then it is given something to keep.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                if file.metadata()?.len() < SIZE {
                    let zeros = [0; 1 << 16];
                    (0..SIZE / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))?;
                }
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Gives it free.
    pub(super) fn release(&self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the reserve could not be given free"),
        }
    }
}
