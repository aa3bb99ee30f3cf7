//! Following the scripts: who is asked about which, its status compared, its history put into the queue.

use super::jobs::JOBS;
use super::{Machine, Request, ScriptHash, SourceId};
use crate::chain::history::Stage;
use crate::chain::io::{BlockRef, Owners, Status};
use bitcoin::Txid;

/// One settled script is subscribed anew this often, round and round, since servers lose notifications. In ms; 24 cheap
/// requests an hour and server.
pub(super) const ROUND: u64 = 150_000;
/// As long rests a degraded watch at most when the server says something new of it.
const PUSHED_REST: u64 = 10_000;
/// For so long a job is left to another server that has begun one for the same status: if it is done by then, there is
/// nothing left to ask. In ms, from when it could have begun; one that lies in wait costs no more than this.
const HEAD_START: u64 = 700;
/// A server that has not listed what another one proved is asked about it after so many ms: its notification may just
/// be slower.
pub(super) const DOUBT: u64 = 10_000;

impl Machine {
    /// Puts a connection's duties into force.
    pub(super) fn duties(&mut self, source: SourceId, serves: Owners) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let before = std::mem::replace(&mut line.serves, serves);
        if before.wallet && !serves.wallet {
            self.mempool.forget(source);
            line.views.iter_mut().for_each(|(_, view)| view.pending.clear());
        }
        for id in self.watches.ids() {
            self.attend(source, id);
            if serves.wallet && !before.wallet {
                self.look_again(source, id);
            }
        }
    }

    /// Follows a script on a connection, or no longer, as its duties are.
    pub(super) fn attend(&mut self, source: SourceId, id: ScriptHash) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let owners = self.watches.get(&id).map(|followed| followed.owners).unwrap_or_default();
        match (line.serves.meets(owners), line.views.get(&id).is_some()) {
            (true, false) => self.subscribe(source, id),
            (false, true) => {
                line.lagging.remove(&id);
                let said = line.views.remove(id);
                for txid in said.into_iter().flat_map(|view| view.pending) {
                    self.mempool.unlist(source, id, txid);
                }
            }
            _ => {}
        }
    }

    /// True when a server tells the wallet of a script's unconfirmed transactions.
    pub(super) fn tells_wallet(&self, source: SourceId, id: ScriptHash) -> bool {
        let wallet = self.watches.get(&id).is_some_and(|followed| followed.owners.wallet);
        wallet && self.lines.get(&source).is_some_and(|line| line.serves.wallet)
    }

    pub(super) fn subscribe(&mut self, source: SourceId, id: ScriptHash) {
        if let Some(line) = self.lines.get_mut(&source) {
            line.views.subscribe(id);
            line.ask(Request::Subscribe { script: id });
        }
    }

    pub(super) fn subscribe_refused(&mut self, source: SourceId, id: ScriptHash) {
        let view = self.lines.get(&source).and_then(|line| line.views.get(&id));
        if view.is_some_and(|view| matches!(view.stage, Stage::Subscribing)) {
            self.trouble(source, id);
        }
    }

    /// The status of a script, asked for or pushed.
    pub(super) fn status_said(&mut self, source: SourceId, id: ScriptHash, status: Option<Status>) {
        let now = self.clock.now();
        let linked = self.linked(source).unwrap_or_default();
        let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { return };
        let news = !view.subscribed || view.pushed != status;
        view.subscribed = true;
        view.pushed = status;
        if !view.stage.is_active() {
            view.covering = linked;
        }
        let soon = now + PUSHED_REST;
        match view.stage {
            Stage::Subscribing | Stage::Settled if view.is_behind() => self.enqueue(source, id),
            Stage::Subscribing => self.settle(source, id),
            Stage::Resting(until) if view.degraded && news && until > soon => {
                if let Some(line) = self.lines.get_mut(&source) {
                    line.views.enter(id, Stage::Resting(soon));
                }
            }
            // A job compares again when it ends.
            _ => {}
        }
        if news {
            self.delivery.gather(now);
        }
    }

    pub(super) fn enqueue(&mut self, source: SourceId, id: ScriptHash) {
        let now = self.clock.now();
        let Some(line) = self.lines.get_mut(&source) else { return };
        if !matches!(line.views.enter(id, Stage::Queued), Some(Stage::Queued)) {
            line.queue.push_back(id);
            if let Some(view) = line.views.get_mut(&id) {
                view.queued = now;
            }
        }
    }

    /// More owners want to hear of a script: of what is proven, and the wallet of what is unconfirmed.
    pub(super) fn more_owners(&mut self, id: ScriptHash) {
        let Some(followed) = self.watches.get(&id) else { return };
        for txid in &followed.confirmed {
            if let Some(proven) = self.facts.get(txid).cloned() {
                self.facts.add(proven, followed.owners);
            }
        }
        for source in self.sources() {
            if self.tells_wallet(source, id) {
                self.look_again(source, id);
            }
        }
    }

    /// The wallet hears of a server's unconfirmed transactions from now on, which earlier jobs have skipped.
    fn look_again(&mut self, source: SourceId, id: ScriptHash) {
        let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { return };
        view.again = true;
        if view.is_settled() {
            self.enqueue(source, id);
        }
    }

    /// Begins and moves on what can be.
    pub(super) fn work(&mut self) {
        loop {
            let mut begun = false;
            for source in self.sources() {
                begun |= self.begin_jobs(source);
            }
            for source in self.sources() {
                for id in self.lines.get(&source).map(|line| line.views.active()).unwrap_or_default() {
                    self.advance(source, id);
                }
            }
            if !begun {
                return;
            }
        }
    }

    /// Begins what a server's turn is, and settles what needs no job; true when there was any.
    fn begin_jobs(&mut self, source: SourceId) -> bool {
        if let Some(line) = self.lines.get_mut(&source) {
            line.start = None;
        }
        // Histories are asked for once the server's headers are linked: before, their heights would mean nothing.
        let Some(tip) = self.linked(source) else { return false };
        let now = self.clock.now();
        let mut begun = false;
        let mut waiting = Vec::new();
        let mut start: Option<u64> = None;
        while let Some(line) = self.lines.get_mut(&source).filter(|line| line.views.active_len() < JOBS) {
            let Some(id) = line.queue.pop_front() else { break };
            let Some(view) = line.views.get(&id).filter(|view| matches!(view.stage, Stage::Queued)) else { continue };
            let (status, until) = (view.pushed, view.queued + HEAD_START);
            if self.is_known(source, id) {
                self.settle_known(source, id);
                begun = true;
            } else if until > now && self.others_work_on(source, id, status) {
                waiting.push(id);
                start = Some(start.map_or(until, |start| start.min(until)));
            } else {
                self.begin(source, id, tip);
                begun = true;
            }
        }
        if let Some(line) = self.lines.get_mut(&source) {
            line.start = start;
            waiting.into_iter().rev().for_each(|id| line.queue.push_front(id));
        }
        begun
    }

    /// True when a server says of a script what commits to nothing unknown.
    pub(super) fn is_known(&self, source: SourceId, id: ScriptHash) -> bool {
        let view = self.lines.get(&source).and_then(|line| line.views.get(&id));
        let (Some(view), Some(followed)) = (view, self.watches.get(&id)) else { return false };
        view.subscribed && followed.knows(view.pushed, self.tells_wallet(source, id))
    }

    /// True when another server's history for the same status is being worked on.
    fn others_work_on(&self, source: SourceId, id: ScriptHash, status: Option<Status>) -> bool {
        let working = |view: &crate::chain::view::View| view.stage.is_active() && view.fetching == status;
        let mut others = self.lines.iter().filter(|(other, _)| **other != source);
        others.any(|(_, line)| line.views.get(&id).is_some_and(working))
    }

    /// Our chain above `fork` is another one. A status tells the height of a transaction and not its block, so it may
    /// be the same though the block is not: everything that was at or above the fork is worked off again.
    pub(super) fn scripts_reorganised(&mut self, fork: BlockRef) {
        for id in self.watches.ids() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let near = |txid: &Txid| self.facts.get(txid).is_none_or(|proven| proven.height() >= fork.height);
            let touched = followed.confirmed.iter().any(near);
            followed.confirmed.retain(|txid| self.facts.get(txid).is_some());
            followed.told = followed.told.min(fork.height);
            followed.unstored |= touched;
            if touched {
                followed.worked = Default::default();
            }
            for source in self.sources() {
                let Some(view) = self.lines.get_mut(&source).and_then(|line| line.views.get_mut(&id)) else { continue };
                let busy = view.stage.is_active();
                view.covered = view.covered.min(fork.height);
                view.covering = view.covering.min(fork.height);
                view.misses = 0;
                view.again |= touched || busy;
                if busy || (touched && view.is_settled()) {
                    self.enqueue(source, id);
                }
            }
        }
    }

    /// More is proven of a script than these servers have listed: they are asked about it after a while.
    pub(super) fn doubt(&mut self, source: SourceId, id: ScriptHash) {
        let due = self.clock.now() + DOUBT;
        if let Some(line) = self.lines.get_mut(&source) {
            line.lagging.insert(id);
            line.doubt.get_or_insert(due);
        }
    }

    /// Looks whether a server has listed by now what lies below its own tip.
    fn look_for_omissions(&mut self, source: SourceId) {
        let tip = self.linked(source);
        let Some(line) = self.lines.get_mut(&source) else { return };
        line.doubt = None;
        for id in std::mem::take(&mut line.lagging) {
            let Some(line) = self.lines.get_mut(&source) else { return };
            let (Some(view), Some(followed)) = (line.views.get_mut(&id), self.watches.get(&id)) else { continue };
            let facts = followed.confirmed.iter().filter_map(|txid| self.facts.get(txid));
            let in_reach = facts.filter(|proven| tip.is_some_and(|tip| proven.height() <= tip)).count();
            if !view.is_settled() || view.listed >= followed.confirmed.len() {
                continue;
            } else if view.listed < in_reach {
                view.again = true;
                self.enqueue(source, id);
            } else {
                // It may come as far; then it is looked at again.
                line.lagging.insert(id);
            }
        }
    }

    /// Goes on with what has waited long enough.
    pub(super) fn timers(&mut self) {
        let now = self.clock.now();
        for source in self.sources() {
            self.header_timers(source);
            while let Some(line) = self.lines.get_mut(&source) {
                let Some((_, id)) = line.views.next_rested().filter(|(until, _)| *until <= now) else { break };
                match line.views.get(&id).is_some_and(|view| view.subscribed) {
                    true => self.enqueue(source, id),
                    false => self.subscribe(source, id),
                }
            }
            self.lose_patience(source);
            if self.lines.get(&source).is_some_and(|line| line.doubt.is_some_and(|at| at <= now)) {
                self.look_for_omissions(source);
            }
            let Some(line) = self.lines.get_mut(&source).filter(|line| line.round.1 <= now) else { continue };
            let next = line.views.settled_after(line.round.0);
            line.round = (next, now + ROUND);
            if let Some(script) = next {
                line.ask(Request::Subscribe { script });
            }
        }
    }
}
