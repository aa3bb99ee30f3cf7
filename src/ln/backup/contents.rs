//! What a backup says, and how it is read: strictly, for it may come from anywhere.
//!
//! Format 1: the bytes `lightnode backup`, a version byte, 24 bytes of nonce, then XChaCha20-Poly1305 over JSON, with
//! what stands before the nonce as associated data. The key is of the seed (`Seed::backup_key`).

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Network, OutPoint, ScriptBuf};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use crate::config::HostPort;

const MAGIC: &[u8] = b"lightnode backup";
const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Channels in one backup; more than a node of this kind will ever have.
const CHANNELS_AT_MOST: usize = 5_000;
/// Addresses of one peer.
pub(super) const ADDRESSES_AT_MOST: usize = 4;
/// A channel takes some 600 bytes.
pub const BYTES_AT_MOST: usize = 8 << 20;

/// The channels of a node: enough to have their peers close them, and to find what that pays us. Not enough to use
/// them: states are not in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    pub network: Network,
    pub node_id: PublicKey,
    /// Unix seconds.
    pub written_at: u64,
    /// By channel id.
    pub channels: Vec<Channel>,
}

/// One channel that is not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// 64 hex digits.
    pub channel_id: String,
    pub peer: PublicKey,
    /// Where the peer may be, as `host:port`, the likeliest first. Empty: unknown.
    pub addresses: Vec<String>,
    pub funding: OutPoint,
    /// The script of the funding output.
    pub script: ScriptBuf,
    pub capacity_sat: u64,
}

/// Why a backup cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something else.
    #[error("this file is not a lightnode backup")]
    Foreign,
    /// A later format.
    #[error("this backup was written by a newer lightnode (format {0}); use that version to read it")]
    Newer(u8),
    /// The key does not open it.
    #[error(
        "the backup does not open with these words: they are of another node (or have another passphrase), or the file \
         is damaged"
    )]
    Closed,
    /// It opens, and breaks a rule.
    #[error("the backup is damaged: {0}")]
    Broken(String),
    /// Of another network.
    #[error("the backup is of a node on {found}, and this one is on {wanted}")]
    Network {
        /// Of the backup.
        found: Network,
        /// Ours.
        wanted: Network,
    },
    /// The system gave no randomness, or the list is too long.
    #[error("the backup could not be made: {0}")]
    Make(String),
}

impl Contents {
    /// Encrypted, in the present format.
    pub fn seal(&self, key: &[u8; 32]) -> Result<Vec<u8>, BackupError> {
        if self.channels.len() > CHANNELS_AT_MOST {
            return Err(BackupError::Make(format!("{} channels are more than it has room for", self.channels.len())));
        }
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| BackupError::Make(error.to_string()))?;
        let plain = self.encode()?;
        let head = [MAGIC, &[VERSION]].concat();
        let sealed = XChaCha20Poly1305::new(key.into())
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: &plain, aad: &head })
            .map_err(|_| BackupError::Make("it could not be encrypted".into()))?;
        Ok([&head[..], &nonce, &sealed].concat())
    }

    /// Opens and checks a backup for a node on `network`.
    pub fn open(bytes: &[u8], key: &[u8; 32], network: Network) -> Result<Self, BackupError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(BackupError::Foreign)?;
        let (version, body) = body.split_first().ok_or(BackupError::Foreign)?;
        if *version != VERSION {
            return Err(if *version > VERSION { BackupError::Newer(*version) } else { BackupError::Foreign });
        }
        if bytes.len() > BYTES_AT_MOST {
            return Err(BackupError::Broken("it is too long".into()));
        }
        let (nonce, sealed) = body.split_at_checked(NONCE).ok_or(BackupError::Closed)?;
        let head = &bytes[..MAGIC.len() + 1];
        let plain = XChaCha20Poly1305::new(key.into())
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: head })
            .map_err(|_| BackupError::Closed)?;
        let contents = Self::decode(&plain)?;
        match contents.network == network {
            true => Ok(contents),
            false => Err(BackupError::Network { found: contents.network, wanted: network }),
        }
    }

    fn encode(&self) -> Result<Vec<u8>, BackupError> {
        serde_json::to_vec(self).map_err(|error| BackupError::Make(error.to_string()))
    }

    /// Exactly what [`Self::encode`] gives, within bounds; nothing else.
    fn decode(plain: &[u8]) -> Result<Self, BackupError> {
        let broken = |why: &str| BackupError::Broken(why.into());
        let contents: Self = serde_json::from_slice(plain).map_err(|error| BackupError::Broken(error.to_string()))?;
        if contents.encode()? != plain {
            return Err(broken("it is not written as lightnode writes it"));
        }
        if contents.channels.len() > CHANNELS_AT_MOST {
            return Err(broken("it names too many channels"));
        }
        if !contents.channels.windows(2).all(|pair| pair[0].channel_id < pair[1].channel_id) {
            return Err(broken("its channels are out of order"));
        }
        contents.channels.iter().try_for_each(Channel::check)?;
        Ok(contents)
    }
}

