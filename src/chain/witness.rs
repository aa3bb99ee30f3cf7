//! Whether a witness opens an output.
//!
//! A txid does not commit to the witnesses: a server can prove a true transaction with a false one. LDK reads from the
//! witnesses by which commitment transactions are spent whether an HTLC was claimed or timed out, and its preimage,
//! and it verifies nothing: a claim that it takes for a timeout is failed upstream while it was taken downstream. So
//! they are run against the output that they spend, as the network did (BIP 141 and 143; scripts of BOLT 3).
//!
//! Contract:
//! - Every consensus rule that the opcodes of BOLT 3's scripts have is kept, and no rule of mere policy: a peer may have
//!   a miner include what nobody relays. The fuzz target `witness` compares with Bitcoin Core's own interpreter.
//! - A script with any other opcode, and an output that is no P2WSH, is [`Verdict::Foreign`]: LDK reads nothing there. It
//!   depends on the output alone, never on the witness.

use std::sync::LazyLock;

use bitcoin::hashes::{Hash, hash160, sha256, sha256d};
use bitcoin::opcodes::all as op;
use bitcoin::script::{Instruction, read_scriptbool};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, VerifyOnly};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, Opcode, Script, Transaction, TxIn, TxOut};

/// Bytes of a script, and of an item on its stack, at most.
const MAX_SCRIPT: usize = 10_000;
const MAX_ITEM: usize = 520;
/// Items on the stack, operations in a script, and keys of one CHECKMULTISIG, at most.
const MAX_STACK: usize = 1_000;
const MAX_OPERATIONS: usize = 201;
const MAX_KEYS: usize = 20;
/// Bytes of a signature with its sighash type, at most (BIP 66).
const MAX_SIGNATURE: usize = 73;
/// Bytes of a number, and of one that is compared with a lock time (BIP 65, 112).
const NUMBER: usize = 4;
const LOCK_TIME: usize = 5;
/// From here on a lock time is a Unix time and no height.
const LOCK_TIME_THRESHOLD: i64 = 500_000_000;

static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// What becomes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its witness opens the output.
    Opens,
    /// It does not: no block has this transaction with this witness.
    Fails,
    /// The output is none whose witnesses LDK reads: nothing is said.
    Foreign,
}

/// Runs the witness of an input against the output that it spends.
pub fn verdict(tx: &Transaction, index: usize, spent: &TxOut) -> Verdict {
    let Some(input) = tx.input.get(index).filter(|_| spent.script_pubkey.is_p2wsh()) else { return Verdict::Foreign };
    let mut stack = input.witness.to_vec();
    let Some(script) = stack.pop() else { return Verdict::Fails };
    // OP_0, the length, the hash.
    if spent.script_pubkey.as_bytes()[2..] != sha256::Hash::hash(&script).to_byte_array() {
        return Verdict::Fails;
    }
    let script = Script::from_bytes(&script);
    if script.instructions().any(|step| matches!(step, Ok(Instruction::Op(op)) if !is_known(op))) {
        return Verdict::Foreign;
    }
    let spend = Spend { tx, input, index, script, value: spent.value, cache: SighashCache::new(tx) };
    let mut run = Run { spend, stack, branches: Vec::new(), operations: 0 };
    match run.all() {
        Ok(()) => Verdict::Opens,
        Err(Failed) => Verdict::Fails,
    }
}

/// The opcodes of the scripts of BOLT 3, beside pushes.
const OPERATIONS: [Opcode; 17] = [
    op::OP_IF,
    op::OP_NOTIF,
    op::OP_ELSE,
    op::OP_ENDIF,
    op::OP_DUP,
    op::OP_IFDUP,
    op::OP_DROP,
    op::OP_SWAP,
    op::OP_SIZE,
    op::OP_EQUAL,
    op::OP_EQUALVERIFY,
    op::OP_HASH160,
    op::OP_CHECKSIG,
    op::OP_CHECKSIGVERIFY,
    op::OP_CHECKMULTISIG,
    op::OP_CLTV,
    op::OP_CSV,
];

fn is_known(op: Opcode) -> bool {
    small_number(op).is_some() || OPERATIONS.contains(&op)
}

/// The number that OP_1 to OP_16 push.
fn small_number(op: Opcode) -> Option<u8> {
    let base = op::OP_PUSHNUM_1.to_u8() - 1;
    op.to_u8().checked_sub(base).filter(|number| (1..=16).contains(number))
}

