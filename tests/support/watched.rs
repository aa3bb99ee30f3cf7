//! An output that is followed as a channel's would be, and its spending.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::opcodes::all::OP_EQUAL;
use bitcoin::script::Builder;
use bitcoin::{Address, Network, OutPoint, ScriptBuf, Transaction, Txid, Witness};
use serde_json::{Value, json};

use super::world::World;

/// An output of the miner's wallet, or a locked one.
pub(crate) struct Watched {
    pub(crate) script: ScriptBuf,
    /// Opens for the number 42.
    lock: Option<ScriptBuf>,
    pub(crate) outpoint: OutPoint,
    /// Of the block that holds it.
    pub(crate) height: u32,
}

impl Watched {
    /// Makes one, confirmed in a block of its own.
    pub(crate) fn new(world: &World) -> Self {
        // As a channel's, spent by a witness alone.
        let address: String = world.bitcoind.call("getnewaddress", &[json!(""), json!("bech32")]);
        let address: Address<_> = address.parse().expect("an address");
        Self::paid(world, address.require_network(Network::Regtest).expect("of regtest").script_pubkey(), None)
    }

    /// One whose spending needs a witness of its own, as a channel's outputs do.
    pub(crate) fn locked(world: &World) -> Self {
        let lock = Builder::new().push_slice([42]).push_opcode(OP_EQUAL).into_script();
        Self::paid(world, lock.to_p2wsh(), Some(lock))
    }

    fn paid(world: &World, script: ScriptBuf, lock: Option<ScriptBuf>) -> Self {
        let txid = world.bitcoind.pay(address_of(&script), 100_000);
        let outputs = world.bitcoind.raw_tx(txid).output;
        let vout = outputs.iter().position(|output| output.script_pubkey == script).expect("the payment's output");
        world.mine(1);
        let outpoint = OutPoint { txid, vout: u32::try_from(vout).expect("a few outputs") };
        Self { script, lock, outpoint, height: world.bitcoind.height() }
    }

    /// Spends it into the mempool.
    pub(crate) fn spend(&self, world: &World) -> Txid {
        let OutPoint { txid, vout } = self.outpoint;
        let to = json!([{ world.bitcoind.new_address(): "0.00099" }]);
        let raw: String = world.bitcoind.call("createrawtransaction", &[json!([{ "txid": txid, "vout": vout }]), to]);
        let signed = match &self.lock {
            Some(lock) => {
                let mut tx: Transaction = deserialize_hex(&raw).expect("bitcoind's own encoding");
                tx.input[0].witness = Witness::from_slice(&[[42].as_slice(), lock.as_bytes()]);
                json!(serialize_hex(&tx))
            }
            None => world.bitcoind.call::<Value>("signrawtransactionwithwallet", &[json!(raw)])["hex"].clone(),
        };
        world.bitcoind.call("sendrawtransaction", &[signed])
    }
}

fn address_of(script: &ScriptBuf) -> Address {
    Address::from_script(script, Network::Regtest).expect("the script of an address")
}
