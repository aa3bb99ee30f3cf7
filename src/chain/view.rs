//! What one server says of the scripts that are followed on it.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;

use super::history::Stage;
use super::io::{ScriptHash, Status};

/// One server's word on one script, and what is waited for from it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) stage: Stage,
    /// Since when it is queued, in ms.
    pub(super) queued: u64,
    /// The server pushes its statuses.
    pub(super) subscribed: bool,
    /// What the server said last.
    pub(super) pushed: Option<Status>,
    /// For which the history was asked for that is being worked on.
    pub(super) fetching: Option<Status>,
    /// For which it is worked off.
    pub(super) known: Option<Option<Status>>,
    /// To be worked off even if the status is the known one.
    pub(super) again: bool,
    /// Up to this height, at least, the server told all; 0: nothing.
    pub(super) covered: u32,
    /// The server's height when it said the status, or was asked for the history, that is being worked on.
    pub(super) covering: u32,
    /// Proven transactions that its last whole history listed.
    pub(super) listed: usize,
    /// Proven, in reach of the server, and not in the history that is or was being worked on.
    pub(super) omits: Option<Txid>,
    /// Troubles since it was last settled.
    pub(super) tries: u32,
    /// Proofs against another root, since it was last settled.
    pub(super) misses: u32,
    pub(super) degraded: bool,
    /// Unconfirmed transactions of its history.
    pub(super) pending: BTreeSet<Txid>,
}

impl View {
    fn new() -> Self {
        View {
            stage: Stage::Subscribing,
            queued: 0,
            subscribed: false,
            pushed: None,
            fetching: None,
            known: None,
            again: false,
            covered: 0,
            covering: 0,
            listed: 0,
            omits: None,
            tries: 0,
            misses: 0,
            degraded: false,
            pending: BTreeSet::new(),
        }
    }

    /// True when the server knows more, or other, than was worked off.
    pub(super) fn is_behind(&self) -> bool {
        self.again || self.known != Some(self.pushed)
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled)
    }

    /// The height up to which the server has told all, when `tip` is its own; `None`: nothing yet.
    pub(super) fn told_up_to(&self, tip: u32) -> Option<u32> {
        match self.is_settled() {
            true => Some(tip),
            false => Some(self.covered.min(tip)).filter(|&height| height > 0),
        }
    }

    /// True when the server may still tell something of a block at `height`.
    fn is_at_work(&self, height: u32) -> bool {
        !self.is_settled() && !self.degraded && self.covered < height
    }
}

/// All scripts of one server, sorted by what they wait for. The stage changes only through [`Views::enter`].
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    all: BTreeMap<ScriptHash, View>,
    unsettled: BTreeSet<ScriptHash>,
    active: BTreeSet<ScriptHash>,
    resting: BTreeSet<(u64, ScriptHash)>,
}

impl Views {
    /// A script to be subscribed; one that is there already starts over from its subscription.
    pub(super) fn subscribe(&mut self, id: ScriptHash) {
        self.all.entry(id).or_insert_with(View::new);
        self.enter(id, Stage::Subscribing);
    }

    /// Follows a script no longer; gives what the server said of it.
    pub(super) fn remove(&mut self, id: ScriptHash) -> Option<View> {
        self.enter(id, Stage::Settled);
        self.all.remove(&id)
    }

    pub(super) fn get(&self, id: &ScriptHash) -> Option<&View> {
        self.all.get(id)
    }

    /// To change anything but the stage.
    pub(super) fn get_mut(&mut self, id: &ScriptHash) -> Option<&mut View> {
        self.all.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ScriptHash, &View)> {
        self.all.iter()
    }

    /// To change anything but the stages.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ScriptHash, &mut View)> {
        self.all.iter_mut()
    }

    /// Puts a script into a stage, and gives the one that it was in.
    pub(super) fn enter(&mut self, id: ScriptHash, stage: Stage) -> Option<Stage> {
        let view = self.all.get_mut(&id)?;
        if let Stage::Resting(until) = view.stage {
            self.resting.remove(&(until, id));
        }
        if let Stage::Resting(until) = stage {
            self.resting.insert((until, id));
        }
        match stage.is_active() {
            true => self.active.insert(id),
            false => self.active.remove(&id),
        };
        match stage {
            Stage::Settled => self.unsettled.remove(&id),
            _ => self.unsettled.insert(id),
        };
        Some(std::mem::replace(&mut view.stage, stage))
    }

    /// Scripts whose history is being worked on.
    pub(super) fn active(&self) -> Vec<ScriptHash> {
        self.active.iter().copied().collect()
    }

    /// The same with what is known of them.
    pub(super) fn at_job(&self) -> impl Iterator<Item = (&ScriptHash, &View)> {
        self.active.iter().filter_map(|id| Some((id, self.all.get(id)?)))
    }

    pub(super) fn active_len(&self) -> usize {
        self.active.len()
    }

    /// Scripts that wait for something.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = (&ScriptHash, &View)> {
        self.unsettled.iter().filter_map(|id| Some((id, self.all.get(id)?)))
    }

    pub(super) fn unsettled_len(&self) -> usize {
        self.unsettled.len()
    }

    /// True when the server may still tell something of a block at `height`.
    pub(super) fn are_at_work(&self, height: u32) -> bool {
        self.unsettled().any(|(_, view)| view.is_at_work(height))
    }

    /// The script that rests least, and until when.
    pub(super) fn next_rested(&self) -> Option<(u64, ScriptHash)> {
        self.resting.first().copied()
    }

    /// The next settled script after `id`, round and round.
    pub(super) fn settled_after(&self, id: Option<ScriptHash>) -> Option<ScriptHash> {
        let after = self.all.iter().filter(|(other, _)| id.is_none_or(|id| **other > id));
        after.chain(self.all.iter()).find(|(_, view)| view.is_settled()).map(|(id, _)| *id)
    }
}
