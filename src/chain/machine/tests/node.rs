//! A node in memory: a chain with real proof of work and merkle trees, and what a server over it answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::opcodes::all::OP_EQUAL;
use bitcoin::script::Builder;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction};

use crate::chain::io::*;
use crate::chain::testing::{self, branch_of, root_of};

/// Scripts with these numbers are locked: what spends them needs a witness.
const LOCKED: [u8; 4] = [2, 5, 201, 202];

/// The script with this number is so short that what pays to it alone has 64 bytes, as two nodes of a merkle tree have.
pub(super) const SHORT: u8 = 7;

/// Opens for its own number.
fn lock(n: u8) -> ScriptBuf {
    Builder::new().push_slice([n]).push_opcode(OP_EQUAL).into_script()
}

/// A script told apart by its number.
pub(super) fn script(n: u8) -> ScriptBuf {
    if LOCKED.contains(&n) {
        return lock(n).to_p2wsh();
    }
    if n == SHORT {
        return ScriptBuf::from_bytes(vec![0x51, 0x02, n, n]);
    }
    let mut bytes = vec![0x00, 0x14];
    bytes.extend([n; 20]);
    ScriptBuf::from_bytes(bytes)
}

pub(super) fn hash_of(n: u8) -> ScriptHash {
    ScriptHash::of(&script(n))
}

/// A transaction that spends `from` and pays to each of `to`.
pub(super) fn tx(from: OutPoint, to: &[u8]) -> Arc<Transaction> {
    let pay = |&n: &u8| TxOut { value: Amount::from_sat(1000), script_pubkey: script(n) };
    Arc::new(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: to.iter().map(pay).collect(),
    })
}

/// A transaction from somewhere that is nobody's.
pub(super) fn deposit(salt: u32, to: &[u8]) -> Arc<Transaction> {
    tx(OutPoint::new(Txid::from_byte_array([0xee; 32]), salt), to)
}

/// A transaction that spends the first output of another, as it may.
pub(super) fn spend(of: &Transaction, to: &[u8]) -> Arc<Transaction> {
    let locked = LOCKED.into_iter().find(|&n| of.output[0].script_pubkey == script(n));
    match locked {
        Some(n) => open(&[of], &[n], to),
        None => tx(OutPoint::new(of.compute_txid(), 0), to),
    }
}

/// A transaction that spends the first outputs of these, which are locked, and opens each with such a number.
pub(super) fn open(of: &[&Transaction], keys: &[u8], to: &[u8]) -> Arc<Transaction> {
    let mut opening = Transaction::clone(&deposit(0, to));
    let input = |(parent, key): (&&Transaction, &u8)| {
        let lock = LOCKED.into_iter().find(|&n| parent.output[0].script_pubkey == script(n)).map(lock);
        TxIn {
            previous_output: OutPoint::new(parent.compute_txid(), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![*key], lock.unwrap_or_default().into_bytes()]),
        }
    };
    opening.input = of.iter().zip(keys).map(input).collect();
    Arc::new(opening)
}

/// What a full node knows.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) blocks: Vec<(Header, Vec<Arc<Transaction>>)>,
    pub(super) mempool: Vec<Arc<Transaction>>,
    /// Left out of every answer.
    pub(super) hidden: BTreeSet<Txid>,
    /// It gives no transaction's witness.
    pub(super) strips: bool,
    salt: u32,
}

impl Node {
    pub(super) fn new(height: usize) -> Self {
        let mut node = Node {
            blocks: vec![(testing::genesis(), Vec::new())],
            mempool: Vec::new(),
            hidden: BTreeSet::new(),
            strips: false,
            salt: 0,
        };
        node.mine_empty(height);
        node
    }

    pub(super) fn height(&self) -> u32 {
        self.blocks.len() as u32 - 1
    }

    pub(super) fn tip(&self) -> Header {
        self.blocks[self.blocks.len() - 1].0
    }

