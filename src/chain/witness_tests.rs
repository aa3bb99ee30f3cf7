use bitcoin::hashes::ripemd160;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{All, SecretKey};
use bitcoin::{OutPoint, PubkeyHash, ScriptBuf, Sequence, Txid, Witness, absolute, transaction};

use super::*;

const VALUE: Amount = Amount::from_sat(30_000);
const PREIMAGE: [u8; 32] = [7; 32];
/// When the received HTLC times out.
const EXPIRY: u32 = 500;

struct Keys {
    secp: Secp256k1<All>,
}

impl Keys {
    fn secret(&self, n: u8) -> SecretKey {
        SecretKey::from_slice(&[n; 32]).unwrap()
    }

    fn public(&self, n: u8) -> [u8; 33] {
        self.secret(n).public_key(&self.secp).serialize()
    }

    /// The signature of key `n`, of any sighash type.
    fn sign(&self, n: u8, tx: &Transaction, script: &Script, kind: u8) -> Vec<u8> {
        let mut data = Vec::new();
        let class = EcdsaSighashType::from_consensus(kind.into());
        SighashCache::new(tx).segwit_v0_encode_signing_data_to(&mut data, 0, script, VALUE, class).unwrap();
        let length = data.len();
        data[length - 4..].copy_from_slice(&u32::from(kind).to_le_bytes());
        let digest = Message::from_digest(sha256d::Hash::hash(&data).to_byte_array());
        let mut signature = self.secp.sign_ecdsa(&digest, &self.secret(n)).serialize_der().to_vec();
        signature.push(kind);
        signature
    }
}

const REVOCATION: u8 = 1;
const LOCAL: u8 = 2;
const REMOTE: u8 = 3;

fn keys() -> Keys {
    Keys { secp: Secp256k1::new() }
}

/// An HTLC output's script, as in BOLT 3, of a channel with anchors.
fn htlc(offered: bool) -> ScriptBuf {
    let keys = keys();
    let hash = ripemd160::Hash::hash(sha256::Hash::hash(&PREIMAGE).as_byte_array()).to_byte_array();
    let revocation = PubkeyHash::hash(&keys.public(REVOCATION));
    let start = Builder::new().push_opcode(op::OP_DUP).push_opcode(op::OP_HASH160).push_slice(revocation);
    let start = start.push_opcode(op::OP_EQUAL).push_opcode(op::OP_IF).push_opcode(op::OP_CHECKSIG);
    let start = start.push_opcode(op::OP_ELSE).push_slice(keys.public(REMOTE)).push_opcode(op::OP_SWAP);
    let start = start.push_opcode(op::OP_SIZE).push_int(32).push_opcode(op::OP_EQUAL);
    let both = |script: Builder| {
        let script = script.push_int(2).push_opcode(op::OP_SWAP).push_slice(keys.public(LOCAL));
        script.push_int(2).push_opcode(op::OP_CHECKMULTISIG).push_opcode(op::OP_ELSE)
    };
    let hashed = |script: Builder| script.push_opcode(op::OP_HASH160).push_slice(hash).push_opcode(op::OP_EQUALVERIFY);
    let script = match offered {
        true => hashed(both(start.push_opcode(op::OP_NOTIF).push_opcode(op::OP_DROP))),
        false => both(hashed(start.push_opcode(op::OP_IF)))
            .push_opcode(op::OP_DROP)
            .push_int(EXPIRY.into())
            .push_opcode(op::OP_CLTV)
            .push_opcode(op::OP_DROP),
    };
    let script = script.push_opcode(op::OP_CHECKSIG).push_opcode(op::OP_ENDIF);
    let script = script.push_int(1).push_opcode(op::OP_CSV).push_opcode(op::OP_DROP);
    script.push_opcode(op::OP_ENDIF).into_script()
}

fn spending(lock_time: u32) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(lock_time),
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::all_zeros(), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::from_consensus(1),
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(29_000), script_pubkey: ScriptBuf::new() }],
    }
}

