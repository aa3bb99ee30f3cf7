//! Funding transactions: built by our wallet, broadcast by LDK, their coins freed when nothing comes of them.

use std::collections::HashSet;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Txid};
use lightning::events::FundingInfo;
use lightning::ln::types::ChannelId;

use super::{Context, Outcome};
use crate::crash::{self, Point};
use crate::ln::blocking;
use crate::ln::channels::{Verdict, needs_reserve};
use crate::ln::types::{ChainMonitor, ChannelManager};
use crate::ln::words::api_error;
use crate::wallet::{SendAmount, Spend, Wallet, WalletError};

/// A channel that waits for its funding transaction.
pub(super) struct Wanted {
    pub(super) temporary_channel_id: ChannelId,
    pub(super) peer: PublicKey,
    pub(super) value_sat: u64,
    pub(super) script: ScriptBuf,
    pub(super) user_channel_id: u128,
}

/// `FundingGenerationReady`, not written: after a restart the channel is gone, and this with it.
///
/// Never replayed: whatever goes wrong ends the opening, with the coins free.
pub(super) async fn generate(cx: &Context, wanted: Wanted) -> Outcome {
    let cx = cx.clone();
    blocking(move || match build(&cx, &wanted) {
        Ok(()) => Outcome::Done,
        Err((verdict, why)) => {
            // The verdict first: closing makes LDK report `ChannelClosed`, which knows less.
            cx.desk.openings.settle(wanted.user_channel_id, verdict);
            let told = "the channel will not be funded".to_owned();
            // An error means that LDK has dropped the channel already.
            let _gone =
                cx.manager.force_close_broadcasting_latest_txn(&wanted.temporary_channel_id, &wanted.peer, told);
            Outcome::Discard(format!("a channel of {} sat was not funded: {why}", wanted.value_sat))
        }
    })
    .await
}

fn build(cx: &Context, wanted: &Wanted) -> Result<(), (Verdict, String)> {
    let failed = |why: String| (Verdict::Failed(why.clone()), why);
    let Some(plan) = cx.desk.openings.fund(wanted.user_channel_id) else {
        return Err(failed("nobody waits for it any more".into()));
    };
    let channels = cx.manager.list_channels_with_counterparty(&wanted.peer);
    let channel = channels.iter().find(|channel| channel.channel_id == wanted.temporary_channel_id);
    // LDK falls back to a type without them when the peer refuses the first offer.
    if !channel.and_then(|channel| channel.channel_type.as_ref()).is_some_and(needs_reserve) {
        return Err(failed(
            "the peer does not take a channel with anchor outputs now (it may lack the coins for its reserve), and one \
             without them could not be closed by force when fees rise"
                .into(),
        ));
    }
    let spend = Spend {
        script: wanted.script.clone(),
        amount: SendAmount::Sat(wanted.value_sat),
        feerate: plan.feerate,
        keep_back_sat: plan.keep_back.to_sat(),
        coins: Vec::new(),
        force: false,
    };
    let draft = cx.wallet.fund(&spend).map_err(|error| match error {
        WalletError::NotEnough { .. } => (Verdict::Unfunded(error.to_string()), error.to_string()),
        other => failed(other.to_string()),
    })?;
    let txid = draft.txid;
    crash::passes(Point::FundingBuilt);
    let given = cx.manager.funding_transaction_generated(wanted.temporary_channel_id, wanted.peer, draft.tx);
    crash::passes(Point::FundingGiven);
    given.map_err(|error| {
        if let Err(error) = cx.wallet.release(txid) {
            tracing::error!(%txid, %error, "the coins of a funding that failed stay locked until the next start");
        }
        failed(format!("the channel is gone: {}", api_error(&error)))
    })
}

/// `FundingTxBroadcastSafe`: only for fundings that are broadcast by hand, which this node never asks for.
pub(super) fn broadcast_safe(channel_id: ChannelId) -> Outcome {
    Outcome::Discard(format!("channel {channel_id} reports a funding by hand, which this node does not do"))
}

/// `FundingTransactionReadyForSigning`: only when we put coins into a splice, which this release never does.
/// Unsigned, the negotiation ends with the connection, and nothing is spent.
pub(super) fn ready_for_signing(channel_id: ChannelId) -> Outcome {
    Outcome::Discard(format!(
        "channel {channel_id} asks for a signature of a splice that this node did not begin; refused"
    ))
}

/// `SplicePending`: the peer put its own coins in or out (refused by configuration); none of ours are to be locked,
/// and LDK itself watches the new output.
pub(super) fn splice_pending(channel_id: ChannelId, funding: OutPoint) -> Outcome {
    Outcome::Discard(format!("channel {channel_id} is being spliced by its peer into {funding}"))
}

/// `SpliceFailed`: frees our coins, if any were in it.
pub(super) async fn splice_failed(cx: &Context, channel_id: ChannelId, funding: Option<OutPoint>) -> Outcome {
    match funding {
        Some(funding) => release(cx, channel_id, funding.txid).await,
        None => {
            Outcome::Discard(format!("a splice of channel {channel_id} came to nothing before it had a transaction"))
        }
    }
}

/// `DiscardFunding`: LDK will never broadcast this transaction.
pub(super) async fn discard(cx: &Context, channel_id: ChannelId, info: FundingInfo) -> Outcome {
    let txid = match info {
        FundingInfo::Tx { transaction } => transaction.compute_txid(),
        FundingInfo::OutPoint { outpoint } => outpoint.txid,
    };
    release(cx, channel_id, txid).await
}

async fn release(cx: &Context, channel_id: ChannelId, txid: Txid) -> Outcome {
    let wallet = cx.wallet.clone();
    match blocking(move || wallet.release(txid)).await {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Discard(format!("funding {txid} of channel {channel_id} holds no coins of ours")),
        Err(error) => Outcome::Replay(error.to_string()),
    }
}

/// Frees the coins of fundings that LDK does not know: the process ended between the wallet's lock and the peer's
/// signature. LDK broadcasts only after it has written a monitor, so such a transaction was never sent. To be
/// called once the channels are restored, before anything is opened. Returns what was freed.
pub fn release_orphans(
    wallet: &Wallet,
    manager: &ChannelManager,
    monitors: &ChainMonitor,
) -> Result<Vec<Txid>, WalletError> {
    let mut known: HashSet<Txid> =
        manager.list_channels().iter().filter_map(|c| c.funding_txo.map(|funding| funding.txid)).collect();
    for id in monitors.list_monitors() {
        if let Ok(monitor) = monitors.get_monitor(id) {
            known.insert(monitor.get_funding_txo().txid);
        }
    }
    let mut freed = Vec::new();
    for funding in wallet.fundings().into_iter().filter(|funding| !known.contains(&funding.txid)) {
        if wallet.release(funding.txid)? {
            tracing::info!(txid = %funding.txid, "the coins of a funding that was never sent are free again");
            freed.push(funding.txid);
        }
    }
    Ok(freed)
}
