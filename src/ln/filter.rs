//! `Filter`: LDK's wish to follow a script, put into the engine's inbox.
//!
//! Rules (`lightning::chain::Filter`): the calls are re-entrant, arrive while LDK holds its own locks, and often from
//! inside `transactions_confirmed`. So they only push: no lock, no IO, no question to anybody. The engine drains the
//! inbox before it delivers the next block. LDK has no call to unregister: [`super::housekeeping`]
//! does it.

use bitcoin::{Script, Txid};
use lightning::chain::WatchedOutput;

use crate::chain::io::{Owners, Watch};
use crate::engine::WatchInbox;

/// LDK's `Filter`.
#[derive(Clone, Debug)]
pub struct FilterInbox(WatchInbox);

impl FilterInbox {
    /// A filter that pushes into `inbox`.
    pub fn new(inbox: WatchInbox) -> Self {
        Self(inbox)
    }

    /// Has a script followed for Lightning; nothing for those that nobody follows.
    pub(super) fn follow(&self, script: &Script) {
        if !is_followed(script) {
            return;
        }
        self.0.push(Watch { script: script.into(), owners: Owners { wallet: false, lightning: true } });
    }
}

impl lightning::chain::Filter for FilterInbox {
    fn register_tx(&self, _txid: &Txid, script_pubkey: &Script) {
        self.follow(script_pubkey);
    }

    fn register_output(&self, output: WatchedOutput) {
        self.follow(&output.script_pubkey);
    }
}

/// False for scripts that LDK registers and nobody follows.
///
/// A commitment transaction registers all of its outputs. The shared pay-to-anchor script has the history of the whole
/// network's fee bumping and no money of ours; an OP_RETURN can never be spent.
pub(super) fn is_followed(script: &Script) -> bool {
    !script.is_op_return() && !is_pay_to_anchor(script)
}

/// OP_1 and two fixed bytes (BIP 433).
fn is_pay_to_anchor(script: &Script) -> bool {
    script.as_bytes() == [0x51, 0x02, 0x4e, 0x73]
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;
    use lightning::chain::Filter;
    use lightning::chain::transaction::OutPoint;

    use super::*;

    #[test]
    fn a_registered_output_becomes_a_watch_for_lightning_only() {
        let (inbox, mut watches) = WatchInbox::new();
        let filter = FilterInbox::new(inbox);
        let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_raw_hash(bitcoin::hashes::Hash::hash(b"x")));
        let outpoint = OutPoint { txid: bitcoin::hashes::Hash::all_zeros(), index: 0 };
        filter.register_output(WatchedOutput { block_hash: None, outpoint, script_pubkey: script.clone() });
        let watch = watches.try_recv().expect("pushed");
        assert_eq!(watch, Watch { script, owners: Owners { wallet: false, lightning: true } });
    }

    #[test]
    fn the_shared_anchor_script_is_not_followed() {
        let (inbox, mut watches) = WatchInbox::new();
        let filter = FilterInbox::new(inbox);
        filter.register_tx(&bitcoin::hashes::Hash::all_zeros(), Script::from_bytes(&[0x51, 0x02, 0x4e, 0x73]));
        filter.register_tx(&bitcoin::hashes::Hash::all_zeros(), Script::from_bytes(&[0x6a, 0x01, 0x00]));
        assert!(watches.try_recv().is_err());
    }
}
