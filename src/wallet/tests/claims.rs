use bitcoin::{Amount, OutPoint, ScriptBuf};

use super::world::*;
use crate::engine::Listener;
use crate::wallet::{CoinState, CoinTrouble, SendAmount, Spend, WalletError};

#[test]
fn a_deposit_shown_and_hidden_is_gone_and_shown_again_is_back() {
    let mut world = World::new();
    let tx = world.payment(50_000);
    for _ in 0..3 {
        world.see(&tx);
        assert_eq!(world.balance().pending_in_sat, 50_000);
        world.lose(tx.compute_txid());
        assert_eq!(world.balance().pending_in_sat, 0);
    }
    world.mine(Some(tx));
    assert_eq!(world.balance().spendable_sat, 50_000);
}

#[test]
fn what_is_believed_of_others_is_said_also_after_a_restart_and_a_reorganisation() {
    let mut world = World::with_coins(&[50_000]);
    world.send(10_000);
    let shown = world.payment(5_000);
    world.see(&shown);
    let mined = world.payment(6_000);
    world.mine(Some(mined.clone()));
    let mut world = world.restart();
    assert_eq!(world.wallet.believed(), [shown.compute_txid()]);
    world.reorg(1, vec![]);
    let mut both = vec![shown.compute_txid(), mined.compute_txid()];
    both.sort();
    assert_eq!(world.wallet.believed(), both);
    world.lose(mined.compute_txid());
    assert_eq!(world.wallet.believed(), [shown.compute_txid()]);
}

#[test]
fn a_confirmed_deposit_cannot_be_hidden() {
    let mut world = World::with_coins(&[50_000]);
    let txid = world.only_coin().txid;
    world.lose(txid);
    assert_eq!(world.balance().spendable_sat, 50_000);
    world.mine(None);
    assert_eq!(world.balance().spendable_sat, 50_000);
}

#[test]
fn an_unconfirmed_coin_of_somebody_else_is_not_spent() {
    let mut world = World::new();
    let tx = world.payment(50_000);
    world.see(&tx);
    let error = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap_err();
    let WalletError::NotEnough { available_sat: 0, pending_sat: 50_000, .. } = error else { panic!("{error}") };
    let coin = OutPoint { txid: tx.compute_txid(), vout: 0 };
    let by_name = Spend { coins: vec![coin], ..to_stranger(SendAmount::All) };
    let error = world.wallet.draft(&by_name).unwrap_err();
    assert!(matches!(error, WalletError::Coin { why: CoinTrouble::Unconfirmed, .. }), "{error}");
}

#[test]
fn an_unconfirmed_payment_to_our_change_script_is_not_change() {
    let mut world = World::new();
    let change = world.wallet.change_script().unwrap();
    let tx = world.payment_to(change, 50_000);
    world.see(&tx);
    assert_eq!(world.balance().pending_in_sat, 50_000);
    assert_eq!(world.balance().spendable_sat, 0);
}

#[test]
fn what_we_sent_stays_spent_although_a_server_hides_it() {
    let mut world = World::with_coins(&[50_000]);
    let coin = world.only_coin();
    let tx = world.send(10_000);
    world.see(&tx);
    world.lose(tx.compute_txid());
    assert!(world.wallet.coins().iter().all(|c| c.outpoint != coin));
    assert_eq!(world.balance().confirmed_sat, 0);
    let world = world.restart();
    assert_eq!(world.balance().confirmed_sat, 0);
    assert_eq!(world.wallet.coins()[0].state, CoinState::OwnChange);
}

#[test]
fn a_spend_of_our_coin_without_our_signature_is_not_believed() {
    let world = World::with_coins(&[50_000]);
    let coin = world.only_coin();
    let change = world.wallet.change_script().unwrap();
    let forged = transaction(vec![coin], vec![(change, 49_000)]);
    world.see(&forged);
    assert_eq!(world.balance().spendable_sat, 50_000);
    assert_eq!(world.balance().pending_change_sat + world.balance().pending_in_sat, 0);
}

#[test]
fn a_forged_spend_shown_before_its_parent_is_found_out_when_the_parent_comes() {
    let mut world = World::new();
    let parent = world.payment(50_000);
    let coin = OutPoint { txid: parent.compute_txid(), vout: 0 };
    let script = world.address();
    let forged = transaction(vec![coin], vec![(script, 49_000)]);
    world.see(&forged);
    assert_eq!(world.balance().pending_in_sat, 49_000, "nothing says yet that the coin is ours");
    world.mine(Some(parent));
    assert_eq!(world.balance().spendable_sat, 50_000);
    assert_eq!(world.balance().pending_in_sat, 0);
}

#[test]
fn a_spend_signed_by_us_elsewhere_is_believed() {
    let mut world = World::with_coins(&[50_000]);
    // Drafted, never committed: as if another copy of the seed had sent it.
    let draft = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap();
    world.see(&draft.tx);
    assert_eq!(world.balance().confirmed_sat, 0);
    assert_eq!(world.balance().pending_change_sat, 50_000 - 10_000 - draft.fee_sat);
    world.mine(Some(draft.tx));
    assert_eq!(world.balance().confirmed_sat, 50_000 - 10_000 - draft.fee_sat);
}

