//! One server's line: what was asked, what waits to be asked, and how far its headers are followed.

use std::collections::{HashSet, VecDeque};

use bitcoin::block::Header;

use crate::chain::io::{BlockRef, Owners, Request};

/// Requests in flight at once: as many as every server takes.
pub(super) const IN_FLIGHT: usize = 8;

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
    urgent: VecDeque<Request>,
    queue: VecDeque<Request>,
    /// What is in the queues: nothing is asked twice at once.
    queued: HashSet<Request>,
    in_flight: HashSet<Request>,
}

impl Line {
    pub(super) fn new(serves: Owners) -> Self {
        Line {
            serves,
            claim: None,
            chase: Chase::Idle,
            tries: 0,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            in_flight: HashSet::new(),
        }
    }

    /// Queues a request, unless it is already under way.
    pub(super) fn ask(&mut self, request: Request) {
        if !self.in_flight.contains(&request) && self.queued.insert(request.clone()) {
            match request {
                Request::Headers { .. } => self.urgent.push_back(request),
                _ => self.queue.push_back(request),
            }
        }
    }

    /// The next request to send, if there is room in flight. Those that nobody `wants` any more are forgotten: an
    /// error (say, for a transaction that left the chain) is dear.
    pub(super) fn next(&mut self, wants: impl Fn(&Request) -> bool) -> Option<Request> {
        while self.in_flight.len() < IN_FLIGHT {
            let request = self.urgent.pop_front().or_else(|| self.queue.pop_front())?;
            self.queued.remove(&request);
            if wants(&request) {
                self.in_flight.insert(request.clone());
                return Some(request);
            }
        }
        None
    }

    /// Takes an answer; false when nothing of the kind was asked.
    pub(super) fn answered(&mut self, request: &Request) -> bool {
        self.in_flight.remove(request)
    }
}
