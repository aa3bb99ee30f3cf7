//! The second opinion: LDK's own chain engine, in shadow, on a server of its own.
//!
//! Rules that it lives under (read in `lightning-transaction-sync` 0.2.7 and `electrum-client` 0.24.2):
//!
//! - They believe one server: no work, no linkage, no genesis. What they conclude is that server's claim, worth comparing
//!   and never worth acting on: nothing of it reaches a channel, the wallet or the sync machine.
//! - The client never sends `server.version`, without which ElectrumX answers nothing since 1.19, and it speaks Electrum
//!   only. Over TLS it knows certificate authorities and no pins.
//! - A line that is JSON but no object (`7`, `[]`) panics in its reader. Lines have no limit; a time limit counts from the
//!   last byte, so that one byte a second is never late; a sync begins anew, at once and for ever, while replies
//!   contradict each other. `pos ≥ 2²⁴` passes its check of proofs (a `ChannelManager` panics on it, a recorder does not).
//!
//! Decision: the engine runs in a child process, the same binary with a hidden command: it knows one server and what to
//! look for, no key and no file; its memory is bounded, it is killed at an absolute deadline, and what it concludes is one
//! bounded JSON document. Rejected: a thread (a panic ends a release build, an endless line takes the node's
//! memory), and checking the lines for it (our codec would speak, not theirs). Cost: a process of some 15 MB for
//! the seconds that an audit takes.

mod child;
mod compare;
mod parent;
mod recorder;
mod watched;

use bitcoin::{BlockHash, OutPoint, ScriptBuf, Txid};
use serde::{Deserialize, Serialize};

use crate::chain::io::BlockRef;

pub use child::run as run_child;
pub use compare::{Comparison, Disagreement, Subject, compare};
pub use parent::ask;

/// What LDK has registered to be told of: the same as the node's own engine follows for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Transactions, each with an output script of theirs: fundings.
    pub transactions: Vec<(Txid, ScriptBuf)>,
    /// Outputs whose spending matters, each with its script: fundings, commitments, HTLCs, sweeps.
    pub outputs: Vec<(OutPoint, ScriptBuf)>,
}

impl Watched {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.transactions.len() + self.outputs.len()
    }

    /// All their scripts.
    pub fn scripts(self) -> impl Iterator<Item = ScriptBuf> {
        let transactions = self.transactions.into_iter().map(|(_, script)| script);
        transactions.chain(self.outputs.into_iter().map(|(_, script)| script))
    }

    /// True for a node without channels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the child is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// `tcp://host:port` or `ssl://host:port`.
    pub server: String,
    /// Go there through this SOCKS5 proxy.
    pub proxy: Option<Through>,
    /// The first block of the network.
    pub genesis: BlockHash,
    /// What to look for.
    pub watched: Watched,
}

/// A SOCKS5 proxy, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Through {
    /// `host:port`
    pub proxy: String,
    /// Login.
    pub user: String,
    /// Login.
    pub password: String,
}

/// A block, as a server names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

impl From<BlockRef> for Block {
    fn from(block: BlockRef) -> Self {
        Self { height: block.height, hash: block.hash }
    }
}

impl From<Block> for BlockRef {
    fn from(block: Block) -> Self {
        Self { height: block.height, hash: block.hash }
    }
}

/// What the child concludes. Texts may quote the server, cut short and escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// All that LDK's engine was told by the server.
    Formed {
        /// The best block.
        tip: Block,
        /// Every confirmed transaction of those that were looked for, and where it is said to be.
        confirmed: Vec<(Txid, Block)>,
    },
    /// LDK's client and the server do not understand each other, so there is no opinion.
    CannotSpeak {
        /// In our words, around what was said.
        why: String,
    },
    /// It broke off on the way.
    BrokeOff {
        /// In our words.
        why: String,
    },
}
