//! One script's history on one server, worked off: the entries and the bodies. The proofs are in `proofs`.
//!
//! A body says by its own hash what it is, so it serves the jobs of all servers, whoever sent it. Its witnesses do not:
//! who sent it is remembered until Lightning was told (`forged`).

use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::{Lie, Machine, Request, ScriptHash, SourceId};
use crate::chain::history::{Job, MAX_HISTORY, MAX_JOB_BYTES, MAX_LINE_BYTES, MAX_PENDING, Stage};
use crate::chain::io::HistoryEntry;
use crate::chain::view::{View, Views};

/// Histories worked on at once with one server; with [`MAX_LINE_BYTES`] this bounds what its claims can occupy.
pub(super) const JOBS: usize = 8;

/// True while somebody waits for the answer.
pub(super) fn wanted(views: &Views, request: &Request) -> bool {
    let waits = |view: &View| match (request, &view.stage) {
        (Request::Transaction { txid }, Stage::Bodies { missing, .. }) => missing.contains(txid),
        (Request::Proof { txid, height }, Stage::Proofs { job, missing, .. }) => {
            missing.contains_key(txid) && job.claims.get(txid) == Some(height)
        }
        (Request::Coinbase { height }, Stage::Proofs { job, .. }) => job.doubts(*height),
        _ => false,
    };
    match request {
        Request::Headers { .. } => true,
        Request::Subscribe { script } => views.get(script).is_some(),
        Request::History { script } => views.get(script).is_some_and(|view| matches!(view.stage, Stage::History)),
        Request::Transaction { .. } | Request::Proof { .. } | Request::Coinbase { .. } => {
            views.at_job().any(|(_, view)| waits(view))
        }
    }
}

impl Machine {
    /// Begins a job at the server's height.
    pub(super) fn begin(&mut self, source: SourceId, id: ScriptHash, tip: u32) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let Some(view) = line.views.get_mut(&id) else { return };
        view.again = false;
        view.fetching = view.pushed;
        view.covering = tip;
        view.omits = None;
        let used = view.pushed.is_some();
        line.views.enter(id, Stage::History);
        if used {
            line.ask(Request::History { script: id });
        } else {
            self.history_came(source, id, &[]);
        }
    }

    fn is_at_history(&self, source: SourceId, id: ScriptHash) -> bool {
        let view = self.lines.get(&source).and_then(|line| line.views.get(&id));
        view.is_some_and(|view| matches!(view.stage, Stage::History))
    }

    pub(super) fn history_refused(&mut self, source: SourceId, id: ScriptHash) {
        if self.is_at_history(source, id) {
            self.trouble(source, id);
        }
    }

    pub(super) fn history_came(&mut self, source: SourceId, id: ScriptHash, entries: &[HistoryEntry]) {
        if !self.is_at_history(source, id) {
            return;
        }
        if entries.len() > MAX_HISTORY {
            return self.trouble(source, id);
        }
        let wallet = self.tells_wallet(source, id);
        let (Some(followed), Some(line)) = (self.watches.get(&id), self.lines.get_mut(&source)) else { return };
        let Some(view) = line.views.get_mut(&id) else { return };
        let mut job = Job::new(entries);
        let withheld = |txid: &&Txid| {
            let height = self.facts.get(txid).map_or(u32::MAX, |proven| proven.height());
            height <= view.covering && job.claims.get(*txid) != Some(&height)
        };
        view.omits = followed.confirmed.iter().find(withheld).copied();
        job.short = view.omits.is_some();
        let mut missing = job.unproven(&self.facts);
        if wallet {
            missing.extend(job.pending.iter().take(MAX_PENDING));
        }
        missing.retain(|txid| match self.known_body(txid) {
            Some(tx) => job.bodies.insert(*txid, tx).is_some(),
            None => true,
        });
        let Some(line) = self.lines.get_mut(&source) else { return };
        for &txid in &missing {
            line.ask(Request::Transaction { txid });
        }
        line.views.enter(id, Stage::Bodies { job, missing });
    }

    fn known_body(&self, txid: &Txid) -> Option<Arc<Transaction>> {
        let proven = self.facts.get(txid).map(|proven| proven.tx());
        let known = proven.or_else(|| self.mempool.get(txid)).or_else(|| self.orphans.get(txid));
        let at_jobs = || {
            let views = self.lines.values().flat_map(|line| line.views.at_job());
            views.filter_map(|(_, view)| view.stage.job()).find_map(|job| job.bodies.get(txid))
        };
        known.or_else(at_jobs).cloned()
    }

    pub(super) fn body_came(&mut self, source: SourceId, txid: Txid, tx: &Arc<Transaction>) {
        if tx.compute_txid() != txid {
            return self.condemn(source, Lie::Body);
        }
        for waiting in self.sources() {
            if self.take_body(waiting, txid, tx) {
                self.senders.insert(txid, source);
            }
        }
    }

    /// True when a job of `source` waited for it.
    fn take_body(&mut self, source: SourceId, txid: Txid, tx: &Arc<Transaction>) -> bool {
        let Some(line) = self.lines.get_mut(&source) else { return false };
        let mut taken = false;
        let jobs = line.views.at_job().filter_map(|(_, view)| view.stage.job());
        let mut held: usize = jobs.map(|job| job.bytes).sum();
        let mut full = Vec::new();
        for id in line.views.active() {
            let Some(view) = line.views.get_mut(&id) else { continue };
            let Stage::Bodies { job, missing } = &mut view.stage else { continue };
            if missing.remove(&txid) {
                taken = true;
                job.bytes += tx.total_size();
                held += tx.total_size();
                job.bodies.insert(txid, tx.clone());
                if job.bytes > MAX_JOB_BYTES || held > MAX_LINE_BYTES {
                    full.push(id);
                }
            }
        }
        full.into_iter().for_each(|id| self.trouble(source, id));
        taken
    }

    pub(super) fn body_refused(&mut self, source: SourceId, txid: Txid) {
        let Some(line) = self.lines.get(&source) else { return };
        let waits = |view: &View| matches!(&view.stage, Stage::Bodies { missing, .. } if missing.contains(&txid));
        let waiting: Vec<_> = line.views.at_job().filter(|(_, view)| waits(view)).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.trouble(source, id));
    }
}
