//! One server's line: its duties, how far its headers are followed, and what it says of the scripts.

use std::collections::{BTreeSet, VecDeque};

use bitcoin::block::Header;

use super::headers::Older;
use super::requests::Requests;
use crate::chain::io::{BlockRef, Owners, Request, ScriptHash};
use crate::chain::tree::HeaderTree;
use crate::chain::view::Views;

/// How a server's claimed tip is being linked to our tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chase {
    /// It is linked, or nothing is claimed.
    Idle,
    /// Headers from `start` on were asked for; `back` is how far the last step went below the one before.
    Asked { start: u32, back: u32 },
    /// A better time to ask again.
    Resting(u64),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    /// Whose scripts the server is asked about.
    pub(super) serves: Owners,
    /// What the server says is its tip.
    pub(super) claim: Option<(Header, BlockRef)>,
    pub(super) chase: Chase,
    /// Chases that led nowhere, one after another.
    pub(super) tries: u32,
    /// Our height when it last left a chase to another server.
    pub(super) deferred: Option<u32>,
    pub(super) older: Older,
    /// Our block against which its proofs fail, while it is asked for its header there.
    pub(super) suspected: Option<BlockRef>,
    pub(super) views: Views,
    /// Scripts whose turn has not come.
    pub(super) queue: VecDeque<ScriptHash>,
    /// When the first of those that leave a job to another server begins by itself.
    pub(super) start: Option<u64>,
    /// The script that was last subscribed anew in the slow round, and when the next one is due.
    pub(super) round: (Option<ScriptHash>, u64),
    /// Scripts of which more is proven than this server listed.
    pub(super) lagging: BTreeSet<ScriptHash>,
    /// When those are looked at.
    pub(super) doubt: Option<u64>,
    pub(super) requests: Requests,
}

impl Line {
    /// A connection that serves nobody yet; the first of its slow round is due at `round`.
    pub(super) fn new(round: u64) -> Self {
        Line {
            serves: Owners::default(),
            claim: None,
            chase: Chase::Idle,
            tries: 0,
            deferred: None,
            older: Older::default(),
            suspected: None,
            views: Views::default(),
            queue: VecDeque::new(),
            start: None,
            round: (None, round),
            lagging: BTreeSet::new(),
            doubt: None,
            requests: Requests::default(),
        }
    }

    /// True when it is asked about scripts at all.
    pub(super) fn is_serving(&self) -> bool {
        self.serves != Owners::default()
    }

    /// The height up to which the server's view is a view of our best chain.
    pub(super) fn linked(&self, tree: &HeaderTree) -> Option<u32> {
        self.claim.map(|(_, block)| block).filter(|block| tree.contains(*block)).map(|block| block.height)
    }

    /// When something is to be done with it if nothing happens before.
    pub(super) fn deadline(&self) -> Option<u64> {
        let chase = if let Chase::Resting(until) = self.chase { Some(until) } else { None };
        let round = (self.views.len() > 0).then_some(self.round.1);
        let rested = self.views.next_rested().map(|(until, _)| until);
        let all = [chase, round, rested, self.older.deadline(), self.start, self.doubt, self.patience()];
        all.into_iter().flatten().min()
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.requests.ask(request);
    }
}
