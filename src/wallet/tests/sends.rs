use bitcoin::{FeeRate, Sequence};

use super::world::*;
use crate::wallet::{CoinState, CoinTrouble, SendAmount, Spend, WalletError};

#[test]
fn a_payment_has_its_amount_its_fee_rate_and_its_change() {
    let mut world = World::with_coins(&[50_000, 60_000]);
    let draft = world.wallet.draft(&to_stranger(SendAmount::Sat(80_000))).unwrap();
    assert_eq!(draft.amount_sat, 80_000);
    assert_eq!(draft.tx.output[draft.vout as usize].script_pubkey, stranger());
    let total: u64 = draft.tx.output.iter().map(|out| out.value.to_sat()).sum();
    assert_eq!(total, 110_000 - draft.fee_sat);
    assert!(draft.feerate >= FeeRate::from_sat_per_kwu(499), "{}", draft.feerate);
    assert!(draft.feerate <= FeeRate::from_sat_per_kwu(530), "{}", draft.feerate);
    assert_eq!(draft.tx.lock_time.to_consensus_u32(), 2, "no use to go back and take the fee of an older block");
    assert!(draft.tx.input.iter().all(|input| input.sequence == Sequence::ENABLE_RBF_NO_LOCKTIME));
    assert!(draft.tx.input.iter().all(|input| input.witness.iter().next().unwrap().len() <= 71), "low R");
    world.wallet.commit(&draft, 5).unwrap();
    assert_eq!(world.balance().pending_change_sat, 30_000 - draft.fee_sat);
    let outbox = world.store.outbox().unwrap();
    assert_eq!((outbox.len(), outbox[0].txid, &outbox[0].package[0]), (1, draft.txid, &draft.tx));
    world.mine(Some(draft.tx));
    assert_eq!(world.balance().spendable_sat, 30_000 - draft.fee_sat);
}

#[test]
fn all_is_all_but_the_fee() {
    let world = World::with_coins(&[50_000, 60_000]);
    let draft = world.wallet.draft(&to_stranger(SendAmount::All)).unwrap();
    assert_eq!(draft.tx.output.len(), 1);
    assert_eq!(draft.amount_sat + draft.fee_sat, 110_000);
    world.wallet.commit(&draft, 5).unwrap();
    assert_eq!(world.balance().spendable_sat, 0);
}

#[test]
fn all_leaves_the_reserve() {
    for keep_back_sat in [25_000, 100] {
        let world = World::with_coins(&[50_000, 60_000]);
        let draft = world.wallet.draft(&Spend { keep_back_sat, ..to_stranger(SendAmount::All) }).unwrap();
        world.wallet.commit(&draft, 5).unwrap();
        let kept = keep_back_sat.max(294);
        assert_eq!(world.balance().pending_change_sat, kept);
        assert_eq!(draft.amount_sat + draft.fee_sat + kept, 110_000);
        assert_eq!(world.wallet.balance(25_000).spendable_sat, 0);
    }
}

#[test]
fn all_of_chosen_coins_leaves_the_others_as_the_reserve() {
    let world = World::with_coins(&[50_000, 60_000]);
    let coin = world.wallet.coins().into_iter().find(|coin| coin.value_sat == 60_000).unwrap();
    let spend = Spend { keep_back_sat: 25_000, coins: vec![coin.outpoint], ..to_stranger(SendAmount::All) };
    let draft = world.wallet.draft(&spend).unwrap();
    assert_eq!(draft.amount_sat + draft.fee_sat, 60_000);
    assert_eq!(draft.tx.input.len(), 1);
}

#[test]
fn too_little_says_what_is_missing_and_what_is_held_back() {
    let mut world = World::with_coins(&[50_000]);
    let pending = world.payment(9_000);
    world.see(&pending);
    let spend = Spend { keep_back_sat: 25_000, ..to_stranger(SendAmount::Sat(30_000)) };
    let error = world.wallet.draft(&spend).unwrap_err();
    let text = error.to_string();
    let WalletError::NotEnough { needed_sat, available_sat, held_back_sat, locked_sat, pending_sat } = error else {
        panic!("{error}")
    };
    assert!(needed_sat > 30_000);
    assert_eq!((available_sat, held_back_sat, locked_sat, pending_sat), (25_000, 25_000, 0, 9_000));
    assert!(text.contains("25000 sat are held back to close channels safely"), "{text}");
    assert!(text.contains("9000 sat are on their way in"), "{text}");
    let error = world.wallet.draft(&to_stranger(SendAmount::Sat(60_000))).unwrap_err();
    assert!(matches!(error, WalletError::NotEnough { available_sat: 50_000, .. }), "{error}");
    let empty = World::new();
    let error = empty.wallet.draft(&to_stranger(SendAmount::All)).unwrap_err();
    assert!(matches!(error, WalletError::NotEnough { available_sat: 0, .. }), "{error}");
}

