//! Floor 2: drives the sync machine. The only place where a proven plan is delivered.
//!
//! Contract:
//! - One task owns the machine, the pool and the connections; all others hold an [`EngineHandle`] or a [`WatchInbox`].
//! - Actions are performed in the machine's order: what is to be durable is durable before the next one.
//! - A plan is told to every listener, in their order; then what they ask to follow is put in; then the machine goes on.
//! - What cannot be stored or delivered ends the task with an error, and so the process.
//!
//! Decision: [`Listener`]s are called from the engine's own task, one plan at a time, and may block on durable
//! writes. Chosen so that order and completeness hold by construction; the cost is that a slow disk slows the
//! sync, which is what it should do.

mod caution;
mod disk;
mod driver;
pub mod fees;
mod handle;
mod ladder;
mod links;
mod outbox;
mod setup;
mod state;
#[cfg(test)]
mod tests;

use bitcoin::Txid;

use crate::chain::io::{Plan, Watch};
use crate::chain::tree::HeaderTree;

pub use caution::Caution;
pub use driver::{Engine, EngineError, Parts};
pub use fees::FeeBook;
pub use handle::{EngineHandle, Proven};
pub use ladder::{Alarm, Step};
pub use setup::{RestoreError, certificates, pool, restore};
pub use state::{EngineState, Phase, Tip};

/// Hears of proven plans: the on-chain wallet, and LDK's confirmables.
pub trait Listener: Send + Sync {
    /// Applies one plan. Durable when it returns. `headers` is the tree that the plan was made from.
    ///
    /// An error is fatal for the node: what could not be stored must not be assumed.
    fn deliver(&self, plan: &Plan, headers: &HeaderTree) -> Result<(), DeliveryError>;

    /// What it holds for unconfirmed (asked at start, and after each plan with a fork): what of it proves to be nowhere
    /// comes as gone in [`Plan::mempool`]. A listener that hears of no unconfirmed transactions has none.
    fn believed(&self) -> Vec<Txid> {
        Vec::new()
    }
}

/// A plan could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("{who} could not apply a chain update: {why}")]
pub struct DeliveryError {
    /// The listener.
    pub who: &'static str,
    /// The cause in words.
    pub why: String,
}

/// Where scripts to follow are put in, from any thread, without blocking; re-entrant.
#[derive(Clone, Debug)]
pub struct WatchInbox(tokio::sync::mpsc::UnboundedSender<Watch>);

impl WatchInbox {
    /// An inbox and the end that the engine drains.
    pub fn new() -> (Self, tokio::sync::mpsc::UnboundedReceiver<Watch>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Asks to follow a script from now on. After shutdown of the engine it does nothing.
    pub fn push(&self, watch: Watch) {
        // The receiver is gone only when the process is ending.
        let _ = self.0.send(watch);
    }
}
