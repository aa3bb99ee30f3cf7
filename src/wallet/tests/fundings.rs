use bitcoin::{Amount, Psbt, ScriptBuf, TxOut};

use super::world::*;
use crate::wallet::{CoinTrouble, Purpose, SendAmount, Spend, WalletError};

#[test]
fn the_coins_of_a_funding_are_locked_until_it_is_in_a_block() {
    let world = World::with_coins(&[100_000]);
    let draft = world.wallet.fund(&to_stranger(SendAmount::Sat(60_000))).unwrap();
    let mut world = world.restart();
    assert_eq!((world.balance().locked_sat, world.balance().spendable_sat), (100_000, 0));
    assert_eq!(world.wallet.coins()[0].funding(), Some(draft.txid));
    assert_eq!(world.wallet.fundings()[0].txid, draft.txid);
    assert!(world.wallet.confirmed_coins().is_empty());
    assert!(world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).is_err());
    assert!(world.store.outbox().unwrap().is_empty(), "LDK broadcasts it");
    world.wallet.broadcasting(&[(&draft.tx, None)]).unwrap();
    let change = 40_000 - draft.fee_sat;
    assert_eq!((world.balance().confirmed_sat, world.balance().pending_change_sat), (0, change));
    assert_eq!(world.balance().locked_sat, 0);
    world.lose(draft.txid);
    assert_eq!(world.balance().pending_change_sat, change);
    world.mine(Some(draft.tx));
    assert!(world.wallet.fundings().is_empty());
    assert_eq!(world.balance().spendable_sat, change);
}

#[test]
fn a_released_funding_frees_its_coins() {
    for broadcast in [false, true] {
        let world = World::with_coins(&[100_000]);
        let draft = world.wallet.fund(&to_stranger(SendAmount::Sat(60_000))).unwrap();
        if broadcast {
            world.wallet.broadcasting(&[(&draft.tx, None)]).unwrap();
        }
        assert!(world.wallet.release(draft.txid).unwrap());
        assert!(!world.wallet.release(draft.txid).unwrap());
        assert_eq!(world.balance().spendable_sat, 100_000);
        let world = world.restart();
        assert_eq!(world.balance().spendable_sat, 100_000);
        assert!(world.wallet.fundings().is_empty());
    }
}

#[test]
fn two_fundings_do_not_share_coins_or_change() {
    let world = World::with_coins(&[100_000, 100_000]);
    let first = world.wallet.fund(&to_stranger(SendAmount::Sat(60_000))).unwrap();
    let world = world.restart();
    let second = world.wallet.fund(&to_stranger(SendAmount::Sat(60_000))).unwrap();
    for input in &first.tx.input {
        assert!(second.tx.input.iter().all(|other| other.previous_output != input.previous_output));
    }
    let change =
        |tx: &bitcoin::Transaction| tx.output.iter().map(|out| out.script_pubkey.clone()).find(|s| *s != stranger());
    assert_ne!(change(&first.tx), change(&second.tx));
    let error = world.wallet.fund(&to_stranger(SendAmount::Sat(60_000))).unwrap_err();
    assert!(matches!(error, WalletError::NotEnough { locked_sat: 200_000, available_sat: 0, .. }), "{error}");
    assert!(error.to_string().contains("200000 sat are locked"));
}

#[test]
fn the_change_script_is_the_same_until_it_is_used_and_watched_at_once() {
    let mut world = World::new();
    world.watched();
    let script = world.wallet.change_script().unwrap();
    assert_eq!(world.watched().len(), 1);
    assert_eq!(world.wallet.change_script().unwrap(), script);
    let world_script = world.wallet.script_info(&script).unwrap();
    assert!(world_script.change && world_script.revealed);
    let tx = world.payment_to(script.clone(), 4_000);
    world.mine(Some(tx));
    assert_ne!(world.wallet.change_script().unwrap(), script);
}

#[test]
fn each_channel_gets_a_script_of_its_own_watched_at_once_and_change_goes_elsewhere() {
    let mut world = World::new();
    world.watched();
    let (first, second) = (world.wallet.script_for_channel().unwrap(), world.wallet.script_for_channel().unwrap());
    assert_ne!(first, second);
    assert_eq!(world.watched().len(), 2);
    let info = world.wallet.script_info(&first).unwrap();
    assert!(info.change && info.revealed);
    assert!(![first.clone(), second.clone()].contains(&world.wallet.change_script().unwrap()));
    // Also after a restart.
    let world = world.restart();
    assert!(![first, second].contains(&world.wallet.change_script().unwrap()));
}

#[test]
fn channels_that_come_to_nothing_do_not_lead_the_wallet_out_of_its_gap() {
    let mut world = World::new();
    let given: Vec<ScriptBuf> = (0..100).map(|_| world.wallet.script_for_channel().unwrap()).collect();
    let last = given.iter().map(|script| world.wallet.script_info(script).unwrap().index).max();
    assert_eq!(last, Some(14));
    // In turn: no two of fifteen in a row are the same.
    assert!(given.windows(15).all(|some| some.iter().collect::<std::collections::HashSet<_>>().len() == 15));
    // A recovery from the seed finds change, and a channel that closes makes room.
    assert!(world.wallet.script_info(&world.wallet.change_script().unwrap()).unwrap().index < 25);
    let tx = world.payment_to(given[9].clone(), 4_000);
    world.mine(Some(tx));
    let next = world.wallet.script_for_channel().unwrap();
    assert!(!given.contains(&next));
}

