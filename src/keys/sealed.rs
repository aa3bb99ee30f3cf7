//! An encrypted seed: argon2id makes a key of the passphrase, XChaCha20-Poly1305 seals the words' entropy with it.
//!
//! ```text
//! lightnode encrypted seed 1
//! fingerprint ab81c108
//! argon2id m=65536 t=3 p=1
//! salt <32 hex digits>
//! nonce <48 hex digits>
//! sealed <98 hex digits>
//! ```
//!
//! Rules:
//!
//! - Salt and nonce are new each time. The lines above `sealed` are sealed with it: a changed one opens nothing.
//! - What a file asks for is bounded before it is worked on: 256 MiB, 16 passes, 4 lanes (RFC 9106 names 64 MiB and 3
//!   passes for small machines, which is what we write: half a second on a Raspberry Pi 4).
//! - The length of the words does not show: 33 bytes are sealed, the entropy's length and the entropy.
//! - The fingerprint is in the clear, as it is in the database: so a locked node knows whose database it has.
//!
//! Decision: RustCrypto's `argon2` and `chacha20poly1305`, pure Rust, maintained, wiping their keys. Rejected: age (a
//! format of its own for one secret of 32 bytes), ring's AEAD (does not wipe). Cost: some 60 kB of program.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use bip39::{Language, Mnemonic};
use bitcoin::hex::{DisplayHex, FromHex};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, Zeroizing};

use super::{Passphrase, Seed, SeedError};

/// The first line of the file.
pub(super) const TITLE: &str = "lightnode encrypted seed 1";

/// The entropy of 24 words, and its length before it.
const ENTROPY: usize = 32;
const PLAIN: usize = 1 + ENTROPY;
const TAG: usize = 16;

/// What one try of a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// Of what is written now.
    const PRESENT: Self = Self { kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The most that a file may ask for.
    const MOST: Self = Self { kib: 256 * 1024, passes: 16, lanes: 4 };

    fn is_bearable(self) -> bool {
        (1..=Self::MOST.lanes).contains(&self.lanes)
            && (8 * self.lanes..=Self::MOST.kib).contains(&self.kib)
            && (1..=Self::MOST.passes).contains(&self.passes)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut number = |name: &str| parts.next()?.strip_prefix(name)?.parse().ok();
        let cost = Self { kib: number("m=")?, passes: number("t=")?, lanes: number("p=")? };
        parts.next().is_none().then_some(cost)
    }
}

/// A seed that its passphrase opens.
#[derive(Clone, Debug)]
pub struct Sealed {
    path: PathBuf,
    /// The lines above `sealed`, byte for byte.
    head: String,
    fingerprint: [u8; 4],
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 24],
    sealed: [u8; PLAIN + TAG],
}

impl Sealed {
    /// Reads the text of a file. `path` is for words only.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, SeedError> {
        let damaged = |why| SeedError::Damaged { path: path.to_owned(), why };
        let mut lines = text.split_inclusive('\n');
        let mut head = String::new();
        let mut next = |name: &str, kept: bool| -> Option<String> {
            let line = lines.next()?;
            if kept {
                head.push_str(line);
            }
            line.strip_suffix('\n')?.strip_prefix(name).map(str::to_owned)
        };
        const FORM: &str = "a line is missing or malformed";
        let parsed = (|| {
            next(TITLE, true).filter(String::is_empty)?;
            let fingerprint = <[u8; 4]>::from_hex(&next("fingerprint ", true)?).ok()?;
            let cost = Cost::parse(&next("argon2id ", true)?)?;
            let salt = <[u8; 16]>::from_hex(&next("salt ", true)?).ok()?;
            let nonce = <[u8; 24]>::from_hex(&next("nonce ", true)?).ok()?;
            let sealed = Vec::from_hex(&next("sealed ", false)?).ok()?.try_into().ok()?;
            Some((fingerprint, cost, salt, nonce, sealed))
        })();
        let (fingerprint, cost, salt, nonce, sealed) = parsed.ok_or(damaged(FORM))?;
        if lines.next().is_some() {
            return Err(damaged("it goes on after its end"));
        }
        if !cost.is_bearable() {
            return Err(damaged("it asks for more memory or work than any lightnode writes"));
        }
        Ok(Self { path: path.to_owned(), head, fingerprint, cost, salt, nonce, sealed })
    }

    /// Names the seed.
    pub fn fingerprint(&self) -> [u8; 4] {
        self.fingerprint
    }

    /// The seed, if this is its passphrase. Takes the memory and the time that the file asks for: not for a thread
    /// that others wait for.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Seed, SeedError> {
        let key = key(passphrase, &self.salt, self.cost)?;
        let cipher = XChaCha20Poly1305::new((&*key).into());
        let payload = Payload { msg: &self.sealed, aad: self.head.as_bytes() };
        let plain = cipher.decrypt(XNonce::from_slice(&self.nonce), payload);
        let plain = Zeroizing::new(plain.map_err(|_| SeedError::WrongPassphrase)?);
        let damaged = |why| SeedError::Damaged { path: self.path.clone(), why };
        let entropy = plain.split_first().and_then(|(length, rest)| rest.get(..usize::from(*length)));
        let words = entropy.and_then(|entropy| Mnemonic::from_entropy_in(Language::English, entropy).ok());
        let seed = Seed::from_mnemonic(words.ok_or(damaged("what is sealed in it is no seed"))?);
        if seed.fingerprint() != self.fingerprint {
            return Err(damaged("its fingerprint is of another seed"));
        }
        Ok(seed)
    }
}

/// The text of a file that keeps `seed` under `passphrase`.
pub(super) fn seal(seed: &Seed, passphrase: &Passphrase) -> Result<String, SeedError> {
    seal_at(seed, passphrase, Cost::PRESENT)
}