#[test]
fn confirmed_coins_are_taken_before_our_unconfirmed_change() {
    let mut world = World::with_coins(&[50_000, 20_000]);
    let draft =
        world.wallet.draft(&Spend { coins: vec![biggest(&world)], ..to_stranger(SendAmount::Sat(10_000)) }).unwrap();
    world.wallet.commit(&draft, 5).unwrap();
    let second = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap();
    assert_eq!(second.tx.input.len(), 1);
    assert_ne!(second.tx.input[0].previous_output.txid, draft.txid);
    // With no other way, change of our own is as good.
    let third = world.wallet.draft(&to_stranger(SendAmount::Sat(45_000))).unwrap();
    world.wallet.commit(&third, 6).unwrap();
    assert!(world.wallet.coins().iter().all(|coin| coin.state == CoinState::OwnChange));
    world.mine(Some(draft.tx));
    assert_eq!(world.balance().confirmed_sat, 0, "its change is spent already");
}

fn biggest(world: &World) -> bitcoin::OutPoint {
    world.wallet.coins().into_iter().max_by_key(|coin| coin.value_sat).unwrap().outpoint
}

#[test]
fn two_drafts_of_one_coin_become_one_transaction() {
    let world = World::with_coins(&[50_000]);
    let first = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap();
    let second = world.wallet.draft(&to_stranger(SendAmount::Sat(20_000))).unwrap();
    world.wallet.commit(&first, 5).unwrap();
    let error = world.wallet.commit(&second, 5).unwrap_err();
    assert!(matches!(error, WalletError::Coin { why: CoinTrouble::Unknown, .. }), "{error}");
    assert_eq!(world.store.outbox().unwrap().len(), 1);
}

#[test]
fn a_commit_that_cannot_be_written_leaves_the_coins_free() {
    let world = World::with_coins(&[50_000]);
    let draft = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap();
    world.store.close().unwrap();
    assert!(world.wallet.commit(&draft, 5).is_err());
    assert_eq!(world.balance().spendable_sat, 50_000);
    let world = world.restart();
    assert_eq!(world.balance().spendable_sat, 50_000);
    assert!(world.store.outbox().unwrap().is_empty());
}

#[test]
fn dry_runs_do_not_walk_through_the_gap() {
    let world = World::with_coins(&[50_000]);
    let drafts: Vec<_> = (0..40).map(|_| world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap()).collect();
    let change = |draft: &crate::wallet::Draft| {
        draft.tx.output.iter().find(|out| out.script_pubkey != stranger()).unwrap().script_pubkey.clone()
    };
    assert!(drafts.iter().all(|draft| change(draft) == change(&drafts[0])));
    let info = world.wallet.script_info(&change(&drafts[0])).unwrap();
    assert_eq!((info.change, info.index), (true, 0));
}

#[test]
fn fees_that_look_like_mistakes_have_to_be_forced() {
    let world = World::with_coins(&[100_000]);
    let at = |vb, amount| Spend { feerate: FeeRate::from_sat_per_vb_u32(vb), ..to_stranger(SendAmount::Sat(amount)) };
    let error = world.wallet.draft(&at(100, 10_000)).unwrap_err();
    assert!(matches!(error, WalletError::FeeTooHigh { amount_sat: 10_000, .. }), "{error}");
    assert!(world.wallet.draft(&Spend { force: true, ..at(100, 10_000) }).is_ok());
    assert!(world.wallet.draft(&at(10, 10_000)).is_ok());
    assert!(world.wallet.draft(&at(501, 10_000)).is_err());
    let low = Spend { feerate: FeeRate::from_sat_per_kwu(249), ..to_stranger(SendAmount::Sat(10_000)) };
    assert!(matches!(world.wallet.draft(&low), Err(WalletError::FeeTooLow { sat_per_kwu: 249 })));
    let dust = world.wallet.draft(&at(2, 300)).unwrap_err();
    assert!(matches!(dust, WalletError::Dust { amount_sat: 300, least_sat: 330 }), "{dust}");
}

#[test]
fn a_coin_locked_by_hand_is_not_chosen_also_after_a_restart() {
    let world = World::with_coins(&[50_000]);
    let coin = world.only_coin();
    world.wallet.set_lock(coin, true).unwrap();
    let world = world.restart();
    assert_eq!((world.balance().locked_sat, world.balance().spendable_sat), (50_000, 0));
    let error = world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).unwrap_err();
    assert!(matches!(error, WalletError::NotEnough { locked_sat: 50_000, .. }), "{error}");
    assert!(world.wallet.confirmed_coins().is_empty());
    world.wallet.set_lock(coin, false).unwrap();
    assert_eq!(world.balance().spendable_sat, 50_000);
}

#[test]
fn an_address_of_another_network_is_refused() {
    let world = World::new();
    let mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".parse().unwrap();
    assert!(matches!(world.wallet.check_address(&mainnet), Err(WalletError::OtherNetwork { .. })));
}
