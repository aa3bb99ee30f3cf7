use bitcoin::bip32::Xpriv;
use bitcoin::{Network, OutPoint};

use super::world::*;
use crate::chain::io::{Owners, Plan};
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;
use crate::engine::Listener;
use crate::ledger::Ledger;
use crate::wallet::{CoinState, OnchainBalance, SendAmount, Wallet};

#[test]
fn a_deposit_is_pending_until_a_block_has_it() {
    let mut world = World::new();
    world.mine(None);
    let tx = world.payment(50_000);
    world.see(&tx);
    let pending = OnchainBalance { pending_in_sat: 50_000, ..OnchainBalance::default() };
    assert_eq!(world.balance(), pending);
    world.mine(Some(tx));
    let confirmed = OnchainBalance { confirmed_sat: 50_000, spendable_sat: 50_000, ..OnchainBalance::default() };
    assert_eq!(world.balance(), confirmed);
}

#[test]
fn a_restart_without_any_server_shows_the_same() {
    let mut world = World::with_coins(&[10_000, 20_000]);
    let pending = world.payment(5_000);
    world.see(&pending);
    world.send(7_000);
    let (balance, coins, tip) = (world.balance(), world.wallet.coins(), world.wallet.tip());
    let world = world.restart();
    assert_eq!((world.balance(), world.wallet.coins(), world.wallet.tip()), (balance, coins, tip));
}

#[test]
fn a_reorganisation_of_any_depth_puts_a_deposit_back_to_pending_and_the_next_block_confirms_it_again() {
    for depth in 1..=6 {
        let mut world = World::new();
        world.mine(None);
        let tx = world.payment(50_000);
        world.mine(Some(tx.clone()));
        for _ in 1..depth {
            world.mine(None);
        }
        world.reorg(depth, vec![]);
        assert_eq!(world.balance().confirmed_sat, 0, "{depth} deep");
        assert_eq!(world.balance().pending_in_sat, 50_000, "{depth} deep");
        assert_eq!(world.wallet.tip(), world.tree.tip());
        world.mine(Some(tx));
        assert_eq!(world.balance().spendable_sat, 50_000, "{depth} deep");
        assert_eq!(world.wallet.tip(), world.tree.tip());
    }
}

#[test]
fn a_deposit_moved_to_another_block_of_the_same_height_stays_confirmed() {
    let mut world = World::new();
    let tx = world.payment(50_000);
    world.mine(Some(tx.clone()));
    world.reorg(1, vec![Some(tx)]);
    assert_eq!(world.wallet.coins()[0].state, CoinState::Confirmed(1));
    let old_hash = world.tree.block_at(1).unwrap();
    assert_eq!(world.wallet.0.state.lock().unwrap().bdk.local_chain().get(1).unwrap().hash(), old_hash.hash);
}

#[test]
fn a_reorganisation_while_the_wallet_was_not_told_is_found_after_the_restart() {
    let mut world = World::new();
    let tx = world.payment(50_000);
    world.mine(Some(tx));
    world.mine(None);
    let parent = world.tree.block_at(0).unwrap();
    // The tree reorganises, the power fails before the plan is delivered, and the engine's next plan has no fork.
    let mut headers = vec![world.tree.header_at(0).unwrap()];
    for salt in 900..903 {
        let header = next_header(headers.last().unwrap(), bitcoin::hashes::Hash::all_zeros(), salt);
        headers.push(header);
    }
    for (height, header) in (1..).zip(&headers[1..]) {
        world.tree.accept(*header, parent.height + height, u64::from(header.time)).unwrap();
    }
    let world = world.restart();
    world.deliver(Plan { tip: Some((headers[3], 3)), ..Plan::default() });
    assert_eq!(world.balance().confirmed_sat, 0);
    assert_eq!(world.wallet.tip(), world.tree.tip());
}

#[test]
fn a_shorter_chain_is_followed_too() {
    let mut world = World::with_coins(&[30_000]);
    for _ in 0..5 {
        world.mine(None);
    }
    // As difficulty may fall on test networks: a chain of fewer blocks, that forks below all that BDK's chain holds.
    let mut short = HeaderTree::new(Params::new(Network::Regtest));
    let header = next_header(&short.header_at(0).unwrap(), bitcoin::hashes::Hash::all_zeros(), 99);
    short.accept(header, 1, u64::from(header.time)).unwrap();
    let plan = Plan { fork: short.block_at(0), tip: Some((header, 1)), ..Plan::default() };
    world.wallet.deliver(&plan, &short).unwrap();
    assert_eq!(world.wallet.tip(), short.tip());
    assert_eq!(world.balance().confirmed_sat, 0);
}

