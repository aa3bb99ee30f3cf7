//! The seed and what is derived from it.
//!
//! One file, `seed` (0600), with 24 BIP39 words (BIP39's own passphrase is not used), made once and never overwritten:
//! either the words in the clear, or sealed with a passphrase ([`Sealed`]). From the BIP32 master key of those words:
//!
//! | what | path | why |
//! |---|---|---|
//! | on-chain wallet | BIP84: `m/84'/coin'/0'` (from [`Seed::wallet_xprv`]) | any other wallet finds the coins with the words |
//! | LDK's 32-byte seed | `m/535'`, its private key | hardened: it tells nothing of the wallet's keys, nor they of it |
//! | key of the backup | `m/536'`, its private key | opens the list of channels, and nothing else |
//! | fingerprint | BIP32 fingerprint of `m` | says which seed a database belongs to; not secret |
//!
//! The words bring back coins, not channels: a channel's state is only in the database.
//!
//! What is wiped: words, entropy, passphrases, and the memory that worked on them, when they are dropped. What is not:
//! copies that other libraries make for themselves (LDK's key manager lives as long as the node), and pages that the
//! system has swapped out. An unlocked node has its keys in its memory.

mod error;
mod file;
mod passphrase;
mod sealed;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use bip39::{Language, Mnemonic};
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use zeroize::Zeroizing;

pub use self::error::SeedError;
pub use self::passphrase::Passphrase;
pub use self::sealed::Sealed;

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

/// The seed of a data directory, as it lies there.
#[derive(Clone, Debug)]
pub enum Kept {
    /// In the clear.
    Open(Seed),
    /// Its passphrase opens it.
    Sealed(Sealed),
}

impl Kept {
    /// Reads the seed of `dir`. Refuses a file that others may read.
    pub fn read(dir: &Path) -> Result<Self, SeedError> {
        let (path, text) = file::read(dir)?;
        if text.starts_with(sealed::TITLE) {
            return Sealed::parse(&path, &text).map(Self::Sealed);
        }
        Seed::from_words(&text).map(Self::Open)
    }

    /// Names the seed, also while it is sealed.
    pub fn fingerprint(&self) -> [u8; 4] {
        match self {
            Self::Open(seed) => seed.fingerprint(),
            Self::Sealed(sealed) => sealed.fingerprint(),
        }
    }

    /// True when a passphrase is needed.
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    /// The seed; a sealed one with its passphrase. Blocks for the work on the passphrase.
    pub fn open(&self, passphrase: Option<&Passphrase>) -> Result<Seed, SeedError> {
        match (self, passphrase) {
            (Self::Open(seed), _) => Ok(seed.clone()),
            (Self::Sealed(sealed), Some(passphrase)) => sealed.open(passphrase),
            (Self::Sealed(_), None) => Err(SeedError::Locked),
        }
    }
}

impl Seed {
    /// New words, from the system's randomness; durable in `dir` when it returns, sealed if there is a passphrase.
    pub fn create(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Self, SeedError> {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *entropy).map_err(SeedError::Random)?;
        let words = Mnemonic::from_entropy_in(Language::English, &*entropy).map_err(|_| SeedError::WordCount(0))?;
        let seed = Self::from_mnemonic(words);
        file::create(dir, &seed.form(passphrase)?)?;
        Ok(seed)
    }

    /// Words that a person has given; durable in `dir` when it returns, sealed if there is a passphrase.
    pub fn restore(dir: &Path, words: &str, passphrase: Option<&Passphrase>) -> Result<Self, SeedError> {
        let seed = Self::from_words(words)?;
        file::create(dir, &seed.form(passphrase)?)?;
        Ok(seed)
    }

    /// True when `dir` has a seed file, readable or not.
    pub fn exists(dir: &Path) -> Result<bool, SeedError> {
        file::exists(dir)
    }

    /// Removes what a change of the passphrase that was stopped by a power cut may have left in `dir`.
    pub fn tidy(dir: &Path) -> Result<(), SeedError> {
        file::tidy(dir)
    }

    /// Keeps the seed of `dir` under another passphrase, or under none. `old` is needed where it is sealed. After a power
    /// cut the file is either of the two. A daemon that runs is not concerned: it has read the seed.
    pub fn change(dir: &Path, old: Option<&Passphrase>, new: Option<&Passphrase>) -> Result<(), SeedError> {
        let change = file::Change::begin(dir)?;
        let seed = Kept::read(dir)?.open(old)?;
        change.replace(&seed.form(new)?)
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

    /// The text of its file.
    fn form(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, SeedError> {
        if let Some(passphrase) = passphrase {
            return sealed::seal(self, passphrase).map(Zeroizing::new);
        }
        let mut line = self.words();
        line.push('\n');
        Ok(line)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}
