//! From a proven plan to BDK's update: our headers and our proofs, nothing else.
//!
//! Rules of `LocalChain::apply_update` under which this file lives:
//!
//! - The update must share a block with BDK's chain (the agreement), and say of every block above it in BDK's chain
//!   what has become of it; else BDK refuses as ambiguous. A block is only removed by another one at its height.
//! - A transaction is confirmed when a block that anchors it is among the checkpoints; anchors of lost blocks stay,
//!   and count again when the block comes back.
//!
//! The agreement is looked for in BDK's own chain, not taken from [`Plan::fork`]: after a power cut the wallet may be
//! behind what the engine told last.

use std::collections::BTreeSet;
use std::sync::Arc;

use bdk_wallet::Update;
use bdk_wallet::chain::local_chain::{CheckPoint, LocalChain};
use bdk_wallet::chain::{BlockId, ConfirmationBlockTime, TxUpdate};
use bitcoin::{OutPoint, Transaction};

use super::WalletError;
use super::disk::DENSE;
use super::state::State;
use crate::chain::io::{Plan, PlanBlock};
use crate::chain::tree::HeaderTree;
use crate::store::Store;

/// Brings BDK's chain and graph in line with the plan, in memory; what changes is staged.
pub(super) fn follow(state: &mut State, store: &Store, plan: &Plan, headers: &HeaderTree) -> Result<(), WalletError> {
    let reorganised = agreement(state.bdk.local_chain(), headers)?.height() < state.bdk.latest_checkpoint().height();
    if let Some(lost) = lost_without_successor(state.bdk.local_chain(), headers)? {
        reload(state, store, &lost)?;
    }
    let block = plan.block.as_ref().filter(|block| block.txs.iter().any(|tx| tx.owners.wallet));
    let chain = checkpoints(state.bdk.local_chain(), plan, block, headers)?;
    let tx_update = block.map(|block| confirmations(state, block)).unwrap_or_default();
    let update = Update { chain, tx_update, ..Update::default() };
    state.bdk.apply_update(update).map_err(|e| WalletError::Chain(format!("BDK cannot connect it: {e}")))?;
    if block.is_some_and(|block| overlooked(state, block)) {
        reload(state, store, &[])?;
    }
    if reorganised {
        put_back(state);
    }
    Ok(())
}

/// What has lost its block is pending, also if it was hidden before it had one: a block says more than a mempool.
fn put_back(state: &mut State) {
    let lost: Vec<Arc<Transaction>> = state
        .view
        .iter()
        .filter(|(txid, standing)| standing.height.is_some() && !state.is_confirmed(**txid))
        .filter_map(|(txid, _)| state.bdk.tx_graph().get_tx(*txid))
        .filter(|tx| !tx.is_coinbase())
        .collect();
    for tx in lost {
        let stamp = state.stamp();
        state.bdk.apply_unconfirmed_txs([(tx, stamp)]);
    }
}

/// The highest block that BDK's chain and ours share. Below what our tree holds nothing forks: it stands on a block
/// that the network's rules fix.
fn agreement(chain: &LocalChain, headers: &HeaderTree) -> Result<CheckPoint, WalletError> {
    let shared = |checkpoint: &CheckPoint| match headers.hash_at(checkpoint.height()) {
        Some(hash) => hash == checkpoint.hash(),
        None => checkpoint.height() < headers.height(),
    };
    chain
        .iter_checkpoints()
        .find(shared)
        .ok_or_else(|| WalletError::Chain("not even the first block is the same".into()))
}

/// Heights of checkpoints that left the chain, when the new chain is too short to have a block in their place. Only
/// where difficulty may fall (test networks) can a shorter chain have more work.
fn lost_without_successor(chain: &LocalChain, headers: &HeaderTree) -> Result<Option<Vec<u32>>, WalletError> {
    let agreed = agreement(chain, headers)?.height();
    let lost: Vec<u32> =
        chain.iter_checkpoints().map(|checkpoint| checkpoint.height()).take_while(|height| *height > agreed).collect();
    let replaced = lost.last().is_none_or(|lowest| *lowest <= headers.height());
    Ok((!replaced).then_some(lost))
}

