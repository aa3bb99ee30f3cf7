use std::collections::HashMap;

use bitcoin::consensus::encode::serialize;

use super::super::tests::{genesis, id, mine, outside, pays};
use super::*;
use crate::chain::merkle;

fn look(raw: &[u8], hash: BlockHash, coins: &HashMap<OutPoint, ScriptHash>) -> Result<Search, SourceError> {
    search(raw, hash, |script| [id(1), id(2)].contains(script), |coin| coins.get(coin).copied())
}

#[test]
fn a_block_tells_what_pays_us_and_what_spends_from_us_with_proofs() {
    let paid = pays(outside(1), &[7, 1]);
    let ours = OutPoint::new(paid.compute_txid(), 1);
    let spent_at_once = pays(ours, &[8]);
    let spent_later = pays(outside(9), &[7]);
    let known = HashMap::from([(outside(9), id(2))]);
    let mut txs = vec![pays(outside(2), &[7]), paid, pays(outside(3), &[7]), spent_at_once, spent_later];
    txs.extend((20..50).map(|number| pays(outside(number), &[9])));
    let block = mine(&genesis().header, 0, &txs);
    let seen = look(&serialize(&block), block.block_hash(), &known).unwrap();
    assert_eq!(seen.header, block.header);
    assert_eq!(seen.coins, HashMap::from([(ours, id(1))]));
    let found: Vec<_> =
        seen.found.iter().map(|one| (one.pos, one.scripts.iter().copied().collect::<Vec<_>>())).collect();
    assert_eq!(found, [(2, vec![id(1)]), (4, vec![id(1)]), (5, vec![id(2)])]);
    for one in seen.found {
        assert_eq!(one.tx.compute_txid(), one.txid);
        merkle::prove(one.tx, one.branch, one.pos, block.header, 1).unwrap();
    }
}

#[test]
fn branches_are_right_for_every_place_in_blocks_of_every_size() {
    for size in 0..20u8 {
        let txs: Vec<_> = (1..=size).map(|number| pays(outside(number), &[1])).collect();
        let block = mine(&genesis().header, 0, &txs);
        let seen = look(&serialize(&block), block.block_hash(), &HashMap::new()).unwrap();
        assert_eq!(seen.found.len(), usize::from(size));
        for one in seen.found {
            merkle::prove(one.tx, one.branch, one.pos, block.header, 1).unwrap();
        }
    }
}

#[test]
fn a_block_with_anything_left_out_put_in_or_bent_is_refused() {
    let txs: Vec<_> = (1..=4).map(|number| pays(outside(number), &[number])).collect();
    let block = mine(&genesis().header, 0, &txs);
    let (raw, hash) = (serialize(&block), block.block_hash());
    assert!(look(&raw, hash, &HashMap::new()).is_ok());

    let mut shorter = block.clone();
    shorter.txdata.remove(2);
    let mut longer = block.clone();
    longer.txdata.push(pays(outside(9), &[1]));
    let mut swapped = block.clone();
    swapped.txdata.swap(1, 2);
    let mut other = mine(&genesis().header, 1, &txs);
    other.header.time += 1;
    for wrong in [shorter, longer, swapped, other] {
        assert!(look(&serialize(&wrong), hash, &HashMap::new()).is_err());
    }
    for end in 0..raw.len() {
        assert!(look(&raw[..end], hash, &HashMap::new()).is_err(), "cut at {end}");
    }
    let mut padded = raw.clone();
    padded.push(0);
    assert!(look(&padded, hash, &HashMap::new()).is_err());
    // A number of transactions that would take all memory.
    let mut many = raw[..80].to_vec();
    many.extend([0xff; 9]);
    assert!(look(&many, hash, &HashMap::new()).is_err());
}
