//! The scripts that are followed, and what is known of each, whoever told it.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Script, ScriptBuf, Txid};

use super::io::{Owners, ScriptHash, Status, Watch};

/// The pay-to-anchor script, `OP_1 <4e73>`. Everybody shares it: its history is a flood that no server could serve and
/// that would tell us nothing, so it is never subscribed. The outputs of a commitment transaction that has one are
/// followed by its other scripts.
const PAY_TO_ANCHOR: &[u8] = &[0x51, 0x02, 0x4e, 0x73];

/// True when a script's history can be followed.
pub fn followable(script: &Script) -> bool {
    script.as_bytes() != PAY_TO_ANCHOR && !script.is_op_return()
}

/// Statuses that commit to nothing unknown: of a history that was proven, and lists exactly what is known. Nobody needs
/// to be asked what lies behind them, whoever says them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Worked {
    /// Of the confirmed entries alone.
    pub(super) plain: Option<Status>,
    /// With the unconfirmed entries.
    pub(super) whole: Option<Status>,
}

/// One script, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) script: ScriptBuf,
    pub(super) owners: Owners,
    /// Proven transactions of its history, the union of all that was proven.
    pub(super) confirmed: BTreeSet<Txid>,
    /// Void whenever `confirmed` is another set than before, or its proofs are others.
    pub(super) worked: Worked,
    /// The height up to which all of it was told to the listeners; 0: not yet.
    pub(super) told: u32,
    /// The stored record is not what is known now.
    pub(super) unstored: bool,
}

impl Followed {
    /// True when a server that says this status knows nothing more, and hides nothing: it commits to what is proven. To
    /// the wallet, unconfirmed entries are told by each server for itself.
    pub(super) fn knows(&self, status: Option<Status>, wallet: bool) -> bool {
        match status {
            None => self.confirmed.is_empty(),
            Some(_) if status == self.worked.plain => true,
            Some(_) => !wallet && status == self.worked.whole,
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct WatchSet(BTreeMap<ScriptHash, Followed>);

impl WatchSet {
    /// Adds a script, or owners to one; says how it stood before.
    pub(super) fn add(&mut self, watch: Watch) -> (ScriptHash, Added) {
        let id = ScriptHash::of(&watch.script);
        if !followable(&watch.script) || watch.owners == Owners::default() {
            return (id, Added::Refused);
        }
        let mut added = Added::Known;
        let followed = self.0.entry(id).or_insert_with(|| {
            added = Added::New;
            Followed {
                script: watch.script,
                owners: Owners::default(),
                confirmed: BTreeSet::new(),
                worked: Worked::default(),
                told: 0,
                unstored: false,
            }
        });
        if added == Added::Known && !followed.owners.contains(watch.owners) {
            added = Added::MoreOwners;
        }
        followed.owners = followed.owners.union(watch.owners);
        (id, added)
    }

    /// Takes owners from a script, and the script away when none is left; true then.
    pub(super) fn remove(&mut self, id: ScriptHash, owners: Owners) -> bool {
        let Some(followed) = self.0.get_mut(&id) else { return false };
        followed.owners = followed.owners.without(owners);
        let nobodys = followed.owners == Owners::default();
        if nobodys {
            self.0.remove(&id);
        }
        nobodys
    }

    pub(super) fn get(&self, id: &ScriptHash) -> Option<&Followed> {
        self.0.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ScriptHash) -> Option<&mut Followed> {
        self.0.get_mut(id)
    }

    pub(super) fn ids(&self) -> Vec<ScriptHash> {
        self.0.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ScriptHash, &Followed)> {
        self.0.iter()
    }
}

/// What became of a new watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    New,
    MoreOwners,
    Known,
    /// Its history cannot be followed, or nobody wants to hear of it.
    Refused,
}
