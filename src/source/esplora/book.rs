//! What is known of the server's chain and of the scripts that are followed on it. Pure.
//!
//! A script's history is fetched once, when it is subscribed. From then on each new block is searched whole, and tells
//! what was confirmed; the mempool is looked at now and then. What a block showed is kept whatever the server lists
//! later. Everything here is a claim all the same: the machine proves it against its own headers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bitcoin::block::Header;
use bitcoin::{BlockHash, OutPoint, Transaction, TxMerkleNode, Txid};

use super::super::error::SourceError;
use super::block::{self, Search};
use super::history::{History, Line};
use super::replies::Listed;
use super::stock::Stock;
use crate::chain::io::{BlockRef, HistoryEntry, Reply, ScriptHash, Status};

/// Blocks of which the hash is remembered, to see where a reorganisation parts.
const REMEMBERED: usize = 32;

/// All of it.
#[derive(Debug)]
pub(super) struct Book {
    /// Linked, the newest last; never empty.
    chain: VecDeque<BlockRef>,
    scripts: HashMap<ScriptHash, Followed>,
    /// Outputs that pay a followed script, spent or not: a reorganisation may take the spending back.
    coins: HashMap<OutPoint, ScriptHash>,
    /// Scripts whose history is not the one that was told.
    changed: BTreeSet<ScriptHash>,
    stock: Stock,
    /// Counts what makes an answer that is under way too old.
    epoch: u64,
}

#[derive(Debug, Default)]
struct Followed {
    /// `None`: not fetched yet, or not to be had.
    history: Option<History>,
    /// The last status told; the outer `None`: none yet.
    told: Option<Option<Status>>,
    /// The history changed since it was last asked for.
    fresh: bool,
}

/// All pages of a script, and what its order needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    pub(super) pages: Vec<Listed>,
    pub(super) places: BTreeMap<(Txid, u32), u32>,
    /// Proofs that were fetched for it.
    pub(super) proofs: Vec<(Txid, u32, Vec<TxMerkleNode>, u32)>,
}

/// A block that continues the chain.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub(super) header: Header,
    pub(super) height: u32,
    /// Scripts that it has something of.
    pub(super) touched: BTreeSet<ScriptHash>,
}

/// What a fetched history says beside what is in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learnt {
    /// It lists something above our tip: the server has moved on.
    pub(super) ahead: bool,
    /// Something unconfirmed is new.
    pub(super) moved: bool,
}

impl Book {
    /// Begins with the server's newest headers, linked, ascending; at least one.
    pub(super) fn new(recent: &[(u32, Header)]) -> Self {
        let mut book = Self {
            chain: VecDeque::new(),
            scripts: HashMap::new(),
            coins: HashMap::new(),
            changed: BTreeSet::new(),
            stock: Stock::default(),
            epoch: 0,
        };
        book.jump(recent);
        book
    }

    pub(super) fn tip(&self) -> BlockRef {
        *self.chain.back().expect("the chain is never empty: `jump` gets a header, and `part` stops at one")
    }

