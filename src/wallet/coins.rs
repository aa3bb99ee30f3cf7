//! Coins and what may be done with them.
//!
//! A coin may be spent when it is proven to be in a block, or when it is our own change: an output of an unconfirmed
//! transaction that spends nothing but spendable coins of ours, which nobody else can take back. Everything else that
//! is unconfirmed is shown, and is nothing yet.

use std::collections::BTreeMap;

use bdk_wallet::KeychainKind;
use bdk_wallet::chain::CanonicalizationParams;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};

use super::state::State;
use super::{CoinTrouble, WalletError};

/// How sure a coin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CoinState {
    /// In a block of this height.
    Confirmed(u32),
    /// A mining reward under 100 blocks, in a block of this height.
    Immature(u32),
    /// Unconfirmed change of a transaction of ours.
    OwnChange,
    /// Unconfirmed, made by somebody else, or by the closing of a channel.
    Pending,
}

/// What keeps a coin from being chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It is an input of a channel's funding that is under way.
    Funding(Txid),
    /// Locked by hand.
    User,
}

/// An unspent output of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The output.
    pub outpoint: OutPoint,
    /// Its value in sat.
    pub value_sat: u64,
    /// Its script (P2WPKH).
    pub script: ScriptBuf,
    /// True on the change chain.
    pub change: bool,
    /// How sure it is.
    pub state: CoinState,
    /// What keeps it.
    pub lock: Option<Lock>,
}

impl Coin {
    /// Why it cannot be spent now.
    pub fn trouble(&self) -> Option<CoinTrouble> {
        match (self.state, self.lock) {
            (CoinState::Pending, _) => Some(CoinTrouble::Unconfirmed),
            (CoinState::Immature(_), _) => Some(CoinTrouble::Immature),
            (_, Some(_)) => Some(CoinTrouble::Locked),
            _ => None,
        }
    }

    /// True when it is in a block and may be spent.
    pub fn is_solid(&self) -> bool {
        matches!(self.state, CoinState::Confirmed(_)) && self.lock.is_none()
    }
}

/// Money on chain, in sat. `confirmed + pending_change + pending_in + immature` is all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnchainBalance {
    /// In blocks, locked coins included.
    pub confirmed_sat: u64,
    /// Unconfirmed, from others: not ours until confirmed.
    pub pending_in_sat: u64,
    /// Unconfirmed change of our own transactions, locked coins included.
    pub pending_change_sat: u64,
    /// Mining rewards under 100 blocks.
    pub immature_sat: u64,
    /// The part of confirmed coins and change that is locked.
    pub locked_sat: u64,
    /// What can be spent now, before fees: confirmed and change, without what is locked and the reserve.
    pub spendable_sat: u64,
    /// Held back, so that channels can be closed at any fee; at most what is there.
    pub reserve_sat: u64,
}

impl OnchainBalance {
    /// Adds up coins, holding back `reserve_sat`.
    pub(super) fn of(coins: &[Coin], reserve_sat: u64) -> Self {
        let mut balance = Self::default();
        let mut free = 0;
        for coin in coins {
            let part = match coin.state {
                CoinState::Confirmed(_) => &mut balance.confirmed_sat,
                CoinState::Immature(_) => &mut balance.immature_sat,
                CoinState::OwnChange => &mut balance.pending_change_sat,
                CoinState::Pending => &mut balance.pending_in_sat,
            };
            *part += coin.value_sat;
            match coin.trouble() {
                None => free += coin.value_sat,
                Some(CoinTrouble::Locked) => balance.locked_sat += coin.value_sat,
                Some(_) => {}
            }
        }
        balance.reserve_sat = reserve_sat.min(free);
        balance.spendable_sat = free - balance.reserve_sat;
        balance
    }
}

/// All unspent outputs, oldest and surest first.
pub(super) fn coins(state: &State) -> Vec<Coin> {
    let chain = state.bdk.local_chain();
    let tip = chain.tip().block_id();
    let outpoints = state.bdk.spk_index().outpoints().iter().copied();
    let mut trust = Trust { state, known: BTreeMap::new() };
    let mut coins: Vec<Coin> = state
        .bdk
        .tx_graph()
        .filter_chain_unspents(chain, tip, CanonicalizationParams::default(), outpoints)
        .map(|((keychain, _), out)| Coin {
            outpoint: out.outpoint,
            value_sat: out.txout.value.to_sat(),
            state: match out.chain_position.confirmation_height_upper_bound() {
                Some(height) if out.is_mature(tip.height) => CoinState::Confirmed(height),
                Some(height) => CoinState::Immature(height),
                None if trust.own(out.outpoint.txid) => CoinState::OwnChange,
                None => CoinState::Pending,
            },
            script: out.txout.script_pubkey,
            change: keychain == KeychainKind::Internal,
            lock: lock(state, &out.outpoint),
        })
        .collect();
    coins.sort_by_key(|coin| (coin.state, coin.outpoint));
    coins
}

