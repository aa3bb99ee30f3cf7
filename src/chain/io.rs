//! What goes into the sync machine and what comes out of it.
//!
//! The machine takes [`Input`]s together with the time and yields [`Action`]s; the driver (`engine`) performs
//! them. Everything that carries a [`SourceId`] is a claim of that server.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{BlockHash, Script, ScriptBuf, Transaction, TxMerkleNode, Txid};

use super::merkle::ProvenTx;

/// One connection to one server. A reconnect gets a new id, so that nothing of the old one is mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u64);

/// Electrum script hash: SHA-256 of the script, in the byte order of the hash (reversed on the wire).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScriptHash(pub [u8; 32]);

impl ScriptHash {
    /// The hash by which servers know a script.
    pub fn of(script: &Script) -> Self {
        ScriptHash(sha256::Hash::hash(script.as_bytes()).to_byte_array())
    }
}

/// Electrum status: SHA-256 of `txid:height:` concatenated over the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub [u8; 32]);

/// Who wants to hear of a script. A set: a funding transaction concerns both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// The on-chain wallet (told of unconfirmed transactions too).
    pub wallet: bool,
    /// LDK's confirmables (told of proven transactions only).
    pub lightning: bool,
}

impl Owners {
    /// Both.
    pub const ALL: Owners = Owners { wallet: true, lightning: true };

    /// Either's.
    #[must_use]
    pub fn union(self, other: Owners) -> Owners {
        Owners { wallet: self.wallet || other.wallet, lightning: self.lightning || other.lightning }
    }

    /// Those who are not in `other`.
    #[must_use]
    pub fn without(self, other: Owners) -> Owners {
        Owners { wallet: self.wallet && !other.wallet, lightning: self.lightning && !other.lightning }
    }

    /// True when each of `other` is in here.
    pub fn contains(self, other: Owners) -> bool {
        self.union(other) == self
    }

    /// True when one is in both.
    pub fn meets(self, other: Owners) -> bool {
        (self.wallet && other.wallet) || (self.lightning && other.lightning)
    }
}

/// A script to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The output script whose history is followed (funding and spending transactions).
    pub script: ScriptBuf,
    /// Who hears of it.
    pub owners: Owners,
}

/// A question to a server, each answered by the [`Reply`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// `count` headers of the server's best chain from height `start` (at most 2016).
    Headers { start: u32, count: u32 },
    /// Subscribe to a script; the reply is its present status, later ones arrive as [`Input::Status`].
    Subscribe { script: ScriptHash },
    /// The history of a script.
    History { script: ScriptHash },
    /// The body of a transaction.
    Transaction { txid: Txid },
    /// The merkle branch of a transaction in the block at `height`.
    Proof { txid: Txid, height: u32 },
    /// The first transaction of the block at `height`, with its merkle branch: it shows how deep the block's tree is, and
    /// is asked for where a proof alone does not decide.
    Coinbase { height: u32 },
}

/// A well-formed answer. Well-formed is not true: the machine checks.
#[derive(Clone, Debug)]
pub enum Reply {
    /// At most `count` consecutive headers; their linkage is not yet checked.
    Headers(Vec<Header>),
    /// Status of a script; `None`: the server knows no history.
    Status(Option<Status>),
    /// History in the server's order: confirmed ones in chain order, then the mempool.
    History(Vec<HistoryEntry>),
    /// A transaction body; its txid is not yet compared with the one asked for.
    Transaction(Arc<Transaction>),
    /// Merkle branch from the leaf upwards, and the leaf's position.
    Proof { branch: Vec<TxMerkleNode>, pos: u32 },
    /// The first transaction of a block; whether it is one is not yet checked.
    Coinbase(Coinbase),
}

/// One line of a script's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The transaction.
    pub txid: Txid,
    /// Claimed height; `None`: in the server's mempool.
    pub height: Option<u32>,
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server answered with an error (unknown txid, history too large, busy …).
    Error,
    /// Nothing within the deadline.
    Timeout,
}

