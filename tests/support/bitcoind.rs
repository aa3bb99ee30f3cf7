//! A real bitcoind on a chain of its own, with a funded wallet.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Block, BlockHash, Transaction, Txid};
use corepc_client::client_sync::Auth;
use corepc_client::client_sync::v29::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::eventually::poll;
use super::ports::free_port;
use super::process::Process;
use super::tools::tools;

const USER: &str = "lightnode";
const START: Duration = Duration::from_secs(60);

/// What does not change from start to start. Settings that only one of Core and Knots knows are mere warnings here.
/// The second half makes Knots relay what Core relays: Lightning's transactions are among the things it would refuse.
pub(crate) const SETTINGS: &str = "\
regtest=1
[regtest]
server=1
txindex=1
keypool=10
connect=0
listen=0
dnsseed=0
natpmp=0
printtoconsole=1
nodebuglogfile=1
fallbackfee=0.00002
maxtipage=315360000
fastprune=1
checkblocks=1
checklevel=0
checkmempool=0
checkblockindex=0
par=1
dbcache=8
mempooltruc=enforce
permitephemeral=anchor,send,dust
softwareexpiry=0
rejectparasites=0
rejecttokens=0
datacarriersize=100000
wallet=miner
";

/// A regtest bitcoind. Its own wallet, `miner`, earns every block and pays.
pub(crate) struct Bitcoind {
    folder: PathBuf,
    port: u16,
    password: String,
    client: Client,
    process: Process,
}

impl Bitcoind {
    /// Starts bitcoind in `folder`, which may hold an earlier run's chain. Returns before it answers.
    pub(crate) fn spawn(folder: &Path) -> Self {
        let port = free_port();
        let password = format!("{:016x}", random());
        std::fs::create_dir_all(folder).expect("a folder for bitcoind");
        std::fs::write(folder.join("bitcoin.conf"), SETTINGS).expect("a folder for bitcoind");
        let mut command = Command::new(&tools().bitcoind);
        command.arg(format!("-datadir={}", folder.display()));
        command.args([format!("-rpcuser={USER}"), format!("-rpcpassword={password}")]);
        command.args([format!("-rpcport={port}"), "-rpcbind=127.0.0.1".into(), "-rpcallowip=127.0.0.1".into()]);
        let process = Process::spawn("bitcoind", &command, &folder.join("bitcoind.log"));
        let auth = Auth::UserPass(USER.into(), password.clone());
        let client = Client::new_with_auth(&format!("http://127.0.0.1:{port}"), auth).expect("a user and a password");
        Self { folder: folder.into(), port, password, client, process }
    }

    /// Waits until it answers. An error means that it ended instead, most likely because its port was taken.
    pub(crate) fn wait_ready(&mut self) -> Result<(), String> {
        let (client, process) = (&self.client, &mut self.process);
        let ask = || {
            client.call::<u32>("getblockcount", &[]).map_err(|error| match process.exit_status() {
                Some(status) => (true, format!("bitcoind ended with {status}:\n{}", process.log().tail(20))),
                None => (false, error.to_string()),
            })
        };
        match poll(START, ask, |(ended, _)| *ended) {
            Ok(_) => Ok(()),
            Err((true, why)) => Err(why),
            Err((false, why)) => panic!("bitcoind does not answer: {why}\n{}", self.process.log().tail(20)),
        }
    }

    /// Ends it in an orderly way, so that its folder can be started again or copied.
    pub(crate) fn stop(mut self) -> PathBuf {
        self.process.terminate();
        self.process.wait(Duration::from_secs(60));
        self.folder
    }

    /// The address with credentials that ElectrumX wants.
    pub(crate) fn rpc_url(&self) -> String {
        format!("http://{USER}:{}@127.0.0.1:{}/", self.password, self.port)
    }

    /// Another client, for another thread.
    pub(crate) fn another_client(&self) -> Client {
        let auth = Auth::UserPass(USER.into(), self.password.clone());
        Client::new_with_auth(&format!("http://127.0.0.1:{}", self.port), auth).expect("a user and a password")
    }

    /// Any RPC. Panics with bitcoind's own words when it refuses.
    pub(crate) fn call<T: DeserializeOwned>(&self, method: &str, params: &[Value]) -> T {
        self.try_call(method, params).unwrap_or_else(|error| panic!("bitcoind {method} {params:?}: {error}"))
    }

