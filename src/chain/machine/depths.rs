//! Proofs that only the depth of the tree decides (CVE-2017-12842; see `merkle`).
//!
//! Such a proof leads to our header and waits in its job for the block's coinbase, which the server that sent it is asked
//! for. Any server's coinbase decides for all of them, and a branch that then has the wrong length is its sender's lie. A
//! job does not outlive a reorganisation (`scripts_reorganised`), so that what waits in it leads to our present chain.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Transaction, TxMerkleNode, Txid};

use super::{Lie, Machine, Request, ScriptHash, SourceId, merkle};
use crate::chain::history::{Job, Stage};
use crate::chain::io::Coinbase;
use crate::chain::merkle::{ProofError, ProvenTx};
use crate::chain::view::View;

impl Machine {
    /// Keeps a proof that decides nothing yet.
    pub(super) fn doubt_proof(
        &mut self,
        (source, id): (SourceId, ScriptHash),
        (txid, height): (Txid, u32),
        branch: &[TxMerkleNode],
        pos: u32,
    ) {
        let view = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id));
        let Some(View { stage: Stage::Proofs { job, .. }, .. }) = view else { return };
        job.doubtful.insert(txid, (branch.to_vec(), pos));
        self.ask(source, Request::Coinbase { height });
    }

    pub(super) fn coinbase_came(&mut self, source: SourceId, height: u32, mut coinbase: Coinbase) {
        let Some(header) = self.tree.header_at(height) else { return };
        let waiting: Vec<_> = self.active(source).into_iter().filter(|id| self.doubts(source, *id, height)).collect();
        if waiting.is_empty() {
            return;
        }
        // The id does not commit to it, and it may be as long as a line.
        let stripped = Arc::make_mut(&mut coinbase.tx);
        stripped.input.iter_mut().for_each(|input| input.witness.clear());
        match merkle::depth(&coinbase, &header) {
            Ok(_) => {}
            Err(ProofError::WrongRoot) if self.may_race(source, height) => {
                return waiting.into_iter().for_each(|id| self.missed(source, id, height));
            }
            Err(_) => return self.condemn(source, Lie::Proof),
        }
        let mut all = Vec::new();
        for sender in self.sources() {
            match self.decide(sender, &header, height, &coinbase) {
                Ok(proven) => all.extend(proven),
                Err(_) => self.condemn(sender, Lie::Proof),
            }
        }
        all.iter().for_each(|proven| self.share_proof(proven));
    }

    fn doubts(&self, source: SourceId, id: ScriptHash, height: u32) -> bool {
        let view = self.lines.get(&source).and_then(|line| line.views.get(&id));
        view.and_then(|view| view.stage.job()).is_some_and(|job| job.doubts(height))
    }

    /// Decides what of one server waits for this block's coinbase; an error is a lie.
    fn decide(
        &mut self,
        source: SourceId,
        header: &Header,
        height: u32,
        coinbase: &Coinbase,
    ) -> Result<Vec<Arc<ProvenTx>>, ProofError> {
        let mut all = Vec::new();
        for id in self.active(source) {
            let view = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id));
            let Some(View { stage: Stage::Proofs { job, missing, .. }, .. }) = view else { continue };
            for (tx, branch, pos) in job.take_doubtful(height) {
                let proven = merkle::prove_beside(coinbase.clone(), tx, branch, pos, *header, height)?;
                let proven = Arc::new(proven);
                missing.remove(&proven.txid());
                job.proven.insert(proven.txid(), proven.clone());
                all.push(proven);
            }
        }
        Ok(all)
    }

    pub(super) fn coinbase_refused(&mut self, source: SourceId, height: u32) {
        self.trouble_where(source, |job, _| job.doubts(height));
    }
}

impl Job {
    /// True when something of this height waits for the block's coinbase.
    pub(super) fn doubts(&self, height: u32) -> bool {
        self.doubtful.keys().any(|txid| self.claims.get(txid) == Some(&height))
    }

    /// What waits for the coinbase of the block at this height: transactions, branches and positions.
    fn take_doubtful(&mut self, height: u32) -> Vec<(Arc<Transaction>, Vec<TxMerkleNode>, u32)> {
        let Job { claims, bodies, doubtful, .. } = self;
        let here: Vec<Txid> = doubtful.keys().filter(|txid| claims.get(*txid) == Some(&height)).copied().collect();
        let taken = here.into_iter().filter_map(|txid| {
            let (branch, pos) = doubtful.remove(&txid)?;
            Some((bodies.get(&txid)?.clone(), branch, pos))
        });
        taken.collect()
    }
}