/// What the driver tells the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A server is connected, of our network (genesis checked), and its tip subscription is made. `serves` says whose
    /// scripts it is asked about; headers are taken from every connection.
    Up { source: SourceId, serves: Owners },
    /// Whose scripts a connection is asked about from now on. A duty that ends leaves the server's subscriptions as they
    /// are (Electrum takes them back only since protocol 1.4.2); what it says of those scripts is not listened to any
    /// more.
    Serve { source: SourceId, serves: Owners },
    /// That connection is gone; nothing more will come from it, requests in flight are void.
    Down { source: SourceId },
    /// The server says that this is its tip.
    Tip { source: SourceId, header: Header, height: u32 },
    /// A pushed status of a subscribed script.
    Status { source: SourceId, script: ScriptHash, status: Option<Status> },
    /// The outcome of a request.
    Answer { source: SourceId, request: Request, reply: Result<Reply, Refusal> },
    /// A script to follow from now on (idempotent; owners are united). At start all are put in before the first
    /// [`Input::Up`]: what is not watched yet cannot hold a delivery back.
    Watch(Watch),
    /// These owners want to hear of these scripts no more. What nobody else follows is given up, with its record; what was
    /// proven of it stays a fact, and a new [`Input::Watch`] follows it from the beginning.
    Unwatch { scripts: Vec<ScriptHash>, owners: Owners },
    /// What the wallet thinks is unconfirmed; put in at start, and after each plan with a fork. What of it proves to be
    /// nowhere is told as [`MempoolChange::gone`].
    Believed(Vec<Txid>),
    /// The last [`Action::Deliver`] was carried out, and every watch that it brought forth has been put in.
    Delivered,
    /// Time has passed (the driver sends it when [`super::machine::Machine::deadline`] is reached).
    Tick,
}

/// What the machine wants done, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Ask a server.
    Ask { source: SourceId, request: Request },
    /// Make these headers durable before anything later: all heights from `from` on are replaced. In the same write,
    /// `fork` replaces the stored [`Told::fork`] ([`Told::forked`]): it says of what the listeners still have to be told,
    /// which a crash would otherwise make impossible to find out, since the headers that left are gone.
    StoreHeaders { from: u32, headers: Vec<Header>, fork: Option<BlockRef> },
    /// Make these older headers durable: they end right below the lowest stored one, which stays.
    StoreOlderHeaders { from: u32, headers: Vec<Header> },
    /// Make what is known of a script durable, so that a restart can deliver it without asking.
    StoreHistory(ScriptRecord),
    /// Remove what is stored of these scripts; nothing depends on it.
    ForgetHistories(Vec<ScriptHash>),
    /// Tell the listeners; then store what [`Plan::told`] says, put in their new watches, then [`Input::Delivered`].
    /// One at a time.
    Deliver(Plan),
    /// Something to say about a server.
    Report { source: SourceId, report: Report },
}

/// What is known of one script, as it is stored. Proofs are checked again when it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRecord {
    /// The script.
    pub script: ScriptHash,
    /// The status for which the history was fetched whole; `None`: never used, or never fetched whole.
    pub status: Option<Status>,
    /// Confirmed transactions of its history.
    pub confirmed: Vec<ProofRecord>,
    /// True when the history had unconfirmed entries (it is fetched again after a restart).
    pub unconfirmed: bool,
}

/// A stored proof: the material of [`ProvenTx`], not yet one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofRecord {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Height of its block.
    pub height: u32,
    /// Hash of its block.
    pub block: BlockHash,
    /// Merkle branch from the leaf upwards.
    pub branch: Vec<TxMerkleNode>,
    /// Position in the block.
    pub pos: u32,
    /// What shows how deep the block's tree is, where the proof needs it.
    pub coinbase: Option<Coinbase>,
}

/// The first transaction of a block, and the branch that leads from it to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coinbase {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Merkle branch from the leaf upwards.
    pub branch: Vec<TxMerkleNode>,
}

/// A block of our own best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    /// Height; genesis is 0.
    pub height: u32,
    /// Hash.
    pub hash: BlockHash,
}

