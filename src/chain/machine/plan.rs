//! When to tell the listeners, and what.
//!
//! Rules:
//! - A tip is told when every script is told up to there by at least one server that is not degraded on it (or all that
//!   are asked about it are degraded: then it is said, and the rest goes on). For scripts of Lightning this waits as
//!   long as it takes: a height without what happened below it gives up contracts that were claimed in time.
//! - What others may add is waited for with patience that has an absolute end: a server that has announced the block and
//!   is not worked off yet, a server of the wallet that is behind. When it ends, facts are told as they are proven, and
//!   the tip without the wallet's own scripts. What is proven later is told then, as a block below the tip.
//! - While the chain told before has left ours, patience ends nothing: a transaction is unconfirmed together with what
//!   is proven of it on the new chain, never because a server is slow.
//!
//! Decision: one patience for all, counted from when something was first due, and [`PATIENCE`] long. Chosen because it
//! bounds what any number of silent servers can cost to one sum; rejected: to wait for a majority, since two of three
//! that hide a theft are a majority, and to tell at once what the first one proved, since the tip could then overtake the
//! spend that the third has just announced. Cost: with a server that announces blocks and then is silent, every tip
//! is late by this much until its watches are degraded or the pool drops it.

use super::{Action, BlockRef, Machine, ScriptRecord, Told, UnknownTold};
use crate::chain::io::{Plan, PlanBlock};
use crate::chain::tree::HeaderTree;

/// A silence that ends a block's notifications, in ms: most of what passes between a server's word and LDK's. Servers send
/// a block's notifications in one go; what comes later is told later, below the tip.
const SILENCE: u64 = 75;
/// They are not gathered longer than this, in ms: a flood must not hold a block back.
const LONGEST_GATHER: u64 = 2_000;
/// For so long, in ms, what is due waits for servers that may add to it.
const PATIENCE: u64 = 5_000;
/// The same before the first tip of a process, when every server is asked about everything.
const FIRST_PATIENCE: u64 = 30_000;

/// What the listeners know of the chain.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The last tip (or fork) they were told.
    told: Option<BlockRef>,
    /// The highest block that they have heard of, be it as a tip or for its transactions.
    reached: Option<BlockRef>,
    /// Height of the highest tip they were told, whatever became of it.
    highest: u32,
    /// They were told a tip by this process. After a restart it is told once more even if it is the same: LDK writes
    /// what it knows of the chain lazily, so it may have come back with less.
    refreshed: bool,
    /// Where our chain left the one they know.
    fork: Option<BlockRef>,
    /// The fork is from before a restart: how far they knew the chain that left is not known any more.
    blind: bool,
    /// A plan is being carried out.
    busy: bool,
    /// Since when, and until when, notifications are gathered.
    gathering: Option<(u64, u64)>,
    /// When patience with those that may add to what is due ends.
    patience: Option<u64>,
}

impl Delivery {
    pub(super) fn resume(tree: &HeaderTree, records: &[ScriptRecord], told: Option<Told>) -> Result<Self, UnknownTold> {
        let tip = told.map(|told| told.tip);
        let fork = told.and_then(|told| told.fork);
        if let Some(known) = fork.or(tip).filter(|block| !tree.contains(*block)) {
            return Err(UnknownTold(known));
        }
        // A block's transactions may have been told before a crash, and its tip not.
        let proofs = records.iter().flat_map(|record| &record.confirmed);
        let blocks = proofs.map(|proof| BlockRef { height: proof.height, hash: proof.block });
        // With a fork untold, though, what they heard of is on the chain that left.
        let reached = match fork {
            Some(_) => tip,
            None => blocks.filter(|block| tree.contains(*block)).chain(tip).max(),
        };
        let highest = tip.map_or(0, |tip| tip.height);
        let (refreshed, blind, busy) = (false, fork.is_some(), false);
        Ok(Delivery { told: tip, reached, highest, refreshed, fork, blind, busy, gathering: None, patience: None })
    }

    pub(super) fn told(&self) -> Option<BlockRef> {
        self.told
    }

    /// The height up to which everything was told by the process before this one, while this one has told no tip.
    pub(super) fn told_before(&self) -> Option<u32> {
        self.told.filter(|_| !self.refreshed).map(|told| told.height)
    }

    pub(super) fn fork(&self) -> Option<BlockRef> {
        self.fork
    }

    pub(super) fn is_at(&self, tip: BlockRef) -> bool {
        self.told == Some(tip) && self.refreshed && self.fork.is_none() && !self.busy
    }

    pub(super) fn done(&mut self) {
        self.busy = false;
    }

    /// True when the listeners have heard of nothing beyond the tip they were told, and that is stored.
    pub(super) fn is_level(&self) -> bool {
        !self.busy && self.reached == self.told
    }

    /// Something came that more may belong to.
    pub(super) fn gather(&mut self, now: u64) {
        let since = self.gathering.map_or(now, |(since, _)| since);
        self.gathering = Some((since, (now + SILENCE).min(since + LONGEST_GATHER)));
    }

