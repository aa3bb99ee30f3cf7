//! How other rooms speak to the engine.

use bitcoin::Transaction;
use tokio::sync::{mpsc, watch};

use super::state::EngineState;

/// What the engine is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Send(Vec<Transaction>),
    SendOutbox,
    Retry,
    Rescan,
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
