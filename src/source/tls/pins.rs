//! What is known of servers' keys, what they show instead, and who may settle it.
//!
//! Rules: the first key is pinned when the server has proved to own it; a server that an authority vouched for must stay
//! so; another key is an alarm that lasts until the known one is shown again, or a person accepts the new one. What a
//! person accepts is a key that was read, not whatever is shown by then.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::{DisplayHex, FromHex};

use super::super::error::PinsError;
use crate::config::HostPort;

/// SHA-256 of a SubjectPublicKeyInfo (DER): the same for every certificate of one key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// What a server has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A certificate that a public authority vouches for, of whatever key: somebody could step in with a self-signed
    /// one otherwise.
    Authority,
    /// This key, whatever the certificate around it.
    Key(KeyHash),
}

/// A server showed something else than it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What it has to show.
    pub known: Pin,
    /// What it shows.
    pub shown: KeyHash,
    /// An authority vouches for what it shows.
    pub vouched: bool,
}

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is nothing to accept.
    #[error("this server shows no other key than the known one")]
    NoAlarm,
    /// Meanwhile it shows a third one.
    #[error("the server shows another key by now: {0}")]
    Other(KeyHash),
    /// The disk.
    #[error(transparent)]
    Pins(#[from] PinsError),
}

/// Where pins are kept, durably.
pub trait Pins: Send + Sync {
    /// What a server has to show, if it was ever used.
    fn get(&self, server: &HostPort) -> Result<Option<Pin>, PinsError>;
    /// Sets what a server has to show. Durable when it returns.
    fn set(&self, server: &HostPort, pin: Pin) -> Result<(), PinsError>;
}

/// All that is known of servers' keys.
pub struct Certificates {
    pins: Box<dyn Pins>,
    alarms: Mutex<BTreeMap<HostPort, Changed>>,
}

impl Certificates {
    /// With these pins.
    pub fn new(pins: impl Pins + 'static) -> Self {
        Self { pins: Box::new(pins), alarms: Mutex::default() }
    }

    /// What a server has to show, if it was ever used.
    pub fn known(&self, server: &HostPort) -> Result<Option<Pin>, PinsError> {
        self.pins.get(server)
    }

    /// The servers that show another key than the known one.
    pub fn alarms(&self) -> Vec<(HostPort, Changed)> {
        self.locked().iter().map(|(server, changed)| (server.clone(), *changed)).collect()
    }

    /// A person read `key` and accepts it. What was known is forgotten; durable when it returns.
    pub fn trust(&self, server: &HostPort, key: KeyHash) -> Result<Pin, TrustError> {
        let mut alarms = self.locked();
        let changed = alarms.get(server).ok_or(TrustError::NoAlarm)?;
        if changed.shown != key {
            return Err(TrustError::Other(changed.shown));
        }
        let pin = if changed.vouched { Pin::Authority } else { Pin::Key(key) };
        self.pins.set(server, pin)?;
        alarms.remove(server);
        Ok(pin)
    }

    /// The server has shown what it has to, and proved to own it.
    pub(super) fn shown(&self, server: &HostPort, known: Option<Pin>, shown: Pin) -> Result<(), PinsError> {
        if known.is_none() {
            self.pins.set(server, shown)?;
        }
        self.locked().remove(server);
        Ok(())
    }

    /// The server showed something else.
    pub(super) fn alarm(&self, server: &HostPort, changed: Changed) {
        if self.locked().insert(server.clone(), changed) != Some(changed) {
            let Changed { known, shown, vouched } = changed;
            tracing::error!(%server, %known, %shown, vouched, "a server shows another key than before; it is not used");
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<HostPort, Changed>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyHash {
    /// Of a SubjectPublicKeyInfo.
    pub(super) fn of(spki: &[u8]) -> Self {
        Self(sha256::Hash::hash(spki).to_byte_array())
    }
}

impl From<[u8; 32]> for KeyHash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl From<KeyHash> for [u8; 32] {
    fn from(KeyHash(hash): KeyHash) -> Self {
        hash
    }
}

/// 32 bytes for the store; no hash is all zeros.
impl From<Pin> for [u8; 32] {
    fn from(pin: Pin) -> Self {
        match pin {
            Pin::Authority => [0; 32],
            Pin::Key(KeyHash(hash)) => hash,
        }
    }
}

impl From<[u8; 32]> for Pin {
    fn from(bytes: [u8; 32]) -> Self {
        if bytes == [0; 32] { Self::Authority } else { Self::Key(KeyHash(bytes)) }
    }
}

impl FromStr for KeyHash {
    type Err = bitcoin::hex::HexToArrayError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        <[u8; 32]>::from_hex(text).map(Self)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hex())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("one that a certificate authority vouches for"),
            Self::Key(key) => write!(f, "{key}"),
        }
    }
}

/// Pins for the life of the process.
#[derive(Debug, Default)]
pub struct MemoryPins(Mutex<HashMap<HostPort, Pin>>);

impl Pins for MemoryPins {
    fn get(&self, server: &HostPort) -> Result<Option<Pin>, PinsError> {
        let pins = self.0.lock().map_err(|_| PinsError("poisoned".into()))?;
        Ok(pins.get(server).copied())
    }
    fn set(&self, server: &HostPort, pin: Pin) -> Result<(), PinsError> {
        let mut pins = self.0.lock().map_err(|_| PinsError("poisoned".into()))?;
        pins.insert(server.clone(), pin);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: KeyHash = KeyHash([1; 32]);
    const NEW: KeyHash = KeyHash([2; 32]);

    fn server() -> HostPort {
        "electrum.example.org:50002".parse().unwrap()
    }

    fn alarmed(vouched: bool) -> Certificates {
        let certificates = Certificates::new(MemoryPins::default());
        certificates.shown(&server(), None, Pin::Key(OLD)).unwrap();
        certificates.alarm(&server(), Changed { known: Pin::Key(OLD), shown: NEW, vouched });
        certificates
    }

    #[test]
    fn only_the_key_that_was_read_is_accepted_and_then_it_is_the_known_one() {
        let certificates = alarmed(false);
        assert!(matches!(certificates.trust(&server(), OLD), Err(TrustError::Other(NEW))));
        assert_eq!(certificates.known(&server()).unwrap(), Some(Pin::Key(OLD)));
        assert_eq!(certificates.trust(&server(), NEW).unwrap(), Pin::Key(NEW));
        assert_eq!(certificates.known(&server()).unwrap(), Some(Pin::Key(NEW)));
        assert!(certificates.alarms().is_empty());
        assert!(matches!(certificates.trust(&server(), NEW), Err(TrustError::NoAlarm)));
    }

    #[test]
    fn who_accepts_a_certificate_of_an_authority_accepts_its_renewals() {
        let certificates = alarmed(true);
        assert_eq!(certificates.trust(&server(), NEW).unwrap(), Pin::Authority);
    }

    #[test]
    fn an_alarm_is_over_when_the_known_key_is_shown_again() {
        let certificates = alarmed(false);
        certificates.shown(&server(), Some(Pin::Key(OLD)), Pin::Key(OLD)).unwrap();
        assert!(certificates.alarms().is_empty());
        assert_eq!(certificates.known(&server()).unwrap(), Some(Pin::Key(OLD)));
    }

    #[test]
    fn a_pin_is_stored_in_32_bytes() {
        for pin in [Pin::Authority, Pin::Key(OLD)] {
            assert_eq!(Pin::from(<[u8; 32]>::from(pin)), pin);
        }
    }
}
