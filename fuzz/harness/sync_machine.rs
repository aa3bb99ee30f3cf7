//! Any inputs from several servers, in any order, to a machine whose listener asserts the contract of deliveries at
//! every plan; in the end one honest server says all that it knows, and everything has to be told.
//!
//! Every four bytes are a step: what happens, to whom, and two bytes of detail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{
    Amount, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness, constants, transaction,
};
use lightnode::chain::io::{
    Action, BlockRef, Coinbase, HistoryEntry, Input, Owners, Plan, Refusal, Reply, Report, Request, ScriptHash,
    ScriptRecord, SourceId, Status, Told, Watch,
};
use lightnode::chain::machine::Machine;
use lightnode::chain::params::Params;
use lightnode::chain::tree::HeaderTree;

/// Steps of one input, at most: mining costs time.
const MOST: usize = 300;
const SCRIPTS: u8 = 5;
const SOURCES: u64 = 4;
/// The one that is honest in the end.
const HONEST: SourceId = SourceId(99);
const BOTH: Owners = Owners { wallet: true, lightning: true };
/// Actions that one input may bring forth at once, and bytes of all that a machine remembers, as it prints itself.
const MOST_ACTIONS: usize = 400;
const MOST_DEBUG: usize = 4 << 20;

/// Feeds a machine; panics when it breaks its contract, does not come to rest, or does not tell the truth in the end.
pub(crate) fn run(data: &[u8]) {
    let mut world = World::new();
    for step in data.chunks_exact(4).take(MOST) {
        if let &[what, who, a, b] = step {
            world.step(what, SourceId(u64::from(who) % SOURCES), a, b);
        }
    }
    world.end();
}

/// The last of them is so short that what pays to it has 64 bytes, as two nodes of a merkle tree have.
fn script(n: u8) -> ScriptBuf {
    let n = n % SCRIPTS;
    let length = if n == SCRIPTS - 1 { 2 } else { 20 };
    let mut bytes = vec![0x51, length];
    bytes.extend(std::iter::repeat_n(n, length.into()));
    ScriptBuf::from_bytes(bytes)
}

fn owners(bits: u8) -> Owners {
    Owners { wallet: bits & 1 != 0, lightning: bits & 2 != 0 }
}

fn tx(from: OutPoint, to: u8) -> Arc<Transaction> {
    let input =
        TxIn { previous_output: from, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness: Witness::new() };
    let output = TxOut { value: Amount::from_sat(1000), script_pubkey: script(to) };
    let (version, lock_time) = (transaction::Version::TWO, LockTime::ZERO);
    Arc::new(Transaction { version, lock_time, input: vec![input], output: vec![output] })
}

/// Blocks of at most two transactions: a coinbase of nobody's, and one that concerns us.
#[derive(Clone)]
struct Chain(Vec<(Header, Vec<Arc<Transaction>>)>);

impl Chain {
    fn height(&self) -> u32 {
        self.0.len() as u32 - 1
    }