/// A script that does not end well.
struct Failed;

type Step<T = ()> = Result<T, Failed>;

fn verify(holds: bool) -> Step {
    if holds { Ok(()) } else { Err(Failed) }
}

fn truth(holds: bool) -> Vec<u8> {
    if holds { vec![1] } else { Vec::new() }
}

/// A number of at most `limit` bytes: little-endian, its highest bit the sign.
fn number(bytes: &[u8], limit: usize) -> Step<i64> {
    verify(bytes.len() <= limit)?;
    let Some((last, rest)) = bytes.split_last() else { return Ok(0) };
    let magnitude = rest.iter().rev().fold(i64::from(last & 0x7f), |sum, &byte| sum << 8 | i64::from(byte));
    Ok(if last & 0x80 == 0 { magnitude } else { -magnitude })
}

/// A script on its way.
struct Run<'a> {
    spend: Spend<'a>,
    stack: Vec<Vec<u8>>,
    /// One for each open IF: whether its present branch is taken.
    branches: Vec<bool>,
    operations: usize,
}

impl Run<'_> {
    /// The whole script: exactly one item is to be left, and true (BIP 141).
    fn all(&mut self) -> Step {
        let script = self.spend.script;
        verify(script.len() <= MAX_SCRIPT && self.stack.iter().all(|item| item.len() <= MAX_ITEM))?;
        for step in script.instructions() {
            let taken = self.branches.iter().all(|taken| *taken);
            match step.map_err(|_| Failed)? {
                Instruction::PushBytes(bytes) => {
                    verify(bytes.len() <= MAX_ITEM)?;
                    if taken {
                        self.stack.push(bytes.as_bytes().to_vec());
                    }
                }
                Instruction::Op(op) => self.operation(op, taken)?,
            }
            verify(self.stack.len() <= MAX_STACK)?;
        }
        let last = self.pop()?;
        verify(self.branches.is_empty() && self.stack.is_empty() && read_scriptbool(&last))
    }

    fn pop(&mut self) -> Step<Vec<u8>> {
        self.stack.pop().ok_or(Failed)
    }

    fn top(&self) -> Step<&Vec<u8>> {
        self.stack.last().ok_or(Failed)
    }

    fn operation(&mut self, op: Opcode, taken: bool) -> Step {
        if let Some(number) = small_number(op) {
            self.stack.extend(taken.then(|| vec![number]));
            return Ok(());
        }
        self.operations += 1;
        verify(self.operations <= MAX_OPERATIONS)?;
        match op {
            op::OP_IF | op::OP_NOTIF => {
                let branch = taken && read_scriptbool(&self.pop()?) == (op == op::OP_IF);
                self.branches.push(branch);
                Ok(())
            }
            op::OP_ELSE => self.branches.last_mut().map(|branch| *branch = !*branch).ok_or(Failed),
            op::OP_ENDIF => self.branches.pop().map(drop).ok_or(Failed),
            _ if !taken => Ok(()),
            op::OP_CLTV => self.spend.is_late(number(self.top()?, LOCK_TIME)?),
            op::OP_CSV => self.spend.is_aged(number(self.top()?, LOCK_TIME)?),
            op::OP_CHECKSIG => {
                let signed = self.checksig()?;
                self.stack.push(truth(signed));
                Ok(())
            }
            op::OP_CHECKSIGVERIFY => {
                let signed = self.checksig()?;
                verify(signed)
            }
            op::OP_CHECKMULTISIG => {
                let signed = self.checkmultisig()?;
                self.stack.push(truth(signed));
                Ok(())
            }
            _ => self.shuffle(op),
        }
    }

    /// What only looks at the stack.
    fn shuffle(&mut self, op: Opcode) -> Step {
        match op {
            op::OP_DUP => self.stack.push(self.top()?.clone()),
            op::OP_IFDUP => {
                let top = self.top()?.clone();
                self.stack.extend(read_scriptbool(&top).then_some(top));
            }
            op::OP_DROP => drop(self.pop()?),
            op::OP_SWAP => {
                let (first, second) = (self.pop()?, self.pop()?);
                self.stack.extend([first, second]);
            }
            op::OP_SIZE => {
                let size = self.top()?.len();
                let mut bytes = [0; 8];
                let written = bitcoin::script::write_scriptint(&mut bytes, i64::try_from(size).map_err(|_| Failed)?);
                self.stack.push(bytes[..written].to_vec());
            }
            op::OP_EQUAL => {
                let equal = self.pop()? == self.pop()?;
                self.stack.push(truth(equal));
            }
            op::OP_EQUALVERIFY => return verify(self.pop()? == self.pop()?),
            op::OP_HASH160 => {
                let hash = hash160::Hash::hash(&self.pop()?);
                self.stack.push(hash.to_byte_array().to_vec());
            }
            _ => return Err(Failed),
        }
        Ok(())
    }

    fn checksig(&mut self) -> Step<bool> {
        let (key, signature) = (self.pop()?, self.pop()?);
        self.spend.signed(&signature, &key)
    }

    /// Each signature by one of the keys, both in the same order; below them an empty item (BIP 147).
    fn checkmultisig(&mut self) -> Step<bool> {
        let keys = self.counted(MAX_KEYS)?;
        self.operations += keys.len();
        verify(self.operations <= MAX_OPERATIONS)?;
        let signatures = self.counted(keys.len())?;
        let mut open = signatures.as_slice();
        for (tried, key) in keys.iter().enumerate() {
            let Some((signature, others)) = open.split_first().filter(|_| open.len() <= keys.len() - tried) else {
                break;
            };
            if self.spend.signed(signature, key)? {
                open = others;
            }
        }
        verify(self.pop()?.is_empty())?;
        Ok(open.is_empty())
    }

    /// A number and as many items below it, the topmost first.
    fn counted(&mut self, limit: usize) -> Step<Vec<Vec<u8>>> {
        let count = usize::try_from(number(&self.pop()?, NUMBER)?).map_err(|_| Failed)?;
        verify(count <= limit)?;
        (0..count).map(|_| self.pop()).collect()
    }
}

