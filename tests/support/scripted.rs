//! A server of a chain that a test makes up: real regtest work and real merkle trees, and no process behind it. It does
//! what ElectrumX cannot be made to do: stand on another chain of the same height, leave one that is thousands of blocks
//! long, have blocks of any time.
//!
//! Honest about its chain, it answers what a node asks, in the order of the lines; an [`super::adversary::Adversary`]
//! stands in front of it as in front of ElectrumX. Nobody hears of anything before [`Scripted::announce`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
    transaction,
};
use serde_json::{Value, json};

use super::adversary::script_hash;
use super::bitcoind::random;
use super::forge::worked;

/// What a chain begins with.
const FIRST: u32 = 120;

/// Blocks, each with its transactions; clones part ways.
#[derive(Clone)]
pub(crate) struct Chain {
    blocks: Vec<(Header, Vec<Transaction>)>,
}

impl Chain {
    /// Some blocks, the last one of now.
    pub(crate) fn new() -> Self {
        let mut chain = Self { blocks: vec![(genesis_block(Network::Regtest).header, Vec::new())] };
        for left in (0..FIRST).rev() {
            chain.mine_at(now() - left * 600, &[]);
        }
        chain
    }

    pub(crate) fn height(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("a few thousand") - 1
    }

    pub(crate) fn tip(&self) -> Header {
        self.blocks.last().expect("at least the first block").0
    }

    pub(crate) fn hash_at(&self, height: u32) -> BlockHash {
        self.blocks[height as usize].0.block_hash()
    }

    /// The time that a block has to be later than.
    pub(crate) fn median_time(&self) -> u32 {
        let mut times: Vec<u32> = self.blocks.iter().rev().take(11).map(|(header, _)| header.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// A block of these on top, of this time.
    pub(crate) fn mine_at(&mut self, time: u32, txs: &[Transaction]) {
        let coinbase = payment(OutPoint::null(), &ScriptBuf::from_bytes(random().to_le_bytes().to_vec()));
        let txs = [&[coinbase][..], txs].concat();
        let root = rows(&txs).last().expect("a row")[0];
        let last = self.tip();
        let header = Header { prev_blockhash: last.block_hash(), merkle_root: root, time, ..last };
        self.blocks.push((worked(header), txs));
    }

    /// A block of these on top, a second after the last one.
    pub(crate) fn mine(&mut self, txs: &[Transaction]) {
        self.mine_at(self.tip().time + 1, txs);
    }

    pub(crate) fn mine_empty(&mut self, count: u32) {
        (0..count).for_each(|_| self.mine(&[]));
    }

    /// Takes the last blocks off.
    pub(crate) fn unwind(&mut self, depth: u32) {
        self.blocks.truncate(self.blocks.len() - depth as usize);
    }

    fn find(&self, txid: &str) -> Option<(usize, usize)> {
        let at = |txs: &Vec<Transaction>| txs.iter().position(|tx| tx.compute_txid().to_string() == txid);
        self.blocks.iter().enumerate().find_map(|(height, (_, txs))| Some((height, at(txs)?)))
    }

    /// Txids and heights of what pays to a script or spends from it.
    fn history(&self, hash: &str) -> Vec<(Txid, usize)> {
        let (mut coins, mut history) = (Vec::new(), Vec::new());
        for (height, (_, txs)) in self.blocks.iter().enumerate() {
            for tx in txs {
                let txid = tx.compute_txid();
                let spends = tx.input.iter().any(|input| coins.contains(&input.previous_output));
                let before = coins.len();
                let paying = (0..).zip(&tx.output).filter(|(_, output)| script_hash(&output.script_pubkey) == hash);
                coins.extend(paying.map(|(vout, _)| OutPoint::new(txid, vout)));
                if spends || coins.len() > before {
                    history.push((txid, height));
                }
            }
        }
        history
    }

    fn status(&self, hash: &str) -> Value {
        let text: String = self.history(hash).iter().map(|(txid, height)| format!("{txid}:{height}:")).collect();
        if text.is_empty() { Value::Null } else { json!(sha256::Hash::hash(text.as_bytes()).to_string()) }
    }

    /// What a notification says of its tip.
    pub(crate) fn claim(&self) -> Value {
        json!({ "height": self.height(), "hex": serialize_hex(&self.tip()) })
    }

    /// The answer to who asks for so many headers from there on.
    pub(crate) fn headers(&self, start: usize, count: usize) -> Value {
        let headers = self.blocks.iter().skip(start).take(count.min(2016)).map(|(header, _)| serialize_hex(header));
        let headers: Vec<String> = headers.collect();
        json!({ "count": headers.len(), "hex": headers.concat(), "max": 2016 })
    }

    fn answer(&self, method: &str, params: &Value) -> Option<Value> {
        let (text, number) = (params[0].as_str(), params[0].as_u64());
        let number = || usize::try_from(number?).ok();
        Some(match method {
            "server.version" => json!(["Scripted 1.0", "1.4"]),
            "server.features" => json!({ "genesis_hash": self.hash_at(0).to_string() }),
            "server.ping" => Value::Null,
            "blockchain.headers.subscribe" => self.claim(),
            "blockchain.block.header" => json!(serialize_hex(&self.blocks.get(number()?)?.0)),
            "blockchain.block.headers" => self.headers(number()?, usize::try_from(params[1].as_u64()?).ok()?),
            "blockchain.scripthash.subscribe" => self.status(text?),
            "blockchain.scripthash.get_history" => {
                let item = |(txid, height): (Txid, usize)| json!({ "tx_hash": txid.to_string(), "height": height });
                self.history(text?).into_iter().map(item).collect()
            }
            "blockchain.transaction.get" => {
                let (height, at) = self.find(text?)?;
                json!(serialize_hex(&self.blocks[height].1[at]))
            }
            "blockchain.transaction.get_merkle" => {
                let (height, pos) = self.find(text?)?;
                let rows = rows(&self.blocks[height].1);
                let sibling = |(level, row): (usize, &Vec<TxMerkleNode>)| row[(pos >> level) ^ 1].to_string();
                let merkle: Vec<String> = rows[..rows.len() - 1].iter().enumerate().map(sibling).collect();
                json!({ "block_height": height, "merkle": merkle, "pos": pos })
            }
            "blockchain.relayfee" => json!(0.00001),
            "blockchain.estimatefee" => json!(-1),
            "mempool.get_fee_histogram" => json!([]),
            _ => return None,
        })
    }
}

/// The rows of a merkle tree from the leaves upwards, each but the root's of an even length.
fn rows(txs: &[Transaction]) -> Vec<Vec<TxMerkleNode>> {
    let mut rows = vec![txs.iter().map(|tx| tx.compute_txid().into()).collect::<Vec<TxMerkleNode>>()];
    while let Some(row) = rows.last_mut().filter(|row| row.len() > 1) {
        if row.len() % 2 == 1 {
            row.push(row[row.len() - 1]);
        }
        let pair = |pair: &[TxMerkleNode]| [pair[0].to_byte_array(), pair[1].to_byte_array()].concat();
        let above = row.chunks(2).map(|two| TxMerkleNode::hash(&pair(two))).collect();
        rows.push(above);
    }
    rows
}

/// A transaction that spends this and pays to this script.
pub(crate) fn payment(from: OutPoint, to: &ScriptBuf) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(90_000), script_pubkey: to.clone() }],
    }
}

