//! What one server is asked: what is under way, and what waits.

use std::collections::{HashSet, VecDeque};

use crate::chain::io::Request;

/// Requests in flight at once: as many as every server takes.
pub(super) const IN_FLIGHT: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Requests {
    urgent: VecDeque<Request>,
    queue: VecDeque<Request>,
    /// What is in the queues: nothing is asked twice at once.
    queued: HashSet<Request>,
    in_flight: HashSet<Request>,
}

impl Requests {
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