#[test]
fn a_close_that_pays_us_is_known_by_the_funding_that_it_spends() {
    let mut world = World::new();
    let script = world.wallet.script_for_channel().unwrap();
    let close = world.payment_to(script, 4_000);
    let funding = close.input[0].previous_output;
    assert_eq!(world.wallet.paid_by_spender(funding), None);
    world.wallet.broadcasting(&[(&close, Some(Purpose::ChannelClose))]).unwrap();
    assert_eq!(world.wallet.paid_by_spender(funding), Some(None));
    world.mine(Some(close));
    assert_eq!(world.wallet.paid_by_spender(funding), Some(Some(world.tree.height())));
    assert_eq!(world.wallet.paid_by_spender(foreign_outpoint(77)), None);
}

/// An anchor bump as LDK makes it: a foreign input, and a coin of ours.
fn bump(world: &World, said_sat: u64) -> Psbt {
    let coin = &world.wallet.confirmed_coins()[0];
    let mut tx = transaction(vec![foreign_outpoint(999), coin.outpoint], vec![(ScriptBuf::new_op_return([0; 4]), 0)]);
    tx.input.iter_mut().for_each(|input| input.witness.clear());
    let mut psbt = Psbt::from_unsigned_tx(tx).unwrap();
    psbt.inputs[0].witness_utxo = Some(TxOut { value: Amount::from_sat(330), script_pubkey: stranger() });
    psbt.inputs[1].witness_utxo = Some(TxOut { value: Amount::from_sat(said_sat), script_pubkey: coin.script.clone() });
    psbt
}

#[test]
fn a_fee_bump_gets_our_signature_and_leaves_the_others_to_ldk() {
    let world = World::with_coins(&[50_000]);
    let psbt = bump(&world, 50_000);
    let tx = world.wallet.sign_psbt(psbt.clone()).unwrap();
    assert!(tx.input[0].witness.is_empty());
    assert_eq!(tx.input[1].witness.len(), 2);
    // What we signed is ours; signing again, for a higher fee, is allowed.
    world.wallet.broadcasting(&[(&tx, None)]).unwrap();
    assert_eq!(world.balance().confirmed_sat, 0);
    assert!(world.wallet.sign_psbt(psbt).is_ok());
}

#[test]
fn the_coin_of_an_unconfirmed_bump_is_there_for_the_next_bump_and_for_nothing_else() {
    let mut world = World::with_coins(&[50_000]);
    let coin = world.only_coin();
    let first = world.wallet.sign_psbt(bump(&world, 50_000)).unwrap();
    world.wallet.broadcasting(&[(&first, None)]).unwrap();
    assert!(world.wallet.confirmed_coins().is_empty());
    assert!(world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).is_err());
    let world_bumps = world.wallet.bump_coins();
    assert_eq!((world_bumps.len(), world_bumps[0].outpoint), (1, coin));
    world.mine(Some(first));
    assert!(world.wallet.bump_coins().is_empty());
    // A coin that went to a payment is not there: the payment is not to be undone.
    let mut world = World::with_coins(&[50_000]);
    world.send(10_000);
    assert!(world.wallet.bump_coins().is_empty());
}

#[test]
fn a_fee_bump_that_lies_about_our_coin_or_takes_a_locked_one_is_not_signed() {
    let world = World::with_coins(&[50_000]);
    let error = world.wallet.sign_psbt(bump(&world, 49_999)).unwrap_err();
    assert!(matches!(error, WalletError::Sign(_)), "{error}");
    let psbt = bump(&world, 50_000);
    let _draft = world.wallet.fund(&to_stranger(SendAmount::Sat(20_000))).unwrap();
    let error = world.wallet.sign_psbt(psbt).unwrap_err();
    assert!(matches!(error, WalletError::Coin { why: CoinTrouble::Locked, .. }), "{error}");
}

#[test]
fn the_purpose_of_a_transaction_survives_a_restart() {
    let world = World::with_coins(&[50_000]);
    let txid = world.only_coin().txid;
    world.wallet.note_purpose(txid, Purpose::Sweep).unwrap();
    let world = world.restart();
    assert_eq!(world.wallet.0.state.lock().unwrap().rows.purposes[&txid], Purpose::Sweep);
}

#[test]
fn a_channel_can_take_all_there_is_but_the_reserve() {
    let world = World::with_coins(&[50_000, 60_000, 700]);
    let all = Spend { keep_back_sat: 25_000, ..to_stranger(SendAmount::All) };
    let most = world.wallet.draft(&all).unwrap().amount_sat;
    let draft = world.wallet.fund(&Spend { amount: SendAmount::Sat(most), ..all.clone() }).unwrap();
    assert_eq!(draft.amount_sat, most);
    let more = Spend { amount: SendAmount::Sat(most + 500), ..all };
    world.wallet.release(draft.txid).unwrap();
    assert!(world.wallet.fund(&more).is_err());
}
