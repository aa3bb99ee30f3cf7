//! Making invoices.
//!
//! Decision: our own builder around LDK's `create_inbound_payment`, not `ChannelManager::create_bolt11_invoice`,
//! because in 0.2.7 that one panics on testnet4 (debug builds) or labels its invoices as regtest (release builds).
//! The cost is our own choice of route hints (`hints`), after LDK's rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::PublicKey;
use lightning::ln::channel_state::ChannelDetails;
use lightning::routing::gossip::RoutingFees;
use lightning::routing::router::{RouteHint, RouteHintHop};
use lightning::sign::{NodeSigner, Recipient};
use lightning_invoice::{Bolt11Invoice, InvoiceBuilder};

use super::decode;
use super::settings::FINAL_CLTV;
use super::types::{ChannelManager, KeysManager};
use crate::clock::unix_now;
use crate::crash::{self, Point};
use crate::ledger::{Ledger, NewInvoice};
use crate::store::StoreError;

/// Longest text that an invoice can say (BOLT11's field holds 639 bytes).
pub const MAX_DESCRIPTION_BYTES: usize = 639;
/// Most that an invoice can ask for: BOLT11 amounts are kept as 64 bits of pico-bitcoin.
pub const MAX_AMOUNT_MSAT: u64 = u64::MAX / 10;
/// Longest life of an invoice. LDK writes the expiry into the payment secret with less room than BOLT11 has.
pub const MAX_EXPIRY: Duration = Duration::from_secs(365 * 24 * 3600);
/// Most channels named in an invoice, as LDK does.
const MAX_HINTS: usize = 3;
/// From this many confirmations on a public channel is known to the network.
const PUBLIC_CONFIRMATIONS: u32 = 7;

/// What an invoice says that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// In the invoice itself; may be empty.
    Text(String),
    /// Only the hash of it.
    Hash([u8; 32]),
}

/// A made invoice.
#[derive(Clone, Debug)]
pub struct Made {
    /// Signed.
    pub invoice: Bolt11Invoice,
    /// Unix seconds.
    pub expires_at: u64,
    /// In words, why it may not be payable now.
    pub warning: Option<String>,
}

/// Why no invoice was made.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Nobody can pay nothing.
    #[error("the amount is zero; leave it out to let the payer choose")]
    ZeroAmount,
    /// More than an invoice can say, which is 18.4 million bitcoin.
    #[error("the amount is more than an invoice can ask for")]
    TooMuch,
    /// BOLT11 has no room for it.
    #[error("the description has {0} bytes; an invoice has room for {MAX_DESCRIPTION_BYTES}")]
    LongDescription(usize),
    /// Zero, or beyond [`MAX_EXPIRY`].
    #[error("the invoice would be valid for {0} seconds; it must be between 1 second and 365 days")]
    Expiry(u64),
    /// The book could not be written: the invoice is not handed out.
    #[error("no invoice was made: {0}")]
    Store(#[from] StoreError),
    /// LDK or the invoice library refused what it should accept.
    #[error("no invoice was made: {0}")]
    Internal(String),
}

/// Makes invoices.
#[derive(Clone)]
pub struct Receiver {
    manager: Arc<ChannelManager>,
    keys: Arc<KeysManager>,
    ledger: Ledger,
    network: Network,
}

impl Receiver {
    /// For the node of `keys`.
    pub fn new(manager: Arc<ChannelManager>, keys: Arc<KeysManager>, ledger: Ledger, network: Network) -> Self {
        Self { manager, keys, ledger, network }
    }

    /// Makes an invoice; it is in the book before it is returned. Blocks for one write: call it where that is
    /// allowed.
    pub fn receive(&self, amount_msat: Option<u64>, purpose: Purpose, expiry: Duration) -> Result<Made, ReceiveError> {
        check(amount_msat, &purpose, expiry)?;
        let channels = self.manager.list_channels();
        let invoice = self.sign(amount_msat, &purpose, expiry, hints(&channels, amount_msat))?;
        let expires_at = decode::expires_at(&invoice);
        self.ledger.invoice(NewInvoice {
            payment_hash: invoice.payment_hash().to_byte_array(),
            amount_msat,
            description: match purpose {
                Purpose::Text(text) => Some(text).filter(|text| !text.is_empty()),
                Purpose::Hash(_) => None,
            },
            invoice: invoice.to_string(),
            expires_at,
        })?;
        crash::passes(Point::InvoiceBooked);
        Ok(Made { invoice, expires_at, warning: warning(&channels, amount_msat) })
    }

