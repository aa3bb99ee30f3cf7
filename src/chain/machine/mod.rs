//! The sync machine: claims of servers in, proven plans out.
//!
//! Contract (design §3; LDK's `Confirm`):
//! - Nothing is delivered but what was proven against our own header tree; heights come from it alone.
//! - Headers are stored before anything that depends on them, a script's proofs before the delivery they are in.
//! - Every script is followed on every server that serves one of its owners. What is proven is the union of what any of
//!   them proved; that one of them does not tell it is never proof of anything. When a plan is made stands in `plan`.
//! - The order of plans: what left the chain; then blocks upwards, one a plan, each followed by whatever it makes the
//!   listeners watch; the tip last and alone. The tip is never lower than before, unless our chain reorganised.
//! - Facts stand as long as their block is in our best chain. A server that says less than was proven degrades its own
//!   watch; only a provable lie is reported as one.
//! - Bounded for each server: `requests::IN_FLIGHT` requests at once, few jobs at once, every retry backs off, every
//!   list has a limit. What one server proved is not asked of another: a status that commits to nothing unknown is
//!   settled as it is, and a job that another server has begun is left to it for a moment.

mod clock;
mod depths;
mod forged;
mod headers;
mod jobs;
mod line;
mod plan;
mod proofs;
mod reach;
mod requests;
mod scripts;
mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Transaction, Txid};

use super::facts::Facts;
use super::io::{Action, BlockRef, Input, Reply, Report, Request, ScriptHash, ScriptRecord, SourceId, Told, Watch};
use super::io::{Lie, Owners};
use super::mempool::Mempool;
use super::merkle::{self, ProvenTx};
use super::tree::HeaderTree;
use super::watch::{Added, WatchSet, Worked};
use clock::Clock;
use line::Line;
use plan::Delivery;

pub use reach::{Coverage, Progress};

/// Turns claims into proven plans. [`Machine::on`] takes what happened and the time, [`Machine::next`] gives what is
/// to be done, [`Machine::deadline`] says when to come again if nothing happens.
#[derive(Debug)]
pub struct Machine {
    clock: Clock,
    tree: HeaderTree,
    lines: BTreeMap<SourceId, Line>,
    watches: WatchSet,
    /// Stored records whose script is not watched (yet).
    records: HashMap<ScriptHash, ScriptRecord>,
    facts: Facts,
    mempool: Mempool,
    /// Bodies of transactions that left the chain, kept until they are proven again or the next tip is told.
    orphans: HashMap<Txid, Arc<Transaction>>,
    /// Who sent the bodies that Lightning was not told of yet.
    senders: HashMap<Txid, SourceId>,
    /// The script that held the last plan back: looked at first the next time.
    blocker: Option<ScriptHash>,
    delivery: Delivery,
    /// Followed by nobody any more, and still stored.
    given_up: BTreeSet<ScriptHash>,
    actions: VecDeque<Action>,
}

/// The tip that the listeners were told of is not in the stored chain, and nothing says where they part.
///
/// Headers are stored before they are delivered, and with each reorganisation where it leaves the told chain; so this
/// means a damaged or mixed-up database. To guess would unconfirm, and with it force-close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored headers do not hold block {} that was delivered before", .0.hash)]
pub struct UnknownTold(pub BlockRef);

impl Machine {
    /// Starts from a restored (or new) tree, the stored records, and what the listeners were told.
    pub fn new(tree: HeaderTree, records: Vec<ScriptRecord>, told: Option<Told>) -> Result<Self, UnknownTold> {
        let delivery = Delivery::resume(&tree, &records, told)?;
        Ok(Machine {
            clock: Clock::default(),
            tree,
            lines: BTreeMap::new(),
            watches: WatchSet::default(),
            records: records.into_iter().map(|record| (record.script, record)).collect(),
            facts: Facts::default(),
            mempool: Mempool::default(),
            orphans: HashMap::new(),
            senders: HashMap::new(),
            blocker: None,
            delivery,
            given_up: BTreeSet::new(),
            actions: VecDeque::new(),
        })
    }

