//! A whole block, searched for what concerns us. Pure.
//!
//! A block that hashes to its header's root is all that there is in it: what is not found was not there. So a server
//! can hide a block, which other servers and the clock tell, but nothing in one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::VarInt;
use bitcoin::hashes::{Hash, HashEngine};
use bitcoin::{BlockHash, OutPoint, Transaction, TxMerkleNode, Txid};

use super::super::error::{NoAnswer, SourceError};
use crate::chain::io::ScriptHash;

/// A transaction has 60 bytes at least.
const LEAST_TX: u64 = 60;

/// What a block has for us.
#[derive(Clone, Debug)]
pub struct Search {
    /// Its header; its hash is the one asked for.
    pub header: Header,
    /// In block order.
    pub found: Vec<Found>,
    /// Outputs in it that pay a followed script.
    pub coins: HashMap<OutPoint, ScriptHash>,
}

/// A transaction that pays or spends from followed scripts.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub txid: Txid,
    /// Its body.
    pub tx: Arc<Transaction>,
    /// Its place in the block.
    pub pos: u32,
    /// Its merkle branch, from the leaf upwards.
    pub branch: Vec<TxMerkleNode>,
    /// The scripts.
    pub scripts: BTreeSet<ScriptHash>,
}

fn malformed(why: &'static str) -> SourceError {
    NoAnswer::Malformed(why).into()
}

/// The header of a raw block, which must have the hash that was asked for.
pub fn header(raw: &[u8], asked: BlockHash) -> Result<Header, SourceError> {
    let header = Header::consensus_decode(&mut &raw[..]).map_err(|_| malformed("block: its header"))?;
    match header.block_hash() == asked {
        true => Ok(header),
        false => Err(malformed("block: another one")),
    }
}

/// Searches a raw block for transactions that pay a `followed` script or spend a coin of one. `owner` knows the coins
/// of the blocks before.
pub fn search(
    raw: &[u8],
    asked: BlockHash,
    followed: impl Fn(&ScriptHash) -> bool,
    owner: impl Fn(&OutPoint) -> Option<ScriptHash>,
) -> Result<Search, SourceError> {
    const WHY: &str = "block";
    let header = header(raw, asked)?;
    let mut rest = &raw[80..];
    let VarInt(count) = VarInt::consensus_decode(&mut rest).map_err(|_| malformed(WHY))?;
    if count == 0 || count > rest.len() as u64 / LEAST_TX {
        return Err(malformed("block: its number of transactions"));
    }
    let (mut found, mut coins, mut txids) = (Vec::new(), HashMap::new(), Vec::new());
    for pos in 0u32.. {
        if u64::from(pos) == count {
            break;
        }
        let tx = Transaction::consensus_decode_from_finite_reader(&mut rest).map_err(|_| malformed(WHY))?;
        let txid = tx.compute_txid();
        txids.push(txid);
        let mut scripts = BTreeSet::new();
        for (vout, output) in (0..).zip(&tx.output) {
            let script = ScriptHash::of(&output.script_pubkey);
            if followed(&script) {
                coins.insert(OutPoint::new(txid, vout), script);
                scripts.insert(script);
            }
        }
        let spent = tx.input.iter().map(|input| &input.previous_output);
        scripts.extend(spent.filter_map(|coin| coins.get(coin).copied().or_else(|| owner(coin))));
        if !scripts.is_empty() {
            found.push(Found { txid, tx: Arc::new(tx), pos, branch: Vec::new(), scripts });
        }
    }
    if !rest.is_empty() || climb(&txids, &mut found) != header.merkle_root {
        return Err(malformed("block: it is not what its header says"));
    }
    Ok(Search { header, found, coins })
}

/// The root over these leaves; on the way up, the found ones get their branches.
fn climb(txids: &[Txid], found: &mut [Found]) -> TxMerkleNode {
    let mut row: Vec<TxMerkleNode> = txids.iter().map(|txid| TxMerkleNode::from(*txid)).collect();
    let mut level = 0;
    while row.len() > 1 {
        if row.len() % 2 == 1 {
            row.extend_from_within(row.len() - 1..);
        }
        for one in &mut *found {
            one.branch.push(row[(one.pos as usize >> level) ^ 1]);
        }
        row = row.chunks_exact(2).map(pair).collect();
        level += 1;
    }
    row.first().copied().unwrap_or_else(TxMerkleNode::all_zeros)
}

fn pair(nodes: &[TxMerkleNode]) -> TxMerkleNode {
    let mut engine = TxMerkleNode::engine();
    for node in nodes {
        engine.input(node.as_ref());
    }
    TxMerkleNode::from_engine(engine)
}

#[cfg(test)]
#[path = "tests/block.rs"]
mod tests;
