//! `SignerProvider`: LDK's own keys for channels, our wallet's scripts for what channels leave behind.
//!
//! Rules (`lightning::sign::SignerProvider`): what a channel is signed with derives from its `channel_keys_id` and must
//! never change, so that all of it is [`KeysManager`]'s. The two scripts are only asked for when a channel is made,
//! ours or one that we accepted, or when it closes and had none; LDK keeps what it got. The calls come under LDK's
//! locks; an error refuses the opening.
//!
//! - Shutdown script: where a close by agreement pays us. Promised to the peer when the channel is opened.
//! - Destination script: where LDK's claims of HTLCs and of a cheater's money go.
//!
//! Decision: a channel gets one script for both, since a channel that ends by agreement has nothing to claim. LDK asks
//! for the shutdown script first and for the other right after it, so that half of the scripts and of the writes are
//! saved; when two openings cross, they may have each other's. What a peer's close pays (`to_remote`) stays with
//! [`KeysManager`]: after a loss of the database it is found from the seed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::ScriptBuf;
use lightning::ln::script::ShutdownScript;
use lightning::sign::{InMemorySigner, KeysManager, SignerProvider};

use crate::wallet::Wallet;

/// LDK's `SignerProvider`.
pub struct Signers {
    keys: Arc<KeysManager>,
    wallet: Wallet,
    /// Of a channel that has not yet asked for its destination.
    promised: Mutex<Option<ScriptBuf>>,
    /// Of the channels that were read or made in this run.
    known: Mutex<BTreeSet<[u8; 32]>>,
}

impl Signers {
    /// Signs with `keys`, closes to `wallet`.
    pub fn new(keys: Arc<KeysManager>, wallet: Wallet) -> Self {
        Self { keys, wallet, promised: Mutex::default(), known: Mutex::default() }
    }

    /// The signers of all channels that were read or made in this run.
    pub(super) fn all(&self) -> Vec<InMemorySigner> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.into_iter().map(|id| self.keys.derive_channel_signer(id)).collect()
    }

    /// On the disk and watched when it returns.
    fn script(&self) -> Result<ScriptBuf, ()> {
        self.wallet.script_for_channel().map_err(|error| {
            tracing::error!(%error, "the wallet could not give a script for a channel's close");
        })
    }

    fn promised(&self) -> std::sync::MutexGuard<'_, Option<ScriptBuf>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignerProvider for Signers {
    type EcdsaSigner = InMemorySigner;

    fn generate_channel_keys_id(&self, inbound: bool, user_channel_id: u128) -> [u8; 32] {
        self.keys.generate_channel_keys_id(inbound, user_channel_id)
    }

    fn derive_channel_signer(&self, channel_keys_id: [u8; 32]) -> InMemorySigner {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(channel_keys_id);
        self.keys.derive_channel_signer(channel_keys_id)
    }

    fn get_destination_script(&self, _channel_keys_id: [u8; 32]) -> Result<ScriptBuf, ()> {
        let promised = self.promised().take();
        promised.map_or_else(|| self.script(), Ok)
    }

    fn get_shutdown_scriptpubkey(&self) -> Result<ShutdownScript, ()> {
        let script = self.script()?;
        let shutdown = ShutdownScript::try_from(script.clone()).map_err(|_| {
            tracing::error!("the wallet gave a script that no channel may close to");
        })?;
        *self.promised() = Some(script);
        Ok(shutdown)
    }
}