    /// Takes in what happened; `now` is Unix time in milliseconds.
    pub fn on(&mut self, input: Input, now: u64) {
        self.clock.set(now);
        match input {
            Input::Up { source, serves } => {
                let round = self.clock.now() + scripts::ROUND;
                self.lines.entry(source).or_insert_with(|| Line::new(round));
                self.duties(source, serves);
            }
            Input::Serve { source, serves } => self.duties(source, serves),
            Input::Down { source } => self.down(source),
            Input::Tip { source, header, height } => self.tip_claimed(source, header, height),
            Input::Status { source, script, status } => self.status_said(source, script, status),
            Input::Answer { source, request, reply } => {
                if self.lines.get_mut(&source).is_some_and(|line| line.requests.answered(&request)) {
                    self.answer(source, request, reply.ok());
                }
            }
            Input::Watch(watch) => self.watch(watch),
            Input::Unwatch { scripts, owners } => self.unwatch(scripts, owners),
            Input::Believed(txids) => self.mempool.believe(txids),
            Input::Delivered => self.delivery.done(),
            Input::Tick => {}
        }
        self.timers();
        self.work();
        self.plan();
        self.forget();
        self.send();
    }

    /// The next thing to do, in order.
    #[allow(clippy::should_implement_trait)] // It is one, but the machine is no iterator: it never ends.
    pub fn next(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send [`Input::Tick`] if nothing else happens before (Unix time in milliseconds).
    pub fn deadline(&self) -> Option<u64> {
        let lines = self.lines.values().filter_map(Line::deadline);
        let all = lines.chain(self.delivery.deadline(self.clock.now()));
        all.min().map(|at| self.clock.wall(at))
    }

    /// Our own headers.
    pub fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    /// Our header at the height up to which the process before this one told everything, while this one has told no tip.
    pub fn told_before(&self) -> Option<Header> {
        self.delivery.told_before().and_then(|height| self.tree.header_at(height))
    }

    /// True while this transaction is proven to be in a block of our best chain.
    pub fn is_proven(&self, txid: &Txid) -> bool {
        self.facts.get(txid).is_some()
    }

    /// Every transaction that is proven to be in a block of our best chain and concerns channels, in chain order.
    pub fn proven_for_lightning(&self) -> impl Iterator<Item = &Arc<ProvenTx>> {
        self.facts.iter().filter(|(_, owners)| owners.lightning).map(|(proven, _)| proven)
    }

    /// What a server said of itself is void when it goes; what was proven is not.
    fn down(&mut self, source: SourceId) {
        self.lines.remove(&source);
        self.mempool.forget(source);
    }

    /// Tells of a lie, and listens to that server no more.
    fn condemn(&mut self, source: SourceId, lie: Lie) {
        self.report(source, Report::Lie(lie));
        self.down(source);
    }

    fn report(&mut self, source: SourceId, report: Report) {
        self.actions.push_back(Action::Report { source, report });
    }

    fn sources(&self) -> Vec<SourceId> {
        self.lines.keys().copied().collect()
    }

    /// The scripts that a server's histories are being worked on of.
    fn active(&self, source: SourceId) -> Vec<ScriptHash> {
        self.lines.get(&source).map(|line| line.views.active()).unwrap_or_default()
    }

    /// The height up to which a server's view is a view of our best chain.
    fn linked(&self, source: SourceId) -> Option<u32> {
        self.lines.get(&source)?.linked(&self.tree)
    }

    /// Puts a question to a server.
    fn ask(&mut self, source: SourceId, request: Request) {
        if let Some(line) = self.lines.get_mut(&source) {
            line.ask(request);
        }
    }

    fn answer(&mut self, source: SourceId, request: Request, reply: Option<Reply>) {
        match (request, reply) {
            (Request::Headers { start, count }, Some(Reply::Headers(headers))) => {
                self.headers_came(source, start, count, headers);
            }
            (Request::Headers { start, .. }, _) => self.headers_refused(source, start),
            (Request::Subscribe { script }, Some(Reply::Status(status))) => self.status_said(source, script, status),
            (Request::Subscribe { script }, _) => self.subscribe_refused(source, script),
            (Request::History { script }, Some(Reply::History(entries))) => {
                self.history_came(source, script, &entries);
            }
            (Request::History { script }, _) => self.history_refused(source, script),
            (Request::Transaction { txid }, Some(Reply::Transaction(tx))) => self.body_came(source, txid, &tx),
            (Request::Transaction { txid }, _) => self.body_refused(source, txid),
            (Request::Proof { txid, height }, Some(Reply::Proof { branch, pos })) => {
                self.proof_came(source, txid, height, &branch, pos);
            }
            (Request::Proof { txid, height }, _) => self.proof_refused(source, txid, height),
            (Request::Coinbase { height }, Some(Reply::Coinbase(coinbase))) => {
                self.coinbase_came(source, height, coinbase);
            }
            (Request::Coinbase { height }, _) => self.coinbase_refused(source, height),
        }
    }

    /// Takes a watch in, with what is stored of it.
    fn watch(&mut self, watch: Watch) {
        let owners = watch.owners;
        let (id, added) = self.watches.add(watch);
        match added {
            Added::Known | Added::Refused => return,
            Added::New => {
                self.given_up.remove(&id);
                self.load(id, owners);
                if let (true, Some(followed)) = (self.lines.is_empty(), self.watches.get_mut(&id)) {
                    followed.told = self.delivery.told_before().unwrap_or_default();
                }
            }
            Added::MoreOwners => self.more_owners(id),
        }
        for source in self.sources() {
            self.attend(source, id);
        }
    }

    /// Follows scripts for these owners no more.
    fn unwatch(&mut self, scripts: Vec<ScriptHash>, owners: Owners) {
        for id in scripts {
            if self.watches.remove(id, owners) {
                self.given_up.insert(id);
            }
            for source in self.sources() {
                self.attend(source, id);
            }
        }
    }

    /// Has the records removed that nobody needs. What is stored says after a crash which blocks were told beyond the
    /// last tip, so they stay until everything that is proven is told, and a tip with it.
    fn forget(&mut self) {
        let told = || self.delivery.is_level() && self.facts.next_due(u32::MAX).is_none();
        if !self.given_up.is_empty() && told() {
            let scripts = std::mem::take(&mut self.given_up).into_iter().collect();
            self.actions.push_back(Action::ForgetHistories(scripts));
        }
    }

    /// Proves again what is stored of a script.
    fn load(&mut self, id: ScriptHash, owners: Owners) {
        let Some(record) = self.records.remove(&id) else { return };
        let Some(followed) = self.watches.get_mut(&id) else { return };
        let mut whole = !record.unconfirmed;
        for proof in record.confirmed {
            let block = BlockRef { height: proof.height, hash: proof.block };
            let txid = proof.tx.compute_txid();
            let header = self.tree.header_at(proof.height).filter(|_| self.tree.contains(block));
            let proven = header.map(|header| merkle::prove_again(proof, header));
            match proven {
                Some(Ok(proven)) => {
                    followed.confirmed.insert(txid);
                    self.facts.add(Arc::new(proven), owners);
                }
                // Its block left the chain after it was stored.
                _ => {
                    whole = false;
                    self.mempool.believe(owners.wallet.then_some(txid));
                }
            }
        }
        if whole {
            followed.worked = Worked { plain: record.status, whole: record.status };
        }
    }

    /// Sends what there is room for.
    fn send(&mut self) {
        for (&source, line) in &mut self.lines {
            let Line { views, requests, .. } = line;
            while let Some(request) = requests.next(|request| jobs::wanted(views, request)) {
                self.actions.push_back(Action::Ask { source, request });
            }
        }
    }
}

#[cfg(test)]
mod tests;
