//! Two engines that feed a [`Recorder`] from one server: ours, and LDK's own.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Network, OutPoint, Script, ScriptBuf, Txid};
use electrum_client::{Client, Config as ClientConfig};
use lightning::chain::{Filter, WatchedOutput};
use lightning::util::logger::{Logger, Record};
use lightning_transaction_sync::ElectrumSyncClient;
use lightnode::chain::io::{BlockRef, Owners, Watch};
use lightnode::config::Config;
use lightnode::dial::Dialer;
use lightnode::engine::{self, Engine, EngineError, EngineHandle, EngineState, FeeBook, Phase, WatchInbox};
use lightnode::ln::confirm::{Confirmable, Feeder};
use lightnode::source::road::Road;
use lightnode::store::Store;
use lightnode::task::{Shutdown, StopReason};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::eventually::patience;
use super::recorder::{Memory, Recorder};

/// Our engine with its store, on a runtime of its own.
pub(crate) struct Ours {
    pub(crate) recorder: Arc<Recorder>,
    server: String,
    folder: TempDir,
    runtime: Runtime,
    running: Option<Running>,
}

struct Running {
    handle: EngineHandle,
    inbox: WatchInbox,
    store: Store,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), EngineError>>,
}

impl Ours {
    /// Starts it on `server` (`tcp://host:port`).
    pub(crate) fn start(server: &str, recorder: Arc<Recorder>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let folder = tempfile::Builder::new().prefix("lightnode-").tempdir().expect("a temporary folder");
        let server = server.to_owned();
        let mut ours = Self { recorder, server, folder, runtime: runtime.expect("a runtime"), running: None };
        ours.run();
        ours
    }

    fn run(&mut self) {
        let folder = self.folder.path();
        let text = format!("network = \"regtest\"\n[[server]]\nurl = \"{}\"\n", self.server);
        let config = Config::from_text(&folder.join("lightnode.toml"), &text, folder).expect("a good configuration");
        let store = Store::open(folder, Network::Regtest, [1, 2, 3, 4]).expect("a store");
        let (inbox, receiver) = WatchInbox::new();
        // As LDK at its start: everything is registered again before the engine begins.
        let Memory { tip, outputs, transactions, .. } = self.recorder.memory();
        for script in outputs.values().chain(transactions.values()) {
            follow(&inbox, script);
        }
        let filter = inbox.clone();
        self.recorder.set_filter(move |_, script| follow(&filter, script));
        let machine = engine::restore(&store, Network::Regtest).expect("a good store");
        let ours = machine.tree().tip();
        let told = tip.map_or(ours, |(height, hash)| BlockRef { height, hash });
        let feeder = Feeder::new(vec![Confirmable { name: "recorder", confirm: self.recorder.clone(), told }]);
        let fees = FeeBook::load(&store, &config.fees).expect("a good store");
        let road = Road::new(Dialer::new(None), engine::certificates(&store));
        let parts = engine::Parts {
            machine,
            pool: engine::pool(&config, &road, &store).expect("a good store"),
            store: store.clone(),
            listeners: vec![Arc::new(feeder)],
            inbox: receiver,
            fees,
            caution: engine::Caution::new(&config.alarms, None),
        };
        let (engine, handle) = Engine::new(parts).expect("a good store");
        let shutdown = Shutdown::new();
        let task = self.runtime.spawn(engine.run(shutdown.clone()));
        self.running = Some(Running { handle, inbox, store, shutdown, task });
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) {
        let Running { store, shutdown, task, .. } = self.running.take().expect("it runs");
        shutdown.trigger(StopReason::Asked("test".into()));
        self.runtime.block_on(task).expect("no panic").expect("no error");
        store.close().expect("the store closes");
    }

    /// Starts it again on what it has stored.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        self.run();
    }

    /// What it does now.
    pub(crate) fn state(&self) -> EngineState {
        self.running.as_ref().expect("it runs").handle.state()
    }

    /// Follows a script.
    pub(crate) fn follow(&self, script: &Script) {
        follow(&self.running.as_ref().expect("it runs").inbox, script);
    }

    /// Returns when all is proven and told up to this block.
    pub(crate) fn synced(&self, hash: bitcoin::BlockHash) {
        let mut states = self.running.as_ref().expect("it runs").handle.subscribe();
        let there = |state: &EngineState| {
            state.phase == Phase::Synced && state.pending == 0 && state.tip.is_some_and(|tip| tip.hash == hash)
        };
        let reached = self.runtime.block_on(async {
            timeout(patience(Duration::from_secs(60)), states.wait_for(there)).await.is_ok_and(|state| state.is_ok())
        });
        assert!(reached, "our engine does not reach {hash}: {:?}", self.state());
    }
}

fn follow(inbox: &WatchInbox, script: &Script) {
    inbox.push(Watch { script: script.into(), owners: Owners { wallet: false, lightning: true } });
}

/// LDK's engine; it looks when it is told to.
pub(crate) struct Theirs {
    pub(crate) recorder: Arc<Recorder>,
    engine: Arc<ElectrumSyncClient<&'static Silent>>,
}

pub(crate) struct Silent;

impl Logger for Silent {
    fn log(&self, _: Record) {}
}

impl Theirs {
    pub(crate) fn start(server: &str, recorder: Arc<Recorder>) -> Self {
        // Whole seconds, in eight bits.
        let config = ClientConfig::builder().timeout(Some(100)).retry(0).build();
        let client = Client::from_config(server, config).expect("a server that takes LDK's client");
        let engine = Arc::new(ElectrumSyncClient::from_client(Arc::new(client), &Silent).expect("LDK's engine"));
        let Memory { outputs, transactions, .. } = recorder.memory();
        for (txid, script) in transactions {
            engine.register_tx(&txid, &script);
        }
        for (outpoint, script) in outputs {
            register(&engine, outpoint, script);
        }
        let filter = Arc::downgrade(&engine);
        recorder.set_filter(move |outpoint, script| {
            if let Some(engine) = filter.upgrade() {
                register(&engine, outpoint, script.into());
            }
        });
        Self { recorder, engine }
    }

    /// Looks at everything once.
    pub(crate) fn sync(&self) -> Result<(), String> {
        self.engine.sync(vec![self.recorder.clone()]).map_err(|error| error.to_string())
    }

    /// Follows a transaction.
    pub(crate) fn follow_transaction(&self, txid: Txid, script: &Script) {
        self.engine.register_tx(&txid, script);
    }

    /// Follows an output.
    pub(crate) fn follow_output(&self, outpoint: OutPoint, script: &Script) {
        register(&self.engine, outpoint, script.into());
    }
}

fn register(engine: &ElectrumSyncClient<&'static Silent>, outpoint: OutPoint, script_pubkey: ScriptBuf) {
    let index = u16::try_from(outpoint.vout).expect("an output of a small transaction");
    let outpoint = lightning::chain::transaction::OutPoint { txid: outpoint.txid, index };
    engine.register_output(WatchedOutput { block_hash: None, outpoint, script_pubkey });
}
