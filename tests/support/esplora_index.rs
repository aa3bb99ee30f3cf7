//! What the Esplora server of the tests knows: blocks, transactions and scripts, fed by a bitcoind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use bitcoin::consensus::encode::{deserialize_hex, serialize, serialize_hex};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Block, BlockHash, Network, OutPoint, Script, Transaction, TxOut, Txid};
use corepc_client::client_sync::v29::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, DuplexStream, ReadBuf};

use super::esplora::Page;

const PAGE: usize = 25;
const MEMPOOL: usize = 50;
const BLOCKS: usize = 10;

type ScriptKey = [u8; 32];

/// The index; brought up to date with each question.
pub(crate) struct Index {
    client: Client,
    chain: Vec<Block>,
    heights: HashMap<BlockHash, usize>,
    txs: HashMap<Txid, Known>,
    spent: HashMap<OutPoint, (Txid, usize)>,
    mempool: BTreeSet<Txid>,
}

struct Known {
    tx: Transaction,
    /// Height and place.
    block: Option<(usize, usize)>,
    scripts: BTreeSet<ScriptKey>,
}

fn key(script: &Script) -> ScriptKey {
    sha256::Hash::hash(script.as_bytes()).to_byte_array()
}

impl Index {
    pub(crate) fn new(client: Client) -> Self {
        let (chain, heights, txs, spent) = Default::default();
        let mut index = Self { client, chain, heights, txs, spent, mempool: BTreeSet::new() };
        // So that the first question is not the one that waits for it.
        index.update();
        index
    }

    fn call<T: serde::de::DeserializeOwned>(&self, method: &str, params: &[Value]) -> T {
        let value: Value = self.client.call(method, params).expect("bitcoind answers");
        serde_json::from_value(value).expect("bitcoind answers as documented")
    }

    fn update(&mut self) {
        let best: BlockHash = self.call("getbestblockhash", &[]);
        let mut new = Vec::new();
        let mut at = best;
        while !self.heights.contains_key(&at) {
            let block: Block =
                deserialize_hex(&self.call::<String>("getblock", &[json!(at), json!(0)])).expect("a block");
            at = block.header.prev_blockhash;
            new.push(block);
            if at == BlockHash::all_zeros() {
                break;
            }
        }
        let keep = self.heights.get(&at).map_or(0, |height| height + 1);
        while self.chain.len() > keep {
            let block = self.chain.pop().expect("it is longer");
            self.heights.remove(&block.block_hash());
            for tx in &block.txdata {
                self.forget(tx.compute_txid());
            }
        }
        for block in new.into_iter().rev() {
            let height = self.chain.len();
            for (pos, tx) in block.txdata.iter().enumerate() {
                self.learn(tx.clone(), Some((height, pos)));
            }
            self.heights.insert(block.block_hash(), height);
            self.chain.push(block);
        }
        // Parents before children.
        let entries: HashMap<Txid, Value> = self.call("getrawmempool", &[json!(true)]);
        let mut order: Vec<_> = entries.iter().map(|(txid, entry)| (entry["ancestorcount"].as_u64(), *txid)).collect();
        order.sort_unstable();
        for txid in self.mempool.iter().copied().filter(|txid| !entries.contains_key(txid)).collect::<Vec<_>>() {
            self.mempool.remove(&txid);
            if self.txs.get(&txid).is_some_and(|known| known.block.is_none()) {
                self.forget(txid);
            }
        }
        for (_, txid) in order {
            if self.mempool.insert(txid) {
                let raw: Result<Value, _> = self.client.call("getrawtransaction", &[json!(txid)]);
                match raw.ok().and_then(|raw| deserialize_hex(raw.as_str()?).ok()) {
                    Some(tx) => self.learn(tx, None),
                    None => drop(self.mempool.remove(&txid)),
                }
            }
        }
    }

    fn learn(&mut self, tx: Transaction, block: Option<(usize, usize)>) {
        let txid = tx.compute_txid();
        let mut scripts: BTreeSet<ScriptKey> = tx.output.iter().map(|out| key(&out.script_pubkey)).collect();
        for (vin, input) in tx.input.iter().enumerate() {
            if let Some(prevout) = self.output(&input.previous_output) {
                scripts.insert(key(&prevout.script_pubkey));
            }
            self.spent.insert(input.previous_output, (txid, vin));
        }
        self.txs.insert(txid, Known { tx, block, scripts });
    }

    fn forget(&mut self, txid: Txid) {
        let Some(known) = self.txs.remove(&txid) else { return };
        for input in &known.tx.input {
            if self.spent.get(&input.previous_output).is_some_and(|(by, _)| *by == txid) {
                self.spent.remove(&input.previous_output);
            }
        }
        self.mempool.remove(&txid);
    }