#[test]
fn a_chain_that_ends_below_every_checkpoint_above_the_fork_is_followed_too() {
    let mut world = World::new();
    let tx = world.payment(30_000);
    // The wallet hears of a block far above its tip, and of nothing between.
    for _ in 0..5 {
        let salt = world.salt();
        let header =
            next_header(&world.tree.header_at(world.tree.height()).unwrap(), bitcoin::hashes::Hash::all_zeros(), salt);
        world.tree.accept(header, world.tree.height() + 1, u64::from(header.time)).unwrap();
    }
    let top = next_header(&world.tree.header_at(5).unwrap(), tx.compute_txid().into(), 50);
    world.tree.accept(top, 6, u64::from(top.time)).unwrap();
    world.deliver(Plan { block: Some(block(top, 6, tx)), ..Plan::default() });
    assert_eq!(world.balance().confirmed_sat, 30_000);
    let mut short = HeaderTree::new(Params::new(Network::Regtest));
    let header = next_header(&short.header_at(0).unwrap(), bitcoin::hashes::Hash::all_zeros(), 99);
    short.accept(header, 1, u64::from(header.time)).unwrap();
    let plan = Plan { fork: short.block_at(0), tip: Some((header, 1)), ..Plan::default() };
    world.wallet.deliver(&plan, &short).unwrap();
    assert_eq!(world.wallet.tip(), short.tip());
    assert_eq!(world.balance().pending_in_sat, 30_000);
    assert!(world.wallet.new_address().is_ok());
}

#[test]
fn a_block_told_late_confirms_below_the_tip() {
    let mut world = World::new();
    let tx = world.payment(30_000);
    let salt = world.salt();
    let header = next_header(&world.tree.header_at(0).unwrap(), tx.compute_txid().into(), salt);
    world.tree.accept(header, 1, u64::from(header.time)).unwrap();
    let parent = world.tree.tip();
    world.mine_on(parent, vec![None, None]);
    assert_eq!(world.wallet.tip().height, 3);
    world.deliver(Plan { block: Some(block(header, 1, tx)), ..Plan::default() });
    assert_eq!(world.wallet.coins()[0].state, CoinState::Confirmed(1));
    assert_eq!(world.wallet.tip().height, 3);
}

#[test]
fn old_checkpoints_are_forgotten_at_the_restart_but_not_those_of_transactions() {
    let mut world = World::with_coins(&[30_000]);
    for _ in 0..300 {
        world.mine(None);
    }
    let world = world.restart();
    let state = world.wallet.0.state.lock().unwrap();
    let heights: Vec<u32> = state.bdk.local_chain().iter_checkpoints().map(|cp| cp.height()).collect();
    assert!(heights.len() < 150, "{} checkpoints", heights.len());
    assert_eq!(heights[heights.len() - 2..], [1, 0]);
    drop(state);
    assert_eq!(world.balance().confirmed_sat, 30_000);
}

#[test]
fn a_mining_reward_waits_for_a_hundred_blocks() {
    let mut world = World::new();
    let script = world.address();
    let mut coinbase = transaction(vec![OutPoint::null()], vec![(script, 5_000_000_000)]);
    coinbase.input[0].script_sig = bitcoin::ScriptBuf::from_bytes(vec![1, 1, 1, 1]);
    world.mine(Some(coinbase));
    assert_eq!(world.balance().immature_sat, 5_000_000_000);
    assert!(world.wallet.draft(&to_stranger(SendAmount::Sat(10_000))).is_err());
    for _ in 0..99 {
        world.mine(None);
    }
    assert_eq!(world.balance().spendable_sat, 5_000_000_000);
}

#[test]
fn what_only_lightning_hears_of_is_not_written() {
    let mut world = World::new();
    let tx = world.payment_to(stranger(), 10_000);
    let salt = world.salt();
    let header = next_header(&world.tree.header_at(0).unwrap(), tx.compute_txid().into(), salt);
    world.tree.accept(header, 1, u64::from(header.time)).unwrap();
    let mut block = block(header, 1, tx);
    block.txs[0].owners = Owners { wallet: false, lightning: true };
    world.deliver(Plan { block: Some(block), ..Plan::default() });
    assert_eq!(world.wallet.tip().height, 0);
}

