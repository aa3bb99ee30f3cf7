//! The state behind the wallet's one lock: BDK's wallet, its keys, and our own rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bdk_wallet::chain::{BlockId, CanonicalizationParams};
use bdk_wallet::signer::SignersContainer;
use bdk_wallet::template::{Bip84, DescriptorTemplate};
use bdk_wallet::{ChangeSet, KeychainKind, Wallet as Bdk};
use bitcoin::bip32::Xpriv;
use bitcoin::{Network, OutPoint, Script, ScriptBuf, Transaction, Txid};

use super::disk::{self, Row, Rows};
use super::{Purpose, WalletError, door};
use crate::clock::unix_now;
use crate::store::Store;

/// Scripts watched beyond the last one handed out, and the most unused ones that a recovery from the seed looks past.
pub(super) const GAP: u32 = 25;

/// Our transactions, and where each stands.
pub(super) type View = BTreeMap<Txid, Standing>;

/// Where a transaction stands, and what it means for our money, as far as its parents are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its block; `None`: unconfirmed.
    pub(super) height: Option<u32>,
    /// Coins of ours that it spends, in sat.
    pub(super) spent_sat: u64,
    /// What it pays to us, in sat.
    pub(super) received_sat: u64,
}

pub(super) struct State {
    pub(super) bdk: Bdk,
    pub(super) rows: Rows,
    /// What the book was last told.
    pub(super) view: View,
    /// Unconfirmed transactions that spend our coins and bear our signatures.
    pub(super) own: BTreeSet<Txid>,
    /// Up to which index each keychain is watched (external, internal).
    watched: [u32; 2],
    /// Which script of those that wait is the next to be given to a channel once more.
    turn: u32,
    signers: [SignersContainer; 2],
    stamp: u64,
    master: Xpriv,
}

impl State {
    pub(super) fn load(store: &Store, master: &Xpriv, network: Network) -> Result<Self, WalletError> {
        let (mut changes, rows) = disk::load(store)?;
        let [external, internal] =
            [KeychainKind::External, KeychainKind::Internal].map(|keychain| Bip84(*master, keychain));
        if changes == ChangeSet::default() {
            let mut fresh = Bdk::create(external.clone(), internal.clone())
                .network(network)
                .lookahead(GAP)
                .create_wallet_no_persist()
                .map_err(|e| WalletError::Load(e.to_string()))?;
            changes = fresh.take_staged().unwrap_or_default();
            let first = changes.clone();
            store.write("store the new wallet", move |db| first.persist_to_sqlite(db))?;
        }
        let bdk = Bdk::load()
            .descriptor(KeychainKind::External, Some(external.clone()))
            .descriptor(KeychainKind::Internal, Some(internal.clone()))
            .check_network(network)
            .lookahead(GAP)
            .load_wallet_no_persist(changes)
            .map_err(|e| WalletError::Load(e.to_string()))?
            .ok_or_else(|| WalletError::Load("it has no descriptors".into()))?;
        let signers = [signers(&bdk, external)?, signers(&bdk, internal)?];
        let stamp = bdk
            .tx_graph()
            .full_txs()
            .flat_map(|node| [node.last_seen, bdk.tx_graph().get_last_evicted(node.txid)])
            .flatten()
            .max()
            .unwrap_or(0);
        let mut state = Self {
            bdk,
            rows,
            view: View::new(),
            own: BTreeSet::new(),
            watched: [0, 0],
            turn: 0,
            signers,
            stamp,
            master: *master,
        };
        state.reserve_change_of_fundings();
        state.reserve_revealed_change();
        // The book is written together with the wallet, so that it knows what was read here.
        state.view = state.look();
        door::recognise(&mut state);
        Ok(state)
    }

    /// Reads everything again from the disk, after a change that BDK can make only there. What is watched is kept.
    pub(super) fn reload(&mut self, store: &Store) -> Result<(), WalletError> {
        let view = std::mem::take(&mut self.view);
        let (watched, turn) = (self.watched, self.turn);
        *self = Self::load(store, &self.master, self.bdk.network())?;
        self.view = view;
        self.watched = watched;
        self.turn = turn;
        Ok(())
    }

    /// Change scripts of fundings that are not yet seen are in use, although no transaction of the graph says so.
    pub(super) fn reserve_change_of_fundings(&mut self) {
        let scripts: Vec<ScriptBuf> =
            self.rows.fundings.values().flat_map(|tx| &tx.output).map(|out| out.script_pubkey.clone()).collect();
        for script in scripts {
            if let Some((keychain, index)) = self.bdk.derivation_of_spk(script) {
                self.bdk.mark_used(keychain, index);
            }
        }
    }

    /// Which change scripts were given to channels is not written down: after a restart all that were handed out are
    /// taken to be, so that change goes to none of them.
    fn reserve_revealed_change(&mut self) {
        for index in 0..self.bdk.next_derivation_index(KeychainKind::Internal) {
            self.bdk.mark_used(KeychainKind::Internal, index);
        }
    }

    /// A script on the change chain for a channel to pay to when it closes; revealing it is staged. At most `at_most`
    /// wait for a block to pay them, then those that wait are given again, in turn.
    pub(super) fn script_for_channel(&mut self, at_most: u32) -> ScriptBuf {
        let chain = KeychainKind::Internal;
        let (first, next) = (self.after_last_proven(chain), self.bdk.next_derivation_index(chain));
        let given = if next < first + at_most {
            self.bdk.reveal_next_address(chain)
        } else {
            let turn = self.turn % at_most.max(1);
            self.turn = turn + 1;
            self.bdk.peek_address(chain, first + turn)
        };
        self.bdk.mark_used(chain, given.index);
        given.address.script_pubkey()
    }

