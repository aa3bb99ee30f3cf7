//! Floor 3: the on-chain wallet (BDK).
//!
//! Rules under which this room lives:
//!
//! - What confirms comes from [`Plan`]s: our own headers, proven transactions (`follow`). What servers say of their
//!   mempools is let in through a narrow door (`door`), shown, and never spent.
//! - An address, a change script, a signed funding is handed out only when it is on the disk and its script is
//!   watched, in this order: persist, watch, return.
//! - A transaction of ours enters BDK's graph and the outbox in one write, before anybody broadcasts it; from then on
//!   its coins are spent, whatever a mempool says.
//! - A failed write changes nothing that was promised: BDK keeps the changes staged, and they go with the next write.
//!
//! Decision: one mutex around all of it and short blocking methods; callers on the runtime use `spawn_blocking`. LDK
//! asks for coins from synchronous code, so that an owner task would need a blocking bridge anyway. The cost is that a
//! balance waits while a delivery is written.

mod book;
mod check;
mod coins;
mod disk;
mod door;
mod error;
mod follow;
mod funding;
mod purpose;
mod spend;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use bdk_wallet::KeychainKind;
use bitcoin::bip32::Xpriv;
use bitcoin::{Address, Network, OutPoint, Script, ScriptBuf, Transaction, Txid};

pub use self::check::{Checked, check};
pub use self::coins::{Coin, CoinState, Lock, OnchainBalance};
pub use self::error::{CoinTrouble, WalletError};
pub use self::funding::Funding;
pub use self::purpose::{Purpose, UnknownPurpose};
pub use self::spend::{Draft, SendAmount, Spend};

use self::disk::Row;
use self::state::State;
use crate::chain::io::{BlockRef, Owners, Plan, Watch};
use crate::chain::tree::HeaderTree;
use crate::engine::{DeliveryError, Listener, WatchInbox};
use crate::ledger::Ledger;
use crate::store::Store;

/// Addresses handed out after the last one that a block paid to, at most: five fewer than a recovery from the seed
/// looks past.
const WAITING_AT_MOST: u32 = 20;

/// Scripts given to channels after the last one of the change chain that a block paid to, at most. Change that is not
/// yet confirmed needs some of the gap too.
const CHANNELS_AT_MOST: u32 = 15;

/// The on-chain wallet. Clones share it. Methods block, for one write of the disk at most.
#[derive(Clone)]
pub struct Wallet(Arc<Inner>);

struct Inner {
    store: Store,
    ledger: Ledger,
    inbox: WatchInbox,
    state: Mutex<State>,
}

/// An address to be paid to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAddress {
    /// The address.
    pub address: Address,
    /// Its index on the chain of receiving addresses.
    pub index: u32,
    /// True: it was handed out before. As many addresses as a recovery can look past are waiting to be used.
    pub reused: bool,
}

/// What the wallet knows of a script of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptInfo {
    /// True on the change chain.
    pub change: bool,
    /// Index on its chain.
    pub index: u32,
    /// True when it was handed out; else it is only watched.
    pub revealed: bool,
    /// What lies there unspent, in blocks, in sat.
    pub confirmed_sat: u64,
    /// What lies there unspent and unconfirmed, in sat.
    pub pending_sat: u64,
}

impl Wallet {
    /// Opens the wallet of this master key (BIP 84, account 0), making it when the store has none, and asks for its
    /// scripts to be watched. Needs no server.
    ///
    /// `ledger` is the book of the same store.
    pub fn open(
        store: Store,
        ledger: Ledger,
        master: &Xpriv,
        network: Network,
        inbox: WatchInbox,
    ) -> Result<Self, WalletError> {
        let state = State::load(&store, master, network)?;
        let wallet = Self(Arc::new(Inner { store, ledger, inbox, state: Mutex::new(state) }));
        wallet.settle(&mut wallet.state(), Vec::new())?;
        Ok(wallet)
    }

    /// Money on chain. `reserve_sat` is what has to be held back for the channels that there are.
    pub fn balance(&self, reserve_sat: u64) -> OnchainBalance {
        OnchainBalance::of(&coins::coins(&self.state()), reserve_sat)
    }

    /// All unspent outputs, oldest and surest first.
    pub fn coins(&self) -> Vec<Coin> {
        coins::coins(&self.state())
    }

    /// Keeps a coin from being chosen, or lets it free again.
    pub fn set_lock(&self, outpoint: OutPoint, locked: bool) -> Result<(), WalletError> {
        let mut state = self.state();
        if state.bdk.get_utxo(outpoint).is_none() {
            return Err(WalletError::Coin { outpoint, why: CoinTrouble::Unknown });
        }
        if locked {
            state.bdk.lock_outpoint(outpoint);
        } else {
            state.bdk.unlock_outpoint(outpoint);
        }
        self.settle(&mut state, Vec::new())
    }

