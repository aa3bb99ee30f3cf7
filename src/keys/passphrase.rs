//! What opens an encrypted seed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::SeedError;

/// A passphrase, byte for byte as it was typed; without the end of the line. Wiped from memory when dropped, and never
/// shown by `Debug`.
///
/// Its bytes are not normalised: an `é` that one system writes as one character and another as two are two
/// passphrases. Plain letters, digits and blanks are the same everywhere.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Bytes of a new one, at least. Less is guessed in no time, whatever the function that hides it.
    pub const SHORTEST: usize = 8;
    /// Bytes, at most: what is longer is a file given by mistake.
    pub const LONGEST: usize = 1024;

    /// One that is to protect a seed from now on.
    pub fn new(text: &str) -> Result<Self, SeedError> {
        let given = Self::given(text);
        let length = given.bytes().len();
        if (Self::SHORTEST..=Self::LONGEST).contains(&length) {
            Ok(given)
        } else {
            Err(SeedError::PassphraseLength { length })
        }
    }

    /// One that may or may not open a seed.
    pub fn given(text: &str) -> Self {
        let text = text.strip_suffix('\n').unwrap_or(text);
        Self(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
    }

    /// The first line of a file that only its owner may read.
    pub fn from_file(path: &Path) -> Result<Self, SeedError> {
        let failed = |why: String| SeedError::PassphraseFile { path: path.to_owned(), why };
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let mode = file.metadata().map_err(|error| failed(error.to_string()))?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(failed(format!("other users may read it (mode {mode:o}); chmod 600 it")));
        }
        let mut text = Zeroizing::new(String::with_capacity(2 * Self::LONGEST));
        let most = u64::try_from(2 * Self::LONGEST).unwrap_or(u64::MAX);
        file.take(most).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(failed("its first line is empty".to_owned()));
        }
        Ok(Self::given(line))
    }

    /// A copy of it, for who has to hand it on.
    pub fn text(&self) -> Zeroizing<String> {
        self.0.clone()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}
