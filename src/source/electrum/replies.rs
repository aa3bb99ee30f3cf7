//! Validation at the door: a result is read strictly into the reply of its request. Pure.
//!
//! Checked here, and not again behind: lengths, ranges, order, duplicates, hex. Not checked here: whether it is true.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize, deserialize_hex};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Transaction, TxMerkleNode, Txid};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::decimal::scaled;
use super::super::error::{Breach, NoAnswer, SourceError};
use crate::chain::io::{HistoryEntry, Reply, Request, ScriptHash, Status};

/// Bytes of a header.
const HEADER: usize = 80;
/// More than any branch has (a block has fewer than 2^20 transactions); the machine's own bound is tighter.
const MAX_BRANCH: usize = 32;
/// Heights are below this for the next ten thousand years (and lock times above it are times).
pub(in crate::source) const MAX_HEIGHT: u32 = 500_000_000;

fn malformed(why: &'static str) -> SourceError {
    NoAnswer::Malformed(why).into()
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, why: &'static str) -> Result<T, SourceError> {
    serde_json::from_str(raw.get()).map_err(|_| malformed(why))
}

/// Reads the result of `request`.
pub fn read_reply(request: &Request, raw: &RawValue) -> Result<Reply, SourceError> {
    match *request {
        Request::Headers { count, .. } => headers(raw, count).map(Reply::Headers),
        Request::Subscribe { .. } => status(raw).map(Reply::Status),
        Request::History { .. } => history(raw).map(Reply::History),
        Request::Transaction { .. } => transaction(raw).map(|tx| Reply::Transaction(Arc::new(tx))),
        Request::Proof { height, .. } => proof_of(raw, height),
        // It takes two results: `first_of`, and its body.
        Request::Coinbase { .. } => Err(malformed("coinbase")),
    }
}

/// `{count, hex}` up to protocol 1.5, `{count, headers}` from 1.6 on.
fn headers(raw: &RawValue, asked: u32) -> Result<Vec<Header>, SourceError> {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        count: u32,
        #[serde(borrow)]
        hex: Option<Cow<'a, str>>,
        #[serde(borrow)]
        headers: Option<Vec<Cow<'a, str>>>,
    }
    const WHY: &str = "headers";
    let chunk: Chunk = read(raw, WHY)?;
    let hex = match (chunk.hex, chunk.headers) {
        (Some(hex), None) => hex,
        (None, Some(list)) if list.iter().all(|one| one.len() == 2 * HEADER) => list.concat().into(),
        _ => return Err(malformed(WHY)),
    };
    if chunk.count > asked || hex.len() as u64 != u64::from(chunk.count) * 2 * HEADER as u64 {
        return Err(malformed("headers: their number"));
    }
    let bytes = Vec::from_hex(&hex).map_err(|_| malformed(WHY))?;
    bytes.chunks_exact(HEADER).map(|one| deserialize(one).map_err(|_| malformed(WHY))).collect()
}

fn status(raw: &RawValue) -> Result<Option<Status>, SourceError> {
    let text: Option<Cow<str>> = read(raw, "status")?;
    text.map(|text| <[u8; 32]>::from_hex(&text).map(Status).map_err(|_| malformed("status"))).transpose()
}

/// Confirmed entries in chain order, then those of the mempool (height 0 or −1).
fn history(raw: &RawValue) -> Result<Vec<HistoryEntry>, SourceError> {
    #[derive(Deserialize)]
    struct Entry {
        tx_hash: Txid,
        height: i64,
    }
    let entries: Vec<Entry> = read(raw, "history")?;
    let mut seen = HashSet::with_capacity(entries.len());
    let mut last = Some(0);
    let mut history = Vec::with_capacity(entries.len());
    for Entry { tx_hash: txid, height } in entries {
        let height = match height {
            -1 | 0 => None,
            _ => Some(block_height(height).ok_or(malformed("history: a height"))?),
        };
        // `None` is the mempool and ends the chain part; within that, heights ascend.
        if height.is_some() && (last.is_none() || height < last) {
            return Err(malformed("history: its order"));
        }
        if !seen.insert(txid) {
            return Err(malformed("history: a transaction twice"));
        }
        last = height;
        history.push(HistoryEntry { txid, height });
    }
    Ok(history)
}

fn block_height(height: i64) -> Option<u32> {
    u32::try_from(height).ok().filter(|height| *height < MAX_HEIGHT)
}

/// A body; its id is not yet compared with the one asked for.
pub(super) fn transaction(raw: &RawValue) -> Result<Transaction, SourceError> {
    let hex: Cow<str> = read(raw, "transaction")?;
    deserialize_hex(&hex).map_err(|_| malformed("transaction"))
}

/// A branch; Esplora gives it in the same form.
pub(in crate::source) fn proof_of(raw: &RawValue, asked: u32) -> Result<Reply, SourceError> {
    #[derive(Deserialize)]
    struct Branch {
        block_height: i64,
        merkle: Vec<TxMerkleNode>,
        pos: u64,
    }
    const WHY: &str = "proof";
    let branch: Branch = read(raw, WHY)?;
    if branch.block_height != i64::from(asked) || branch.merkle.len() > MAX_BRANCH {
        return Err(malformed(WHY));
    }
    let pos = u32::try_from(branch.pos).map_err(|_| Breach::Position)?;
    Ok(Reply::Proof { branch: branch.merkle, pos })
}

