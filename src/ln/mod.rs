//! Floor 4: LDK.
//!
//! [`restore`] reads everything from the disk and needs no server; [`confirm`] is told of the chain by the engine;
//! [`start`] lets peers, events and timers begin, once the chain was told. [`types`] is the only place with LDK's
//! generics.

pub mod announce;
pub mod audit;
pub mod background;
mod backoff;
pub mod backup;
pub mod balances;
pub mod behind;
pub mod broadcast;
pub mod channels;
pub mod check;
pub mod coins;
pub mod confirm;
pub mod decode;
mod dialling;
pub mod events;
pub mod fees;
pub mod fetch;
pub mod filter;
pub mod gate;
pub mod gossip;
pub mod housekeeping;
pub mod logger;
pub mod outgoing;
pub mod peers;
pub mod persist;
pub mod presence;
pub mod purposes;
pub mod receive;
pub mod recovery;
pub mod restore;
pub mod send;
pub mod settings;
pub mod signers;
mod snapshot;
pub mod start;
#[cfg(test)]
mod story;
pub mod sweeps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod types;
pub mod vault;
pub mod words;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tokio::sync::watch;

use self::types::*;
use crate::chain::io::BlockRef;
use crate::clock::unix_now;
use crate::store::Store;
use crate::wallet::Wallet;

/// The Lightning node: shared parts, to be destructured by those who need some of them. Cheap to clone.
#[derive(Clone)]
pub struct Ln {
    pub keys: Arc<KeysManager>,
    pub logger: Arc<Logger>,
    pub fees: Arc<Fees>,
    pub broadcaster: Arc<Broadcaster>,
    pub filter: Arc<FilterInbox>,
    pub kv: Arc<Kv>,
    pub managed: Arc<ManagedKv>,
    pub store: Store,
    pub wallet: Wallet,
    pub graph: Arc<NetworkGraph>,
    pub scorer: Arc<RwLock<Scorer>>,
    pub router: Arc<Router>,
    pub persister: Arc<Persister>,
    pub chain_monitor: Arc<ChainMonitor>,
    pub channels: Arc<ChannelManager>,
    pub messenger: Arc<OnionMessenger>,
    /// LDK's peer manager; [`peers::Peers`] is what dials and remembers.
    pub peers: Arc<PeerManager>,
    pub presence: Arc<Presence>,
    pub sweeper: Arc<Sweeper>,
    /// What drives the sweeper.
    pub sweeps: Arc<Sweeps>,
    pub bumper: Arc<Bumper>,
    /// The best block that LDK was told in this run.
    pub tip: watch::Receiver<Option<BlockRef>>,
}

impl Ln {
    /// Our node id.
    pub fn node_id(&self) -> PublicKey {
        self.channels.get_our_node_id()
    }

    /// The best block that LDK was told in this run; `None` until it was told one.
    pub fn best_block(&self) -> Option<BlockRef> {
        *self.tip.borrow()
    }

    /// Returns when LDK was told a tip. Never returns if the node ends before.
    pub async fn synced(&self) -> BlockRef {
        let mut tip = self.tip.clone();
        let told = tip.wait_for(Option::is_some).await.ok().and_then(|told| *told);
        match told {
            Some(tip) => tip,
            None => std::future::pending().await,
        }
    }
}

/// Time since 1970, by [`crate::clock`].
fn now() -> Duration {
    Duration::from_secs(unix_now())
}

/// Runs what blocks (the database, LDK calls that write monitors) where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is being dropped, and this future with it.
        Err(_) => std::future::pending().await,
    }
}
