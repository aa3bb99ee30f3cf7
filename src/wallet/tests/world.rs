use std::sync::Arc;

use bitcoin::bip32::Xpriv;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, FeeRate, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness, absolute, transaction,
};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::chain::io::{BlockRef, MempoolChange, Owners, Plan, PlanBlock, PlanTx, Watch};
use crate::chain::merkle;
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;
use crate::engine::{Listener, WatchInbox};
use crate::ledger::Ledger;
use crate::store::Store;
use crate::wallet::{OnchainBalance, SendAmount, Spend, Wallet};

pub(super) const SEED: [u8; 32] = [7; 32];

/// The wallet, the chain that it is told of, and what it asked to be watched.
pub(super) struct World {
    pub(super) wallet: Wallet,
    pub(super) tree: HeaderTree,
    pub(super) store: Store,
    watches: UnboundedReceiver<Watch>,
    salt: u64,
    dir: TempDir,
}

pub(super) fn open_store(dir: &TempDir) -> Store {
    Store::open(dir.path(), Network::Regtest, [1; 4]).unwrap()
}

pub(super) fn open_wallet(store: &Store) -> (Wallet, UnboundedReceiver<Watch>) {
    let (inbox, watches) = WatchInbox::new();
    let master = Xpriv::new_master(Network::Regtest, &SEED).unwrap();
    (Wallet::open(store.clone(), Ledger::open(store.clone()), &master, Network::Regtest, inbox).unwrap(), watches)
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open_store(&dir);
        let (wallet, watches) = open_wallet(&store);
        Self { wallet, tree: HeaderTree::new(Params::new(Network::Regtest)), store, watches, salt: 0, dir }
    }

    /// A world with one confirmed coin for each value.
    pub(super) fn with_coins(values: &[u64]) -> Self {
        let mut world = Self::new();
        for value in values {
            let tx = world.payment(*value);
            world.mine(Some(tx));
        }
        world
    }

    /// Closes everything and opens it again. Nobody is asked.
    pub(super) fn restart(mut self) -> Self {
        self.restart_in_place();
        self
    }

    pub(super) fn restart_in_place(&mut self) {
        self.store.close().unwrap();
        self.store = open_store(&self.dir);
        (self.wallet, self.watches) = open_wallet(&self.store);
    }

    pub(super) fn balance(&self) -> OnchainBalance {
        self.wallet.balance(0)
    }

    /// Scripts asked for since the last look.
    pub(super) fn watched(&mut self) -> Vec<ScriptBuf> {
        let mut scripts = Vec::new();
        while let Ok(watch) = self.watches.try_recv() {
            assert_eq!(watch.owners, Owners { wallet: true, lightning: false });
            scripts.push(watch.script);
        }
        scripts
    }

    pub(super) fn salt(&mut self) -> u64 {
        self.salt += 1;
        self.salt
    }

    pub(super) fn address(&self) -> ScriptBuf {
        self.wallet.new_address().unwrap().address.script_pubkey()
    }

    /// Somebody else pays to a new address.
    pub(super) fn payment(&mut self, sat: u64) -> Transaction {
        let script = self.address();
        self.payment_to(script, sat)
    }

    pub(super) fn payment_to(&mut self, script: ScriptBuf, sat: u64) -> Transaction {
        let salt = self.salt();
        transaction(vec![foreign_outpoint(salt)], vec![(script, sat)])
    }

    /// A block on the tip, with one transaction or none of ours.
    pub(super) fn mine(&mut self, tx: Option<Transaction>) {
        let parent = self.tree.tip();
        self.mine_on(parent, vec![tx]);
    }

    /// Blocks on `parent`; told as the engine tells them: the fork, then each block, then the tip.
    pub(super) fn mine_on(&mut self, parent: BlockRef, txs: Vec<Option<Transaction>>) {
        let old = self.tree.tip();
        let mut tip = (self.tree.header_at(parent.height).unwrap(), parent.height);
        let mut blocks = Vec::new();
        for tx in txs {
            let salt = self.salt();
            let root = tx.as_ref().map_or_else(|| salted(salt), |tx| TxMerkleNode::from(tx.compute_txid()));
            tip = (next_header(&tip.0, root, salt), tip.1 + 1);
            self.tree.accept(tip.0, tip.1, u64::from(tip.0.time)).unwrap();
            blocks.extend(tx.map(|tx| block(tip.0, tip.1, tx)));
        }
        assert_eq!(self.tree.tip().hash, tip.0.block_hash(), "the new chain is the best one");
        if parent != old {
            self.deliver(Plan { fork: Some(parent), ..Plan::default() });
        }
        for block in blocks {
            self.deliver(Plan { block: Some(block), ..Plan::default() });
        }
        self.deliver(Plan { tip: Some(tip), ..Plan::default() });
    }

    /// Replaces the last `depth` blocks by as many and one more, holding `txs` from the lowest on.
    pub(super) fn reorg(&mut self, depth: u32, mut txs: Vec<Option<Transaction>>) {
        let parent = self.tree.block_at(self.tree.height() - depth).unwrap();
        txs.resize(depth as usize + 1, None);
        self.mine_on(parent, txs);
    }

    pub(super) fn deliver(&self, plan: Plan) {
        self.wallet.deliver(&plan, &self.tree).unwrap();
    }

    /// A server shows a transaction in its mempool.
    pub(super) fn see(&self, tx: &Transaction) {
        let mempool = MempoolChange { seen: vec![Arc::new(tx.clone())], gone: Vec::new() };
        self.deliver(Plan { mempool, ..Plan::default() });
    }

    /// A server no longer shows it.
    pub(super) fn lose(&self, txid: Txid) {
        self.deliver(Plan { mempool: MempoolChange { seen: Vec::new(), gone: vec![txid] }, ..Plan::default() });
    }

    pub(super) fn only_coin(&self) -> OutPoint {
        let coins = self.wallet.coins();
        assert_eq!(coins.len(), 1);
        coins[0].outpoint
    }

    /// Sends so much to a stranger, and makes it real.
    pub(super) fn send(&mut self, sat: u64) -> Transaction {
        let draft = self.wallet.draft(&to_stranger(SendAmount::Sat(sat))).unwrap();
        self.wallet.commit(&draft, 1_700_000_000).unwrap();
        draft.tx
    }
}

