//! The scripts on which peers' closes pay us, and how they are spent without the channel's state.
//!
//! Rules (`lightning::sign::KeysManager`, `v2_remote_key_derivation`): a channel's payment key is one of 1,000 of the
//! seed, chosen by a hash of the channel's `channel_keys_id`; `possible_v2_counterparty_closed_balance_spks` lists, for
//! each, the script of channels without anchors and that of channels with them. LDK signs for a
//! `StaticPaymentOutputDescriptor` with the key that its `channel_keys_id` leads to.
//!
//! Decision: the id of the lost channel is gone, so another one is searched that leads to the same key: one in 1,000
//! does. Rejected: our own signing, which would need the derivation written a second time. Cost: about a thousand
//! derivations, under a second, for each output.

use std::collections::BTreeSet;

use bitcoin::secp256k1::{All, PublicKey, Secp256k1};
use bitcoin::{OutPoint, ScriptBuf, TxOut};
use lightning::ln::chan_utils::{ChannelTransactionParameters, get_countersigner_payment_script};
use lightning::sign::{
    ChannelSigner, KeysManager, SignerProvider, SpendableOutputDescriptor, StaticPaymentOutputDescriptor,
};
use lightning::types::features::ChannelTypeFeatures;

/// After so many ids one that leads to each key was met, but for one case in e^100.
const TRIES: u32 = 100_000;

/// All static scripts of the seed.
pub(super) struct Scripts {
    /// Channels with anchors: the only ones that this node has ever opened or taken.
    pub(super) anchors: Vec<ScriptBuf>,
    pub(super) all: BTreeSet<ScriptBuf>,
}

impl Scripts {
    /// Of this seed; takes a moment.
    pub(super) fn of(keys: &KeysManager) -> Self {
        let all = keys.possible_v2_counterparty_closed_balance_spks(&Secp256k1::new());
        Self {
            anchors: all.iter().filter(|script| script.is_p2wsh()).cloned().collect(),
            all: all.into_iter().collect(),
        }
    }
}

/// What LDK's sweeper needs to spend an output on a static script; `None`: it is not one. Blocks for a moment.
pub(super) fn descriptor(keys: &KeysManager, outpoint: OutPoint, output: &TxOut) -> Option<SpendableOutputDescriptor> {
    let features = match output.script_pubkey.is_p2wsh() {
        true => ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies(),
        false => ChannelTypeFeatures::only_static_remote_key(),
    };
    let secp = Secp256k1::new();
    let (channel_keys_id, signer) = (0..TRIES).find_map(|number| {
        let mut id = [0; 32];
        id[28..].copy_from_slice(&number.to_be_bytes());
        let signer = keys.derive_channel_signer(id);
        let point: PublicKey = payment_point(&signer, &secp);
        (get_countersigner_payment_script(&features, &point) == output.script_pubkey).then_some((id, signer))
    })?;
    Some(SpendableOutputDescriptor::StaticPaymentOutput(StaticPaymentOutputDescriptor {
        outpoint: lightning::chain::transaction::OutPoint {
            txid: outpoint.txid,
            index: u16::try_from(outpoint.vout).ok()?,
        },
        output: output.clone(),
        channel_keys_id,
        // Unknown, and of no effect: this signature does not commit to the channel.
        channel_value_satoshis: output.value.to_sat(),
        channel_transaction_parameters: Some(ChannelTransactionParameters {
            holder_pubkeys: signer.pubkeys(&secp),
            holder_selected_contest_delay: 0,
            is_outbound_from_holder: false,
            counterparty_parameters: None,
            funding_outpoint: None,
            splice_parent_funding_txid: None,
            channel_type_features: features,
            channel_value_satoshis: output.value.to_sat(),
        }),
    }))
}

fn payment_point(signer: &impl ChannelSigner, secp: &Secp256k1<All>) -> PublicKey {
    signer.pubkeys(secp).payment_point
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, FeeRate, Txid};
    use lightning::sign::OutputSpender;

    use super::*;

    fn keys() -> KeysManager {
        KeysManager::new(&[7; 32], 1, 2, true)
    }

    #[test]
    fn an_output_on_any_static_script_is_signed_for_without_its_channel() {
        let keys = keys();
        let scripts = Scripts::of(&keys);
        assert_eq!((scripts.anchors.len(), scripts.all.len()), (1000, 2000));
        let plain = scripts.all.iter().find(|script| script.is_p2wpkh()).expect("one of the other kind");
        for script in [&scripts.anchors[0], &scripts.anchors[999], plain] {
            let outpoint = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 1 };
            let output = TxOut { value: Amount::from_sat(50_000), script_pubkey: script.clone() };
            let found = descriptor(&keys, outpoint, &output).expect("a key");
            let rate = FeeRate::from_sat_per_vb_u32(2).to_sat_per_kwu() as u32;
            let home = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([1; 20]));
            let secp = Secp256k1::new();
            let spent = keys.spend_spendable_outputs(&[&found], Vec::new(), home, rate, Some(LockTime::ZERO), &secp);
            let tx = spent.expect("signed");
            assert_eq!(tx.input[0].previous_output, outpoint);
            assert_eq!(tx.input[0].witness.len(), 2);
        }
    }

    #[test]
    fn an_output_of_somebody_else_is_none_of_ours() {
        let keys = keys();
        let foreign = KeysManager::new(&[8; 32], 1, 2, true);
        let script = Scripts::of(&foreign).anchors.swap_remove(5);
        assert!(!Scripts::of(&keys).all.contains(&script));
    }
}
