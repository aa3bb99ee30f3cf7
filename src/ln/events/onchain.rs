//! Money of closed channels on its way home.

use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::ln::types::ChannelId;
use lightning::sign::SpendableOutputDescriptor;

use super::{Context, Outcome};

/// `SpendableOutputs`: done only when the sweeper has written them, for LDK forgets them then. Known ones change
/// nothing.
pub(super) async fn spendable(
    cx: &Context,
    outputs: Vec<SpendableOutputDescriptor>,
    channel_id: Option<ChannelId>,
) -> Outcome {
    match cx.claims.sweeps.track(outputs, channel_id).await {
        Ok(()) => Outcome::Done,
        Err(()) => Outcome::Replay("outputs of a closed channel could not be written down for sweeping".into()),
    }
}

/// `BumpTransaction`: LDK makes it anew at every block until the claim is confirmed, so that a failure (no
/// confirmed coins, most likely) is recorded by LDK and not replayed.
pub(super) async fn bump(cx: &Context, event: BumpTransactionEvent) -> Outcome {
    cx.claims.bumper.handle_event(&event).await;
    Outcome::Done
}
