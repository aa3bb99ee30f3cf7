//! Validation at the door: a body is read strictly into what was asked for. Pure.
//!
//! The shapes are those of `esplora-client`. Checked here, and not again behind: depth, lengths, ranges, order,
//! duplicates, and that a header has the hash by which it goes. Not checked here: whether it is true.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, OutPoint, Transaction, TxMerkleNode, Txid};
use esplora_client::{EsploraTx, SubmitPackageResult};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::decimal::scaled;
use super::super::electrum::replies::{MAX_HEIGHT, proof_of};
use super::super::electrum::wire::{MAX_DEPTH, deeper_than};
use super::super::error::{NoAnswer, SourceError};
use crate::chain::io::{Reply, ScriptHash};

/// Bytes of a page of history: 75 transactions with what they spend, in JSON. A script that gets larger ones is flooded.
pub const MOST_PAGE: usize = 8_000_000;
/// Bytes of a page of blocks, of estimates, of a proof, of the outcome of a broadcast.
pub const MOST_SMALL: usize = 64 << 10;
/// Bytes of a hash or a header in hex.
pub const MOST_HASH: usize = 1 << 10;
/// Bytes of a transaction, and of a block: its weight bounds both.
pub const MOST_RAW: usize = 4_000_000;
/// Blocks of a page (Esplora 10, mempool 15).
const MOST_BLOCKS: usize = 100;

fn malformed(why: &'static str) -> SourceError {
    NoAnswer::Malformed(why).into()
}

fn text<'a>(body: &'a [u8], why: &'static str) -> Result<&'a str, SourceError> {
    std::str::from_utf8(body).map(str::trim).map_err(|_| malformed(why))
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8], why: &'static str) -> Result<T, SourceError> {
    if deeper_than(body, MAX_DEPTH) {
        return Err(malformed("an answer is nested too deep"));
    }
    serde_json::from_slice(body).map_err(|_| malformed(why))
}

/// A hash: `/blocks/tip/hash`, `/block-height/:height`.
pub fn block_hash(body: &[u8]) -> Result<BlockHash, SourceError> {
    text(body, "hash")?.parse().map_err(|_| malformed("hash"))
}

/// A txid, as the answer to a broadcast.
pub fn txid(body: &[u8]) -> Result<Txid, SourceError> {
    text(body, "txid")?.parse().map_err(|_| malformed("txid"))
}

/// What a header needs of a listed block. `esplora-client` has this too, but reads the version as signed, where servers
/// write it unsigned: a miner who sets its highest bit would lock all out for ten blocks.
#[derive(Deserialize)]
struct ListedBlock {
    id: BlockHash,
    height: u32,
    version: i64,
    timestamp: u32,
    merkle_root: TxMerkleNode,
    previousblockhash: Option<BlockHash>,
    nonce: u32,
    bits: u32,
}

impl ListedBlock {
    fn header(&self) -> Option<Header> {
        let unsigned = || u32::try_from(self.version).map(|version| i32::from_ne_bytes(version.to_ne_bytes()));
        let header = Header {
            version: Version::from_consensus(i32::try_from(self.version).or_else(|_| unsigned()).ok()?),
            prev_blockhash: self.previousblockhash.unwrap_or_else(BlockHash::all_zeros),
            merkle_root: self.merkle_root,
            time: self.timestamp,
            bits: CompactTarget::from_consensus(self.bits),
            nonce: self.nonce,
        };
        (header.block_hash() == self.id && self.height < MAX_HEIGHT).then_some(header)
    }
}

/// `/blocks[/:start]`: headers with their heights, ascending and linked, each with the hash that it goes by.
pub fn blocks(body: &[u8]) -> Result<Vec<(u32, Header)>, SourceError> {
    let listed: Vec<ListedBlock> = json(body, "blocks")?;
    if listed.is_empty() || listed.len() > MOST_BLOCKS {
        return Err(malformed("blocks: their number"));
    }
    let headers = listed.iter().rev().map(|one| Some((one.height, one.header()?)));
    let headers: Vec<_> = headers.collect::<Option<_>>().ok_or(malformed("blocks: a header"))?;
    let linked =
        |pair: &[(u32, Header)]| pair[0].0 + 1 == pair[1].0 && pair[0].1.block_hash() == pair[1].1.prev_blockhash;
    match headers.windows(2).all(linked) {
        true => Ok(headers),
        false => Err(malformed("blocks: their order")),
    }
}