    /// A block of these, after a coinbase that pays nobody we know.
    pub(super) fn mine(&mut self, txs: &[Arc<Transaction>]) {
        self.salt += 1;
        let mut coinbase = Transaction::clone(&tx(OutPoint::null(), &[255]));
        coinbase.lock_time = absolute::LockTime::from_consensus(self.salt);
        let mut all = vec![Arc::new(coinbase)];
        all.extend_from_slice(txs);
        self.mempool.retain(|tx| !txs.contains(tx));
        let header = testing::mine(&self.tip(), root_of(&all));
        self.blocks.push((header, all));
    }

    pub(super) fn mine_empty(&mut self, count: usize) {
        for _ in 0..count {
            self.mine(&[]);
        }
    }

    /// Takes off the last `depth` blocks; gives what was in them.
    pub(super) fn unwind(&mut self, depth: usize) -> Vec<Vec<Arc<Transaction>>> {
        let off = self.blocks.split_off(self.blocks.len() - depth);
        off.into_iter().map(|(_, txs)| txs[1..].to_vec()).collect()
    }

    fn all(&self) -> Vec<Arc<Transaction>> {
        self.blocks.iter().flat_map(|b| &b.1).chain(&self.mempool).cloned().collect()
    }

    pub(super) fn history(&self, id: ScriptHash) -> Vec<HistoryEntry> {
        let all = self.all();
        let coins: BTreeSet<OutPoint> = all
            .iter()
            .flat_map(|tx| {
                let ours = (0..).zip(&tx.output).filter(|(_, o)| ScriptHash::of(&o.script_pubkey) == id);
                ours.map(|(vout, _)| OutPoint::new(tx.compute_txid(), vout)).collect::<Vec<_>>()
            })
            .collect();
        let concerns = |tx: &Transaction| {
            tx.output.iter().any(|o| ScriptHash::of(&o.script_pubkey) == id)
                || tx.input.iter().any(|i| coins.contains(&i.previous_output))
        };
        let mut entries = Vec::new();
        for (height, (_, txs)) in (0..).zip(&self.blocks) {
            let ours = txs.iter().filter(|tx| concerns(tx));
            entries.extend(ours.map(|tx| HistoryEntry { txid: tx.compute_txid(), height: Some(height) }));
        }
        let ours = self.mempool.iter().filter(|tx| concerns(tx));
        entries.extend(ours.map(|tx| HistoryEntry { txid: tx.compute_txid(), height: None }));
        entries.retain(|entry| !self.hidden.contains(&entry.txid));
        entries
    }

    pub(super) fn status(&self, id: ScriptHash) -> Option<Status> {
        status_of(&self.history(id))
    }

    pub(super) fn answer(&self, request: &Request) -> Result<Reply, Refusal> {
        match *request {
            Request::Headers { start, count } => {
                let headers = self.blocks.iter().skip(start as usize).take(count as usize).map(|b| b.0);
                Ok(Reply::Headers(headers.collect()))
            }
            Request::Subscribe { script } => Ok(Reply::Status(self.status(script))),
            Request::History { script } => Ok(Reply::History(self.history(script))),
            Request::Transaction { txid } => {
                let mut found = self.all().into_iter().find(|tx| tx.compute_txid() == txid).ok_or(Refusal::Error)?;
                if self.strips {
                    Arc::make_mut(&mut found).input.iter_mut().for_each(|input| input.witness.clear());
                }
                Ok(Reply::Transaction(found))
            }
            Request::Proof { txid, height } => {
                let (_, txs) = self.blocks.get(height as usize).ok_or(Refusal::Error)?;
                let pos = txs.iter().position(|tx| tx.compute_txid() == txid).ok_or(Refusal::Error)?;
                Ok(Reply::Proof { branch: branch_of(txs, pos), pos: pos as u32 })
            }
            Request::Coinbase { height } => {
                let (_, txs) = self.blocks.get(height as usize).ok_or(Refusal::Error)?;
                let tx = txs.first().ok_or(Refusal::Error)?.clone();
                Ok(Reply::Coinbase(Coinbase { tx, branch: branch_of(txs, 0) }))
            }
        }
    }
}

pub(super) fn status_of(entries: &[HistoryEntry]) -> Option<Status> {
    let text: String = entries.iter().map(|e| format!("{}:{}:", e.txid, e.height.unwrap_or(0))).collect();
    (!entries.is_empty()).then(|| Status(sha256::Hash::hash(text.as_bytes()).to_byte_array()))
}