    fn output(&self, at: &OutPoint) -> Option<&TxOut> {
        self.txs.get(&at.txid).and_then(|known| known.tx.output.get(at.vout as usize))
    }

    pub(crate) fn get(&mut self, path: &str) -> Page {
        self.update();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let answer = match parts[..] {
            ["blocks", "tip", "hash"] => Ok(Page::ok(self.tip().to_string())),
            ["blocks", "tip", "height"] => Ok(Page::ok((self.chain.len() - 1).to_string())),
            ["blocks"] => self.blocks(self.chain.len() - 1),
            ["blocks", height] => height.parse().map_err(|_| invalid("number")).and_then(|height| self.blocks(height)),
            ["block-height", height] => height.parse::<usize>().map_err(|_| invalid("number")).and_then(|height| {
                let block = self.chain.get(height).ok_or_else(|| missing("Block not found"))?;
                Ok(Page::ok(block.block_hash().to_string()))
            }),
            ["block", hash, ref rest @ ..] => self.block(hash, rest),
            ["scripthash", script, ref rest @ ..] => self.script(script, rest),
            ["tx", txid, ref rest @ ..] => self.tx(txid, rest),
            ["mempool"] => Ok(Page::json(&json!({
                "count": self.mempool.len(), "vsize": 0, "total_fee": 0, "fee_histogram": [],
            }))),
            ["mempool", "txids"] => Ok(Page::json(&json!(self.mempool))),
            ["mempool", "recent"] => Ok(Page::json(&json!([]))),
            ["fee-estimates"] => Ok(Page::json(&json!({}))),
            _ => Err(missing(&format!("endpoint does not exist {path:?}"))),
        };
        answer.unwrap_or_else(|refusal| refusal)
    }

    fn tip(&self) -> BlockHash {
        self.chain.last().expect("genesis").block_hash()
    }

    fn blocks(&self, height: usize) -> Result<Page, Page> {
        if height >= self.chain.len() {
            return Err(missing("Block not found"));
        }
        let all: Vec<Value> = (0..=height).rev().take(BLOCKS).map(|height| self.block_value(height)).collect();
        Ok(Page::json(&json!(all)))
    }

    fn block_value(&self, height: usize) -> Value {
        let block = &self.chain[height];
        let header = &block.header;
        let mut times: Vec<u32> =
            self.chain[height.saturating_sub(10)..=height].iter().map(|b| b.header.time).collect();
        times.sort_unstable();
        let previous = (height > 0).then_some(header.prev_blockhash);
        json!({
            "id": block.block_hash(), "height": height, "version": header.version.to_consensus(),
            "timestamp": header.time, "tx_count": block.txdata.len(), "size": block.total_size(),
            "weight": block.weight().to_wu(), "merkle_root": header.merkle_root, "previousblockhash": previous,
            "mediantime": times[times.len() / 2], "nonce": header.nonce, "bits": header.bits.to_consensus(),
            "difficulty": header.difficulty_float(),
        })
    }

    fn block(&self, hash: &str, rest: &[&str]) -> Result<Page, Page> {
        let hash: BlockHash = hash.parse().map_err(|_| invalid("hex string"))?;
        let known = self.heights.get(&hash);
        if rest == ["status"] {
            let next = known.and_then(|height| self.chain.get(height + 1)).map(Block::block_hash);
            return Ok(Page::json(&json!({ "in_best_chain": known.is_some(), "height": known, "next_best": next })));
        }
        let height = *known.ok_or_else(|| missing("Block not found"))?;
        let block = &self.chain[height];
        match rest {
            [] => Ok(Page::json(&self.block_value(height))),
            ["header"] => Ok(Page::ok(serialize_hex(&block.header))),
            ["raw"] => Ok(Page::ok(serialize(block))),
            ["txids"] => {
                let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
                Ok(Page::json(&json!(txids)))
            }
            ["txid", index] => {
                let index: usize = index.parse().map_err(|_| invalid("number"))?;
                let tx = block.txdata.get(index).ok_or_else(|| missing("tx index out of range"))?;
                Ok(Page::ok(tx.compute_txid().to_string()))
            }
            _ => Err(missing("endpoint does not exist")),
        }
    }

    /// A script's transactions, newest first; within a block by id.
    fn history(&self, script: &ScriptKey, confirmed: bool) -> Vec<(&Txid, &Known)> {
        let ours = |(_, known): &(&Txid, &Known)| known.block.is_some() == confirmed && known.scripts.contains(script);
        let mut all: Vec<_> = self.txs.iter().filter(ours).collect();
        all.sort_by_key(|(txid, known)| std::cmp::Reverse((known.block.map(|(height, _)| height), **txid)));
        all
    }

