//! How other rooms speak to the engine.

use std::sync::Arc;

use bitcoin::Transaction;
use tokio::sync::{mpsc, oneshot, watch};

use super::state::EngineState;
use crate::chain::io::{BlockRef, ScriptHash};
use crate::chain::merkle::ProvenTx;

/// What the engine is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Send(Vec<Transaction>),
    SendOutbox,
    Retry,
    Rescan,
    Proven(BlockRef, oneshot::Sender<Proven>),
    Unwatch { scripts: Vec<ScriptHash>, done: oneshot::Sender<()> },
    Forgive { host: String, done: oneshot::Sender<bool> },
}

/// What is proven, at one moment.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Our best block.
    pub tip: BlockRef,
    /// The block that was asked about is in our best chain.
    pub contains: bool,
    /// All that concerns channels, in chain order.
    pub txs: Vec<Arc<ProvenTx>>,
}

/// The engine, for other rooms. Nothing here blocks; after shutdown nothing happens.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) state: watch::Receiver<EngineState>,
}

impl EngineHandle {
    /// Sends a package (parents first) to every connected server now. It should be in the outbox, from where it is
    /// sent again at each block and with each new connection until it is taken out.
    pub fn broadcast(&self, package: Vec<Transaction>) {
        self.tell(Command::Send(package));
    }

    /// Sends everything in the outbox now.
    pub fn broadcast_outbox(&self) {
        self.tell(Command::SendOutbox);
    }

    /// Tries all servers again now, also those that wait or that a person had to look at. Bans stay.
    pub fn retry(&self) {
        self.tell(Command::Retry);
    }

    /// Connects anew and asks again for everything.
    pub fn rescan(&self) {
        self.tell(Command::Rescan);
    }

    /// What is proven now for channels, and whether our best chain holds `block`. `None` after shutdown.
    pub async fn proven(&self, block: BlockRef) -> Option<Proven> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Proven(block, answer));
        answered.await.ok()
    }

    /// These scripts are followed for Lightning no more, from when it returns; what is pushed into the inbox later is
    /// followed again. `None` after shutdown.
    pub async fn unwatch(&self, scripts: Vec<ScriptHash>) -> Option<()> {
        let (done, unwatched) = oneshot::channel();
        self.tell(Command::Unwatch { scripts, done });
        unwatched.await.ok()
    }

    /// Lifts the ban of a host and forgets what else speaks against its servers; durable when it returns. False: neither
    /// a server nor a ban is of this host. `None`: the node is ending.
    pub async fn forgive(&self, host: &str) -> Option<bool> {
        let (done, forgiven) = oneshot::channel();
        self.tell(Command::Forgive { host: host.to_owned(), done });
        forgiven.await.ok()
    }

    /// What the engine does now.
    pub fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// The state and its changes.
    pub fn subscribe(&self) -> watch::Receiver<EngineState> {
        self.state.clone()
    }

    fn tell(&self, command: Command) {
        // The receiver is gone only when the process is ending.
        let _ = self.commands.send(command);
    }
}
