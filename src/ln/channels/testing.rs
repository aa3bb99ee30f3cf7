//! Channels for tests.

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use lightning::ln::channel_state::{
    ChannelCounterparty, ChannelDetails, ChannelShutdownState, CounterpartyForwardingInfo,
};
use lightning::ln::channelmanager::provided_init_features;
use lightning::ln::types::ChannelId;
use lightning::types::features::ChannelTypeFeatures;
use lightning::util::config::UserConfig;

/// A node id.
pub(in crate::ln) fn peer(number: u8) -> PublicKey {
    let key = SecretKey::from_slice(&[number; 32]).expect("a key");
    PublicKey::from_secret_key(&Secp256k1::new(), &key)
}

/// A usable private channel with the peer of this number, changed by `change`.
pub(in crate::ln) fn channel(number: u8, change: impl FnOnce(&mut ChannelDetails)) -> ChannelDetails {
    let mut channel = ChannelDetails {
        channel_id: ChannelId([number; 32]),
        counterparty: ChannelCounterparty {
            node_id: peer(number),
            features: provided_init_features(&UserConfig::default()),
            unspendable_punishment_reserve: 1_000,
            forwarding_info: Some(CounterpartyForwardingInfo {
                fee_base_msat: 1_000,
                fee_proportional_millionths: 100,
                cltv_expiry_delta: 80,
            }),
            outbound_htlc_minimum_msat: Some(1),
            outbound_htlc_maximum_msat: Some(45_000_000),
        },
        funding_txo: None,
        channel_type: Some(ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies()),
        short_channel_id: Some(u64::from(number)),
        outbound_scid_alias: None,
        inbound_scid_alias: None,
        channel_value_satoshis: 100_000,
        unspendable_punishment_reserve: Some(1_000),
        user_channel_id: number.into(),
        feerate_sat_per_1000_weight: Some(253),
        outbound_capacity_msat: 50_000_000,
        next_outbound_htlc_limit_msat: 45_000_000,
        next_outbound_htlc_minimum_msat: 1,
        inbound_capacity_msat: 40_000_000,
        confirmations_required: Some(3),
        confirmations: Some(100),
        force_close_spend_delay: Some(144),
        is_outbound: true,
        is_channel_ready: true,
        channel_shutdown_state: Some(ChannelShutdownState::NotShuttingDown),
        is_usable: true,
        is_announced: false,
        inbound_htlc_minimum_msat: Some(1),
        inbound_htlc_maximum_msat: Some(45_000_000),
        config: None,
        pending_inbound_htlcs: Vec::new(),
        pending_outbound_htlcs: Vec::new(),
        funding_redeem_script: None,
    };
    change(&mut channel);
    channel
}
