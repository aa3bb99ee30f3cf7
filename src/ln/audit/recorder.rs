//! A `Confirm` that does nothing but remember.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Transaction, Txid};
use lightning::chain::Confirm;

use super::Block;

/// What it was told last.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    confirmed: BTreeMap<Txid, Block>,
    tip: Option<Block>,
}

impl Recorder {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The best block, and every confirmed transaction.
    pub(super) fn conclusion(&self) -> (Option<Block>, Vec<(Txid, Block)>) {
        let told = self.told();
        (told.tip, told.confirmed.iter().map(|(txid, block)| (*txid, *block)).collect())
    }
}

impl Confirm for Recorder {
    fn transactions_confirmed(&self, header: &Header, txdata: &[(usize, &Transaction)], height: u32) {
        let block = Block { height, hash: header.block_hash() };
        self.told().confirmed.extend(txdata.iter().map(|(_, tx)| (tx.compute_txid(), block)));
    }

    fn transaction_unconfirmed(&self, txid: &Txid) {
        self.told().confirmed.remove(txid);
    }

    fn best_block_updated(&self, header: &Header, height: u32) {
        self.told().tip = Some(Block { height, hash: header.block_hash() });
    }

    fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
        self.told().confirmed.iter().map(|(txid, block)| (*txid, block.height, Some(block.hash))).collect()
    }
}