    /// An address that was never handed out; or, when as many as a recovery can look past are waiting for a block to
    /// pay them, the oldest of them.
    pub fn new_address(&self) -> Result<NewAddress, WalletError> {
        let mut state = self.state();
        let (first, next) =
            (state.after_last_proven(KeychainKind::External), state.bdk.next_derivation_index(KeychainKind::External));
        if next >= first + WAITING_AT_MOST {
            // One that a claim says is used already comes last.
            let unused = state.bdk.list_unused_addresses(KeychainKind::External).find(|unused| unused.index >= first);
            let index = unused.map_or(first, |unused| unused.index);
            let address = state.bdk.peek_address(KeychainKind::External, index).address;
            // An earlier write may have failed.
            self.settle(&mut state, Vec::new())?;
            return Ok(NewAddress { address, index, reused: true });
        }
        let new = state.bdk.reveal_next_address(KeychainKind::External);
        self.settle(&mut state, Vec::new())?;
        Ok(NewAddress { address: new.address, index: new.index, reused: false })
    }

    /// What the wallet knows of a script; `None`: it is not ours, or so far ahead that it is not watched.
    pub fn script_info(&self, script: &Script) -> Option<ScriptInfo> {
        let state = self.state();
        let (keychain, index) = state.bdk.derivation_of_spk(script.to_owned())?;
        let mut info = ScriptInfo {
            change: keychain == KeychainKind::Internal,
            index,
            revealed: state.bdk.spk_index().last_revealed_index(keychain).is_some_and(|last| index <= last),
            confirmed_sat: 0,
            pending_sat: 0,
        };
        for coin in coins::coins(&state).iter().filter(|coin| coin.script.as_script() == script) {
            match coin.state {
                CoinState::Confirmed(_) | CoinState::Immature(_) => info.confirmed_sat += coin.value_sat,
                CoinState::OwnChange | CoinState::Pending => info.pending_sat += coin.value_sat,
            }
        }
        Some(info)
    }

    /// The best block that the wallet was told of.
    pub fn tip(&self) -> BlockRef {
        let tip = self.state().bdk.latest_checkpoint();
        BlockRef { height: tip.height(), hash: tip.hash() }
    }

    /// A transaction that the wallet has, whether it counts or not.
    pub fn transaction(&self, txid: Txid) -> Option<Arc<Transaction>> {
        self.state().bdk.tx_graph().get_tx(txid)
    }

    /// Builds and signs, and tells nobody: for a dry run, or to be given to [`Self::commit`].
    pub fn draft(&self, spend: &Spend) -> Result<Draft, WalletError> {
        spend::draft(&mut self.state(), spend)
    }

    /// Checks that an address is one of this wallet's network.
    pub fn check_address(&self, address: &Address<bitcoin::address::NetworkUnchecked>) -> Result<Address, WalletError> {
        let network = self.state().bdk.network();
        address
            .clone()
            .require_network(network)
            .map_err(|_| WalletError::OtherNetwork { address: address.clone().assume_checked().to_string(), network })
    }

    /// Makes a draft real: its coins are spent and it is in the outbox when this returns. The caller then broadcasts.
    ///
    /// Fails, and changes nothing, when one of its coins was taken by another transaction meanwhile.
    pub fn commit(&self, draft: &Draft, now: u64) -> Result<Txid, WalletError> {
        let mut state = self.state();
        let coins = coins::coins(&state);
        for input in &draft.tx.input {
            coins::spendable(&coins, input.previous_output)?;
        }
        self.insert_own(&mut state, &draft.tx);
        self.settle(&mut state, vec![Row::Send(Arc::new(draft.tx.clone()), now)])
            .inspect_err(|_| door::evict(&mut state, draft.txid))?;
        Ok(draft.txid)
    }

    /// Hears of transactions that another room is about to broadcast (LDK: fundings, closes, sweeps, bumps) and what
    /// they are for, so that their coins count as spent, and their outputs show, without waiting for a server.
    pub fn broadcasting(&self, txs: &[(&Transaction, Option<Purpose>)]) -> Result<(), WalletError> {
        let mut state = self.state();
        let (view, mut rows) = (state.look(), Vec::new());
        for (tx, purpose) in txs {
            let txid = tx.compute_txid();
            if !view.contains_key(&txid) {
                self.insert_own(&mut state, tx);
            }
            let concerns = state.spends_ours(tx) || tx.output.iter().any(|out| state.owns(&out.script_pubkey));
            rows.extend(purpose.filter(|_| concerns).and_then(|purpose| state.name(txid, purpose)));
        }
        self.settle(&mut state, rows)
    }

