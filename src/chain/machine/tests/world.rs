//! A world in memory: servers that answer from their nodes in any order, a store, and a listener that asserts the
//! contract of design §3 at every plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Network, Transaction, TxMerkleNode, Txid};

use super::node::*;
use super::peers::Peer;
use crate::chain::io::*;
use crate::chain::machine::Machine;
use crate::chain::params::Params;
use crate::chain::testing::branch_of;
use crate::chain::tree::HeaderTree;
use crate::chain::witness::{self, Verdict};

pub(super) const WALLET: Owners = Owners { wallet: true, lightning: false };
pub(super) const LIGHTNING: Owners = Owners { wallet: false, lightning: true };

/// What survives a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) base: u32,
    pub(super) headers: Vec<Header>,
    pub(super) records: BTreeMap<ScriptHash, ScriptRecord>,
    pub(super) told: Option<Told>,
}

/// What LDK and the wallet believe, and what they would not bear.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    pub(super) confirmed: BTreeMap<Txid, BlockRef>,
    pub(super) tip: Option<BlockRef>,
    pub(super) unconfirmed: BTreeSet<Txid>,
    /// What Lightning was told, with the witnesses that it was told.
    lightnings: BTreeMap<Txid, Arc<Transaction>>,
    /// Told to the wallet as confirmed, ever.
    wallets: BTreeSet<Txid>,
    reorged: bool,
    restarted: bool,
    pub(super) plans: Vec<Plan>,
    /// Scripts to watch once a transaction is told.
    pub(super) reacts: BTreeMap<Txid, Vec<Watch>>,
}

impl Listener {
    fn hear(&mut self, plan: &Plan, tree: &HeaderTree, store: &Store) -> Vec<Watch> {
        let mut watches = Vec::new();
        if let Some(fork) = plan.fork {
            assert!(tree.contains(fork), "the fork is in our chain");
            let left = self.confirmed.iter().filter(|(_, block)| block.height > fork.height);
            self.unconfirmed.extend(left.map(|(txid, _)| *txid).filter(|txid| self.wallets.contains(txid)));
            self.confirmed.retain(|_, block| block.height <= fork.height);
            self.reorged = true;
        }
        if plan.block.is_some() || plan.tip.is_some() {
            for (txid, block) in &self.confirmed {
                assert!(tree.contains(*block), "{txid} left the chain and was not unconfirmed");
            }
        }
        if let Some(block) = &plan.block {
            assert_eq!(tree.header_at(block.height), Some(block.header), "the block is of our chain");
            assert!(plan.tip.is_none(), "no tip with a block");
            assert!(!block.txs.is_empty());
            assert!(block.txs.windows(2).all(|w| w[0].proven.pos() < w[1].proven.pos()), "in block order");
            let place = BlockRef { height: block.height, hash: block.header.block_hash() };
            for tx in &block.txs {
                assert_eq!(tx.proven.block(), place);
                assert_ne!(tx.owners, Owners::default());
                let txid = tx.proven.txid();
                let before = self.confirmed.insert(txid, place);
                assert!(before.is_none_or(|b| b == place), "LDK panics when a transaction changes its block");
                assert!(
                    store.records.values().any(|r| r.confirmed.iter().any(|p| p.tx.compute_txid() == txid)),
                    "stored before it is told"
                );
                if tx.owners.lightning {
                    self.assert_opens(tx.proven.tx());
                    self.lightnings.insert(txid, tx.proven.tx().clone());
                }
                if tx.owners.wallet {
                    self.unconfirmed.remove(&txid);
                    self.wallets.insert(txid);
                }
                watches.extend(self.reacts.get(&txid).cloned().unwrap_or_default());
            }
        }
        if let Some((header, height)) = plan.tip {
            let tip = BlockRef { height, hash: header.block_hash() };
            assert!(tree.contains(tip), "the tip is of our chain");
            assert_eq!(store.headers.get((height - store.base) as usize), Some(&header), "stored before it is told");
            let rises = self.tip.is_none_or(|t| t.height < height || (self.restarted && t == tip));
            assert!(self.reorged || rises, "the tip only rises");
            self.tip = Some(tip);
            self.reorged = false;
            self.restarted = false;
        }
        self.unconfirmed.extend(plan.mempool.seen.iter().map(|tx| tx.compute_txid()));
        for txid in &plan.mempool.gone {
            assert!(!self.confirmed.contains_key(txid), "what is confirmed is not gone");
            self.unconfirmed.remove(txid);
        }
        self.plans.push(plan.clone());
        watches
    }
}

impl Listener {
    /// LDK believes the witnesses by which it sees its outputs spent.
    fn assert_opens(&self, tx: &Transaction) {
        for (index, input) in tx.input.iter().enumerate() {
            let parent = input.previous_output.txid;
            let Some(known) = self.lightnings.get(&parent).filter(|_| self.confirmed.contains_key(&parent)) else {
                continue;
            };
            let spent = &known.output[input.previous_output.vout as usize];
            assert_ne!(witness::verdict(tx, index, spent), Verdict::Fails, "a forged witness is told");
        }
    }
}

