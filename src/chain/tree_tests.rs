use std::collections::HashMap;

use bitcoin::Network;
use proptest::prelude::*;

use super::*;
use crate::chain::testing::{self, chain, genesis, mine, salted};

const LATE: u64 = 4_000_000_000;

fn regtest() -> HeaderTree {
    HeaderTree::new(Params::new(Network::Regtest))
}

fn extend(tree: &mut HeaderTree, from: u32, headers: &[Header]) -> Vec<Result<Accepted, Refused>> {
    (from..).zip(headers).map(|(height, header)| tree.accept(*header, height, LATE)).collect()
}

#[test]
fn the_longest_branch_is_the_best_and_the_first_seen_of_equals() {
    // g - a1 - a2 - a3
    //       \ b2 - b3 - b4
    let mut tree = regtest();
    let a = chain(&genesis(), 3, 1);
    let b = chain(&a[0], 3, 2);
    assert!(extend(&mut tree, 1, &a).iter().all(|r| *r == Ok(Accepted::Extended)));
    let old = tree.tip();
    assert_eq!(extend(&mut tree, 2, &b[..2]), [Ok(Accepted::Stale); 2]);
    assert_eq!(tree.tip(), old);
    let fork = BlockRef { height: 1, hash: a[0].block_hash() };
    assert_eq!(tree.accept(b[2], 4, LATE), Ok(Accepted::Reorganized { fork, old }));
    assert_eq!(tree.tip(), BlockRef { height: 4, hash: b[2].block_hash() });
    assert_eq!(tree.common(old), Some(fork));
    assert_eq!(tree.hash_at(2), Some(b[0].block_hash()));
    assert_eq!(tree.header_at(3), Some(b[1]));
    assert_eq!(tree.accept(b[1], 3, LATE), Ok(Accepted::Known));
    assert_eq!(tree.accept(a[1], 2, LATE), Ok(Accepted::Stale));

    // The old branch comes back with more work.
    let more = chain(&a[2], 2, 3);
    assert_eq!(tree.accept(more[0], 4, LATE), Ok(Accepted::Stale));
    assert!(matches!(tree.accept(more[1], 5, LATE), Ok(Accepted::Reorganized { fork: f, .. }) if f == fork));
    assert!(tree.contains(old));
}

#[test]
fn a_header_without_its_parent_or_at_another_height_says_nothing() {
    let mut tree = regtest();
    let a = chain(&genesis(), 5, 1);
    extend(&mut tree, 1, &a[..2]);
    assert_eq!(tree.accept(a[4], 5, LATE), Err(Refused::Unlinked));
    assert_eq!(tree.accept(a[4], 505, LATE), Err(Refused::Unlinked));
    assert_eq!(tree.accept(a[2], 4, LATE), Err(Refused::Unlinked));
    assert_eq!(tree.accept(a[1], u32::MAX, LATE), Err(Refused::Unlinked));
}

#[test]
fn another_genesis_or_a_first_block_on_another_genesis_is_a_lie() {
    let mut tree = regtest();
    let other = mine(&genesis(), salted(1));
    assert_eq!(tree.accept(other, 0, LATE), Err(Fault::Checkpoint.into()));
    assert_eq!(tree.accept(mine(&other, salted(2)), 1, LATE), Err(Fault::Checkpoint.into()));
}

#[test]
fn a_header_with_easier_bits_than_the_rules_give_is_a_lie() {
    let mut tree = regtest();
    let mut header = mine(&genesis(), salted(1));
    header.bits = bitcoin::CompactTarget::from_consensus(0x2100_ffff);
    assert_eq!(tree.accept(header, 1, LATE), Err(Fault::Bits.into()));
}

#[test]
fn a_flood_of_side_headers_does_not_grow_the_memory() {
    let mut tree = regtest();
    extend(&mut tree, 1, &chain(&genesis(), 3, 1));
    let mut refused = 0;
    for salt in 0..2 * MAX_SIDE as u64 {
        let flood = mine(&genesis(), salted(salt));
        refused += u32::from(tree.accept(flood, 1, LATE).is_err());
        assert!(tree.side.len() <= MAX_SIDE);
    }
    assert_eq!(refused, 0);
    assert_eq!(tree.height(), 3);
}