/// What the script is to open.
struct Spend<'a> {
    tx: &'a Transaction,
    input: &'a TxIn,
    index: usize,
    script: &'a Script,
    value: Amount,
    cache: SighashCache<&'a Transaction>,
}

impl Spend<'_> {
    /// True when the key has signed; an empty signature says no, one that is no strict DER ends the script (BIP 66). Any
    /// sighash type counts (BIP 143 hashes the byte as it is).
    fn signed(&mut self, signature: &[u8], key: &[u8]) -> Step<bool> {
        let Some((&kind, der)) = signature.split_last() else { return Ok(false) };
        verify(signature.len() <= MAX_SIGNATURE)?;
        let mut signature = Signature::from_der(der).map_err(|_| Failed)?;
        signature.normalize_s();
        let Ok(key) = PublicKey::from_slice(key) else { return Ok(false) };
        let mut signed = Vec::new();
        let class = EcdsaSighashType::from_consensus(kind.into());
        let encoded =
            self.cache.segwit_v0_encode_signing_data_to(&mut signed, self.index, self.script, self.value, class);
        encoded.map_err(|_| Failed)?;
        signed.truncate(signed.len() - 4);
        signed.extend(u32::from(kind).to_le_bytes());
        let digest = Message::from_digest(sha256d::Hash::hash(&signed).to_byte_array());
        Ok(SECP.verify_ecdsa(&digest, &signature, &key).is_ok())
    }

    /// The transaction cannot be older than this height or time (BIP 65).
    fn is_late(&self, since: i64) -> Step {
        let lock_time = i64::from(self.tx.lock_time.to_consensus_u32());
        let alike = (since < LOCK_TIME_THRESHOLD) == (lock_time < LOCK_TIME_THRESHOLD);
        verify(since >= 0 && alike && since <= lock_time && self.input.sequence.enables_absolute_lock_time())
    }

    /// The output is at least this old, in blocks or in units of 512 s (BIP 112).
    fn is_aged(&self, age: i64) -> Step {
        const DISABLED: i64 = 1 << 31;
        const IN_SECONDS: i64 = 1 << 22;
        const MEANT: i64 = IN_SECONDS | 0xffff;
        verify(age >= 0)?;
        if age & DISABLED != 0 {
            return Ok(());
        }
        let sequence = i64::from(self.input.sequence.to_consensus_u32());
        let version = u32::from_le_bytes(self.tx.version.0.to_le_bytes());
        let (wanted, given) = (age & MEANT, sequence & MEANT);
        let alike = (wanted & IN_SECONDS) == (given & IN_SECONDS);
        verify(version >= 2 && sequence & DISABLED == 0 && alike && wanted <= given)
    }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
