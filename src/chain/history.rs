//! One script's way from a status to proven facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{BlockHash, OutPoint, Script, Transaction, TxMerkleNode, Txid};

use super::facts::Facts;
use super::io::{HistoryEntry, Status};
use super::merkle::ProvenTx;
use super::watch::Worked;

/// Entries of one history, at most; more is a flood, and the watch is degraded.
pub const MAX_HISTORY: usize = 10_000;
/// Unconfirmed entries of one script that are looked at.
pub const MAX_PENDING: usize = 64;
/// Bytes of bodies that one job gathers before they are proven.
pub(super) const MAX_JOB_BYTES: usize = 8 << 20;
/// Bytes of bodies that the jobs of one server hold at once.
pub(super) const MAX_LINE_BYTES: usize = 24 << 20;

/// The Electrum status of a history: SHA-256 of `txid:height:` of each entry, in order; none of an empty one.
fn status_of<'a>(entries: impl Iterator<Item = &'a HistoryEntry>) -> Option<Status> {
    let text: String = entries.map(|e| format!("{}:{}:", e.txid, e.height.unwrap_or(0))).collect();
    (!text.is_empty()).then(|| Status(sha256::Hash::hash(text.as_bytes()).to_byte_array()))
}

/// What a script waits for, with one server.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Its present status.
    Subscribing,
    /// Its turn: few jobs run at once, so that claims cannot pile up.
    Queued,
    /// Its history.
    History,
    /// The bodies of these.
    Bodies { job: Job, missing: BTreeSet<Txid> },
    /// The proofs of these, asked for against the block that our chain then had at their height; `None`: not asked
    /// for yet, for want of the header. `patience` is when the want becomes trouble.
    Proofs { job: Job, missing: BTreeMap<Txid, Option<BlockHash>>, patience: u64 },
    /// A better time to ask again.
    Resting(u64),
    /// Nothing: all that the server knows is known.
    Settled,
}

impl Stage {
    /// True while a history is being worked on.
    pub(super) fn is_active(&self) -> bool {
        matches!(self, Stage::History | Stage::Bodies { .. } | Stage::Proofs { .. })
    }

    /// What was gathered so far.
    pub(super) fn job(&self) -> Option<&Job> {
        match self {
            Stage::Bodies { job, .. } | Stage::Proofs { job, .. } => Some(job),
            _ => None,
        }
    }
}

/// What a job has gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    /// Confirmed entries and their claimed heights.
    pub(super) claims: BTreeMap<Txid, u32>,
    /// Unconfirmed entries.
    pub(super) pending: BTreeSet<Txid>,
    pub(super) bodies: BTreeMap<Txid, Arc<Transaction>>,
    pub(super) bytes: usize,
    pub(super) proven: BTreeMap<Txid, Arc<ProvenTx>>,
    /// Branches and positions that lead to our header and wait for the block's coinbase to decide.
    pub(super) doubtful: BTreeMap<Txid, (Vec<TxMerkleNode>, u32)>,
    /// The status of the confirmed entries alone.
    settled_status: Option<Status>,
    /// The status of all entries, if no unconfirmed one has an unconfirmed parent (else its height would be −1, which
    /// [`HistoryEntry`] does not tell).
    whole_status: Option<Status>,
    /// The server withholds something that is proven, or pads: what it adds is taken, but it is not the whole.
    pub(super) short: bool,
}

impl Job {
    pub(super) fn new(entries: &[HistoryEntry]) -> Self {
        let mut job = Job {
            settled_status: status_of(entries.iter().filter(|entry| entry.height.is_some())),
            whole_status: status_of(entries.iter()),
            ..Job::default()
        };
        for entry in entries {
            match entry.height {
                Some(height) => drop(job.claims.entry(entry.txid).or_insert(height)),
                None => drop(job.pending.insert(entry.txid)),
            }
        }
        job.pending.retain(|txid| !job.claims.contains_key(txid));
        job
    }

    /// The status that the history really has, where it is certain that it is not the one it was asked for: the server
    /// has moved on and not said so, or its status promised more than its history holds.
    pub(super) fn other_status(&self, asked: Option<Status>) -> Option<Option<Status>> {
        let other = match self.pending.is_empty() {
            true => asked != self.settled_status,
            false => asked == self.settled_status,
        };
        other.then_some(self.whole_status)
    }

    /// The statuses of this history: what they commit to is proven once the job has ended well.
    pub(super) fn worked(&self) -> Worked {
        Worked { plain: self.settled_status, whole: self.whole_status }
    }

    /// Confirmed entries that are not proven yet.
    pub(super) fn unproven(&self, facts: &Facts) -> BTreeSet<Txid> {
        let open = |&(txid, height): &(&Txid, &u32)| !self.proven.contains_key(txid) && !facts.is_at(txid, *height);
        self.claims.iter().filter(open).map(|(txid, _)| *txid).collect()
    }

    /// Drops the entries that neither pay to the script nor spend from it: a server may list what it likes, but
    /// memory is kept only for what concerns us. `facts` has the bodies of what was proven before, `confirmed` says
    /// which of it is this script's. Gives those that spend from the script.
    pub(super) fn drop_irrelevant(
        &mut self,
        script: &Script,
        facts: &Facts,
        confirmed: &BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let mut bodies = self.bodies.clone();
        let before = self.claims.keys().chain(confirmed).filter_map(|txid| facts.get(txid));
        bodies.extend(before.map(|proven| (proven.txid(), proven.tx().clone())));
        let mut coins = BTreeSet::new();
        for (txid, tx) in &bodies {
            for (vout, _) in (0..).zip(&tx.output).filter(|(_, out)| *out.script_pubkey == *script) {
                coins.insert(OutPoint::new(*txid, vout));
            }
        }
        let spends = |tx: &Transaction| tx.input.iter().any(|input| coins.contains(&input.previous_output));
        let spending: BTreeSet<Txid> = bodies.iter().filter(|(_, tx)| spends(tx)).map(|(txid, _)| *txid).collect();
        let concerns = |txid: &Txid| match bodies.get(txid) {
            Some(tx) => tx.output.iter().any(|out| *out.script_pubkey == *script) || spending.contains(txid),
            None => true,
        };
        let before = self.claims.len();
        self.claims.retain(|txid, _| concerns(txid));
        self.pending.retain(concerns);
        self.proven.retain(|txid, _| self.claims.contains_key(txid));
        self.short |= self.claims.len() < before;
        spending
    }
}