pub(super) fn seal_at(seed: &Seed, passphrase: &Passphrase, cost: Cost) -> Result<String, SeedError> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    getrandom::fill(&mut salt).map_err(SeedError::Random)?;
    getrandom::fill(&mut nonce).map_err(SeedError::Random)?;
    let mut plain = Zeroizing::new([0; PLAIN]);
    let (mut entropy, length) = seed.words.to_entropy_array();
    plain[0] = u8::try_from(length).expect("24 words have 32 bytes of entropy");
    plain[1..=length].copy_from_slice(&entropy[..length]);
    entropy.zeroize();
    let Cost { kib, passes, lanes } = cost;
    let head = format!(
        "{TITLE}\nfingerprint {}\nargon2id m={kib} t={passes} p={lanes}\nsalt {}\nnonce {}\n",
        seed.fingerprint().as_hex(),
        salt.as_hex(),
        nonce.as_hex(),
    );
    let key = key(passphrase, &salt, cost)?;
    let payload = Payload { msg: &*plain, aad: head.as_bytes() };
    let sealed = XChaCha20Poly1305::new((&*key).into())
        .encrypt(XNonce::from_slice(&nonce), payload)
        .expect("33 bytes are not too long for the cipher");
    let mut text = head;
    writeln!(text, "sealed {}", sealed.as_hex()).expect("a string takes what is written to it");
    Ok(text)
}

/// The memory is wiped, and given back to the system.
fn key(passphrase: &Passphrase, salt: &[u8; 16], cost: Cost) -> Result<Zeroizing<[u8; 32]>, SeedError> {
    let Cost { kib, passes, lanes } = cost;
    let params = Params::new(kib, passes, lanes, Some(32)).expect("the cost is within argon2's own bounds");
    let count = params.block_count();
    let mut memory: Vec<Block> = Vec::new();
    memory.try_reserve_exact(count).map_err(|_| SeedError::Memory(kib as usize / 1024))?;
    memory.resize(count, Block::new());
    let mut key = Zeroizing::new([0; 32]);
    let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
        passphrase.bytes(),
        salt,
        key.as_mut_slice(),
        &mut memory[..],
    );
    memory.iter_mut().for_each(Zeroize::zeroize);
    hashed.expect("a passphrase, a salt of 16 bytes and a key of 32 are within argon2's bounds");
    Ok(key)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The least that argon2 takes: tests are about the file.
    pub(in crate::keys) const CHEAP: Cost = Cost { kib: 8, passes: 1, lanes: 1 };

    fn seed() -> Seed {
        Seed::from_words(
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
        )
        .unwrap()
    }

    fn secret() -> Passphrase {
        Passphrase::new("correct horse").unwrap()
    }

    fn parse(text: &str) -> Result<Sealed, SeedError> {
        Sealed::parse(Path::new("/data/seed"), text)
    }

    #[test]
    fn the_passphrase_opens_it_and_nothing_else_does() {
        let text = seal_at(&seed(), &secret(), CHEAP).unwrap();
        assert!(!text.contains("abandon"));
        let sealed = parse(&text).unwrap();
        assert_eq!(sealed.fingerprint(), seed().fingerprint());
        assert_eq!(*sealed.open(&secret()).unwrap().words(), *seed().words());
        for wrong in ["correct horsf", "Correct horse", "correct horse ", ""] {
            assert!(matches!(sealed.open(&Passphrase::given(wrong)), Err(SeedError::WrongPassphrase)), "{wrong}");
        }
    }

    #[test]
    fn two_sealings_of_one_seed_have_nothing_in_common_and_the_same_length() {
        let (one, two) = (seal_at(&seed(), &secret(), CHEAP).unwrap(), seal_at(&seed(), &secret(), CHEAP).unwrap());
        for name in ["salt", "nonce", "sealed"] {
            let line = |text: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            assert_ne!(line(&one), line(&two), "{name}");
        }
        let long = Seed::from_words(crate::keys::tests::ZEROS).unwrap();
        assert_eq!(seal_at(&long, &secret(), CHEAP).unwrap().len(), one.len(), "the number of words shows");
    }

    #[test]
    fn what_is_written_costs_what_the_rules_say() {
        let text = seal(&seed(), &secret()).unwrap();
        assert!(text.contains("\nargon2id m=65536 t=3 p=1\n"), "{text}");
        assert_eq!(parse(&text).unwrap().open(&secret()).unwrap().fingerprint(), seed().fingerprint());
    }

    #[test]
    fn a_file_cannot_ask_for_more_than_a_small_machine_has() {
        let text = seal_at(&seed(), &secret(), CHEAP).unwrap();
        let least = "m=8 t=1 p=1";
        for (cost, taken) in [
            ("m=262144 t=16 p=4", true),
            ("m=262145 t=1 p=1", false),
            ("m=104857600 t=1 p=1", false),
            ("m=8 t=17 p=1", false),
            ("m=64 t=1 p=5", false),
            ("m=7 t=1 p=1", false),
            ("m=8 t=0 p=1", false),
            ("m=8 t=1 p=0", false),
            ("m=99999999999 t=1 p=1", false),
        ] {
            let parsed = parse(&text.replace(least, cost));
            assert_eq!(parsed.is_ok(), taken, "{cost}: {parsed:?}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let text = seal_at(&seed(), &secret(), CHEAP).unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            // Another hex digit where one stands, else another letter.
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let opened = parse(&changed).and_then(|sealed| sealed.open(&secret()));
            assert!(opened.is_err(), "byte {at} of\n{text}");
        }
        for cut in 0..text.len() {
            assert!(parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse(&format!("{text}\n")).is_err());
    }
}
