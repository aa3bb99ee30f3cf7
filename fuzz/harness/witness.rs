//! A script of BOLT 3 or any of its opcodes in a row, and a witness of signatures, keys, preimages and anything else.

use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, hash160, ripemd160, sha256, sha256d};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction,
};
use lightnode::chain::witness::{Verdict, verdict};

const PREIMAGE: [u8; 32] = [7; 32];
const VALUE: u64 = 30_000;
const LOCK_TIMES: [u32; 6] = [0, 499, 500, 501, 500_000_000, 500_000_001];
const SEQUENCES: [u32; 6] = [0, 1, 144, 0xffff_fffd, 0xffff_ffff, 1 << 22 | 1];
/// The last two are of no script of BOLT 3.
const OPERATIONS: [u8; 24] = [
    0x51, 0x52, 0x60, 0x63, 0x64, 0x67, 0x68, 0x69, 0x73, 0x75, 0x76, 0x7c, 0x82, 0x87, 0x88, 0xa9, 0xac, 0xad, 0xae,
    0xb1, 0xb2, 0x00, 0x6b, 0x9a,
];

/// Asks Bitcoin Core whether an input of a serialised transaction spends this script's output of so many sat.
pub(crate) type Core = fn(&[u8], u64, &[u8], usize) -> bool;

/// Panics when Core is of another opinion, if it is asked.
pub(crate) fn run(data: &[u8], core: Option<Core>) {
    let mut data = Bytes(data);
    let index = usize::from(data.next() % 2);
    let mut tx = transaction(&mut data);
    let script = script(&mut data);
    let count = data.next() % 8;
    let mut items: Vec<Vec<u8>> = (0..count).map(|_| item(&mut data, &tx, index, &script)).collect();
    items.push(script.to_bytes());
    tx.input[index].witness = Witness::from_slice(&items);
    let spent = TxOut { value: Amount::from_sat(VALUE), script_pubkey: script.to_p2wsh() };
    let ours = verdict(&tx, index, &spent);
    if let Some(core) = core.filter(|_| ours != Verdict::Foreign) {
        let theirs = core(spent.script_pubkey.as_bytes(), VALUE, &serialize(&tx), index);
        assert_eq!(ours == Verdict::Opens, theirs, "{script:?} {tx:?}");
    }
    // Whatever the witness is, the script decides whether it is run.
    tx.input[index].witness = Witness::from_slice(&[script.as_bytes()]);
    assert_eq!(verdict(&tx, index, &spent) == Verdict::Foreign, ours == Verdict::Foreign);
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[usize::from(self.next()) % choice.len()]
    }

    fn some(&mut self, most: usize) -> Vec<u8> {
        let count = usize::from(self.next()).min(most);
        (0..count).map(|_| self.next()).collect()
    }
}

fn transaction(data: &mut Bytes<'_>) -> Transaction {
    let version = transaction::Version(data.of(&[2, 1, 3, -1]));
    let lock_time = absolute::LockTime::from_consensus(data.of(&LOCK_TIMES));
    let mut input = || TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array([data.next(); 32]), 0),
        script_sig: ScriptBuf::new(),
        sequence: Sequence(data.of(&SEQUENCES)),
        witness: Witness::new(),
    };
    let input = vec![input(), input()];
    let outputs = u64::from(data.next() % 3);
    let pay = |sat| TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::new() };
    Transaction { version, lock_time, input, output: (0..outputs).map(pay).collect() }
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n % 4 + 1; 32]).expect("a key")
}

fn public(n: u8) -> [u8; 33] {
    secret(n).public_key(&Secp256k1::signing_only()).serialize()
}

