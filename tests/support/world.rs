//! A tiny world for one test: a chain, an Electrum server and, on request, somebody in between.

use std::cell::Cell;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use bitcoin::Txid;
use tempfile::TempDir;

use super::bitcoind::Bitcoind;
use super::electrumx::ElectrumX;
use super::esplora::Esplora;
use super::eventually::eventually_ok;
use super::probe::Probe;
use super::proxy::Proxy;
use super::template;

/// Which servers a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ElectrumX.
    Electrum,
    /// An Esplora; ElectrumX does not run.
    Esplora,
    /// An ElectrumX, and beside it an Esplora.
    Both,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Electrum) };
}

/// Tells a story in worlds of another kind.
pub(crate) fn with(kind: Kind, story: impl FnOnce()) {
    KIND.set(kind);
    story();
}

/// A running bitcoind (120 blocks and one of now, a rich wallet) and an ElectrumX that has seen it all, or other servers,
/// as [`with`] says.
///
/// Everything in it ends with this value, also when the test panics or is killed. With `LIGHTNODE_TEST_KEEP` set, the
/// folder of a failed test stays.
pub(crate) struct World {
    kind: Kind,
    esplora: Option<Esplora>,
    pub(crate) electrumx: ElectrumX,
    pub(crate) bitcoind: Bitcoind,
    folder: TempDir,
}

impl World {
    /// Builds one; takes about a third of a second when the machine is idle.
    pub(crate) fn new() -> Self {
        let mut troubles = Vec::new();
        while troubles.len() < 5 {
            match Self::try_new() {
                Ok(world) => return world,
                // Most likely a port that was free a moment ago.
                Err(why) => troubles.push(why),
            }
        }
        panic!("no world after {} attempts:\n{}", troubles.len(), troubles.join("\n"))
    }

    fn try_new() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("lightnode-").tempdir().map_err(|error| error.to_string())?;
        template::unpack(folder.path());
        // Both start at once: until Python has read ElectrumX, bitcoind answers.
        let mut bitcoind = Bitcoind::spawn(&folder.path().join("bitcoind"));
        let kind = KIND.get();
        let of_electrumx = folder.path().join("electrumx");
        let mut electrumx = match kind {
            Kind::Electrum | Kind::Both => ElectrumX::spawn(&of_electrumx, &bitcoind.rpc_url()),
            Kind::Esplora => ElectrumX::idle(&of_electrumx, &bitcoind.rpc_url()),
        };
        bitcoind.wait_ready()?;
        // A tip of now, and one that tells this world from all others.
        bitcoind.mine_unique();
        let esplora = (kind != Kind::Electrum).then(|| Esplora::run(bitcoind.another_client()));
        if kind != Kind::Esplora {
            electrumx.wait_ready()?;
        }
        let world = Self { kind, esplora, electrumx, bitcoind, folder };
        world.sync();
        Ok(world)
    }

    /// The test's own folder. It goes when the world goes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first server, as a configuration names it.
    pub(crate) fn server(&self) -> String {
        self.servers().swap_remove(0)
    }

    /// All servers, as a configuration names them.
    pub(crate) fn servers(&self) -> Vec<String> {
        let electrumx = format!("tcp://{}", self.electrumx.tcp());
        match (self.kind, &self.esplora) {
            (Kind::Esplora, Some(esplora)) => vec![esplora.url()],
            (Kind::Both, Some(esplora)) => vec![electrumx, esplora.url()],
            _ => vec![electrumx],
        }
    }

    /// Blocks that are mined at a time where many are needed: each costs a poll of a server that cannot push.
    pub(crate) fn stride(&self) -> u32 {
        if self.kind == Kind::Esplora { 6 } else { 1 }
    }

    /// The Esplora server, in a world that has one.
    pub(crate) fn esplora(&self) -> &Esplora {
        self.esplora.as_ref().expect("a world with an Esplora")
    }

    /// Takes all servers away.
    pub(crate) fn stop_servers(&mut self) {
        if self.kind != Kind::Esplora {
            self.electrumx.stop();
        }
        self.esplora.iter().for_each(Esplora::stop);
    }

    /// Brings them back, on their ports.
    pub(crate) fn start_servers(&mut self) {
        if self.kind != Kind::Esplora {
            self.electrumx.start();
        }
        self.esplora.iter().for_each(Esplora::start);
    }

    /// A new proxy in front of ElectrumX. Several of them look like several servers to a node.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::start(self.electrumx.tcp())
    }

    /// A second, independent ElectrumX on the same chain.
    pub(crate) fn another_electrumx(&self) -> ElectrumX {
        let folder =
            tempfile::Builder::new().prefix("electrumx-").tempdir_in(self.folder()).expect("own folder").keep();
        ElectrumX::run(&folder, &self.bitcoind.rpc_url())
    }

    /// An ElectrumX of the last version that answers LDK's own client, on the same chain.
    pub(crate) fn old_electrumx(&self) -> ElectrumX {
        let folder = tempfile::Builder::new().prefix("old-").tempdir_in(self.folder()).expect("own folder").keep();
        ElectrumX::run_old(&folder, &self.bitcoind.rpc_url())
    }

    /// Mines `count` blocks with all that waits, and returns when ElectrumX has them.
    pub(crate) fn mine(&self, count: u32) {
        self.bitcoind.mine(count);
        self.sync();
    }

    /// Pays `sat` to `address`, and returns when ElectrumX has the transaction in its mempool.
    pub(crate) fn pay(&self, address: impl Display, sat: u64) -> Txid {
        let txid = self.bitcoind.pay(address, sat);
        // Any of its outputs will do, the change too: ElectrumX sees a transaction as a whole.
        let script = self.bitcoind.raw_tx(txid).output.swap_remove(0).script_pubkey;
        let mut probe = self.probe();
        eventually_ok("ElectrumX sees the payment", || {
            let found = probe.history(&script).iter().any(|item| item["tx_hash"] == txid.to_string());
            found.then_some(()).ok_or("not in its history of the script")
        });
        txid
    }

    /// Replaces the newest `depth` blocks by `length` others with the same transactions, and returns when ElectrumX
    /// follows. It can only follow a chain that grew.
    pub(crate) fn reorg(&self, depth: u32, length: u32) {
        assert!(length > depth, "ElectrumX does not notice a reorganisation that is not longer");
        self.bitcoind.reorg(depth, length);
        self.sync();
    }

    /// Returns when ElectrumX announces bitcoind's best block.
    pub(crate) fn sync(&self) {
        // Esplora asks bitcoind when it is asked.
        if self.kind == Kind::Esplora {
            return;
        }
        let mut probe = self.probe();
        eventually_ok("ElectrumX announces the best block", || {
            let (tip, best) = (probe.tip(), self.bitcoind.best_hash());
            (tip == best).then_some(()).ok_or_else(|| format!("ElectrumX: {tip}, bitcoind: {best}"))
        });
    }

    /// A plain client of ElectrumX.
    pub(crate) fn probe(&self) -> Probe {
        Probe::connect(self.electrumx.tcp())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("LIGHTNODE_TEST_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
    }
}

/// How long a world may take to notice something, for tests that assert that nothing happens meanwhile: several of
/// ElectrumX's polling intervals.
pub(crate) const A_WHILE: Duration = Duration::from_millis(500);