impl Channel {
    fn check(&self) -> Result<(), BackupError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let right = self.channel_id.len() == 64
            && self.channel_id.bytes().all(digit)
            && self.addresses.len() <= ADDRESSES_AT_MOST
            && self.addresses.iter().all(|address| address.len() <= 300 && address.parse::<HostPort>().is_ok())
            && self.script.is_p2wsh()
            && self.capacity_sat <= bitcoin::Amount::MAX_MONEY.to_sat();
        right.then_some(()).ok_or_else(|| BackupError::Broken("a channel in it is not one".into()))
    }
}

#[cfg(test)]
pub(in crate::ln) mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::secp256k1::{Secp256k1, SecretKey};
    use bitcoin::{Txid, WScriptHash};
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [9; 32];

    pub(in crate::ln) fn example(channels: u8) -> Contents {
        let peer = |n: u8| {
            let key = SecretKey::from_slice(&[n + 1; 32]).expect("a key");
            PublicKey::from_secret_key(&Secp256k1::new(), &key)
        };
        let channel = |n: u8| Channel {
            channel_id: format!("{n:064x}"),
            peer: peer(n),
            addresses: vec!["127.0.0.1:9735".into(), "[::1]:9735".into()],
            funding: OutPoint { txid: Txid::from_byte_array([n; 32]), vout: n.into() },
            script: ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([n; 32])),
            capacity_sat: 1000,
        };
        let channels = (0..channels).map(channel).collect();
        Contents { network: Network::Regtest, node_id: peer(77), written_at: 1_800_000_000, channels }
    }

    #[test]
    fn a_backup_opens_with_its_own_key_and_no_other() {
        for count in [0, 1, 40] {
            let contents = example(count);
            let sealed = contents.seal(&KEY).unwrap();
            assert_eq!(Contents::open(&sealed, &KEY, Network::Regtest), Ok(contents));
            assert_eq!(Contents::open(&sealed, &[8; 32], Network::Regtest), Err(BackupError::Closed));
            let elsewhere = Contents::open(&sealed, &KEY, Network::Signet);
            assert!(matches!(elsewhere, Err(BackupError::Network { .. })), "{elsewhere:?}");
        }
    }

    #[test]
    fn two_backups_of_the_same_never_look_alike() {
        assert_ne!(example(1).seal(&KEY).unwrap(), example(1).seal(&KEY).unwrap());
    }

    #[test]
    fn a_later_format_and_another_file_are_told_apart_from_wrong_words() {
        let mut sealed = example(1).seal(&KEY).unwrap();
        sealed[MAGIC.len()] = 2;
        assert_eq!(Contents::open(&sealed, &KEY, Network::Regtest), Err(BackupError::Newer(2)));
        for foreign in [&b""[..], b"PNG", b"lightnode backup", &[0; 100]] {
            assert_eq!(Contents::open(foreign, &KEY, Network::Regtest), Err(BackupError::Foreign));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused_even_under_the_right_key() {
        let refused = |change: &dyn Fn(&mut Contents)| {
            let mut contents = example(2);
            change(&mut contents);
            Contents::open(&contents.seal(&KEY).unwrap(), &KEY, Network::Regtest).unwrap_err()
        };
        let broken: [&dyn Fn(&mut Contents); 6] = [
            &|c| c.channels.swap(0, 1),
            &|c| c.channels[1] = c.channels[0].clone(),
            &|c| c.channels[0].channel_id = "AB".repeat(32),
            &|c| c.channels[0].addresses = vec!["nowhere".into()],
            &|c| c.channels[0].script = ScriptBuf::new(),
            &|c| c.channels[0].capacity_sat = u64::MAX,
        ];
        for change in broken {
            assert!(matches!(refused(change), BackupError::Broken(_)));
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_and_no_cut_is_taken_for_a_backup(at in 0usize..2000, flip in 1u8.., keep in 0usize..2000) {
            let sealed = example(2).seal(&KEY).unwrap();
            let mut changed = sealed.clone();
            let at = at % changed.len();
            changed[at] ^= flip;
            prop_assert!(Contents::open(&changed, &KEY, Network::Regtest).is_err());
            let cut = &sealed[..keep % sealed.len()];
            prop_assert!(Contents::open(cut, &KEY, Network::Regtest).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_only_in_one_form(plain in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..900, put in any::<u8>()) {
            prop_assert!(Contents::decode(&plain).is_err());
            let mut near = example(1).encode().unwrap();
            let at = cut % near.len();
            near[at] = put;
            if let Ok(read) = Contents::decode(&near) {
                prop_assert_eq!(read.encode().unwrap(), near);
            }
        }
    }
}
