//! Building and signing: coin selection by BDK, over the coins that this wallet allows.
//!
//! Decision: a draft writes nothing and locks nothing; [`super::Wallet::commit`] checks again that its coins are free.
//! Rejected: reserving coins for every draft, which a dry run or a client that goes away would leave locked.

use bdk_wallet::error::CreateTxError;
use bdk_wallet::{KeychainKind, SignOptions};
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, Script, ScriptBuf, Transaction, Txid};

use super::coins::{self, Coin, OnchainBalance};
use super::state::State;
use super::{CoinTrouble, WalletError};

/// The least that is relayed to P2WPKH, our own kind of script, in sat.
const LEAST_CHANGE_SAT: u64 = 294;
/// Above this, a rate has to be forced.
const RATE_TO_FORCE: FeeRate = FeeRate::from_sat_per_vb_u32(500);
/// A fee above this and above a quarter of the amount has to be forced, in sat.
const FEE_TO_FORCE_SAT: u64 = 5_000;

/// How much to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendAmount {
    /// So many sat; the fee comes on top.
    Sat(u64),
    /// All that is spendable; the fee is taken from it.
    All,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Spend {
    /// Where to.
    pub script: ScriptBuf,
    /// How much.
    pub amount: SendAmount,
    /// The fee rate.
    pub feerate: FeeRate,
    /// What has to be left in the wallet, in sat (the anchor reserve).
    pub keep_back_sat: u64,
    /// Only these coins, all of them. Empty: the wallet chooses.
    pub coins: Vec<OutPoint>,
    /// Takes a fee that looks like a mistake.
    pub force: bool,
}

/// A signed transaction that nobody has seen. Dropping it undoes it.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The transaction, fully signed.
    pub tx: Transaction,
    /// Its id.
    pub txid: Txid,
    /// What the recipient gets, in sat.
    pub amount_sat: u64,
    /// Index of the recipient's output.
    pub vout: u32,
    /// The fee, in sat.
    pub fee_sat: u64,
    /// What the transaction really pays.
    pub feerate: FeeRate,
}

/// Builds and signs.
pub(super) fn draft(state: &mut State, spend: &Spend) -> Result<Draft, WalletError> {
    check_rate(spend)?;
    if let SendAmount::Sat(amount_sat) = spend.amount {
        check_dust(&spend.script, amount_sat)?;
    }
    let coins = coins::coins(state);
    for outpoint in &spend.coins {
        coins::spendable(&coins, *outpoint)?;
    }
    let mut psbt = select(state, spend, &coins)?;
    let fee_sat = psbt.fee().map_err(|e| WalletError::Build(e.to_string()))?.to_sat();
    sign(state, &mut psbt, false)?;
    let tx = psbt.extract_tx_unchecked_fee_rate();
    let draft = describe(state, spend, tx, fee_sat)?;
    check_reserve(spend, &coins, &draft)?;
    check_fee(spend, &draft)?;
    Ok(draft)
}

/// Confirmed coins first; change of our own that is still unconfirmed only when they do not suffice.
fn select(state: &mut State, spend: &Spend, coins: &[Coin]) -> Result<Psbt, WalletError> {
    let all = spend.amount == SendAmount::All;
    if spend.coins.is_empty() && !all {
        let solid: Vec<&Coin> = coins.iter().filter(|coin| coin.is_solid()).collect();
        if let Ok(psbt) = build(state, spend, coins, &solid) {
            return Ok(psbt);
        }
    }
    let free: Vec<&Coin> = coins.iter().filter(|coin| coin.trouble().is_none()).collect();
    build(state, spend, coins, &free)
}

fn build(state: &mut State, spend: &Spend, coins: &[Coin], usable: &[&Coin]) -> Result<Psbt, WalletError> {
    let chosen: Vec<OutPoint> = match (spend.coins.is_empty(), spend.amount) {
        (false, _) => spend.coins.clone(),
        (true, SendAmount::All) => usable.iter().map(|coin| coin.outpoint).collect(),
        (true, SendAmount::Sat(_)) => Vec::new(),
    };
    let kept = kept_as_change(spend, coins, &chosen);
    let change = (kept > 0).then(|| next_change(state));
    let forbidden =
        coins.iter().map(|coin| coin.outpoint).filter(|op| !usable.iter().any(|coin| coin.outpoint == *op)).collect();
    let mut builder = state.bdk.build_tx();
    builder.fee_rate(spend.feerate).unspendable(forbidden);
    if !chosen.is_empty() || spend.amount == SendAmount::All {
        builder.add_utxos(&chosen).map_err(|e| WalletError::Build(e.to_string()))?.manually_selected_only();
    }
    match spend.amount {
        SendAmount::Sat(amount) => {
            builder.add_recipient(spend.script.clone(), Amount::from_sat(amount));
        }
        SendAmount::All => {
            builder.drain_to(spend.script.clone());
        }
    }
    if let Some(change) = change {
        builder.add_recipient(change, Amount::from_sat(kept));
    }
    let psbt = builder.finish().map_err(|error| refuse(error, spend, coins))?;
    free_change(state, &psbt);
    Ok(psbt)
}

