//! Following the server's chain, block by block.
//!
//! The order in which things are told is that of the machine's contract: what a block confirms before the block is the
//! tip, so that no height is told too early; in a reorganisation the new chain first, so that what it holds means
//! something.
//!
//! Bounded: one question at a time; at most two pages of headers and their blocks for one look at the tip; everything is
//! asked for anew only once in [`JUMP_PAUSE`] polls, and a chain that turns again and again ends the connection.

use std::collections::{BTreeSet, VecDeque};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use tokio::time::Instant;

use super::super::Event;
use super::super::error::{SourceError, Trouble};
use super::block;
use super::book::Connected;
use super::follow::{Done, Follower};
use hyper::body::Bytes;

use crate::chain::io::ScriptHash;

/// Polls that fail one after another before the server is left.
const MISSES: u32 = 3;
/// Reorganisations in so many poll intervals …
const TURNS_WITHIN: u32 = 60;
/// … and no more.
const TURNS: usize = 10;
/// Poll intervals between two times that everything is asked for anew.
const JUMP_PAUSE: u32 = 2;

/// How far the server's chain is followed.
#[derive(Debug, Default)]
pub(super) struct Chase {
    step: Step,
    /// Failures of the last questions.
    misses: u32,
    /// A block that was refused; the second time, it is done without.
    refused: Option<BlockHash>,
    /// When the chain turned.
    turns: VecDeque<Instant>,
    jumped: Option<Instant>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// The tip was asked for.
    Looking,
    /// The newest headers were asked for; to begin anew with them, or to see where they part.
    Linking { anew: bool },
    /// These blocks are to be fetched, the first is under way.
    Blocks(Way),
    /// Everything is being asked for anew, and these are left.
    Jumping { tip: (u32, Header), left: BTreeSet<ScriptHash> },
}

/// A way along new blocks.
#[derive(Debug, Default)]
struct Way {
    blocks: VecDeque<BlockHash>,
    /// It leaves the chain that was told: then it is told as a whole.
    turns: bool,
    tips: Vec<(u32, Header)>,
    touched: BTreeSet<ScriptHash>,
}

impl Chase {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle)
    }

    /// True while the book is ahead of what may be told.
    pub(super) fn withholds(&self) -> bool {
        matches!(&self.step, Step::Blocks(Way { turns: true, .. }) | Step::Jumping { .. })
    }
}

impl Follower {
    pub(super) fn look_at_tip(&mut self) {
        self.chase.step = Step::Looking;
        let http = self.http.clone();
        self.jobs.spawn(async move { Done::Tip(http.tip().await) });
    }

