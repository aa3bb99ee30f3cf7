//! The client against a server made of a chain in memory, which can be told to misbehave.

mod conversation;
mod hostile;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness, constants, transaction,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::chain::io::ScriptHash;

/// A script of a test, by number.
pub(super) fn script(number: u8) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51, 0x01, number])
}

pub(super) fn id(number: u8) -> ScriptHash {
    ScriptHash::of(&script(number))
}

/// Spends `from` to `to`.
pub(super) fn pays(from: OutPoint, to: &[u8]) -> Transaction {
    let output = |number: &u8| TxOut { value: Amount::from_sat(1000), script_pubkey: script(*number) };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: to.iter().map(output).collect(),
    }
}

/// An outpoint of nobody's.
pub(super) fn outside(number: u8) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([number; 32]), 0)
}

/// A block on `parent` with these transactions behind its reward.
pub(super) fn mine(parent: &Header, salt: u32, txs: &[Transaction]) -> Block {
    let mut reward = pays(OutPoint::null(), &[0]);
    reward.lock_time = LockTime::from_consensus(salt);
    reward.input[0].script_sig = ScriptBuf::from_bytes(parent.block_hash().to_byte_array()[..20].to_vec());
    let header = Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: parent.time + 600,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block { header, txdata: std::iter::once(reward).chain(txs.iter().cloned()).collect() };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

pub(super) fn genesis() -> Block {
    constants::genesis_block(Network::Regtest)
}

/// What an answer is on the wire.
#[derive(Clone)]
pub(super) enum Say {
    Bytes(Vec<u8>),
    /// These, and then nothing, with the connection open.
    AndWait(Vec<u8>),
    HangUp,
}

pub(super) fn http(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Say {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Say::Bytes(bytes)
}

pub(super) fn ok(body: impl AsRef<[u8]>) -> Say {
    http("200 OK", "", body)
}

pub(super) fn missing() -> Say {
    http("404 Not Found", "", "Block not found")
}

type Rule = Box<dyn FnMut(&str) -> Option<Say> + Send>;

/// A chain in memory that is served.
#[derive(Default)]
pub(super) struct State {
    pub(super) chain: Vec<Block>,
    pub(super) mempool: Vec<Transaction>,
    /// Answers instead of the honest one.
    pub(super) rule: Option<Rule>,
    pub(super) asked: Vec<String>,
}

/// The server. It ends with the runtime of the test.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        server.with(|state| state.chain.push(genesis()));
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn rule(&self, rule: impl FnMut(&str) -> Option<Say> + Send + 'static) {
        self.with(|state| state.rule = Some(Box::new(rule)));
    }

    /// Mines these, and gives the block.
    pub(super) fn mine(&self, txs: &[Transaction]) -> Block {
        self.with(|state| {
            let block = mine(&state.chain.last().unwrap().header, 0, txs);
            state.mempool.retain(|tx| !txs.contains(tx));
            state.chain.push(block.clone());
            block
        })
    }

    /// How often something was asked for.
    pub(super) fn count(&self, part: &str) -> usize {
        self.with(|state| state.asked.iter().filter(|path| path.contains(part)).count())
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + length.map_or(0, |length| length.parse::<usize>().unwrap());
            while buffer.len() < whole {
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            buffer.drain(..whole);
            let path = head.split(' ').nth(1).unwrap().to_owned();
            match self.with(|state| state.answer(&path)) {
                Say::Bytes(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Say::AndWait(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    tokio::time::sleep(Duration::from_secs(600)).await;
                }
                Say::HangUp => return,
            }
        }
    }
}

impl State {
    fn answer(&mut self, path: &str) -> Say {
        self.asked.push(path.to_owned());
        if let Some(said) = self.rule.as_mut().and_then(|rule| rule(path)) {
            return said;
        }
        let tip = self.chain.len() - 1;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts[..] {
            ["block-height", height] => match self.chain.get(height.parse::<usize>().unwrap()) {
                Some(block) => ok(block.block_hash().to_string()),
                None => missing(),
            },
            ["blocks", "tip", "hash"] => ok(self.chain[tip].block_hash().to_string()),
            ["blocks"] => ok(self.blocks(tip)),
            ["blocks", height] => match height.parse::<usize>().unwrap() {
                height if height <= tip => ok(self.blocks(height)),
                _ => missing(),
            },
            ["block", hash, "raw"] => match self.find(hash) {
                Some(block) => ok(serialize(block)),
                None => missing(),
            },
            ["block", hash, "txid", index] => {
                let at =
                    |block: &Block| block.txdata.get(index.parse::<usize>().unwrap()).map(Transaction::compute_txid);
                self.find(hash).and_then(at).map_or_else(missing, |txid| ok(txid.to_string()))
            }
            ["tx", txid, "raw"] => self.placed(txid).map_or_else(missing, |(_, _, tx)| ok(serialize(tx))),
            ["tx", txid, "merkle-proof"] => self.placed(txid).map_or_else(missing, |(height, pos, _)| {
                // Blocks with one or two transactions.
                let sibling = self.chain[height].txdata.get(1 - pos).map(|tx| tx.compute_txid().to_string());
                let merkle: Vec<String> = sibling.into_iter().collect();
                ok(json!({ "block_height": height, "merkle": merkle, "pos": pos }).to_string())
            }),
            ["scripthash", hash, "txs"] => ok(self.history(hash, true)),
            ["scripthash", hash, "txs", "mempool"] => ok(self.history(hash, false)),
            ["scripthash", _, "txs", "chain", _] => ok("[]"),
            ["tx"] => http("400 Bad Request", "", "sendrawtransaction RPC error -26: min relay fee not met, 1 < 2"),
            ["fee-estimates"] => ok(r#"{"1":9.5,"2":8.25,"6":4,"144":1.001,"1008":1}"#),
            ["mempool"] => ok(r#"{"count":1,"vsize":2,"total_fee":3,"fee_histogram":[[10.5,2000],[1.0,100]]}"#),
            _ => http("404 Not Found", "", "endpoint does not exist"),
        }
    }

    /// Height, position and body of a confirmed transaction.
    fn placed(&self, txid: &str) -> Option<(usize, usize, &Transaction)> {
        let all = self
            .chain
            .iter()
            .enumerate()
            .flat_map(|(height, block)| block.txdata.iter().enumerate().map(move |(pos, tx)| (height, pos, tx)));
        all.into_iter().find(|(_, _, tx)| tx.compute_txid().to_string() == txid)
    }

    fn find(&self, hash: &str) -> Option<&Block> {
        let hash: BlockHash = hash.parse().ok()?;
        self.chain.iter().find(|block| block.block_hash() == hash)
    }

    fn blocks(&self, height: usize) -> String {
        let value = |height: usize| block_value(&self.chain[height], height);
        Value::from((0..=height).rev().take(10).map(value).collect::<Vec<_>>()).to_string()
    }

    fn history(&self, hash: &str, confirmed: bool) -> String {
        let mut owners = HashMap::new();
        let mut all = Vec::new();
        let chain = self
            .chain
            .iter()
            .enumerate()
            .flat_map(|(height, block)| block.txdata.iter().zip([height].into_iter().cycle()));
        let everything = chain.map(|(tx, height)| (tx, Some(height))).chain(self.mempool.iter().map(|tx| (tx, None)));
        for (tx, height) in everything {
            let mut ours = tx.input.iter().any(|input| owners.contains_key(&input.previous_output));
            for (vout, output) in (0..).zip(&tx.output) {
                if ScriptHash::of(&output.script_pubkey).0.as_hex().to_string() == hash {
                    owners.insert(OutPoint::new(tx.compute_txid(), vout), ());
                    ours = true;
                }
            }
            if ours && (height.is_none() || confirmed) {
                all.push((height, tx_value(tx, height)));
            }
        }
        // The mempool first, then the chain from above.
        all.sort_by_key(|(height, value)| (height.map(std::cmp::Reverse), value["txid"].to_string()));
        Value::from(all.into_iter().map(|(_, value)| value).collect::<Vec<_>>()).to_string()
    }
}

pub(super) fn block_value(block: &Block, height: usize) -> Value {
    let header = block.header;
    json!({
        "id": block.block_hash(), "height": height, "version": header.version.to_consensus(), "timestamp": header.time,
        "tx_count": block.txdata.len(), "size": 1, "weight": 4, "merkle_root": header.merkle_root, "mediantime": 0,
        "previousblockhash": (height > 0).then_some(header.prev_blockhash), "nonce": header.nonce,
        "bits": header.bits.to_consensus(), "difficulty": 0.5,
    })
}

pub(super) fn tx_value(tx: &Transaction, height: Option<usize>) -> Value {
    let input = |input: &TxIn| {
        json!({
            "txid": input.previous_output.txid, "vout": input.previous_output.vout, "prevout": null,
            "scriptsig": input.script_sig.to_hex_string(), "sequence": input.sequence.0, "is_coinbase": false,
        })
    };
    let output = |output: &TxOut| json!({ "value": output.value.to_sat(), "scriptpubkey": output.script_pubkey.to_hex_string() });
    json!({
        "txid": tx.compute_txid(), "version": tx.version.0, "locktime": tx.lock_time.to_consensus_u32(),
        "vin": tx.input.iter().map(input).collect::<Vec<_>>(), "vout": tx.output.iter().map(output).collect::<Vec<_>>(),
        "size": 100, "weight": 400, "fee": 7,
        "status": { "confirmed": height.is_some(), "block_height": height },
    })
}
