//! True transactions with false witnesses.
//!
//! Rules:
//! - The proof of a transaction says nothing of its witnesses, and LDK believes them. So before a block is told, each
//!   witness by which one of Lightning's transactions is spent must open what it spends. By then all of those are
//!   proven that LDK knows: it follows the outputs of a transaction from when it was told of it.
//! - Who sent a forged one lies. Its body is forgotten wherever it is, and whatever depends on it is worked off again.

use bitcoin::Txid;

use super::{Lie, Machine};

impl Machine {
    /// Throws out what of the block at `height` has a forged witness; true when there was any.
    pub(super) fn reject_forged(&mut self, height: u32) -> bool {
        let forged = self.facts.forged(height);
        for &txid in &forged {
            self.reject(txid, height);
        }
        if !forged.is_empty() {
            self.work();
        }
        !forged.is_empty()
    }

    fn reject(&mut self, txid: Txid, height: u32) {
        self.facts.remove(&txid);
        self.orphans.remove(&txid);
        self.mempool.reject(txid);
        if let Some(sender) = self.senders.remove(&txid).filter(|sender| self.lines.contains_key(sender)) {
            self.condemn(sender, Lie::Witness);
        }
        let below = height.saturating_sub(1);
        for id in self.watches.ids() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let touched = followed.confirmed.remove(&txid);
            if touched {
                followed.worked = Default::default();
                followed.told = followed.told.min(below);
                followed.unstored = true;
            }
            for source in self.sources() {
                let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { continue };
                let at_work = view.stage.job().is_some_and(|job| job.bodies.contains_key(&txid));
                if touched {
                    view.covered = view.covered.min(below);
                    view.again = true;
                }
                if at_work || (touched && view.is_settled()) {
                    self.enqueue(source, id);
                }
            }
        }
    }
}