pub(super) struct World {
    params: Params,
    pub(super) machine: Machine,
    pub(super) node: Node,
    pub(super) store: Store,
    pub(super) listener: Listener,
    pub(super) watches: Vec<Watch>,
    pub(super) now: u64,
    pub(super) source: SourceId,
    pub(super) subscribed: BTreeSet<ScriptHash>,
    pub(super) in_flight: Vec<(SourceId, Request)>,
    pub(super) asked: Vec<Request>,
    pub(super) asked_of: Vec<(SourceId, Request)>,
    pub(super) reports: Vec<Report>,
    pub(super) reported: Vec<(SourceId, Report)>,
    /// Servers beside the main one, which answers from `node`.
    pub(super) peers: BTreeMap<SourceId, Peer>,
    /// Answers other than the node's own.
    pub(super) lies: Vec<(Request, Result<Reply, Refusal>)>,
    seed: u64,
}

impl World {
    pub(super) fn new(node: Node, watches: &[(u8, Owners)], seed: u64) -> Self {
        let mut world = World::offline(node, watches, seed);
        world.connect();
        world.settle();
        world
    }

    pub(super) fn offline(node: Node, watches: &[(u8, Owners)], seed: u64) -> Self {
        World::with_params(Params::new(Network::Regtest), node, watches, seed)
    }

    pub(super) fn with_params(params: Params, node: Node, watches: &[(u8, Owners)], seed: u64) -> Self {
        let tree = HeaderTree::new(params.clone());
        let watches = watches.iter().map(|&(n, owners)| Watch { script: script(n), owners }).collect();
        let store = Store { headers: tree.headers_from(0), ..Store::default() };
        let now = u64::from(node.tip().time) * 1000;
        let mut world = World {
            params,
            machine: Machine::new(tree, Vec::new(), None).unwrap(),
            node,
            store,
            listener: Listener::default(),
            watches,
            now,
            source: SourceId(500),
            subscribed: BTreeSet::new(),
            in_flight: Vec::new(),
            asked: Vec::new(),
            asked_of: Vec::new(),
            reports: Vec::new(),
            reported: Vec::new(),
            peers: BTreeMap::new(),
            lies: Vec::new(),
            seed: seed | 1,
        };
        world.put_watches();
        world
    }

    fn put_watches(&mut self) {
        for watch in self.watches.clone() {
            self.on(Input::Watch(watch));
        }
    }

    /// Nobody's from now on, for these owners.
    pub(super) fn unwatch(&mut self, n: u8, owners: Owners) {
        for watch in self.watches.iter_mut().filter(|watch| watch.script == script(n)) {
            watch.owners = watch.owners.without(owners);
        }
        self.watches.retain(|watch| watch.owners != Owners::default());
        self.on(Input::Unwatch { scripts: vec![hash_of(n)], owners });
    }

    /// A crash, and a new process over what was stored. The listener keeps what it knows.
    pub(super) fn restart(&mut self) {
        let tree = HeaderTree::restore(self.params.clone(), self.store.base, self.store.headers.clone()).unwrap();
        let records = self.store.records.values().cloned().collect();
        self.machine = Machine::new(tree, records, self.store.told).unwrap();
        self.in_flight.clear();
        self.peers.clear();
        self.asked.clear();
        self.asked_of.clear();
        self.listener.restarted = true;
        self.put_watches();
        self.on(Input::Believed(self.listener.unconfirmed.iter().copied().collect()));
    }

    pub(super) fn connect(&mut self) {
        self.source = SourceId(self.source.0 + 1);
        self.subscribed.clear();
        self.on(Input::Up { source: self.source, serves: Owners::ALL });
        self.push_tip();
    }

    pub(super) fn disconnect(&mut self) {
        let source = self.source;
        self.in_flight.retain(|(s, _)| *s != source);
        self.on(Input::Down { source });
    }

    pub(super) fn on(&mut self, input: Input) {
        self.machine.on(input, self.now);
        while let Some(action) = self.machine.next() {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Ask { source, request } => {
                self.asked.push(request.clone());
                self.asked_of.push((source, request.clone()));
                self.in_flight.push((source, request));
                assert!(self.in_flight.iter().filter(|(s, _)| *s == source).count() <= 8);
            }
            Action::StoreHeaders { from, headers, fork } => {
                if self.store.headers.is_empty() {
                    self.store.base = from;
                }
                self.store.headers.truncate((from - self.store.base) as usize);
                assert_eq!(self.store.headers.len(), (from - self.store.base) as usize, "no gap");
                self.store.headers.extend(headers);
                self.store.told = Told::forked(self.store.told, fork);
            }
            Action::StoreOlderHeaders { from, mut headers } => {
                assert_eq!(from + headers.len() as u32, self.store.base);
                headers.append(&mut self.store.headers);
                self.store.headers = headers;
                self.store.base = from;
            }
            Action::StoreHistory(record) => drop(self.store.records.insert(record.script, record)),
            Action::ForgetHistories(scripts) => scripts.iter().for_each(|id| drop(self.store.records.remove(id))),
            Action::Deliver(plan) => {
                let watches = self.listener.hear(&plan, self.machine.tree(), &self.store);
                if let Some(tip) = plan.told() {
                    self.store.told = Some(Told { tip, fork: None });
                }
                for watch in watches {
                    self.watches.push(watch.clone());
                    self.machine.on(Input::Watch(watch), self.now);
                }
                if plan.fork.is_some() {
                    let believed = self.listener.unconfirmed.iter().copied().collect();
                    self.machine.on(Input::Believed(believed), self.now);
                }
                self.machine.on(Input::Delivered, self.now);
            }
            Action::Report { source, report } => {
                self.reports.push(report.clone());
                self.reported.push((source, report));
            }
        }
    }