    fn mine(&mut self, ours: Option<Arc<Transaction>>, salt: u32) {
        let mut nobodys = (*tx(OutPoint::null(), 0)).clone();
        nobodys.lock_time = LockTime::from_consensus(salt);
        nobodys.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51]);
        let txs: Vec<_> = std::iter::once(Arc::new(nobodys)).chain(ours).collect();
        let leaves = txs.iter().map(|tx| TxMerkleNode::from(tx.compute_txid()));
        let parent = self.0[self.0.len() - 1].0;
        let mut header = Header {
            version: Version::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: parent.block_hash(),
            merkle_root: bitcoin::merkle_tree::calculate_root(leaves).expect("a block has a transaction"),
            time: parent.time + 600,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        self.0.push((header, txs));
    }

    fn history(&self, id: ScriptHash, top: u32) -> Vec<HistoryEntry> {
        let mut coins = BTreeSet::new();
        let mut entries = Vec::new();
        for (height, (_, txs)) in (0..=top).zip(&self.0) {
            for tx in txs {
                let pays = ScriptHash::of(&tx.output[0].script_pubkey) == id;
                if pays || coins.contains(&tx.input[0].previous_output) {
                    entries.push(HistoryEntry { txid: tx.compute_txid(), height: Some(height) });
                }
                if pays {
                    coins.insert(OutPoint::new(tx.compute_txid(), 0));
                }
            }
        }
        entries
    }

    fn status(&self, id: ScriptHash, top: u32) -> Option<Status> {
        let text: String =
            self.history(id, top).iter().map(|e| format!("{}:{}:", e.txid, e.height.unwrap_or(0))).collect();
        (!text.is_empty()).then(|| Status(sha256::Hash::hash(text.as_bytes()).to_byte_array()))
    }

    /// What a server says that knows the chain up to `top`.
    fn answer(&self, request: &Request, top: u32) -> Result<Reply, Refusal> {
        let known = || self.0.iter().take(top as usize + 1);
        Ok(match *request {
            Request::Headers { start, count } => {
                Reply::Headers(known().skip(start as usize).take(count as usize).map(|block| block.0).collect())
            }
            Request::Subscribe { script } => Reply::Status(self.status(script, top)),
            Request::History { script } => Reply::History(self.history(script, top)),
            Request::Transaction { txid } => {
                let found = known().flat_map(|block| &block.1).find(|tx| tx.compute_txid() == txid);
                Reply::Transaction(found.ok_or(Refusal::Error)?.clone())
            }
            Request::Proof { txid, height } => {
                let (_, txs) = known().nth(height as usize).ok_or(Refusal::Error)?;
                let pos = txs.iter().position(|tx| tx.compute_txid() == txid).ok_or(Refusal::Error)?;
                let sibling = (txs.len() > 1).then(|| TxMerkleNode::from(txs[1 - pos].compute_txid()));
                Reply::Proof { branch: sibling.into_iter().collect(), pos: pos as u32 }
            }
            Request::Coinbase { height } => {
                let (_, txs) = known().nth(height as usize).ok_or(Refusal::Error)?;
                let sibling = txs.get(1).map(|tx| TxMerkleNode::from(tx.compute_txid()));
                let tx = txs.first().ok_or(Refusal::Error)?.clone();
                Reply::Coinbase(Coinbase { tx, branch: sibling.into_iter().collect() })
            }
        })
    }
}

/// What the listeners were told.
#[derive(Default)]
struct Listener {
    confirmed: BTreeMap<Txid, BlockRef>,
    tip: Option<BlockRef>,
    reorganised: bool,
    restarted: bool,
    busy: bool,
}

impl Listener {
    fn hear(&mut self, plan: &Plan, tree: &HeaderTree) {
        assert!(!self.busy, "one plan at a time");
        assert!(!plan.is_empty(), "a plan says something");
        assert!(plan.block.is_none() || plan.tip.is_none(), "no tip with a block");
        if let Some(fork) = plan.fork {
            assert!(tree.contains(fork), "the fork is in our chain");
            self.confirmed.retain(|_, block| block.height <= fork.height);
            self.reorganised = true;
        }
        if plan.block.is_some() || plan.tip.is_some() {
            assert!(self.confirmed.values().all(|block| tree.contains(*block)), "what left the chain was unconfirmed");
        }
        if let Some(block) = &plan.block {
            assert_eq!(tree.header_at(block.height), Some(block.header), "the block is of our chain");
            assert!(!block.txs.is_empty() && block.txs.windows(2).all(|w| w[0].proven.pos() < w[1].proven.pos()));
            for tx in &block.txs {
                assert_eq!(tx.proven.block(), BlockRef { height: block.height, hash: block.header.block_hash() });
                let before = self.confirmed.insert(tx.proven.txid(), tx.proven.block());
                assert!(before.is_none_or(|before| before == tx.proven.block()), "it changed its block unsaid");
            }
        }
        if let Some((header, height)) = plan.tip {
            let tip = BlockRef { height, hash: header.block_hash() };
            assert!(tree.contains(tip), "the tip is of our chain");
            let rises = self.tip.is_none_or(|t| t.height < height || (self.restarted && t == tip));
            assert!(self.reorganised || rises, "the tip only rises");
            (self.tip, self.reorganised, self.restarted) = (Some(tip), false, false);
        }
        self.busy = true;
    }
}

struct World {
    chain: Chain,
    salt: u32,
    machine: Machine,
    now: u64,
    in_flight: Vec<(SourceId, Request)>,
    headers: Vec<Header>,
    records: BTreeMap<ScriptHash, ScriptRecord>,
    told: Option<Told>,
    watches: Vec<Watch>,
    listener: Listener,
}

impl World {
    fn new() -> Self {
        let tree = HeaderTree::new(Params::new(Network::Regtest));
        let mut chain = Chain(vec![(constants::genesis_block(Network::Regtest).header, Vec::new())]);
        for salt in 0..3 {
            chain.mine(None, salt);
        }
        let mut world = World {
            now: u64::from(chain.0[3].0.time) * 1000,
            chain,
            salt: 3,
            headers: tree.headers_from(0),
            machine: Machine::new(tree, Vec::new(), None).expect("nothing was told"),
            in_flight: Vec::new(),
            records: BTreeMap::new(),
            told: None,
            watches: Vec::new(),
            listener: Listener::default(),
        };
        world.watch(1, 1);
        world.watch(2, 2);
        world
    }