/// What the listeners were told of the chain, as the driver stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The last [`Plan::told`].
    pub tip: BlockRef,
    /// The last [`Action::StoreHeaders`]' `fork`, unless a plan with a `fork` was delivered since.
    pub fork: Option<BlockRef>,
}

impl Told {
    /// What is stored with an [`Action::StoreHeaders`] that has this `fork`. Listeners that were told no tip yet may have
    /// heard of blocks; what they then share with our chain is the fork.
    pub fn forked(told: Option<Told>, fork: Option<BlockRef>) -> Option<Told> {
        match told {
            Some(told) => Some(Told { fork, ..told }),
            None => fork.map(|fork| Told { tip: fork, fork: Some(fork) }),
        }
    }
}

/// One delivery. To be applied under one lock, in the order of the fields:
/// what left the chain, then one block's transactions, then the tip, then the mempool.
///
/// A plan holds the transactions of at most one block, so that whatever a listener registers while it hears of
/// a block is followed before the next block is told.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The highest block that the chain told before and the present one share, if the chain was reorganised
    /// since the last plan: everything above it is to be unconfirmed.
    pub fork: Option<BlockRef>,
    /// Transactions of one block, in block order. The block may lie below a tip told earlier.
    pub block: Option<PlanBlock>,
    /// The new best block, told when nothing more is known to come below it. Never with a `block`: what a listener
    /// registers while it hears of that block may reveal more in it or above, and a listener that hears of the height
    /// first gives up contracts that were claimed in time.
    pub tip: Option<(Header, u32)>,
    /// Changes of the unconfirmed transactions of wallet scripts.
    pub mempool: MempoolChange,
}

impl Plan {
    /// True when there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        let chain = self.fork.is_none() && self.block.is_none() && self.tip.is_none();
        chain && self.mempool.seen.is_empty() && self.mempool.gone.is_empty()
    }

    /// The block up to which the listeners know our chain once this plan is delivered, where it changes that; to be
    /// stored as [`Told::tip`] (and with a `fork`, [`Told::fork`] is cleared).
    pub fn told(&self) -> Option<BlockRef> {
        let tip = self.tip.map(|(header, height)| BlockRef { height, hash: header.block_hash() });
        tip.or(self.fork)
    }
}

/// Transactions proven to be in one block of our best chain.
#[derive(Clone, Debug)]
pub struct PlanBlock {
    /// The block's header, from our own tree.
    pub header: Header,
    /// Its height.
    pub height: u32,
    /// In block order.
    pub txs: Vec<PlanTx>,
}

/// A proven transaction and who is to hear of it.
#[derive(Clone, Debug)]
pub struct PlanTx {
    /// The proof.
    pub proven: Arc<ProvenTx>,
    /// Union of the owners of all scripts whose history it is in.
    pub owners: Owners,
}

/// What changed among unconfirmed transactions of wallet scripts. Claims, good for display only.
#[derive(Clone, Debug, Default)]
pub struct MempoolChange {
    /// Newly seen.
    pub seen: Vec<Arc<Transaction>>,
    /// Seen before, or confirmed in a block that left the chain; now neither in the server's mempool nor confirmed.
    /// One may be named that was never told.
    pub gone: Vec<Txid>,
}

/// What the machine has to say about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A lie that can be proven: the connection is to be cut and the server banned.
    Lie(Lie),
    /// The server does not say what was proven before, or refuses to say it: the watch of this script is degraded
    /// on this server.
    Degraded { script: ScriptHash },
    /// The watch serves again.
    Recovered { script: ScriptHash },
    /// The server had told a script's whole history up to a height, and left out this transaction, which another
    /// server's proof shows to lie below. It may be a bug or a lie: the server is to be demoted.
    Omitted { script: ScriptHash, txid: Txid },
}

/// Provable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A header without the work, with wrong bits, time or linkage, or against a checkpoint.
    Header,
    /// A merkle branch that does not lead to our header's root, is malformed, or is not as long as the tree is deep.
    Proof,
    /// A body with another txid than asked for.
    Body,
    /// A body with a witness that does not open what it spends.
    Witness,
}
