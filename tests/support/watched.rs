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
    /// It opens for the number 42.
    locked: bool,
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
        Self::paid(world, address.require_network(Network::Regtest).expect("of regtest").script_pubkey(), false)
    }

    /// One whose spending needs a witness of its own, as a channel's outputs do.
    pub(crate) fn locked(world: &World) -> Self {
        Self::paid(world, locked_script(), true)
    }

    /// A locked one in a chain that the test makes up, with [`locked_script`].
    pub(crate) fn made_up(outpoint: OutPoint, height: u32) -> Self {
        Self { script: locked_script(), locked: true, outpoint, height }
    }

    fn paid(world: &World, script: ScriptBuf, locked: bool) -> Self {
        let txid = world.bitcoind.pay(address_of(&script), 100_000);
        let outputs = world.bitcoind.raw_tx(txid).output;
        let vout = outputs.iter().position(|output| output.script_pubkey == script).expect("the payment's output");
        world.mine(1);
        let outpoint = OutPoint { txid, vout: u32::try_from(vout).expect("a few outputs") };
        Self { script, locked, outpoint, height: world.bitcoind.height() }
    }

    /// Spends it into the mempool.
    pub(crate) fn spend(&self, world: &World) -> Txid {
        let OutPoint { txid, vout } = self.outpoint;
        let to = json!([{ world.bitcoind.new_address(): "0.00099" }]);
        let raw: String = world.bitcoind.call("createrawtransaction", &[json!([{ "txid": txid, "vout": vout }]), to]);
        let signed = match self.locked {
            true => {
                let mut tx: Transaction = deserialize_hex(&raw).expect("bitcoind's own encoding");
                tx.input[0].witness = key();
                json!(serialize_hex(&tx))
            }
            false => world.bitcoind.call::<Value>("signrawtransactionwithwallet", &[json!(raw)])["hex"].clone(),
        };
        world.bitcoind.call("sendrawtransaction", &[signed])
    }
}

/// The script of a locked output.
pub(crate) fn locked_script() -> ScriptBuf {
    lock().to_p2wsh()
}

/// What opens a locked output.
pub(crate) fn key() -> Witness {
    Witness::from_slice(&[[42].as_slice(), lock().as_bytes()])
}

fn lock() -> ScriptBuf {
    Builder::new().push_slice([42]).push_opcode(OP_EQUAL).into_script()
}

fn address_of(script: &ScriptBuf) -> Address {
    Address::from_script(script, Network::Regtest).expect("the script of an address")
}
