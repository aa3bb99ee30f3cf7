//! The engine on real servers, with a recording `Confirm` where LDK would be: so that a test can say what LDK was told,
//! and what not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, Network, ScriptBuf, Transaction, Txid};
use lightning::chain::Confirm;
use lightnode::chain::io::{BlockRef, Owners, Watch};
use lightnode::config::Config;
use lightnode::dial::Dialer;
use lightnode::engine::{self, Engine, EngineHandle, EngineState, FeeBook, Parts, WatchInbox};
use lightnode::ln::confirm::{Confirmable, Feeder};
use lightnode::source::road::Road;
use lightnode::store::Store;
use lightnode::task::{Shutdown, StopReason};

use super::eventually::{Diagnostic, eventually, throughout};

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Confirmed { txid: Txid, height: u32, block: BlockHash },
    Unconfirmed { txid: Txid },
    Best { height: u32, hash: BlockHash },
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Confirmed { txid, height, .. } => write!(f, "confirmed {txid} at {height}"),
            Self::Unconfirmed { txid } => write!(f, "unconfirmed {txid}"),
            Self::Best { height, hash } => write!(f, "best {height} {hash}"),
        }
    }
}

/// Writes down what it is told, and remembers it as LDK would.
#[derive(Default)]
struct Recording {
    calls: Mutex<Vec<Call>>,
    confirmed: Mutex<BTreeMap<Txid, (u32, BlockHash)>>,
}

impl Recording {
    fn told(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

impl Confirm for Recording {
    fn transactions_confirmed(&self, header: &Header, txdata: &[(usize, &Transaction)], height: u32) {
        for (_, tx) in txdata {
            let (txid, block) = (tx.compute_txid(), header.block_hash());
            self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).insert(txid, (height, block));
            self.told(Call::Confirmed { txid, height, block });
        }
    }

    fn transaction_unconfirmed(&self, txid: &Txid) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).remove(txid);
        self.told(Call::Unconfirmed { txid: *txid });
    }

    fn best_block_updated(&self, header: &Header, height: u32) {
        self.told(Call::Best { height, hash: header.block_hash() });
    }

    fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.iter().map(|(txid, (height, block))| (*txid, *height, Some(*block))).collect()
    }
}

/// An engine that listens to these servers, on a thread of its own that ends with this value.
pub(crate) struct Listening {
    recording: Arc<Recording>,
    handle: EngineHandle,
    inbox: WatchInbox,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
    _diagnostic: Diagnostic,
}

impl Listening {
    /// Starts one in `folder` (which may hold an earlier one's database), following `scripts` as Lightning would.
    pub(crate) fn start(folder: &Path, servers: &[String], scripts: &[ScriptBuf]) -> Self {
        let text = servers.iter().map(|url| format!("[[server]]\nurl = \"{url}\"\n")).collect::<String>();
        let text = format!("network = \"regtest\"\n{text}");
        let config = Config::from_text(&folder.join("lightnode.toml"), &text, folder).expect("a configuration");
        std::fs::create_dir_all(folder).expect("the test's own folder");
        let store = Store::open(folder, Network::Regtest, [1, 2, 3, 4]).expect("a database");
        let (inbox, receiver) = WatchInbox::new();
        scripts.iter().for_each(|script| inbox.push(lightnings(script)));
        let genesis = BlockRef { height: 0, hash: genesis_block(Network::Regtest).block_hash() };
        let recording = Arc::new(Recording::default());
        let feeder = Feeder::new(vec![Confirmable { name: "recording", confirm: recording.clone(), told: genesis }]);
        let road = Road::new(Dialer::new(None), engine::certificates(&store));
        let parts = Parts {
            machine: engine::restore(&store, Network::Regtest).expect("a machine"),
            pool: engine::pool(&config, &road, &store).expect("a pool"),
            fees: FeeBook::load(&store, &config.fees).expect("a book of fees"),
            store,
            listeners: vec![Arc::new(feeder)],
            inbox: receiver,
            caution: engine::Caution::new(&config.alarms, 0),
        };
        let (engine, handle) = Engine::new(parts).expect("an engine");
        let shutdown = Shutdown::new();
        let until = shutdown.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let run = move || runtime.block_on(engine.run(until)).expect("the engine ends in good order");
        let thread = std::thread::Builder::new().name("engine".into()).spawn(run).expect("a thread");
        let (shown, state) = (recording.clone(), handle.clone());
        let diagnostic = Diagnostic::new("what the recording Confirm was told", move || {
            let calls = shown.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let lines: Vec<String> = calls.iter().rev().take(40).rev().map(Call::to_string).collect();
            format!("{}\n{:?}", lines.join("\n"), state.state())
        });
        Self { recording, handle, inbox, shutdown, thread: Some(thread), _diagnostic: diagnostic }
    }

    /// Follows one more script.
    pub(crate) fn follow(&self, script: &ScriptBuf) {
        self.inbox.push(lightnings(script));
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.recording.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the last tip that was told is this block.
    pub(crate) fn at(&self, hash: BlockHash) {
        let best = |calls: &Vec<Call>| {
            calls.iter().rev().find_map(|call| if let Call::Best { hash, .. } = call { Some(*hash) } else { None })
        };
        eventually("the tip to be told", || self.calls(), |calls| best(calls) == Some(hash));
    }

    /// Waits until this transaction was told as confirmed at this height.
    pub(crate) fn hears_of(&self, txid: Txid, height: u32) {
        let named = |call: &Call| matches!(call, Call::Confirmed { txid: told, height: at, .. } if *told == txid && *at == height);
        eventually("the transaction to be told", || self.calls(), |calls| calls.iter().any(named));
    }

    /// Asserts that nothing at all is told for the whole span.
    pub(crate) fn hears_nothing_for(&self, span: Duration) {
        let before = self.calls().len();
        throughout(span, "LDK is told nothing", || self.calls().len() == before);
    }

    /// What the engine says of itself.
    pub(crate) fn state(&self) -> EngineState {
        self.handle.state()
    }

    /// Waits until the engine's own words are as wanted.
    pub(crate) fn until(&self, what: &str, there: impl FnMut(&EngineState) -> bool) -> EngineState {
        eventually(what, || self.state(), there)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shutdown.trigger(StopReason::Asked("the test ends".into()));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the engine died");
        }
    }
}

fn lightnings(script: &ScriptBuf) -> Watch {
    Watch { script: script.clone(), owners: Owners { wallet: false, lightning: true } }
}
