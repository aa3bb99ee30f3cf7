//! Channels as people want to see them: state, and what it waits for, in words.

use std::collections::BTreeSet;

use bitcoin::secp256k1::PublicKey;
use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState};
use lightning::ln::types::ChannelId;

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet usable for the first time.
    Opening,
    /// Payments can go through it.
    Usable,
    /// Open, but its peer is away.
    Inactive,
    /// Being closed by agreement.
    Closing,
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Changes once, when it is funded.
    pub channel_id: ChannelId,
    /// Ours, for its whole life.
    pub user_channel_id: u128,
    /// The other side.
    pub peer: PublicKey,
    /// Connected now.
    pub peer_connected: bool,
    /// Where it stands.
    pub standing: Standing,
    /// In words, what it waits for.
    pub waits_for: Option<String>,
    /// The output that holds it: transaction and index.
    pub funding: Option<bitcoin::OutPoint>,
    /// Position of the funding in the chain.
    pub short_channel_id: Option<u64>,
    /// Announced to the network.
    pub public: bool,
    /// Opened by us.
    pub outbound: bool,
    /// Whole value.
    pub capacity_sat: u64,
    /// What can be sent now, in parts if need be.
    pub spendable_msat: u64,
    /// What can be received now.
    pub receivable_msat: u64,
    /// What we must always leave on our side.
    pub our_reserve_sat: Option<u64>,
    /// Of the funding transaction.
    pub confirmations: Option<u32>,
    /// Needed before the channel is used.
    pub confirmations_required: Option<u32>,
    /// Of the commitment transaction.
    pub feerate_sat_per_kw: Option<u32>,
    /// Payments in flight, both directions.
    pub pending_htlcs: usize,
}

/// How a channel is shown, given who is connected.
pub fn view(channel: &ChannelDetails, connected: &BTreeSet<PublicKey>) -> ChannelView {
    let peer = channel.counterparty.node_id;
    let peer_connected = connected.contains(&peer);
    let standing = standing(channel);
    ChannelView {
        channel_id: channel.channel_id,
        user_channel_id: channel.user_channel_id,
        peer,
        peer_connected,
        standing,
        waits_for: waits_for(channel, standing, peer_connected),
        funding: channel.funding_txo.map(|funding| funding.into_bitcoin_outpoint()),
        short_channel_id: channel.short_channel_id,
        public: channel.is_announced,
        outbound: channel.is_outbound,
        capacity_sat: channel.channel_value_satoshis,
        spendable_msat: if channel.is_usable { channel.outbound_capacity_msat } else { 0 },
        receivable_msat: if channel.is_usable { channel.inbound_capacity_msat } else { 0 },
        our_reserve_sat: channel.unspendable_punishment_reserve,
        confirmations: channel.confirmations,
        confirmations_required: channel.confirmations_required,
        feerate_sat_per_kw: channel.feerate_sat_per_1000_weight,
        pending_htlcs: pending_htlcs(channel),
    }
}

/// Where a channel stands.
pub fn standing(channel: &ChannelDetails) -> Standing {
    if is_closing(channel) {
        Standing::Closing
    } else if channel.is_usable {
        Standing::Usable
    } else if channel.is_channel_ready {
        Standing::Inactive
    } else {
        Standing::Opening
    }
}

/// Payments in flight, both directions.
pub fn pending_htlcs(channel: &ChannelDetails) -> usize {
    channel.pending_inbound_htlcs.len() + channel.pending_outbound_htlcs.len()
}

fn is_closing(channel: &ChannelDetails) -> bool {
    !matches!(channel.channel_shutdown_state, None | Some(ChannelShutdownState::NotShuttingDown))
}

fn waits_for(channel: &ChannelDetails, standing: Standing, peer_connected: bool) -> Option<String> {
    let away = (!peer_connected).then_some("the peer, which is away");
    match standing {
        Standing::Usable => None,
        Standing::Inactive if peer_connected => Some("the peer, to bring the channel up again".into()),
        Standing::Inactive => Some("the peer, which is away".into()),
        Standing::Opening => Some(opening(channel, away)),
        Standing::Closing => Some(closing(channel, away)),
    }
}

