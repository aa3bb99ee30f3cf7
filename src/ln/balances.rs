//! Money in channels that are closing, and what it waits for.
//!
//! It wanders: a monitor shows it until its output is 6 blocks deep, then the sweeper until the sweep is in a block,
//! then the wallet. What is in the wallet is not shown here any more, and what a close by agreement or a claim paid to
//! the wallet itself is there from the first, although the monitor goes on with it for 6 blocks.

use bitcoin::OutPoint;
use lightning::chain::channelmonitor::{ANTI_REORG_DELAY, Balance, BalanceSource};
use lightning::ln::types::ChannelId;
use lightning::sign::SpendableOutputDescriptor;
use lightning::util::sweep::{OutputSpendStatus, TrackedSpendableOutput};

use super::Ln;
use super::types::ChannelMonitor;

/// An amount that is on its way back from a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The channel; unknown for outputs that were handed to the sweeper without one.
    pub channel: Option<ChannelId>,
    /// In sat, before the fees of claiming it.
    pub amount_sat: u64,
    /// In words: what it waits for.
    pub waits_for: String,
    /// The height at which it can be claimed, where known.
    pub claimable_height: Option<u32>,
}

/// A transaction of a channel that pays the wallet, and none of the wallet's coins.
#[derive(Clone, Copy, Debug)]
struct Paid {
    /// True for the close itself, false for a claim of what it left.
    close: bool,
    /// Of its block.
    height: Option<u32>,
}

impl Ln {
    /// All amounts that are on their way back from channels.
    pub fn closing_balances(&self) -> Vec<Closing> {
        let open: Vec<ChannelId> = self.channels.list_channels().iter().map(|channel| channel.channel_id).collect();
        let mut all = Vec::new();
        for id in self.chain_monitor.list_monitors().into_iter().filter(|id| !open.contains(id)) {
            // Archived between the two calls: nothing is left of it.
            let Ok(monitor) = self.chain_monitor.get_monitor(id) else { continue };
            let balances = monitor.get_claimable_balances();
            let home = self.paid_home(&monitor);
            let away = balances.iter().filter(|balance| !is_home(balance, &home));
            all.extend(away.filter_map(|balance| of_monitor(id, balance)));
        }
        all.extend(self.sweeper.tracked_spendable_outputs().iter().filter_map(of_sweeper));
        all
    }

    /// What paid the wallet from this channel: spends of its funding, and of outputs that its close has left.
    fn paid_home(&self, monitor: &ChannelMonitor) -> Vec<Paid> {
        let funding = monitor.get_funding_txo().into_bitcoin_outpoint();
        let watched = monitor.get_outputs_to_watch();
        let outpoints = watched
            .iter()
            .flat_map(|(txid, outputs)| outputs.iter().map(|(vout, _)| OutPoint { txid: *txid, vout: *vout }));
        outpoints
            .filter_map(|output| {
                let height = self.wallet.paid_by_spender(output)?;
                Some(Paid { close: output == funding, height })
            })
            .collect()
    }
}

/// True for what the wallet shows already, given what paid it from this channel.
fn is_home(balance: &Balance, home: &[Paid]) -> bool {
    match balance {
        // Before it is in a block, only a close by agreement pays the wallet.
        Balance::ClaimableOnChannelClose { .. } => home.iter().any(|paid| paid.close),
        Balance::ClaimableAwaitingConfirmations { confirmation_height, source, .. } => {
            let since = |paid: &Paid| paid.height.map(|height| height + ANTI_REORG_DELAY - 1);
            let close = match source {
                BalanceSource::CoopClose => true,
                // The second is a cheater's money, or our own output of the peer's close; that one is confirmed with
                // the close, and so before any claim.
                BalanceSource::Htlc | BalanceSource::CounterpartyForceClosed => false,
                // Pays LDK's own keys.
                BalanceSource::HolderForceClosed => return false,
            };
            home.iter().any(|paid| paid.close == close && since(paid) == Some(*confirmation_height))
        }
        Balance::ContentiousClaimable { .. }
        | Balance::MaybeTimeoutClaimableHTLC { .. }
        | Balance::MaybePreimageClaimableHTLC { .. }
        | Balance::CounterpartyRevokedOutputClaimable { .. } => false,
    }
}