#[test]
fn a_branch_that_leaves_too_far_below_the_tip_is_not_kept() {
    let mut tree = regtest();
    let a = chain(&genesis(), MAX_REORG as usize + 2, 1);
    extend(&mut tree, 1, &a);
    assert_eq!(tree.accept(mine(&a[0], salted(7)), 2, LATE), Err(Refused::TooDeep));
    assert_eq!(tree.accept(mine(&a[1], salted(7)), 3, LATE), Ok(Accepted::Stale));
}

#[test]
fn stored_headers_are_taken_up_and_go_on() {
    let mut tree = regtest();
    let a = chain(&genesis(), 20, 1);
    extend(&mut tree, 1, &a[..15]);
    let mut again = HeaderTree::restore(Params::new(Network::Regtest), 0, tree.headers_from(0)).unwrap();
    assert_eq!(again.tip(), tree.tip());
    assert_eq!(again.work, tree.work + Target::MAX_ATTAINABLE_REGTEST.to_work());
    assert!(extend(&mut again, 16, &a[15..]).iter().all(|r| *r == Ok(Accepted::Extended)));
}

#[test]
fn damaged_or_foreign_stored_headers_are_refused() {
    let params = Params::new(Network::Regtest);
    let mut headers = vec![genesis()];
    headers.extend(chain(&genesis(), 5, 1));
    let mut broken = headers.clone();
    broken[3].time += 1;
    assert!(matches!(HeaderTree::restore(params.clone(), 0, broken), Err(RestoreError::Invalid(_))));
    let adrift = HeaderTree::restore(params.clone(), 2, headers[2..].to_vec());
    assert_eq!(adrift.err(), Some(RestoreError::Adrift));
    let foreign = HeaderTree::restore(Params::new(Network::Signet), 0, headers.clone());
    assert!(foreign.is_err());
    let shifted = HeaderTree::restore(params.clone(), 0, headers[1..].to_vec());
    assert_eq!(shifted.err(), Some(RestoreError::Invalid(Fault::Checkpoint)));
    assert!(HeaderTree::restore(params, 0, Vec::new()).is_ok());
}

/// A regtest with a checkpoint.
fn checkpointed(headers: &[Header], height: u32) -> Params {
    let mut params = Params::new(Network::Regtest);
    params.checkpoints.push(BlockRef { height, hash: headers[height as usize - 1].block_hash() });
    params
}

#[test]
fn a_tree_with_a_checkpoint_is_anchored_backwards_then_grows_then_reaches_further_down() {
    let a = chain(&genesis(), 2100, 1);
    let at = |height: u32| height as usize - 1;
    let mut tree = HeaderTree::new(checkpointed(&a, 2050));
    assert_eq!(tree.tip(), BlockRef { height: 2050, hash: a[at(2050)].block_hash() });
    assert_eq!(tree.header_at(2050), None);
    assert_eq!(tree.wants_anchor(), Some((2016, 35)));
    assert_eq!(tree.accept(a[at(2051)], 2051, LATE), Err(Refused::Unlinked));

    assert_eq!(tree.prepend(&a[at(2016)..at(2050)]), Err(Fault::Linkage));
    tree.prepend(&a[at(2016)..=at(2050)]).unwrap();
    assert_eq!((tree.base(), tree.height(), tree.wants_anchor()), (2016, 2050, None));
    assert_eq!(tree.hash_at(2015), Some(a[at(2015)].block_hash()));
    assert_eq!(extend(&mut tree, 2051, &a[at(2051)..]), [Ok(Accepted::Extended); 50]);

    let side = mine(&a[at(2040)], salted(5));
    assert_eq!(tree.accept(side, 2041, LATE), Err(Fault::Checkpoint.into()), "nothing forks below a checkpoint");
    let stored = tree.headers_from(tree.base());
    let again = HeaderTree::restore(tree.params().clone(), 2016, stored).unwrap();
    assert_eq!(again.tip(), tree.tip());

    tree.prepend(&a[at(100)..at(2016)]).unwrap();
    tree.prepend(&[&[genesis()], &a[..at(100)]].concat()).unwrap();
    assert_eq!((tree.base(), tree.header_at(0)), (0, Some(genesis())));
    assert_eq!(tree.prepend(&[genesis()]), Err(Fault::Linkage));
    assert_eq!(tree.header_at(1234), Some(a[at(1234)]));
}