/// See [`super::Wallet::bump_coins`].
pub(super) fn bump_coins(state: &State) -> Vec<Coin> {
    let chain = state.bdk.local_chain();
    let tip = chain.tip().block_id();
    let outpoints = state.bdk.spk_index().outpoints().iter().copied();
    // A transaction that we signed together with somebody else: LDK signed the other inputs.
    let is_bump = |txid: Txid| {
        let ours = |outpoint| state.bdk.spk_index().txout(outpoint).is_some();
        let tx = state.bdk.tx_graph().get_tx(txid).filter(|_| state.own.contains(&txid));
        tx.is_some_and(|tx| tx.input.iter().any(|input| !ours(input.previous_output)))
    };
    state
        .bdk
        .tx_graph()
        .filter_chain_txouts(chain, tip, CanonicalizationParams::default(), outpoints)
        .filter(|(_, out)| match &out.spent_by {
            None => true,
            Some((position, spender)) => position.is_unconfirmed() && is_bump(*spender),
        })
        .filter(|(_, out)| out.is_mature(tip.height))
        .filter_map(|((keychain, _), out)| {
            let height = out.chain_position.confirmation_height_upper_bound()?;
            Some(Coin {
                outpoint: out.outpoint,
                value_sat: out.txout.value.to_sat(),
                state: CoinState::Confirmed(height),
                script: out.txout.script_pubkey,
                change: keychain == KeychainKind::Internal,
                lock: lock(state, &out.outpoint),
            })
        })
        .filter(Coin::is_solid)
        .collect()
}

/// A coin that may be spent now, or the reason why not.
pub(super) fn spendable(coins: &[Coin], outpoint: OutPoint) -> Result<&Coin, WalletError> {
    let trouble = match coins.iter().find(|coin| coin.outpoint == outpoint) {
        None => CoinTrouble::Unknown,
        Some(coin) => match coin.trouble() {
            None => return Ok(coin),
            Some(trouble) => trouble,
        },
    };
    Err(WalletError::Coin { outpoint, why: trouble })
}

fn lock(state: &State, outpoint: &OutPoint) -> Option<Lock> {
    match state.funding_of(outpoint) {
        Some(funding) => Some(Lock::Funding(funding)),
        None => state.bdk.is_outpoint_locked(*outpoint).then_some(Lock::User),
    }
}

/// Which unconfirmed transactions are wholly ours, with all that they stand on.
struct Trust<'a> {
    state: &'a State,
    known: BTreeMap<Txid, bool>,
}

impl Trust<'_> {
    /// Walks the unconfirmed ancestors without recursion: a server could make their chain deep.
    fn own(&mut self, txid: Txid) -> bool {
        let mut path = vec![txid];
        while let Some(&top) = path.last() {
            if self.known.contains_key(&top) {
                path.pop();
                continue;
            }
            let verdict = match self.state.bdk.tx_graph().get_tx(top) {
                Some(tx) if self.state.own.contains(&top) => self.parents(&tx),
                _ => Parents::Known(false),
            };
            match verdict {
                Parents::Known(own) => {
                    self.known.insert(top, own);
                    path.pop();
                }
                Parents::Missing(parent) => path.push(parent),
            }
        }
        self.known.get(&txid).copied().unwrap_or(false)
    }

    fn parents(&self, tx: &Transaction) -> Parents {
        for input in &tx.input {
            let parent = input.previous_output.txid;
            if self.state.bdk.spk_index().txout(input.previous_output).is_none() {
                return Parents::Known(false);
            }
            let confirmed = self.state.is_confirmed(parent);
            match self.known.get(&parent) {
                _ if confirmed => {}
                Some(true) => {}
                Some(false) => return Parents::Known(false),
                None => return Parents::Missing(parent),
            }
        }
        Parents::Known(true)
    }
}

enum Parents {
    Known(bool),
    Missing(Txid),
}
