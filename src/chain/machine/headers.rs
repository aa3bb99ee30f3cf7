//! Following the servers' headers.
//!
//! A tip that links is taken as it comes. One that does not starts a chase: headers from our tip on, or, where these
//! do not link either, from further and further back until they do. Only one request of a chase is in flight, and one
//! that leads nowhere backs off, so a tip that flips costs little. While one server is chased, the others leave it to
//! that one as long as our chain grows by it: the same headers are not fetched from each.

use bitcoin::block::Header;

use super::line::{Chase, Line};
use super::{Action, BlockRef, Lie, Machine, Request, SourceId, scripts};
use crate::chain::tree::{MAX_REORG, Refused};

/// Headers in one request, at most (protocol).
const CHUNK: u32 = 2016;
/// The first step back in search of a fork; each next one is [`STRIDE`] times as long.
const FIRST_STEP: u32 = 8;
const STRIDE: u32 = 8;
/// The first rest after a chase that led nowhere, in ms; it doubles up to [`LONGEST_REST`].
const FIRST_REST: u64 = 1_000;
const LONGEST_REST: u64 = 60_000;
/// For so long, in ms, a chase is left to another server at a time ...
const DEFER: u64 = 2_000;
/// ... as long as our chain grows by so many headers meanwhile.
const GROWTH: u32 = 500;
/// Refusals of older headers after which those who wait for them give up for now.
const OLDER_TRIES: u32 = 3;

/// The headers below the tree's base that a server's proofs wait for.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// First height and count of those that were asked for.
    asked: Option<(u32, u32)>,
    tries: u32,
    rest: Option<u64>,
}

impl Older {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.rest
    }

    fn is_asked(&self, from: u32) -> bool {
        self.asked.is_some_and(|(start, _)| start == from)
    }
}

impl Machine {
    /// A server's proofs against the block at `height` fail: asks it whether it has that block at all.
    pub(super) fn suspect(&mut self, source: SourceId, height: u32) {
        let block = self.tree.block_at(height);
        if let Some(line) = self.lines.get_mut(&source) {
            line.suspected = block;
            line.ask(Request::Headers { start: height, count: 1 });
        }
    }

