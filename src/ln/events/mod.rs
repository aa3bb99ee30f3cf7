//! What LDK reports, and what is done about it. The contract (lightning 0.2.7, `events/mod.rs`):
//!
//! - Events are handled in order, inline in the background processor: a slow handler delays everything else. What
//!   blocks runs on a blocking thread; what takes long is handed to somebody else.
//! - An event is written with the channel manager and comes again after a crash, unless its docs say otherwise:
//!   every handler may run twice for one event, and ends the same.
//! - `Err(ReplayEvent)` stops the queue at this event and asks for it again at once, rewriting the manager each
//!   time. So it is for one case only: our own write failed. Then we sleep first.
//! - Channel events come from the manager, `SpendableOutputs` and `BumpTransaction` from the chain monitor,
//!   `ConnectionNeeded` and stored onion messages from the messenger; the last ones run beside each other.
//!
//! Decision: one exhaustive `match` without `_`, a line or two an arm, so that a new variant of LDK is a compile
//! error and nobody's surprise. The cost is naming fields that are not used as `..`.

mod channels;
mod funding;
mod messages;
mod onchain;
mod payments;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use lightning::events::{Event, ReplayEvent};
use lightning::ln::msgs::SocketAddress;
use tokio::sync::mpsc;

use super::channels::{AcceptPolicy, Openings};
use super::send::HandOver;
use super::types::{Bumper, ChainMonitor, ChannelManager, Sweeps};
use crate::crash::{self, Point};
use crate::engine::Caution;
use crate::ledger::Ledger;
use crate::store::Store;
use crate::task::Shutdown;
use crate::wallet::Wallet;

pub use funding::release_orphans;

/// The first and the longest pause before an event is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What became of an event.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// It is dealt with, durably where that matters.
    Done,
    /// Nothing is to be done, or nothing can be; the reason is recorded and the event is gone.
    Discard(String),
    /// Our own write failed: once more, after a pause.
    Replay(String),
}

impl Outcome {
    /// Done if the write went well, else once more.
    fn written<T, E: std::fmt::Display>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) => Self::Replay(error.to_string()),
        }
    }
}

/// A peer that LDK wants to talk to.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Whom.
    pub node_id: PublicKey,
    /// Where; may be empty for a peer that is known.
    pub addresses: Vec<SocketAddress>,
}

/// What handlers work with.
#[derive(Clone)]
pub struct Context {
    /// The channels.
    pub manager: Arc<ChannelManager>,
    /// The book.
    pub ledger: Ledger,
    /// On-chain money.
    pub wallet: Wallet,
    /// Claims on-chain.
    pub claims: Claims,
    /// What requests and events share.
    pub desk: Desk,
    /// Whom to let in, and whom to call.
    pub doors: Doors,
}

/// What requests (`open`, `pay`) and events tell each other.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    /// Openings that somebody waits for.
    pub openings: Openings,
    /// Held while a payment passes from the book to LDK.
    pub hand_over: HandOver,
}

/// What is needed to get money of closed channels back.
#[derive(Clone)]
pub struct Claims {
    /// Watches closed channels.
    pub monitors: Arc<ChainMonitor>,
    /// Brings outputs home.
    pub sweeps: Arc<Sweeps>,
    /// Adds fees to closes and claims.
    pub bumper: Arc<Bumper>,
}

/// The ways in and out.
#[derive(Clone)]
pub struct Doors {
    /// Which channels of others are accepted.
    pub accept: AcceptPolicy,
    /// Peers to be dialled; a full queue refuses (LDK's buffered message is then lost, as it says it may be).
    pub dial: mpsc::Sender<Dial>,
    /// Whether anything new may be let in.
    pub caution: Caution,
    /// While it takes nothing, nobody is let in.
    pub disk: Store,
}

/// The event handler of the background processor.
pub struct Events {
    context: Context,
    shutdown: Shutdown,
    /// Failures in a row.
    failures: AtomicU32,
}

impl Events {
    /// A handler; its pauses end early at `shutdown`.
    pub fn new(context: Context, shutdown: Shutdown) -> Self {
        Self { context, shutdown, failures: AtomicU32::new(0) }
    }

    /// Handles one event, as LDK wants it.
    pub async fn handle(&self, event: Event) -> Result<(), ReplayEvent> {
        crash::passes(Point::EventCame);
        match route(&self.context, event).await {
            Outcome::Done => {}
            Outcome::Discard(why) => tracing::info!("{why}"),
            Outcome::Replay(why) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed);
                let pause = backoff(failures);
                tracing::error!(%why, pause_secs = pause.as_secs(), "an event could not be dealt with; once more");
                let disk = &self.context.doors.disk;
                tokio::select! {
                    () = async { tokio::time::sleep(pause).await; disk.well().await } => {}
                    _ = self.shutdown.wait() => {}
                }
                return Err(ReplayEvent());
            }
        }
        self.failures.store(0, Ordering::Relaxed);
        crash::passes(Point::EventDone);
        Ok(())
    }
}

/// The pause after so many failures in a row before this one.
fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
}

