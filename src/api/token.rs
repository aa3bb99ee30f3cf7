//! The token that HTTP over TCP asks for.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Random bytes of a new token.
const BYTES: usize = 32;
/// A shorter one, written by hand, could be guessed.
const SHORTEST: usize = 32;

/// What a client must show in `Authorization: Bearer …`.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    /// Reads the token file, or makes it (0600) with a random token.
    pub(super) fn load_or_create(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::check(path, Zeroizing::new(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn check(path: &Path, text: Zeroizing<String>) -> io::Result<Self> {
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            let why = "other users may read it; make a new one (remove the file) and it will be private";
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let token = text.trim();
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!("a token has at least {SHORTEST} visible characters; remove the file to get a new one");
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|error| io::Error::other(error.to_string()))?;
        let mut token = Zeroizing::new(String::with_capacity(2 * BYTES));
        for byte in bytes.iter() {
            for digit in [byte >> 4, byte & 15] {
                token.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(token.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(Self(token))
    }

    /// Compares an `Authorization` header, in a time that depends on the lengths only.
    pub(super) fn admits(&self, header: Option<&[u8]>) -> bool {
        let Some((scheme, shown)) = header.and_then(|header| header.split_at_checked(7)) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case(b"bearer ") || shown.len() != self.0.len() {
            return false;
        }
        let difference = shown.iter().zip(self.0.as_bytes()).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_token_is_made_private_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        let made = Token::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(made.0.len(), 64);
        assert_eq!(*Token::load_or_create(&path).unwrap().0, *made.0);
        assert_ne!(*Token::load_or_create(&dir.path().join("other")).unwrap().0, *made.0);
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = Token(Zeroizing::new("0123456789abcdef0123456789abcdef".into()));
        let admits = |header: &str| token.admits(Some(header.as_bytes()));
        assert!(admits("Bearer 0123456789abcdef0123456789abcdef"));
        assert!(admits("bearer 0123456789abcdef0123456789abcdef"));
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdef0123456789abcdeF",
            "Bearer 0123456789abcdef",
            "Basic 0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdef0",
        ] {
            assert!(!admits(header), "{header}");
        }
        assert!(!token.admits(None));
    }

    #[test]
    fn a_token_that_others_can_read_or_guess_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.token");
        fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::load_or_create(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Token::load_or_create(&path).is_ok());
        fs::write(&path, "secret\n").unwrap();
        assert!(Token::load_or_create(&path).is_err());
    }
}
