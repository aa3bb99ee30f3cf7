//! Which channels of others are let in. Pure.

use lightning::events::InboundChannelFunds;
use lightning::types::features::ChannelTypeFeatures;

/// Channels that one peer may have with us, open and opening.
const MAX_PER_PEER: usize = 10;
/// Channels of one peer that may be opening at a time.
const MAX_OPENING_PER_PEER: usize = 2;
/// Channels of others that may be opening at a time.
const MAX_OPENING: usize = 20;

/// From the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptPolicy {
    /// False: no channels of others.
    pub inbound: bool,
    /// Smallest channel, in sat.
    pub min_sat: u64,
    /// Largest channel, in sat.
    pub max_sat: u64,
    /// Kept on-chain for each anchor channel, in sat.
    pub reserve_sat: u64,
}

/// What a peer asks for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Whole value, in sat.
    pub funding_sat: u64,
    /// Who pays.
    pub funds: &'a InboundChannelFunds,
    /// Features.
    pub channel_type: &'a ChannelTypeFeatures,
}

/// How things are here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// Channels with this peer, without the one asked for.
    pub with_peer: usize,
    /// Of these, not yet usable.
    pub opening_with_peer: usize,
    /// Channels that others open to us, all peers.
    pub opening: usize,
    /// Channels that need a reserve, without the one asked for.
    pub anchors: usize,
    /// Confirmed and free on-chain, in sat.
    pub confirmed_sat: u64,
}

/// Why a channel is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// To the peer.
    pub told: String,
    /// For our own log: what the owner can do about it.
    pub why: String,
}

impl Refusal {
    /// With nothing to hide from the peer.
    pub fn plain(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { told: why.clone(), why }
    }
}

impl AcceptPolicy {
    /// `Err` is the reason.
    pub fn judge(&self, asked: &Asked<'_>, situation: &Situation) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::plain(why));
        if !self.inbound {
            return refuse("this node accepts no channels");
        }
        if matches!(asked.funds, InboundChannelFunds::DualFunded) {
            return refuse("this node does not take part in dual funding");
        }
        if asked.channel_type.requires_zero_conf() {
            return refuse("this node does not use channels before they are confirmed");
        }
        if asked.funding_sat < self.min_sat {
            return Err(Refusal::plain(format!("the channel is too small: at least {} sat", self.min_sat)));
        }
        if asked.funding_sat > self.max_sat {
            return Err(Refusal::plain(format!("the channel is too large: at most {} sat", self.max_sat)));
        }
        if situation.with_peer >= MAX_PER_PEER {
            return refuse("there are enough channels between us already");
        }
        if situation.opening_with_peer >= MAX_OPENING_PER_PEER || situation.opening >= MAX_OPENING {
            return refuse("too many channels are being opened to this node; try again when they are");
        }
        // Without anchors nothing could be added to the fee of our commitment when it has to be published, and the peer
        // sets that fee. LDK offers such a channel by itself to a node that refused one with anchors,
        // whatever the reason was: so this one comes after the others.
        if !needs_reserve(asked.channel_type) {
            return refuse("this node takes only channels with anchor outputs, and keeps coins on-chain for each");
        }
        let needed_sat = self.reserve_for(situation.anchors + 1);
        if situation.confirmed_sat < needed_sat {
            return Err(Refusal {
                // The peer is not told what we own.
                told: "this node cannot take another channel of this type now".into(),
                why: format!(
                    "closing it by force would have to be paid from the wallet, which has {} sat confirmed and needs \
                     {needed_sat} sat for all channels with this one (channels.reserve_sat); deposit some",
                    situation.confirmed_sat
                ),
            });
        }
        Ok(())
    }

    /// What has to be on-chain for so many anchor channels, in sat: a claim after a close by force pays its fees
    /// from there.
    pub fn reserve_for(&self, anchors: usize) -> u64 {
        self.reserve_sat.saturating_mul(u64::try_from(anchors).unwrap_or(u64::MAX))
    }
}

/// True for channel types whose claims take their fees from the wallet.
pub fn needs_reserve(channel_type: &ChannelTypeFeatures) -> bool {
    channel_type.supports_anchors_zero_fee_htlc_tx() || channel_type.supports_anchor_zero_fee_commitments()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: AcceptPolicy =
        AcceptPolicy { inbound: true, min_sat: 20_000, max_sat: 1_000_000, reserve_sat: 25_000 };
    const ROOMY: Situation =
        Situation { with_peer: 0, opening_with_peer: 0, opening: 0, anchors: 0, confirmed_sat: 25_000 };

    fn judge(
        policy: AcceptPolicy,
        funding_sat: u64,
        funds: &InboundChannelFunds,
        at: Situation,
    ) -> Result<(), Refusal> {
        let channel_type = ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies();
        policy.judge(&Asked { funding_sat, funds, channel_type: &channel_type }, &at)
    }

    #[test]
    fn a_channel_within_all_limits_is_accepted() {
        for sat in [20_000, 1_000_000] {
            assert_eq!(judge(POLICY, sat, &InboundChannelFunds::PushMsat(0), ROOMY), Ok(()));
        }
    }

    #[test]
    fn each_limit_refuses_with_its_reason() {
        let push = InboundChannelFunds::PushMsat(0);
        let table = [
            (judge(AcceptPolicy { inbound: false, ..POLICY }, 50_000, &push, ROOMY), "accepts no channels"),
            (judge(POLICY, 50_000, &InboundChannelFunds::DualFunded, ROOMY), "dual funding"),
            (judge(POLICY, 19_999, &push, ROOMY), "at least 20000 sat"),
            (judge(POLICY, 1_000_001, &push, ROOMY), "at most 1000000 sat"),
            (judge(POLICY, 50_000, &push, Situation { with_peer: 10, ..ROOMY }), "enough channels"),
            (judge(POLICY, 50_000, &push, Situation { opening_with_peer: 2, ..ROOMY }), "being opened"),
            (judge(POLICY, 50_000, &push, Situation { opening: 20, ..ROOMY }), "being opened"),
            (judge(POLICY, 50_000, &push, Situation { confirmed_sat: 24_999, ..ROOMY }), "has 24999 sat"),
            (judge(POLICY, 50_000, &push, Situation { anchors: 1, ..ROOMY }), "needs 50000 sat"),
        ];
        for (verdict, reason) in table {
            let Refusal { why, told } = verdict.expect_err(reason);
            assert!(!told.contains("wallet"), "{told}");
            assert!(why.contains(reason), "{why}");
        }
    }

    #[test]
    fn a_channel_without_anchors_is_refused_whatever_the_wallet_has() {
        let plain = ChannelTypeFeatures::only_static_remote_key();
        let asked = Asked { funding_sat: 50_000, funds: &InboundChannelFunds::PushMsat(0), channel_type: &plain };
        let refusal = POLICY.judge(&asked, &ROOMY).expect_err("no anchors");
        assert!(refusal.told.contains("anchor"), "{refusal:?}");
    }

    #[test]
    fn a_channel_without_confirmations_is_refused() {
        let mut eager = ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies();
        eager.set_zero_conf_required();
        let asked = Asked { funding_sat: 50_000, funds: &InboundChannelFunds::PushMsat(0), channel_type: &eager };
        assert!(POLICY.judge(&asked, &ROOMY).is_err());
    }
}
