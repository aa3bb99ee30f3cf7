//! `FeeEstimator`: which rate LDK gets for what.
//!
//! Rules: LDK asks under its locks and often, so the answer comes from memory. Units are sat per 1000 weight units; 253
//! is the least that a node relays (1 sat/vB, rounded up).
//!
//! Decision: what servers say about fees decides only what *we* pay. The two limits below which LDK closes a channel on
//! its peer (`MinAllowed…RemoteFee`) are constants: a server that claims high fees must not be able to close channels
//! (promise P1). The cost is that a peer may keep a commitment transaction cheap; with anchors its fee is raised when it
//! is needed, and channels without anchors are neither opened nor accepted.

use lightning::chain::chaininterface::{ConfirmationTarget, FEERATE_FLOOR_SATS_PER_KW, FeeEstimator};

use crate::engine::FeeBook;

/// What a commitment transaction with anchors pays at most: 20 sat/vB. More comes from its anchor when it is needed; a
/// higher rate would only take money out of the channel, for as long as it is open.
const ANCHOR_COMMITMENT_AT_MOST: u32 = 5_000;

/// Added to twice our fastest rate where a peer's rate is judged: what a peer pays above it counts as dust at risk, and
/// enough of that closes the channel. 50 sat/vB, so that servers which claim low fees close nothing.
const PEER_MARGIN: u32 = 12_500;

/// LDK's `FeeEstimator`, over the fee book, whose rates are bounded already.
#[derive(Clone, Debug)]
pub struct Fees(FeeBook);

impl Fees {
    /// Rates of this book.
    pub fn new(book: FeeBook) -> Self {
        Self(book)
    }

    /// The rate for confirmation within so many blocks, in sat per 1000 weight units.
    pub fn within(&self, blocks: u16) -> u32 {
        self.0.within(blocks)
    }
}

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        match target {
            // Only to judge the peer's rates and the worth of dust: generous, so that honest peers are never judged.
            ConfirmationTarget::MaximumFeeEstimate => self.within(2).saturating_mul(2).saturating_add(PEER_MARGIN),
            // Money that a peer may take after a deadline; LDK raises it as the deadline comes near.
            ConfirmationTarget::UrgentOnChainSweep => self.0.urgent(),
            // Constants; see the head of this file.
            ConfirmationTarget::MinAllowedAnchorChannelRemoteFee
            | ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee => FEERATE_FLOOR_SATS_PER_KW,
            // Enough to enter mempools in the days to come; the anchor pays the rest.
            ConfirmationTarget::AnchorChannelFee => self.within(1008).min(ANCHOR_COMMITMENT_AT_MOST),
            // Cannot be raised later; also the most that we offer in a cooperative close.
            ConfirmationTarget::NonAnchorChannelFee => self.within(6),
            // A cooperative close hurries nobody; a day will do.
            ConfirmationTarget::ChannelCloseMinimum => self.within(144),
            // Nobody else can take it; a day will do.
            ConfirmationTarget::OutputSpendingFee => self.within(144),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fees::{FeeRecord, Rates};

    const ALL: [ConfirmationTarget; 8] = [
        ConfirmationTarget::MaximumFeeEstimate,
        ConfirmationTarget::UrgentOnChainSweep,
        ConfirmationTarget::MinAllowedAnchorChannelRemoteFee,
        ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee,
        ConfirmationTarget::AnchorChannelFee,
        ConfirmationTarget::NonAnchorChannelFee,
        ConfirmationTarget::ChannelCloseMinimum,
        ConfirmationTarget::OutputSpendingFee,
    ];

    /// A book that knows one rate for each of 2, 6, 144 and 1008 blocks.
    fn rate(rates: [u32; 4], target: ConfirmationTarget) -> u32 {
        let limits = crate::config::Fees {
            min_sat_per_vb: 1,
            max_sat_per_vb: 500,
            fallback_sat_per_vb: 5,
            max_factor_per_hour: 4,
        };
        // Of a time to come: never old.
        let rates = Rates { targets: rates, urgent: rates[1].saturating_add(1) };
        let book = FeeBook::new(&limits, Some(FeeRecord { at: u64::MAX, rates }));
        Fees::new(book).get_est_sat_per_1000_weight(target)
    }

    #[test]
    fn no_rate_is_below_what_is_relayed_or_far_above_the_cap() {
        for target in ALL {
            assert!(rate([0; 4], target) >= 253, "{target:?}");
            assert!(rate([u32::MAX; 4], target) <= 2 * 500 * 250 + PEER_MARGIN, "{target:?}");
        }
    }

    #[test]
    fn what_servers_claim_cannot_move_the_limits_at_which_a_channel_is_closed() {
        for target in [
            ConfirmationTarget::MinAllowedAnchorChannelRemoteFee,
            ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee,
        ] {
            assert_eq!(rate([100_000; 4], target), rate([253; 4], target));
        }
    }

    #[test]
    fn hurry_costs_more_than_leisure() {
        let rates = [50_000, 20_000, 1_000, 500];
        let urgent = rate(rates, ConfirmationTarget::UrgentOnChainSweep);
        assert_eq!(urgent, 20_001);
        assert_eq!(rate(rates, ConfirmationTarget::OutputSpendingFee), 1_000);
        assert!(rate(rates, ConfirmationTarget::MaximumFeeEstimate) > 2 * urgent);
    }

    #[test]
    fn a_commitment_with_anchors_stays_cheap_while_blocks_are_dear() {
        assert_eq!(rate([50_000; 4], ConfirmationTarget::AnchorChannelFee), ANCHOR_COMMITMENT_AT_MOST);
    }
}
