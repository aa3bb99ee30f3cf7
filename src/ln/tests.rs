//! Whole Lightning nodes in one process: real LDK, store and wallet, real sockets, and a chain of our own making.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::PublicKey;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Network, OutPoint, Transaction, TxIn, TxOut, Witness};
use lightning::events::{ClosureReason, Event};
use tokio::sync::mpsc;

use super::confirm::Feeder;
use super::peers::{ConnectError, ForgetError, Listening};
use super::restore::{Ground, RestoreError, Restored};
use super::start::{Doors, Running};
use super::testing::Letters;
use super::vault::Package;
use crate::chain::io::Watch;
use crate::chain::params::Params;
use crate::chain::tree::HeaderTree;
use crate::config::{Config, HostPort};
use crate::dial::Dialer;
use crate::engine::{FeeBook, WatchInbox};
use crate::keys::{Kept, Seed};
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
    packages: mpsc::UnboundedReceiver<Package>,
    _watches: mpsc::UnboundedReceiver<Watch>,
}

fn seed(dir: &Path) -> Seed {
    let seed = match Seed::exists(dir).expect("looks") {
        true => Kept::read(dir).expect("a seed").open(None),
        false => Seed::create(dir, None),
    };
    seed.expect("a seed")
}

fn restore(dir: &Path) -> Result<World, RestoreError> {
    let config = Config::from_text(&dir.join("lightnode.toml"), "network = \"regtest\"\n", dir).expect("defaults");
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
        mark: Some(Arc::new(store.begin_mark(None).unwrap())),
        behind: Box::new(|peer, channel| panic!("{peer} is ahead of us on {channel}")),
        halt: super::vault::halt,
    };
    let (restored, packages) = Restored::restore(ground)?;
    Ok(World { restored, store, config, packages, _watches: watches })
}

/// A node at work, on genesis.
struct Node {
    running: Running,
    tasks: Tasks,
    shutdown: Shutdown,
    events: Arc<Mutex<Vec<Event>>>,
    store: Store,
    feeder: Arc<Feeder>,
    packages: mpsc::UnboundedReceiver<Package>,
    _watches: mpsc::UnboundedReceiver<Watch>,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        Self::start_on(dir, &Letters("a"), &[]).await
    }

    /// Starts, and hears of the whole of a chain: these transactions at these heights, and its tip.
    async fn start_on(dir: &Path, chain: &Letters, txs: &[(u32, Transaction)]) -> Self {
        let World { restored, store, config, packages, _watches } = restore(dir).expect("restores");
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
        let feeder = restored.listener();
        tasks.spawn("vault", super::vault::keep(restored.vault(), shutdown.clone()));
        for (height, tx) in txs {
            feeder.apply(&chain.news(None, Some((*height, std::slice::from_ref(tx))), None), chain);
        }
        feeder.apply(&chain.news(None, None, Some(chain.height())), chain);
        let (_, wanted) = mpsc::channel(1);
        let doors = Doors { identity: &config.node, listening, wanted, dialer: Dialer::new(None) };
        let running = restored.start(&tasks, doors, handle).await.expect("starts");
        Self { running, tasks, shutdown, events, store, feeder, packages, _watches }
    }

    fn id(&self) -> PublicKey {
        self.running.ln.node_id()
    }

    fn address(&self) -> HostPort {
        self.running.listening[0].to_string().parse().expect("an address")
    }

    /// The first event that `pick` likes; it and those before it are gone.
    async fn event<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let mut picked = None;
        until(what, || {
            let mut events = self.events.lock().expect("no panic");
            let found = events.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?)));
            if let Some((at, value)) = found {
                events.drain(..=at);
                picked = Some(value);
            }
            picked.is_some()
        })
        .await;
        picked.expect("just seen")
    }

    fn hears(&self, chain: &Letters, fork: Option<u32>, block: Option<(u32, &Transaction)>, tip: Option<u32>) {
        let block = block.map(|(height, tx)| (height, std::slice::from_ref(tx)));
        self.feeder.apply(&chain.news(fork, block, tip), chain);
    }

    fn usable_channels(&self) -> usize {
        self.running.ln.channels.list_usable_channels().len()
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
    let stranger = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619".parse().expect("a key");
    assert!(matches!(peers.connect(stranger, &b.address()).await, Err(ConnectError::Refused(_))));
    let closed = HostPort { host: "127.0.0.1".into(), port: 1 };
    assert!(matches!(peers.connect(b.id(), &closed).await, Err(ConnectError::Unreachable(..))));
    assert!(matches!(peers.connect_known(b.id()).await, Err(ConnectError::NoAddress)));
    assert!(!peers.forget(b.id()).map_err(|error: ForgetError| error.to_string()).expect("nothing to forget"));
    a.stop().await;
    b.stop().await;
}

/// Two nodes with a channel whose funding was broadcast, and is in no block.
struct Pair {
    dirs: [tempfile::TempDir; 2],
    a: Node,
    b: Node,
    funding: Transaction,
}

