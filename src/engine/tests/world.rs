//! A regtest chain of blocks with at most one transaction beside the coinbase, and servers that tell of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
    absolute, constants, merkle_tree, transaction,
};
use tokio::sync::{broadcast, mpsc};

use crate::chain::io::{HistoryEntry, Reply, Request, ScriptHash, SourceId, Status};
use crate::config::ServerAddr;
use crate::source::{
    BoxFuture, BroadcastError, Connected, Event, EventSink, FeeClaims, NoAnswer, Rejection, Session, SessionInfo,
    Source, SourceError, TlsState, Trouble, Untrusted,
};

/// What all servers see.
#[derive(Default)]
pub(super) struct Chain {
    /// From height 1 on.
    blocks: Vec<(Header, Vec<Transaction>)>,
}

pub(super) fn script(name: &str) -> ScriptBuf {
    ScriptBuf::from_bytes(format!("script {name}").into_bytes())
}

/// A transaction that pays to a script.
pub(super) fn pay(to: &ScriptBuf, salt: u32) -> Transaction {
    let input = TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), salt),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = TxOut { value: Amount::from_sat(1000), script_pubkey: to.clone() };
    transaction(vec![input], vec![output])
}

fn transaction(input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
    Transaction { version: transaction::Version::TWO, lock_time: absolute::LockTime::ZERO, input, output }
}

impl Chain {
    fn tip(&self) -> (Header, u32) {
        let header = self.blocks.last().map_or_else(|| genesis().header, |(header, _)| *header);
        (header, self.blocks.len() as u32)
    }

    fn mine(&mut self, tx: Option<Transaction>) {
        let (parent, height) = self.tip();
        let coinbase = transaction(
            vec![TxIn { script_sig: ScriptBuf::from_bytes(vec![height as u8; 4]), ..TxIn::default() }],
            vec![TxOut { value: Amount::from_sat(50), script_pubkey: ScriptBuf::new() }],
        );
        let txs: Vec<Transaction> = std::iter::once(coinbase).chain(tx).collect();
        let root = merkle_tree::calculate_root(txs.iter().map(|tx| tx.compute_txid().to_raw_hash())).unwrap();
        let mut header = Header {
            version: Version::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: parent.block_hash(),
            merkle_root: TxMerkleNode::from_raw_hash(root),
            time: parent.time + 600,
            bits: parent.bits,
            nonce: 0,
        };
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        self.blocks.push((header, txs));
    }

    fn history(&self, script: ScriptHash, hidden: Option<Txid>) -> Vec<HistoryEntry> {
        let pays = |tx: &Transaction| tx.output.iter().any(|out| ScriptHash::of(&out.script_pubkey) == script);
        let of_block = |(height, (_, txs)): (u32, &(Header, Vec<Transaction>))| {
            let mine = txs.iter().filter(|tx| pays(tx)).map(Transaction::compute_txid);
            let mine = mine.filter(|txid| Some(*txid) != hidden);
            mine.map(|txid| HistoryEntry { txid, height: Some(height) }).collect::<Vec<_>>()
        };
        (1u32..).zip(&self.blocks).flat_map(of_block).collect()
    }

    fn status(&self, script: ScriptHash, hidden: Option<Txid>) -> Option<Status> {
        let history = self.history(script, hidden);
        let mut engine = sha256::Hash::engine();
        for HistoryEntry { txid, height } in &history {
            engine.input(format!("{txid}:{}:", height.unwrap_or(0)).as_bytes());
        }
        (!history.is_empty()).then(|| Status(sha256::Hash::from_engine(engine).to_byte_array()))
    }

    fn reply(&self, request: &Request, hidden: Option<Txid>) -> Option<Reply> {
        let txs = || self.blocks.iter().flat_map(|(_, txs)| txs);
        Some(match *request {
            Request::Headers { start, count } => {
                let all = std::iter::once(genesis().header).chain(self.blocks.iter().map(|(header, _)| *header));
                Reply::Headers(all.skip(start as usize).take(count as usize).collect())
            }
            Request::Subscribe { script } => Reply::Status(self.status(script, hidden)),
            Request::History { script } => Reply::History(self.history(script, hidden)),
            Request::Transaction { txid } => {
                Reply::Transaction(Arc::new(txs().find(|tx| tx.compute_txid() == txid)?.clone()))
            }
            Request::Proof { txid, height } => {
                let (_, txs) = self.blocks.get(height.checked_sub(1)? as usize)?;
                let pos = txs.iter().position(|tx| tx.compute_txid() == txid)?;
                let other = txs.get(1 - pos).map(|tx| TxMerkleNode::from_raw_hash(tx.compute_txid().to_raw_hash()));
                Reply::Proof { branch: other.into_iter().collect(), pos: pos as u32 }
            }
            Request::Coinbase { .. } => return None,
        })
    }
}

fn genesis() -> bitcoin::Block {
    constants::genesis_block(Network::Regtest)
}

/// A server of the chain, played in memory.
pub(super) struct Server {
    addr: ServerAddr,
    chain: Arc<Mutex<Chain>>,
    news: broadcast::Sender<()>,
    cut: broadcast::Sender<()>,
    pub(super) unreachable: AtomicBool,
    /// Answers questions about bodies with others.
    pub(super) lies: AtomicBool,
    /// Leaves this one out of every history.
    pub(super) hides: Mutex<Option<Txid>>,
    /// Takes transactions.
    pub(super) takes: AtomicBool,
    pub(super) taken: Arc<Mutex<Vec<Txid>>>,
}

