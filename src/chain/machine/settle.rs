//! How a job, or a status that needed none, ends.
//!
//! What goes wrong with a job is never an answer: it rests and starts over from the history, and after some tries the
//! watch is degraded on that server, which says so and lets deliveries go on without it.

use std::sync::Arc;

use super::{Action, Machine, Report, ScriptHash, ScriptRecord, SourceId, Worked};
use crate::chain::history::{Job, Stage};

/// Troubles after which a watch is degraded.
const TRIES: u32 = 3;
/// The rest after the first trouble, in ms; it doubles.
const FIRST_REST: u64 = 1_000;
/// The rest of a degraded watch: each error costs 100 of the 1000 or so units that a server grants, at one a second.
const DEGRADED_REST: u64 = 600_000;

impl Machine {
    /// A job has all that it wanted.
    pub(super) fn finish(&mut self, source: SourceId, id: ScriptHash, mut job: Job) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        let spends = job.drop_irrelevant(&followed.script, &self.facts, &followed.confirmed);
        for proven in job.proven.values() {
            self.facts.add(proven.clone(), followed.owners);
        }
        let news: Vec<_> = job.claims.keys().filter_map(|txid| self.facts.get(txid).map(Arc::clone)).collect();
        let before = (followed.confirmed.len(), followed.worked.plain);
        for proven in news {
            let txid = proven.txid();
            if followed.confirmed.insert(txid) {
                self.facts.add(proven, followed.owners);
                // LDK has heard of it for another script, and passed over what it did not follow yet.
                if followed.owners.lightning && spends.contains(&txid) {
                    self.facts.tell_again(&txid);
                }
            }
        }
        let grown = followed.confirmed.len() > before.0;
        if grown || !job.proven.is_empty() {
            followed.worked = Worked::default();
            followed.unstored = true;
        }
        if !job.short && job.claims.len() == followed.confirmed.len() {
            followed.worked = job.worked();
            followed.unstored |= followed.worked.plain != before.1;
        }
        self.store(id);
        match job.short {
            true => self.trouble(source, id),
            false => self.worked_off(source, id, job),
        }
        self.tell_others(source, id, grown);
    }

    /// A job ends well: all that the server's history lists is proven.
    fn worked_off(&mut self, source: SourceId, id: ScriptHash, job: Job) {
        self.list_pending(source, id, &job);
        let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { return };
        let other = job.other_status(view.fetching);
        view.covered = view.covering;
        view.known = Some(other.unwrap_or(view.fetching));
        view.listed = job.claims.len();
        view.pending = job.pending;
        view.subscribed &= other.is_none();
        // The true status is asked for anew, a little later.
        if other.is_some() { self.trouble(source, id) } else { self.settle(source, id) }
    }

    /// A server's status commits to nothing unknown: there is nothing to ask.
    pub(super) fn settle_known(&mut self, source: SourceId, id: ScriptHash) {
        let listed = self.watches.get(&id).map_or(0, |followed| followed.confirmed.len());
        let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { return };
        view.again = false;
        view.known = Some(view.pushed);
        view.covered = view.covered.max(view.covering);
        view.listed = listed;
        for txid in std::mem::take(&mut view.pending) {
            self.mempool.unlist(source, id, txid);
        }
        self.settle(source, id);
    }

    /// What one server proved, the others need not be asked, and may have left out.
    fn tell_others(&mut self, source: SourceId, id: ScriptHash, grown: bool) {
        for other in self.sources() {
            let view = self.lines.get(&other).and_then(|line| line.views.get(&id));
            let Some(view) = view.filter(|_| other != source) else { continue };
            if matches!(view.stage, Stage::Resting(_)) && self.is_known(other, id) {
                self.settle_known(other, id);
            } else if grown {
                self.doubt(other, id);
            }
        }
    }

    /// Tells the mempool what a server's history of a script lists, and what it no longer does.
    fn list_pending(&mut self, source: SourceId, id: ScriptHash, job: &Job) {
        if !self.tells_wallet(source, id) {
            return;
        }
        let Some(view) = self.lines.get(&source).and_then(|line| line.views.get(&id)) else { return };
        for &txid in view.pending.difference(&job.pending) {
            self.mempool.unlist(source, id, txid);
        }
        for txid in &job.pending {
            if let Some(tx) = job.bodies.get(txid) {
                self.mempool.list(source, id, *txid, tx);
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
            status: followed.worked.plain,
            confirmed: confirmed.map(|proven| proven.to_record()).collect(),
            unconfirmed: followed.worked.plain != followed.worked.whole,
        };
        self.actions.push_back(Action::StoreHistory(record));
    }

    /// A script has no trouble; if the server has said something new meanwhile, it goes on.
    pub(super) fn settle(&mut self, source: SourceId, id: ScriptHash) {
        let proven = self.watches.get(&id).map_or(0, |followed| followed.confirmed.len());
        let Some(line) = self.lines.get_mut(&source) else { return };
        let Some(view) = line.views.get_mut(&id) else { return };
        view.tries = 0;
        view.misses = 0;
        view.omits = None;
        let (behind, lags) = (view.is_behind(), view.listed < proven);
        let recovered = std::mem::take(&mut view.degraded);
        if behind {
            self.enqueue(source, id);
        } else {
            line.views.enter(id, Stage::Settled);
        }
        if lags {
            self.doubt(source, id);
        }
        if recovered {
            self.report(source, Report::Recovered { script: id });
        }
    }

    /// A job, or a subscription, did not work out.
    pub(super) fn trouble(&mut self, source: SourceId, id: ScriptHash) {
        let now = self.clock.now();
        let Some(line) = self.lines.get_mut(&source) else { return };
        let Some(view) = line.views.get_mut(&id) else { return };
        view.again = true;
        view.tries = view.tries.saturating_add(1);
        let degrades = view.tries > TRIES;
        let rest = if degrades { DEGRADED_REST } else { FIRST_REST << (view.tries - 1) };
        let news = degrades && !std::mem::replace(&mut view.degraded, degrades);
        let omits = view.omits;
        line.views.enter(id, Stage::Resting(now + rest));
        if news {
            if let Some(txid) = omits {
                self.report(source, Report::Omitted { script: id, txid });
            }
            self.report(source, Report::Degraded { script: id });
        }
    }
}