    /// Any RPC, where a refusal is of interest.
    pub(crate) fn try_call<T: DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, String> {
        let value: Value = self.client.call(method, params).map_err(|error| error.to_string())?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// The height of the best block.
    pub(crate) fn height(&self) -> u32 {
        self.call("getblockcount", &[])
    }

    /// The hash of the best block.
    pub(crate) fn best_hash(&self) -> BlockHash {
        self.call("getbestblockhash", &[])
    }

    /// The hash of the block at `height` of the best chain.
    pub(crate) fn hash_at(&self, height: u32) -> BlockHash {
        self.call("getblockhash", &[json!(height)])
    }

    /// A whole block.
    pub(crate) fn block(&self, hash: BlockHash) -> Block {
        deserialize_hex(&self.call::<String>("getblock", &[json!(hash), json!(0)])).expect("bitcoind's own encoding")
    }

    /// A transaction of the chain or the mempool.
    pub(crate) fn raw_tx(&self, txid: Txid) -> Transaction {
        deserialize_hex(&self.call::<String>("getrawtransaction", &[json!(txid)])).expect("bitcoind's own encoding")
    }

    /// How many blocks hold `txid` or were built on the one that does; 0 while it is unconfirmed.
    pub(crate) fn confirmations(&self, txid: Txid) -> u32 {
        let info: Value = self.call("getrawtransaction", &[json!(txid), json!(true)]);
        info["confirmations"].as_u64().unwrap_or(0).try_into().expect("a small number of blocks")
    }

    /// What waits to be mined, parents before children.
    pub(crate) fn mempool(&self) -> Vec<Txid> {
        let entries: std::collections::HashMap<Txid, Value> = self.call("getrawmempool", &[json!(true)]);
        let mut txids: Vec<_> = entries.iter().map(|(txid, entry)| (entry["ancestorcount"].as_u64(), *txid)).collect();
        txids.sort_unstable();
        txids.into_iter().map(|(_, txid)| txid).collect()
    }

    /// Offers a transaction to the mempool.
    pub(crate) fn broadcast(&self, tx: &Transaction) -> Result<Txid, String> {
        self.try_call("sendrawtransaction", &[json!(bitcoin::consensus::encode::serialize_hex(tx))])
    }

    /// A fresh address of the miner's wallet.
    pub(crate) fn new_address(&self) -> String {
        self.call("getnewaddress", &[])
    }

    /// Pays `sat` to `address` from the miner's wallet, at 2 sat/vB, replaceable. It is left unconfirmed.
    pub(crate) fn pay(&self, address: impl Display, sat: u64) -> Txid {
        self.pay_at(address, sat, 2)
    }

    /// [`pay`](Self::pay) at another fee rate, in whole sat/vB.
    pub(crate) fn pay_at(&self, address: impl Display, sat: u64, sat_per_vb: u64) -> Txid {
        let amount = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
        let skipped = Value::Null;
        let mut params = vec![json!(address.to_string()), json!(amount)];
        // comment, comment_to, subtractfeefromamount, replaceable, conf_target, estimate_mode, avoid_reuse
        params.extend([json!(""), json!(""), json!(false), json!(true), skipped.clone(), skipped, json!(false)]);
        params.push(json!(sat_per_vb));
        self.call("sendtoaddress", &params)
    }

    /// Mines `count` blocks with all that waits in the mempool, and returns their hashes.
    pub(crate) fn mine(&self, count: u32) -> Vec<BlockHash> {
        self.mine_to(self.new_address(), count)
    }

    /// [`mine`](Self::mine), with the rewards going to `address`.
    pub(crate) fn mine_to(&self, address: impl Display, count: u32) -> Vec<BlockHash> {
        self.call("generatetoaddress", &[json!(count), json!(address.to_string())])
    }

    /// Mines one block of exactly these transactions, in this order, whatever waits in the mempool.
    pub(crate) fn mine_exactly(&self, txids: &[Txid]) -> BlockHash {
        let mined: Value = self.call("generateblock", &[json!(self.new_address()), json!(txids)]);
        serde_json::from_value(mined["hash"].clone()).expect("generateblock names the block")
    }

    /// Mines one block whose hash no other test's chain can share.
    pub(crate) fn mine_unique(&self) -> BlockHash {
        // OP_RETURN with eight random bytes.
        let script = format!("raw(6a08{:016x})", random());
        let info: Value = self.call("getdescriptorinfo", &[json!(script)]);
        let hashes: Vec<BlockHash> = self.call("generatetodescriptor", &[json!(1), info["descriptor"].clone()]);
        hashes[0]
    }

    /// Removes the newest `depth` blocks. Their transactions wait in the mempool again, except the rewards.
    pub(crate) fn unwind(&self, depth: u32) {
        let first = self.height() + 1 - depth;
        self.call::<()>("invalidateblock", &[json!(self.hash_at(first))]);
    }

    /// Replaces the newest `depth` blocks by `length` others; the transactions are mined again, in the first of them.
    ///
    /// ElectrumX compares heights: it does not notice a reorganisation before the chain is *longer* than it was.
    pub(crate) fn reorg(&self, depth: u32, length: u32) -> Vec<BlockHash> {
        self.unwind(depth);
        self.mine(length)
    }

    /// [`reorg`](Self::reorg), but the given transactions (and what spends them) are not mined again. They stay in
    /// the mempool.
    pub(crate) fn reorg_without(&self, depth: u32, length: u32, left_out: &[Txid]) -> Vec<BlockHash> {
        self.unwind(depth);
        let mut out = left_out.to_vec();
        for txid in left_out {
            let heirs: Result<Vec<Txid>, _> = self.try_call("getmempooldescendants", &[json!(txid)]);
            out.extend(heirs.unwrap_or_else(|error| panic!("{txid} is not in the last {depth} blocks: {error}")));
        }
        let mut mined: Vec<_> = self.mempool().into_iter().filter(|txid| !out.contains(txid)).collect();
        (0..length).map(|_| self.mine_exactly(&std::mem::take(&mut mined))).collect()
    }
}

/// Enough randomness to tell two worlds apart.
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the system's randomness")
}