fn of_monitor(id: ChannelId, balance: &Balance) -> Option<Closing> {
    let (waits_for, claimable_height) = match balance {
        Balance::ClaimableOnChannelClose { .. } => ("the closing transaction to confirm".to_owned(), None),
        Balance::ClaimableAwaitingConfirmations { confirmation_height, source, .. } => {
            let what = match source {
                BalanceSource::HolderForceClosed => "the delay after our force-close",
                BalanceSource::CounterpartyForceClosed => "confirmations of the peer's force-close",
                BalanceSource::CoopClose => "confirmations of the cooperative close",
                BalanceSource::Htlc => "confirmations of a claimed payment",
            };
            (format!("{what}, until block {confirmation_height}"), Some(*confirmation_height))
        }
        Balance::ContentiousClaimable { timeout_height, .. } => {
            (format!("our claim of a payment to confirm; the peer may take it from block {timeout_height}"), None)
        }
        Balance::MaybeTimeoutClaimableHTLC { claimable_height, .. } => (
            format!(
                "a payment that is still open: ours from block {claimable_height}, unless the peer shows its preimage"
            ),
            Some(*claimable_height),
        ),
        Balance::MaybePreimageClaimableHTLC { expiry_height, .. } => {
            (format!("a preimage, until block {expiry_height}; then it is the peer's"), None)
        }
        Balance::CounterpartyRevokedOutputClaimable { .. } => {
            ("our claim to confirm: the peer published an old state, and loses it".to_owned(), None)
        }
    };
    let amount_sat = match balance {
        // Those are nothing by LDK's own count, because they may well become the peer's.
        Balance::MaybeTimeoutClaimableHTLC { amount_satoshis, .. }
        | Balance::MaybePreimageClaimableHTLC { amount_satoshis, .. } => *amount_satoshis,
        sure => sure.claimable_amount_satoshis(),
    };
    (amount_sat > 0).then_some(Closing { channel: Some(id), amount_sat, waits_for, claimable_height })
}

fn of_sweeper(output: &TrackedSpendableOutput) -> Option<Closing> {
    let (waits_for, claimable_height) = match &output.status {
        OutputSpendStatus::PendingInitialBroadcast { delayed_until_height } => {
            ("being swept to the wallet".to_owned(), *delayed_until_height)
        }
        OutputSpendStatus::PendingFirstConfirmation { latest_spending_tx, .. } => {
            (format!("the sweep {} to confirm", latest_spending_tx.compute_txid()), None)
        }
        // In the wallet.
        OutputSpendStatus::PendingThresholdConfirmations { .. } => return None,
    };
    let amount_sat = match &output.descriptor {
        SpendableOutputDescriptor::StaticOutput { output, .. } => output.value,
        SpendableOutputDescriptor::DelayedPaymentOutput(delayed) => delayed.output.value,
        SpendableOutputDescriptor::StaticPaymentOutput(payment) => payment.output.value,
    }
    .to_sat();
    Some(Closing { channel: output.channel_id, amount_sat, waits_for, claimable_height })
}

#[cfg(test)]
mod tests {
    use lightning::types::payment::PaymentHash;

    use super::*;

    const ID: ChannelId = ChannelId([7; 32]);

    #[test]
    fn what_waits_for_a_delay_says_until_when() {
        let balance = Balance::ClaimableAwaitingConfirmations {
            amount_satoshis: 50_000,
            confirmation_height: 812,
            source: BalanceSource::HolderForceClosed,
        };
        let closing = of_monitor(ID, &balance).expect("shown");
        assert_eq!((closing.amount_sat, closing.claimable_height), (50_000, Some(812)));
        assert_eq!(closing.waits_for, "the delay after our force-close, until block 812");
    }

    #[test]
    fn what_paid_the_wallet_itself_is_shown_by_the_wallet_alone() {
        let waits = |source| Balance::ClaimableAwaitingConfirmations {
            amount_satoshis: 50_000,
            confirmation_height: 805,
            source,
        };
        let (close, claim) = (|height| [Paid { close: true, height }], |height| [Paid { close: false, height }]);
        assert!(is_home(&waits(BalanceSource::CoopClose), &close(Some(800))));
        assert!(is_home(&waits(BalanceSource::Htlc), &claim(Some(800))));
        // An older channel's close, that the wallet does not see; another claim's block; a claim not yet in a block.
        assert!(!is_home(&waits(BalanceSource::CoopClose), &[]));
        assert!(!is_home(&waits(BalanceSource::Htlc), &claim(Some(801))));
        assert!(!is_home(&waits(BalanceSource::Htlc), &claim(None)));
        assert!(!is_home(&waits(BalanceSource::HolderForceClosed), &claim(Some(800))));
        assert!(!is_home(&waits(BalanceSource::CounterpartyForceClosed), &close(Some(800))));
    }

    #[test]
    fn a_payment_that_may_become_the_peers_is_shown_with_its_condition() {
        let balance = Balance::MaybeTimeoutClaimableHTLC {
            amount_satoshis: 1_000,
            claimable_height: 900,
            payment_hash: PaymentHash([0; 32]),
            outbound_payment: true,
        };
        let closing = of_monitor(ID, &balance).expect("shown");
        assert_eq!((closing.amount_sat, closing.claimable_height), (1_000, Some(900)));
        assert!(closing.waits_for.contains("unless the peer"));
    }

    #[test]
    fn nothing_is_not_shown() {
        assert_eq!(of_monitor(ID, &Balance::CounterpartyRevokedOutputClaimable { amount_satoshis: 0 }), None);
    }
}