#[test]
fn a_chain_that_passes_a_checkpoint_with_another_block_is_a_lie() {
    let a = chain(&genesis(), 30, 1);
    let mut params = checkpointed(&a, 20);
    params.checkpoints.push(BlockRef { height: 25, hash: a[2].block_hash() });
    let mut tree = HeaderTree::restore(checkpointed(&a, 20), 0, [&[genesis()], &a[..20]].concat()).unwrap();
    tree.params = params;
    let answers = extend(&mut tree, 21, &a[20..25]);
    assert_eq!(answers[4], Err(Fault::Checkpoint.into()));
    assert_eq!(answers[3], Ok(Accepted::Extended));
}

/// What the tree should say, the slow way: every header with its height, the longest first seen.
#[derive(Default)]
struct Model {
    heights: HashMap<BlockHash, u32>,
    best: Option<(u32, BlockHash)>,
}

impl Model {
    fn take(&mut self, header: &Header) -> bool {
        let Some(height) = self.heights.get(&header.prev_blockhash).map(|h| h + 1) else { return false };
        let hash = header.block_hash();
        self.heights.insert(hash, height);
        if self.best.is_none_or(|(best, _)| height > best) {
            self.best = Some((height, hash));
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_tree_agrees_with_a_naive_model(
        parents in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..160),
    ) {
        let mut blocks = vec![(genesis(), 0u32)];
        for (salt, parent) in parents.iter().enumerate() {
            // Half of the time on one of the last three, so that branches grow long.
            let recent = blocks.len().saturating_sub(3);
            let least = if salt % 2 == 0 { 0 } else { recent };
            let parent = least + parent.index(blocks.len() - least);
            let (header, height) = blocks[parent];
            blocks.push((mine(&header, salted(salt as u64)), height + 1));
        }
        let mut tree = regtest();
        let mut model = Model::default();
        model.heights.insert(genesis().block_hash(), 0);
        model.best = Some((0, genesis().block_hash()));
        let mut before = tree.clone();
        for pick in order.iter().map(|i| i.index(blocks.len())).chain(0..blocks.len()) {
            let (header, height) = blocks[pick];
            let known = model.heights.contains_key(&header.block_hash());
            let linked = known || model.take(&header);
            let outcome = tree.accept(header, height, LATE);
            prop_assert_eq!(outcome.is_ok(), linked);
            let (best, hash) = model.best.unwrap();
            prop_assert_eq!(tree.tip(), BlockRef { height: best, hash });
            // Best chain, work and side branches hang together.
            let mut prev = genesis().block_hash();
            for h in 1..=tree.height() {
                let header = tree.header_at(h).unwrap();
                prop_assert_eq!(header.prev_blockhash, prev);
                prev = header.block_hash();
                prop_assert_eq!(tree.hash_at(h), Some(prev));
            }
            if let Ok(Accepted::Reorganized { fork, old }) = outcome {
                prop_assert_eq!(old, before.tip());
                prop_assert!(before.contains(fork) && tree.contains(fork));
                prop_assert_ne!(before.hash_at(fork.height + 1), tree.hash_at(fork.height + 1));
            }
            before = tree.clone();
        }
        for (header, height) in &blocks {
            let block = BlockRef { height: *height, hash: header.block_hash() };
            prop_assert!(tree.common(block).is_some());
        }
        prop_assert_eq!(tree.side.len() + tree.best.len(), blocks.len());
    }
}

#[test]
fn the_clock_decides_only_about_the_future() {
    let mut tree = regtest();
    let a = chain(&genesis(), 12, 1);
    extend(&mut tree, 1, &a[..11]);
    let mut ahead = mine(&a[10], salted(3));
    ahead.time = a[10].time + 10_000;
    testing::grind(&mut ahead);
    assert_eq!(tree.accept(ahead, 12, a[10].time.into()), Err(Refused::Future));
    assert_eq!(tree.accept(ahead, 12, u64::from(a[10].time) + 2_800), Ok(Accepted::Extended));
}