#[test]
fn scripts_are_watched_before_they_are_handed_out_and_the_gap_moves_with_use() {
    let mut world = World::new();
    assert_eq!(world.watched().len(), 50, "25 of each chain");
    let first = world.wallet.new_address().unwrap();
    assert_eq!((first.index, first.reused), (0, false));
    assert_eq!(world.watched().len(), 1);
    let far = world.wallet.0.state.lock().unwrap().bdk.peek_address(bdk_wallet::KeychainKind::External, 25);
    let tx = world.payment_to(far.script_pubkey(), 9_000);
    world.mine(Some(tx));
    assert_eq!(world.balance().confirmed_sat, 9_000);
    assert_eq!(world.watched().len(), 25);
    assert_eq!(world.wallet.new_address().unwrap().index, 26);
    let mut world = world.restart();
    assert_eq!(world.watched().len(), 27 + 25 + 25);
}

#[test]
fn twenty_unused_addresses_wait_and_then_the_oldest_comes_again() {
    let mut world = World::new();
    let first = world.wallet.new_address().unwrap();
    for index in 1..20 {
        assert_eq!(world.wallet.new_address().unwrap().index, index);
    }
    let again = world.wallet.new_address().unwrap();
    assert_eq!((again.index, again.reused, &again.address), (0, true, &first.address));
    let tx = world.payment_to(first.address.script_pubkey(), 9_000);
    world.mine(Some(tx));
    let next = world.wallet.new_address().unwrap();
    assert_eq!((next.index, next.reused), (20, false));
}

#[test]
fn a_transaction_indexed_before_a_script_was_derived_counts_when_it_is_told_again() {
    let mut world = World::new();
    let [near, far] = [0, 40].map(|i| {
        let state = world.wallet.0.state.lock().unwrap();
        state.bdk.peek_address(bdk_wallet::KeychainKind::External, i).script_pubkey()
    });
    let tx = transaction(vec![foreign_outpoint(1)], vec![(near, 1_000), (far, 2_000)]);
    world.mine(Some(tx.clone()));
    assert_eq!(world.balance().confirmed_sat, 1_000);
    let middle = world.wallet.0.state.lock().unwrap().bdk.peek_address(bdk_wallet::KeychainKind::External, 20);
    let other = world.payment_to(middle.script_pubkey(), 4_000);
    world.mine(Some(other));
    let header = world.tree.header_at(1).unwrap();
    world.deliver(Plan { block: Some(block(header, 1, tx)), ..Plan::default() });
    assert_eq!(world.balance().confirmed_sat, 7_000);
}

#[test]
fn an_address_that_could_not_be_written_is_not_handed_out() {
    let world = World::new();
    world.store.close().unwrap();
    assert!(world.wallet.new_address().is_err());
    let world = world.restart();
    assert_eq!(world.wallet.new_address().unwrap().index, 0);
}

#[test]
fn another_seed_does_not_open_this_wallet() {
    let world = World::new();
    let (inbox, _watches) = crate::engine::WatchInbox::new();
    let other = Xpriv::new_master(Network::Regtest, &[8; 32]).unwrap();
    let ledger = Ledger::open(world.store.clone());
    assert!(Wallet::open(world.store.clone(), ledger, &other, Network::Regtest, inbox).is_err());
}

#[test]
fn what_could_not_be_written_goes_with_the_next_write_and_is_not_promised_before() {
    let mut world = World::with_coins(&[50_000]);
    world.watched();
    let refuse = "CREATE TRIGGER full BEFORE INSERT ON bdk_descriptor_last_revealed
                  BEGIN SELECT raise(FAIL, 'disk full'); END";
    world.store.write("break", move |db| db.execute_batch(refuse)).unwrap();
    assert!(world.wallet.new_address().is_err());
    assert!(world.watched().is_empty(), "what is not on the disk is not watched");
    world.store.write("repair", |db| db.execute_batch("DROP TRIGGER full")).unwrap();
    let next = world.wallet.new_address().unwrap();
    assert_eq!(next.index, 2, "the one that was not handed out stays unused");
    assert_eq!(world.watched().len(), 2);
    let world = world.restart();
    assert_eq!(world.wallet.new_address().unwrap().index, 3);
}

#[test]
fn a_delivery_that_could_not_be_written_is_an_error_and_is_taken_again_after_the_restart() {
    let mut world = World::new();
    let tx = world.payment(50_000);
    let salt = world.salt();
    let header = next_header(&world.tree.header_at(0).unwrap(), tx.compute_txid().into(), salt);
    world.tree.accept(header, 1, u64::from(header.time)).unwrap();
    let plan = Plan { block: Some(block(header, 1, tx)), ..Plan::default() };
    world.store.close().unwrap();
    assert!(world.wallet.deliver(&plan, &world.tree).is_err());
    let world = world.restart();
    assert_eq!(world.balance().confirmed_sat, 0);
    world.deliver(plan.clone());
    world.deliver(plan);
    assert_eq!(world.balance().confirmed_sat, 50_000);
}
