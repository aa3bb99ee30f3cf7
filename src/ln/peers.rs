//! Connections to peers: listening, dialling, remembering, and dialling again.
//!
//! Rules: LDK frames and encrypts, lightning-net-tokio moves the bytes; both spawn their own futures on the runtime.
//! Dialling has a deadline here, from name lookup to the end of the handshake. Who is connected is told by
//! [`Presence`]. A second connection to the same peer is refused by LDK as soon as the first one has shown who it is,
//! which is before its handshake is done: so nobody is dialled twice at a time, and a refused one waits a moment for
//! the other (two nodes may dial each other).
//!
//! Kept: peers that we were told of (in the store), and peers that we have channels with, at the address that we know
//! or that they announce. Each has its own backoff; they are dialled in parallel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bitcoin::secp256k1::PublicKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::backoff::{Dial, jitter};
pub use super::dialling::ConnectError;
use super::dialling::{ADDRESSES_AT_MOST, Dialler};
use super::events::Dial as Wanted;
use super::types::{ChannelManager, PeerManager, Presence};
use super::{Ln, now};
use crate::config::HostPort;
use crate::dial::Dialer;
use crate::store::{Store, StoreError};
use crate::task::Shutdown;

/// How often it is looked for peers to dial when nothing happens (a channel may have been opened by them).
const LOOK: Duration = Duration::from_secs(60);
/// Connections from outside at a time; each costs a file handle and some kB.
const INBOUND_AT_MOST: usize = 250;

/// Connections to peers. Clones share it.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    dialler: Dialler,
    manager: Arc<PeerManager>,
    channels: Arc<ChannelManager>,
    presence: Arc<Presence>,
    store: Store,
    dials: Mutex<BTreeMap<PublicKey, Dial>>,
    /// Something changed about whom to dial.
    wake: Notify,
    inbound: Arc<Semaphore>,
}

/// A peer, connected or to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    pub node_id: PublicKey,
    /// Where it is, or was last dialled.
    pub address: Option<String>,
    pub connected: bool,
    /// It connected to us.
    pub inbound: bool,
    /// In the store: dialled again after a restart.
    pub persisted: bool,
    /// When it is dialled again.
    pub retry_at: Option<SystemTime>,
}

/// Why a peer is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// A peer with channels is always kept.
    #[error("there are {0} channels with this peer; close them first")]
    HasChannels(usize),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen for peers on {address} (setting node.listen): {source}")]
pub struct ListenError {
    address: HostPort,
    source: io::Error,
}

/// Sockets that are bound, and not yet served.
pub struct Listening(Vec<TcpListener>);

impl Listening {
    /// Binds all, or says which one cannot be had.
    pub async fn bind(addresses: &[HostPort]) -> Result<Self, ListenError> {
        let mut sockets = Vec::new();
        for address in addresses {
            let socket = TcpListener::bind((address.host.as_str(), address.port))
                .await
                .map_err(|source| ListenError { address: address.clone(), source })?;
            sockets.push(socket);
        }
        Ok(Self(sockets))
    }

    /// Where, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

impl Peers {
    /// Of this node. Nothing happens before [`Self::keep`] and [`Self::serve`].
    pub fn new(ln: &Ln, out: Dialer) -> Self {
        Self(Arc::new(Inner {
            dialler: Dialler {
                out,
                us: ln.node_id(),
                manager: Arc::clone(&ln.peers),
                graph: Arc::clone(&ln.graph),
                presence: Arc::clone(&ln.presence),
                store: ln.store.clone(),
                turns: Mutex::default(),
            },
            manager: Arc::clone(&ln.peers),
            channels: Arc::clone(&ln.channels),
            presence: Arc::clone(&ln.presence),
            store: ln.store.clone(),
            dials: Mutex::default(),
            wake: Notify::new(),
            inbound: Arc::new(Semaphore::new(INBOUND_AT_MOST)),
        }))
    }

    /// True while the peer is connected.
    pub fn is_connected(&self, node_id: &PublicKey) -> bool {
        self.0.presence.is_connected(node_id)
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.0.presence.connected().len()
    }

    /// All that are connected, remembered, or have channels with us.
    pub fn list(&self) -> Result<Vec<PeerState>, StoreError> {
        let mut all: BTreeMap<PublicKey, PeerState> = BTreeMap::new();
        let entry = |node_id: PublicKey| PeerState {
            node_id,
            address: None,
            connected: false,
            inbound: false,
            persisted: false,
            retry_at: None,
        };
        for node_id in self.0.channel_peers() {
            all.insert(node_id, entry(node_id));
        }
        for known in self.0.store.peers()? {
            let peer = all.entry(known.node_id).or_insert_with(|| entry(known.node_id));
            peer.persisted = true;
            peer.address = Some(known.address);
        }
        for details in self.0.manager.list_peers() {
            let node_id = details.counterparty_node_id;
            let peer = all.entry(node_id).or_insert_with(|| entry(node_id));
            peer.connected = true;
            peer.inbound = details.is_inbound_connection;
            if peer.address.is_none() {
                peer.address = details.socket_address.map(|address| address.to_string());
            }
        }
        let (instant, time) = (Instant::now(), SystemTime::now());
        let dials = self.0.dials();
        for peer in all.values_mut().filter(|peer| !peer.connected) {
            let wait = dials.get(&peer.node_id).and_then(|dial| dial.wait(instant));
            peer.retry_at = wait.and_then(|wait| time.checked_add(wait));
        }
        Ok(all.into_values().collect())
    }

    /// Connects now; done at once when it is connected already. Does not remember it.
    pub async fn connect(&self, node_id: PublicKey, address: &HostPort) -> Result<(), ConnectError> {
        self.0.dialler.dial(node_id, address).await
    }

