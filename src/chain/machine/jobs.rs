//! One script's history, worked off: the entries, the bodies, the proofs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction, TxMerkleNode, Txid};

use super::{Action, Lie, Machine, Request, ScriptHash, ScriptRecord, SourceId, merkle};
use crate::chain::history::{Job, MAX_HISTORY, MAX_JOB_BYTES, MAX_PENDING, Stage};
use crate::chain::io::HistoryEntry;
use crate::chain::merkle::ProofError;
use crate::chain::watch::WatchSet;

/// Histories worked on at once; with [`MAX_JOB_BYTES`] this bounds what claims can occupy.
pub(super) const JOBS: usize = 8;
/// How long a history may be ahead of the server's own header before that is trouble, in ms.
const HEADER_PATIENCE: u64 = 10_000;
/// A proof this far below the tip cannot miss because of a reorganisation under way.
const RACE_DEPTH: u32 = 6;
/// Nearer to the tip, after so many misses the server is asked which block it has there.
const MISSES: u32 = 3;

/// True while somebody waits for the answer.
pub(super) fn wanted(watches: &WatchSet, request: &Request) -> bool {
    let waits = |id: &ScriptHash| match (request, watches.get(id).map(|f| &f.stage)) {
        (Request::Transaction { txid }, Some(Stage::Bodies { missing, .. })) => missing.contains(txid),
        (Request::Proof { txid, height }, Some(Stage::Proofs { job, missing, .. })) => {
            missing.contains_key(txid) && job.claims.get(txid) == Some(height)
        }
        _ => false,
    };
    match request {
        Request::Headers { .. } | Request::Subscribe { .. } => true,
        Request::History { script } => matches!(watches.get(script).map(|f| &f.stage), Some(Stage::History)),
        Request::Transaction { .. } | Request::Proof { .. } => watches.active().iter().any(waits),
    }
}

