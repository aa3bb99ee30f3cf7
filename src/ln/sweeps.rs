//! Drives LDK's sweeper: at once when there is something to sweep, and never otherwise.
//!
//! Rules (`lightning::util::sweep::OutputSweeper`): a regeneration signs one transaction for everything that is not yet
//! confirmed, at most once per height, and writes the sweeper's state if that changed. Each is another transaction
//! that spends the same, also if it pays no better fee.
//!
//! Decision: instead of the background processor's timer (every 30 s: late by as much, and at every block a new sweep
//! that relays refuse as no better than the last one), a task of ours that wakes when outputs were tracked and when
//! the tip moves. A sweep that waits is made anew, at the rates of that time, every 6 blocks; in between the
//! outbox sends it again.

use std::convert::Infallible;
use std::sync::Arc;

use lightning::ln::types::ChannelId;
use lightning::sign::SpendableOutputDescriptor;
use lightning::util::sweep::{OutputSpendStatus, TrackedSpendableOutput};
use tokio::sync::{Notify, watch};

use super::types::Sweeper;
use crate::chain::io::BlockRef;
use crate::crash::{self, Point};
use crate::task::Shutdown;
use crate::wallet::Wallet;

/// Blocks after which a sweep that is not confirmed is made anew.
const AGAIN: u32 = 6;

/// Blocks after which the sweeper's best block is written, if nothing else had it written.
const WRITE: u32 = 144;

/// LDK's sweeper, and what wakes it.
pub struct Sweeps {
    sweeper: Arc<Sweeper>,
    wallet: Wallet,
    tracked: Notify,
}

impl Sweeps {
    /// Drives `sweeper`, once it is [run](Self::run).
    pub fn new(sweeper: Arc<Sweeper>, wallet: Wallet) -> Self {
        Self { sweeper, wallet, tracked: Notify::new() }
    }

    /// Hands outputs of a closed channel over, durably; they are swept as soon as possible. Known ones change nothing.
    ///
    /// What already lies on a script of the wallet is there, and is not swept: closes by agreement and LDK's claims of
    /// channels that were opened since they pay the wallet. Those of older channels pay a script of LDK's own keys.
    pub async fn track(
        &self,
        mut outputs: Vec<SpendableOutputDescriptor>,
        channel: Option<ChannelId>,
    ) -> Result<(), ()> {
        outputs.retain(|output| !is_home(output, &self.wallet));
        if outputs.is_empty() {
            return Ok(());
        }
        self.sweeper.track_spendable_outputs(outputs, channel, false, None).await?;
        crash::passes(Point::SweepTracked);
        self.tracked.notify_one();
        Ok(())
    }