/// One line of a page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The transaction.
    pub txid: Txid,
    /// Its claimed height; `None`: in the mempool.
    pub height: Option<u32>,
    /// Its body, where what the page tells of it adds up to its id.
    pub tx: Option<Arc<Transaction>>,
    /// Transactions that it spends from.
    pub parents: Vec<Txid>,
    /// Its outputs that pay the script.
    pub coins: Vec<OutPoint>,
}

/// `/scripthash/:hash/txs…`: first the mempool, then the chain from above.
pub fn history(body: &[u8], script: ScriptHash) -> Result<Vec<Listed>, SourceError> {
    let txs: Vec<EsploraTx> = json(body, "history")?;
    let mut seen = HashSet::with_capacity(txs.len());
    let mut last: Option<u32> = None;
    let mut page = Vec::with_capacity(txs.len());
    for tx in txs {
        let height = match (tx.status.confirmed, tx.status.block_height) {
            (false, _) => None,
            (true, Some(height)) if height < MAX_HEIGHT => Some(height),
            (true, _) => return Err(malformed("history: a height")),
        };
        if last.is_some_and(|last| height.is_none_or(|height| height > last)) {
            return Err(malformed("history: its order"));
        }
        if !seen.insert(tx.txid) {
            return Err(malformed("history: a transaction twice"));
        }
        last = height;
        page.push(listed(tx, height, script));
    }
    Ok(page)
}

fn listed(tx: EsploraTx, height: Option<u32>, script: ScriptHash) -> Listed {
    let txid = tx.txid;
    let body = Transaction::from(&tx);
    let pays = (0..).zip(&body.output).filter(|(_, out)| ScriptHash::of(&out.script_pubkey) == script);
    let coins = pays.map(|(vout, _)| OutPoint::new(txid, vout)).collect();
    let parents = body.input.iter().map(|input| input.previous_output.txid).collect();
    let tx = (body.compute_txid() == txid).then(|| Arc::new(body));
    Listed { txid, height, tx, parents, coins }
}

/// `/tx/:txid/raw`.
pub fn transaction(body: &[u8]) -> Result<Transaction, SourceError> {
    deserialize(body).map_err(|_| malformed("transaction"))
}

/// `/tx/:txid/merkle-proof`: the branch in Electrum's form, for a transaction asked for at `height`.
pub fn proof(body: &[u8], height: u32) -> Result<Reply, SourceError> {
    proof_of(json(body, "proof")?, height)
}

/// `/fee-estimates` for these targets, in sat per 1000 virtual bytes. A target that is not listed has the rate of the
/// next faster one; a rate that is no amount is absent.
pub fn estimates(body: &[u8], targets: &[u16]) -> Result<Vec<(u16, u64)>, SourceError> {
    let raw: BTreeMap<Cow<str>, &RawValue> = json(body, "fee estimates")?;
    let known: BTreeMap<u16, u64> = raw
        .into_iter()
        .filter_map(|(target, rate)| Some((target.parse().ok()?, scaled(rate.get(), 3)?)))
        .filter(|(_, rate)| *rate > 0)
        .collect();
    let at = |target: &u16| known.range(..=*target).next_back().map(|(_, rate)| (*target, *rate));
    Ok(targets.iter().filter_map(at).collect())
}

/// `fee_histogram` of `/mempool`.
pub fn histogram(body: &[u8]) -> Result<Vec<(u64, u64)>, SourceError> {
    #[derive(Deserialize)]
    struct Mempool<'a> {
        #[serde(borrow)]
        fee_histogram: &'a RawValue,
    }
    let mempool: Mempool = json(body, "mempool")?;
    super::super::electrum::replies::histogram(mempool.fee_histogram)
}

/// `POST /txs/package`: the texts of its rejections, none when it was taken.
pub fn package_errors(body: &[u8]) -> Result<Vec<String>, SourceError> {
    let package: SubmitPackageResult = json(body, "package")?;
    let errors: Vec<String> = package.tx_results.into_values().filter_map(|result| result.error).collect();
    Ok(match (package.package_msg == "success", errors.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec![package.package_msg],
        (false, false) => errors,
    })
}

#[cfg(test)]
#[path = "tests/replies.rs"]
mod tests;
