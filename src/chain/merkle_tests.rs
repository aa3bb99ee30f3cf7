use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Witness, absolute, transaction};
use proptest::prelude::*;

use super::*;
use crate::chain::testing::{self, branch_of, parent_of, root_of};

/// A transaction whose output script has `script` bytes; 4 make it 64 bytes long.
fn tx(salt: u32, script: usize) -> Arc<Transaction> {
    Arc::new(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(salt),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(vec![0x51; script]) }],
    })
}

fn block(count: u32) -> Vec<Arc<Transaction>> {
    (0..count).map(|salt| tx(salt, 22)).collect()
}

fn header(root: TxMerkleNode) -> Header {
    testing::mine(&testing::genesis(), root)
}

fn prove_at(txs: &[Arc<Transaction>], pos: usize, header: Header) -> Result<ProvenTx, ProofError> {
    prove(txs[pos].clone(), branch_of(txs, pos), pos as u32, header, 7)
}

#[test]
fn every_transaction_of_a_block_is_proven_at_its_place_and_at_no_other() {
    for count in 1..20 {
        let txs = block(count);
        let header = header(root_of(&txs));
        for pos in 0..txs.len() {
            let proven = prove_at(&txs, pos, header).unwrap();
            assert_eq!((proven.txid(), proven.pos(), proven.height()), (txs[pos].compute_txid(), pos as u32, 7));
            assert_eq!(proven.block().hash, header.block_hash());
            for other in 0..64 {
                let moved = prove(txs[pos].clone(), branch_of(&txs, pos), other, header, 7);
                assert_eq!(moved.is_ok(), other == pos as u32, "{pos} at {other} of {count}");
            }
        }
    }
}

#[test]
fn a_proof_survives_being_stored() {
    let txs = block(5);
    let header = header(root_of(&txs));
    let proven = prove_at(&txs, 4, header).unwrap();
    let record = proven.to_record();
    assert_eq!(prove(record.tx, record.branch, record.pos, header, record.height), Ok(proven));
}

#[test]
fn a_position_outside_the_tree_is_refused_and_does_not_panic() {
    let txs = block(4);
    let header = header(root_of(&txs));
    for pos in [4, 1 << 15, 1 << 24, u32::MAX] {
        let proof = prove(txs[0].clone(), branch_of(&txs, 0), pos, header, 7);
        assert_eq!(proof, Err(ProofError::Position), "{pos}");
    }
}

#[test]
fn a_branch_deeper_than_a_block_can_be_is_refused() {
    let txs = block(1);
    let mut root = TxMerkleNode::from(txs[0].compute_txid());
    let branch: Vec<_> = (0..16).map(testing::salted).collect();
    for sibling in &branch {
        root = parent_of(root, *sibling);
    }
    let deep = header(root);
    assert_eq!(prove(txs[0].clone(), branch.clone(), 0, deep, 7), Err(ProofError::TooDeep));
    assert_eq!(prove(txs[0].clone(), branch[..15].to_vec(), 0, deep, 7), Err(ProofError::WrongRoot));
}

/// What a server shows of the first transaction of a block.
fn coinbase(txs: &[Arc<Transaction>]) -> Coinbase {
    Coinbase { tx: txs[0].clone(), branch: branch_of(txs, 0) }
}

fn beside(txs: &[Arc<Transaction>], coinbase: Coinbase, pos: usize) -> Result<ProvenTx, ProofError> {
    prove_beside(coinbase, txs[pos].clone(), branch_of(txs, pos), pos as u32, header(root_of(txs)), 7)
}

#[test]
fn beside_its_coinbase_a_transaction_of_any_length_is_proven_and_stays_so_when_it_is_stored() {
    for count in 1..10 {
        for size in [4, 22] {
            let txs: Vec<_> = (0..count).map(|salt| tx(salt, size)).collect();
            for pos in 0..txs.len() {
                let proven = beside(&txs, coinbase(&txs), pos).unwrap();
                assert_eq!((proven.txid(), proven.pos()), (txs[pos].compute_txid(), pos as u32));
                assert_eq!(prove_again(proven.to_record(), *proven.header()), Ok(proven));
            }
        }
    }
}

#[test]
fn beside_the_coinbase_only_a_branch_as_long_as_its_own_is_believed() {
    let txs = block(2);
    // The last leaf, as if it were two nodes; the other direction stands with the sync machine.
    let deeper = tx(9, 22);
    let left = testing::salted(1);
    let leaf = parent_of(left, deeper.compute_txid().into());
    let row = [txs[0].compute_txid().into(), leaf];
    let root = header(parent_of(row[0], row[1]));
    let shown = |branch: Vec<TxMerkleNode>, pos| {
        let first = Coinbase { tx: txs[0].clone(), branch: vec![leaf] };
        prove_beside(first, deeper.clone(), branch, pos, root, 7)
    };
    assert_eq!(shown(vec![left, row[0]], 3), Err(ProofError::WrongDepth));
    assert_eq!(shown(vec![left], 1), Err(ProofError::WrongRoot));
}

#[test]
fn what_is_no_coinbase_of_this_block_decides_nothing() {
    let mut txs = block(4);
    let other = Coinbase { tx: tx(9, 22), branch: branch_of(&txs, 0) };
    assert_eq!(beside(&txs, other, 1), Err(ProofError::WrongRoot));
    let second = Coinbase { tx: txs[1].clone(), branch: branch_of(&txs, 1) };
    assert_eq!(beside(&txs, second, 1), Err(ProofError::WrongRoot));
    let deep = Coinbase { tx: txs[0].clone(), branch: (0..16).map(testing::salted).collect() };
    assert_eq!(beside(&txs, deep, 1), Err(ProofError::TooDeep));
    Arc::make_mut(&mut txs[0]).input[0].previous_output.vout = 0;
    assert_eq!(beside(&txs, coinbase(&txs), 1), Err(ProofError::NoCoinbase));
}

