//! Floor 1: files that are replaced whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::crash::{self, Point};

/// Replaces a file whole, readable by its owner only; durable when it returns. A power cut leaves the old one or the new
/// one, and perhaps `<path>.partial`.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = OsString::from(path);
    beside.push(".partial");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    crash::passes(Point::FileWritten);
    fs::rename(&beside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()?;
    crash::passes(Point::FileReplaced);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        for bytes in [&b"long and old"[..], b"new"] {
            replace(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something is left beside it");
        assert!(replace(&dir.path().join("no/such/place"), b"x").is_err());
    }
}
