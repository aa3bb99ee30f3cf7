//! Why there is no seed, or no new one.

use std::path::{Path, PathBuf};

/// Why there is no seed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// There is one already.
    #[error("{} exists already and is never overwritten: without it its coins are lost. Choose another data directory, or move the file to a safe place", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no seed at {}. Make one with `lightnode init`, or bring yours back with `lightnode init --restore`", .0.display())]
    Missing(PathBuf),
    /// Others may read it.
    #[error("{} can be read by other users of this machine (mode {mode:o}). If one of them is not to be trusted, move the coins to a new seed. Then: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It was made, and the power went before the words were in it.
    #[error("{} is empty: its making was interrupted, and no coin was ever received with it. Remove the file and start again", .0.display())]
    Empty(PathBuf),
    /// An encrypted seed that is not as it was written.
    #[error("{} is not as it was written ({why}). Its coins are not lost as long as you have the 24 words: move the file away and bring the seed back with `lightnode init --restore`, in the same data directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The passphrase does not open the seed.
    #[error("this passphrase does not open the seed")]
    WrongPassphrase,
    /// The seed is encrypted and no passphrase was given.
    #[error("the seed is encrypted: its passphrase is needed")]
    Locked,
    /// Not fit to protect anything, or nothing that a person can type.
    #[error(
        "a passphrase has {} to {} bytes, here are {length}",
        super::Passphrase::SHORTEST,
        super::Passphrase::LONGEST
    )]
    PassphraseLength {
        /// In bytes.
        length: usize,
    },
    /// A file with a passphrase cannot be used.
    #[error("the passphrase file {} cannot be used: {why}", path.display())]
    PassphraseFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The memory for the work on a passphrase is not there.
    #[error("there is not enough memory to work on the passphrase ({0} MiB)")]
    Memory(usize),
    /// A word is not of the list.
    #[error("word {position} is not a BIP39 word: {word:?}{}", nearest.map(|near| format!(" (did you mean “{near}”?)")).unwrap_or_default())]
    UnknownWord {
        /// Counted from 1.
        position: usize,
        /// As given.
        word: String,
        /// The closest word of the list.
        nearest: Option<&'static str>,
    },
    /// Not 12, 15, 18, 21 or 24 words.
    #[error("a seed has 24 words (12, 15, 18 and 21 are taken too), here are {0}")]
    WordCount(usize),
    /// All words exist, but not in this combination.
    #[error(
        "the words do not fit together (their checksum is wrong): one of them is another word of the list, or two are swapped"
    )]
    Checksum,
    /// The system gave no randomness.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// Somebody else changes the passphrase at this moment.
    #[error("{} is being changed by another command", .0.display())]
    Busy(PathBuf),
    /// The file system refused.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// The attempt.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SeedError {
    let path = path.to_owned();
    move |source| SeedError::Io { what, path, source }
}
