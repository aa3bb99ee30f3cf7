//! Following the scripts: subscribe, compare the status, have the history worked off.
//!
//! What goes wrong with a job is never an answer: it rests and starts over from the history, and after some tries the
//! watch is degraded, which says so and lets deliveries go on without it.

use bitcoin::Txid;

use super::jobs::JOBS;
use super::{Action, BlockRef, Machine, Report, Request, ScriptHash};
use crate::chain::history::Stage;
use crate::chain::io::Status;

/// One settled script is subscribed anew this often, round and round, since servers lose notifications. In ms; 24 cheap
/// requests an hour.
pub(super) const ROUND: u64 = 150_000;
/// Troubles after which a watch is degraded.
const TRIES: u32 = 3;
/// The rest after the first trouble, in ms; it doubles.
const FIRST_REST: u64 = 1_000;
/// The rest of a degraded watch: each error costs 100 of the 1000 or so units that a server grants, at one a second.
const DEGRADED_REST: u64 = 600_000;
/// As long rests a degraded watch at most when the server says something new of it.
const PUSHED_REST: u64 = 10_000;

impl Machine {
    /// A server begins to serve.
    pub(super) fn serve(&mut self) {
        for id in self.watches.ids() {
            self.subscribe(id);
        }
    }

    /// No server serves any more: what it said of itself is void, what was proven is not.
    pub(super) fn unserved(&mut self) {
        self.queue.clear();
        for id in self.watches.ids() {
            let stage = self.watches.enter(id, Stage::Offline);
            if let Some(followed) = self.watches.get_mut(&id) {
                // A job that did not end leaves undone what it was for.
                followed.again |= stage.is_some_and(|stage| stage.is_active());
                followed.subscribed = false;
                followed.pushed = None;
                followed.degraded = false;
                followed.tries = 0;
                followed.misses = 0;
            }
        }
    }

    pub(super) fn subscribe(&mut self, id: ScriptHash) {
        self.watches.enter(id, Stage::Subscribing);
        self.ask(Request::Subscribe { script: id });
    }

    pub(super) fn subscribe_refused(&mut self, id: ScriptHash) {
        if matches!(self.watches.get(&id).map(|f| &f.stage), Some(Stage::Subscribing)) {
            self.trouble(id);
        }
    }

    /// The status of a script, asked for or pushed.
    pub(super) fn status_said(&mut self, id: ScriptHash, status: Option<Status>) {
        let now = self.clock.now();
        let Some(followed) = self.watches.get_mut(&id) else { return };
        let news = !followed.subscribed || followed.pushed != status;
        followed.subscribed = true;
        followed.pushed = status;
        let soon = now + PUSHED_REST;
        match followed.stage {
            Stage::Subscribing | Stage::Settled if followed.is_behind() => self.enqueue(id),
            Stage::Subscribing => self.settle(id),
            Stage::Resting(until) if followed.degraded && news && until > soon => {
                self.watches.enter(id, Stage::Resting(soon));
            }
            // A job compares again when it ends.
            _ => {}
        }
        if news {
            self.delivery.gather(now);
        }
    }

    fn enqueue(&mut self, id: ScriptHash) {
        if !matches!(self.watches.enter(id, Stage::Queued), Some(Stage::Queued)) {
            self.queue.push_back(id);
        }
    }

    /// More owners want to hear of a script: of what is proven, and the wallet of what is unconfirmed.
    pub(super) fn more_owners(&mut self, id: ScriptHash) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        for txid in &followed.confirmed {
            if let Some(proven) = self.facts.get(txid).cloned() {
                self.facts.add(proven, followed.owners);
            }
        }
        // A job under way has skipped the unconfirmed bodies.
        followed.again |= !followed.pending.is_empty() || followed.stage.is_active();
        if followed.again && matches!(followed.stage, Stage::Settled) {
            self.enqueue(id);
        }
    }

    /// Begins and moves on what can be.
    pub(super) fn work(&mut self) {
        // Histories are asked for once the server's headers are linked: before, their heights would mean nothing.
        while let Some(coverage) = self.linked() {
            if self.watches.active_len() >= JOBS {
                break;
            }
            let Some(id) = self.queue.pop_front() else { break };
            self.begin(id, coverage);
        }
        for id in self.watches.active() {
            self.advance(id);
        }
    }

    /// A script has no trouble; if the server has said something new meanwhile, it goes on.
    pub(super) fn settle(&mut self, id: ScriptHash) {
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.tries = 0;
        followed.misses = 0;
        let behind = followed.is_behind();
        if std::mem::take(&mut followed.degraded) {
            self.report(Report::Recovered { script: id });
        }
        if behind {
            self.enqueue(id);
        } else {
            self.watches.enter(id, Stage::Settled);
        }
    }

    /// A job, or a subscription, did not work out.
    pub(super) fn trouble(&mut self, id: ScriptHash) {
        let now = self.clock.now();
        let Some(followed) = self.watches.get_mut(&id) else { return };
        followed.again = true;
        followed.tries = followed.tries.saturating_add(1);
        let degrades = followed.tries > TRIES;
        let rest = if degrades { DEGRADED_REST } else { FIRST_REST << (followed.tries - 1) };
        let news = degrades && !std::mem::replace(&mut followed.degraded, degrades);
        self.watches.enter(id, Stage::Resting(now + rest));
        if news {
            self.report(Report::Degraded { script: id });
        }
    }

    fn report(&mut self, report: Report) {
        if let Some(source) = self.serving {
            self.actions.push_back(Action::Report { source, report });
        }
    }

    /// Our chain above `fork` is another one. A status tells the height of a transaction and not its block, so it may
    /// be the same though the block is not: everything that was at or above the fork is fetched again.
    pub(super) fn scripts_reorganised(&mut self, fork: BlockRef) {
        for id in self.watches.ids() {
            let Some(followed) = self.watches.get_mut(&id) else { continue };
            let near = |txid: &Txid| self.facts.get(txid).is_none_or(|proven| proven.height() >= fork.height);
            let mut touched = followed.confirmed.iter().any(near);
            followed.confirmed.retain(|txid| self.facts.get(txid).is_some());
            followed.covered = followed.covered.min(fork.height);
            followed.misses = 0;
            let busy = followed.stage.is_active();
            touched |= busy;
            followed.again |= touched;
            followed.unstored |= touched;
            if touched && (busy || matches!(followed.stage, Stage::Settled)) {
                self.enqueue(id);
            }
        }
    }

    /// Goes on with what has waited long enough.
    pub(super) fn timers(&mut self) {
        self.header_timers();
        let now = self.clock.now();
        while let Some((_, id)) = self.watches.next_rested().filter(|(until, _)| *until <= now) {
            match self.watches.get(&id).is_some_and(|f| f.subscribed) {
                true => self.enqueue(id),
                false => self.subscribe(id),
            }
        }
        self.lose_patience();
        if self.serving.is_some() && self.round.1 <= now {
            let next = self.watches.settled_after(self.round.0);
            if let Some(script) = next {
                self.ask(Request::Subscribe { script });
            }
            self.round = (next, now + ROUND);
        }
    }
}
