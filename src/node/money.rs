//! Requests about money on chain, and the one balance.

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, FeeRate};

use super::error::{Code, NodeError};
use super::views::{Balance, ClosingBalance, NewAddress, SendRequest, Sent};
use super::{Answer, Node, Parts};
use crate::clock::unix_now;
use crate::crash::{self, Point};
use crate::wallet::{SendAmount, Spend};

/// Blocks within which a withdrawal or funding without a rate of its own is to confirm.
const USUAL_TARGET: u16 = 6;

impl Node {
    /// What we have, and where it is.
    pub async fn balance(&self) -> Answer<Balance> {
        self.blocking(|node| {
            let parts = node.parts()?;
            let (onchain, usable) =
                (parts.wallet.balance(parts.channels.reserve_sat()), parts.ln.channels.list_usable_channels());
            Ok(Balance {
                lightning_sat: usable.iter().map(|channel| channel.outbound_capacity_msat).sum::<u64>() / 1000,
                lightning_inbound_sat: usable.iter().map(|channel| channel.inbound_capacity_msat).sum::<u64>() / 1000,
                onchain_spendable_sat: onchain.spendable_sat,
                onchain_confirmed_sat: onchain.confirmed_sat,
                onchain_pending_sat: onchain.pending_in_sat + onchain.pending_change_sat + onchain.immature_sat,
                onchain_locked_sat: onchain.locked_sat,
                reserve_sat: onchain.reserve_sat,
                closing: closing(parts),
            })
        })
        .await
    }

    /// An address to be paid to, durable and followed when it is shown.
    pub async fn new_address(&self) -> Answer<NewAddress> {
        self.blocking(|node| {
            let made = node.parts()?.wallet.new_address()?;
            crash::passes(Point::AddressMade);
            Ok(NewAddress { address: made.address.to_string(), reused: made.reused })
        })
        .await
    }

    /// Builds, signs, books and broadcasts a withdrawal, in this order.
    pub async fn send(&self, request: SendRequest) -> Answer<Sent> {
        self.blocking(move |node| {
            let (parts, _) = node.acting()?;
            let address: Address<NetworkUnchecked> =
                request.address.trim().parse().map_err(|error| {
                    NodeError::new(Code::BadRequest, format!("that is not a Bitcoin address: {error}"))
                })?;
            let address = parts.wallet.check_address(&address)?;
            let amount = request.amount_sat.map_or(SendAmount::All, SendAmount::Sat);
            let draft = parts.wallet.draft(&Spend {
                script: address.script_pubkey(),
                amount,
                feerate: feerate(parts, request.feerate)?,
                keep_back_sat: parts.channels.reserve_sat(),
                coins: Vec::new(),
                force: false,
            })?;
            let txid = parts.wallet.commit(&draft, unix_now())?;
            crash::passes(Point::SendBooked);
            parts.engine.broadcast(vec![draft.tx.clone()]);
            Ok(Sent {
                txid: txid.to_string(),
                amount_sat: draft.amount_sat,
                fee_sat: draft.fee_sat,
                feerate: sat_per_vb(draft.feerate),
            })
        })
        .await
    }
}

/// The rate asked for in sat/vB, or the node's own.
pub(super) fn feerate(parts: &Parts, asked: Option<f64>) -> Answer<FeeRate> {
    let Some(asked) = asked else {
        return Ok(FeeRate::from_sat_per_kwu(u64::from(parts.fees.within(USUAL_TARGET))));
    };
    // 250 sat per 1000 weight units are 1 sat/vB. The bound keeps the number exact, and is far above any sense.
    if !(asked.is_finite() && asked > 0.0 && asked <= 1e6) {
        return Err(NodeError::new(Code::BadRequest, "the fee rate must be a positive number of sat/vB"));
    }
    Ok(FeeRate::from_sat_per_kwu((asked * 250.0).round() as u64))
}

fn sat_per_vb(rate: FeeRate) -> f64 {
    rate.to_sat_per_kwu() as f64 / 250.0
}

fn closing(parts: &Parts) -> Vec<ClosingBalance> {
    let shown = |closing: crate::ln::balances::Closing| ClosingBalance {
        channel_id: closing.channel.map_or(String::new(), |id| id.to_string()),
        amount_sat: closing.amount_sat,
        waits_for: closing.waits_for,
        claimable_height: closing.claimable_height,
    };
    parts.ln.closing_balances().into_iter().map(shown).collect()
}
