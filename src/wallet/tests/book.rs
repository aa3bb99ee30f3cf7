use bitcoin::{OutPoint, Txid};

use super::world::*;
use crate::ledger::{Direction, Kind, Ledger, Record, Side, State};
use crate::wallet::{Purpose, SendAmount};

fn line(world: &World, txid: Txid) -> Record {
    Ledger::open(world.store.clone()).line(&txid.to_string(), Side::Chain).unwrap().unwrap()
}

#[test]
fn a_deposit_is_booked_pending_confirmed_reorganised_hidden_and_confirmed() {
    let mut world = World::new();
    world.mine(None);
    let script = world.address();
    let tx = world.payment_to(script.clone(), 50_000);
    let txid = tx.compute_txid();
    world.see(&tx);
    let seen = line(&world, txid);
    assert_eq!((seen.kind, seen.direction, seen.state), (Kind::Deposit, Direction::In, State::Pending));
    assert_eq!((seen.amount_msat, seen.fee_msat), (Some(50_000_000), None));
    let address = bitcoin::Address::from_script(&script, bitcoin::Network::Regtest).unwrap();
    assert_eq!(seen.payee, Some(address.to_string()));
    world.mine(Some(tx.clone()));
    assert_eq!((line(&world, txid).state, line(&world, txid).height), (State::Succeeded, Some(2)));
    world.reorg(1, vec![]);
    assert_eq!((line(&world, txid).state, line(&world, txid).height), (State::Pending, None));
    world.lose(txid);
    let gone = line(&world, txid);
    assert_eq!((gone.state, gone.reason.as_deref()), (State::Failed, Some("no longer in the mempool")));
    world.mine(Some(tx));
    assert_eq!((line(&world, txid).state, line(&world, txid).height), (State::Succeeded, Some(4)));
}

#[test]
fn a_deposit_replaced_by_another_is_booked_as_gone() {
    let mut world = World::new();
    let first = world.payment(50_000);
    let script = world.address();
    let second = transaction(vec![first.input[0].previous_output], vec![(script, 49_000)]);
    world.see(&first);
    world.mine(Some(second.clone()));
    let gone = line(&world, first.compute_txid());
    assert_eq!((gone.state, gone.reason.as_deref()), (State::Failed, Some("another transaction spent its coins")));
    assert_eq!(line(&world, second.compute_txid()).state, State::Succeeded);
}

#[test]
fn a_withdrawal_is_booked_with_its_fee_before_anybody_sees_it() {
    let world = World::with_coins(&[50_000]);
    let draft = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap();
    world.wallet.commit(&draft, 5).unwrap();
    let line = line(&world, draft.txid);
    assert_eq!((line.kind, line.direction, line.state), (Kind::Withdrawal, Direction::Out, State::Pending));
    assert_eq!((line.amount_msat, line.fee_msat), (Some(10_000_000), Some(draft.fee_sat * 1000)));
    let address = bitcoin::Address::from_script(&stranger(), bitcoin::Network::Regtest).unwrap();
    assert_eq!(line.payee, Some(address.to_string()));
}

#[test]
fn what_is_known_of_a_transaction_names_its_line_before_or_after_it_is_seen() {
    let mut world = World::with_coins(&[100_000]);
    let draft = world.wallet.fund(&to_stranger(SendAmount::Sat(60_000))).unwrap();
    world.wallet.broadcasting(&[(&draft.tx, None)]).unwrap();
    assert_eq!(line(&world, draft.txid).kind, Kind::ChannelOpen);
    let sweep = world.payment(5_000);
    world.wallet.note_purpose(sweep.compute_txid(), Purpose::Sweep).unwrap();
    world.mine(Some(sweep.clone()));
    assert_eq!(line(&world, sweep.compute_txid()).kind, Kind::Sweep);
    let close = world.payment(6_000);
    world.mine(Some(close.clone()));
    assert_eq!(line(&world, close.compute_txid()).kind, Kind::Deposit);
    world.wallet.note_purpose(close.compute_txid(), Purpose::ChannelClose).unwrap();
    let close = line(&world, close.compute_txid());
    assert_eq!((close.kind, close.state, close.direction), (Kind::ChannelClose, State::Succeeded, Direction::In));
}

#[test]
fn a_line_is_put_right_when_the_parent_comes_after_the_child() {
    let mut world = World::with_coins(&[50_000]);
    let draft = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap();
    let parent = {
        let state = world.wallet.0.state.lock().unwrap();
        state.bdk.get_tx(world.wallet_coin_txid(&state)).unwrap().tx_node.tx.as_ref().clone()
    };
    // Another node of the same seed, which hears of the spending first.
    let mut other = World::new();
    other.address();
    other.wallet.change_script().unwrap();
    other.mine(Some(draft.tx.clone()));
    assert_eq!(line(&other, draft.txid).direction, Direction::In, "it looks like a deposit of the change");
    other.mine(Some(parent));
    let known = line(&other, draft.txid);
    assert_eq!((known.direction, known.kind), (Direction::Out, Kind::Withdrawal));
    assert_eq!((known.amount_msat, known.fee_msat), (Some(10_000_000), Some(draft.fee_sat * 1000)));
    world.mine(Some(draft.tx));
}

#[test]
fn the_wallet_and_the_book_are_in_step_after_a_restart() {
    let mut world = World::new();
    let tx = world.payment(50_000);
    world.mine(Some(tx.clone()));
    let before = line(&world, tx.compute_txid());
    let world = world.restart();
    assert_eq!(line(&world, tx.compute_txid()), before);
    world.lose(tx.compute_txid());
    assert_eq!(line(&world, tx.compute_txid()), before);
}

impl World {
    fn wallet_coin_txid(&self, state: &crate::wallet::state::State) -> Txid {
        let outpoint: &OutPoint = &state.bdk.spk_index().outpoints().iter().next().unwrap().1;
        outpoint.txid
    }
}