async fn pair() -> Pair {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let mut a = Node::start(dirs[0].path()).await;
    let b = Node::start(dirs[1].path()).await;
    a.running.peers.remember(b.id(), &b.address()).expect("remembers");
    a.running.peers.connect(b.id(), &b.address()).await.expect("connects");
    let channels = &a.running.ln.channels;
    channels.create_channel(b.id(), 1_000_000, 0, 1, None, None).expect("begins");
    let temporary = b
        .event("a request to open", |event| match event {
            Event::OpenChannelRequest { temporary_channel_id, channel_type, .. } => {
                assert!(channel_type.supports_anchors_zero_fee_htlc_tx());
                Some(*temporary_channel_id)
            }
            _ => None,
        })
        .await;
    b.running.ln.channels.accept_inbound_channel(&temporary, &a.id(), 2, None).expect("accepts");
    let (temporary, script) = a
        .event("a demand for the funding", |event| match event {
            Event::FundingGenerationReady { temporary_channel_id, output_script, .. } => {
                Some((*temporary_channel_id, output_script.clone()))
            }
            _ => None,
        })
        .await;
    let input = TxIn {
        previous_output: OutPoint::new(bitcoin::hashes::Hash::all_zeros(), 7),
        witness: Witness::from_slice(&[[1]]),
        ..TxIn::default()
    };
    let funding = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: Amount::from_sat(1_000_000), script_pubkey: script }],
    };
    a.running.ln.channels.funding_transaction_generated(temporary, b.id(), funding.clone()).expect("funds");
    let broadcast = tokio::time::timeout(Duration::from_secs(20), a.packages.recv()).await;
    assert_eq!(broadcast, Ok(Some(vec![funding.clone()])));
    Pair { dirs, a, b, funding }
}

fn closed(event: &Event) -> Option<ClosureReason> {
    match event {
        Event::ChannelClosed { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_opens_and_is_there_after_a_restart_of_its_funder() {
    let Pair { dirs, a, b, funding } = pair().await;
    let chain = Letters("aaaaaaaa");
    for node in [&a, &b] {
        node.hears(&chain, None, Some((2, &funding)), None);
        node.hears(&chain, None, None, Some(8));
    }
    until("usable", || a.usable_channels() == 1 && b.usable_channels() == 1).await;
    a.stop().await;
    let a = Node::start_on(dirs[0].path(), &Letters("aaaaaaaaa"), &[(2, funding)]).await;
    until("usable again", || a.usable_channels() == 1).await;
    assert!(a.events.lock().expect("no panic").iter().all(|event| closed(event).is_none()));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_funding_that_moves_to_another_block_before_the_channel_is_ready_does_no_harm() {
    let Pair { a, b, funding, dirs: _dirs } = pair().await;
    let (old, new) = (Letters("aaaa"), Letters("aabbbbbbbb"));
    for node in [&a, &b] {
        node.hears(&old, None, Some((3, &funding)), Some(4));
        // In the same height, of another block: silent but for our own tree.
        node.hears(&new, Some(2), Some((3, &funding)), None);
        node.hears(&new, None, None, Some(10));
    }
    until("usable", || a.usable_channels() == 1 && b.usable_channels() == 1).await;
    for node in [&a, &b] {
        assert!(node.events.lock().expect("no panic").iter().all(|event| closed(event).is_none()));
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_funding_that_leaves_the_chain_after_the_channel_was_ready_closes_it() {
    let Pair { a, b, funding, dirs: _dirs } = pair().await;
    let (old, new) = (Letters("aaaaaaaa"), Letters("abbbbbbbbb"));
    for node in [&a, &b] {
        node.hears(&old, None, Some((2, &funding)), None);
        node.hears(&old, None, None, Some(8));
    }
    until("usable", || a.usable_channels() == 1 && b.usable_channels() == 1).await;
    a.hears(&new, Some(1), None, Some(10));
    let reason = a.event("the channel closed", closed).await;
    assert!(matches!(&reason, ClosureReason::ProcessingError { err } if err.contains("un-confirmed")), "{reason}");
    // Our commitment waits for its anchor to be paid for.
    a.event("a bump", |event| matches!(event, Event::BumpTransaction(_)).then_some(())).await;
    assert_eq!(a.running.ln.closing_balances().len(), 1);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_lost_its_headers_closes_nothing_at_a_restart() {
    let Pair { dirs, a, b, funding } = pair().await;
    let (whole, short) = (Letters("aaaaaaaaa"), Letters("aaa"));
    for node in [&a, &b] {
        node.hears(&whole, None, Some((4, &funding)), None);
        node.hears(&whole, None, None, Some(9));
    }
    until("usable", || a.usable_channels() == 1 && b.usable_channels() == 1).await;
    a.stop().await;
    let World { restored, store, .. } = restore(dirs[0].path()).expect("restores");
    let feeder = restored.listener();
    feeder.apply(&short.news(None, None, Some(3)), &short);
    assert_eq!(restored.ln().best_block(), None);
    assert_eq!(restored.ln().channels.list_channels().len(), 1);
    feeder.apply(&whole.news(None, Some((4, &[funding])), Some(9)), &whole);
    assert_eq!(restored.ln().best_block(), Some(whole.at(9)));
    assert!(restored.ln().channels.list_channels()[0].is_channel_ready);
    drop((restored, feeder));
    store.close().expect("closes");
    b.stop().await;
}