    /// Connects to a peer that is remembered, has channels with us, or announces where it is.
    pub async fn connect_known(&self, node_id: PublicKey) -> Result<(), ConnectError> {
        let stored = self.0.stored();
        self.0.dialler.dial_all(node_id, &self.0.dialler.targets(&node_id, &stored)).await
    }

    /// Remembers a peer, to be dialled now and after each restart.
    pub fn remember(&self, node_id: PublicKey, address: &HostPort) -> Result<(), StoreError> {
        self.0.store.add_peer(node_id, &address.to_string(), now().as_secs())?;
        self.0.dials().remove(&node_id);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Forgets a peer without channels, and hangs up; true when it was remembered.
    pub fn forget(&self, node_id: PublicKey) -> Result<bool, ForgetError> {
        let channels = self.0.channels.list_channels_with_counterparty(&node_id).len();
        if channels > 0 {
            return Err(ForgetError::HasChannels(channels));
        }
        let known = self.0.store.remove_peer(node_id)?;
        self.0.dials().remove(&node_id);
        self.0.manager.disconnect_by_node_id(node_id);
        Ok(known)
    }

    /// Hangs up on everybody and lets nobody in any more. After this no message of a peer changes a channel.
    pub fn close(&self) {
        self.0.presence.close();
        self.0.manager.disconnect_all_peers();
    }

    /// Serves bound sockets until shutdown.
    pub async fn serve(self, listening: Listening, shutdown: Shutdown) -> Result<(), io::Error> {
        let mut sockets = JoinSet::new();
        for socket in listening.0 {
            sockets.spawn(self.clone().accept(socket));
        }
        shutdown.wait().await;
        // Dropping the set closes the sockets.
        Ok(())
    }

    async fn accept(self, socket: TcpListener) {
        loop {
            // Taken before accepting: over the limit, the system's queue holds them, and then refuses.
            let Ok(permit) = Arc::clone(&self.0.inbound).acquire_owned().await else { return };
            match socket.accept().await.and_then(|(stream, _)| at_once(stream)) {
                Ok(stream) => {
                    let connection = lightning_net_tokio::setup_inbound(Arc::clone(&self.0.manager), stream);
                    tokio::spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file handles, or the peer was gone already; not to be spun on.
                    tracing::warn!(%error, "could not accept a peer");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Dials peers that are to be kept, until shutdown.
    pub async fn keep(self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        let mut changes = self.0.presence.changes();
        let mut dialling = JoinSet::new();
        loop {
            changes.mark_unchanged();
            let next = self.0.dial_due(&mut dialling);
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                // It ends with the presence, which we hold.
                _ = changes.changed() => {}
                () = self.0.wake.notified() => {}
                Some(_) = dialling.join_next() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }
}

impl Peers {
    /// Connects to peers that LDK wants to talk to (onion messages), until shutdown. One at a time: nothing that the
    /// money depends on waits for these.
    pub async fn call(
        self,
        mut wanted: mpsc::Receiver<Wanted>,
        shutdown: Shutdown,
    ) -> Result<(), std::convert::Infallible> {
        loop {
            let Wanted { node_id, addresses } = tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                Some(wanted) = wanted.recv() => wanted,
            };
            let mut targets: Vec<HostPort> =
                addresses.iter().filter_map(|address| self.0.dialler.announced(address)).collect();
            targets.extend(self.0.dialler.targets(&node_id, &self.0.stored()));
            targets.truncate(ADDRESSES_AT_MOST);
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                outcome = self.0.dialler.dial_all(node_id, &targets) => if let Err(error) = outcome {
                    tracing::debug!(peer = %node_id, %error, "could not connect for an onion message");
                },
            }
        }
    }
}

impl Inner {
    fn dials(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Dial>> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel_peers(&self) -> BTreeSet<PublicKey> {
        self.channels.list_channels().iter().map(|channel| channel.counterparty.node_id).collect()
    }

    fn stored(&self) -> BTreeMap<PublicKey, String> {
        match self.store.peers() {
            Ok(peers) => peers.into_iter().map(|peer| (peer.node_id, peer.address)).collect(),
            Err(error) => {
                tracing::error!(%error, "could not read the peers");
                BTreeMap::new()
            }
        }
    }

    /// Begins to dial those whose time has come; returns how long until the next.
    fn dial_due(self: &Arc<Self>, dialling: &mut JoinSet<()>) -> Duration {
        let stored = self.stored();
        let connected = self.presence.connected();
        let mut wanted = self.channel_peers();
        wanted.extend(stored.keys());
        wanted.remove(&self.dialler.us);
        let now = Instant::now();
        let mut next = LOOK;
        let mut dials = self.dials();
        dials.retain(|node_id, _| wanted.contains(node_id));
        for node_id in wanted {
            let dial = dials.entry(node_id).or_insert_with(|| Dial::new(now));
            dial.look(connected.contains(&node_id), now, jitter);
            if dial.is_due(now) {
                let targets = self.dialler.targets(&node_id, &stored);
                dial.begin();
                dialling.spawn(Arc::clone(self).try_peer(node_id, targets));
            } else if let Some(wait) = dial.wait(now) {
                next = next.min(wait);
            }
        }
        next
    }

    async fn try_peer(self: Arc<Self>, node_id: PublicKey, targets: Vec<HostPort>) {
        let outcome = self.dialler.dial_all(node_id, &targets).await;
        if let Err(error) = &outcome {
            tracing::debug!(peer = %node_id, %error, "not connected");
        }
        if let Some(dial) = self.dials().get_mut(&node_id) {
            dial.done(outcome.is_ok(), Instant::now(), jitter);
        }
    }
}

/// The stream for LDK, which sets nothing: messages are small and waited for, and none may lie until the last one is
/// acknowledged (40 ms a payment).
fn at_once(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}