fn coin(script: &Script) -> TxOut {
    TxOut { value: VALUE, script_pubkey: script.to_p2wsh() }
}

/// What becomes of `tx` with these items and the script as its witness.
fn with(tx: &Transaction, script: &Script, items: &[&[u8]]) -> Verdict {
    let mut tx = tx.clone();
    let mut witness = Witness::from_slice(items);
    witness.push(script.as_bytes());
    tx.input[0].witness = witness;
    verdict(&tx, 0, &coin(script))
}

#[test]
fn an_htlc_opens_by_each_of_its_paths_and_by_no_other() {
    let keys = keys();
    for offered in [true, false] {
        let script = htlc(offered);
        for (lock_time, late) in [(EXPIRY, true), (EXPIRY - 1, false)] {
            let tx = spending(lock_time);
            let [revocation, local, remote] = [REVOCATION, LOCAL, REMOTE].map(|n| keys.sign(n, &tx, &script, 1));
            let key = keys.public(REVOCATION);
            let opens = |items: &[&[u8]]| with(&tx, &script, items) == Verdict::Opens;
            assert!(opens(&[&revocation, &key]));
            assert!(!opens(&[&local, &key]), "not the revocation key's");
            assert_eq!(opens(&[&remote, &PREIMAGE]), offered, "claimed by the other side");
            assert_eq!(opens(&[b"", &remote, &local, b""]), offered, "timed out, by both");
            assert_eq!(opens(&[b"", &remote, &local, &PREIMAGE]), !offered, "claimed, by both");
            assert_eq!(opens(&[&remote, b""]), !offered && late, "timed out, by the other side");
            assert!(!opens(&[b"", &local, &remote, if offered { b"" } else { &PREIMAGE }]), "in another order");
            assert!(!opens(&[&remote, &[8; 32]]), "another preimage");
            assert!(!opens(&[b"", &remote, &remote, if offered { b"" } else { &PREIMAGE }]), "one signed twice");
            assert!(
                !opens(&[b"", b"", &remote, &local, if offered { b"" } else { &PREIMAGE }]),
                "something is left over"
            );
            assert!(!opens(&[&[1], &remote, &local, if offered { b"" } else { &PREIMAGE }]), "the dummy is not empty");
            assert!(!opens(&[]));
        }
    }
}

#[test]
fn a_witness_of_another_script_or_none_at_all_opens_nothing() {
    let script = htlc(true);
    let mut tx = spending(0);
    assert_eq!(verdict(&tx, 0, &coin(&script)), Verdict::Fails);
    tx.input[0].witness = Witness::from_slice(&[Builder::new().push_int(1).into_script().as_bytes()]);
    assert_eq!(verdict(&tx, 0, &coin(&script)), Verdict::Fails);
    assert_eq!(verdict(&tx, 0, &coin(&Builder::new().push_int(1).into_script())), Verdict::Opens);
}

#[test]
fn a_signature_counts_with_any_sighash_type_and_for_its_own_transaction_only() {
    let keys = keys();
    let script = Builder::new().push_slice(keys.public(LOCAL)).push_opcode(op::OP_CHECKSIG).into_script();
    let tx = spending(0);
    let mut other = tx.clone();
    other.output[0].value = Amount::from_sat(1);
    for kind in [1, 2, 3, 0x81, 0x82, 0x83, 0, 4, 0x22, 0x42, 0xc3, 0xff] {
        let signature = keys.sign(LOCAL, &tx, &script, kind);
        assert_eq!(with(&tx, &script, &[&signature]), Verdict::Opens, "{kind:#x}");
        let outputs = !matches!(kind & 0x1f, 2);
        assert_eq!(with(&other, &script, &[&signature]) == Verdict::Fails, outputs, "{kind:#x}");
    }
    let high = |mut signature: Vec<u8>| {
        // n − s, by hand: what a high S is.
        let kind = signature.pop().unwrap();
        let compact = Signature::from_der(&signature).unwrap().serialize_compact();
        let order = hex_lit();
        let mut s = [0; 32];
        let mut borrow = 0;
        for i in (0..32).rev() {
            let difference = i16::from(order[i]) - i16::from(compact[32 + i]) - borrow;
            borrow = i16::from(difference < 0);
            s[i] = difference.rem_euclid(256) as u8;
        }
        let mut both = compact;
        both[32..].copy_from_slice(&s);
        let mut high = Signature::from_compact(&both).unwrap().serialize_der().to_vec();
        high.push(kind);
        high
    };
    let signature = high(keys.sign(LOCAL, &tx, &script, 1));
    assert_eq!(with(&tx, &script, &[&signature]), Verdict::Opens, "a high S is mere policy");
}

