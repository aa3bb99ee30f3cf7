//! The seed and what is derived from it.
//!
//! One file, `seed` (0600), of 24 BIP39 words without passphrase, made once and never overwritten. From the BIP32 master
//! key of those words:
//!
//! | what | path | why |
//! |---|---|---|
//! | on-chain wallet | BIP84: `m/84'/coin'/0'` (from [`Seed::wallet_xprv`]) | any other wallet finds the coins with the words |
//! | LDK's 32-byte seed | `m/535'`, its private key | hardened: it tells nothing of the wallet's keys, nor they of it |
//! | key of the backup | `m/536'`, its private key | opens the list of channels, and nothing else |
//! | fingerprint | BIP32 fingerprint of `m` | says which seed a database belongs to; not secret |
//!
//! The words bring back coins, not channels: a channel's state is only in the database.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bip39::{Language, Mnemonic};
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use zeroize::Zeroizing;

/// Name of the seed's file in the data directory.
pub const SEED_FILE: &str = "seed";

/// `m/535'`.
const LDK_CHILD: u32 = 535;
/// `m/536'`.
const BACKUP_CHILD: u32 = 536;

/// The words. Wiped from memory when dropped, and never shown by `Debug`.
#[derive(Clone)]
pub struct Seed {
    words: Mnemonic,
    /// BIP39's 64 bytes.
    bytes: Zeroizing<[u8; 64]>,
}

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