#[test]
fn our_transaction_keeps_its_witness_when_a_server_shows_another() {
    let mut world = World::with_coins(&[50_000]);
    let tx = world.send(10_000);
    let mut bent = tx.clone();
    bent.input[0].witness = bitcoin::Witness::from_slice(&[[1u8]]);
    world.see(&bent);
    world.mine(Some(bent.clone()));
    // The block that had it is lost: it still is a transaction of ours.
    world.reorg(1, vec![]);
    let balance = world.balance();
    assert_eq!((balance.confirmed_sat, balance.pending_in_sat), (0, 0));
    assert!(balance.pending_change_sat > 0);
    let mut world = world.restart();
    assert_eq!(world.balance(), balance);
    world.mine(Some(tx));
    assert!(world.balance().confirmed_sat > 0);
}

#[test]
fn nothing_that_conflicts_with_our_transaction_is_let_in() {
    let mut world = World::with_coins(&[50_000]);
    // A bump: one input of a channel's, one of ours.
    let coin = world.only_coin();
    let shared = foreign_outpoint(4_711);
    let mut bump = transaction(vec![shared, coin], vec![(world.wallet.change_script().unwrap(), 40_000)]);
    let psbt = {
        let mut unsigned = bump.clone();
        unsigned.input.iter_mut().for_each(|input| input.witness.clear());
        bitcoin::Psbt::from_unsigned_tx(unsigned).unwrap()
    };
    bump.input[1].witness = world.wallet.sign_psbt(psbt).unwrap().input[1].witness.clone();
    world.wallet.broadcasting(&[(&bump, None)]).unwrap();
    assert_eq!(world.balance().confirmed_sat, 0);
    let script = world.address();
    let forged = transaction(vec![shared], vec![(script, 1_000)]);
    world.see(&forged);
    assert_eq!(world.balance().confirmed_sat, 0, "our coin does not look free");
    // In a block it is another matter.
    world.mine(Some(forged));
    assert_eq!(world.balance().confirmed_sat, 51_000);
}

#[test]
fn absurd_claims_do_no_harm() {
    let world = World::with_coins(&[50_000]);
    let before = world.balance();
    let script = world.address();
    let sum = transaction(vec![foreign_outpoint(77)], vec![(script.clone(), u64::MAX), (script.clone(), u64::MAX)]);
    let much = transaction(vec![foreign_outpoint(78)], vec![(script.clone(), Amount::MAX_MONEY.to_sat() + 1)]);
    let coinbase = transaction(vec![OutPoint::null()], vec![(script.clone(), 5_000)]);
    let nothing = transaction(vec![foreign_outpoint(79)], vec![(stranger(), 5_000)]);
    let empty = transaction(vec![], vec![]);
    for tx in [sum, much, coinbase, nothing, empty] {
        world.see(&tx);
        assert_eq!(world.balance(), before);
    }
    world.lose(foreign_outpoint(80).txid);
    let big = transaction(vec![foreign_outpoint(81)], vec![(script, 1); 4_000]);
    world.see(&big);
    assert_eq!(world.balance(), before);
}

#[test]
fn a_flood_of_claims_ends_and_is_forgotten() {
    let world = World::with_coins(&[50_000]);
    let script = world.address();
    for salt in 0..310 {
        let tx = transaction(vec![foreign_outpoint(1_000 + salt)], vec![(script.clone(), 1)]);
        world.see(&tx);
        if salt < 200 {
            world.lose(tx.compute_txid());
        }
    }
    assert_eq!(world.balance().pending_in_sat, 100);
    assert_eq!(world.balance().spendable_sat, 50_000);
    // Two weeks later (the newest claim says so), what is hidden is forgotten at the restart.
    world.wallet.0.state.lock().unwrap().shift_stamp(15 * 24 * 3600);
    let late = transaction(vec![foreign_outpoint(1_000)], vec![(script, 1)]);
    world.see(&late);
    let mut world = world.restart();
    assert_eq!(world.wallet.0.state.lock().unwrap().bdk.tx_graph().full_txs().count(), 1 + 100 + 1);
    let deposit = world.payment(70_000);
    world.see(&deposit);
    assert_eq!(world.balance().pending_in_sat, 70_101);
}

#[test]
fn a_claim_does_not_move_the_gap() {
    let mut world = World::new();
    world.watched();
    let ahead: ScriptBuf = {
        let state = world.wallet.0.state.lock().unwrap();
        state.bdk.peek_address(bdk_wallet::KeychainKind::External, 20).script_pubkey()
    };
    let tx = world.payment_to(ahead, 5_000);
    world.see(&tx);
    assert!(world.watched().is_empty());
    assert_eq!(world.balance().pending_in_sat, 0);
    world.mine(Some(tx));
    assert_eq!(world.balance().confirmed_sat, 5_000);
    assert_eq!(world.watched().len(), 21);
}