/// Has BDK load itself again, for what it can do in no other way, after taking these heights from its chain.
fn reload(state: &mut State, store: &Store, forget: &[u32]) -> Result<(), WalletError> {
    let mut changes = state.bdk.staged().cloned().unwrap_or_default();
    changes.local_chain.blocks.extend(forget.iter().map(|height| (*height, None)));
    store.write("store the wallet's changes", move |db| changes.persist_to_sqlite(db))?;
    state.bdk.take_staged();
    state.reload(store)
}

fn checkpoints(
    chain: &LocalChain,
    plan: &Plan,
    block: Option<&PlanBlock>,
    headers: &HeaderTree,
) -> Result<Option<CheckPoint>, WalletError> {
    let agreed = agreement(chain, headers)?;
    let lost = chain.iter_checkpoints().map(|cp| cp.height()).take_while(|height| *height > agreed.height());
    let mut heights: BTreeSet<u32> = lost.filter(|height| *height <= headers.height()).collect();
    if let Some(block) = block {
        expect_ours(headers, block.height, &block.header)?;
        heights.insert(block.height);
    }
    if let Some((header, height)) = &plan.tip {
        expect_ours(headers, *height, header)?;
        heights.extend((agreed.height() + 1).max(height.saturating_sub(DENSE))..=*height);
    }
    heights.remove(&agreed.height());
    // A new tree holds nothing below its first header; what has to be there was looked for above.
    let blocks: Vec<BlockId> =
        heights.into_iter().filter_map(|height| headers.hash_at(height).map(|hash| BlockId { height, hash })).collect();
    if blocks.is_empty() {
        return Ok(None);
    }
    // `insert` keeps what lies above as long as the hashes agree, and these do: all are of one chain.
    Ok(Some(blocks.into_iter().fold(agreed, CheckPoint::insert)))
}

fn expect_ours(headers: &HeaderTree, height: u32, header: &bitcoin::block::Header) -> Result<(), WalletError> {
    if headers.hash_at(height) == Some(header.block_hash()) {
        return Ok(());
    }
    Err(WalletError::Chain(format!("{} is not our block at height {height}", header.block_hash())))
}

fn confirmations(state: &State, block: &PlanBlock) -> TxUpdate<ConfirmationBlockTime> {
    let anchor = ConfirmationBlockTime {
        block_id: BlockId { height: block.height, hash: block.header.block_hash() },
        confirmation_time: u64::from(block.header.time),
    };
    let mut update = TxUpdate::default();
    for tx in wallet_txs(block) {
        let txid = tx.compute_txid();
        // Our own copy stays: its witness was checked, the server's was not (a proof covers the txid only).
        if state.bdk.tx_graph().get_tx(txid).is_none() {
            update.txs.push(Arc::clone(tx));
        }
        update.anchors.insert((anchor, txid));
    }
    update
}

/// True when an output pays a script that was not yet derived when its transaction first came: BDK indexes a
/// transaction once, and again only when it is loaded.
fn overlooked(state: &State, block: &PlanBlock) -> bool {
    let index = state.bdk.spk_index();
    wallet_txs(block).any(|tx| {
        let txid = tx.compute_txid();
        (0..).zip(&tx.output).any(|(vout, out)| {
            index.index_of_spk(out.script_pubkey.clone()).is_some() && index.txout(OutPoint { txid, vout }).is_none()
        })
    })
}

fn wallet_txs(block: &PlanBlock) -> impl Iterator<Item = &Arc<Transaction>> {
    block.txs.iter().filter(|tx| tx.owners.wallet).map(|tx| tx.proven.tx())
}
