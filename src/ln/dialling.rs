//! Dialling one peer: where it may be, the connection, the handshake.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::SocketAddress;
use lightning::routing::gossip::NodeId;

use super::now;
use super::types::{NetworkGraph, PeerManager, Presence};
use crate::config::HostPort;
use crate::dial::{DialError, Dialer};
use crate::store::Store;

/// For one address: lookup, connection and handshake.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The same through a proxy: a circuit to an onion address takes its time.
const PROXIED_TIMEOUT: Duration = Duration::from_secs(60);
/// What a refused connection waits for another one to the same peer.
const GRACE: Duration = Duration::from_secs(1);
/// Addresses of one peer that are tried in turn.
pub(super) const ADDRESSES_AT_MOST: usize = 4;

/// Dials peers.
pub(super) struct Dialler {
    pub(super) out: Dialer,
    pub(super) us: PublicKey,
    pub(super) manager: Arc<PeerManager>,
    pub(super) graph: Arc<NetworkGraph>,
    pub(super) presence: Arc<Presence>,
    pub(super) store: Store,
    /// Held while a peer is being dialled.
    pub(super) turns: Mutex<BTreeMap<PublicKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our own node id.
    #[error("this is our own node id")]
    Ourselves,
    /// No connection.
    #[error("no connection to {0}: {1}")]
    Unreachable(String, DialError),
    /// Connected, but not to this node, or not welcome.
    #[error("{0} hung up during the handshake: it is another node, or it does not want us")]
    Refused(String),
    /// Too slow.
    #[error("{0} did not answer within {secs} s", secs = .1.as_secs())]
    Timeout(String, Duration),
    /// No address is known.
    #[error("no address of this peer is known; give one as node_id@host:port")]
    NoAddress,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Dialler {
    /// Where a peer may be: the address that we were given, then those that it announces.
    pub(super) fn targets(&self, node_id: &PublicKey, stored: &BTreeMap<PublicKey, String>) -> Vec<HostPort> {
        let stored = stored.get(node_id).and_then(|address| address.parse().ok());
        let mut targets: Vec<HostPort> = stored.into_iter().collect();
        let graph = self.graph.read_only();
        let announced = graph
            .node(&NodeId::from_pubkey(node_id))
            .and_then(|node| node.announcement_info.as_ref())
            .map(|info| info.addresses().to_vec())
            .unwrap_or_default();
        targets.extend(announced.iter().filter_map(|address| self.announced(address)));
        targets.dedup();
        targets.truncate(ADDRESSES_AT_MOST);
        targets
    }

    /// An announced address that can be dialled: with an onion address only a proxy knows what to do.
    pub(super) fn announced(&self, address: &SocketAddress) -> Option<HostPort> {
        let at: HostPort = match address {
            SocketAddress::TcpIpV4 { .. } | SocketAddress::TcpIpV6 { .. } | SocketAddress::Hostname { .. } => {
                address.to_string().parse().ok()?
            }
            SocketAddress::OnionV3 { .. } if self.out.proxied() => address.to_string().parse().ok()?,
            SocketAddress::OnionV2(_) | SocketAddress::OnionV3 { .. } => return None,
        };
        (self.out.proxied() || !at.is_onion()).then_some(at)
    }

    /// The lock of those who dial this peer.
    fn turn(&self, node_id: PublicKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(node_id).or_default())
    }

    pub(super) async fn dial_all(&self, node_id: PublicKey, targets: &[HostPort]) -> Result<(), ConnectError> {
        if self.presence.is_connected(&node_id) {
            return Ok(());
        }
        let mut trouble = ConnectError::NoAddress;
        for target in targets {
            match self.dial(node_id, target).await {
                Ok(()) => return Ok(()),
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    pub(super) async fn dial(&self, node_id: PublicKey, target: &HostPort) -> Result<(), ConnectError> {
        if node_id == self.us {
            return Err(ConnectError::Ourselves);
        }
        if self.presence.is_closed() {
            return Err(ConnectError::Stopping);
        }
        let turn = self.turn(node_id);
        let _turn = turn.lock().await;
        if self.presence.is_connected(&node_id) {
            return Ok(());
        }
        let limit = if self.out.proxied() { PROXIED_TIMEOUT } else { DIAL_TIMEOUT };
        tokio::time::timeout(limit, self.handshake(node_id, target))
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout(target.to_string(), limit)))?;
        tracing::info!(peer = %node_id, address = %target, "connected");
        if let Err(error) = self.store.peer_connected(node_id, now().as_secs()) {
            tracing::warn!(%error, "could not note a peer's connection");
        }
        Ok(())
    }

    async fn handshake(&self, node_id: PublicKey, target: &HostPort) -> Result<(), ConnectError> {
        let unreachable = |error| ConnectError::Unreachable(target.to_string(), error);
        // Peers know our node id anyway: what is kept apart is who sees which of them we talk to.
        let stream = self.out.dial(target, &format!("peer {node_id}")).await.map_err(unreachable)?;
        let stream = stream.into_std().map_err(|error| unreachable(DialError::Unreachable(error)))?;
        let connection = lightning_net_tokio::setup_outbound(Arc::clone(&self.manager), node_id, stream);
        let refused = tokio::select! {
            // The connection lives on in the tasks that lightning-net-tokio spawned.
            _ = self.arrival(&node_id) => false,
            () = connection => tokio::time::timeout(GRACE, self.arrival(&node_id)).await.is_err(),
        };
        if refused { Err(ConnectError::Refused(target.to_string())) } else { Ok(()) }
    }

    /// Returns when the peer is connected.
    async fn arrival(&self, node_id: &PublicKey) {
        let mut changes = self.presence.changes();
        // Its sender is in the presence, which we hold.
        let _ = changes.wait_for(|_| self.presence.is_connected(node_id)).await;
    }
}