impl Machine {
    pub(super) fn begin(&mut self, id: ScriptHash, coverage: u32) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.again = false;
        followed.fetching = followed.pushed;
        followed.covering = coverage;
        let used = followed.pushed.is_some();
        self.watches.enter(id, Stage::History);
        if used {
            self.ask(Request::History { script: id });
        } else {
            self.history_came(id, &[]);
        }
    }

    pub(super) fn history_came(&mut self, id: ScriptHash, entries: &[HistoryEntry]) {
        let Some(followed) = self.watches.get(&id).filter(|f| matches!(f.stage, Stage::History)) else { return };
        if entries.len() > MAX_HISTORY {
            return self.trouble(id);
        }
        let mut job = Job::new(entries);
        let withheld = |txid: &Txid| {
            let height = self.facts.get(txid).map_or(u32::MAX, |proven| proven.height());
            height <= followed.covering && job.claims.get(txid) != Some(&height)
        };
        job.short = followed.confirmed.iter().any(withheld);
        let mut missing = job.unproven(&self.facts);
        if followed.owners.wallet {
            missing.extend(job.pending.iter().take(MAX_PENDING));
        }
        missing.retain(|txid| match self.known_body(txid) {
            Some(tx) => job.bodies.insert(*txid, tx).is_some(),
            None => true,
        });
        for &txid in &missing {
            self.ask(Request::Transaction { txid });
        }
        self.watches.enter(id, Stage::Bodies { job, missing });
    }

    fn known_body(&self, txid: &Txid) -> Option<Arc<Transaction>> {
        let proven = self.facts.get(txid).map(|proven| proven.tx());
        proven.or_else(|| self.mempool.get(txid)).or_else(|| self.orphans.get(txid)).cloned()
    }

    pub(super) fn body_came(&mut self, source: SourceId, txid: Txid, tx: &Arc<Transaction>) {
        if tx.compute_txid() != txid {
            return self.condemn(source, Lie::Body);
        }
        for id in self.watches.active() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let Stage::Bodies { job, missing } = &mut followed.stage else { continue };
            if missing.remove(&txid) {
                job.bytes += tx.total_size();
                job.bodies.insert(txid, tx.clone());
                if job.bytes > MAX_JOB_BYTES {
                    self.trouble(id);
                }
            }
        }
    }

    pub(super) fn body_refused(&mut self, txid: Txid) {
        for id in self.watches.active() {
            let stage = self.watches.get(&id).map(|f| &f.stage);
            if matches!(stage, Some(Stage::Bodies { missing, .. }) if missing.contains(&txid)) {
                self.trouble(id);
            }
        }
    }

    /// Moves a job on if it has what it waited for.
    pub(super) fn advance(&mut self, id: ScriptHash) {
        let ready = match self.watches.get(&id).map(|f| &f.stage) {
            Some(Stage::Bodies { missing, .. }) => missing.is_empty(),
            Some(Stage::Proofs { .. }) => true,
            _ => false,
        };
        if !ready {
            return;
        }
        match self.watches.enter(id, Stage::History) {
            Some(Stage::Bodies { job, .. }) => {
                let missing = job.unproven(&self.facts).into_iter().map(|txid| (txid, None)).collect();
                self.ask_proofs(id, job, missing, self.clock.now() + HEADER_PATIENCE);
            }
            Some(Stage::Proofs { job, missing, patience }) => self.ask_proofs(id, job, missing, patience),
            _ => {}
        }
    }

    /// Asks for the proofs whose header is there, and ends the job when none is missing.
    fn ask_proofs(&mut self, id: ScriptHash, job: Job, mut missing: BTreeMap<Txid, Option<BlockHash>>, patience: u64) {
        if missing.is_empty() {
            return self.finish(id, job);
        }
        let coverage = self.linked();
        for (&txid, against) in missing.iter_mut().filter(|(_, against)| against.is_none()) {
            let height = job.claims.get(&txid).copied().unwrap_or_default();
            if height < self.tree.base() {
                self.want_older();
            } else if coverage.is_some_and(|coverage| height <= coverage) {
                *against = self.tree.hash_at(height);
                self.ask(Request::Proof { txid, height });
            }
        }
        self.watches.enter(id, Stage::Proofs { job, missing, patience });
    }

    pub(super) fn proof_came(
        &mut self,
        source: SourceId,
        txid: Txid,
        height: u32,
        branch: Vec<TxMerkleNode>,
        pos: u32,
    ) {
        let coverage = self.linked().unwrap_or_default();
        let Some(header) = self.tree.header_at(height) else { return };
        let block = self.tree.hash_at(height);
        for id in self.watches.active() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let Stage::Proofs { job, missing, .. } = &mut followed.stage else { continue };
            let Some(against) = missing.get_mut(&txid).filter(|_| job.claims.get(&txid) == Some(&height)) else {
                continue;
            };
            if *against != block {
                // Our chain has another block there than when we asked: ask again.
                *against = None;
                continue;
            }
            let Some(tx) = job.bodies.get(&txid) else { continue };
            match merkle::prove(tx.clone(), branch.clone(), pos, header, height) {
                Ok(proven) => {
                    missing.remove(&txid);
                    job.proven.insert(txid, Arc::new(proven));
                }
                // Near the tip the server may have reorganised and not said so yet.
                Err(ProofError::WrongRoot) if height + RACE_DEPTH > coverage => {
                    followed.misses += 1;
                    if followed.misses >= MISSES {
                        self.suspect(height);
                    }
                    self.trouble(id);
                }
                Err(_) => return self.condemn(source, Lie::Proof),
            }
        }
    }

    pub(super) fn proof_refused(&mut self, txid: Txid, height: u32) {
        for id in self.watches.active() {
            let stage = self.watches.get(&id).map(|f| &f.stage);
            if let Some(Stage::Proofs { job, missing, .. }) = stage {
                let waits = missing.get(&txid).is_some_and(|against| against.is_some());
                if waits && job.claims.get(&txid) == Some(&height) {
                    self.trouble(id);
                }
            }
        }
    }

    /// A job has all that it wanted.
    fn finish(&mut self, id: ScriptHash, mut job: Job) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        job.drop_irrelevant(&followed.script, &self.facts, &followed.confirmed);
        for proven in job.proven.values() {
            self.facts.add(proven.clone(), followed.owners);
        }
        for (txid, _) in job.claims.iter().filter(|(txid, _)| !followed.confirmed.contains(*txid)) {
            if let Some(proven) = self.facts.get(txid).cloned() {
                self.facts.add(proven, followed.owners);
            }
        }
        let proven = job.claims.keys().filter(|txid| self.facts.get(txid).is_some());
        let before = followed.confirmed.len();
        followed.confirmed.extend(proven);
        followed.unstored |= followed.confirmed.len() > before || !job.proven.is_empty();
        if job.short {
            self.store(id);
            return self.trouble(id);
        }
        self.list_pending(id, &job);
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.covered = followed.covering;
        // With unconfirmed entries the status will change again soon; until then the stored one only makes a restart
        // fetch the history once more.
        followed.unstored |= followed.known != followed.fetching && job.pending.is_empty();
        let other = job.other_status(followed.fetching);
        followed.known = other.unwrap_or(followed.fetching);
        followed.pending = job.pending;
        followed.subscribed &= other.is_none();
        self.store(id);
        // The true status is asked for anew, a little later.
        if other.is_some() { self.trouble(id) } else { self.settle(id) }
    }

    /// Tells the mempool what this script's history lists, and what it no longer does.
    fn list_pending(&mut self, id: ScriptHash, job: &Job) {
        let Some(followed) = self.watches.get(&id).filter(|f| f.owners.wallet) else { return };
        for &txid in followed.pending.difference(&job.pending) {
            self.mempool.unlist(id, txid);
        }
        for txid in &job.pending {
            if let Some(tx) = job.bodies.get(txid) {
                self.mempool.list(id, *txid, tx);
            }
        }
    }

    /// The record is written when it says something new.
    fn store(&mut self, id: ScriptHash) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        if !std::mem::take(&mut followed.unstored) {
            return;
        }
        let confirmed = followed.confirmed.iter().filter_map(|txid| self.facts.get(txid));
        let record = ScriptRecord {
            script: id,
            status: followed.known,
            confirmed: confirmed.map(|proven| proven.to_record()).collect(),
            unconfirmed: !followed.pending.is_empty(),
        };
        self.actions.push_back(Action::StoreHistory(record));
    }

    /// Headers below the base are not to be had for now.
    pub(super) fn give_up_older(&mut self) {
        let base = self.tree.base();
        for id in self.watches.active() {
            let stage = self.watches.get(&id).map(|f| &f.stage);
            if let Some(Stage::Proofs { job, missing, .. }) = stage {
                if missing.keys().any(|txid| job.claims.get(txid).is_some_and(|&height| height < base)) {
                    self.trouble(id);
                }
            }
        }
    }

    /// When a job's patience with a missing header ends.
    pub(super) fn patience(&self) -> Option<u64> {
        let stages = self.watches.active().into_iter().filter_map(|id| self.watches.get(&id).map(|f| &f.stage));
        stages.filter_map(|stage| if let Stage::Proofs { patience, .. } = stage { Some(*patience) } else { None }).min()
    }

    /// Jobs that wait for a header which the server does not have either are in trouble.
    pub(super) fn lose_patience(&mut self) {
        let now = self.clock.now();
        let coverage = self.linked();
        for id in self.watches.active() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let Stage::Proofs { job, missing, patience } = &mut followed.stage else { continue };
            if *patience > now {
                continue;
            }
            *patience = now + HEADER_PATIENCE;
            let above = |txid: &Txid| coverage.is_some_and(|c| job.claims.get(txid).is_some_and(|&h| h > c));
            if missing.keys().any(above) {
                self.trouble(id);
            }
        }
    }
}