    /// Says what a transaction is for, before or after it is seen.
    pub fn note_purpose(&self, txid: Txid, purpose: Purpose) -> Result<(), WalletError> {
        let mut state = self.state();
        match state.name(txid, purpose) {
            Some(row) => self.settle(&mut state, vec![row]),
            None => Ok(()),
        }
    }

    /// A script for a channel to pay to when it closes, on the disk and watched when it returns; change goes to
    /// another one. Each time a new one, as long as no more wait to be paid than a recovery from the seed looks past:
    /// channels that are opened and never used cannot lead the wallet out of its own sight. Then those that wait are
    /// given again, in turn, which costs privacy and nothing else.
    pub fn script_for_channel(&self) -> Result<ScriptBuf, WalletError> {
        let mut state = self.state();
        let script = state.script_for_channel(CHANNELS_AT_MOST);
        self.settle(&mut state, Vec::new())?;
        Ok(script)
    }

    /// True when the script is one of ours, handed out or watched ahead.
    pub fn owns_script(&self, script: &Script) -> bool {
        self.state().owns(script)
    }

    /// True when the output is or was a coin of ours.
    pub fn owns_coin(&self, outpoint: OutPoint) -> bool {
        self.state().bdk.spk_index().txout(outpoint).is_some()
    }

    /// What spends this output of somebody else's and pays us: its height, if it is in a block.
    pub fn paid_by_spender(&self, outpoint: OutPoint) -> Option<Option<u32>> {
        self.state().paid_by_spender(outpoint)
    }

    /// A script for change and sweeps: the same until it is used. On the disk and watched when it returns.
    pub fn change_script(&self) -> Result<ScriptBuf, WalletError> {
        let mut state = self.state();
        let script = spend::next_change(&mut state);
        self.settle(&mut state, Vec::new())?;
        Ok(script)
    }

    fn insert_own(&self, state: &mut State, tx: &Transaction) {
        let stamp = state.stamp();
        state.bdk.apply_unconfirmed_txs([(tx.clone(), stamp)]);
        door::recognise(state);
    }

    /// Makes everything that changed durable in one write, tells the book, then has new scripts watched.
    fn settle(&self, state: &mut State, rows: Vec<Row>) -> Result<(), WalletError> {
        let now = state.look();
        let news = book::news(state, &now, &rows);
        let changes = state.bdk.staged().cloned().unwrap_or_default();
        if state.bdk.staged().is_some() || !rows.is_empty() || !news.is_empty() {
            let kept = rows.clone();
            self.0
                .ledger
                .with_chain_news("store the wallet's changes", news, move |db| disk::put(db, &changes, &kept))?;
            state.bdk.take_staged();
            rows.into_iter().for_each(|row| state.rows.apply(row));
        }
        state.view = now;
        let owners = Owners { wallet: true, lightning: false };
        for script in state.unwatched() {
            self.0.inbox.push(Watch { script, owners });
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nobody panics while holding the wallet's lock")
    }
}

impl Listener for Wallet {
    fn deliver(&self, plan: &Plan, headers: &HeaderTree) -> Result<(), DeliveryError> {
        // What BDK has taken in stays staged; applying the plan again changes nothing and writes it. The lock is free
        // while the disk is waited for: balances are shown meanwhile.
        let by_disk = |error: &WalletError| matches!(error, WalletError::Store(error) if error.is_transient());
        let applied = self.0.store.insist(by_disk, || self.apply(&mut self.state(), plan, headers));
        applied.map_err(|error| DeliveryError { who: "the wallet", why: error.to_string() })
    }

    /// What others made: of what we signed no mempool can say that it is gone.
    fn believed(&self) -> Vec<Txid> {
        let state = self.state();
        state.unconfirmed().into_keys().filter(|txid| !state.own.contains(txid)).collect()
    }
}

impl Wallet {
    fn apply(&self, state: &mut State, plan: &Plan, headers: &HeaderTree) -> Result<(), WalletError> {
        let block = plan.block.as_ref().is_some_and(|block| block.txs.iter().any(|tx| tx.owners.wallet));
        let mempool = !plan.mempool.seen.is_empty() || !plan.mempool.gone.is_empty();
        if plan.fork.is_none() && plan.tip.is_none() && !block && !mempool {
            return Ok(());
        }
        follow::follow(state, &self.0.store, plan, headers)?;
        door::recognise(state);
        door::gone(state, &plan.mempool.gone);
        door::seen(state, &plan.mempool.seen);
        let rows = funding::ended(state);
        self.settle(state, rows)
    }
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wallet")
    }
}