    fn sign(
        &self,
        amount_msat: Option<u64>,
        purpose: &Purpose,
        expiry: Duration,
        hints: Vec<RouteHint>,
    ) -> Result<Bolt11Invoice, ReceiveError> {
        let internal = |why: &dyn std::fmt::Debug| ReceiveError::Internal(format!("{why:?}"));
        let expiry_secs = u32::try_from(expiry.as_secs()).map_err(|e| internal(&e))?;
        let (payment_hash, secret) = self
            .manager
            .create_inbound_payment(amount_msat, expiry_secs, Some(FINAL_CLTV))
            .map_err(|()| ReceiveError::Internal("LDK refuses the amount or the expiry".into()))?;
        let builder = InvoiceBuilder::new(decode::currency(self.network));
        let builder = match purpose {
            Purpose::Text(text) => builder.description(text.clone()),
            Purpose::Hash(hash) => builder.description_hash(sha256::Hash::from_byte_array(*hash)),
        };
        let mut builder = builder
            .duration_since_epoch(Duration::from_secs(unix_now()))
            .payee_pub_key(self.manager.get_our_node_id())
            .payment_hash(sha256::Hash::from_byte_array(payment_hash.0))
            .payment_secret(secret)
            .basic_mpp()
            .min_final_cltv_expiry_delta(FINAL_CLTV.into())
            .expiry_time(expiry);
        if let Some(msat) = amount_msat {
            builder = builder.amount_milli_satoshis(msat);
        }
        for hint in hints {
            builder = builder.private_route(hint);
        }
        let raw = builder.build_raw().map_err(|e| internal(&e))?;
        let signature = self.keys.sign_invoice(&raw, Recipient::Node);
        let signed = raw.sign(|_| signature).map_err(|()| ReceiveError::Internal("the key refuses to sign".into()))?;
        Bolt11Invoice::from_signed(signed).map_err(|e| internal(&e))
    }
}

fn check(amount_msat: Option<u64>, purpose: &Purpose, expiry: Duration) -> Result<(), ReceiveError> {
    match amount_msat {
        Some(0) => return Err(ReceiveError::ZeroAmount),
        Some(msat) if msat > MAX_AMOUNT_MSAT => return Err(ReceiveError::TooMuch),
        _ => {}
    }
    match purpose {
        Purpose::Text(text) if text.len() > MAX_DESCRIPTION_BYTES => {
            return Err(ReceiveError::LongDescription(text.len()));
        }
        _ => {}
    }
    if expiry.as_secs() == 0 || expiry > MAX_EXPIRY {
        return Err(ReceiveError::Expiry(expiry.as_secs()));
    }
    Ok(())
}

/// Which channels an invoice names, after LDK's rules: none once a public channel is known to the network; else at
/// most three, one per peer, only public ones if there is a young public one (the private ones stay private),
/// preferably those that are up and can take the amount: the tightest fit first, or else the roomiest.
fn hints(channels: &[ChannelDetails], amount_msat: Option<u64>) -> Vec<RouteHint> {
    let reachable: Vec<&ChannelDetails> = channels
        .iter()
        .filter(|c| {
            c.is_channel_ready && c.get_inbound_payment_scid().is_some() && c.counterparty.forwarding_info.is_some()
        })
        .collect();
    let known = |c: &&ChannelDetails| c.is_announced && c.confirmations.is_none_or(|n| n >= PUBLIC_CONFIRMATIONS);
    if reachable.iter().any(known) {
        return Vec::new();
    }
    let young_public = reachable.iter().any(|c| c.is_announced);
    let fits = |c: &ChannelDetails| c.inbound_capacity_msat >= amount_msat.unwrap_or(0);

    let mut by_peer: BTreeMap<PublicKey, &ChannelDetails> = BTreeMap::new();
    for channel in reachable.into_iter().filter(|c| c.is_announced == young_public) {
        let best = by_peer.entry(channel.counterparty.node_id).or_insert(channel);
        let rank = |c: &ChannelDetails| (c.is_usable, c.inbound_capacity_msat);
        if rank(channel) > rank(best) {
            *best = channel;
        }
    }
    let peers: Vec<&ChannelDetails> = by_peer.into_values().collect();
    let narrowed = [
        peers.iter().filter(|c| fits(c) && c.is_usable).copied().collect::<Vec<_>>(),
        peers.iter().filter(|c| fits(c)).copied().collect(),
        peers.iter().filter(|c| c.is_usable).copied().collect(),
    ];
    let tightest_first = !narrowed[0].is_empty();
    let mut chosen = narrowed.into_iter().find(|choice| !choice.is_empty()).unwrap_or(peers);
    chosen.sort_by_key(|c| c.inbound_capacity_msat);
    if !tightest_first {
        chosen.reverse();
    }
    chosen.into_iter().take(MAX_HINTS).filter_map(hint).collect()
}

fn hint(channel: &ChannelDetails) -> Option<RouteHint> {
    let forwarding = channel.counterparty.forwarding_info.as_ref()?;
    Some(RouteHint(vec![RouteHintHop {
        src_node_id: channel.counterparty.node_id,
        short_channel_id: channel.get_inbound_payment_scid()?,
        fees: RoutingFees {
            base_msat: forwarding.fee_base_msat,
            proportional_millionths: forwarding.fee_proportional_millionths,
        },
        cltv_expiry_delta: forwarding.cltv_expiry_delta,
        htlc_minimum_msat: channel.inbound_htlc_minimum_msat,
        htlc_maximum_msat: channel.inbound_htlc_maximum_msat,
    }]))
}