fn script(data: &mut Bytes<'_>) -> ScriptBuf {
    match data.next() % 6 {
        0 => htlc(true, data.next() % 2 == 0),
        1 => htlc(false, data.next() % 2 == 0),
        2 => {
            let paid =
                Builder::new().push_opcode(op::OP_IF).push_slice(public(0)).push_opcode(op::OP_ELSE).push_int(144);
            let paid = paid.push_opcode(op::OP_CSV).push_opcode(op::OP_DROP).push_slice(public(1));
            paid.push_opcode(op::OP_ENDIF).push_opcode(op::OP_CHECKSIG).into_script()
        }
        3 => {
            let anchor = Builder::new().push_slice(public(0)).push_opcode(op::OP_CHECKSIG).push_opcode(op::OP_IFDUP);
            let anchor = anchor.push_opcode(op::OP_NOTIF).push_int(16).push_opcode(op::OP_CSV);
            anchor.push_opcode(op::OP_ENDIF).into_script()
        }
        4 => {
            let funding = Builder::new().push_int(2).push_slice(public(0)).push_slice(public(1));
            funding.push_int(2).push_opcode(op::OP_CHECKMULTISIG).into_script()
        }
        _ => any_script(data),
    }
}

fn htlc(offered: bool, anchors: bool) -> ScriptBuf {
    let hash = ripemd160::Hash::hash(&sha256::Hash::hash(&PREIMAGE).to_byte_array()).to_byte_array();
    let mut bytes = vec![0x76, 0xa9, 20];
    bytes.extend(hash160::Hash::hash(&public(0)).to_byte_array());
    bytes.extend([0x87, 0x63, 0xac, 0x67, 33]);
    bytes.extend(public(1));
    bytes.extend([0x7c, 0x82, 1, 32, 0x87]);
    let both = [[0x52, 0x7c, 33].as_slice(), &public(2), &[0x52, 0xae, 0x67]].concat();
    let hashed = [[0xa9, 20].as_slice(), &hash, &[0x88]].concat();
    bytes.extend(match offered {
        true => [[0x64, 0x75].as_slice(), &both, &hashed, &[0xac]].concat(),
        false => [[0x63].as_slice(), &hashed, &both, &[0x75, 2, 0xf4, 1, 0xb1, 0x75, 0xac]].concat(),
    });
    bytes.push(0x68);
    if anchors {
        bytes.extend([0x51, 0xb2, 0x75]);
    }
    bytes.push(0x68);
    ScriptBuf::from_bytes(bytes)
}

fn any_script(data: &mut Bytes<'_>) -> ScriptBuf {
    let mut script = Vec::new();
    for _ in 0..data.next() {
        match data.next() % 8 {
            0 => {
                let pushed = data.some(6);
                script.push(pushed.len() as u8);
                script.extend(pushed);
            }
            1 => {
                script.push(33);
                script.extend(public(data.next()));
            }
            // A push that says its length otherwise, perhaps of more than there is.
            2 => script.extend([0x4c, data.next() % 80]),
            _ => script.push(data.of(&OPERATIONS)),
        }
    }
    ScriptBuf::from_bytes(script)
}

fn item(data: &mut Bytes<'_>, tx: &Transaction, index: usize, script: &Script) -> Vec<u8> {
    match data.next() % 8 {
        0 | 1 => signature(data.next(), data.of(&[1, 0x83, 2, 3, 0x81, 0, 0x45]), tx, index, script),
        2 => {
            let mut bent = signature(data.next(), 1, tx, index, script);
            let at = usize::from(data.next()) % bent.len();
            bent[at] = data.next();
            bent.truncate(bent.len() - usize::from(data.next() % 3));
            bent
        }
        3 => Vec::new(),
        4 => PREIMAGE.to_vec(),
        5 => public(data.next()).to_vec(),
        6 => vec![0; data.of(&[520, 521])],
        _ => data.some(40),
    }
}

fn signature(n: u8, kind: u8, tx: &Transaction, index: usize, script: &Script) -> Vec<u8> {
    let class = EcdsaSighashType::from_consensus(kind.into());
    let mut signed = Vec::new();
    let mut cache = SighashCache::new(tx);
    let value = Amount::from_sat(VALUE);
    cache.segwit_v0_encode_signing_data_to(&mut signed, index, script, value, class).expect("there is such an input");
    signed.truncate(signed.len() - 4);
    signed.extend(u32::from(kind).to_le_bytes());
    let digest = Message::from_digest(sha256d::Hash::hash(&signed).to_byte_array());
    let mut signature = Secp256k1::signing_only().sign_ecdsa(&digest, &secret(n)).serialize_der().to_vec();
    signature.push(kind);
    signature
}