    fn script(&self, script: &str, rest: &[&str]) -> Result<Page, Page> {
        let script = <ScriptKey as bitcoin::hex::FromHex>::from_hex(script).map_err(|_| invalid("scripthash"))?;
        let confirmed = self.history(&script, true);
        let pending = self.history(&script, false);
        let list = |all: Vec<(&Txid, &Known)>| {
            let values: Vec<Value> = all.into_iter().map(|(txid, known)| self.tx_value(txid, known)).collect();
            Ok(Page::json(&json!(values)))
        };
        match rest {
            [] => Ok(Page::json(&json!({
                "scripthash": script.to_lower_hex_string(),
                "chain_stats": self.stats(&script, &confirmed), "mempool_stats": self.stats(&script, &pending),
            }))),
            ["txs"] => {
                let pending = pending.into_iter().take(MEMPOOL);
                list(pending.chain(confirmed.into_iter().take(PAGE)).collect())
            }
            ["txs", "mempool"] => list(pending.into_iter().take(MEMPOOL).collect()),
            ["txs", "chain"] => list(confirmed.into_iter().take(PAGE).collect()),
            ["txs", "chain", last] => {
                let last: Txid = last.parse().map_err(|_| invalid("hex string"))?;
                let after = confirmed.into_iter().skip_while(|(txid, _)| **txid != last).skip(1);
                list(after.take(PAGE).collect())
            }
            _ => Err(missing("endpoint does not exist")),
        }
    }

    fn stats(&self, script: &ScriptKey, all: &[(&Txid, &Known)]) -> Value {
        let (mut funded, mut spent) = (Vec::new(), Vec::new());
        for (_, known) in all {
            funded.extend(known.tx.output.iter().filter(|out| key(&out.script_pubkey) == *script).map(|out| out.value));
            let prevouts = known.tx.input.iter().filter_map(|input| self.output(&input.previous_output));
            spent.extend(prevouts.filter(|out| key(&out.script_pubkey) == *script).map(|out| out.value));
        }
        let sum = |all: &[bitcoin::Amount]| all.iter().map(|value| value.to_sat()).sum::<u64>();
        json!({
            "tx_count": all.len(), "funded_txo_count": funded.len(), "funded_txo_sum": sum(&funded),
            "spent_txo_count": spent.len(), "spent_txo_sum": sum(&spent),
        })
    }

    fn tx(&self, txid: &str, rest: &[&str]) -> Result<Page, Page> {
        let txid: Txid = txid.parse().map_err(|_| invalid("hex string"))?;
        let known = self.txs.get(&txid);
        let found = || known.ok_or_else(|| missing("Transaction not found"));
        match rest {
            [] => Ok(Page::json(&self.tx_value(&txid, found()?))),
            ["raw"] => Ok(Page::ok(serialize(&found()?.tx))),
            ["hex"] => Ok(Page::ok(serialize_hex(&found()?.tx))),
            ["status"] => Ok(Page::json(&self.status(known.and_then(|known| known.block)))),
            ["merkle-proof"] => {
                let block = known.and_then(|known| known.block);
                let (height, pos) = block.ok_or_else(|| missing("Transaction not found or is unconfirmed"))?;
                Ok(Page::json(&json!({ "block_height": height, "merkle": self.branch(height, pos), "pos": pos })))
            }
            ["merkleblock-proof"] => {
                known
                    .and_then(|known| known.block)
                    .ok_or_else(|| missing("Transaction not found or is unconfirmed"))?;
                Ok(Page::ok(self.call::<String>("gettxoutproof", &[json!([txid])])))
            }
            ["outspend", vout] => {
                let vout = vout.parse().map_err(|_| invalid("number"))?;
                Ok(Page::json(&self.outspend(&OutPoint::new(txid, vout))))
            }
            ["outspends"] => {
                let outputs = 0..u32::try_from(found()?.tx.output.len()).expect("few");
                let all: Vec<Value> = outputs.map(|vout| self.outspend(&OutPoint::new(txid, vout))).collect();
                Ok(Page::json(&json!(all)))
            }
            _ => Err(missing("endpoint does not exist")),
        }
    }

    fn outspend(&self, at: &OutPoint) -> Value {
        match self.spent.get(at) {
            None => json!({ "spent": false }),
            Some((txid, vin)) => {
                let status = self.status(self.txs.get(txid).and_then(|known| known.block));
                json!({ "spent": true, "txid": txid, "vin": vin, "status": status })
            }
        }
    }

