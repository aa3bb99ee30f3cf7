//! The engine on real servers, with a recording `Confirm` where LDK would be: so that a test can say what LDK was told,
//! and what not.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, Network, Txid, Witness};
use lightnode::chain::io::{BlockRef, Owners, Watch};
use lightnode::config::Config;
use lightnode::dial::Dialer;
use lightnode::engine::{self, Engine, EngineHandle, EngineState, FeeBook, Parts, WatchInbox};
use lightnode::ln::confirm::{Confirmable, Feeder};
use lightnode::source::road::Road;
use lightnode::store::Store;
use lightnode::task::{Shutdown, StopReason};

use super::eventually::{Diagnostic, eventually, throughout};
use super::process::peak_memory;
use super::recorder::{Call, Family, Recorder};
use super::watched::Watched;

/// What a test with such engines in it never needs, whatever servers send, in bytes.
const MOST_MEMORY: u64 = 400_000_000;

/// An engine that listens to these servers, on a thread of its own that ends with this value.
pub(crate) struct Listening {
    recorder: Arc<Recorder>,
    handle: EngineHandle,
    inbox: WatchInbox,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
    _diagnostic: Diagnostic,
}

impl Listening {
    /// Starts one in `folder` (which may hold an earlier one's database), following these outputs as Lightning would.
    pub(crate) fn start(folder: &Path, servers: &[String], watched: &[&Watched]) -> Self {
        let text = servers.iter().map(|url| format!("[[server]]\nurl = \"{url}\"\n")).collect::<String>();
        let text = format!("network = \"regtest\"\n{text}");
        let config = Config::from_text(&folder.join("lightnode.toml"), &text, folder).expect("a configuration");
        std::fs::create_dir_all(folder).expect("the test's own folder");
        let store = Store::open(folder, Network::Regtest, [1, 2, 3, 4]).expect("a database");
        let (inbox, receiver) = WatchInbox::new();
        let genesis = BlockRef { height: 0, hash: genesis_block(Network::Regtest).block_hash() };
        let recorder = Recorder::new(Family::default());
        watched.iter().for_each(|watched| follow(&inbox, &recorder, watched));
        let feeder = Feeder::new(vec![Confirmable { name: "recorder", confirm: recorder.clone(), told: genesis }]);
        let road = Road::new(Dialer::new(None), engine::certificates(&store));
        let parts = Parts {
            machine: engine::restore(&store, Network::Regtest).expect("a machine"),
            pool: engine::pool(&config, &road, &store).expect("a pool"),
            fees: FeeBook::load(&store, &config.fees).expect("a book of fees"),
            store,
            listeners: vec![Arc::new(feeder)],
            inbox: receiver,
            caution: engine::Caution::new(&config.alarms, None),
        };
        let (engine, handle) = Engine::new(parts).expect("an engine");
        let shutdown = Shutdown::new();
        let until = shutdown.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let run = move || runtime.block_on(engine.run(until)).expect("the engine ends in good order");
        let thread = std::thread::Builder::new().name("engine".into()).spawn(run).expect("a thread");
        let (shown, state) = (recorder.clone(), handle.clone());
        let diagnostic = Diagnostic::new("what the recording Confirm was told", move || {
            let calls = shown.calls();
            let last = &calls[calls.len().saturating_sub(40)..];
            format!("{last:?}\n{:?}", state.state())
        });
        Self { recorder, handle, inbox, shutdown, thread: Some(thread), _diagnostic: diagnostic }
    }

    /// Follows one more output.
    pub(crate) fn follow(&self, watched: &Watched) {
        follow(&self.inbox, &self.recorder, watched);
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.recorder.calls()
    }

    /// The witness by which the first input of a transaction was told to be opened, if it was told.
    pub(crate) fn witness(&self, txid: Txid) -> Option<Witness> {
        self.recorder.witness(txid)
    }

    /// Waits until the last tip that was told is this block.
    pub(crate) fn at(&self, hash: BlockHash) {
        let best = || self.recorder.memory().tip;
        eventually("the tip to be told", best, |tip| tip.is_some_and(|(_, told)| told == hash));
    }

    /// Waits until this transaction was told as confirmed at this height.
    pub(crate) fn hears_of(&self, txid: Txid, height: u32) {
        let named = |call: &Call| match call {
            Call::Confirmed((at, _), txs) => *at == height && txs.iter().any(|(_, told)| *told == txid),
            Call::Unconfirmed(_) | Call::Tip(_) => false,
        };
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
        let held = peak_memory("self").expect("this process");
        assert!(held < MOST_MEMORY || std::thread::panicking(), "{held} bytes were held at once");
    }
}

fn follow(inbox: &WatchInbox, recorder: &Recorder, watched: &Watched) {
    recorder.watch_transaction(watched.outpoint.txid, watched.script.clone());
    recorder.watch_output(watched.outpoint, watched.script.clone());
    inbox.push(Watch { script: watched.script.clone(), owners: Owners { wallet: false, lightning: true } });
}
