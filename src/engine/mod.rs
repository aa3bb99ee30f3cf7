//! Floor 2: drives the sync machine. The only place where a proven plan is delivered.
//!
//! Decision: [`Listener`]s are called from the engine's own task, one plan at a time, and may block on durable
//! writes. Chosen so that order and completeness hold by construction; the cost is that a slow disk slows the
//! sync, which is what it should do.

use crate::chain::io::{Plan, Watch};
use crate::chain::tree::HeaderTree;

/// Hears of proven plans: the on-chain wallet, and LDK's confirmables.
pub trait Listener: Send + Sync {
    /// Applies one plan. Durable when it returns. `headers` is the tree that the plan was made from.
    ///
    /// An error is fatal for the node: what could not be stored must not be assumed.
    fn deliver(&self, plan: &Plan, headers: &HeaderTree) -> Result<(), DeliveryError>;
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
