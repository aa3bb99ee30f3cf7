//! When to tell the listeners, and what.

use super::{Action, BlockRef, Machine, ScriptRecord, Told, UnknownTold};
use crate::chain::io::{Plan, PlanBlock};
use crate::chain::tree::HeaderTree;

/// A silence that ends a block's notifications, in ms.
const SILENCE: u64 = 150;
/// They are not gathered longer than this, in ms: a flood must not hold a block back.
const LONGEST_GATHER: u64 = 2_000;

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
    /// A plan is being carried out.
    busy: bool,
    /// Since when, and until when, notifications are gathered.
    gathering: Option<(u64, u64)>,
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
        Ok(Delivery { told: tip, reached, highest, refreshed: false, fork, busy: false, gathering: None })
    }

    pub(super) fn told(&self) -> Option<BlockRef> {
        self.told
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

    /// Something came that more may belong to.
    pub(super) fn gather(&mut self, now: u64) {
        let since = self.gathering.map_or(now, |(since, _)| since);
        self.gathering = Some((since, (now + SILENCE).min(since + LONGEST_GATHER)));
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.gathering.map(|(_, until)| until)
    }

    /// True when nothing is being gathered (any more).
    fn quiet(&mut self, now: u64) -> bool {
        self.gathering = self.gathering.filter(|(_, until)| now < *until);
        self.gathering.is_none()
    }

    /// Our chain above `fork` is another one than a moment ago.
    pub(super) fn reorganised(&mut self, tree: &HeaderTree, fork: BlockRef) {
        let Some(reached) = self.reached else { return };
        // The tree may remember the branch that the listeners know; else the deepest fork since then is the one.
        self.fork = match tree.common(reached) {
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
        let whole = told && self.linked().is_some() && self.watches.unsettled_len() == 0;
        let mempool = self.mempool.tell(whole, |txid| self.facts.get(txid).is_some());
        let plan = Plan { mempool, ..chain.unwrap_or_default() };
        if !plan.is_empty() {
            self.delivery.busy = true;
            self.actions.push_back(Action::Deliver(plan));
        }
    }

    /// What is to be told of the chain.
    fn chain_plan(&mut self) -> Option<Plan> {
        let coverage = self.linked()?;
        let delivery = &self.delivery;
        // A server that lags behind what was told can add to the past, but not replace it.
        let caught_up = coverage >= delivery.highest.min(self.tree.height())
            && delivery.fork.is_none_or(|fork| coverage > fork.height);
        let forked = delivery.fork.is_some();
        let due = self.facts.next_due(coverage);
        let news = delivery.told.is_none_or(|told| told.height < coverage + u32::from(!delivery.refreshed));
        let tip_due = caught_up && (forked || news);
        let ready = (!forked || caught_up) && !self.watches.hold_back(coverage);
        if !ready || (due.is_none() && !tip_due) {
            return None;
        }
        let mut plan = Plan { fork: self.delivery.fork.take(), ..Plan::default() };
        if let Some(fork) = plan.fork {
            self.delivery.told = Some(fork);
            self.delivery.reached = Some(fork);
        }
        if let Some(height) = due {
            let header = self.tree.header_at(height)?;
            self.delivery.reached = self.delivery.reached.max(self.tree.block_at(height));
            let txs = self.facts.tell(height);
            for tx in txs.iter().filter(|tx| tx.owners.wallet) {
                self.mempool.confirmed(&tx.proven.txid());
            }
            plan.block = Some(PlanBlock { header, height, txs });
        } else {
            let tip = self.tree.block_at(coverage)?;
            plan.tip = Some((self.tree.header_at(coverage)?, coverage));
            self.delivery.told = Some(tip);
            self.delivery.refreshed = true;
            self.delivery.reached = self.delivery.reached.max(Some(tip));
            self.delivery.highest = self.delivery.highest.max(coverage);
            self.orphans.clear();
        }
        Some(plan)
    }
}
