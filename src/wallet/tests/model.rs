//! A naive wallet, which adds everything up anew each time, beside the real one.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};
use proptest::prelude::*;

use super::world::*;
use crate::ledger::{Ledger, Side, State};
use crate::wallet::{OnchainBalance, SendAmount};

#[derive(Clone, Debug)]
enum Step {
    /// Somebody pays; a server shows it.
    Show(u64),
    /// Somebody pays; the next block has it.
    PayInBlock(u64),
    /// A server hides the n-th unconfirmed transaction.
    Hide(usize),
    /// A server shows the n-th known transaction again.
    ShowAgain(usize),
    /// A block has the n-th transaction that is in none.
    Mine(usize),
    /// A block has nothing of ours.
    MineNothing,
    /// So many blocks are replaced by empty ones.
    Reorganise(u32),
    Send(u64),
    Fund(u64),
    /// LDK broadcasts the n-th funding.
    Broadcast(usize),
    /// The n-th funding that was not broadcast comes to nothing.
    Release(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let sat = 1_000..90_000_u64;
    prop_oneof![
        3 => sat.clone().prop_map(Step::Show),
        3 => sat.clone().prop_map(Step::PayInBlock),
        2 => any::<usize>().prop_map(Step::Hide),
        1 => any::<usize>().prop_map(Step::ShowAgain),
        4 => any::<usize>().prop_map(Step::Mine),
        1 => Just(Step::MineNothing),
        2 => (1..=6_u32).prop_map(Step::Reorganise),
        3 => sat.clone().prop_map(Step::Send),
        1 => sat.prop_map(Step::Fund),
        1 => any::<usize>().prop_map(Step::Broadcast),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Restart),
    ]
}

#[derive(Default)]
struct Model {
    txs: BTreeMap<Txid, Transaction>,
    /// By height from 1 on.
    chain: Vec<Option<Txid>>,
    /// Of others: what servers show, and what has lost its block.
    shown: BTreeSet<Txid>,
    /// Ours; never forgotten.
    own: BTreeSet<Txid>,
    /// Fundings that are in no block yet, or were released.
    fundings: BTreeMap<Txid, Transaction>,
}

impl Model {
    fn note(&mut self, tx: &Transaction) -> Txid {
        let txid = tx.compute_txid();
        self.txs.insert(txid, tx.clone());
        txid
    }

    fn confirmed(&self) -> BTreeSet<Txid> {
        self.chain.iter().flatten().copied().collect()
    }

    /// What counts: blocks, ours, shown, and whatever these stand on.
    fn counts(&self) -> BTreeSet<Txid> {
        let mut counts: BTreeSet<Txid> = self.confirmed();
        let mut queue: Vec<Txid> = counts.iter().chain(&self.own).chain(&self.shown).copied().collect();
        while let Some(txid) = queue.pop() {
            counts.insert(txid);
            let parents = self.txs[&txid].input.iter().map(|input| input.previous_output.txid);
            queue.extend(parents.filter(|parent| self.txs.contains_key(parent) && !counts.contains(parent)));
        }
        counts
    }

    fn is_own_through_and_through(&self, txid: &Txid) -> bool {
        let confirmed = self.confirmed();
        self.own.contains(txid)
            && self.txs[txid].input.iter().all(|input| {
                let parent = input.previous_output.txid;
                confirmed.contains(&parent) || self.is_own_through_and_through(&parent)
            })
    }

    /// In no block, and with all of their parents in blocks.
    fn minable(&self) -> Vec<Txid> {
        let confirmed = self.confirmed();
        let ready = |tx: &Transaction| {
            let mut parents = tx.input.iter().map(|input| input.previous_output.txid);
            parents.all(|parent| !self.txs.contains_key(&parent) || confirmed.contains(&parent))
        };
        self.txs.iter().filter(|(txid, tx)| !confirmed.contains(*txid) && ready(tx)).map(|(txid, _)| *txid).collect()
    }

    fn balance(&self, world: &World) -> OnchainBalance {
        let (counts, confirmed) = (self.counts(), self.confirmed());
        let spent: BTreeSet<OutPoint> =
            counts.iter().flat_map(|txid| &self.txs[txid].input).map(|input| input.previous_output).collect();
        let locked: BTreeSet<OutPoint> =
            self.fundings.values().flat_map(|tx| &tx.input).map(|input| input.previous_output).collect();
        let mut balance = OnchainBalance::default();
        for txid in &counts {
            for (vout, out) in (0..).zip(&self.txs[txid].output) {
                let outpoint = OutPoint { txid: *txid, vout };
                if spent.contains(&outpoint) || world.wallet.script_info(&out.script_pubkey).is_none() {
                    continue;
                }
                let sat = out.value.to_sat();
                if confirmed.contains(txid) {
                    balance.confirmed_sat += sat;
                } else if self.is_own_through_and_through(txid) {
                    balance.pending_change_sat += sat;
                } else {
                    balance.pending_in_sat += sat;
                    continue;
                }
                if locked.contains(&outpoint) {
                    balance.locked_sat += sat;
                } else {
                    balance.spendable_sat += sat;
                }
            }
        }
        balance
    }