    fn watch(&mut self, n: u8, bits: u8) {
        let watch = Watch { script: script(n), owners: owners(bits) };
        self.watches.push(watch.clone());
        self.on(Input::Watch(watch));
    }

    /// Nobody's from now on, for these owners.
    fn unwatch(&mut self, n: u8, bits: u8) {
        let (id, owners) = (ScriptHash::of(&script(n)), owners(bits));
        for watch in self.watches.iter_mut().filter(|watch| ScriptHash::of(&watch.script) == id) {
            watch.owners = watch.owners.without(owners);
        }
        self.on(Input::Unwatch { scripts: vec![id], owners });
    }

    fn on(&mut self, input: Input) {
        self.machine.on(input, self.now);
        let mut actions = 0;
        while let Some(action) = self.machine.next() {
            actions += 1;
            assert!(actions < MOST_ACTIONS, "one input has a bounded outcome");
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Ask { source, request } => {
                self.in_flight.push((source, request));
                assert!(self.in_flight.iter().filter(|(of, _)| *of == source).count() <= 8, "few at once");
            }
            Action::StoreHeaders { from, headers, fork } => {
                assert!(self.headers.len() >= from as usize, "no gap");
                self.headers.truncate(from as usize);
                self.headers.extend(headers);
                self.told = Told::forked(self.told, fork);
            }
            Action::StoreOlderHeaders { .. } => panic!("there is nothing below genesis"),
            Action::StoreHistory(record) => drop(self.records.insert(record.script, record)),
            Action::ForgetHistories(scripts) => scripts.iter().for_each(|id| drop(self.records.remove(id))),
            Action::Deliver(plan) => {
                self.listener.hear(&plan, self.machine.tree());
                if let Some(tip) = plan.told() {
                    self.told = Some(Told { tip, fork: None });
                }
            }
            // The driver cuts it.
            Action::Report { source, report: Report::Lie(_) } => self.in_flight.retain(|(of, _)| *of != source),
            Action::Report { .. } => {}
        }
    }

    fn delivered(&mut self) {
        if std::mem::take(&mut self.listener.busy) {
            self.on(Input::Delivered);
        }
    }

    fn restart(&mut self) {
        let tree =
            HeaderTree::restore(Params::new(Network::Regtest), 0, self.headers.clone()).expect("what was stored");
        let records = self.records.values().cloned().collect();
        self.machine = Machine::new(tree, records, self.told).expect("what was told is in what was stored");
        self.in_flight.clear();
        (self.listener.busy, self.listener.restarted) = (false, true);
        for watch in self.watches.clone() {
            self.on(Input::Watch(watch));
        }
    }

    fn step(&mut self, what: u8, source: SourceId, a: u8, b: u8) {
        let top = self.chain.height().saturating_sub(u32::from(b % 8));
        let id = ScriptHash::of(&script(a));
        match what % 16 {
            0 => self.on(Input::Up { source, serves: owners(a) }),
            1 => self.on(Input::Serve { source, serves: owners(a) }),
            2 => {
                self.in_flight.retain(|(of, _)| *of != source);
                self.on(Input::Down { source });
            }
            3 => {
                let header = self.chain.0[top as usize].0;
                let height = if a < 200 { top } else { [u32::MAX, 0, top + 1, top + 500][usize::from(a) % 4] };
                self.on(Input::Tip { source, header, height });
            }
            4 => self.on(Input::Status { source, script: id, status: self.chain.status(id, top) }),
            5 => self.on(Input::Status { source, script: id, status: (b > 99).then_some(Status([b; 32])) }),
            6 | 7 => self.answer(source, a, |chain, request| chain.answer(request, top)),
            8 => self.answer(source, a, |_, _| Err(if b % 2 == 0 { Refusal::Error } else { Refusal::Timeout })),
            9 => self.answer(source, a, |chain, _| Ok(nonsense(chain, b))),
            10 if b < 192 => self.watch(a, b),
            10 => self.unwatch(a, b),
            11 => {
                self.now += u64::from(a) * u64::from(b);
                self.on(Input::Tick);
            }
            12 => self.delivered(),
            13 => self.mine(a, b),
            14 if b % 4 == 0 => self.restart(),
            14 => self.fork(usize::from(b % 4), a),
            _ => self.on(Input::Believed(vec![Txid::from_byte_array([a; 32])])),
        }
    }

