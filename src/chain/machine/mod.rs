//! The sync machine: claims of servers in, proven plans out.
//!
//! Contract (design §3; LDK's `Confirm`):
//! - Nothing is delivered but what was proven against our own header tree; heights come from it alone.
//! - Headers are stored before anything that depends on them, a script's proofs before the delivery they are in.
//! - A plan is made when the serving server's tip is in our best chain and every script tells all up to there: its
//!   status is known and worked off, or its last whole history was asked for after that tip was known, or it is
//!   degraded. A short silence after each push gathers what belongs to the same block.
//! - The order of plans: what left the chain; then blocks upwards, one a plan, each followed by whatever it makes the
//!   listeners watch; the tip last and alone. The tip is never lower than before, unless our chain reorganised.
//! - Facts stand as long as their block is in our best chain. A server that says less than was proven degrades the
//!   watch; only a provable lie is reported as one.
//! - Bounded: `line::IN_FLIGHT` requests at once, few jobs at once, every retry backs off, every list has a limit.
//!
//! One server at a time serves scripts: the first that is up, and when it goes, the next. Tips are taken from all.

mod clock;
mod headers;
mod jobs;
mod line;
mod plan;
mod scripts;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::facts::Facts;
use super::io::{Action, BlockRef, Input, Reply, Report, Request, ScriptHash, ScriptRecord, SourceId, Told, Watch};
use super::io::{Lie, Owners};
use super::mempool::Mempool;
use super::merkle::{self, ProvenTx};
use super::tree::HeaderTree;
use super::watch::{Added, WatchSet};
use clock::Clock;
use headers::Older;
use line::{Chase, Line};
use plan::Delivery;

/// Turns claims into proven plans. [`Machine::on`] takes what happened and the time, [`Machine::next`] gives what is
/// to be done, [`Machine::deadline`] says when to come again if nothing happens.
#[derive(Debug)]
pub struct Machine {
    clock: Clock,
    tree: HeaderTree,
    lines: BTreeMap<SourceId, Line>,
    serving: Option<SourceId>,
    watches: WatchSet,
    /// Scripts whose turn has not come.
    queue: VecDeque<ScriptHash>,
    /// Stored records whose script is not watched (yet).
    records: HashMap<ScriptHash, ScriptRecord>,
    facts: Facts,
    mempool: Mempool,
    /// Bodies of transactions that left the chain, kept until they are proven again or the next tip is told.
    orphans: HashMap<Txid, Arc<Transaction>>,
    older: Older,
    /// The height at which the serving server's proofs fail, while it is asked for its header there.
    suspected: Option<u32>,
    /// The script that was last subscribed anew in the slow round, and when the next one is due.
    round: (Option<ScriptHash>, u64),
    delivery: Delivery,
    actions: VecDeque<Action>,
}

/// The tip that the listeners were told of is not in the stored chain, and nothing says where they part.
///
/// Headers are stored before they are delivered, and with each reorganisation where it leaves the told chain; so this
/// means a damaged or mixed-up database. To guess would unconfirm, and with it force-close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored headers do not hold block {} that was delivered before", .0.hash)]
pub struct UnknownTold(pub BlockRef);

/// How far the machine is; for people and for health checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The server that serves scripts now.
    pub serving: Option<SourceId>,
    /// Height of our best chain.
    pub height: u32,
    /// The height that the serving server claims; above `height` while headers are fetched.
    pub claimed: Option<u32>,
    /// The block that the listeners were last told of.
    pub told: Option<BlockRef>,
    /// Scripts followed.
    pub watches: usize,
    /// Scripts that wait for something.
    pub pending: usize,
    /// Scripts that the serving server does not serve.
    pub degraded: Vec<ScriptHash>,
    /// Our clock is behind the median time of the tip, so it is wrong.
    pub clock_behind: bool,
}

/// What one server is asked about, and how completely it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Scripts followed on it.
    pub watches: usize,
    /// Of these, scripts that wait for something.
    pub pending: usize,
    /// Of these, scripts whose history it does not serve.
    pub degraded: usize,
    /// The lowest height up to which it told all of each of these; `None` while its tip is not linked to our chain, or
    /// it is asked about none.
    pub covered: Option<u32>,
}