    fn check(&self, world: &World) {
        assert_eq!(world.balance(), self.balance(world));
        assert_eq!(world.wallet.tip(), world.tree.tip());
        let book = Ledger::open(world.store.clone());
        let (counts, confirmed) = (self.counts(), self.confirmed());
        for txid in self.txs.keys() {
            let line = book.line(&txid.to_string(), Side::Chain).unwrap();
            let expected = match (confirmed.contains(txid), counts.contains(txid)) {
                (true, _) => State::Succeeded,
                (false, true) => State::Pending,
                (false, false) => State::Failed,
            };
            assert_eq!(line.unwrap().state, expected, "{txid}");
        }
    }

    fn take(&mut self, world: &mut World, step: Step) {
        match step {
            Step::Show(sat) => {
                let tx = world.payment(sat);
                let txid = self.note(&tx);
                self.shown.insert(txid);
                world.see(&tx);
            }
            Step::PayInBlock(sat) => {
                let tx = world.payment(sat);
                let txid = self.note(&tx);
                self.mine(world, Some(txid));
            }
            Step::Hide(n) => {
                let confirmed = self.confirmed();
                if let Some(txid) = nth(self.txs.keys().filter(|txid| !confirmed.contains(*txid)), n) {
                    self.shown.remove(&txid);
                    world.lose(txid);
                }
            }
            Step::ShowAgain(n) => {
                if let Some(txid) = nth(self.txs.keys(), n) {
                    let is_ours = self.own.contains(&txid);
                    if !is_ours && !self.confirmed().contains(&txid) {
                        self.shown.insert(txid);
                    }
                    world.see(&self.txs[&txid]);
                }
            }
            Step::Mine(n) => {
                if let Some(txid) = nth(self.minable().iter(), n) {
                    self.mine(world, Some(txid));
                }
            }
            Step::MineNothing => self.mine(world, None),
            Step::Reorganise(depth) => {
                let depth = depth.min(world.tree.height());
                if depth > 0 {
                    world.reorg(depth, vec![]);
                    let lost = self.chain.split_off(self.chain.len() - depth as usize);
                    self.shown.extend(lost.into_iter().flatten().filter(|txid| !self.own.contains(txid)));
                    self.chain.extend(vec![None; depth as usize + 1]);
                }
            }
            Step::Send(sat) => {
                if let Ok(draft) = world.wallet.draft(&to_stranger(SendAmount::Sat(sat))) {
                    world.wallet.commit(&draft, 7).unwrap();
                    let txid = self.note(&draft.tx);
                    self.own.insert(txid);
                }
            }
            Step::Fund(sat) => {
                if let Ok(draft) = world.wallet.fund(&to_stranger(SendAmount::Sat(sat))) {
                    self.fundings.insert(draft.txid, draft.tx);
                }
            }
            Step::Broadcast(n) => {
                if let Some(txid) = nth(self.fundings.keys(), n) {
                    let tx = self.fundings[&txid].clone();
                    world.wallet.broadcasting(&[(&tx, None)]).unwrap();
                    self.note(&tx);
                    self.own.insert(txid);
                }
            }
            Step::Release(n) => {
                if let Some(txid) = nth(self.fundings.keys().filter(|txid| !self.own.contains(*txid)), n) {
                    assert!(world.wallet.release(txid).unwrap());
                    self.fundings.remove(&txid);
                }
            }
            Step::Restart => world.restart_in_place(),
        }
    }

    fn mine(&mut self, world: &mut World, txid: Option<Txid>) {
        world.mine(txid.map(|txid| self.txs[&txid].clone()));
        self.chain.push(txid);
        if let Some(txid) = txid {
            self.shown.remove(&txid);
            self.fundings.remove(&txid);
        }
    }
}

fn nth<'a>(txids: impl Iterator<Item = &'a Txid>, n: usize) -> Option<Txid> {
    let txids: Vec<&Txid> = txids.collect();
    (!txids.is_empty()).then(|| *txids[n % txids.len()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_wallet_and_the_book_agree_with_a_naive_one(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        let mut model = Model::default();
        for step in steps {
            model.take(&mut world, step);
            model.check(&world);
        }
    }
}