/// The chain and its servers.
pub(super) struct World {
    chain: Arc<Mutex<Chain>>,
    news: broadcast::Sender<()>,
    pub(super) servers: Vec<Arc<Server>>,
}

impl World {
    pub(super) fn new(names: &[&str]) -> Self {
        let (chain, news) = (Arc::new(Mutex::new(Chain::default())), broadcast::channel(64).0);
        let server = |name: &&str| {
            Arc::new(Server {
                addr: format!("tcp://{name}").parse().unwrap(),
                chain: chain.clone(),
                news: news.clone(),
                cut: broadcast::channel(8).0,
                unreachable: AtomicBool::new(false),
                lies: AtomicBool::new(false),
                hides: Mutex::default(),
                takes: AtomicBool::new(true),
                taken: Arc::default(),
            })
        };
        Self { servers: names.iter().map(server).collect(), chain: chain.clone(), news: news.clone() }
    }

    pub(super) fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap()
    }

    /// Mines a block and tells all that are connected.
    pub(super) fn mine(&self, tx: Option<Transaction>) -> BlockHash {
        self.chain().mine(tx);
        // Nobody may be connected.
        let _ = self.news.send(());
        self.chain().tip().0.block_hash()
    }

    pub(super) fn sources(&self) -> Vec<Arc<dyn Source>> {
        self.servers.iter().map(|server| Arc::new(Dialed(server.clone())) as Arc<dyn Source>).collect()
    }
}

impl Server {
    pub(super) fn cut(&self) {
        let _ = self.cut.send(());
    }
}

struct Dialed(Arc<Server>);

struct Line {
    server: Arc<Server>,
    asked: mpsc::UnboundedSender<Request>,
}

impl Source for Dialed {
    fn addr(&self) -> &ServerAddr {
        &self.0.addr
    }

    fn connect(&self, id: SourceId, events: EventSink) -> BoxFuture<'_, Result<Connected, SourceError>> {
        Box::pin(async move {
            if self.0.unreachable.load(Ordering::Relaxed) {
                return Err(Trouble::Closed.into());
            }
            let (asked, requests) = mpsc::unbounded_channel();
            let session = Line { server: self.0.clone(), asked };
            let task = carry(self.0.clone(), id, events, requests);
            Ok(Connected { session: Box::new(session), task: Box::pin(task) })
        })
    }
}

async fn carry(server: Arc<Server>, id: SourceId, events: EventSink, mut asked: mpsc::UnboundedReceiver<Request>) {
    let (mut news, mut cut) = (server.news.subscribe(), server.cut.subscribe());
    let mut subscribed: Vec<(ScriptHash, Option<Status>)> = Vec::new();
    let tip = || {
        let (header, height) = server.chain.lock().unwrap().tip();
        Event::Tip { header, height }
    };
    let mut tell = vec![tip()];
    loop {
        for event in tell.drain(..) {
            if events.send((id, event)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            request = asked.recv() => {
                let Some(request) = request else { return };
                let hidden = *server.hides.lock().unwrap();
                let mut reply = server.chain.lock().unwrap().reply(&request, hidden);
                if let (Request::Subscribe { script }, Some(Reply::Status(status))) = (&request, &reply) {
                    subscribed.push((*script, *status));
                }
                if let (Some(Reply::Transaction(tx)), true) = (&mut reply, server.lies.load(Ordering::Relaxed)) {
                    *tx = Arc::new(pay(&script("liar"), 666));
                }
                let reply = reply.ok_or(NoAnswer::Malformed("unknown").into());
                tell.push(Event::Answer { request, reply });
            }
            _ = news.recv() => {
                tell.push(tip());
                let hidden = *server.hides.lock().unwrap();
                let chain = server.chain.lock().unwrap();
                for (script, known) in &mut subscribed {
                    let status = chain.status(*script, hidden);
                    if status != *known {
                        *known = status;
                        tell.push(Event::Status { script: *script, status });
                    }
                }
            }
            _ = cut.recv() => tell.push(Event::Closed(Trouble::Closed.into())),
        }
    }
}

impl Session for Line {
    fn ask(&self, request: Request) {
        let _ = self.asked.send(request);
    }

    fn broadcast(&self, tx: &Transaction) -> BoxFuture<'static, Result<(), BroadcastError>> {
        self.server.taken.lock().unwrap().push(tx.compute_txid());
        let takes = self.server.takes.load(Ordering::Relaxed);
        Box::pin(async move { if takes { Ok(()) } else { Err(Rejection::MissingInputs.into()) } })
    }

    fn broadcast_package(&self, txs: &[Transaction]) -> BoxFuture<'static, Result<(), BroadcastError>> {
        self.broadcast(txs.last().unwrap())
    }

    fn fee_claims(&self) -> BoxFuture<'static, Result<FeeClaims, SourceError>> {
        Box::pin(async { Ok(FeeClaims { estimates: vec![(2, 8000)], ..FeeClaims::default() }) })
    }

    fn info(&self) -> SessionInfo {
        SessionInfo {
            addr: self.server.addr.clone(),
            software: Untrusted::new("tiny"),
            protocol: "1.4".into(),
            tls: TlsState::Clear,
            peer: None,
            since: std::time::UNIX_EPOCH,
            latency: std::time::Duration::ZERO,
        }
    }
}
