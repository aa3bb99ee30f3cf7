//! What LDK has registered, asked of those who registered it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bitcoin::{OutPoint, Script, ScriptBuf, Txid};
use lightning::chain::{Filter, WatchedOutput};
use lightning::sign::SpendableOutputDescriptor;

use super::Watched;
use crate::ln::Ln;
use crate::ln::filter::is_followed;

impl Ln {
    /// What monitors and sweeper want to hear of, without the scripts that nobody follows (see [`crate::ln::filter`]).
    ///
    /// It takes the monitors' locks one after the other; to be called where blocking is allowed.
    pub fn watched(&self) -> Watched {
        let collected = Collector::default();
        for channel in self.chain_monitor.list_monitors() {
            // One that was archived meanwhile watches nothing any more.
            if let Ok(monitor) = self.chain_monitor.get_monitor(channel) {
                monitor.load_outputs_to_watch(&&collected, &self.logger);
            }
        }
        for swept in self.sweeper.tracked_spendable_outputs() {
            let script = match &swept.descriptor {
                SpendableOutputDescriptor::StaticOutput { output, .. } => &output.script_pubkey,
                SpendableOutputDescriptor::DelayedPaymentOutput(output) => &output.output.script_pubkey,
                SpendableOutputDescriptor::StaticPaymentOutput(output) => &output.output.script_pubkey,
            };
            collected.output(swept.descriptor.spendable_outpoint().into_bitcoin_outpoint(), script);
        }
        let Collector { transactions, outputs } = collected;
        let transactions = transactions.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outputs = outputs.into_inner().unwrap_or_else(PoisonError::into_inner);
        Watched { transactions: transactions.into_iter().collect(), outputs: outputs.into_iter().collect() }
    }
}

/// Takes each once.
#[derive(Default)]
struct Collector {
    transactions: Mutex<BTreeMap<Txid, ScriptBuf>>,
    outputs: Mutex<BTreeMap<OutPoint, ScriptBuf>>,
}

impl Collector {
    fn output(&self, outpoint: OutPoint, script: &Script) {
        if is_followed(script) {
            self.outputs.lock().unwrap_or_else(PoisonError::into_inner).insert(outpoint, script.into());
        }
    }
}

impl Filter for Collector {
    fn register_tx(&self, txid: &Txid, script_pubkey: &Script) {
        if is_followed(script_pubkey) {
            self.transactions.lock().unwrap_or_else(PoisonError::into_inner).insert(*txid, script_pubkey.into());
        }
    }

    fn register_output(&self, output: WatchedOutput) {
        self.output(output.outpoint.into_bitcoin_outpoint(), &output.script_pubkey);
    }
}