    /// The block of this hash, if it is among the newest.
    pub(super) fn find(&self, hash: BlockHash) -> Option<BlockRef> {
        self.chain.iter().rev().find(|block| block.hash == hash).copied()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn follows(&self, script: &ScriptHash) -> bool {
        self.scripts.contains_key(script)
    }

    pub(super) fn followed(&self) -> impl Iterator<Item = ScriptHash> {
        self.scripts.keys().copied()
    }

    /// From now on blocks are searched for this script too.
    pub(super) fn follow(&mut self, script: ScriptHash) {
        self.scripts.entry(script).or_default();
    }

    /// Continues the chain with a block, and takes what it has for us.
    pub(super) fn connect(&mut self, raw: &[u8], hash: BlockHash) -> Result<Connected, SourceError> {
        let Search { header, found, coins } =
            block::search(raw, hash, |script| self.scripts.contains_key(script), |coin| self.coins.get(coin).copied())?;
        let height = self.tip().height + 1;
        self.epoch += 1;
        self.chain.push_back(BlockRef { height, hash });
        if self.chain.len() > REMEMBERED {
            self.chain.pop_front();
        }
        self.coins.extend(coins);
        let mut touched = BTreeSet::new();
        for one in found {
            touched.extend(&one.scripts);
            let line = Line { height, pos: Some(one.pos), found: true };
            for script in one.scripts {
                let Some(followed) = self.scripts.get_mut(&script) else { continue };
                // Without a history it is being fetched, and will be again, since the epoch has changed.
                let Some(history) = &mut followed.history else { continue };
                history.pending.remove(&one.txid);
                history.confirmed.insert(one.txid, line);
                followed.fresh = true;
                self.changed.insert(script);
            }
            self.stock.put_body(one.txid, &one.tx);
            self.stock.put_proof(one.txid, height, one.branch, one.pos);
        }
        Ok(Connected { header, height, touched })
    }

    /// The chain above `shared` left. What was in it waits in the mempool again, most likely; gives the scripts for which
    /// that is to be looked up.
    pub(super) fn part(&mut self, shared: BlockRef) -> BTreeSet<ScriptHash> {
        self.epoch += 1;
        let mut touched = BTreeSet::new();
        while self.chain.len() > 1 && self.tip().height > shared.height {
            self.chain.pop_back();
        }
        self.stock.drop_proofs_above(shared.height);
        for (script, followed) in &mut self.scripts {
            let Some(history) = &mut followed.history else { continue };
            let (confirmed, left) = std::mem::take(&mut history.confirmed)
                .into_iter()
                .partition::<BTreeMap<_, _>, _>(|(_, line)| line.height <= shared.height);
            history.confirmed = confirmed;
            if !left.is_empty() {
                history.pending.extend(left.into_keys().map(|txid| (txid, false)));
                followed.fresh = true;
                touched.insert(*script);
            }
        }
        self.changed.extend(&touched);
        touched
    }

    /// Begins anew with these headers; nothing found in blocks before is certain any more.
    pub(super) fn jump(&mut self, recent: &[(u32, Header)]) {
        self.epoch += 1;
        self.stock.drop_proofs_above(0);
        let blocks = recent.iter().map(|(height, header)| BlockRef { height: *height, hash: header.block_hash() });
        self.chain = blocks.collect();
        for history in self.scripts.values_mut().filter_map(|followed| followed.history.as_mut()) {
            history.confirmed.values_mut().for_each(|line| line.found = false);
        }
    }

    /// Takes a fetched history.
    pub(super) fn learn(&mut self, script: ScriptHash, fetched: Fetched) -> Learnt {
        let Fetched { pages, places, proofs } = fetched;
        let Some(followed) = self.scripts.get_mut(&script) else { return Learnt::default() };
        let mut history = History::read(&pages, &places);
        if let Some(before) = &followed.history {
            history.keep_found(before);
        }
        for listed in &pages {
            self.coins.extend(listed.coins.iter().map(|coin| (*coin, script)));
            if let Some(tx) = &listed.tx {
                self.stock.put_body(listed.txid, tx);
            }
        }
        for (txid, height, branch, pos) in proofs {
            self.stock.put_proof(txid, height, branch, pos);
        }
        let known = |txid: &Txid| followed.history.as_ref().is_some_and(|before| before.pending.contains_key(txid));
        let moved = history.pending.keys().any(|txid| !known(txid));
        followed.fresh = true;
        followed.history = Some(history);
        self.changed.insert(script);
        let tip = self.tip().height;
        let ahead = pages.iter().any(|listed| listed.height.is_some_and(|height| height > tip));
        Learnt { ahead, moved }
    }

    /// A script's history is not to be had any more.
    pub(super) fn lose(&mut self, script: ScriptHash) {
        if let Some(followed) = self.scripts.get_mut(&script) {
            followed.history = None;
            self.changed.insert(script);
        }
    }

    /// Places in blocks that are known, for a history that is fetched again.
    pub(super) fn places(&self, script: &ScriptHash) -> BTreeMap<(Txid, u32), u32> {
        let history = self.scripts.get(script).and_then(|followed| followed.history.as_ref());
        let lines = history.into_iter().flat_map(|history| &history.confirmed);
        lines.filter_map(|(txid, line)| Some(((*txid, line.height), line.pos?))).collect()
    }

    /// The status, as the answer to a subscription.
    pub(super) fn tell(&mut self, script: ScriptHash) -> Option<Status> {
        self.changed.remove(&script);
        let followed = self.scripts.get_mut(&script)?;
        let status = followed.history.as_ref().and_then(History::status);
        followed.told = Some(status);
        status
    }

    /// Statuses that are other ones than those told. A history that is not to be had has one that nothing has: it makes
    /// the machine ask, and the refusal is said there.
    pub(super) fn news(&mut self) -> Vec<(ScriptHash, Option<Status>)> {
        let mut news = Vec::new();
        for script in std::mem::take(&mut self.changed) {
            let Some(followed) = self.scripts.get_mut(&script) else { continue };
            let status = match &followed.history {
                Some(history) => history.status(),
                None => Some(Status([0xff; 32])),
            };
            // What was never subscribed is not pushed.
            if followed.told.is_some_and(|told| told != status) {
                followed.told = Some(status);
                news.push((script, status));
            }
        }
        news
    }

    /// The history, unless it was asked for before and has not changed: then the server is to be asked again.
    pub(super) fn history(&mut self, script: &ScriptHash) -> Option<Vec<HistoryEntry>> {
        let followed = self.scripts.get_mut(script)?;
        let entries = followed.history.as_ref()?.entries();
        std::mem::take(&mut followed.fresh).then_some(entries)
    }

    /// Whether the server's mempool has other transactions of the script than we know.
    pub(super) fn differs(&self, script: &ScriptHash, mempool: &[Listed]) -> bool {
        let history = self.scripts.get(script).and_then(|followed| followed.history.as_ref());
        history.is_some_and(|history| {
            let theirs =
                mempool.iter().map(|listed| &listed.txid).filter(|txid| !history.confirmed.contains_key(*txid));
            !theirs.collect::<BTreeSet<_>>().into_iter().eq(history.pending.keys())
        })
    }

    /// Scripts with unconfirmed transactions.
    pub(super) fn pending(&self) -> impl Iterator<Item = ScriptHash> {
        let waits = |followed: &Followed| followed.history.as_ref().is_some_and(|h| !h.pending.is_empty());
        self.scripts.iter().filter(move |(_, followed)| waits(followed)).map(|(script, _)| *script)
    }

    /// Followed scripts that a transaction concerns.
    pub(super) fn concerned(&self, tx: &Transaction) -> BTreeSet<ScriptHash> {
        let paid = tx.output.iter().map(|output| ScriptHash::of(&output.script_pubkey));
        let spent = tx.input.iter().filter_map(|input| self.coins.get(&input.previous_output).copied());
        paid.chain(spent).filter(|script| self.follows(script)).collect()
    }

    /// A body that is at hand.
    pub(super) fn body(&mut self, txid: &Txid) -> Option<Reply> {
        self.stock.take_body(txid)
    }

    /// A proof that is at hand.
    pub(super) fn proof(&mut self, txid: Txid, height: u32) -> Option<Reply> {
        self.stock.take_proof(txid, height)
    }
}

#[cfg(test)]
#[path = "tests/book.rs"]
mod tests;
