//! The header tree.
//!
//! Contract:
//! - Only work counts: the best chain is the one with the most, and among equals the one that was seen first.
//! - Nothing forks below the newest checkpoint that the chain has passed; at a checkpoint only its block will do.
//! - A new tree has no header at all where the network has a checkpoint: it knows that block by hash. The headers
//!   of its retarget period are linked backwards to it ([`HeaderTree::prepend`]); only then it grows forwards, since
//!   the next retarget needs the period's first time. Older headers may be prepended later in the same way: what is
//!   linked backwards to a known hash needs no other check.
//! - Memory is bounded: side branches hold at most [`MAX_SIDE`] headers and leave the best chain at most
//!   [`MAX_REORG`] below its tip; when they are full, all but the one that is growing go.
//! - A header's hash is its child's `prev_blockhash`, so hashes are not stored: 80 bytes a header.

use std::collections::{HashMap, HashSet, VecDeque};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Target, Work};

use super::header::{self, Ancestry, Failed, Fault};
use super::io::BlockRef;
use super::params::{PERIOD, Params, period_start};

/// Headers on side branches, at most.
pub const MAX_SIDE: usize = 5 * PERIOD as usize;
/// How far below the tip a side branch may begin.
pub const MAX_REORG: u32 = 4 * PERIOD;

/// What became of a header that passed the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The best chain is longer by it.
    Extended,
    /// Its branch has become the best chain.
    Reorganized {
        /// The highest block that the old chain and the new one share.
        fork: BlockRef,
        /// The tip of the old chain.
        old: BlockRef,
    },
    /// The best chain already has it.
    Known,
    /// It is on a branch with no more work than the best chain.
    Stale,
}

/// Why a header was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Whoever sent it lied.
    #[error(transparent)]
    Lie(#[from] Fault),
    /// Its parent is not known at the height below: true or not, it says nothing yet.
    #[error("the header's parent is not known")]
    Unlinked,
    /// It is more than two hours ahead of the clock; it may do later.
    #[error("the header is from the future")]
    Future,
    /// Its branch leaves the best chain too far below the tip, or grew too long without more work.
    #[error("the header's branch is too deep")]
    TooDeep,
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Fault(fault) => Refused::Lie(fault),
            Failed::Future => Refused::Future,
            Failed::Unjudged => Refused::Unlinked,
        }
    }
}

/// Why stored headers cannot be taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// They are damaged, or of another network.
    #[error("the stored headers are not valid")]
    Invalid(#[from] Fault),
    /// They begin too high to be tied to a checkpoint, or end too low.
    #[error("the stored headers are not tied to a checkpoint")]
    Adrift,
}

/// A header off the best chain.
#[derive(Clone, Debug)]
struct Side {
    header: Header,
    height: u32,
    /// Work from the tree's origin up to and with this header.
    work: Work,
}

/// Headers that passed the rules, linked; knows the best chain.
#[derive(Clone, Debug)]
pub struct HeaderTree {
    params: Params,
    /// Height of the lowest header held.
    base: u32,
    /// Hash of the block below it.
    below: BlockHash,
    /// The best chain from `base` upwards.
    best: VecDeque<Header>,
    /// Hash of the last of `best`, or `below` while that is empty.
    tip: BlockHash,
    /// Work of the best chain since the first header that the tree had.
    work: Work,
    side: HashMap<BlockHash, Side>,
}

impl HeaderTree {
    /// A tree that knows the newest checkpoint of the network, or its genesis header where there is no other.
    pub fn new(params: Params) -> Self {
        let anchor = params.newest_checkpoint();
        let mut tree = HeaderTree {
            params,
            base: anchor.height + 1,
            below: anchor.hash,
            best: VecDeque::new(),
            tip: anchor.hash,
            work: Work::from_be_bytes([0; 32]),
            side: HashMap::new(),
        };
        if anchor.height == 0 {
            let genesis = tree.params.genesis();
            tree.base = 0;
            tree.below = genesis.prev_blockhash;
            tree.best.push_back(genesis);
        }
        tree
    }

