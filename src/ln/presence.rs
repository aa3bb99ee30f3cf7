//! Who is connected, told rather than asked: LDK calls every message handler when a peer comes and goes, and this one
//! handles no messages.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{DecodeError, Init, LightningError};
use lightning::ln::peer_handler::CustomMessageHandler;
use lightning::ln::wire::CustomMessageReader;
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::ser::LengthLimitedRead;
use tokio::sync::watch;

/// The peers whose handshake is done.
#[derive(Debug, Default)]
pub struct Presence {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    connected: BTreeSet<PublicKey>,
    closed: bool,
}

impl Presence {
    /// True while the peer is connected.
    pub fn is_connected(&self, node_id: &PublicKey) -> bool {
        self.with(|state| state.connected.contains(node_id))
    }

    /// All connected peers.
    pub fn connected(&self) -> BTreeSet<PublicKey> {
        self.with(|state| state.connected.clone())
    }

    /// Changes whenever a peer comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// From now on nobody is let in: the node is stopping.
    pub fn close(&self) {
        self.with(|state| state.closed = true);
    }

    /// True once [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.with(|state| state.closed)
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CustomMessageReader for Presence {
    type CustomMessage = Infallible;

    fn read<R: LengthLimitedRead>(
        &self,
        _message_type: u16,
        _buffer: &mut R,
    ) -> Result<Option<Infallible>, DecodeError> {
        Ok(None)
    }
}

impl CustomMessageHandler for Presence {
    fn handle_custom_message(&self, msg: Infallible, _sender: PublicKey) -> Result<(), LightningError> {
        match msg {}
    }

    fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, Infallible)> {
        Vec::new()
    }

    fn peer_disconnected(&self, node_id: PublicKey) {
        self.with(|state| state.connected.remove(&node_id));
        self.changes.send_modify(|change| *change += 1);
    }

    fn peer_connected(&self, node_id: PublicKey, _init: &Init, _inbound: bool) -> Result<(), ()> {
        let taken = self.with(|state| {
            if !state.closed {
                state.connected.insert(node_id);
            }
            !state.closed
        });
        if !taken {
            return Err(());
        }
        self.changes.send_modify(|change| *change += 1);
        Ok(())
    }

    fn provided_node_features(&self) -> NodeFeatures {
        NodeFeatures::empty()
    }

    fn provided_init_features(&self, _node_id: PublicKey) -> InitFeatures {
        InitFeatures::empty()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{Secp256k1, SecretKey};

    use super::*;

    #[test]
    fn who_comes_and_goes_is_told_and_nobody_comes_after_the_end() {
        let key = SecretKey::from_slice(&[1; 32]).expect("a key");
        let peer = PublicKey::from_secret_key(&Secp256k1::new(), &key);
        let init = Init { features: InitFeatures::empty(), networks: None, remote_network_address: None };
        let presence = Presence::default();
        let mut changes = presence.changes();
        assert_eq!(presence.peer_connected(peer, &init, true), Ok(()));
        assert!(presence.is_connected(&peer) && changes.has_changed().expect("open"));
        changes.mark_unchanged();
        presence.peer_disconnected(peer);
        assert!(!presence.is_connected(&peer) && changes.has_changed().expect("open"));
        presence.close();
        assert_eq!(presence.peer_connected(peer, &init, false), Err(()));
        assert!(presence.connected().is_empty());
    }
}