/// Result of `blockchain.transaction.id_from_pos` with a branch: the id, and its branch.
pub fn first_of(raw: &RawValue) -> Result<(Txid, Vec<TxMerkleNode>), SourceError> {
    #[derive(Deserialize)]
    struct First {
        tx_hash: Txid,
        merkle: Vec<TxMerkleNode>,
    }
    const WHY: &str = "first transaction";
    let first: First = read(raw, WHY)?;
    match first.merkle.len() > MAX_BRANCH {
        true => Err(malformed(WHY)),
        false => Ok((first.tx_hash, first.merkle)),
    }
}

#[derive(Deserialize)]
struct TipText<'a> {
    #[serde(borrow)]
    hex: Cow<'a, str>,
    height: i64,
}

fn tip_of(text: &TipText) -> Result<(Header, u32), SourceError> {
    let header = deserialize_hex(&text.hex).map_err(|_| malformed("tip"))?;
    Ok((header, block_height(text.height).ok_or(malformed("tip: its height"))?))
}

/// Result of `blockchain.headers.subscribe`.
pub fn tip(raw: &RawValue) -> Result<(Header, u32), SourceError> {
    tip_of(&read(raw, "tip")?)
}

/// Parameters of a pushed tip.
pub fn pushed_tip(params: &RawValue) -> Result<(Header, u32), SourceError> {
    let [text]: [TipText; 1] = read(params, "tip")?;
    tip_of(&text)
}

/// Parameters of a pushed status.
pub fn pushed_status(params: &RawValue) -> Result<(ScriptHash, Option<Status>), SourceError> {
    let (script, raw): (Cow<str>, &RawValue) = read(params, "pushed status")?;
    let mut script = <[u8; 32]>::from_hex(&script).map_err(|_| malformed("pushed status"))?;
    script.reverse();
    Ok((ScriptHash(script), status(raw)?))
}

/// A rate in BTC per 1000 virtual bytes, as satoshi; `None`: the server has no estimate (or an absurd one).
pub fn rate(raw: &RawValue) -> Option<u64> {
    scaled(raw.get(), 8).filter(|rate| *rate > 0)
}

/// Result of `mempool.get_info`: the higher of what is relayed and what is kept.
pub fn mempool_floor(raw: &RawValue) -> Result<Option<u64>, SourceError> {
    #[derive(Deserialize)]
    struct Info<'a> {
        #[serde(borrow)]
        mempoolminfee: Option<&'a RawValue>,
        #[serde(borrow)]
        minrelaytxfee: Option<&'a RawValue>,
    }
    let info: Info = read(raw, "mempool info")?;
    Ok(info.mempoolminfee.and_then(rate).max(info.minrelaytxfee.and_then(rate)))
}

/// Result of `mempool.get_fee_histogram`: `[[sat/vB, vbytes], …]`, highest rate first.
pub fn histogram(raw: &RawValue) -> Result<Vec<(u64, u64)>, SourceError> {
    const WHY: &str = "fee histogram";
    let bins: Vec<(&RawValue, u64)> = read(raw, WHY)?;
    let bins: Vec<(u64, u64)> = bins
        .into_iter()
        .map(|(rate, size)| scaled(rate.get(), 3).map(|rate| (rate, size)).ok_or(malformed(WHY)))
        .collect::<Result<_, _>>()?;
    match bins.windows(2).all(|pair| pair[0].0 >= pair[1].0) {
        true => Ok(bins),
        false => Err(malformed(WHY)),
    }
}

/// A hash, as in the result of a broadcast.
pub fn txid(raw: &RawValue) -> Result<Txid, SourceError> {
    read(raw, "txid")
}

/// Result of `blockchain.transaction.broadcast_package`: the texts of its rejections, none when it was taken.
pub fn package_errors(raw: &RawValue) -> Result<Vec<String>, SourceError> {
    #[derive(Deserialize)]
    struct Package {
        success: bool,
        #[serde(default)]
        errors: Vec<Failed>,
    }
    #[derive(Deserialize)]
    struct Failed {
        error: String,
    }
    let package: Package = read(raw, "package")?;
    let errors: Vec<String> = package.errors.into_iter().map(|failed| failed.error).collect();
    Ok(match (package.success, errors.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec!["no reason given".into()],
        (false, false) => errors,
    })
}

/// Method and parameters of a request.
pub(super) fn method(request: &Request) -> (&'static str, String) {
    match *request {
        Request::Headers { start, count } => ("blockchain.block.headers", format!("[{start},{count}]")),
        Request::Subscribe { script } => ("blockchain.scripthash.subscribe", script_params(script)),
        Request::History { script } => ("blockchain.scripthash.get_history", script_params(script)),
        Request::Transaction { txid } => ("blockchain.transaction.get", format!("[\"{txid}\"]")),
        Request::Proof { txid, height } => ("blockchain.transaction.get_merkle", format!("[\"{txid}\",{height}]")),
        Request::Coinbase { height } => ("blockchain.transaction.id_from_pos", format!("[{height},0,true]")),
    }
}

fn script_params(script: ScriptHash) -> String {
    let mut bytes = script.0;
    bytes.reverse();
    format!("[\"{}\"]", bytes.as_hex())
}

/// Hash of a header, as in the result of `blockchain.block.header`.
pub(super) fn header_hash(raw: &RawValue) -> Result<bitcoin::BlockHash, SourceError> {
    let hex: Cow<str> = read(raw, "header")?;
    let header: Header = deserialize_hex(&hex).map_err(|_| malformed("header"))?;
    Ok(header.block_hash())
}

/// `genesis_hash` of `server.features`, where given.
pub(super) fn genesis(raw: &RawValue) -> Option<bitcoin::BlockHash> {
    #[derive(Deserialize)]
    struct Features {
        genesis_hash: bitcoin::BlockHash,
    }
    serde_json::from_str::<Features>(raw.get()).ok().map(|features| features.genesis_hash)
}
