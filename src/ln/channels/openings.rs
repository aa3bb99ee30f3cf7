//! Channels that somebody waits for: from `open` to the signed funding transaction, by `user_channel_id`.
//!
//! Kept in memory only, because LDK forgets such channels with the process (`FundingGenerationReady` is not
//! written). A channel is funded only while its opening is listed here. Whoever is told "failed" can rely on it:
//! the entry is gone before the word is given, and without the entry nothing is funded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::{Amount, FeeRate, OutPoint};
use lightning::ln::types::ChannelId;
use tokio::sync::oneshot;

/// How the funding transaction is to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FundingPlan {
    /// Of the funding transaction.
    pub feerate: FeeRate,
    /// What must stay in the wallet.
    pub keep_back: Amount,
}

/// How an opening ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer has signed; the funding transaction is on its way to the network.
    Pending {
        /// The final id.
        channel_id: ChannelId,
        /// The channel's output.
        funding: OutPoint,
    },
    /// It came to nothing, and nothing was spent. In words: a sentence.
    Failed(String),
    /// It came to nothing, because the wallet could not pay for it; what is missing, in words.
    Unfunded(String),
}

/// What a deadline finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Not funded, and it will not be: close it.
    Unfunded,
    /// The funding transaction is with LDK: only the peer's signature is missing, and it may still come.
    Unsigned,
    /// The verdict has just been given.
    Settled,
}

/// The list. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Openings(Arc<Mutex<HashMap<u128, Opening>>>);

#[derive(Debug)]
struct Opening {
    plan: FundingPlan,
    funded: bool,
    tell: oneshot::Sender<Verdict>,
}

impl Openings {
    /// Lists an opening; the receiver gets its verdict.
    pub fn begin(&self, user_channel_id: u128, plan: FundingPlan) -> oneshot::Receiver<Verdict> {
        let (tell, told) = oneshot::channel();
        self.lock().insert(user_channel_id, Opening { plan, funded: false, tell });
        told
    }

    /// The plan of an opening that is still wanted; from now on it cannot be given up. `None`: do not fund it.
    pub fn fund(&self, user_channel_id: u128) -> Option<FundingPlan> {
        let mut openings = self.lock();
        let opening = openings.get_mut(&user_channel_id)?;
        opening.funded = true;
        Some(opening.plan)
    }

    /// True while there is no verdict: the funding transaction, if there is one, was not sent.
    pub fn is_open(&self, user_channel_id: u128) -> bool {
        self.lock().contains_key(&user_channel_id)
    }

    /// Gives the verdict, if anybody still waits for it.
    pub fn settle(&self, user_channel_id: u128, verdict: Verdict) {
        let opening = self.lock().remove(&user_channel_id);
        // The receiver may be gone with its request; the channel's own record tells what became of it.
        if let Some(opening) = opening {
            drop(opening.tell.send(verdict));
        }
    }

    /// Ends the waiting: what is not funded by now will not be.
    pub fn give_up(&self, user_channel_id: u128) -> GivenUp {
        let mut openings = self.lock();
        match openings.get(&user_channel_id) {
            Some(Opening { funded: true, .. }) => GivenUp::Unsigned,
            Some(Opening { funded: false, .. }) => {
                openings.remove(&user_channel_id);
                GivenUp::Unfunded
            }
            None => GivenUp::Settled,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Opening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: FundingPlan = FundingPlan { feerate: FeeRate::BROADCAST_MIN, keep_back: Amount::ZERO };

    #[test]
    fn an_opening_that_was_given_up_is_never_funded() {
        let openings = Openings::default();
        let _told = openings.begin(7, PLAN);
        assert_eq!(openings.give_up(7), GivenUp::Unfunded);
        assert_eq!(openings.fund(7), None);
    }

    #[test]
    fn a_funded_opening_cannot_be_called_off_by_a_deadline() {
        let openings = Openings::default();
        let mut told = openings.begin(7, PLAN);
        assert_eq!(openings.fund(7), Some(PLAN));
        assert_eq!(openings.give_up(7), GivenUp::Unsigned);
        openings.settle(7, Verdict::Failed("the peer went away".into()));
        assert_eq!(told.try_recv().ok(), Some(Verdict::Failed("the peer went away".into())));
        assert_eq!(openings.give_up(7), GivenUp::Settled);
    }

    #[test]
    fn a_replayed_verdict_is_given_once() {
        let openings = Openings::default();
        let mut told = openings.begin(7, PLAN);
        openings.settle(7, Verdict::Unfunded("10 sat are missing".into()));
        openings.settle(7, Verdict::Failed("closed".into()));
        assert_eq!(told.try_recv().ok(), Some(Verdict::Unfunded("10 sat are missing".into())));
    }
}
