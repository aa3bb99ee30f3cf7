//! Servers beside the main one, honest and otherwise.

use std::collections::BTreeSet;

use super::node::*;
use super::world::*;
use crate::chain::io::*;

/// A server with a node of its own.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) node: Node,
    subscribed: BTreeSet<ScriptHash>,
    /// Answers other than the node's own.
    pub(super) lies: Vec<(Request, Result<Reply, Refusal>)>,
    /// It takes requests and does not answer.
    pub(super) silent: bool,
}

impl Peer {
    pub(super) fn answer(&mut self, request: &Request) -> Result<Reply, Refusal> {
        if let Request::Subscribe { script } = request {
            self.subscribed.insert(*script);
        }
        let lie = self.lies.iter().find(|(lied, _)| lied == request).map(|(_, reply)| reply.clone());
        lie.unwrap_or_else(|| self.node.answer(request))
    }
}

impl World {
    /// A server that answers from a node of its own, with these duties.
    pub(super) fn join(&mut self, node: Node, serves: Owners) -> SourceId {
        // Before and after the main one, in turns.
        let count = self.peers.len() as u64;
        let source = SourceId(if count % 2 == 0 { 1 + count } else { 1000 + count });
        self.peers.insert(source, Peer { node, subscribed: BTreeSet::new(), lies: Vec::new(), silent: false });
        self.on(Input::Up { source, serves });
        self.push_tip_of(source);
        source
    }

    pub(super) fn leave(&mut self, source: SourceId) {
        self.peers.remove(&source);
        self.in_flight.retain(|(other, _)| *other != source);
        self.on(Input::Down { source });
    }

    pub(super) fn peer(&mut self, source: SourceId) -> &mut Peer {
        self.peers.get_mut(&source).expect("a server that has joined")
    }

    pub(super) fn push_tip_of(&mut self, source: SourceId) {
        let node = &self.peer(source).node;
        let (header, height) = (node.tip(), node.height());
        self.on(Input::Tip { source, header, height });
    }

    pub(super) fn push_status_of(&mut self, source: SourceId, script: ScriptHash) {
        let peer = self.peer(source);
        if peer.subscribed.contains(&script) {
            let status = peer.node.status(script);
            self.on(Input::Status { source, script, status });
        }
    }

    /// All that a server pushes after a block.
    pub(super) fn push_of(&mut self, source: SourceId) {
        self.push_tip_of(source);
        let scripts: Vec<_> = self.peer(source).subscribed.iter().copied().collect();
        scripts.into_iter().for_each(|script| self.push_status_of(source, script));
    }

    /// A server comes to know what the main one knows, and pushes it.
    pub(super) fn catch_up(&mut self, source: SourceId) {
        self.peer(source).node = self.node.clone();
        self.push_of(source);
    }

    /// Requests of a kind to one server since the last call of [`World::forget`].
    pub(super) fn count_of(&self, source: SourceId, kind: fn(&Request) -> bool) -> usize {
        self.asked_of.iter().filter(|(asked, request)| *asked == source && kind(request)).count()
    }
}