impl Machine {
    /// Starts from a restored (or new) tree, the stored records, and what the listeners were told.
    pub fn new(tree: HeaderTree, records: Vec<ScriptRecord>, told: Option<Told>) -> Result<Self, UnknownTold> {
        let delivery = Delivery::resume(&tree, &records, told)?;
        Ok(Machine {
            clock: Clock::default(),
            tree,
            lines: BTreeMap::new(),
            serving: None,
            watches: WatchSet::default(),
            queue: VecDeque::new(),
            records: records.into_iter().map(|record| (record.script, record)).collect(),
            facts: Facts::default(),
            mempool: Mempool::default(),
            orphans: HashMap::new(),
            older: Older::default(),
            suspected: None,
            round: (None, 0),
            delivery,
            actions: VecDeque::new(),
        })
    }

    /// Takes in what happened; `now` is Unix time in milliseconds.
    pub fn on(&mut self, input: Input, now: u64) {
        self.clock.set(now);
        match input {
            Input::Up { source, serves } => self.up(source, serves),
            Input::Serve { source, serves } => self.duties(source, serves),
            Input::Down { source } => self.down(source),
            Input::Tip { source, header, height } => self.tip_claimed(source, header, height),
            Input::Status { source, script, status } if self.serving == Some(source) => {
                self.status_said(script, status);
            }
            Input::Status { .. } => {}
            Input::Answer { source, request, reply } => {
                if self.lines.get_mut(&source).is_some_and(|line| line.answered(&request)) {
                    self.answer(source, request, reply.ok());
                }
            }
            Input::Watch(watch) => self.watch(watch),
            Input::Believed(txids) => self.mempool.believe(txids),
            Input::Delivered => self.delivery.done(),
            Input::Tick => {}
        }
        self.timers();
        self.work();
        self.plan();
        self.send();
    }

