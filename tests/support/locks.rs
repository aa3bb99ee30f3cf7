//! Outputs that anybody can spend who knows a number: channels without keys, for tests of the chain alone.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, opcodes};

/// The number. Each has a script of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock(pub(crate) u64);

impl Lock {
    fn witness_script(self) -> ScriptBuf {
        let hash = sha256::Hash::hash(&self.0.to_be_bytes()).to_byte_array();
        let script = Builder::new().push_opcode(opcodes::all::OP_SHA256).push_slice(hash);
        script.push_opcode(opcodes::all::OP_EQUAL).into_script()
    }

    /// What an output pays to.
    pub(crate) fn script(self) -> ScriptBuf {
        self.witness_script().to_p2wsh()
    }

    /// The same, for bitcoind.
    pub(crate) fn address(self) -> Address {
        Address::from_script(&self.script(), Network::Regtest).expect("P2WSH")
    }

    /// Spends an output of this lock, all of it to another one, with `sat` left over the fee; replaceable.
    pub(crate) fn spend(self, coin: OutPoint, sat: u64, to: Lock) -> Transaction {
        let input = TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[&self.0.to_be_bytes(), self.witness_script().as_bytes()]),
        };
        let output = TxOut { value: Amount::from_sat(sat), script_pubkey: to.script() };
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: vec![output] }
    }
}

/// The output of `tx` that pays to `lock`.
pub(crate) fn output_of(tx: &Transaction, lock: Lock) -> OutPoint {
    let script = lock.script();
    let index = tx.output.iter().position(|output| output.script_pubkey == script).expect("it pays there");
    OutPoint::new(tx.compute_txid(), u32::try_from(index).expect("few outputs"))
}
