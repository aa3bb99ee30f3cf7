//! The contract of `Confirm` (design §3, rule 3) as a model: what may be called when.

use std::collections::BTreeMap;

use bitcoin::Txid;

use crate::support::recorder::{Block, Call};

/// Where one listener stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    confirmed: BTreeMap<Txid, Block>,
    tip: Option<Block>,
    /// The last block told since the last tip.
    block: Option<Block>,
    /// What the last tip made of it, for the completeness of each.
    tips: Vec<(Block, BTreeMap<Txid, Block>)>,
}

impl Model {
    /// A listener with this memory, at a start.
    pub(super) fn new(confirmed: BTreeMap<Txid, Block>, tip: Option<Block>) -> Self {
        Self { confirmed, tip, ..Self::default() }
    }

    /// Takes the calls in, in their order; the error says which rule was broken.
    pub(super) fn take(&mut self, calls: &[Call]) -> Result<(), String> {
        calls.iter().try_for_each(|call| self.call(call).map_err(|rule| format!("{rule}: {call:?}")))
    }

    /// The tips told since the last time, each with what was confirmed at that moment.
    pub(super) fn take_tips(&mut self) -> Vec<(Block, BTreeMap<Txid, Block>)> {
        std::mem::take(&mut self.tips)
    }

    fn call(&mut self, call: &Call) -> Result<(), &'static str> {
        match call {
            Call::Unconfirmed(txid) => {
                if self.block.is_some() {
                    return Err("everything that left is unconfirmed before anything is confirmed");
                }
                self.confirmed.remove(txid).map(drop).ok_or("only what was confirmed is unconfirmed")
            }
            Call::Confirmed(block, txs) => {
                if txs.is_empty() || !txs.is_sorted_by(|one, other| one.0 < other.0) {
                    return Err("the transactions of a block come in block order");
                }
                if self.block.is_some_and(|before| before.0 > block.0) {
                    return Err("blocks come upwards");
                }
                for (_, txid) in txs {
                    if self.confirmed.insert(*txid, *block).is_some_and(|before| before != *block) {
                        return Err("what confirms in another block was unconfirmed before");
                    }
                }
                self.block = Some(*block);
                Ok(())
            }
            Call::Tip(tip) => {
                if self.tip.is_some_and(|before| before.0 > tip.0) {
                    return Err("a tip is never lower than the one before");
                }
                if self.confirmed.values().any(|block| block.0 > tip.0) {
                    return Err("nothing is confirmed above the tip");
                }
                (self.tip, self.block) = (Some(*tip), None);
                self.tips.push((*tip, self.confirmed.clone()));
                Ok(())
            }
        }
    }
}

#[test]
fn the_model_of_the_contract_knows_a_breach() {
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    let at = |height, letter| (height, BlockHash::from_byte_array([letter; 32]));
    let tx = |n| Txid::from_byte_array([n; 32]);
    let confirmed = |block, n| Call::Confirmed(block, vec![(1, tx(n))]);
    let good = [confirmed(at(5, 1), 1), confirmed(at(6, 1), 2), Call::Tip(at(7, 1))];
    let then = |more: &[Call]| {
        let mut model = Model::default();
        model.take(&good).expect("a good beginning");
        model.take(more)
    };
    then(&[Call::Unconfirmed(tx(2)), confirmed(at(6, 2), 2), Call::Tip(at(8, 2))]).expect("a good reorganisation");
    for (breach, more) in [
        ("what confirms in another block", vec![confirmed(at(6, 2), 2)]),
        ("before anything is confirmed", vec![confirmed(at(8, 1), 3), Call::Unconfirmed(tx(2))]),
        ("only what was confirmed", vec![Call::Unconfirmed(tx(9))]),
        ("never lower", vec![Call::Tip(at(6, 2))]),
        ("nothing is confirmed above", vec![confirmed(at(9, 1), 3), Call::Tip(at(8, 1))]),
        ("blocks come upwards", vec![confirmed(at(8, 1), 3), confirmed(at(7, 1), 4)]),
        ("in block order", vec![Call::Confirmed(at(8, 1), vec![(2, tx(3)), (1, tx(4))])]),
    ] {
        let said = then(&more).expect_err(breach);
        assert!(said.contains(breach), "{breach}: {said}");
    }
}