/// What has to come back as change when all of `chosen` is sent and the rest of the wallet is less than the reserve.
fn kept_as_change(spend: &Spend, coins: &[Coin], chosen: &[OutPoint]) -> u64 {
    if spend.amount != SendAmount::All {
        return 0;
    }
    let left: u64 = coins
        .iter()
        .filter(|coin| coin.trouble().is_none() && !chosen.contains(&coin.outpoint))
        .map(|coin| coin.value_sat)
        .sum();
    match spend.keep_back_sat.saturating_sub(left) {
        0 => 0,
        missing => missing.max(LEAST_CHANGE_SAT),
    }
}

/// The script that change goes to next. Revealing it is staged, and written with what uses it.
pub(super) fn next_change(state: &mut State) -> ScriptBuf {
    state.bdk.next_unused_address(KeychainKind::Internal).address.script_pubkey()
}

/// BDK marks the change script as used. A draft may be dropped, and dry runs must not walk through the gap: the
/// transaction itself marks it when it is committed.
fn free_change(state: &mut State, psbt: &Psbt) {
    for out in &psbt.unsigned_tx.output {
        if let Some((keychain, index)) = state.bdk.derivation_of_spk(out.script_pubkey.clone()) {
            state.bdk.unmark_used(keychain, index);
        }
    }
}

/// Signs the inputs that are ours. `partly`: others are signed by somebody else.
pub(super) fn sign(state: &State, psbt: &mut Psbt, partly: bool) -> Result<(), WalletError> {
    let options = SignOptions { trust_witness_utxo: partly, ..SignOptions::default() };
    let done =
        state.bdk.sign_with_signers(psbt, &state.signers(), options).map_err(|e| WalletError::Sign(e.to_string()))?;
    if done || partly { Ok(()) } else { Err(WalletError::Sign("an input has no key of this wallet".into())) }
}

fn describe(state: &State, spend: &Spend, tx: Transaction, fee_sat: u64) -> Result<Draft, WalletError> {
    let is_recipient = |out: &&bitcoin::TxOut| {
        out.script_pubkey == spend.script
            && match spend.amount {
                SendAmount::Sat(amount) => out.value.to_sat() == amount,
                SendAmount::All => true,
            }
    };
    let (vout, amount_sat) = (0..)
        .zip(&tx.output)
        .find(|(_, out)| is_recipient(out))
        .map(|(vout, out)| (vout, out.value.to_sat()))
        .ok_or_else(|| WalletError::Build("it does not pay the recipient".into()))?;
    if tx.input.iter().any(|input| state.bdk.spk_index().txout(input.previous_output).is_none()) {
        return Err(WalletError::Build("it spends what is not ours".into()));
    }
    let feerate = FeeRate::from_sat_per_kwu(fee_sat.saturating_mul(1000) / tx.weight().to_wu().max(1));
    Ok(Draft { txid: tx.compute_txid(), tx, amount_sat, vout, fee_sat, feerate })
}

fn check_rate(spend: &Spend) -> Result<(), WalletError> {
    if spend.feerate < FeeRate::BROADCAST_MIN {
        return Err(WalletError::FeeTooLow { sat_per_kwu: spend.feerate.to_sat_per_kwu() });
    }
    Ok(())
}

fn check_dust(script: &Script, amount_sat: u64) -> Result<(), WalletError> {
    let least_sat = script.minimal_non_dust().to_sat();
    if amount_sat < least_sat { Err(WalletError::Dust { amount_sat, least_sat }) } else { Ok(()) }
}

fn check_reserve(spend: &Spend, coins: &[Coin], draft: &Draft) -> Result<(), WalletError> {
    let free = OnchainBalance::of(coins, 0).spendable_sat;
    let needed = draft.amount_sat.saturating_add(draft.fee_sat);
    if free.saturating_sub(needed) < spend.keep_back_sat {
        return Err(not_enough(spend, coins, needed));
    }
    Ok(())
}

fn check_fee(spend: &Spend, draft: &Draft) -> Result<(), WalletError> {
    let heavy = draft.fee_sat > FEE_TO_FORCE_SAT && draft.fee_sat > draft.amount_sat / 4;
    if !spend.force && (heavy || spend.feerate > RATE_TO_FORCE) {
        return Err(WalletError::FeeTooHigh {
            fee_sat: draft.fee_sat,
            amount_sat: draft.amount_sat,
            sat_per_vb: draft.feerate.to_sat_per_vb_ceil(),
        });
    }
    Ok(())
}

fn refuse(error: CreateTxError, spend: &Spend, coins: &[Coin]) -> WalletError {
    match error {
        CreateTxError::CoinSelection(short) => not_enough(spend, coins, short.needed.to_sat()),
        CreateTxError::OutputBelowDustLimit(_) => {
            let least_sat = spend.script.minimal_non_dust().to_sat();
            WalletError::Dust { amount_sat: 0, least_sat }
        }
        CreateTxError::NoUtxosSelected => not_enough(spend, coins, 0),
        other => WalletError::Build(other.to_string()),
    }
}

fn not_enough(spend: &Spend, coins: &[Coin], needed_sat: u64) -> WalletError {
    let balance = OnchainBalance::of(coins, spend.keep_back_sat);
    let locked_sat =
        coins.iter().filter(|coin| coin.trouble() == Some(CoinTrouble::Locked)).map(|coin| coin.value_sat).sum();
    WalletError::NotEnough {
        needed_sat,
        available_sat: balance.spendable_sat,
        held_back_sat: balance.reserve_sat,
        locked_sat,
        pending_sat: balance.pending_in_sat,
    }
}
