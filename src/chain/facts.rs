//! What is proven: transactions in blocks of our best chain, and who has heard of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::io::{Owners, PlanTx};
use super::merkle::ProvenTx;
use super::witness::{self, Verdict};

/// Height, and position in the block: the order of delivery.
type Place = (u32, u32);

#[derive(Clone, Debug)]
struct Fact {
    proven: Arc<ProvenTx>,
    owners: Owners,
    told: Owners,
}

/// Every proven transaction once, however many scripts it concerns.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    facts: BTreeMap<Place, Fact>,
    places: HashMap<Txid, Place>,
    /// Those that an owner has not heard of.
    due: BTreeSet<Place>,
}

impl Facts {
    /// The proof of a transaction.
    pub(super) fn get(&self, txid: &Txid) -> Option<&Arc<ProvenTx>> {
        self.facts.get(self.places.get(txid)?).map(|fact| &fact.proven)
    }

    /// True when the transaction is proven to be at this height.
    pub(super) fn is_at(&self, txid: &Txid, height: u32) -> bool {
        self.places.get(txid).is_some_and(|place| place.0 == height)
    }

    /// All of them, in the order of the chain.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<ProvenTx>, Owners)> {
        self.facts.values().map(|fact| (&fact.proven, fact.owners))
    }

    /// Takes a proof in, for these owners too.
    pub(super) fn add(&mut self, proven: Arc<ProvenTx>, owners: Owners) {
        let place = (proven.height(), proven.pos());
        if let Some(before) = self.places.insert(proven.txid(), place).filter(|&p| p != place) {
            self.facts.remove(&before);
            self.due.remove(&before);
        }
        let fact = self.facts.entry(place).or_insert_with(|| Fact { proven, owners, told: Owners::default() });
        fact.owners = fact.owners.union(owners);
        if !fact.told.contains(fact.owners) {
            self.due.insert(place);
        }
    }

    /// Forgets what is above `height`; gives the proofs, whose bodies stay true, and who may have been told.
    pub(super) fn drop_above(&mut self, height: u32) -> Vec<(Arc<ProvenTx>, Owners)> {
        let left = self.facts.split_off(&(height + 1, 0));
        self.due.split_off(&(height + 1, 0));
        for fact in left.values() {
            self.places.remove(&fact.proven.txid());
        }
        left.into_values().map(|fact| (fact.proven, fact.owners)).collect()
    }

    /// What Lightning has not heard of in the block at `height` though its witness does not open what it spends of
    /// Lightning's transactions.
    pub(super) fn forged(&self, height: u32) -> Vec<Txid> {
        let due = self.due.range((height, 0)..=(height, u32::MAX)).filter_map(|place| self.facts.get(place));
        let forged = due.filter(|fact| fact.owners.lightning && self.is_forged(fact.proven.tx()));
        forged.map(|fact| fact.proven.txid()).collect()
    }

    fn is_forged(&self, tx: &Transaction) -> bool {
        tx.input.iter().enumerate().any(|(index, input)| {
            let place = self.places.get(&input.previous_output.txid);
            let parent = place.and_then(|place| self.facts.get(place)).filter(|fact| fact.owners.lightning);
            let spent = parent.and_then(|fact| fact.proven.tx().output.get(input.previous_output.vout as usize));
            spent.is_some_and(|spent| witness::verdict(tx, index, spent) == Verdict::Fails)
        })
    }

    /// Forgets a proof.
    pub(super) fn remove(&mut self, txid: &Txid) {
        if let Some(place) = self.places.remove(txid) {
            self.facts.remove(&place);
            self.due.remove(&place);
        }
    }

    /// Lightning is told once more: it has come to follow what the transaction spends.
    pub(super) fn tell_again(&mut self, txid: &Txid) {
        let Some(place) = self.places.get(txid) else { return };
        if let Some(fact) = self.facts.get_mut(place).filter(|fact| fact.told.lightning) {
            fact.told.lightning = false;
            self.due.insert(*place);
        }
    }

    /// The lowest height, up to `limit`, with something that an owner has not heard of.
    pub(super) fn next_due(&self, limit: u32) -> Option<u32> {
        self.due.first().map(|place| place.0).filter(|&height| height <= limit)
    }

    /// What of the block at `height` is due, in block order; from now on it counts as told.
    pub(super) fn tell(&mut self, height: u32) -> Vec<PlanTx> {
        let places: Vec<Place> = self.due.range((height, 0)..=(height, u32::MAX)).copied().collect();
        let mut txs = Vec::with_capacity(places.len());
        for place in places {
            self.due.remove(&place);
            if let Some(fact) = self.facts.get_mut(&place) {
                fact.told = fact.owners;
                txs.push(PlanTx { proven: fact.proven.clone(), owners: fact.owners });
            }
        }
        txs
    }
}
