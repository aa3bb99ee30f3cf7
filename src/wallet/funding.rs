//! Transactions made for LDK: channel fundings, whose coins stay locked while they are under way, and the coins and
//! signatures for its fee bumps.

use std::sync::Arc;

use bitcoin::{OutPoint, Psbt, Transaction, Txid};

use super::coins::{self, Coin, Lock};
use super::disk::Row;
use super::spend::{self, Draft, Spend};
use super::state::State;
use super::{CoinTrouble, Purpose, Wallet, WalletError, door};

/// A funding transaction that is under way: signed, given to LDK, not in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funding {
    /// Its id.
    pub txid: Txid,
    /// The coins that it locks.
    pub inputs: Vec<OutPoint>,
}

impl Wallet {
    /// Builds and signs the funding of a channel, and locks its coins: durable when it returns. LDK broadcasts it;
    /// its coins stay locked until it is in a block or [`Self::release`]d. Its inputs are all segwit.
    pub fn fund(&self, spend: &Spend) -> Result<Draft, WalletError> {
        let mut state = self.state();
        let draft = spend::draft(&mut state, spend)?;
        let rows = vec![Row::Funding(Arc::new(draft.tx.clone())), Row::Purpose(draft.txid, Purpose::ChannelOpen)];
        self.settle(&mut state, rows)?;
        state.reserve_change_of_fundings();
        Ok(draft)
    }

    /// Frees the coins of a funding that will not happen (the open failed, or LDK discarded it). False: no such
    /// funding is under way. One that is in a block stays what it is.
    pub fn release(&self, txid: Txid) -> Result<bool, WalletError> {
        let mut state = self.state();
        if !state.rows.fundings.contains_key(&txid) {
            return Ok(false);
        }
        if !state.is_confirmed(txid) {
            door::evict(&mut state, txid);
        }
        // It must not go out any more, whoever put it into the outbox.
        self.settle(&mut state, vec![Row::FundingEnded(txid), Row::Unsend(txid)])?;
        Ok(true)
    }

    /// Fundings under way. After a restart, those of channels that LDK does not know are to be released.
    pub fn fundings(&self) -> Vec<Funding> {
        let inputs = |tx: &Transaction| tx.input.iter().map(|input| input.previous_output).collect();
        self.state().rows.fundings.iter().map(|(txid, tx)| Funding { txid: *txid, inputs: inputs(tx) }).collect()
    }

    /// Coins in blocks that may be spent now.
    pub fn confirmed_coins(&self) -> Vec<Coin> {
        coins::coins(&self.state()).into_iter().filter(Coin::is_solid).collect()
    }

    /// Coins in blocks that a fee bump may take: those of [`Self::confirmed_coins`], and those that an unconfirmed bump
    /// has taken already. The next bump of the same claim replaces that one, and with a single coin in the wallet it
    /// could otherwise never pay more; LDK keeps the coins of different claims apart.
    pub fn bump_coins(&self) -> Vec<Coin> {
        coins::bump_coins(&self.state())
    }

    /// Signs the inputs that are ours, and returns the transaction with their witnesses; the others' stay as they are.
    ///
    /// What is signed for is our own record of a coin, not what the PSBT says of it. A coin may be spent already by
    /// another unconfirmed transaction (a bump replaces the one before), but not be an input of a funding under way.
    pub fn sign_psbt(&self, mut psbt: Psbt) -> Result<Transaction, WalletError> {
        let state = self.state();
        let txid = psbt.unsigned_tx.compute_txid();
        for (input, meta) in psbt.unsigned_tx.input.iter().zip(&mut psbt.inputs) {
            let outpoint = input.previous_output;
            let Some((_, coin)) = state.bdk.spk_index().txout(outpoint) else { continue };
            if state.funding_of(&outpoint).is_some_and(|funding| funding != txid) {
                return Err(WalletError::Coin { outpoint, why: CoinTrouble::Locked });
            }
            if meta.witness_utxo.as_ref().is_some_and(|said| said != coin) {
                return Err(WalletError::Sign(format!("coin {outpoint} is not what the PSBT says")));
            }
            meta.witness_utxo = Some(coin.clone());
        }
        spend::sign(&state, &mut psbt, true)?;
        let ours = |outpoint: &OutPoint| state.bdk.spk_index().txout(*outpoint).is_some();
        let tx = psbt.extract_tx_unchecked_fee_rate();
        match tx.input.iter().find(|input| ours(&input.previous_output) && input.witness.is_empty()) {
            None => Ok(tx),
            Some(input) => Err(WalletError::Sign(format!("no signature for coin {}", input.previous_output))),
        }
    }
}

/// Fundings that are in a block: their coins are spent, and need no lock.
pub(super) fn ended(state: &State) -> Vec<Row> {
    state.rows.fundings.keys().filter(|txid| state.is_confirmed(**txid)).map(|txid| Row::FundingEnded(*txid)).collect()
}

impl Coin {
    /// The funding that locks it.
    pub fn funding(&self) -> Option<Txid> {
        match self.lock {
            Some(Lock::Funding(txid)) => Some(txid),
            Some(Lock::User) | None => None,
        }
    }
}
