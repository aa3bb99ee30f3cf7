//! How far the servers have told the scripts: what a plan depends on, and what people are shown.

use super::{BlockRef, Line, Machine, ScriptHash, SourceId};
use crate::chain::view::View;

/// How far the machine is; for people and for health checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Connections that are asked about scripts.
    pub serving: usize,
    /// Height of our best chain.
    pub height: u32,
    /// The height that the servers claim: of those that are asked about scripts, half claim as much or more. Above
    /// `height` while headers are fetched; `None` while none of them has claimed any.
    pub claimed: Option<u32>,
    /// The block that the listeners were last told of.
    pub told: Option<BlockRef>,
    /// Scripts followed.
    pub watches: usize,
    /// Scripts that no server has told up to its own tip.
    pub pending: usize,
    /// Scripts that none of the servers which are asked about it serves.
    pub degraded: Vec<ScriptHash>,
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

/// Up to where a script is told, by the server that told most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// By nobody.
    Not,
    /// All servers that could tell it do not serve it.
    Degraded,
    UpTo(u32),
}

impl Machine {
    /// True when all that the servers know was proven and delivered, up to our tip.
    pub fn synced(&self) -> bool {
        let tip = self.tree.tip();
        let told = |id| match self.told_of(id) {
            Told::Not => false,
            Told::Degraded => true,
            Told::UpTo(height) => height >= tip.height,
        };
        self.top() == Some(tip.height)
            && self.delivery.is_at(tip)
            && self.facts.next_due(u32::MAX).is_none()
            && self.watches.iter().all(|(id, _)| told(id))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let mut claims: Vec<u32> =
            self.serving().filter_map(|line| line.claim).map(|(_, block)| block.height).collect();
        claims.sort_unstable();
        let settled =
            |id: &ScriptHash| self.linked_lines().any(|(_, line)| line.views.get(id).is_some_and(View::is_settled));
        let unsettled = self.watches.iter().map(|(id, _)| *id).filter(|id| !settled(id));
        let (degraded, pending): (Vec<_>, Vec<_>) = unsettled.partition(|id| self.told_of(id) == Told::Degraded);
        Progress {
            serving: self.serving().count(),
            height: self.tree.height(),
            claimed: claims.get(claims.len().saturating_sub(1) / 2).copied(),
            told: self.delivery.told(),
            watches: self.watches.len(),
            pending: pending.len(),
            degraded,
        }
    }

    /// How completely a server answers; nothing of one that serves no scripts or is not connected.
    pub fn coverage(&self, source: SourceId) -> Coverage {
        let Some(line) = self.lines.get(&source) else { return Coverage::default() };
        let told = |tip: u32| line.views.iter().map(move |(_, view)| view.told_up_to(tip).unwrap_or(0)).min();
        Coverage {
            watches: line.views.len(),
            pending: line.views.unsettled_len(),
            degraded: line.views.iter().filter(|(_, view)| view.degraded).count(),
            covered: line.linked(&self.tree).and_then(told),
        }
    }

    /// The lowest height up to which a script of Lightning is told, each script by the server that tells most of it, or
    /// was told before: how far behind the least covered channel is. `None` when Lightning follows nothing.
    pub fn least_covered(&self) -> Option<u32> {
        let lightning = self.watches.iter().filter(|(_, followed)| followed.owners.lightning);
        let told = lightning.map(|(id, followed)| match self.told_of(id) {
            Told::UpTo(height) => height.max(followed.told),
            Told::Not | Told::Degraded => followed.told,
        });
        told.min()
    }

    /// A tip at `height` is told, and with it every script that a server tells up to there.
    pub(super) fn note_told(&mut self, height: u32) {
        for id in self.watches.ids() {
            let told = matches!(self.told_of(&id), Told::UpTo(to) if to >= height);
            if let Some(followed) = self.watches.get_mut(&id).filter(|_| told) {
                followed.told = height;
            }
        }
    }

    fn serving(&self) -> impl Iterator<Item = &Line> {
        self.lines.values().filter(|line| line.is_serving())
    }

    /// The servers whose view is a view of our best chain, with its height.
    fn linked_lines(&self) -> impl Iterator<Item = (u32, &Line)> {
        self.serving().filter_map(|line| Some((line.linked(&self.tree)?, line)))
    }

    /// The highest block that a serving server has announced and our chain has.
    pub(super) fn top(&self) -> Option<u32> {
        self.linked_lines().map(|(tip, _)| tip).max()
    }

    fn told_of(&self, id: &ScriptHash) -> Told {
        let (mut best, mut degraded, mut working) = (None, false, false);
        for (tip, line) in self.linked_lines() {
            match line.views.get(id) {
                Some(view) if view.degraded => degraded = true,
                Some(view) => match view.told_up_to(tip) {
                    Some(height) => best = best.max(Some(height)),
                    None => working = true,
                },
                None => {}
            }
        }
        match best {
            Some(height) => Told::UpTo(height),
            // One that is still at work may tell it.
            None if degraded && !working => Told::Degraded,
            None => Told::Not,
        }
    }

    /// The height up to which every script is told by one server at least, or served by none of those that are asked
    /// about it; with `impatient`, scripts of the wallet alone do not count. `None`: one is not told at all.
    pub(super) fn reach(&mut self, impatient: bool) -> Option<u32> {
        let mut reach = self.top()?;
        let counts = |lightning: bool| lightning || !impatient;
        if let Some(id) = self.blocker {
            let blocks = self.watches.get(&id).is_some_and(|followed| counts(followed.owners.lightning));
            if blocks && self.told_of(&id) == Told::Not {
                return None;
            }
            self.blocker = None;
        }
        for (id, _) in self.watches.iter().filter(|(_, followed)| counts(followed.owners.lightning)) {
            match self.told_of(id) {
                Told::UpTo(height) => reach = reach.min(height),
                Told::Degraded => {}
                Told::Not => {
                    self.blocker = Some(*id);
                    return None;
                }
            }
        }
        Some(reach)
    }

    /// True when a server that has announced a block at `height` may still tell something of it.
    pub(super) fn are_at_work(&self, height: u32) -> bool {
        self.linked_lines().any(|(tip, line)| tip >= height && line.views.are_at_work(height))
    }

    /// True when all that the wallet's servers list as unconfirmed is known: what is nowhere then is gone.
    pub(super) fn knows_mempool(&self) -> bool {
        let wallets = || self.linked_lines().filter(|(_, line)| line.serves.wallet);
        let is_wallets = |id: &ScriptHash| self.watches.get(id).is_some_and(|followed| followed.owners.wallet);
        let at_work = |line: &Line| line.views.unsettled().any(|(id, view)| !view.degraded && is_wallets(id));
        let told =
            |id: &ScriptHash| wallets().any(|(_, line)| line.views.get(id).is_some_and(|view| view.is_settled()));
        !wallets().any(|(_, line)| at_work(line))
            && self.watches.iter().filter(|(_, followed)| followed.owners.wallet).all(|(id, _)| told(id))
            && wallets().next().is_some()
    }
}