    fn status(&self, block: Option<(usize, usize)>) -> Value {
        match block {
            None => json!({ "confirmed": false }),
            Some((height, _)) => {
                let header = &self.chain[height].header;
                let (hash, time) = (header.block_hash(), header.time);
                json!({ "confirmed": true, "block_height": height, "block_hash": hash, "block_time": time })
            }
        }
    }

    fn tx_value(&self, txid: &Txid, known: &Known) -> Value {
        let tx = &known.tx;
        let mut paid = 0;
        let vin: Vec<Value> = tx
            .input
            .iter()
            .map(|input| {
                let prevout = self.output(&input.previous_output);
                paid += prevout.map_or(0, |out| out.value.to_sat());
                let witness: Vec<String> = input.witness.iter().map(|item| item.to_lower_hex_string()).collect();
                json!({
                    "txid": input.previous_output.txid, "vout": input.previous_output.vout,
                    "prevout": prevout.map(output_value), "scriptsig": input.script_sig.to_hex_string(),
                    "scriptsig_asm": input.script_sig.to_asm_string(), "witness": witness,
                    "is_coinbase": tx.is_coinbase(), "sequence": input.sequence.to_consensus_u32(),
                })
            })
            .collect();
        let vout: Vec<Value> = tx.output.iter().map(output_value).collect();
        let earned: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
        json!({
            "txid": txid, "version": tx.version.0, "locktime": tx.lock_time.to_consensus_u32(), "vin": vin,
            "vout": vout, "size": tx.total_size(), "weight": tx.weight().to_wu(), "sigops": 0,
            "fee": paid.saturating_sub(earned), "status": self.status(known.block),
        })
    }

    fn branch(&self, height: usize, mut pos: usize) -> Vec<String> {
        let mut row: Vec<[u8; 32]> =
            self.chain[height].txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        let mut branch = Vec::new();
        while row.len() > 1 {
            if row.len() % 2 == 1 {
                row.push(row[row.len() - 1]);
            }
            branch.push(Txid::from_byte_array(row[pos ^ 1]).to_string());
            let pair = |two: &[[u8; 32]]| bitcoin::hashes::sha256d::Hash::hash(&two.concat()).to_byte_array();
            row = row.chunks(2).map(pair).collect();
            pos /= 2;
        }
        branch
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> Page {
        match path {
            "/tx" => match self.client.call::<Value>("sendrawtransaction", &[json!(body.trim())]) {
                Ok(txid) => Page::ok(txid.as_str().unwrap_or_default()),
                Err(error) => Page::new(400, format!("sendrawtransaction RPC error: {error}")),
            },
            "/txs/package" => {
                let Ok(txs) = serde_json::from_str::<Vec<String>>(body) else { return Page::new(400, "Invalid JSON") };
                match self.client.call::<Value>("submitpackage", &[json!(txs)]) {
                    Ok(result) => Page::json(&result),
                    Err(error) => Page::new(400, format!("submitpackage RPC error: {error}")),
                }
            }
            _ => missing(&format!("endpoint does not exist {path:?}")),
        }
    }
}

fn missing(what: &str) -> Page {
    Page::new(404, what)
}

fn invalid(what: &str) -> Page {
    Page::new(400, format!("Invalid {what}"))
}

fn output_value(output: &TxOut) -> Value {
    let script = &output.script_pubkey;
    let kinds: BTreeMap<&str, bool> = BTreeMap::from([
        ("p2pkh", script.is_p2pkh()),
        ("p2sh", script.is_p2sh()),
        ("v0_p2wpkh", script.is_p2wpkh()),
        ("v0_p2wsh", script.is_p2wsh()),
        ("v1_p2tr", script.is_p2tr()),
        ("op_return", script.is_op_return()),
    ]);
    let kind = kinds.iter().find(|(_, is)| **is).map_or("unknown", |(kind, _)| kind);
    let mut value = json!({
        "scriptpubkey": script.to_hex_string(), "scriptpubkey_asm": script.to_asm_string(),
        "scriptpubkey_type": kind, "value": output.value.to_sat(),
    });
    if let Ok(address) = Address::from_script(script, Network::Regtest) {
        value["scriptpubkey_address"] = json!(address.to_string());
    }
    value
}

/// A body that comes in drips.
pub(crate) struct Drip(pub(crate) DuplexStream);

impl HttpBody for Drip {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        match Pin::new(&mut self.0).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => match buffer.filled() {
                [] => Poll::Ready(None),
                drip => Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::copy_from_slice(drip))))),
            },
        }
    }
}