/// Why an invoice may not be payable now.
fn warning(channels: &[ChannelDetails], amount_msat: Option<u64>) -> Option<String> {
    if channels.is_empty() {
        return Some("there is no channel yet, so nobody can pay this over Lightning".into());
    }
    if !channels.iter().any(|c| c.is_channel_ready) {
        return Some("no channel is open yet; this can be paid once one is".into());
    }
    let total = |usable_only: bool| -> u64 {
        channels
            .iter()
            .filter(|c| c.is_channel_ready && (c.is_usable || !usable_only))
            .map(|c| c.inbound_capacity_msat)
            .sum()
    };
    let (now, open) = (total(true) / 1000, total(false) / 1000);
    match amount_msat {
        _ if open == 0 => Some(
            "nothing can be received: all the money in the channels is on this side; spend some, or have a peer open a \
             channel"
                .into(),
        ),
        Some(msat) if msat.div_ceil(1000) > open => {
            Some(format!("at most {open} sat can be received, less than this invoice asks for"))
        }
        Some(msat) if msat.div_ceil(1000) > now => {
            Some(format!("only {now} sat can be received now, because some peers are away ({open} sat with all of them)"))
        }
        None if now == 0 => Some("nothing can be received now, because the peers are away".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ln::channels::testing::channel;

    fn named(hints: &[RouteHint]) -> Vec<u64> {
        hints.iter().map(|hint| hint.0[0].short_channel_id).collect()
    }

    #[test]
    fn a_node_with_a_known_public_channel_names_none() {
        let channels = [channel(1, |_| {}), channel(2, |c| c.is_announced = true)];
        assert!(hints(&channels, None).is_empty());
    }

    #[test]
    fn a_young_public_channel_is_named_and_the_private_ones_stay_private() {
        let young = channel(2, |c| (c.is_announced, c.confirmations) = (true, Some(6)));
        assert_eq!(named(&hints(&[channel(1, |_| {}), young], None)), [2]);
    }

    #[test]
    fn channels_that_are_up_and_large_enough_come_first_the_tightest_of_them_before() {
        let room = |number, msat| channel(number, |c| c.inbound_capacity_msat = msat);
        let away = channel(5, |c| (c.is_usable, c.inbound_capacity_msat) = (false, 90));
        let all = [room(1, 30), room(2, 10), room(3, 50), room(4, 40), away];
        assert_eq!(named(&hints(&all, Some(30))), [1, 4, 3]);
        assert_eq!(named(&hints(&all, Some(60))), [5]);
        assert_eq!(named(&hints(&all, Some(91))), [3, 4, 1]);
    }

    #[test]
    fn one_channel_per_peer_is_named() {
        let peer = crate::ln::channels::testing::peer(9);
        let of_peer = |number, msat| {
            channel(number, |c| {
                c.counterparty.node_id = peer;
                c.inbound_capacity_msat = msat;
            })
        };
        assert_eq!(named(&hints(&[of_peer(1, 10), of_peer(2, 20)], None)), [2]);
    }

    #[test]
    fn channels_that_cannot_be_named_are_left_out() {
        let opening = channel(1, |c| c.is_channel_ready = false);
        let mute = channel(2, |c| c.counterparty.forwarding_info = None);
        assert!(hints(&[opening, mute], None).is_empty());
    }

    #[test]
    fn what_cannot_be_received_is_said_with_how_much_can() {
        let said = |channels: &[ChannelDetails], msat| warning(channels, msat).unwrap_or_default();
        assert!(said(&[], None).contains("no channel yet"));
        assert!(said(&[channel(1, |c| c.is_channel_ready = false)], None).contains("once one is"));
        assert!(said(&[channel(1, |c| c.inbound_capacity_msat = 999)], None).contains("nothing can be received"));
        let up = channel(1, |_| {});
        assert_eq!(warning(std::slice::from_ref(&up), Some(40_000_000)), None);
        assert!(said(std::slice::from_ref(&up), Some(40_000_001)).contains("at most 40000 sat can be received"));
        let away = channel(2, |c| c.is_usable = false);
        assert_eq!(
            said(&[up, away.clone()], Some(50_000_000)),
            "only 40000 sat can be received now, because some peers are away (80000 sat with all of them)"
        );
        assert!(said(&[away], None).contains("the peers are away"));
    }

    #[test]
    fn an_invoice_that_makes_no_sense_is_refused() {
        let text = |len| Purpose::Text("x".repeat(len));
        let hour = Duration::from_secs(3600);
        assert!(check(Some(1), &text(639), hour).is_ok());
        assert!(matches!(check(Some(0), &text(0), hour), Err(ReceiveError::ZeroAmount)));
        assert!(matches!(check(Some(MAX_AMOUNT_MSAT + 1), &text(0), hour), Err(ReceiveError::TooMuch)));
        assert!(matches!(check(None, &text(640), hour), Err(ReceiveError::LongDescription(640))));
        assert!(matches!(check(None, &text(0), Duration::ZERO), Err(ReceiveError::Expiry(0))));
        assert!(matches!(check(None, &text(0), MAX_EXPIRY + hour), Err(ReceiveError::Expiry(_))));
    }
}
