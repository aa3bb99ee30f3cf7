//! Floor 4: LDK.

pub mod broadcast;
pub mod coins;
pub mod confirm;
pub mod fees;
pub mod fetch;
pub mod filter;
pub mod gossip;
pub mod logger;
pub mod persist;
pub mod presence;
pub mod settings;
pub mod types;

use std::sync::{Arc, RwLock};

use types::*;

/// The restored Lightning node: shared parts, to be destructured by those who need some of them.
#[derive(Clone)]
pub struct Ln {
    pub keys: Arc<KeysManager>,
    pub logger: Arc<Logger>,
    pub fees: Arc<Fees>,
    pub broadcaster: Arc<Broadcaster>,
    pub graph: Arc<NetworkGraph>,
    pub scorer: Arc<RwLock<Scorer>>,
    pub router: Arc<Router>,
    pub chain_monitor: Arc<ChainMonitor>,
    pub channels: Arc<ChannelManager>,
    pub messenger: Arc<OnionMessenger>,
    pub peers: Arc<PeerManager>,
    pub sweeper: Arc<Sweeper>,
    pub bumper: Arc<Bumper>,
}

impl Ln {
    /// Our node id.
    pub fn node_id(&self) -> bitcoin::secp256k1::PublicKey {
        self.channels.get_our_node_id()
    }
}
