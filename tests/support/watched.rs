//! An output that is followed as a channel's would be, and its spending.

use bitcoin::{Address, Network, OutPoint, ScriptBuf, Txid};
use serde_json::{Value, json};

use super::world::World;

/// An output of the miner's wallet.
pub(crate) struct Watched {
    pub(crate) script: ScriptBuf,
    pub(crate) outpoint: OutPoint,
    /// Of the block that holds it.
    pub(crate) height: u32,
}

impl Watched {
    /// Makes one, confirmed in a block of its own.
    pub(crate) fn new(world: &World) -> Self {
        let address: Address<_> = world.bitcoind.new_address().parse().expect("an address");
        let script = address.require_network(Network::Regtest).expect("of regtest").script_pubkey();
        let txid = world.bitcoind.pay(address_of(&script), 100_000);
        let outputs = world.bitcoind.raw_tx(txid).output;
        let vout = outputs.iter().position(|output| output.script_pubkey == script).expect("the payment's output");
        world.mine(1);
        let outpoint = OutPoint { txid, vout: u32::try_from(vout).expect("a few outputs") };
        Self { script, outpoint, height: world.bitcoind.height() }
    }

    /// Spends it into the mempool.
    pub(crate) fn spend(&self, world: &World) -> Txid {
        let OutPoint { txid, vout } = self.outpoint;
        let to = json!([{ world.bitcoind.new_address(): "0.00099" }]);
        let raw: String = world.bitcoind.call("createrawtransaction", &[json!([{ "txid": txid, "vout": vout }]), to]);
        let signed: Value = world.bitcoind.call("signrawtransactionwithwallet", &[json!(raw)]);
        world.bitcoind.call("sendrawtransaction", &[signed["hex"].clone()])
    }
}

fn address_of(script: &ScriptBuf) -> Address {
    Address::from_script(script, Network::Regtest).expect("the script of an address")
}
