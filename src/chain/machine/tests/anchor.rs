//! Networks with a checkpoint: the tree begins there, and reaches down when a proof needs it.

use super::*;
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;

/// A chain of 2,500 blocks with an early deposit to 1, one at 2,040 to 2, and a checkpoint at 2,050.
fn world(seed: u64) -> World {
    let mut node = Node::new(20);
    node.mine(&[deposit(1, &[1])]);
    node.mine_empty(2018);
    node.mine(&[deposit(2, &[2])]);
    node.mine_empty(460);
    let mut params = Params::new(bitcoin::Network::Regtest);
    params.checkpoints.push(BlockRef { height: 2050, hash: node.blocks[2050].0.block_hash() });
    World::with_params(params, node, &[(1, WALLET), (2, LIGHTNING)], seed)
}

#[test]
fn the_period_of_the_checkpoint_is_fetched_first_and_older_headers_for_older_proofs() {
    for seed in SEEDS {
        let mut world = world(seed);
        world.connect();
        world.settle();
        world.assert_complete();
        let headers: Vec<_> = world.asked.iter().filter(|r| matches!(r, Request::Headers { .. })).collect();
        let request = |start, count| Request::Headers { start, count };
        assert_eq!(headers, [&request(2016, 35), &request(2051, 450), &request(0, 2016)]);
        assert_eq!((world.store.base, world.store.headers.len()), (0, 2501));

        world.forget();
        world.restart();
        world.connect();
        world.settle();
        world.assert_complete();
        assert_eq!(world.count(is_fetch), 0);
    }
}

#[test]
fn a_server_without_the_checkpoint_lies() {
    let mut world = world(1);
    let other = Node::new(2500);
    world.node = other;
    world.connect();
    world.settle();
    assert_eq!(world.reports, [Report::Lie(Lie::Header)]);
    assert_eq!(world.machine.tree().height(), 2050);
}

#[test]
fn older_headers_that_do_not_link_are_a_lie() {
    let mut world = world(1);
    let foreign = Node::new(2016).blocks.iter().map(|b| b.0).take(2016).collect();
    world.lies.push((Request::Headers { start: 0, count: 2016 }, Ok(Reply::Headers(foreign))));
    world.connect();
    world.settle();
    assert_eq!(world.reports, [Report::Lie(Lie::Header)]);
}

#[test]
fn older_headers_that_are_refused_degrade_the_watch_and_the_rest_goes_on() {
    let mut world = world(1);
    world.lies.push((Request::Headers { start: 0, count: 2016 }, Err(Refusal::Error)));
    world.connect();
    world.settle_within(200_000);
    assert_eq!(world.reports, [Report::Degraded { script: hash_of(1) }]);
    assert_eq!(world.listener.confirmed.len(), 1);
    assert_eq!(world.listener.tip.map(|tip| tip.height), Some(2500));
}

#[test]
fn a_fresh_tree_restored_from_nothing_waits_for_its_anchor() {
    let world = world(1);
    let tree = HeaderTree::restore(world.machine.tree().params().clone(), 0, Vec::new()).unwrap();
    assert_eq!(tree.wants_anchor(), Some((2016, 35)));
}