    /// Nothing came; again at the next poll, unless that happened too often.
    fn missed(&mut self, error: SourceError) -> Result<(), SourceError> {
        self.chase.step = Step::Idle;
        self.chase.misses += 1;
        if self.is_fatal(&error) || self.chase.misses >= MISSES {
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn tip_came(&mut self, outcome: Result<BlockHash, SourceError>) -> Result<(), SourceError> {
        let hash = match outcome {
            Ok(hash) => hash,
            Err(error) => return self.missed(error),
        };
        // One that we have passed: another machine behind the same name, or a reorganisation that is not done.
        if self.book.find(hash).is_some() {
            self.chase.misses = 0;
            self.chase.step = Step::Idle;
            return Ok(());
        }
        self.walk(Way { blocks: VecDeque::from([hash]), ..Way::default() });
        Ok(())
    }

    /// Fetches the first block of the way.
    fn walk(&mut self, way: Way) {
        let Some(&hash) = way.blocks.front() else { return self.arrive(way) };
        self.chase.step = Step::Blocks(way);
        let http = self.http.clone();
        self.jobs.spawn(async move { Done::Block(hash, http.block(hash).await) });
    }

    pub(super) fn block_came(
        &mut self,
        hash: BlockHash,
        outcome: Result<Bytes, SourceError>,
    ) -> Result<(), SourceError> {
        let Step::Blocks(mut way) = std::mem::take(&mut self.chase.step) else { return Ok(()) };
        let outcome = outcome.and_then(|raw| match block::header(&raw, hash)?.prev_blockhash == self.book.tip().hash {
            true => self.book.connect(&raw, hash).map(Some),
            false => Ok(None),
        });
        match outcome {
            Ok(Some(Connected { header, height, touched })) => {
                way.blocks.pop_front();
                way.touched.extend(touched);
                match way.turns {
                    true => way.tips.push((height, header)),
                    false => {
                        self.tell_news();
                        self.say(Event::Tip { header, height });
                    }
                }
                self.walk(way);
                Ok(())
            }
            // Not on our tip: see where it belongs.
            Ok(None) => {
                self.link(false);
                Ok(())
            }
            Err(SourceError::Refused(why)) => {
                tracing::debug!(%hash, %why, "a block is not to be had");
                if self.chase.refused.replace(hash) == Some(hash) {
                    self.link(true);
                } else {
                    // It may have left the server's chain meanwhile.
                    self.table.tip_now(Instant::now());
                }
                Ok(())
            }
            Err(error) => self.missed(error),
        }
    }

    /// The way's end.
    fn arrive(&mut self, way: Way) {
        self.chase.step = Step::Idle;
        self.chase.misses = 0;
        self.chase.refused = None;
        if !way.turns {
            self.tell_news();
        }
        for (height, header) in way.tips {
            self.say(Event::Tip { header, height });
        }
        self.tell_news();
        self.table.block_came(Instant::now());
        // What a block confirms may have replaced something unconfirmed.
        way.touched.into_iter().for_each(|script| self.table.want(script));
    }

    fn link(&mut self, anew: bool) {
        let http = self.http.clone();
        self.chase.step = Step::Linking { anew };
        self.jobs.spawn(async move { Done::Newer(http.newer().await) });
    }

    pub(super) fn newer_came(&mut self, outcome: Result<Vec<(u32, Header)>, SourceError>) -> Result<(), SourceError> {
        let Step::Linking { anew } = std::mem::take(&mut self.chase.step) else { return Ok(()) };
        let newer = match outcome {
            Ok(newer) => newer,
            Err(error) => return self.missed(error),
        };
        let shared = newer.iter().rev().find_map(|(_, header)| self.book.find(header.block_hash()));
        let below = newer.first().and_then(|(_, header)| self.book.find(header.prev_blockhash));
        let Some(shared) = shared.or(below).filter(|_| !anew) else { return self.jump(newer) };
        let above = newer.iter().filter(|(height, _)| *height > shared.height);
        let mut way = Way { blocks: above.map(|(_, header)| header.block_hash()).collect(), ..Way::default() };
        if !way.blocks.is_empty() && shared != self.book.tip() {
            self.turned()?;
            way.turns = true;
            way.touched = self.book.part(shared);
        }
        self.walk(way);
        Ok(())
    }

    /// Counts a reorganisation.
    fn turned(&mut self) -> Result<(), SourceError> {
        let (now, span) = (Instant::now(), self.http.limits().poll * TURNS_WITHIN);
        self.chase.turns.retain(|at| now.duration_since(*at) < span);
        self.chase.turns.push_back(now);
        match self.chase.turns.len() > TURNS {
            true => Err(Trouble::Garbled("its chain turns again and again").into()),
            false => Ok(()),
        }
    }

    /// Too far away for block after block, or blocks are not to be had: begins anew with these headers.
    fn jump(&mut self, newer: Vec<(u32, Header)>) -> Result<(), SourceError> {
        let now = Instant::now();
        let pause = self.http.limits().poll * JUMP_PAUSE;
        let Some(&tip) = newer.last() else { return Ok(()) };
        if self.chase.jumped.is_some_and(|at| now.duration_since(at) < pause) {
            return Ok(());
        }
        self.chase.jumped = Some(now);
        self.book.jump(&newer);
        let left: BTreeSet<ScriptHash> = self.book.followed().collect();
        left.iter().for_each(|script| self.want(*script, None));
        self.chase.step = Step::Jumping { tip, left };
        self.jumped();
        Ok(())
    }

    /// A script is known anew.
    pub(super) fn jumped_for(&mut self, script: ScriptHash) {
        if let Step::Jumping { left, .. } = &mut self.chase.step {
            left.remove(&script);
            self.jumped();
        }
    }

    /// When everything is known anew, it is told.
    fn jumped(&mut self) {
        let Step::Jumping { tip: (height, header), left } = &self.chase.step else { return };
        let (height, header) = (*height, *header);
        if left.is_empty() {
            self.arrive(Way { tips: vec![(height, header)], ..Way::default() });
        }
    }
}