    /// A transaction that counts, spends this output, none of ours, and pays us: its height, if it is in a block.
    pub(super) fn paid_by_spender(&self, outpoint: OutPoint) -> Option<Option<u32>> {
        let spenders = self.bdk.tx_graph().outspends(outpoint);
        let standing = spenders.iter().find_map(|txid| self.view.get(txid))?;
        (standing.spent_sat == 0 && standing.received_sat > 0).then_some(standing.height)
    }

    /// The time of a claim about the mempool, in seconds since 1970, and always later than the last one: BDK settles
    /// by it which of two claims counts, and a Raspberry Pi wakes up in the past.
    pub(super) fn stamp(&mut self) -> u64 {
        self.stamp = unix_now().max(self.stamp.saturating_add(1));
        self.stamp
    }

    #[cfg(test)]
    pub(super) fn shift_stamp(&mut self, seconds: u64) {
        self.stamp = self.stamp() + seconds;
    }

    /// Where our transactions stand now.
    pub(super) fn look(&self) -> View {
        self.bdk
            .transactions()
            .map(|tx| {
                let (spent, received) = self.bdk.sent_and_received(&tx.tx_node.tx);
                let standing = Standing {
                    height: tx.chain_position.confirmation_height_upper_bound(),
                    spent_sat: spent.to_sat(),
                    received_sat: received.to_sat(),
                };
                (tx.tx_node.txid, standing)
            })
            .collect()
    }

    /// Scripts that need to be watched and are not yet; they count as watched from now on.
    pub(super) fn unwatched(&mut self) -> Vec<ScriptBuf> {
        let index = self.bdk.spk_index();
        let mut scripts = Vec::new();
        for (keychain, from) in [KeychainKind::External, KeychainKind::Internal].into_iter().zip(&mut self.watched) {
            let to = index.last_revealed_index(keychain).map_or(0, |last| last + 1) + GAP;
            scripts.extend((*from..to).filter_map(|i| index.spk_at_index(keychain, i)));
            *from = to.max(*from);
        }
        scripts
    }

    /// Outputs locked by fundings under way.
    pub(super) fn funding_of(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.rows
            .fundings
            .iter()
            .find(|(_, tx)| tx.input.iter().any(|input| input.previous_output == *outpoint))
            .map(|(txid, _)| *txid)
    }

    /// True when the transaction spends an output of ours.
    pub(super) fn spends_ours(&self, tx: &Transaction) -> bool {
        tx.input.iter().any(|input| self.bdk.spk_index().txout(input.previous_output).is_some())
    }

    /// True when the script is one of ours.
    pub(super) fn owns(&self, script: &Script) -> bool {
        self.bdk.spk_index().index_of_spk(script.to_owned()).is_some()
    }

    /// The row that says what a transaction is for, if that is news; the book is to hear of it once more.
    pub(super) fn name(&mut self, txid: Txid, purpose: Purpose) -> Option<Row> {
        if self.rows.purposes.get(&txid) == Some(&purpose) {
            return None;
        }
        self.view.remove(&txid);
        Some(Row::Purpose(txid, purpose))
    }

    /// True when the transaction was ever proven to be in a block, even in one that has left the chain.
    pub(super) fn was_proven(&self, txid: Txid) -> bool {
        self.bdk.tx_graph().all_anchors().contains_key(&txid)
    }

    /// True when the transaction is proven to be in a block of the present chain.
    pub(super) fn is_confirmed(&self, txid: Txid) -> bool {
        self.proven_height(txid).is_some()
    }

    /// Height of the block of the present chain that the transaction is proven to be in.
    pub(super) fn proven_height(&self, txid: Txid) -> Option<u32> {
        let tip = self.bdk.local_chain().tip();
        let in_chain = |block: BlockId| tip.get(block.height).is_some_and(|checkpoint| checkpoint.hash() == block.hash);
        let anchors = self.bdk.tx_graph().all_anchors().get(&txid)?;
        anchors.iter().map(|anchor| anchor.block_id).find(|block| in_chain(*block)).map(|block| block.height)
    }

    /// The first index after all those that a block ever paid to: claims do not move it.
    pub(super) fn after_last_proven(&self, chain: KeychainKind) -> u32 {
        let paid = |((keychain, index), outpoint): &((KeychainKind, u32), OutPoint)| {
            (*keychain == chain && self.was_proven(outpoint.txid)).then_some(*index + 1)
        };
        self.bdk.spk_index().outpoints().iter().filter_map(paid).max().unwrap_or(0)
    }

    /// Transactions that count and are in no block.
    pub(super) fn unconfirmed(&self) -> BTreeMap<Txid, Arc<Transaction>> {
        let chain = self.bdk.local_chain();
        self.bdk
            .tx_graph()
            .list_canonical_txs(chain, chain.tip().block_id(), CanonicalizationParams::default())
            .filter(|tx| tx.chain_position.is_unconfirmed())
            .map(|tx| (tx.tx_node.txid, tx.tx_node.tx.clone()))
            .collect()
    }

    pub(super) fn signers(&self) -> [&SignersContainer; 2] {
        [&self.signers[0], &self.signers[1]]
    }
}

fn signers(bdk: &Bdk, template: Bip84<Xpriv>) -> Result<SignersContainer, WalletError> {
    let keychain = template.1;
    let (_, keys, _) = template.build(bdk.network().into()).map_err(|e| WalletError::Load(e.to_string()))?;
    Ok(SignersContainer::build(keys, bdk.public_descriptor(keychain), bdk.secp_ctx()))
}