/// Each event to its handler.
async fn route(cx: &Context, event: Event) -> Outcome {
    match event {
        Event::FundingGenerationReady {
            temporary_channel_id,
            counterparty_node_id,
            channel_value_satoshis,
            output_script,
            user_channel_id,
        } => {
            let wanted = funding::Wanted {
                temporary_channel_id,
                peer: counterparty_node_id,
                value_sat: channel_value_satoshis,
                script: output_script,
                user_channel_id,
            };
            funding::generate(cx, wanted).await
        }
        Event::FundingTxBroadcastSafe { channel_id, .. } => funding::broadcast_safe(channel_id),
        Event::FundingTransactionReadyForSigning { channel_id, .. } => funding::ready_for_signing(channel_id),
        Event::SplicePending { channel_id, new_funding_txo, .. } => {
            funding::splice_pending(channel_id, new_funding_txo)
        }
        Event::SpliceFailed { channel_id, abandoned_funding_txo, .. } => {
            funding::splice_failed(cx, channel_id, abandoned_funding_txo).await
        }
        Event::DiscardFunding { channel_id, funding_info } => funding::discard(cx, channel_id, funding_info).await,

        Event::OpenChannelRequest {
            temporary_channel_id,
            counterparty_node_id,
            funding_satoshis,
            channel_negotiation_type,
            channel_type,
            is_announced,
            ..
        } => {
            let request = channels::Request {
                temporary_channel_id,
                peer: counterparty_node_id,
                funding_sat: funding_satoshis,
                funds: channel_negotiation_type,
                channel_type,
                public: is_announced,
            };
            channels::requested(cx, request).await
        }
        Event::ChannelPending { channel_id, user_channel_id, counterparty_node_id, funding_txo, .. } => {
            channels::pending(cx, channel_id, user_channel_id, counterparty_node_id, funding_txo).await
        }
        Event::ChannelReady { channel_id, counterparty_node_id, .. } => {
            channels::ready(channel_id, counterparty_node_id)
        }
        Event::ChannelClosed {
            channel_id,
            user_channel_id,
            reason,
            counterparty_node_id,
            channel_capacity_sats,
            channel_funding_txo,
            last_local_balance_msat,
        } => {
            let closed = channels::Closed {
                channel_id,
                user_channel_id,
                reason,
                peer: counterparty_node_id,
                capacity_sat: channel_capacity_sats,
                funding: channel_funding_txo,
                balance_msat: last_local_balance_msat,
            };
            channels::closed(cx, closed).await
        }

        Event::PaymentClaimable {
            payment_hash,
            onion_fields,
            amount_msat,
            counterparty_skimmed_fee_msat,
            purpose,
            payment_id,
            ..
        } => {
            let offered = payments::Offered {
                payment_hash,
                amount_msat,
                skimmed_msat: counterparty_skimmed_fee_msat,
                purpose,
                fields: onion_fields,
                claim: payment_id,
            };
            payments::claimable(cx, offered).await
        }
        Event::PaymentClaimed { payment_hash, amount_msat, purpose, payment_id, .. } => {
            payments::claimed(cx, payments::Claimed { payment_hash, amount_msat, purpose, claim: payment_id }).await
        }
        Event::PaymentSent { payment_preimage, payment_hash, fee_paid_msat, .. } => {
            payments::sent(cx, payment_hash, payment_preimage, fee_paid_msat).await
        }
        Event::PaymentFailed { payment_id, payment_hash, reason } => {
            payments::failed(cx, payment_id, payment_hash, reason).await
        }
        Event::PaymentPathSuccessful { payment_hash, .. } => payments::path_succeeded(payment_hash),
        Event::PaymentPathFailed { payment_hash, failure, .. } => payments::path_failed(cx, payment_hash, &failure),
        Event::ProbeSuccessful { payment_hash, .. } => payments::probed(payment_hash, true),
        Event::ProbeFailed { payment_hash, .. } => payments::probed(payment_hash, false),
        Event::HTLCIntercepted { intercept_id, .. } => payments::intercepted(cx, intercept_id),
        Event::PaymentForwarded {
            prev_channel_id,
            next_channel_id,
            total_fee_earned_msat,
            outbound_amount_forwarded_msat,
            ..
        } => {
            let forwarded = payments::Forwarded {
                from: prev_channel_id,
                to: next_channel_id,
                fee_msat: total_fee_earned_msat,
                amount_msat: outbound_amount_forwarded_msat,
            };
            payments::forwarded(cx, forwarded)
        }
        Event::HTLCHandlingFailed { failure_type, failure_reason, .. } => {
            payments::handling_failed(&failure_type, failure_reason.as_ref())
        }
        Event::InvoiceReceived { payment_id, .. } => payments::invoice_received(cx, payment_id).await,

        Event::SpendableOutputs { outputs, channel_id } => onchain::spendable(cx, outputs, channel_id).await,
        Event::BumpTransaction(bump) => onchain::bump(cx, bump).await,

        Event::ConnectionNeeded { node_id, addresses } => messages::connect(cx, node_id, addresses),
        Event::OnionMessageIntercepted { peer_node_id, .. } => messages::intercepted(peer_node_id),
        Event::OnionMessagePeerConnected { peer_node_id } => messages::peer_connected(peer_node_id),
        Event::PersistStaticInvoice { .. } => messages::static_invoice("keep a static invoice for another node"),
        Event::StaticInvoiceRequested { .. } => messages::static_invoice("hand out a static invoice of another node"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_half_a_minute() {
        let secs: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, 31, 32, u32::MAX].map(|n| backoff(n).as_secs()).to_vec();
        assert_eq!(secs, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
    }
}
