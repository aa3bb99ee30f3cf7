//! The proofs of a history, asked for once our chain has their headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::{BlockHash, TxMerkleNode, Txid};

use super::line::Line;
use super::{Lie, Machine, Request, ScriptHash, SourceId, merkle};
use crate::chain::history::{Job, Stage};
use crate::chain::merkle::{ProofError, ProvenTx};
use crate::chain::view::View;

/// How long a history may be ahead of the server's own header before that is trouble, in ms.
const HEADER_PATIENCE: u64 = 10_000;
/// A proof this far below the tip cannot miss because of a reorganisation under way.
const RACE_DEPTH: u32 = 6;
/// Nearer to the tip, after so many misses the server is asked which block it has there.
const MISSES: u32 = 3;

impl Machine {
    /// Moves a job on if it has what it waited for.
    pub(super) fn advance(&mut self, source: SourceId, id: ScriptHash) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let ready = match line.views.get(&id).map(|view| &view.stage) {
            Some(Stage::Bodies { missing, .. }) => missing.is_empty(),
            Some(Stage::Proofs { .. }) => true,
            _ => false,
        };
        if !ready {
            return;
        }
        match line.views.enter(id, Stage::History) {
            Some(Stage::Bodies { job, .. }) => {
                let missing = job.unproven(&self.facts).into_iter().map(|txid| (txid, None)).collect();
                self.ask_proofs(source, id, job, missing, self.clock.now() + HEADER_PATIENCE);
            }
            Some(Stage::Proofs { job, missing, patience }) => self.ask_proofs(source, id, job, missing, patience),
            _ => {}
        }
    }

    /// Asks for the proofs whose header is there, and ends the job when none is missing.
    fn ask_proofs(
        &mut self,
        source: SourceId,
        id: ScriptHash,
        job: Job,
        mut missing: BTreeMap<Txid, Option<BlockHash>>,
        patience: u64,
    ) {
        if missing.is_empty() {
            return self.finish(source, id, job);
        }
        let linked = self.linked(source);
        for (&txid, against) in missing.iter_mut().filter(|(_, against)| against.is_none()) {
            let height = job.claims.get(&txid).copied().unwrap_or_default();
            if height < self.tree.base() {
                self.want_older(source);
            } else if linked.is_some_and(|linked| height <= linked) {
                *against = self.tree.hash_at(height);
                self.ask(source, Request::Proof { txid, height });
            }
        }
        if let Some(line) = self.lines.get_mut(&source) {
            line.views.enter(id, Stage::Proofs { job, missing, patience });
        }
    }

    pub(super) fn proof_came(&mut self, source: SourceId, txid: Txid, height: u32, branch: &[TxMerkleNode], pos: u32) {
        let Some(header) = self.tree.header_at(height) else { return };
        let block = self.tree.hash_at(height);
        let mut good: Option<Arc<ProvenTx>> = None;
        for id in self.active(source) {
            let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { continue };
            let Stage::Proofs { job, missing, .. } = &mut view.stage else { continue };
            let Some(against) = missing.get_mut(&txid).filter(|_| job.claims.get(&txid) == Some(&height)) else {
                continue;
            };
            if *against != block {
                // Our chain has another block there than when we asked: ask again.
                *against = None;
                continue;
            }
            let Some(tx) = job.bodies.get(&txid) else { continue };
            match merkle::prove(tx.clone(), branch.to_vec(), pos, header, height) {
                Ok(proven) => {
                    let proven = Arc::new(proven);
                    missing.remove(&txid);
                    job.proven.insert(txid, proven.clone());
                    good = Some(proven);
                }
                Err(ProofError::WrongRoot) if self.may_race(source, height) => self.missed(source, id, height),
                Err(why) if why.is_undecided() => self.doubt_proof((source, id), (txid, height), branch, pos),
                Err(_) => return self.condemn(source, Lie::Proof),
            }
        }
        if let Some(proven) = good {
            self.share_proof(&proven);
        }
    }

    /// Near the tip the server may have reorganised and not said so yet.
    pub(super) fn may_race(&self, source: SourceId, height: u32) -> bool {
        height + RACE_DEPTH > self.linked(source).unwrap_or_default()
    }

    /// What came leads elsewhere than to our header, where the server may have another one by now.
    pub(super) fn missed(&mut self, source: SourceId, id: ScriptHash, height: u32) {
        let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { return };
        view.misses += 1;
        if view.misses >= MISSES {
            self.suspect(source, height);
        }
        self.trouble(source, id);
    }

    /// What one server proved, the jobs of the others need not ask for.
    pub(super) fn share_proof(&mut self, proven: &Arc<ProvenTx>) {
        let (txid, height) = (proven.txid(), proven.height());
        for line in self.lines.values_mut() {
            for id in line.views.active() {
                let Some(View { stage: Stage::Proofs { job, missing, .. }, .. }) = line.views.get_mut(&id) else {
                    continue;
                };
                if job.claims.get(&txid) == Some(&height) && missing.remove(&txid).is_some() {
                    job.proven.insert(txid, proven.clone());
                }
            }
        }
    }

    pub(super) fn proof_refused(&mut self, source: SourceId, txid: Txid, height: u32) {
        let waits = |job: &Job, missing: &BTreeMap<Txid, Option<BlockHash>>| {
            missing.get(&txid).is_some_and(Option::is_some) && job.claims.get(&txid) == Some(&height)
        };
        self.trouble_where(source, waits);
    }

    /// Headers below the base are not to be had of this server for now.
    pub(super) fn give_up_older(&mut self, source: SourceId) {
        let base = self.tree.base();
        let waits = |job: &Job, missing: &BTreeMap<Txid, Option<BlockHash>>| {
            missing.keys().any(|txid| job.claims.get(txid).is_some_and(|&height| height < base))
        };
        self.trouble_where(source, waits);
    }

    /// Jobs that wait for a header which the server does not have either are in trouble.
    pub(super) fn lose_patience(&mut self, source: SourceId) {
        let now = self.clock.now();
        let linked = self.linked(source);
        let Some(line) = self.lines.get_mut(&source) else { return };
        let mut lost = Vec::new();
        for id in line.views.active() {
            let Some(View { stage: Stage::Proofs { job, missing, patience }, .. }) = line.views.get_mut(&id) else {
                continue;
            };
            if *patience > now {
                continue;
            }
            *patience = now + HEADER_PATIENCE;
            let above = |txid: &Txid| linked.is_some_and(|tip| job.claims.get(txid).is_some_and(|&h| h > tip));
            if missing.keys().any(above) {
                lost.push(id);
            }
        }
        lost.into_iter().for_each(|id| self.trouble(source, id));
    }

    pub(super) fn trouble_where(
        &mut self,
        source: SourceId,
        waits: impl Fn(&Job, &BTreeMap<Txid, Option<BlockHash>>) -> bool,
    ) {
        let Some(line) = self.lines.get(&source) else { return };
        let waiting = line.views.at_job().filter(|(_, view)| match &view.stage {
            Stage::Proofs { job, missing, .. } => waits(job, missing),
            _ => false,
        });
        let waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.trouble(source, id));
    }
}

impl Line {
    /// When a job's patience with a missing header ends.
    pub(super) fn patience(&self) -> Option<u64> {
        let waits = |view: &View| if let Stage::Proofs { patience, .. } = view.stage { Some(patience) } else { None };
        self.views.at_job().filter_map(|(_, view)| waits(view)).min()
    }
}
