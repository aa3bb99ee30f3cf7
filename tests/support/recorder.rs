//! A `Confirm` that remembers as LDK does, registers what follows, and writes down every call with its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bitcoin::block::Header;
use bitcoin::{BlockHash, OutPoint, Script, ScriptBuf, Transaction, Txid, Witness};
use lightning::chain::Confirm;

/// Height and hash.
pub(crate) type Block = (u32, BlockHash);

/// What was called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Unconfirmed(Txid),
    /// The transactions with their positions in the block.
    Confirmed(Block, Vec<(usize, Txid)>),
    Tip(Block),
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) confirmed: BTreeMap<Txid, Block>,
    pub(crate) tip: Option<Block>,
    /// Whose spending is of interest, with their scripts.
    pub(crate) outputs: BTreeMap<OutPoint, ScriptBuf>,
    /// Whose confirmation is of interest, with one of their scripts.
    pub(crate) transactions: BTreeMap<Txid, ScriptBuf>,
}

/// Scripts that are ours: an output that pays to one is registered when its transaction confirms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family(Arc<Mutex<BTreeSet<ScriptBuf>>>);

impl Family {
    pub(crate) fn add(&self, script: ScriptBuf) {
        lock(&self.0).insert(script);
    }

    fn has(&self, script: &Script) -> bool {
        lock(&self.0).contains(script)
    }
}

type Register = Box<dyn Fn(OutPoint, &Script) + Send + Sync>;

/// See the module.
pub(crate) struct Recorder {
    family: Family,
    memory: Mutex<Memory>,
    calls: Mutex<Vec<(Instant, Call)>>,
    /// Of the first input of each transaction, as it was told last.
    witnesses: Mutex<BTreeMap<Txid, Witness>>,
    /// As LDK's `Filter`, called from inside `transactions_confirmed`.
    register: Mutex<Register>,
}

impl Recorder {
    pub(crate) fn new(family: Family) -> Arc<Self> {
        let register: Register = Box::new(|_, _| {});
        Arc::new(Self {
            family,
            memory: Mutex::default(),
            calls: Mutex::default(),
            witnesses: Mutex::default(),
            register: Mutex::new(register),
        })
    }

    /// Where outputs are registered from now on.
    pub(crate) fn set_filter(&self, register: impl Fn(OutPoint, &Script) + Send + Sync + 'static) {
        *lock(&self.register) = Box::new(register);
    }

    pub(crate) fn memory(&self) -> Memory {
        lock(&self.memory).clone()
    }

    /// As after a restart with an older state on the disk. What was registered stays so: it is written at once.
    pub(crate) fn remember(&self, older: &Memory) {
        let mut memory = lock(&self.memory);
        memory.confirmed = older.confirmed.clone();
        memory.tip = older.tip;
    }

    pub(crate) fn watch_transaction(&self, txid: Txid, script: ScriptBuf) {
        lock(&self.memory).transactions.insert(txid, script);
    }

    pub(crate) fn watch_output(&self, outpoint: OutPoint, script: ScriptBuf) {
        lock(&self.memory).outputs.insert(outpoint, script);
    }

    /// Every call so far that was not taken.
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).iter().map(|(_, call)| call.clone()).collect()
    }

    /// The witness by which the first input of a transaction was told to be opened.
    pub(crate) fn witness(&self, txid: Txid) -> Option<Witness> {
        lock(&self.witnesses).get(&txid).cloned()
    }

    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.calls)).into_iter().map(|(_, call)| call).collect()
    }

    /// When the last call came, if any did since the last time.
    pub(crate) fn last_call(&self) -> Option<Instant> {
        lock(&self.calls).last().map(|(at, _)| *at)
    }

    fn note(&self, call: Call) {
        lock(&self.calls).push((Instant::now(), call));
    }
}

impl Confirm for Recorder {
    fn transactions_confirmed(&self, header: &Header, txdata: &[(usize, &Transaction)], height: u32) {
        let block = (height, header.block_hash());
        self.note(Call::Confirmed(block, txdata.iter().map(|(pos, tx)| (*pos, tx.compute_txid())).collect()));
        let witnesses = txdata.iter().map(|(_, tx)| (tx.compute_txid(), tx.input[0].witness.clone()));
        lock(&self.witnesses).extend(witnesses);
        let mut news = Vec::new();
        {
            let mut memory = lock(&self.memory);
            for (_, tx) in txdata {
                let txid = tx.compute_txid();
                let spends = tx.input.iter().any(|input| memory.outputs.contains_key(&input.previous_output));
                // A payment to a watched script that is neither is told by our engine, which follows scripts, and
                // ignored by LDK's monitors.
                if !spends && !memory.transactions.contains_key(&txid) {
                    continue;
                }
                memory.confirmed.insert(txid, block);
                for (index, output) in (0..).zip(&tx.output) {
                    let (outpoint, script) = (OutPoint::new(txid, index), &output.script_pubkey);
                    if self.family.has(script) && memory.outputs.insert(outpoint, script.clone()).is_none() {
                        news.push((outpoint, script.clone()));
                    }
                }
            }
        }
        for (outpoint, script) in news {
            lock(&self.register)(outpoint, &script);
        }
    }

    fn transaction_unconfirmed(&self, txid: &Txid) {
        self.note(Call::Unconfirmed(*txid));
        lock(&self.memory).confirmed.remove(txid);
    }

    fn best_block_updated(&self, header: &Header, height: u32) {
        let block = (height, header.block_hash());
        self.note(Call::Tip(block));
        lock(&self.memory).tip = Some(block);
    }

    fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
        let memory = lock(&self.memory);
        memory.confirmed.iter().map(|(txid, (height, hash))| (*txid, *height, Some(*hash))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
