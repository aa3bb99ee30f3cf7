//! What the book (`ledger/`) is told of on-chain transactions: the difference between two views.

use bitcoin::{Address, Transaction, Txid};

use super::disk::Row;
use super::purpose::Purpose;
use super::state::{Standing, State, View};
use crate::ledger::{ChainNews, Direction, Kind, NewOnchain};

/// What has changed since the book was told last. `rows` are written together with it.
pub(super) fn news(state: &State, now: &View, rows: &[Row]) -> Vec<ChainNews> {
    let told = &state.view;
    let mut news: Vec<ChainNews> = told
        .keys()
        .filter(|txid| !now.contains_key(*txid))
        .map(|txid| ChainNews::Gone(*txid, why_gone(state, now, *txid)))
        .collect();
    for (txid, standing) in now {
        let before = told.get(txid);
        let meant = |standing: &Standing| (standing.spent_sat, standing.received_sat);
        if before.map(meant) != Some(meant(standing)) {
            let tx = state.bdk.tx_graph().get_tx(*txid);
            news.extend(tx.map(|tx| ChainNews::Seen(line(state, &tx, *txid, *standing, purpose(state, rows, *txid)))));
        }
        match (before.and_then(|before| before.height), standing.height) {
            (before, Some(height)) if before != Some(height) => news.push(ChainNews::Confirmed(*txid, height)),
            (Some(_), None) => news.push(ChainNews::Unconfirmed(*txid)),
            _ => {}
        }
    }
    news
}

fn purpose(state: &State, rows: &[Row], txid: Txid) -> Option<Purpose> {
    let new = rows.iter().rev().find_map(|row| match row {
        Row::Purpose(of, purpose) if *of == txid => Some(*purpose),
        _ => None,
    });
    new.or_else(|| state.rows.purposes.get(&txid).copied())
}

fn why_gone(state: &State, now: &View, txid: Txid) -> &'static str {
    let graph = state.bdk.tx_graph();
    let replaced =
        graph.get_tx(txid).is_some_and(|tx| graph.direct_conflicts(&tx).any(|(_, other)| now.contains_key(&other)));
    if replaced { "another transaction spent its coins" } else { "no longer in the mempool" }
}

fn line(state: &State, tx: &Transaction, txid: Txid, standing: Standing, purpose: Option<Purpose>) -> NewOnchain {
    let (direction, amount_sat, fee_sat) = money(state, tx, standing, purpose);
    let general = match direction {
        Direction::In => Kind::Deposit,
        Direction::Out => Kind::Withdrawal,
    };
    NewOnchain {
        txid,
        kind: purpose.map_or(general, kind),
        direction,
        amount_sat,
        fee_sat,
        payee: payee(state, tx, direction),
        description: None,
    }
}

/// Which way, how much without the fee, and our fee.
fn money(
    state: &State,
    tx: &Transaction,
    standing: Standing,
    purpose: Option<Purpose>,
) -> (Direction, u64, Option<u64>) {
    let Standing { spent_sat, received_sat, .. } = standing;
    let Some(net) = spent_sat.checked_sub(received_sat).filter(|_| spent_sat > 0) else {
        return (Direction::In, received_sat - spent_sat, None);
    };
    let all_ours = tx.input.iter().all(|input| state.bdk.spk_index().txout(input.previous_output).is_some());
    let fee = state.bdk.calculate_fee(tx).ok().filter(|_| all_ours).map(|fee| fee.to_sat());
    match fee {
        Some(fee) => (Direction::Out, net.saturating_sub(fee), Some(fee)),
        // What a bump takes from us is fee, whoever else adds to it.
        None if purpose == Some(Purpose::FeeBump) => (Direction::Out, 0, Some(net)),
        None => (Direction::Out, net, None),
    }
}

fn kind(purpose: Purpose) -> Kind {
    match purpose {
        Purpose::ChannelOpen => Kind::ChannelOpen,
        Purpose::ChannelClose => Kind::ChannelClose,
        Purpose::Sweep => Kind::Sweep,
        Purpose::FeeBump => Kind::FeeBump,
    }
}

/// Where the money went: our own address when we are paid, the first foreign one when we pay.
fn payee(state: &State, tx: &Transaction, direction: Direction) -> Option<String> {
    let wanted = |out: &&bitcoin::TxOut| state.bdk.is_mine(out.script_pubkey.clone()) == (direction == Direction::In);
    let out = tx.output.iter().find(wanted)?;
    // Scripts without an address (OP_RETURN) have no payee.
    Address::from_script(&out.script_pubkey, state.bdk.network()).ok().map(|address| address.to_string())
}