    /// If it has, it lied; if not, it is on another chain, and if it still claims a tip of ours that says nothing until
    /// it names the next. Nothing is known if the block has left our own chain meanwhile.
    fn suspect_answered(&mut self, source: SourceId, headers: &[Header]) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let Some(suspected) = line.suspected.take().filter(|block| self.tree.contains(*block)) else { return };
        if headers.first().is_some_and(|header| header.block_hash() == suspected.hash) {
            self.condemn(source, Lie::Proof);
        } else {
            line.claim = line.claim.filter(|(_, block)| !self.tree.contains(*block));
        }
    }

    pub(super) fn tip_claimed(&mut self, source: SourceId, header: Header, height: u32) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        line.claim = Some((header, BlockRef { height, hash: header.block_hash() }));
        self.follow(source);
        let now = self.clock.now();
        let linked = self.linked(source);
        let Some(line) = self.lines.get_mut(&source) else { return };
        if !line.lagging.is_empty() {
            line.doubt.get_or_insert(now + scripts::DOUBT);
        }
        // What it pushes of this block may come right after it, though another server has announced it before.
        if line.is_serving() && linked.is_some_and(|height| self.delivery.lacks(height)) {
            self.delivery.gather(now);
        }
    }

    /// Links a server's claim, or takes the next step towards it.
    pub(super) fn follow(&mut self, source: SourceId) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let Some((header, claim)) = line.claim else { return };
        if let Some((start, count)) = self.tree.wants_anchor() {
            if line.chase == Chase::Idle {
                line.chase = Chase::Asked { start, back: 0 };
                line.ask(Request::Headers { start, count });
            }
            return;
        }
        let old = self.tree.tip();
        match self.tree.accept(header, claim.height, self.clock.seconds()) {
            Ok(_) => {
                line.tries = 0;
                line.deferred = None;
                if !matches!(line.chase, Chase::Asked { .. }) {
                    line.chase = Chase::Idle;
                }
                self.chain_changed(old);
            }
            Err(Refused::Lie(_)) => self.condemn(source, Lie::Header),
            Err(Refused::Unlinked) if line.chase == Chase::Idle => {
                if !self.defer(source) {
                    self.chase(source, claim.height.min(old.height + 1), 0);
                }
            }
            Err(Refused::Unlinked) => {}
            Err(Refused::Future | Refused::TooDeep) if line.chase == Chase::Idle => self.rest(source),
            Err(Refused::Future | Refused::TooDeep) => {}
        }
    }

    /// Leaves the chase to another server if there is one under way that leads somewhere.
    fn defer(&mut self, source: SourceId) -> bool {
        let mut others = self.lines.iter().filter(|(other, _)| **other != source);
        if !others.any(|(_, line)| matches!(line.chase, Chase::Asked { .. })) {
            return false;
        }
        let (height, until) = (self.tree.height(), self.clock.now() + DEFER);
        let Some(line) = self.lines.get_mut(&source) else { return false };
        let grows = line.deferred.is_none_or(|before| height >= before.saturating_add(GROWTH));
        if grows {
            line.deferred = Some(height);
            line.chase = Chase::Resting(until);
        }
        grows
    }

    /// Asks for headers from `start` up to the claim.
    fn chase(&mut self, source: SourceId, start: u32, back: u32) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        line.chase = Chase::Idle;
        let Some((_, claim)) = line.claim else { return };
        let start = start.max(self.tree.floor().height + 1);
        let count = (claim.height.saturating_sub(start) + 1).min(CHUNK);
        line.chase = Chase::Asked { start, back };
        line.ask(Request::Headers { start, count });
    }

    fn rest(&mut self, source: SourceId) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let rest = (FIRST_REST << line.tries.min(6)).min(LONGEST_REST);
        line.tries += 1;
        line.chase = Chase::Resting(self.clock.now() + rest);
    }

    pub(super) fn headers_refused(&mut self, source: SourceId, start: u32) {
        if self.lines.get(&source).is_some_and(|line| line.older.is_asked(start)) {
            self.older_refused(source);
        } else if self.is_chased(source, start) {
            self.rest(source);
        } else if let Some(line) = self.lines.get_mut(&source) {
            line.suspected = None;
        }
    }

    fn is_chased(&self, source: SourceId, from: u32) -> bool {
        let chase = self.lines.get(&source).map(|line| line.chase);
        matches!(chase, Some(Chase::Asked { start, .. }) if start == from)
    }

    pub(super) fn headers_came(&mut self, source: SourceId, start: u32, count: u32, mut headers: Vec<Header>) {
        headers.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        let full = u32::try_from(headers.len()) == Ok(count);
        let suspected = self.lines.get(&source).and_then(|line| line.suspected);
        if suspected.is_some_and(|block| block.height == start) {
            self.suspect_answered(source, &headers);
        }
        if self.lines.get(&source).is_some_and(|line| line.older.is_asked(start)) {
            self.older_came(source, start, headers);
        } else if self.tree.wants_anchor() == Some((start, count)) {
            if full { self.anchor_came(source, start, headers) } else { self.rest(source) }
        } else {
            self.next_headers_came(source, start, headers);
        }
    }

    /// The headers of the newest checkpoint's period.
    fn anchor_came(&mut self, source: SourceId, start: u32, headers: Vec<Header>) {
        if self.tree.prepend(&headers).is_err() {
            return self.condemn(source, Lie::Header);
        }
        self.actions.push_back(Action::StoreHeaders { from: start, headers, fork: self.delivery.fork() });
        if let Some(line) = self.lines.get_mut(&source) {
            line.chase = Chase::Idle;
        }
        for source in self.sources() {
            self.follow(source);
        }
    }

    fn next_headers_came(&mut self, source: SourceId, start: u32, headers: Vec<Header>) {
        let Some(&mut Line { chase: Chase::Asked { start: asked, back }, .. }) = self.lines.get_mut(&source) else {
            return;
        };
        if asked != start {
            return;
        }
        let old = self.tree.tip();
        let mut next = start;
        let mut refused = None;
        for header in headers {
            match self.tree.accept(header, next, self.clock.seconds()) {
                Ok(_) => next += 1,
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        self.chain_changed(old);
        match refused {
            None if next == start => self.rest(source),
            None => self.chased(source, next),
            Some(Refused::Unlinked) if next == start => self.step_back(source, start, back),
            // Further up, unlinked means that the reply itself is not linked.
            Some(Refused::Unlinked | Refused::Lie(_)) => self.condemn(source, Lie::Header),
            Some(Refused::Future | Refused::TooDeep) => self.rest(source),
        }
    }

    /// Headers up to `next` were taken: goes on, or is done.
    fn chased(&mut self, source: SourceId, next: u32) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        line.chase = Chase::Idle;
        let Some((_, claim)) = line.claim else { return };
        if next <= claim.height {
            return self.chase(source, next, 0);
        }
        if self.tree.common(claim).is_some() {
            line.tries = 0;
        } else {
            // It reorganised while it answered, or lies about its tip: look again, but not at once.
            self.rest(source);
        }
    }

    fn step_back(&mut self, source: SourceId, start: u32, back: u32) {
        if start + MAX_REORG < self.tree.height() {
            return self.rest(source);
        }
        let step = if back == 0 { FIRST_STEP } else { (back * STRIDE).min(CHUNK) };
        self.chase(source, start.saturating_sub(step), step);
    }

    /// What follows from a best chain that is not the one before.
    fn chain_changed(&mut self, old: BlockRef) {
        let new = self.tree.tip();
        if new == old {
            return;
        }
        let shared = self.tree.common(old).unwrap_or_else(|| self.tree.floor());
        if shared != old {
            self.reorganised(shared);
        }
        let from = shared.height + 1;
        let headers = self.tree.headers_from(from);
        self.actions.push_back(Action::StoreHeaders { from, headers, fork: self.delivery.fork() });
        self.delivery.gather(self.clock.now());
    }

    /// The chain above `fork` is another one now.
    fn reorganised(&mut self, fork: BlockRef) {
        self.delivery.reorganised(&self.tree, fork);
        for (proven, owners) in self.facts.drop_above(fork.height) {
            self.mempool.believe(owners.wallet.then_some(proven.txid()));
            self.orphans.insert(proven.txid(), proven.tx().clone());
        }
        self.scripts_reorganised(fork);
    }

    /// Asks a server for headers below the base, for its proofs that reach there.
    pub(super) fn want_older(&mut self, source: SourceId) {
        let base = self.tree.base();
        if base == 0 || self.tree.wants_anchor().is_some() {
            return;
        }
        let Some(line) = self.lines.get_mut(&source) else { return };
        if line.older.asked.is_some() || line.older.rest.is_some() {
            return;
        }
        let start = base.saturating_sub(CHUNK);
        line.older.asked = Some((start, base - start));
        line.ask(Request::Headers { start, count: base - start });
    }

    fn older_came(&mut self, source: SourceId, start: u32, headers: Vec<Header>) {
        let Some(line) = self.lines.get_mut(&source) else { return };
        let Some((_, count)) = line.older.asked.take() else { return };
        if start + count != self.tree.base() {
            // Another server's came first.
            line.older = Older::default();
            return;
        }
        if u32::try_from(headers.len()) != Ok(count) {
            return self.older_refused(source);
        }
        line.older = Older::default();
        if self.tree.prepend(&headers).is_err() {
            return self.condemn(source, Lie::Header);
        }
        self.actions.push_back(Action::StoreOlderHeaders { from: start, headers });
    }

    fn older_refused(&mut self, source: SourceId) {
        let now = self.clock.now();
        let Some(line) = self.lines.get_mut(&source) else { return };
        let tries = line.older.tries + 1;
        line.older = Older { asked: None, tries, rest: Some(now + (FIRST_REST << tries.min(6))) };
        if tries > OLDER_TRIES {
            self.give_up_older(source);
        }
    }

    /// Goes on with what has rested.
    pub(super) fn header_timers(&mut self, source: SourceId) {
        let now = self.clock.now();
        let Some(line) = self.lines.get_mut(&source) else { return };
        line.older.rest = line.older.rest.filter(|&until| until > now);
        if matches!(line.chase, Chase::Resting(until) if until <= now) {
            line.chase = Chase::Idle;
            self.follow(source);
        }
    }
}
