//! What is remembered of servers' certificates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::super::error::PinsError;
use crate::config::ServerAddr;

/// Pin of a server whose certificate a public authority vouched for at first use: any later certificate must be
/// vouched for too, or somebody could step in with a self-signed one.
pub const AUTHORITY: [u8; 32] = [0; 32];

/// Remembers certificates, durably. The pin is the SHA-256 of the certificate (what `openssl x509 -fingerprint -sha256`
/// shows), or [`AUTHORITY`].
pub trait Pins: Send + Sync {
    /// The pin of a server, if it was ever used.
    fn get(&self, server: &ServerAddr) -> Result<Option<[u8; 32]>, PinsError>;
    /// Remembers the pin of a server. Durable when it returns.
    fn set(&self, server: &ServerAddr, pin: [u8; 32]) -> Result<(), PinsError>;
}

/// What one server's certificate is held against.
#[derive(Clone)]
pub(in crate::source) struct Pinning {
    /// Configured by a person: it alone will do.
    pub(in crate::source) configured: Option<[u8; 32]>,
    /// Remembered.
    pub(in crate::source) pins: Arc<dyn Pins>,
}

/// Pins for the life of the process.
#[derive(Debug, Default)]
pub struct MemoryPins(Mutex<HashMap<ServerAddr, [u8; 32]>>);

impl Pins for MemoryPins {
    fn get(&self, server: &ServerAddr) -> Result<Option<[u8; 32]>, PinsError> {
        let pins = self.0.lock().map_err(|_| PinsError("poisoned".into()))?;
        Ok(pins.get(server).copied())
    }
    fn set(&self, server: &ServerAddr, pin: [u8; 32]) -> Result<(), PinsError> {
        let mut pins = self.0.lock().map_err(|_| PinsError("poisoned".into()))?;
        pins.insert(server.clone(), pin);
        Ok(())
    }
}
