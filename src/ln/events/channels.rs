//! Channels that come and go.

use bitcoin::OutPoint;
use bitcoin::secp256k1::PublicKey;
use lightning::events::{ClosureReason, InboundChannelFunds};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::types::ChannelId;
use lightning::types::features::ChannelTypeFeatures;

use super::{Context, Outcome};
use crate::clock::unix_now;
use crate::ledger::ClosedChannel;
use crate::ln::blocking;
use crate::ln::channels::{Asked, Refusal, Situation, Verdict, anchor_channels, random_user_channel_id};
use crate::ln::words::{api_error, closure, refusal};

/// A channel that a peer wants to open.
pub(super) struct Request {
    pub(super) temporary_channel_id: ChannelId,
    pub(super) peer: PublicKey,
    pub(super) funding_sat: u64,
    pub(super) funds: InboundChannelFunds,
    pub(super) channel_type: ChannelTypeFeatures,
    pub(super) public: bool,
}

/// A channel that is no more.
pub(super) struct Closed {
    pub(super) channel_id: ChannelId,
    pub(super) user_channel_id: u128,
    pub(super) reason: ClosureReason,
    pub(super) peer: Option<PublicKey>,
    pub(super) capacity_sat: Option<u64>,
    pub(super) funding: Option<lightning::chain::transaction::OutPoint>,
    pub(super) balance_msat: Option<u64>,
}

/// `OpenChannelRequest`, not written. Twice for one request: LDK no longer knows the second, which is refused.
pub(super) async fn requested(cx: &Context, request: Request) -> Outcome {
    let cx = cx.clone();
    blocking(move || {
        let asked =
            Asked { funding_sat: request.funding_sat, funds: &request.funds, channel_type: &request.channel_type };
        let (id, peer) = (request.temporary_channel_id, request.peer);
        let blind = || match cx.doors.caution.refusing() {
            Some(why) => {
                Err(Refusal { told: "this node takes no channels at the moment; try again later".into(), why })
            }
            None => Ok(()),
        };
        let verdict = match cx.doors.disk.trouble() {
            None => cx.doors.accept.judge(&asked, &situation(&cx, &peer)).and_then(|()| blind()),
            Some(_) => Err(Refusal::plain("this node cannot keep a channel now; try again later")),
        };
        let accepted = verdict.and_then(|()| {
            let user_channel_id = random_user_channel_id().map_err(|e| Refusal::plain(e.to_string()))?;
            let accepted = cx.manager.accept_inbound_channel(&id, &peer, user_channel_id, None);
            accepted.map_err(|e| Refusal::plain(api_error(&e)))
        });
        match accepted {
            Ok(()) => {
                tracing::info!(%peer, sat = request.funding_sat, public = request.public, "accepted a channel");
                Outcome::Done
            }
            Err(Refusal { told, why }) => {
                // An error means that LDK has dropped the request already.
                let _gone = cx.manager.force_close_broadcasting_latest_txn(&id, &peer, told);
                Outcome::Discard(format!("refused a channel of {} sat from {peer}: {why}", request.funding_sat))
            }
        }
    })
    .await
}

fn situation(cx: &Context, peer: &PublicKey) -> Situation {
    let channels = cx.manager.list_channels();
    let opening = |c: &&ChannelDetails| !c.is_outbound && !c.is_channel_ready;
    let theirs = || channels.iter().filter(|c| c.counterparty.node_id == *peer);
    Situation {
        with_peer: theirs().count(),
        opening_with_peer: theirs().filter(opening).count(),
        opening: channels.iter().filter(opening).count(),
        anchors: anchor_channels(&channels, &cx.claims.monitors),
        confirmed_sat: cx.wallet.confirmed_coins().iter().map(|coin| coin.value_sat).sum(),
    }
}

/// `ChannelPending`: the funding transaction is signed by both and on its way to the network.
pub(super) async fn pending(
    cx: &Context,
    channel_id: ChannelId,
    user_channel_id: u128,
    peer: PublicKey,
    funding: OutPoint,
) -> Outcome {
    tracing::info!(%channel_id, %peer, %funding, "a channel waits for its funding to be confirmed");
    cx.desk.openings.settle(user_channel_id, Verdict::Pending { channel_id, funding });
    Outcome::Done
}

/// `ChannelReady`.
pub(super) fn ready(channel_id: ChannelId, peer: PublicKey) -> Outcome {
    tracing::info!(%channel_id, %peer, "a channel is ready");
    Outcome::Done
}

/// `ChannelClosed`: into the book (once per channel), and to whoever waited for it to open.
pub(super) async fn closed(cx: &Context, closed: Closed) -> Outcome {
    let why = closure(&closed.reason);
    tracing::info!(channel_id = %closed.channel_id, "a channel is closed: {why}");
    let verdict = Verdict::Failed(refusal(&closed.reason));
    // What was never funded moved no money: it is no history, only the answer to whoever asked for it.
    let never_sent = cx.desk.openings.is_open(closed.user_channel_id) || is_unfunded(&closed.reason);
    let Some(funding) = closed.funding.filter(|_| !never_sent) else {
        cx.desk.openings.settle(closed.user_channel_id, verdict);
        return Outcome::Done;
    };
    let ledger = cx.ledger.clone();
    let line = ClosedChannel {
        channel_id: closed.channel_id.to_string(),
        peer: closed.peer.map(|peer| peer.to_string()),
        funding: Some(funding.into_bitcoin_outpoint().to_string()),
        capacity_sat: closed.capacity_sat,
        balance_msat: closed.balance_msat,
        reason: why,
        closed_at: unix_now(),
    };
    let written = Outcome::written(blocking(move || ledger.channel_closed(line)).await);
    if let Outcome::Done = written {
        cx.desk.openings.settle(closed.user_channel_id, verdict);
    }
    written
}

/// True for reasons that LDK gives only to channels whose funding was never sent.
fn is_unfunded(reason: &ClosureReason) -> bool {
    matches!(
        reason,
        ClosureReason::DisconnectedPeer
            | ClosureReason::CounterpartyCoopClosedUnfundedChannel
            | ClosureReason::LocallyCoopClosedUnfundedChannel
            | ClosureReason::FundingBatchClosure
            | ClosureReason::HolderForceClosed { broadcasted_latest_txn: Some(false), .. }
    )
}
