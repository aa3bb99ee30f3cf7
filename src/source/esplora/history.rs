//! One script's history, and the status that Electrum would give it. Pure.
//!
//! Electrum's status is the SHA-256 of `txid:height:` over the confirmed transactions in the order of the chain, then
//! the unconfirmed ones, at height 0, or −1 with an unconfirmed parent; there is none without history. Esplora lists a
//! block's transactions in no order that means anything, so where one block has several of a script their places in it
//! are looked up. Unconfirmed parents are known only where they are ours too: statuses with unconfirmed transactions
//! differ between servers anyway, and nobody compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bitcoin::Txid;
use bitcoin::hashes::{Hash, sha256};

use super::replies::Listed;
use crate::chain::io::{HistoryEntry, Status};

/// A confirmed transaction of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) height: u32,
    /// Its place in its block, where known.
    pub(super) pos: Option<u32>,
    /// Found in a block by ourselves, and so not only claimed.
    pub(super) found: bool,
}

/// What is known of one script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) confirmed: BTreeMap<Txid, Line>,
    /// With the mark of those that have an unconfirmed parent.
    pub(super) pending: BTreeMap<Txid, bool>,
}

impl History {
    /// From all pages of a script. `places` are those that are known.
    pub(super) fn read(pages: &[Listed], places: &BTreeMap<(Txid, u32), u32>) -> Self {
        let mut history = Self::default();
        let unconfirmed: BTreeSet<&Txid> =
            pages.iter().filter(|line| line.height.is_none()).map(|line| &line.txid).collect();
        for listed in pages {
            match listed.height {
                Some(height) => {
                    let pos = places.get(&(listed.txid, height)).copied();
                    history.confirmed.insert(listed.txid, Line { height, pos, found: false });
                }
                None => {
                    let child = listed.parents.iter().any(|parent| unconfirmed.contains(parent));
                    history.pending.insert(listed.txid, child);
                }
            }
        }
        history.pending.retain(|txid, _| !history.confirmed.contains_key(txid));
        history
    }

    /// Keeps what was found in blocks, whatever the server says of it later.
    pub(super) fn keep_found(&mut self, before: &History) {
        for (txid, line) in before.confirmed.iter().filter(|(_, line)| line.found) {
            self.pending.remove(txid);
            self.confirmed.insert(*txid, *line);
        }
    }

    /// Transactions whose place in the block decides the order and is not known.
    pub(super) fn ties(&self) -> Vec<(Txid, u32)> {
        let mut by_height = BTreeMap::<u32, Vec<(Txid, bool)>>::new();
        for (txid, line) in &self.confirmed {
            by_height.entry(line.height).or_default().push((*txid, line.pos.is_none()));
        }
        let crowded = by_height.into_iter().filter(|(_, all)| all.len() > 1);
        let unknown = |(height, all): (u32, Vec<(Txid, bool)>)| {
            all.into_iter().filter(|(_, unknown)| *unknown).map(move |(txid, _)| (txid, height)).collect::<Vec<_>>()
        };
        crowded.flat_map(unknown).collect()
    }

    /// As Electrum orders it.
    pub(super) fn entries(&self) -> Vec<HistoryEntry> {
        let mut confirmed: Vec<_> = self.confirmed.iter().collect();
        confirmed.sort_by_key(|(txid, line)| (line.height, line.pos, **txid));
        let confirmed = confirmed.into_iter().map(|(txid, line)| (txid, Some(line.height)));
        let pending = self.in_mempool().map(|(txid, _)| (txid, None));
        confirmed.chain(pending).map(|(txid, height)| HistoryEntry { txid: *txid, height }).collect()
    }

    /// Those without unconfirmed parents first.
    fn in_mempool(&self) -> impl Iterator<Item = (&Txid, i32)> {
        let of = |child: bool| self.pending.iter().filter(move |(_, is)| **is == child);
        of(false).map(|(txid, _)| (txid, 0)).chain(of(true).map(|(txid, _)| (txid, -1)))
    }

    /// The status.
    pub(super) fn status(&self) -> Option<Status> {
        let mut text = String::new();
        let mut parents = self.in_mempool();
        for entry in self.entries() {
            let written = match entry.height {
                Some(height) => write!(text, "{}:{height}:", entry.txid),
                None => write!(text, "{}:{}:", entry.txid, parents.next().map_or(0, |(_, height)| height)),
            };
            written.expect("writing to a String does not fail");
        }
        (!text.is_empty()).then(|| Status(sha256::Hash::hash(text.as_bytes()).to_byte_array()))
    }
}

#[cfg(test)]
#[path = "tests/history.rs"]
mod tests;