impl Seed {
    /// New words, from the system's randomness; durable in `dir` when it returns.
    pub fn create(dir: &Path) -> Result<Self, SeedError> {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *entropy).map_err(SeedError::Random)?;
        let words = Mnemonic::from_entropy_in(Language::English, &*entropy).map_err(|_| SeedError::WordCount(0))?;
        let seed = Self::from_mnemonic(words);
        seed.save(dir)?;
        Ok(seed)
    }

    /// Words that a person has given; durable in `dir` when it returns.
    pub fn restore(dir: &Path, words: &str) -> Result<Self, SeedError> {
        let seed = Self::from_words(words)?;
        seed.save(dir)?;
        Ok(seed)
    }

    /// The seed of `dir`.
    pub fn load(dir: &Path) -> Result<Self, SeedError> {
        let path = dir.join(SEED_FILE);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => SeedError::Missing(path.clone()),
            _ => io("open", &path)(error),
        })?;
        let mode = file.metadata().map_err(io("look at", &path))?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SeedError::Exposed { path, mode });
        }
        let mut words = Zeroizing::new(String::with_capacity(512));
        file.read_to_string(&mut words).map_err(io("read", &path))?;
        if words.trim().is_empty() {
            return Err(SeedError::Empty(path));
        }
        Self::from_words(&words)
    }

    /// True when `dir` has a seed file, readable or not.
    pub fn exists(dir: &Path) -> Result<bool, SeedError> {
        let path = dir.join(SEED_FILE);
        path.try_exists().map_err(io("look for", &path))
    }

    /// Checks words; writes nothing.
    pub fn from_words(words: &str) -> Result<Self, SeedError> {
        let words = Zeroizing::new(words.to_lowercase());
        let list = Language::English.word_list();
        let mut count = 0;
        for (index, word) in words.split_whitespace().enumerate() {
            count = index + 1;
            if list.binary_search(&word).is_err() {
                let nearest = list
                    .iter()
                    .map(|known| (strsim::damerau_levenshtein(known, word), *known))
                    .min()
                    .filter(|(distance, _)| *distance <= 2)
                    .map(|(_, known)| known);
                return Err(SeedError::UnknownWord { position: count, word: word.to_owned(), nearest });
            }
        }
        let words = Mnemonic::parse_in_normalized(Language::English, &words).map_err(|error| match error {
            bip39::Error::BadWordCount(count) => SeedError::WordCount(count),
            // Every word is known, so what is left is the checksum.
            _ if count > 0 => SeedError::Checksum,
            _ => SeedError::WordCount(count),
        })?;
        Ok(Self::from_mnemonic(words))
    }

    /// The words, to be shown to their owner and to nobody else.
    pub fn words(&self) -> Zeroizing<String> {
        let mut words = String::with_capacity(512);
        for word in self.words.words() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        Zeroizing::new(words)
    }

    /// The seed for LDK's `KeysManager`: the private key of `m/535'`.
    pub fn ldk_seed(&self) -> Zeroizing<[u8; 32]> {
        self.child(LDK_CHILD)
    }

    /// The key that the backup of the channels is encrypted with: the private key of `m/536'`.
    pub fn backup_key(&self) -> Zeroizing<[u8; 32]> {
        self.child(BACKUP_CHILD)
    }

    /// The private key of `m/index'`.
    fn child(&self, index: u32) -> Zeroizing<[u8; 32]> {
        let path = [ChildNumber::Hardened { index }];
        let child = self
            .master(NetworkKind::Main)
            .derive_priv(&Secp256k1::signing_only(), &path)
            .expect("deriving a hardened child fails for one key in 2^127");
        Zeroizing::new(child.private_key.secret_bytes())
    }

    /// The master key, for BIP84 descriptors of the wallet.
    pub fn wallet_xprv(&self, network: bitcoin::Network) -> Xpriv {
        self.master(network.into())
    }

    /// BIP32 fingerprint of the master key: names the seed, tells nothing of it.
    pub fn fingerprint(&self) -> [u8; 4] {
        Xpub::from_priv(&Secp256k1::signing_only(), &self.master(NetworkKind::Main)).fingerprint().to_bytes()
    }

    fn master(&self, network: NetworkKind) -> Xpriv {
        Xpriv::new_master(network, &*self.bytes).expect("64 bytes make no valid key for one seed in 2^127")
    }

    fn from_mnemonic(words: Mnemonic) -> Self {
        let bytes = Zeroizing::new(words.to_seed_normalized(""));
        Self { words, bytes }
    }

    /// Never over an existing file; file and name are synced, so that no coin is received before the words are safe.
    fn save(&self, dir: &Path) -> Result<(), SeedError> {
        let path = dir.join(SEED_FILE);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
            match error.kind() {
                ErrorKind::AlreadyExists => SeedError::Exists(path.clone()),
                _ => io("create", &path)(error),
            }
        })?;
        let mut line = self.words();
        line.push('\n');
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &path))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of", &path))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SeedError {
    let path = path.to_owned();
    move |source| SeedError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                         abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

    #[test]
    fn a_created_seed_has_24_words_in_a_private_file_and_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Seed::exists(dir.path()).unwrap());
        let seed = Seed::create(dir.path()).unwrap();
        assert_eq!(seed.words().split(' ').count(), 24);
        let mode = std::fs::metadata(dir.path().join(SEED_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Seed::load(dir.path()).unwrap();
        assert_eq!(*again.words(), *seed.words());
        assert_eq!(*again.ldk_seed(), *seed.ldk_seed());
        assert_eq!(again.fingerprint(), seed.fingerprint());
        assert!(Seed::exists(dir.path()).unwrap());
    }

    #[test]
    fn an_existing_seed_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let first = Seed::create(dir.path()).unwrap();
        assert!(matches!(Seed::create(dir.path()), Err(SeedError::Exists(_))));
        assert!(matches!(Seed::restore(dir.path(), ZEROS), Err(SeedError::Exists(_))));
        assert_eq!(*Seed::load(dir.path()).unwrap().words(), *first.words());
    }

    #[test]
    fn known_words_give_the_keys_that_every_wallet_gives() {
        // BIP39's vector has a passphrase; fingerprint and first BIP84 key of these words without one are widely published.
        let words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        let seed = Seed::from_words(words).unwrap();
        assert_eq!(seed.fingerprint(), [0x73, 0xc5, 0xda, 0x0a]);
        let path: bitcoin::bip32::DerivationPath = "m/84'/0'/0'/0/0".parse().unwrap();
        let secp = Secp256k1::new();
        let key = seed.wallet_xprv(bitcoin::Network::Bitcoin).derive_priv(&secp, &path).unwrap();
        let address = bitcoin::Address::p2wpkh(
            &bitcoin::CompressedPublicKey(key.private_key.public_key(&secp)),
            bitcoin::Network::Bitcoin,
        );
        assert_eq!(address.to_string(), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
    }

    #[test]
    fn the_seed_for_ldk_is_neither_the_master_key_nor_one_of_the_wallet() {
        let seed = Seed::from_words(ZEROS).unwrap();
        let master = seed.wallet_xprv(bitcoin::Network::Regtest);
        assert_ne!(*seed.ldk_seed(), master.private_key.secret_bytes());
        assert_eq!(*seed.ldk_seed(), *Seed::from_words(ZEROS).unwrap().ldk_seed());
    }

    #[test]
    fn words_may_be_in_capitals_and_on_several_lines() {
        let given = ZEROS.to_uppercase().replace(' ', "\n\t ");
        assert_eq!(*Seed::from_words(&given).unwrap().words(), ZEROS.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn a_mistyped_word_is_named_with_its_place_and_its_neighbour() {
        let given = ZEROS.replacen("abandon", "abandom", 1);
        let error = Seed::from_words(&given).unwrap_err();
        assert!(matches!(error, SeedError::UnknownWord { position: 1, nearest: Some("abandon"), .. }), "{error}");
        assert!(error.to_string().contains("did you mean “abandon”?"));
    }

    #[test]
    fn swapped_or_missing_words_are_told_apart() {
        let swapped = ZEROS.replace("art", "zoo");
        assert!(matches!(Seed::from_words(&swapped), Err(SeedError::Checksum)));
        assert!(matches!(Seed::from_words("abandon art"), Err(SeedError::WordCount(2))));
        assert!(matches!(Seed::from_words("  "), Err(SeedError::WordCount(0))));
    }

    #[test]
    fn a_seed_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        Seed::create(dir.path()).unwrap();
        let path = dir.path().join(SEED_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Seed::load(dir.path()).unwrap_err();
        assert!(matches!(error, SeedError::Exposed { mode: 0o640, .. }));
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
    }

    #[test]
    fn a_missing_seed_and_one_cut_off_by_a_power_failure_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Seed::load(dir.path()), Err(SeedError::Missing(_))));
        let path = dir.path().join(SEED_FILE);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        assert!(matches!(Seed::load(dir.path()), Err(SeedError::Empty(_))));
    }

    #[test]
    fn debug_shows_no_word() {
        assert_eq!(format!("{:?}", Seed::from_words(ZEROS).unwrap()), "Seed(…)");
    }
}