pub(super) fn to_stranger(amount: SendAmount) -> Spend {
    Spend {
        script: stranger(),
        amount,
        feerate: FeeRate::from_sat_per_vb_u32(2),
        keep_back_sat: 0,
        coins: Vec::new(),
        force: false,
    }
}

/// A script of somebody else's.
pub(super) fn stranger() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([0x55; 32]))
}

pub(super) fn foreign_outpoint(salt: u64) -> OutPoint {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&salt.to_le_bytes());
    OutPoint { txid: Txid::from_byte_array(bytes), vout: 0 }
}

/// An unsigned transaction.
pub(super) fn transaction(inputs: Vec<OutPoint>, outputs: Vec<(ScriptBuf, u64)>) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: inputs
            .into_iter()
            .map(|previous_output| TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::from_slice(&[vec![0x30; 71], vec![0x02; 33]]),
            })
            .collect(),
        output: outputs
            .into_iter()
            .map(|(script_pubkey, sat)| TxOut { value: Amount::from_sat(sat), script_pubkey })
            .collect(),
    }
}

pub(super) fn block(header: Header, height: u32, tx: Transaction) -> PlanBlock {
    let proven = merkle::prove(Arc::new(tx), Vec::new(), 0, header, height).unwrap();
    let owners = Owners { wallet: true, lightning: false };
    PlanBlock { header, height, txs: vec![PlanTx { proven: Arc::new(proven), owners }] }
}

pub(super) fn next_header(parent: &Header, merkle_root: TxMerkleNode, salt: u64) -> Header {
    let mut header = Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: parent.block_hash(),
        merkle_root,
        time: parent.time + 600 + u32::try_from(salt % 7).unwrap(),
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
    header
}

fn salted(salt: u64) -> TxMerkleNode {
    TxMerkleNode::from_byte_array(BlockHash::hash(&salt.to_le_bytes()).to_byte_array())
}
