//! What can go wrong with the database, what it means for the money, and what to do.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

/// A failure of the store. Cloned to every job of a commit that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the directory.
    #[error(
        "{} is in use by another lightnode{}. Two nodes on one database would lose money, so this one does not start: \
         stop the other one first (lightnode stop), or give this one its own data directory",
        dir.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The holder, as it wrote itself down.
        pid: Option<u32>,
    },
    /// The database belongs to another network.
    #[error(
        "{} holds a node of network {found}, but this one is configured for {wanted}. Nothing was changed: set \
         network = \"{found}\" or choose another data directory", path.display()
    )]
    WrongNetwork {
        /// The database.
        path: PathBuf,
        /// Network of the database.
        found: String,
        /// Network asked for.
        wanted: String,
    },
    /// The database belongs to another seed.
    #[error(
        "{} belongs to the seed with fingerprint {found}, but the seed here has {wanted}. Its channels can only be used \
         with its own seed. Nothing was changed: put that seed back, or move the database away", path.display()
    )]
    WrongSeed {
        /// The database.
        path: PathBuf,
        /// Fingerprint in the database, hex.
        found: String,
        /// Fingerprint of the seed, hex.
        wanted: String,
    },
    /// A newer lightnode wrote it.
    #[error(
        "{} was written by a newer lightnode ({}schema {found}; this one knows {known}). Nothing was changed, the money is \
         safe: start the newer version again. Do not put an old copy of the database back: an old channel state can cost \
         the channel's whole balance", path.display(), by.as_ref().map(|by| format!("{by}, ")).unwrap_or_default()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
        /// The version of the program, if it has signed.
        by: Option<String>,
    },
    /// An older lightnode wrote it, and it is only to be looked at.
    #[error(
        "{} is of an older schema ({found}; the present one is {known}). Nothing was changed: `lightnode run` brings it up \
         to date, after a copy; then it can be checked", path.display()
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The present one.
        known: u32,
    },
    /// Not as it was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Not a database of ours.
    #[error("{} is not a lightnode database ({why}). Nothing was changed: move it away or choose another data directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What gives it away.
        why: String,
    },
    /// The file system refused.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// The attempt.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Arc<std::io::Error>,
    },
    /// SQLite refused.
    #[error("could not {what}: {source}{}", advice(source))]
    Sqlite {
        /// The attempt.
        what: &'static str,
        /// The cause.
        source: Arc<rusqlite::Error>,
    },
    /// The disk has failed, and has not been well since.
    #[error("could not {what}: the node is halted, for its disk takes nothing ({why})")]
    Halted {
        /// The attempt.
        what: &'static str,
        /// What the disk refused.
        why: String,
    },
    /// What was read, or was to be written, breaks a rule of the store.
    #[error("could not {what}: {why}")]
    Broken {
        /// The attempt.
        what: &'static str,
        /// The broken rule.
        why: String,
    },
    /// The store is closed, or its writer has died.
    #[error("could not {what}: the database is closed (the node is stopping)")]
    Closed {
        /// The attempt.
        what: &'static str,
    },
}

impl StoreError {
    pub(super) fn sqlite(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { what, source: Arc::new(source) }
    }

    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source: Arc::new(source) }
    }

    pub(super) fn broken(what: &'static str, why: impl Into<String>) -> Self {
        Self::Broken { what, why: why.into() }
    }

    /// True when what lies on the disk is not what was written there.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Sqlite { source, .. } => by_damage(source),
            _ => false,
        }
    }

    /// True when it is the disk that refuses: the same may succeed when it is well again ([`super::Store::insist`]).
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => by_disk(source),
            Self::Halted { .. } => true,
            _ => false,
        }
    }
}

/// Pages that do not belong together.
pub(super) fn by_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The disk is full, busy, read-only or broken.
pub(super) fn by_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
        )
    )
}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            ". The disk is full. Nothing acknowledged is lost, and nothing goes on without being written: free some space; a \
             node that runs then goes on by itself"
        }
        Some(ErrorCode::SystemIoFailure) => {
            ". The disk does not take or give data. Nothing acknowledged is lost as long as the disk keeps what it has: look \
             at the kernel log (dmesg); replace a failing card with the node stopped. If the disk recovers, a node that \
             runs goes on by itself"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            ". Look at the owner and the mode of the data directory, and whether the disk was remounted read-only"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ". The file is damaged. Do not start with an older copy: an old channel state can cost the channel's whole \
             balance. Keep the file, and see “recovery” in the README"
        }
        _ => "",
    }
}
