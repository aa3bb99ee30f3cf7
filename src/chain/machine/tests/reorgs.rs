//! Reorganisations. Chains are drawn with the old branch above and the new one below.

use super::*;

#[test]
fn a_reorg_unconfirms_at_the_fork_and_proves_again_above_it() {
    //  b5 - b6 … b(5+depth)          each with a deposit to 1
    //     \ b6' … b(6+depth)'        the same deposits, one block later each
    for (depth, seed) in (1..=6).flat_map(|depth| SEEDS.map(move |seed| (depth, seed))) {
        let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], seed);
        for n in 0..depth {
            world.block(&[deposit(n, &[1]), deposit(100 + n, &[2])]);
        }
        world.assert_complete();
        world.forget();
        let old = world.node.unwind(depth as usize);
        world.node.mine_empty(1);
        for txs in &old {
            world.node.mine(txs);
        }
        world.push(seed % 2 == 0);
        world.settle();
        world.assert_complete();
        let forks: Vec<_> = world.plans().iter().map(|p| p.fork.map(|f| f.height)).collect();
        assert_eq!(forks[0], Some(5));
        assert!(forks[1..].iter().all(|fork| fork.is_none()), "the fork is told once");
        assert_eq!(world.count(|r| matches!(r, Request::Transaction { .. })), 0, "the bodies are the same");
        assert_eq!(world.reports, []);
    }
}

#[test]
fn a_reorg_that_leaves_every_status_as_it_was_is_seen_all_the_same() {
    //  b5 - b6(deposit)
    //     \ b6'(deposit) - b7'
    for seed in SEEDS {
        let mut world = World::new(Node::new(5), &[(1, WALLET)], seed);
        let paid = deposit(1, &[1]);
        world.block(&[paid.clone()]);
        let before = world.node.status(hash_of(1));
        world.forget();
        world.node.unwind(1);
        world.node.mine(&[deposit(9, &[9]), paid]);
        world.node.mine_empty(1);
        assert_eq!(world.node.status(hash_of(1)), before);
        world.push_tip();
        world.settle();
        world.assert_complete();
        assert_eq!(world.plans()[0].fork.map(|f| f.height), Some(5));
    }
}

#[test]
fn a_branch_with_no_more_work_changes_nothing() {
    let mut world = World::new(Node::new(5), &[(1, WALLET)], 1);
    world.block(&[deposit(1, &[1])]);
    world.forget();
    let old = world.node.clone();
    world.node.unwind(1);
    world.node.mine_empty(1);
    world.push_tip();
    world.settle();
    assert!(world.plans().is_empty());
    world.node = old;
    world.push_tip();
    world.block(&[]);
    world.assert_complete();
    assert!(world.plans().iter().all(|p| p.fork.is_none()));
}

#[test]
fn a_branch_that_comes_and_goes_before_anything_is_told_leaves_no_trace() {
    //  b5 - b6 - - - - - b7 - b8
    //     \ b6' - b7'
    let mut world = World::new(Node::new(5), &[(2, LIGHTNING)], 3);
    world.block(&[deposit(1, &[2])]);
    world.forget();
    let mut other = world.node.clone();
    world.node.mine_empty(2);
    other.unwind(1);
    other.mine_empty(2);
    std::mem::swap(&mut world.node, &mut other);
    world.push_tip();
    while world.answer_one() {}
    assert_eq!(world.machine.tree().height(), 7);
    assert!(world.plans().is_empty(), "still gathering");
    std::mem::swap(&mut world.node, &mut other);
    world.push(true);
    world.settle();
    world.assert_complete();
    assert!(world.plans().iter().all(|p| p.fork.is_none()), "LDK would close a channel for nothing");
}

#[test]
fn a_deposit_that_a_reorg_throws_out_is_unconfirmed_again() {
    let mut world = World::new(Node::new(5), &[(1, WALLET)], 2);
    let paid = deposit(1, &[1]);
    world.block(&[paid.clone()]);
    world.forget();
    world.node.unwind(1);
    world.node.mine_empty(2);
    world.node.mempool.push(paid.clone());
    world.push(true);
    world.settle();
    world.assert_complete();
    assert!(world.listener.unconfirmed.contains(&paid.compute_txid()));
}

#[test]
fn a_crash_between_a_reorg_and_its_delivery_forgets_nothing() {
    for seed in SEEDS {
        let mut world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING)], seed);
        world.block(&[deposit(1, &[1])]);
        world.block(&[deposit(2, &[2])]);
        world.forget();
        let old = world.node.unwind(2);
        world.node.mine(&old[1]);
        world.node.mine(&old[0]);
        world.node.mine_empty(1);
        world.push(true);
        while world.machine.tree().height() != 8 {
            assert!(world.answer_one());
        }
        assert!(world.plans().is_empty());
        world.restart();
        world.connect();
        world.settle();
        world.assert_complete();
        assert_eq!(world.plans()[0].fork.map(|f| f.height), Some(5));
    }
}

#[test]
fn a_told_tip_that_the_stored_headers_do_not_know_stops_the_start() {
    let world = World::new(Node::new(5), &[], 1);
    let tree = world.machine.tree().clone();
    let tip = BlockRef { height: 3, hash: tree.tip().hash };
    let start = Machine::new(tree, Vec::new(), Some(Told { tip, fork: None }));
    assert_eq!(start.err(), Some(UnknownTold(tip)));
}