    pub(super) fn deadline(&self, now: u64) -> Option<u64> {
        // Patience that has ended is no reason to come again.
        let patience = self.patience.filter(|&until| until > now);
        self.gathering.map(|(_, until)| until).into_iter().chain(patience).min()
    }

    /// True when nothing is being gathered (any more).
    fn quiet(&mut self, now: u64) -> bool {
        self.gathering = self.gathering.filter(|(_, until)| now < *until);
        self.gathering.is_none()
    }

    /// True when something has been due for too long; `due` says whether anything is.
    fn impatient(&mut self, due: bool, now: u64) -> bool {
        let patience = if self.refreshed { PATIENCE } else { FIRST_PATIENCE };
        self.patience = due.then(|| self.patience.unwrap_or(now + patience));
        self.patience.is_some_and(|until| until <= now)
    }

    /// True when a tip at this height is news.
    pub(super) fn lacks(&self, height: u32) -> bool {
        self.told.is_none_or(|told| told.height < height + u32::from(!self.refreshed))
    }

    /// Our chain above `fork` is another one than a moment ago.
    pub(super) fn reorganised(&mut self, tree: &HeaderTree, fork: BlockRef) {
        let Some(reached) = self.reached else { return };
        // The tree may remember the branch that the listeners know; else the deepest fork since then is the one.
        self.fork = match tree.common(reached).filter(|_| !self.blind) {
            Some(shared) if shared == reached => None,
            Some(shared) => Some(shared),
            None => Some(self.fork.filter(|before| before.height < fork.height).unwrap_or(fork)),
        };
    }
}

impl Machine {
    /// Makes the next plan if it is time for one.
    pub(super) fn plan(&mut self) {
        let quiet = self.delivery.quiet(self.clock.now());
        if self.delivery.busy {
            return;
        }
        let chain = if quiet { self.chain_plan() } else { None };
        let told = quiet && self.delivery.fork.is_none();
        let whole = told && self.mempool.has_doubts() && self.knows_mempool();
        let mempool = self.mempool.tell(whole, |txid| self.facts.get(txid).is_some());
        let plan = Plan { mempool, ..chain.unwrap_or_default() };
        if !plan.is_empty() {
            self.delivery.busy = true;
            self.actions.push_back(Action::Deliver(plan));
        }
    }

    /// What is to be told of the chain.
    fn chain_plan(&mut self) -> Option<Plan> {
        let (top, fork) = (self.top()?, self.delivery.fork);
        let wanted = fork.is_some() || self.delivery.lacks(top) || self.facts.next_due(u32::MAX).is_some();
        let impatient = self.delivery.impatient(wanted, self.clock.now());
        if !wanted {
            return None;
        }
        let reach = self.reach(impatient);
        if !impatient && reach.is_none_or(|reach| self.are_at_work(reach)) {
            return None;
        }
        // A server that lags behind what was told can add to the past, but not replace it.
        let catches_up = |reach: u32| {
            reach >= self.delivery.highest.min(self.tree.height()) && fork.is_none_or(|fork| reach > fork.height)
        };
        let caught_up = reach.filter(|&reach| catches_up(reach));
        if fork.is_some() && caught_up.is_none() {
            return None;
        }
        // At the start, everything is told in the order of the chain.
        let limit = if impatient && self.delivery.refreshed { u32::MAX } else { reach? };
        let due = self.facts.next_due(limit);
        let tip = caught_up.filter(|&reach| fork.is_some() || self.delivery.lacks(reach));
        match due {
            Some(height) => self.block_plan(height),
            None => self.tip_plan(tip?),
        }
    }

    /// What is due of one block, after what left the chain.
    fn block_plan(&mut self, height: u32) -> Option<Plan> {
        let header = self.tree.header_at(height)?;
        if self.reject_forged(height) {
            return None;
        }
        let fork = self.leave();
        self.delivery.reached = self.delivery.reached.max(self.tree.block_at(height));
        let txs = self.facts.tell(height);
        for tx in txs.iter().filter(|tx| tx.owners.wallet) {
            self.mempool.confirmed(&tx.proven.txid());
        }
        Some(Plan { fork, block: Some(PlanBlock { header, height, txs }), ..Plan::default() })
    }

    /// The tip at `height`, after what left the chain.
    fn tip_plan(&mut self, height: u32) -> Option<Plan> {
        let (header, tip) = (self.tree.header_at(height)?, self.tree.block_at(height)?);
        let fork = self.leave();
        self.note_told(height);
        let delivery = &mut self.delivery;
        delivery.told = Some(tip);
        delivery.refreshed = true;
        delivery.reached = delivery.reached.max(Some(tip));
        delivery.highest = delivery.highest.max(height);
        delivery.patience = None;
        self.orphans.clear();
        self.senders.clear();
        Some(Plan { fork, tip: Some((header, height)), ..Plan::default() })
    }

    /// Takes the fork that is to be told.
    fn leave(&mut self) -> Option<BlockRef> {
        let fork = self.delivery.fork.take()?;
        self.delivery.blind = false;
        self.delivery.told = Some(fork);
        self.delivery.reached = Some(fork);
        Some(fork)
    }
}