pub(crate) fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    u32::try_from(now).expect("before 2106")
}

/// The server, on threads of its own that end with this value.
pub(crate) struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    chain: Mutex<Chain>,
    /// All that ever came; writing to one that left is no harm.
    clients: Mutex<Vec<Client>>,
    ends: Mutex<bool>,
}

struct Client {
    stream: TcpStream,
    follows_headers: bool,
    /// The scripts that it follows, and what it was told of each.
    scripts: BTreeMap<String, Value>,
}

impl Scripted {
    /// Serves this chain.
    pub(crate) fn start(chain: Chain) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback interface");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared { chain: Mutex::new(chain), clients: Mutex::default(), ends: Mutex::new(false) });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut talks = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if *lock(&serving.ends) {
                    break;
                }
                let shared = Arc::clone(&serving);
                talks.push(std::thread::spawn(move || talk(&shared, stream)));
            }
            talks.into_iter().for_each(|talk| drop(talk.join()));
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It has another chain from now on, and says so to everybody who follows its tip or a script that changed.
    pub(crate) fn announce(&self, chain: &Chain) {
        // Nobody subscribes in between.
        let mut clients = lock(&self.shared.clients);
        *lock(&self.shared.chain) = chain.clone();
        for client in clients.iter_mut() {
            let mut news = Vec::new();
            if client.follows_headers {
                news.push(json!({ "method": "blockchain.headers.subscribe", "params": [chain.claim()] }));
            }
            for (script, told) in &mut client.scripts {
                let status = chain.status(script);
                if *told != status {
                    *told = status.clone();
                    news.push(json!({ "method": "blockchain.scripthash.subscribe", "params": [script, status] }));
                }
            }
            for line in news {
                // Who is gone hears nothing.
                let _ = client.stream.write_all(format!("{line}\n").as_bytes());
            }
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        *lock(&self.shared.ends) = true;
        for client in lock(&self.shared.clients).iter() {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
        // The thread waits for a client.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn talk(shared: &Shared, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(reading) = stream.try_clone() else { return };
    let number = {
        let mut clients = lock(&shared.clients);
        clients.push(Client { stream, follows_headers: false, scripts: BTreeMap::new() });
        clients.len() - 1
    };
    // Then nobody will end this connection.
    if *lock(&shared.ends) {
        return;
    }
    for line in BufReader::new(reading).lines() {
        let Some(asked) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else { return };
        let (method, params) = (asked["method"].as_str().unwrap_or_default(), &asked["params"]);
        let mut clients = lock(&shared.clients);
        let client = &mut clients[number];
        let answer = lock(&shared.chain).answer(method, params);
        let mut line = json!({ "jsonrpc": "2.0", "id": asked["id"] });
        match answer {
            Some(result) => {
                if method == "blockchain.headers.subscribe" {
                    client.follows_headers = true;
                } else if let ("blockchain.scripthash.subscribe", Some(script)) = (method, params[0].as_str()) {
                    client.scripts.insert(script.to_owned(), result.clone());
                }
                line["result"] = result;
            }
            None => line["error"] = json!({ "code": -32601, "message": "not known here" }),
        }
        if client.stream.write_all(format!("{line}\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
