//! LDK's `UserConfig`, from ours. Each value that is not LDK's default has its reason here.
//!
//! How long a node may be blind (`engine/ladder.rs` has the alarms): it says so after 90 minutes without a block, and
//! takes no new risk after two hours, 12 blocks. What it took before that must outlast the rest.
//!
//! - A revoked commitment can be punished for `our_to_self_delay` blocks. Default 288, two days: 12 blocks until the last
//!   alarm, a day until the owner looks, 36 blocks for a punishment at a low fee, and luck that halves the time of a
//!   block now and then. Cost: a peer that closes by force waits two days; LND, CLN, Eclair and LDK accept up to 2016.
//! - An HTLC that was forwarded must be claimed from the incoming channel within `cltv_expiry_delta` of its end in the
//!   outgoing one. LDK needs 48 with sight. Default 144, as Eclair's: 96 blocks for being blind. Cost: routes
//!   through this node lock money up longer, and are chosen less.
//! - A payment to us that we claimed must be taken on-chain before it expires, if the peer keeps still: invoices ask for
//!   [`FINAL_CLTV`], 72, where LDK needs 42: 30 blocks, five hours.

use lightning::util::config::{
    ChannelConfig, ChannelHandshakeConfig, ChannelHandshakeLimits, MaxDustHTLCExposure, UserConfig,
};

use crate::config::Channels;

/// The settings of all channels. Channels that exist keep those that were negotiated.
pub fn user_config(channels: &Channels) -> UserConfig {
    UserConfig {
        channel_handshake_config: ChannelHandshakeConfig {
            minimum_depth: channels.minimum_depth,
            our_to_self_delay: channels.their_delay_blocks,
            max_inbound_htlc_value_in_flight_percent_of_channel: channels.max_in_flight_percent,
            // A private channel goes by an alias, and does not show its funding output to everybody that we give an
            // invoice to. LDK ignores it for public ones.
            negotiate_scid_privacy: true,
            // Public only when asked for, per channel.
            announce_for_forwarding: false,
            // A thief of the peer's keys cannot have the money sent elsewhere in a cooperative close.
            commit_upfront_shutdown_pubkey: true,
            // Fees of a close are paid when it happens, from the wallet's reserve, not guessed months before.
            negotiate_anchors_zero_fee_htlc_tx: true,
            // Needs package relay everywhere between us and the miners, which Electrum servers do not promise.
            negotiate_anchor_zero_fee_commitments: false,
            ..ChannelHandshakeConfig::default()
        },
        channel_handshake_limits: ChannelHandshakeLimits {
            min_funding_satoshis: channels.min_inbound_sat,
            max_funding_satoshis: channels.max_funding_sat,
            their_to_self_delay: channels.max_our_delay_blocks,
            // Our own funding may be reorganised away, or conflict with a spend from the same words elsewhere.
            trust_own_funding_0conf: false,
            // Whether a channel of a peer is public is the peer's choice; the events room decides whether to take it.
            force_announced_channel_preference: false,
            ..ChannelHandshakeLimits::default()
        },
        channel_config: ChannelConfig {
            forwarding_fee_base_msat: channels.forwarding_base_fee_msat,
            forwarding_fee_proportional_millionths: channels.forwarding_fee_ppm,
            cltv_expiry_delta: channels.cltv_expiry_delta,
            force_close_avoidance_max_fee_satoshis: channels.force_close_avoidance_sat,
            // A fixed limit, as LDK advises with anchors: a multiple of a feerate would let servers, who estimate
            // feerates, decide when a channel closes because of dust.
            max_dust_htlc_exposure: MaxDustHTLCExposure::FixedLimitMsat(MAX_DUST_MSAT),
            accept_underpaying_htlcs: false,
        },
        // The node runs all day; who gave us a private channel gets payments over it, and we our fee.
        accept_forwards_to_priv_channels: true,
        accept_inbound_channels: channels.accept_inbound,
        // Anchors demand that the reserve is looked at before a channel is taken.
        manually_accept_inbound_channels: true,
        accept_intercept_htlcs: false,
        manually_handle_bolt12_invoices: false,
        enable_htlc_hold: false,
        hold_outbound_htlcs_at_next_hop: false,
        reject_inbound_splices: true,
    }
}

/// Blocks that the last part of a payment to us may last at least.
pub const FINAL_CLTV: u16 = 72;

/// What may be lost to fees, per channel: in HTLCs that are too small to be claimed, and in what a peer's feerate is
/// above our highest. 50,000 sat, between LDK's former 5,000 and LND's 500,000.
const MAX_DUST_MSAT: u64 = 50_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Channels;

    fn channels() -> Channels {
        Channels {
            accept_inbound: true,
            min_inbound_sat: 20_000,
            max_funding_sat: 16_000_000,
            minimum_depth: 3,
            their_delay_blocks: 144,
            max_our_delay_blocks: 1008,
            max_in_flight_percent: 45,
            forwarding_base_fee_msat: 1000,
            forwarding_fee_ppm: 100,
            cltv_expiry_delta: 80,
            reserve_sat: 25_000,
            force_close_avoidance_sat: 1000,
        }
    }

    #[test]
    fn both_delays_go_where_ldk_means_them() {
        let config = user_config(&channels());
        assert_eq!(config.channel_handshake_config.our_to_self_delay, 144);
        assert_eq!(config.channel_handshake_limits.their_to_self_delay, 1008);
    }

    #[test]
    fn anchors_are_on_and_nothing_is_accepted_unseen() {
        let config = user_config(&channels());
        assert!(config.channel_handshake_config.negotiate_anchors_zero_fee_htlc_tx);
        assert!(config.manually_accept_inbound_channels);
        assert!(!config.channel_handshake_limits.trust_own_funding_0conf);
    }
}
