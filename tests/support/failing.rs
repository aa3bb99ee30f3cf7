//! A disk that fails under a daemon, on command: the real binary with a small library loaded before the system's.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::daemon::Daemon;

/// How the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No file can grow.
    Full,
    /// Remounted read-only, as the kernel does with a broken file system.
    ReadOnly,
    /// Every write is an I/O error.
    Broken,
}

/// The disk of one daemon.
pub(crate) struct Disk(File);

impl Disk {
    /// Lies under the daemon from its next start on, and is well.
    pub(crate) fn under(daemon: &mut Daemon) -> Self {
        let path = daemon.folder().with_extension("disk");
        fs::write(&path, [0; 24]).expect("the test's own folder");
        daemon.surround("LD_PRELOAD", library());
        daemon.surround("DISK_ORDER", &path);
        daemon.surround("DISK_FOLDER", daemon.folder().to_path_buf());
        Self(OpenOptions::new().read(true).write(true).open(path).expect("just written"))
    }

    /// From now on it fails.
    pub(crate) fn fail(&self, failure: Failure) {
        self.set(1, 0);
        self.set(0, failure as i64 + 1);
    }

    /// From now on it is well.
    pub(crate) fn heal(&self) {
        self.set(0, 0);
    }

    /// How often it has refused something.
    pub(crate) fn refusals(&self) -> i64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 16).expect("three numbers");
        i64::from_ne_bytes(bytes)
    }

    fn set(&self, field: u64, value: i64) {
        self.0.write_all_at(&value.to_ne_bytes(), 8 * field).expect("the test's own folder");
    }
}

/// Compiled once for each test binary that needs it.
fn library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/failing.c");
        let (made, place) = (home.join(format!("failing-{}.so", std::process::id())), home.join("failing.so"));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = Command::new(compiler).args(["-O1", "-shared", "-fPIC", "-o"]).args([&made, &source]).status();
        assert!(status.is_ok_and(|status| status.success()), "a C compiler is needed (set CC)");
        // Another process may be doing the same.
        fs::rename(&made, &place).expect("cargo's folder for tests");
        place
    });
    &LIBRARY
}