    /// Sweeps what is to be swept until shutdown. To be called once the chain was told.
    pub async fn run(
        self: Arc<Self>,
        mut tip: watch::Receiver<Option<BlockRef>>,
        shutdown: Shutdown,
    ) -> Result<(), Infallible> {
        loop {
            let outputs = self.sweeper.tracked_spendable_outputs();
            if is_due(&outputs, self.sweeper.current_best_block().height) {
                match self.sweeper.regenerate_and_broadcast_spend_if_necessary().await {
                    Ok(()) => crash::passes(Point::SweepMade),
                    // LDK has recorded why: rates, the wallet or the disk. The next block or output tries again.
                    Err(()) => tracing::warn!("outputs of closed channels could not be swept yet"),
                }
            }
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = self.tracked.notified() => {}
                moved = tip.changed() => {
                    // Who tells the chain is gone: so is the node.
                    if moved.is_err() {
                        shutdown.wait().await;
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// True for an output that the wallet itself can spend.
fn is_home(output: &SpendableOutputDescriptor, wallet: &Wallet) -> bool {
    match output {
        SpendableOutputDescriptor::StaticOutput { output, .. } => wallet.owns_script(&output.script_pubkey),
        SpendableOutputDescriptor::DelayedPaymentOutput(_) | SpendableOutputDescriptor::StaticPaymentOutput(_) => false,
    }
}

/// True when a new sweep, or a write, is wanted at this height.
fn is_due(outputs: &[TrackedSpendableOutput], height: u32) -> bool {
    let confirmed = |output: &TrackedSpendableOutput| {
        matches!(output.status, OutputSpendStatus::PendingThresholdConfirmations { .. })
    };
    let due = |output: &TrackedSpendableOutput| match &output.status {
        OutputSpendStatus::PendingInitialBroadcast { delayed_until_height } => {
            delayed_until_height.is_none_or(|until| until <= height)
        }
        OutputSpendStatus::PendingFirstConfirmation { latest_broadcast_height, latest_spending_tx, .. } => {
            // A part of it went with an earlier sweep, so that it can never confirm.
            let is_dead = || outputs.iter().any(|other| confirmed(other) && other.is_spent_in(latest_spending_tx));
            latest_broadcast_height.saturating_add(AGAIN) <= height || (*latest_broadcast_height < height && is_dead())
        }
        OutputSpendStatus::PendingThresholdConfirmations { .. } => false,
    };
    outputs.iter().any(due) || (height % WRITE == 0 && outputs.iter().all(confirmed))
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, BlockHash, ScriptBuf, Transaction, TxIn, TxOut, Txid};
    use lightning::chain::transaction::OutPoint;

    use super::*;

    const HEIGHT: u32 = 1000;

    fn outpoint(n: u16) -> OutPoint {
        OutPoint { txid: Txid::from_byte_array([7; 32]), index: n }
    }

    fn spend(outputs: &[u16]) -> Transaction {
        let input = outputs
            .iter()
            .map(|n| TxIn { previous_output: outpoint(*n).into_bitcoin_outpoint(), ..TxIn::default() })
            .collect();
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: Vec::new() }
    }

    fn output(n: u16, status: OutputSpendStatus) -> TrackedSpendableOutput {
        let descriptor = SpendableOutputDescriptor::StaticOutput {
            outpoint: outpoint(n),
            output: TxOut { value: Amount::from_sat(1000), script_pubkey: ScriptBuf::new() },
            channel_keys_id: None,
        };
        TrackedSpendableOutput { descriptor, channel_id: None, status }
    }

    fn new(until: Option<u32>) -> OutputSpendStatus {
        OutputSpendStatus::PendingInitialBroadcast { delayed_until_height: until }
    }

    fn sent(at: u32, tx: Transaction) -> OutputSpendStatus {
        OutputSpendStatus::PendingFirstConfirmation {
            first_broadcast_hash: BlockHash::all_zeros(),
            latest_broadcast_height: at,
            latest_spending_tx: tx,
        }
    }

    fn confirmed(tx: Transaction) -> OutputSpendStatus {
        OutputSpendStatus::PendingThresholdConfirmations {
            first_broadcast_hash: BlockHash::all_zeros(),
            latest_broadcast_height: HEIGHT - 2,
            latest_spending_tx: tx,
            confirmation_height: HEIGHT,
            confirmation_hash: BlockHash::all_zeros(),
        }
    }

    #[test]
    fn what_was_never_swept_is_due_at_once_or_at_its_height() {
        assert!(is_due(&[output(0, new(None))], HEIGHT));
        assert!(is_due(&[output(0, new(Some(HEIGHT)))], HEIGHT));
        assert!(!is_due(&[output(0, new(Some(HEIGHT + 1)))], HEIGHT));
    }

    #[test]
    fn a_sweep_that_waits_is_made_anew_after_six_blocks_and_not_at_every_one() {
        let waits = |since| is_due(&[output(0, sent(HEIGHT - since, spend(&[0])))], HEIGHT);
        assert_eq!([0, 1, 5, 6, 60].map(waits), [false, false, false, true, true]);
    }

    #[test]
    fn a_sweep_of_which_a_part_was_confirmed_elsewhere_is_made_anew_at_the_next_block() {
        let both = || sent(HEIGHT - 1, spend(&[0, 1]));
        assert!(is_due(&[output(0, confirmed(spend(&[0]))), output(1, both())], HEIGHT));
        assert!(!is_due(&[output(0, both()), output(1, both())], HEIGHT));
    }

    #[test]
    fn when_all_is_swept_a_day_passes_between_two_writes() {
        let swept = [output(0, confirmed(spend(&[0])))];
        assert_eq!((HEIGHT..HEIGHT + 288).filter(|height| is_due(&swept, *height)).count(), 2);
        assert_eq!((HEIGHT..HEIGHT + 288).filter(|height| is_due(&[], *height)).count(), 2);
    }
}
