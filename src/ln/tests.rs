//! Whole Lightning nodes in one process: real LDK, store and wallet, real sockets, and a chain of our own making.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Network;
use bitcoin::secp256k1::PublicKey;
use lightning::events::Event;
use tokio::sync::mpsc;

use super::peers::{ConnectError, ForgetError, Listening};
use super::restore::{Ground, RestoreError, Restored};
use super::start::{Doors, Running};
use crate::chain::io::{Plan, Watch};
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;
use crate::config::{Config, HostPort};
use crate::engine::{FeeBook, Listener, WatchInbox};
use crate::keys::Seed;
use crate::ledger::Ledger;
use crate::store::Store;
use crate::task::{Shutdown, StopReason, Tasks};
use crate::wallet::Wallet;

const NETWORK: Network = Network::Regtest;

/// What a node leaves behind when it is restored.
struct World {
    restored: Restored,
    store: Store,
    config: Config,
    _watches: mpsc::UnboundedReceiver<Watch>,
}

fn seed(dir: &Path) -> Seed {
    if Seed::exists(dir).expect("looks") { Seed::load(dir) } else { Seed::create(dir) }.expect("a seed")
}

fn restore(dir: &Path) -> Result<World, RestoreError> {
    let config =
        Config::from_text(&dir.join("lightnode.toml"), "network = \"regtest\"\n", dir).expect("defaults");
    let seed = seed(dir);
    let store = Store::open(dir, NETWORK, seed.fingerprint()).expect("a store");
    let (inbox, watches) = WatchInbox::new();
    let (book, master) = (Ledger::open(store.clone()), seed.wallet_xprv(NETWORK));
    let wallet = Wallet::open(store.clone(), book, &master, NETWORK, inbox.clone()).expect("a wallet");
    let ground = Ground {
        config: &config,
        seed: &seed,
        store: store.clone(),
        wallet,
        inbox,
        fees: FeeBook::new(&config.fees, None),
        tip: HeaderTree::new(Params::new(NETWORK)).tip(),
        halt: super::persist::halt,
    };
    let (restored, _packages) = Restored::restore(ground)?;
    Ok(World { restored, store, config, _watches: watches })
}

/// A node at work, on genesis.
struct Node {
    running: Running,
    tasks: Tasks,
    shutdown: Shutdown,
    events: Arc<Mutex<Vec<Event>>>,
    store: Store,
    _watches: mpsc::UnboundedReceiver<Watch>,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        let World { restored, store, config, _watches } = restore(dir).expect("restores");
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let handle = move |event| {
            heard.lock().expect("no panic").push(event);
            std::future::ready(Ok(()))
        };
        let local = HostPort { host: "127.0.0.1".into(), port: 0 };
        let listening = Listening::bind(&[local]).await.expect("binds");
        let tree = HeaderTree::new(Params::new(NETWORK));
        let genesis = tree.header_at(0).expect("genesis");
        let plan = Plan { tip: Some((genesis, 0)), ..Plan::default() };
        restored.listener().deliver(&plan, &tree).expect("applied");
        let (_, wanted) = mpsc::channel(1);
        let doors = Doors { identity: &config.node, listening, wanted };
        let running = restored.start(&tasks, doors, handle).await.expect("starts");
        Self { running, tasks, shutdown, events, store, _watches }
    }

    fn id(&self) -> PublicKey {
        self.running.ln.node_id()
    }

    fn address(&self) -> HostPort {
        self.running.listening[0].to_string().parse().expect("an address")
    }

    async fn stop(self) {
        self.shutdown.trigger(StopReason::Asked("test".into()));
        self.tasks.join(Duration::from_secs(5)).await.expect("ends in time");
        self.store.close().expect("closes");
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[test]
fn a_new_node_has_an_id_without_any_server_and_keeps_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let World { restored, store, .. } = restore(dir.path()).expect("restores");
    let id = restored.ln().node_id();
    assert_eq!(restored.ln().best_block(), None);
    assert_eq!(restored.ln().channels.current_best_block().height, 0);
    drop(restored);
    store.close().expect("closes");
    assert_eq!(restore(dir.path()).expect("restores").restored.ln().node_id(), id);
}

#[test]
fn damaged_channels_are_refused_and_not_replaced_by_none() {
    use lightning::util::persist::KVStoreSync;
    let dir = tempfile::tempdir().expect("a directory");
    let World { restored, store, .. } = restore(dir.path()).expect("restores");
    drop(restored);
    let kv = store.kv();
    KVStoreSync::write(&*kv, "", "", "manager", vec![1, 1, 0]).expect("writes");
    drop(kv);
    store.close().expect("closes");
    let Err(error) = restore(dir.path()) else { panic!("restored from nonsense") };
    assert!(matches!(&error, RestoreError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("older copy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_connect_are_remembered_and_come_back_after_a_restart_of_either() {
    let (one, two) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let a = Node::start(one.path()).await;
    let b = Node::start(two.path()).await;
    a.running.peers.connect(b.id(), &b.address()).await.expect("connects");
    a.running.peers.remember(b.id(), &b.address()).expect("remembers");
    until("b sees a", || b.running.peers.is_connected(&a.id())).await;
    let seen = b.running.peers.list().expect("lists");
    assert_eq!((seen.len(), seen[0].node_id, seen[0].inbound, seen[0].persisted), (1, a.id(), true, false));

    a.running.ln.peers.disconnect_all_peers();
    until("a dials again", || a.running.peers.is_connected(&b.id())).await;

    let b_id = b.id();
    a.stop().await;
    let a = Node::start(one.path()).await;
    until("a dials after its restart", || a.running.peers.is_connected(&b_id)).await;
    assert!(a.running.peers.forget(b_id).expect("forgets"));
    until("a hangs up", || !a.running.peers.is_connected(&b_id)).await;
    assert!(a.running.peers.list().expect("lists").is_empty());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_says_why() {
    let (one, two) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let a = Node::start(one.path()).await;
    let b = Node::start(two.path()).await;
    let peers = &a.running.peers;
    assert!(matches!(peers.connect(a.id(), &b.address()).await, Err(ConnectError::Ourselves)));
    // The wrong node id: b cannot read what is meant for another.
    let stranger =
        "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619".parse().expect("a key");
    assert!(matches!(peers.connect(stranger, &b.address()).await, Err(ConnectError::Refused(_))));
    let closed = HostPort { host: "127.0.0.1".into(), port: 1 };
    assert!(matches!(peers.connect(b.id(), &closed).await, Err(ConnectError::Unreachable(..))));
    assert!(matches!(peers.connect_known(b.id()).await, Err(ConnectError::NoAddress)));
    assert!(
        !peers.forget(b.id()).map_err(|error: ForgetError| error.to_string()).expect("nothing to forget")
    );
    a.stop().await;
    b.stop().await;
}