/// The order of the curve.
fn hex_lit() -> [u8; 32] {
    bitcoin::secp256k1::constants::CURVE_ORDER
}

#[test]
fn lock_times_are_compared_with_their_like() {
    let until = |since: i64| Builder::new().push_int(since).push_opcode(op::OP_CLTV).into_script();
    let at = |tx: &Transaction, since| with(tx, &until(since), &[]) == Verdict::Opens;
    let tx = spending(600);
    assert!(at(&tx, 600) && at(&tx, 1) && !at(&tx, 601) && !at(&tx, -1) && !at(&tx, 500_000_000));
    let mut timed = spending(500_000_001);
    assert!(at(&timed, 500_000_001) && !at(&timed, 600));
    timed.input[0].sequence = Sequence::MAX;
    assert!(!at(&timed, 500_000_001), "a final input has no lock time");
    let after = |age: i64| Builder::new().push_int(age).push_opcode(op::OP_CSV).into_script();
    let aged = |tx: &Transaction, age| with(tx, &after(age), &[]) == Verdict::Opens;
    let mut tx = spending(0);
    tx.input[0].sequence = Sequence::from_consensus(0x10_0005);
    assert!(aged(&tx, 5) && !aged(&tx, 6) && !aged(&tx, 1 << 22 | 1) && !aged(&tx, -1));
    assert!(aged(&tx, 1 << 31), "it says nothing");
    tx.version = transaction::Version::ONE;
    assert!(!aged(&tx, 5));
}

#[test]
fn of_scripts_that_are_not_lightnings_nothing_is_said() {
    let strange = Builder::new().push_int(1).push_opcode(op::OP_VERIFY).into_script();
    assert_eq!(with(&spending(0), &strange, &[]), Verdict::Foreign);
    let taproot = TxOut { value: VALUE, script_pubkey: ScriptBuf::from_bytes([vec![0x51, 32], vec![1; 32]].concat()) };
    assert_eq!(verdict(&spending(0), 0, &taproot), Verdict::Foreign);
}

#[test]
fn open_branches_and_missing_items_fail() {
    let scripts = [
        Builder::new().push_int(1).push_int(1).push_opcode(op::OP_IF),
        Builder::new().push_int(1).push_opcode(op::OP_ENDIF),
        Builder::new().push_int(1).push_opcode(op::OP_ELSE),
        Builder::new().push_opcode(op::OP_SWAP),
        Builder::new().push_int(5).push_int(21).push_opcode(op::OP_CHECKMULTISIG),
        Builder::new().push_int(-1),
        Builder::new(),
    ];
    for script in scripts.map(Builder::into_script) {
        assert_ne!(with(&spending(0), &script, &[]), Verdict::Opens, "{script:?}");
    }
    let endless = ScriptBuf::from_bytes(vec![op::OP_PUSHNUM_1.to_u8(); 1_001]);
    assert_eq!(with(&spending(0), &endless, &[]), Verdict::Fails);
    let large = Builder::new().push_opcode(op::OP_DROP).push_int(1).into_script();
    assert_eq!(with(&spending(0), &large, &[&[0; 520]]), Verdict::Opens);
    assert_eq!(with(&spending(0), &large, &[&[0; 521]]), Verdict::Fails);
}
