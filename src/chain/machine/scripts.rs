//! Following the scripts: subscribe, compare the status, fetch the history, the bodies and the proofs.
//!
//! What goes wrong with a job is never an answer: it rests and starts over from the history, and after some tries the
//! watch is degraded, which says so and lets deliveries go on without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction, TxMerkleNode, Txid};

use super::{Action, BlockRef, Lie, Machine, Report, Request, ScriptHash, ScriptRecord, SourceId, merkle};
use crate::chain::history::{Job, MAX_HISTORY, MAX_JOB_BYTES, MAX_PENDING, Stage};
use crate::chain::io::{HistoryEntry, Status};
use crate::chain::merkle::ProofError;
use crate::chain::watch::WatchSet;

/// One settled script is subscribed anew this often, round and round, since servers lose notifications. In ms; 24 cheap
/// requests an hour.
pub(super) const ROUND: u64 = 150_000;
/// Histories worked on at once; with [`MAX_JOB_BYTES`] this bounds what claims can occupy.
const JOBS: usize = 8;
/// Troubles after which a watch is degraded.
const TRIES: u32 = 3;
/// The rest after the first trouble, in ms; it doubles.
const FIRST_REST: u64 = 1_000;
/// The rest of a degraded watch: each error costs 100 of the 1000 or so units that a server grants, at one a second.
const DEGRADED_REST: u64 = 600_000;
/// As long rests a degraded watch at most when the server says something new of it.
const PUSHED_REST: u64 = 10_000;
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
    /// A server begins to serve.
    pub(super) fn serve(&mut self) {
        for id in self.watches.ids() {
            self.subscribe(id);
        }
    }

    /// No server serves any more: what it said of itself is void, what was proven is not.
    pub(super) fn unserved(&mut self) {
        self.queue.clear();
        for id in self.watches.ids() {
            let stage = self.watches.enter(id, Stage::Offline);
            if let Some(followed) = self.watches.get_mut(&id) {
                // A job that did not end leaves undone what it was for.
                followed.again |= stage.is_some_and(|stage| stage.is_active());
                followed.subscribed = false;
                followed.pushed = None;
                followed.degraded = false;
                followed.tries = 0;
                followed.misses = 0;
            }
        }
    }

    pub(super) fn subscribe(&mut self, id: ScriptHash) {
        self.watches.enter(id, Stage::Subscribing);
        self.ask(Request::Subscribe { script: id });
    }

    pub(super) fn subscribe_refused(&mut self, id: ScriptHash) {
        if matches!(self.watches.get(&id).map(|f| &f.stage), Some(Stage::Subscribing)) {
            self.trouble(id);
        }
    }

    /// The status of a script, asked for or pushed.
    pub(super) fn status_said(&mut self, id: ScriptHash, status: Option<Status>) {
        let now = self.clock.now();
        let Some(followed) = self.watches.get_mut(&id) else { return };
        let news = !followed.subscribed || followed.pushed != status;
        followed.subscribed = true;
        followed.pushed = status;
        let soon = now + PUSHED_REST;
        match followed.stage {
            Stage::Subscribing | Stage::Settled if followed.is_behind() => self.enqueue(id),
            Stage::Subscribing => self.settle(id),
            Stage::Resting(until) if followed.degraded && news && until > soon => {
                self.watches.enter(id, Stage::Resting(soon));
            }
            // A job compares again when it ends.
            _ => {}
        }
        if news {
            self.delivery.gather(now);
        }
    }

    fn enqueue(&mut self, id: ScriptHash) {
        if !matches!(self.watches.enter(id, Stage::Queued), Some(Stage::Queued)) {
            self.queue.push_back(id);
        }
    }

    /// More owners want to hear of a script: of what is proven, and the wallet of what is unconfirmed.
    pub(super) fn more_owners(&mut self, id: ScriptHash) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        for txid in &followed.confirmed {
            if let Some(proven) = self.facts.get(txid).cloned() {
                self.facts.add(proven, followed.owners);
            }
        }
        followed.again |= !followed.pending.is_empty();
        if followed.again && matches!(followed.stage, Stage::Settled) {
            self.enqueue(id);
        }
    }

    /// Begins and moves on what can be.
    pub(super) fn work(&mut self) {
        // Histories are asked for once the server's headers are linked: before, their heights would mean nothing.
        while let Some(coverage) = self.coverage() {
            if self.watches.active_len() >= JOBS {
                break;
            }
            let Some(id) = self.queue.pop_front() else { break };
            self.begin(id, coverage);
        }
        for id in self.watches.active() {
            self.advance(id);
        }
    }

    fn begin(&mut self, id: ScriptHash, coverage: u32) {
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
    fn advance(&mut self, id: ScriptHash) {
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
        let coverage = self.coverage();
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
        let coverage = self.coverage().unwrap_or_default();
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

    /// A script has no trouble; if the server has said something new meanwhile, it goes on.
    fn settle(&mut self, id: ScriptHash) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.tries = 0;
        followed.misses = 0;
        let behind = followed.is_behind();
        if std::mem::take(&mut followed.degraded) {
            self.report(Report::Recovered { script: id });
        }
        if behind {
            self.enqueue(id);
        } else {
            self.watches.enter(id, Stage::Settled);
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

    /// A job, or a subscription, did not work out.
    pub(super) fn trouble(&mut self, id: ScriptHash) {
        let now = self.clock.now();
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.again = true;
        followed.tries = followed.tries.saturating_add(1);
        let degrades = followed.tries > TRIES;
        let rest = if degrades { DEGRADED_REST } else { FIRST_REST << (followed.tries - 1) };
        let news = degrades && !std::mem::replace(&mut followed.degraded, degrades);
        self.watches.enter(id, Stage::Resting(now + rest));
        if news {
            self.report(Report::Degraded { script: id });
        }
    }

    fn report(&mut self, report: Report) {
        if let Some(source) = self.serving {
            self.actions.push_back(Action::Report { source, report });
        }
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

    /// Our chain above `fork` is another one. A status tells the height of a transaction and not its block, so it may
    /// be the same though the block is not: everything that was at or above the fork is fetched again.
    pub(super) fn scripts_reorganised(&mut self, fork: BlockRef) {
        for id in self.watches.ids() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let near = |txid: &Txid| self.facts.get(txid).is_none_or(|proven| proven.height() >= fork.height);
            let mut touched = followed.confirmed.iter().any(near);
            followed.confirmed.retain(|txid| self.facts.get(txid).is_some());
            followed.covered = followed.covered.min(fork.height);
            followed.misses = 0;
            let busy = followed.stage.is_active();
            touched |= busy;
            followed.again |= touched;
            followed.unstored |= touched;
            if touched && (busy || matches!(followed.stage, Stage::Settled)) {
                self.enqueue(id);
            }
        }
    }

    /// When a job's patience with a missing header ends.
    pub(super) fn patience(&self) -> Option<u64> {
        let stages = self.watches.active().into_iter().filter_map(|id| self.watches.get(&id).map(|f| &f.stage));
        stages.filter_map(|stage| if let Stage::Proofs { patience, .. } = stage { Some(*patience) } else { None }).min()
    }

    /// Goes on with what has waited long enough.
    pub(super) fn timers(&mut self) {
        self.header_timers();
        let now = self.clock.now();
        while let Some((_, id)) = self.watches.next_rested().filter(|(until, _)| *until <= now) {
            match self.watches.get(&id).is_some_and(|f| f.subscribed) {
                true => self.enqueue(id),
                false => self.subscribe(id),
            }
        }
        let coverage = self.coverage();
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
        if self.serving.is_some() && self.round.1 <= now {
            let next = self.watches.settled_after(self.round.0);
            if let Some(script) = next {
                self.ask(Request::Subscribe { script });
            }
            self.round = (next, now + ROUND);
        }
    }
}