    pub(super) fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % below as u64) as usize
    }

    /// Answers one request, any.
    pub(super) fn answer_one(&mut self) -> bool {
        let speaks = |source: &SourceId| self.peers.get(source).is_none_or(|peer| !peer.silent);
        let able: Vec<usize> = (0..self.in_flight.len()).filter(|&at| speaks(&self.in_flight[at].0)).collect();
        if able.is_empty() {
            return false;
        }
        let pick = able[self.random(able.len())];
        let (source, request) = self.in_flight.swap_remove(pick);
        self.now += 1;
        if let Some(peer) = self.peers.get_mut(&source) {
            let reply = peer.answer(&request);
            self.on(Input::Answer { source, request, reply });
            return true;
        }
        let lie = self.lies.iter().find(|(r, _)| *r == request).map(|(_, reply)| reply.clone());
        let reply = lie.unwrap_or_else(|| self.node.answer(&request));
        if let Request::Subscribe { script } = request {
            self.subscribed.insert(script);
        }
        self.on(Input::Answer { source, request, reply });
        true
    }

    /// Answers everything and lets short waits pass, until nothing happens within `patience` ms.
    pub(super) fn settle_within(&mut self, patience: u64) {
        let end = self.now + patience;
        for _ in 0..100_000 {
            if self.answer_one() {
                continue;
            }
            match self.machine.deadline().filter(|&at| at <= end) {
                Some(at) => {
                    assert!(at >= self.now.saturating_sub(1), "a deadline that passed is gone");
                    self.now = self.now.max(at);
                    self.on(Input::Tick);
                }
                None => return,
            }
        }
        panic!("it does not settle");
    }

    pub(super) fn settle(&mut self) {
        self.settle_within(20_000);
    }

    pub(super) fn push_tip(&mut self) {
        let (header, height) = (self.node.tip(), self.node.height());
        self.on(Input::Tip { source: self.source, header, height });
    }

    /// The status of a script, if it is subscribed.
    pub(super) fn push_status(&mut self, id: ScriptHash) {
        if self.subscribed.contains(&id) {
            let status = self.node.status(id);
            self.on(Input::Status { source: self.source, script: id, status });
        }
    }

    /// All that the server pushes after a block: the header first, or the scripts.
    pub(super) fn push(&mut self, header_first: bool) {
        let ids: Vec<_> = self.subscribed.iter().copied().collect();
        if header_first {
            self.push_tip();
        }
        ids.into_iter().for_each(|id| self.push_status(id));
        if !header_first {
            self.push_tip();
        }
    }

    /// Mines, pushes and settles.
    pub(super) fn block(&mut self, txs: &[Arc<Transaction>]) {
        self.node.mine(txs);
        self.push(true);
        self.settle();
    }

    /// What the listener should believe, by the node: everything of the watched scripts, and the tip.
    pub(super) fn assert_complete(&self) {
        let mut expected = BTreeMap::new();
        for watch in &self.watches {
            for entry in self.node.history(ScriptHash::of(&watch.script)) {
                if let Some(height) = entry.height {
                    let hash = self.node.blocks[height as usize].0.block_hash();
                    expected.insert(entry.txid, BlockRef { height, hash });
                }
            }
        }
        assert_eq!(self.listener.confirmed, expected);
        let tip = BlockRef { height: self.node.height(), hash: self.node.tip().block_hash() };
        assert_eq!(self.listener.tip, Some(tip));
        assert!(self.machine.synced());
    }

    pub(super) fn plans(&self) -> &[Plan] {
        &self.listener.plans
    }

    /// Requests of a kind since the last call of [`World::forget`].
    pub(super) fn count(&self, kind: fn(&Request) -> bool) -> usize {
        self.asked.iter().filter(|r| kind(r)).count()
    }

    pub(super) fn forget(&mut self) {
        self.asked.clear();
        self.asked_of.clear();
        self.listener.plans.clear();
        self.reports.clear();
        self.reported.clear();
    }

    pub(super) fn branch(&self, txid: Txid, height: u32) -> Vec<TxMerkleNode> {
        let txs = &self.node.blocks[height as usize].1;
        branch_of(txs, txs.iter().position(|tx| tx.compute_txid() == txid).unwrap())
    }
}