/// CVE-2017-12842, upwards: a transaction of 64 bytes stands for two nodes below it.
#[test]
fn a_transaction_of_64_bytes_is_no_leaf_by_itself() {
    let txs = [tx(1, 22), tx(2, 4)];
    assert_eq!(txs[1].base_size(), 64);
    let real = prove_at(&txs, 1, header(root_of(&txs))).unwrap_err();
    assert_eq!((real, real.is_undecided()), (ProofError::LeafLikeNode, true));
    let invented = prove_at(&txs, 1, header(testing::salted(1))).unwrap_err();
    assert_eq!((invented, invented.is_undecided()), (ProofError::WrongRoot, false));
}

/// CVE-2017-12842, downwards: the 64 bytes of a mined transaction are read as two nodes, of which the right one is
/// the id of a transaction that was never mined.
#[test]
fn an_inner_node_that_reads_as_a_transaction_decides_nothing() {
    let (left, right) = halves(&tx(2, 4));
    let above = parent_of(left, right);
    for (leaf, sibling, pos) in [(right, left, 1), (left, right, 0)] {
        let invented = Txid::from_byte_array(leaf.to_byte_array());
        assert_eq!(root(invented, &[sibling], pos), Ok((above, true)));
        assert!(root(invented, &[sibling, testing::salted(1)], pos).unwrap().1);
    }
}

/// Ids can be tried until two of them read as a transaction, so that nobody would believe in what they stand for.
#[test]
fn two_ids_that_read_as_a_transaction_which_no_block_can_hold_are_two_ids() {
    let spends = |vout, sat| {
        let mut tx = Transaction::clone(&tx(2, 4));
        tx.input[0].previous_output = OutPoint::new(Txid::from_byte_array([7; 32]), vout);
        tx.output[0].value = Amount::from_sat(sat);
        let (left, right) = halves(&tx);
        root(Txid::from_byte_array(left.to_byte_array()), &[right], 0).unwrap().1
    };
    let most = Amount::MAX_MONEY.to_sat();
    assert_eq!([spends(0, 0), spends(100_000, most)], [true, true]);
    assert_eq!([spends(0, most + 1), spends(200_000, 1), spends(u32::MAX, 1)], [false, false, false]);
    // Nothing spent, nothing paid: four zeros, and 51 bytes that are no transaction without a witness.
    let [zeros, odd] = [TxMerkleNode::all_zeros(), testing::salted(5)];
    assert!(!root(Txid::from_byte_array(zeros.to_byte_array()), &[odd], 0).unwrap().1);
}

/// The first and the second half of a transaction's 64 bytes, as nodes.
fn halves(tx: &Transaction) -> (TxMerkleNode, TxMerkleNode) {
    let bytes = consensus::serialize(tx);
    assert_eq!(bytes.len(), 64);
    let node = |half: &[u8]| TxMerkleNode::from_slice(half).unwrap();
    (node(&bytes[..32]), node(&bytes[32..]))
}

/// CVE-2012-2459: [a, b, c] and [a, b, c, c] have the same root; in the second, the last `c` is a copy.
#[test]
fn a_node_that_equals_its_left_sibling_is_refused_and_its_right_one_is_not() {
    let txs = block(3);
    let copied = [txs.clone(), vec![txs[2].clone()]].concat();
    assert_eq!(root_of(&txs), root_of(&copied));
    let header = header(root_of(&txs));
    assert!(prove_at(&txs, 2, header).is_ok());
    assert_eq!(prove_at(&copied, 3, header), Err(ProofError::Duplicate));
}

#[test]
fn the_copy_of_a_whole_subtree_is_refused_too() {
    let txs = block(6);
    let copied = [&txs[..], &txs[4..]].concat();
    assert_eq!(root_of(&txs), root_of(&copied));
    let header = header(root_of(&txs));
    assert!(prove_at(&txs, 5, header).is_ok());
    for pos in [6, 7] {
        assert_eq!(prove_at(&copied, pos, header), Err(ProofError::Duplicate));
    }
}

proptest! {
    #[test]
    fn a_proof_with_one_bit_changed_proves_nothing(
        count in 1u32..40,
        pos in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let txs = block(count);
        let pos = pos.index(txs.len());
        let header = header(root_of(&txs));
        let mut bytes: Vec<[u8; 32]> = branch_of(&txs, pos).iter().map(|n| n.to_byte_array()).collect();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len() * 32);
        bytes[at / 32][at % 32] ^= 1 << bit;
        let branch = bytes.into_iter().map(TxMerkleNode::from_byte_array).collect();
        prop_assert_eq!(prove(txs[pos].clone(), branch, pos as u32, header, 7), Err(ProofError::WrongRoot));
    }

    #[test]
    fn nothing_makes_it_panic(branch in prop::collection::vec(any::<[u8; 32]>(), 0..20), pos: u32) {
        let branch = branch.into_iter().map(TxMerkleNode::from_byte_array).collect();
        prop_assert!(prove(tx(1, 22), branch, pos, testing::genesis(), 7).is_err());
    }
}