fn opening(channel: &ChannelDetails, away: Option<&str>) -> String {
    if channel.funding_txo.is_none() {
        return "the peer, to accept the channel and sign its funding".into();
    }
    let seen = channel.confirmations.unwrap_or(0);
    let needed = channel.confirmations_required;
    match (needed, away) {
        (Some(needed), None) if seen < needed => {
            format!("confirmations of the funding transaction: {seen} of {needed}")
        }
        (Some(needed), Some(away)) if seen < needed => {
            format!("confirmations of the funding transaction: {seen} of {needed}; and {away}")
        }
        (_, Some(away)) => format!("{away}; our side is ready"),
        (_, None) => "the peer, to see enough confirmations too".into(),
    }
}

fn closing(channel: &ChannelDetails, away: Option<&str>) -> String {
    if let Some(away) = away {
        return format!("{away}, to agree on the closing transaction (`--force` closes without it)");
    }
    match (channel.channel_shutdown_state.as_ref(), pending_htlcs(channel)) {
        (Some(ChannelShutdownState::ShutdownInitiated), 0) => "the peer, to agree to close".into(),
        (Some(ChannelShutdownState::ShutdownInitiated | ChannelShutdownState::ResolvingHTLCs), pending) => {
            format!("{pending} payment(s) in flight to be settled")
        }
        (Some(ChannelShutdownState::ShutdownComplete), _) => "the closing transaction to be sent".into(),
        _ => "agreement with the peer on the closing fee".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ln::channels::testing::{channel, peer};

    fn says(connected: bool, change: impl FnOnce(&mut ChannelDetails)) -> (Standing, Option<String>) {
        let connected = if connected { BTreeSet::from([peer(1)]) } else { BTreeSet::new() };
        let view = view(&channel(1, change), &connected);
        (view.standing, view.waits_for)
    }

    #[test]
    fn a_channel_says_what_it_waits_for() {
        let funding = lightning::chain::transaction::OutPoint { txid: bitcoin::hashes::Hash::all_zeros(), index: 0 };
        let opening = |c: &mut ChannelDetails, confirmations| {
            (c.is_usable, c.is_channel_ready, c.funding_txo) = (false, false, Some(funding));
            c.confirmations = Some(confirmations);
        };
        let closing = |c: &mut ChannelDetails| {
            c.is_usable = false;
            c.channel_shutdown_state = Some(ChannelShutdownState::ShutdownInitiated);
        };
        let table = [
            (says(true, |_| {}), Standing::Usable, None),
            (says(false, |c| c.is_usable = false), Standing::Inactive, Some("the peer, which is away")),
            (
                says(true, |c| (c.is_usable, c.is_channel_ready) = (false, false)),
                Standing::Opening,
                Some("the peer, to accept the channel and sign its funding"),
            ),
            (
                says(true, |c| opening(c, 2)),
                Standing::Opening,
                Some("confirmations of the funding transaction: 2 of 3"),
            ),
            (
                says(false, |c| opening(c, 2)),
                Standing::Opening,
                Some("confirmations of the funding transaction: 2 of 3; and the peer, which is away"),
            ),
            (says(false, |c| opening(c, 3)), Standing::Opening, Some("the peer, which is away; our side is ready")),
            (says(true, |c| opening(c, 3)), Standing::Opening, Some("the peer, to see enough confirmations too")),
            (says(true, closing), Standing::Closing, Some("the peer, to agree to close")),
            (
                says(false, closing),
                Standing::Closing,
                Some("the peer, which is away, to agree on the closing transaction (`--force` closes without it)"),
            ),
        ];
        for ((standing, waits_for), expected, said) in table {
            assert_eq!((standing, waits_for.as_deref()), (expected, said));
        }
    }

    #[test]
    fn only_a_usable_channel_counts_as_spendable() {
        let all = BTreeSet::from([peer(1)]);
        assert_eq!(view(&channel(1, |_| {}), &all).spendable_msat, 50_000_000);
        assert_eq!(view(&channel(1, |c| c.is_usable = false), &all).spendable_msat, 0);
    }
}
