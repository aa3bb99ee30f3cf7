//! The scripts that are followed.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Script, ScriptBuf, Txid};

use super::history::Stage;
use super::io::{Owners, ScriptHash, Status, Watch};

/// The pay-to-anchor script, `OP_1 <4e73>`. Everybody shares it: its history is a flood that no server could serve and
/// that would tell us nothing, so it is never subscribed. The outputs of a commitment transaction that has one are
/// followed by its other scripts.
const PAY_TO_ANCHOR: &[u8] = &[0x51, 0x02, 0x4e, 0x73];

/// True when a script's history can be followed.
pub fn followable(script: &Script) -> bool {
    script.as_bytes() != PAY_TO_ANCHOR && !script.is_op_return()
}

/// One script, what is known of it and what it waits for.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) script: ScriptBuf,
    pub(super) owners: Owners,
    pub(super) stage: Stage,
    /// The serving server pushes its statuses.
    pub(super) subscribed: bool,
    /// What the serving server said last.
    pub(super) pushed: Option<Status>,
    /// For which the history was asked for that is being worked on.
    pub(super) fetching: Option<Status>,
    /// For which the history was fetched whole.
    pub(super) known: Option<Status>,
    /// To be fetched even if the status is the known one.
    pub(super) again: bool,
    /// Up to this height, at least, the last whole history tells all.
    pub(super) covered: u32,
    /// The server's height when the history was asked for that is being worked on.
    pub(super) covering: u32,
    /// Troubles since it was last settled.
    pub(super) tries: u32,
    /// Proofs against another root, since it was last settled.
    pub(super) misses: u32,
    pub(super) degraded: bool,
    /// Proven transactions of its history.
    pub(super) confirmed: BTreeSet<Txid>,
    /// Unconfirmed transactions of its history.
    pub(super) pending: BTreeSet<Txid>,
    /// The stored record is not what is known now.
    pub(super) unstored: bool,
}

impl Followed {
    fn new(script: ScriptBuf) -> Self {
        Followed {
            script,
            owners: Owners::default(),
            stage: Stage::Offline,
            subscribed: false,
            pushed: None,
            fetching: None,
            known: None,
            again: false,
            covered: 0,
            covering: 0,
            tries: 0,
            misses: 0,
            degraded: false,
            confirmed: BTreeSet::new(),
            pending: BTreeSet::new(),
            unstored: false,
        }
    }

    /// True when the server knows more, or other, than we do.
    pub(super) fn is_behind(&self) -> bool {
        self.again || self.pushed != self.known
    }

    /// The height up to which the server has told all, when `tip` is its own.
    pub(super) fn told_up_to(&self, tip: u32) -> u32 {
        if matches!(self.stage, Stage::Settled) && !self.degraded { tip } else { self.covered.min(tip) }
    }

    /// True when a block at `height` may hold something of this script that we have not seen.
    pub(super) fn holds_back(&self, height: u32) -> bool {
        !matches!(self.stage, Stage::Settled) && !self.degraded && self.covered < height
    }
}

/// All of them, sorted by what they wait for. The stage changes only through [`WatchSet::enter`].
#[derive(Clone, Debug, Default)]
pub(super) struct WatchSet {
    all: BTreeMap<ScriptHash, Followed>,
    unsettled: BTreeSet<ScriptHash>,
    active: BTreeSet<ScriptHash>,
    resting: BTreeSet<(u64, ScriptHash)>,
}

impl WatchSet {
    /// Adds a script, or owners to one; says how it stood before.
    pub(super) fn add(&mut self, watch: Watch) -> (ScriptHash, Added) {
        let id = ScriptHash::of(&watch.script);
        if !followable(&watch.script) {
            return (id, Added::Refused);
        }
        let mut added = Added::Known;
        let followed = self.all.entry(id).or_insert_with(|| {
            added = Added::New;
            Followed::new(watch.script)
        });
        if added == Added::Known && !followed.owners.contains(watch.owners) {
            added = Added::MoreOwners;
        }
        followed.owners = followed.owners.union(watch.owners);
        (id, added)
    }

    pub(super) fn get(&self, id: &ScriptHash) -> Option<&Followed> {
        self.all.get(id)
    }

    /// To change anything but the stage.
    pub(super) fn get_mut(&mut self, id: &ScriptHash) -> Option<&mut Followed> {
        self.all.get_mut(id)
    }

    pub(super) fn ids(&self) -> Vec<ScriptHash> {
        self.all.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ScriptHash, &Followed)> {
        self.all.iter()
    }

    /// Puts a script into a stage, and gives the one that it was in.
    pub(super) fn enter(&mut self, id: ScriptHash, stage: Stage) -> Option<Stage> {
        let followed = self.all.get_mut(&id)?;
        if let Stage::Resting(until) = followed.stage {
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
        Some(std::mem::replace(&mut followed.stage, stage))
    }

    /// Scripts whose history is being worked on.
    pub(super) fn active(&self) -> Vec<ScriptHash> {
        self.active.iter().copied().collect()
    }

    pub(super) fn active_len(&self) -> usize {
        self.active.len()
    }

    /// Scripts that are waiting for something.
    pub(super) fn unsettled_len(&self) -> usize {
        self.unsettled.len()
    }

    /// True when a delivery up to `height` has to wait for a script.
    pub(super) fn hold_back(&self, height: u32) -> bool {
        self.unsettled.iter().filter_map(|id| self.all.get(id)).any(|f| f.holds_back(height))
    }

    /// The script that rests least, and until when.
    pub(super) fn next_rested(&self) -> Option<(u64, ScriptHash)> {
        self.resting.first().copied()
    }

    /// The next settled script after `id`, round and round.
    pub(super) fn settled_after(&self, id: Option<ScriptHash>) -> Option<ScriptHash> {
        let after = self.all.iter().filter(|(other, _)| id.is_none_or(|id| **other > id));
        after.chain(self.all.iter()).find(|(_, f)| matches!(f.stage, Stage::Settled)).map(|(id, _)| *id)
    }
}

/// What became of a new watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    New,
    MoreOwners,
    Known,
    /// Its history cannot be followed.
    Refused,
}