    fn answer(&mut self, source: SourceId, pick: u8, reply: impl FnOnce(&Chain, &Request) -> Result<Reply, Refusal>) {
        let asked: Vec<usize> = (0..self.in_flight.len()).filter(|&at| self.in_flight[at].0 == source).collect();
        let Some(&at) = asked.get(usize::from(pick) % asked.len().max(1)) else { return };
        let (source, request) = self.in_flight.remove(at);
        let reply = reply(&self.chain, &request);
        self.now += 1;
        self.on(Input::Answer { source, request, reply });
    }

    /// A block with a payment to a script, or with the spend of an earlier one.
    fn mine(&mut self, a: u8, b: u8) {
        self.salt += 1;
        let from = match b % 3 {
            0 => None,
            1 => Some(OutPoint::new(Txid::from_byte_array([0xdd; 32]), self.salt)),
            _ => {
                let ours = self.chain.0.iter().flat_map(|block| block.1.get(1));
                let spent: BTreeSet<_> = ours.clone().map(|tx| tx.input[0].previous_output).collect();
                let mut coins = ours.map(|tx| OutPoint::new(tx.compute_txid(), 0)).filter(|coin| !spent.contains(coin));
                coins.next_back()
            }
        };
        self.chain.mine(from.map(|from| tx(from, a)), self.salt);
    }

    /// Replaces the last blocks by one more of the same, or of none, of ours.
    fn fork(&mut self, depth: usize, a: u8) {
        let depth = depth.min(self.chain.0.len() - 1);
        let left = self.chain.0.split_off(self.chain.0.len() - depth);
        for (_, txs) in left {
            self.salt += 1;
            let again = txs.get(1).cloned().filter(|_| a % 2 == 0);
            self.chain.mine(again, self.salt);
        }
        self.salt += 1;
        self.chain.mine(None, self.salt);
    }

    /// The honest server says everything, the others nothing more.
    fn end(&mut self) {
        assert!(format!("{:?}", self.machine).len() < MOST_DEBUG, "memory is bounded");
        // More than any branch that was shown.
        self.mine(0, 0);
        let source = HONEST;
        self.on(Input::Up { source, serves: BOTH });
        let (header, height) = (self.chain.0[self.chain.0.len() - 1].0, self.chain.height());
        self.now = self.now.max(u64::from(header.time) * 1000);
        self.on(Input::Tip { source, header, height });
        let end = self.now + 3_600_000;
        let mut idle = 0;
        for _ in 0..5_000 {
            self.delivered();
            // One plan may be followed by the next at once.
            if self.listener.busy {
                continue;
            }
            if self.in_flight.iter().any(|(of, _)| *of == source) {
                self.answer(source, 0, |chain, request| chain.answer(request, height));
                continue;
            }
            if self.machine.synced() && self.machine.tree().height() == height {
                break;
            }
            let Some(at) = self.machine.deadline().filter(|&at| at <= end) else { break };
            idle = if at > self.now { 0 } else { idle + 1 };
            assert!(idle < 10, "a deadline that passed is gone");
            self.now = self.now.max(at);
            self.on(Input::Tick);
        }
        assert!(self.machine.synced(), "{:?}", self.machine.progress());
        let ours = self.watches.iter().filter(|watch| watch.owners != Owners::default());
        for entry in ours.flat_map(|watch| self.chain.history(ScriptHash::of(&watch.script), height)) {
            let told = self.listener.confirmed.get(&entry.txid).map(|block| block.height);
            assert_eq!(told, entry.height, "everything is told");
        }
    }
}

/// A reply of any kind that says what nobody knows.
fn nonsense(chain: &Chain, b: u8) -> Reply {
    let txid = Txid::from_byte_array([b; 32]);
    match b % 7 {
        0 => Reply::Headers(vec![chain.0[usize::from(b) % chain.0.len()].0; usize::from(b % 3)]),
        1 => Reply::Status(Some(Status([b; 32]))),
        2 => Reply::History(vec![HistoryEntry { txid, height: Some(u32::from(b)) }; usize::from(b % 5)]),
        3 => Reply::History(vec![HistoryEntry { txid, height: None }]),
        4 => Reply::Transaction(tx(OutPoint::new(txid, 0), b)),
        5 => Reply::Coinbase(Coinbase {
            tx: tx(OutPoint::null(), b),
            branch: vec![TxMerkleNode::all_zeros(); usize::from(b % 20)],
        }),
        _ => {
            Reply::Proof { branch: vec![TxMerkleNode::all_zeros(); usize::from(b % 20)], pos: u32::from(b) << (b % 25) }
        }
    }
}