    /// The next thing to do, in order.
    #[allow(clippy::should_implement_trait)] // It is one, but the machine is no iterator: it never ends.
    pub fn next(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send [`Input::Tick`] if nothing else happens before (Unix time in milliseconds).
    pub fn deadline(&self) -> Option<u64> {
        let resting = self.lines.values().filter_map(|line| match line.chase {
            Chase::Resting(until) => Some(until),
            _ => None,
        });
        let round = self.serving.filter(|_| self.watches.len() > 0).map(|_| self.round.1);
        let rested = self.watches.next_rested().map(|(until, _)| until);
        let all = [self.delivery.deadline(), self.older.deadline(), self.patience(), round, rested];
        all.into_iter().flatten().chain(resting).min().map(|at| self.clock.wall(at))
    }

    /// Our own headers.
    pub fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    /// True while this transaction is proven to be in a block of our best chain.
    pub fn is_proven(&self, txid: &Txid) -> bool {
        self.facts.get(txid).is_some()
    }

    /// Every transaction that is proven to be in a block of our best chain and concerns channels, in chain order.
    pub fn proven_for_lightning(&self) -> impl Iterator<Item = &Arc<ProvenTx>> {
        self.facts.iter().filter(|(_, owners)| owners.lightning).map(|(proven, _)| proven)
    }

    /// True when all that the serving server knows was proven and delivered, up to our tip.
    pub fn synced(&self) -> bool {
        self.linked() == Some(self.tree.height())
            && self.delivery.is_at(self.tree.tip())
            && self.facts.next_due(u32::MAX).is_none()
            && !self.watches.hold_back(self.tree.height())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let line = self.serving.and_then(|source| self.lines.get(&source));
        let degraded = self.watches.iter().filter(|(_, f)| f.degraded).map(|(id, _)| *id);
        Progress {
            serving: self.serving,
            height: self.tree.height(),
            claimed: line.and_then(|line| line.claim).map(|(_, block)| block.height),
            told: self.delivery.told(),
            watches: self.watches.len(),
            pending: self.watches.unsettled_len(),
            degraded: degraded.collect(),
            clock_behind: self.clock.is_behind(self.tree.median_time()),
        }
    }

    /// How completely a server answers; nothing of one that serves no scripts or is not connected.
    pub fn coverage(&self, source: SourceId) -> Coverage {
        if self.serving != Some(source) {
            return Coverage::default();
        }
        Coverage {
            watches: self.watches.len(),
            pending: self.watches.unsettled_len(),
            degraded: self.watches.iter().filter(|(_, f)| f.degraded).count(),
            covered: self.linked().and_then(|tip| self.watches.iter().map(|(_, f)| f.told_up_to(tip)).min()),
        }
    }

    /// The lowest height up to which a script of Lightning is told, each script by the server that tells most of it:
    /// how far behind the least covered channel is. `None` when Lightning follows nothing.
    pub fn least_covered(&self) -> Option<u32> {
        let tip = self.linked();
        let lightning = self.watches.iter().filter(|(_, f)| f.owners.lightning);
        lightning.map(|(_, f)| tip.map_or(f.covered, |tip| f.told_up_to(tip))).min()
    }

    fn up(&mut self, source: SourceId, serves: Owners) {
        self.lines.entry(source).or_insert_with(|| Line::new(serves));
        self.choose();
    }

    fn duties(&mut self, source: SourceId, serves: Owners) {
        if let Some(line) = self.lines.get_mut(&source) {
            line.serves = serves;
        }
        self.choose();
    }

    fn down(&mut self, source: SourceId) {
        self.lines.remove(&source);
        self.older.forget(source);
        if self.serving == Some(source) {
            self.serving = None;
            self.suspected = None;
            self.unserved();
            self.choose();
        }
    }

    /// Lets a server that is up serve, if none does.
    fn choose(&mut self) {
        if self.serving.is_none() {
            let mut able = self.lines.iter().filter(|(_, line)| line.serves != Owners::default());
            self.serving = able.next().map(|(source, _)| *source);
            if let Some(source) = self.serving {
                self.round = (None, self.clock.now() + scripts::ROUND);
                self.serve();
                self.follow(source);
            }
        }
    }

    /// Tells of a lie, and listens to that server no more.
    fn condemn(&mut self, source: SourceId, lie: Lie) {
        self.actions.push_back(Action::Report { source, report: Report::Lie(lie) });
        self.down(source);
    }

    /// The height up to which the serving server's view is a view of our best chain.
    fn linked(&self) -> Option<u32> {
        let (_, block) = self.lines.get(&self.serving?)?.claim?;
        self.tree.contains(block).then_some(block.height)
    }

    /// Puts a question to the serving server.
    fn ask(&mut self, request: Request) {
        if let Some(line) = self.serving.and_then(|source| self.lines.get_mut(&source)) {
            line.ask(request);
        }
    }

    fn answer(&mut self, source: SourceId, request: Request, reply: Option<Reply>) {
        let serves = self.serving == Some(source);
        match (request, reply) {
            (Request::Headers { start, count }, Some(Reply::Headers(headers))) => {
                self.headers_came(source, start, count, headers);
            }
            (Request::Headers { start, .. }, _) => self.headers_refused(source, start),
            _ if !serves => {}
            (Request::Subscribe { script }, Some(Reply::Status(status))) => self.status_said(script, status),
            (Request::Subscribe { script }, _) => self.subscribe_refused(script),
            (Request::History { script }, Some(Reply::History(entries))) => self.history_came(script, &entries),
            (Request::History { script }, _) => self.trouble(script),
            (Request::Transaction { txid }, Some(Reply::Transaction(tx))) => self.body_came(source, txid, &tx),
            (Request::Transaction { txid }, _) => self.body_refused(txid),
            (Request::Proof { txid, height }, Some(Reply::Proof { branch, pos })) => {
                self.proof_came(source, txid, height, branch, pos);
            }
            (Request::Proof { txid, height }, _) => self.proof_refused(txid, height),
        }
    }

    /// Takes a watch in, with what is stored of it.
    fn watch(&mut self, watch: Watch) {
        let owners = watch.owners;
        let (id, added) = self.watches.add(watch);
        match added {
            Added::Known | Added::Refused => {}
            Added::New => {
                self.load(id, owners);
                if self.serving.is_some() {
                    self.subscribe(id);
                } else {
                    self.watches.enter(id, super::history::Stage::Offline);
                }
            }
            Added::MoreOwners => self.more_owners(id),
        }
    }

    /// Proves again what is stored of a script.
    fn load(&mut self, id: ScriptHash, owners: Owners) {
        let Some(record) = self.records.remove(&id) else { return };
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.known = record.status;
        followed.again = record.unconfirmed;
        for proof in record.confirmed {
            let block = BlockRef { height: proof.height, hash: proof.block };
            let txid = proof.tx.compute_txid();
            let header = self.tree.header_at(proof.height).filter(|_| self.tree.contains(block));
            let proven = header.map(|h| merkle::prove(proof.tx, proof.branch, proof.pos, h, proof.height));
            match proven {
                Some(Ok(proven)) => {
                    followed.confirmed.insert(txid);
                    self.facts.add(Arc::new(proven), owners);
                }
                // Its block left the chain after it was stored.
                _ => {
                    followed.again = true;
                    self.mempool.believe(owners.wallet.then_some(txid));
                }
            }
        }
    }

    /// Sends what there is room for.
    fn send(&mut self) {
        for (&source, line) in &mut self.lines {
            let wanted = |request: &Request| jobs::wanted(&self.watches, request);
            while let Some(request) = line.next(wanted) {
                self.actions.push_back(Action::Ask { source, request });
            }
        }
    }
}

#[cfg(test)]
mod tests;