    /// Takes up stored headers of a best chain from height `from` on. Their linkage, their work against their own
    /// bits and the checkpoints are checked again; the retargets were when they came in.
    pub fn restore(params: Params, from: u32, headers: Vec<Header>) -> Result<Self, RestoreError> {
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Ok(HeaderTree::new(params));
        };
        let top = u32::try_from(headers.len() - 1).ok().and_then(|n| from.checked_add(n));
        let top = top.ok_or(RestoreError::Adrift)?;
        let tied = |c: &BlockRef| from <= period_start(c.height) && c.height <= top;
        if !params.checkpoints.iter().any(tied) {
            return Err(RestoreError::Adrift);
        }
        let (below, mut tip) = (first.prev_blockhash, first.prev_blockhash);
        let mut work = Work::from_be_bytes([0; 32]);
        let mut step = (last.bits, Target::from_compact(last.bits).to_work());
        for (height, header) in (from..).zip(&headers) {
            if header.prev_blockhash != tip {
                return Err(Fault::Linkage.into());
            }
            let target = Target::from_compact(header.bits);
            if target > params.consensus.max_attainable_target {
                return Err(Fault::Bits.into());
            }
            tip = header.validate_pow(target).map_err(|_| Fault::Work)?;
            if !params.allows(BlockRef { height, hash: tip }) {
                return Err(Fault::Checkpoint.into());
            }
            if step.0 != header.bits {
                step = (header.bits, target.to_work());
            }
            work = work + step.1;
        }
        Ok(HeaderTree { params, base: from, below, best: headers.into(), tip, work, side: HashMap::new() })
    }

    /// The network's rules.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Height of the lowest header held.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Height of the best chain's tip.
    pub fn height(&self) -> u32 {
        // Either `best` is not empty or `base` is above a checkpoint; both keep the sum above 0.
        self.base + u32::try_from(self.best.len()).unwrap_or(u32::MAX - self.base) - 1
    }

    /// The best chain's tip.
    pub fn tip(&self) -> BlockRef {
        BlockRef { height: self.height(), hash: self.tip }
    }

    /// Header of the best chain at `height`, if the tree reaches there.
    pub fn header_at(&self, height: u32) -> Option<Header> {
        let index = usize::try_from(height.checked_sub(self.base)?).ok()?;
        self.best.get(index).copied()
    }

    /// Headers of the best chain from `height` up to the tip.
    pub fn headers_from(&self, height: u32) -> Vec<Header> {
        let skip = usize::try_from(height.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.best.iter().skip(skip).copied().collect()
    }

    /// Hash of the best chain's block at `height`, if the tree reaches there.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        let child = height.checked_add(1)?;
        if height == self.height() { Some(self.tip) } else { Some(self.header_at(child)?.prev_blockhash) }
    }

    /// The best chain's block at `height`, if the tree reaches there.
    pub fn block_at(&self, height: u32) -> Option<BlockRef> {
        self.hash_at(height).map(|hash| BlockRef { height, hash })
    }

    /// True when the block is in the best chain.
    pub fn contains(&self, block: BlockRef) -> bool {
        self.hash_at(block.height) == Some(block.hash)
    }

    /// The highest block of the best chain that is `block` or an ancestor of it; `None` when `block` is unknown.
    pub fn common(&self, block: BlockRef) -> Option<BlockRef> {
        let mut at = block;
        while !self.contains(at) {
            let side = self.side.get(&at.hash).filter(|s| s.height == at.height)?;
            at = side.parent();
        }
        Some(at)
    }

    /// The newest checkpoint that the best chain has passed: nothing forks below it.
    pub fn floor(&self) -> BlockRef {
        self.params.checkpoint_below(self.height())
    }

    /// The headers to [`HeaderTree::prepend`] before the tree can grow, as first height and count.
    pub fn wants_anchor(&self) -> Option<(u32, u32)> {
        let start = period_start(self.base.saturating_sub(1));
        self.best.is_empty().then(|| (start, self.base - start))
    }

    /// Median time of the tip, which a right clock is past; 0 while the tree is empty.
    pub fn median_time(&self) -> u32 {
        header::median_time(self.height(), &Branch { tree: self, top: self.tip() })
    }

    /// Extends the tree downwards: `headers` end right below [`HeaderTree::base`].
    pub fn prepend(&mut self, headers: &[Header]) -> Result<(), Fault> {
        let mut below = self.below;
        for header in headers.iter().rev() {
            if header.block_hash() != below {
                return Err(Fault::Linkage);
            }
            below = header.prev_blockhash;
        }
        let count = u32::try_from(headers.len()).ok().filter(|&n| n <= self.base).ok_or(Fault::Linkage)?;
        for header in headers.iter().rev() {
            self.best.push_front(*header);
        }
        self.base -= count;
        self.below = below;
        Ok(())
    }

    /// Takes a header that is claimed to be at `height`; `clock` is in Unix seconds.
    pub fn accept(&mut self, header: Header, height: u32, clock: u64) -> Result<Accepted, Refused> {
        let claimed = BlockRef { height, hash: header.block_hash() };
        if self.contains(claimed) {
            return Ok(Accepted::Known);
        }
        if self.side.get(&claimed.hash).is_some_and(|s| s.height == height) {
            return Ok(Accepted::Stale);
        }
        let parent = self.parent(&header, height)?;
        let chain = Branch { tree: self, top: parent };
        let hash = header::check(&self.params, &header, height, &chain, clock)?;
        let block = BlockRef { height, hash };
        if !self.params.allows(block) {
            return Err(Fault::Checkpoint.into());
        }
        let gain = Target::from_compact(header.bits).to_work();
        if parent.hash == self.tip {
            self.best.push_back(header);
            self.tip = hash;
            self.work = self.work + gain;
            return Ok(Accepted::Extended);
        }
        let fork = self.common(parent).ok_or(Refused::Unlinked)?;
        if fork.height + MAX_REORG < self.height() {
            return Err(Refused::TooDeep);
        }
        self.make_room(parent)?;
        let work = self.work_at(parent).ok_or(Refused::Unlinked)? + gain;
        self.side.insert(hash, Side { header, height, work });
        if work <= self.work {
            return Ok(Accepted::Stale);
        }
        let old = self.tip();
        self.switch(block, fork);
        Ok(Accepted::Reorganized { fork, old })
    }

    /// Finds the parent of a header, or says why there is none.
    fn parent(&self, header: &Header, height: u32) -> Result<BlockRef, Refused> {
        let below = height.checked_sub(1).ok_or(Fault::Checkpoint)?;
        let parent = BlockRef { height: below, hash: header.prev_blockhash };
        if height < self.base || self.best.is_empty() {
            return Err(Refused::Unlinked);
        }
        let floor = self.floor();
        if height <= floor.height || (below == floor.height && parent.hash != floor.hash) {
            return Err(Fault::Checkpoint.into());
        }
        let known = self.contains(parent) || self.side.get(&parent.hash).is_some_and(|s| s.height == below);
        if known { Ok(parent) } else { Err(Refused::Unlinked) }
    }

    /// Work up to and with a block that the tree holds.
    fn work_at(&self, block: BlockRef) -> Option<Work> {
        if let Some(side) = self.side.get(&block.hash) {
            return Some(side.work);
        }
        let above = self.headers_from(block.height + 1);
        Some(above.iter().fold(self.work, |work, h| work - Target::from_compact(h.bits).to_work()))
    }

    /// Drops the other side branches when there are too many headers on them.
    fn make_room(&mut self, keep: BlockRef) -> Result<(), Refused> {
        if self.side.len() < MAX_SIDE {
            return Ok(());
        }
        let mut kept = HashSet::new();
        let mut at = keep;
        while let Some(side) = self.side.get(&at.hash) {
            kept.insert(at.hash);
            at = side.parent();
        }
        self.side.retain(|hash, _| kept.contains(hash));
        if self.side.len() < MAX_SIDE { Ok(()) } else { Err(Refused::TooDeep) }
    }

    /// Makes the side branch that ends at `top` and began at `fork` the best chain.
    fn switch(&mut self, top: BlockRef, fork: BlockRef) {
        let mut risen = Vec::new();
        let mut at = top;
        let mut work = self.work;
        while let Some(side) = self.side.remove(&at.hash) {
            if at == top {
                work = side.work;
            }
            at = side.parent();
            risen.push(side.header);
        }
        let (mut hash, mut left) = (self.tip, self.work);
        for height in (fork.height + 1..=self.height()).rev() {
            let Some(header) = self.best.pop_back() else { break };
            self.side.insert(hash, Side { header, height, work: left });
            left = left - Target::from_compact(header.bits).to_work();
            hash = header.prev_blockhash;
        }
        self.best.extend(risen.into_iter().rev());
        self.tip = top.hash;
        self.work = work;
    }
}

impl Side {
    fn parent(&self) -> BlockRef {
        BlockRef { height: self.height - 1, hash: self.header.prev_blockhash }
    }
}

/// A block of the tree and everything below it.
struct Branch<'a> {
    tree: &'a HeaderTree,
    top: BlockRef,
}

impl Ancestry for Branch<'_> {
    fn ancestor(&self, height: u32) -> Option<Header> {
        let mut at = self.top;
        while !self.tree.contains(at) {
            let side = self.tree.side.get(&at.hash)?;
            if side.height == height {
                return Some(side.header);
            }
            at = side.parent();
        }
        self.tree.header_at(height).filter(|_| height <= at.height)
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
