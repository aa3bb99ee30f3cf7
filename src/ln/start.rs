//! From a restored node to a running one.
//!
//! Nothing here is called before the chain was told: a manager that is behind would take a peer's word for the time.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use lightning::events::{Event, ReplayEvent};
use tokio::sync::mpsc;

use super::announce::{AnnounceError, Announcer};
use super::events::Dial as Wanted;
use super::peers::{Listening, Peers};
use super::restore::Restored;
use super::{Ln, background};
use crate::config::Identity;
use crate::dial::Dialer;
use crate::task::Tasks;

/// A Lightning node at work.
#[derive(Clone)]
pub struct Running {
    /// Its parts.
    pub ln: Ln,
    /// Its connections.
    pub peers: Peers,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
}

/// How others find us, and we them.
pub struct Doors<'a> {
    /// What we announce.
    pub identity: &'a Identity,
    /// Where peers come in.
    pub listening: Listening,
    /// Whom the event handler wants to talk to.
    pub wanted: mpsc::Receiver<Wanted>,
    /// The way out.
    pub dialer: Dialer,
}

impl Restored {
    /// Waits until the chain was told, and then lets events, timers and peers begin. `handle` gets every event.
    pub async fn start<H, F>(self, tasks: &Tasks, doors: Doors<'_>, handle: H) -> Result<Running, AnnounceError>
    where
        H: Fn(Event) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), ReplayEvent>> + Send + 'static,
    {
        let Self { ln, gossip, snapshots, .. } = self;
        let Doors { identity, listening, wanted, dialer } = doors;
        let announcer = Announcer::new(Arc::clone(&ln.channels), Arc::clone(&ln.peers), identity)?;
        let tip = ln.synced().await;
        tracing::info!(height = tip.height, node_id = %ln.node_id(), "lightning begins");
        let peers = Peers::new(&ln, dialer.clone());
        let shutdown = tasks.shutdown();
        tasks.spawn("ln", background::run(ln.clone(), gossip, peers.clone(), handle, shutdown.clone()));
        tasks.spawn("ln-sweeps", Arc::clone(&ln.sweeps).run(ln.tip.clone(), shutdown.clone()));
        if let Some(snapshots) = snapshots {
            tasks.spawn("ln-gossip", snapshots.run(dialer.clone(), shutdown.clone()));
        }
        let addresses = listening.addresses();
        tasks.spawn("ln-listen", peers.clone().serve(listening, shutdown.clone()));
        tasks.spawn("ln-peers", peers.clone().keep(shutdown.clone()));
        tasks.spawn("ln-call", peers.clone().call(wanted, shutdown.clone()));
        tasks.spawn("ln-announce", announcer.run(shutdown.clone()));
        Ok(Running { ln, peers, listening: addresses })
    }
}
