//! What the engine does with a machine, servers, a store and listeners.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::{Network, ScriptBuf, Txid};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::*;
use super::world::{World, pay, script};
use crate::chain::io::{Owners, Plan, ScriptHash, Watch};
use crate::chain::tree::HeaderTree;
use crate::config;
use crate::source::pool::{Fault, Member, Memory, Pool, Role};
use crate::store::Store;
use crate::task::{Shutdown, StopReason};

/// Notes what it hears, in a list shared with others.
struct Listening {
    who: &'static str,
    heard: Arc<Mutex<Vec<(&'static str, String)>>>,
    inbox: WatchInbox,
    /// To be followed when the first transaction is heard of.
    then: Mutex<Option<ScriptBuf>>,
    broken: bool,
    believes: Option<Txid>,
}

impl Listener for Listening {
    fn deliver(&self, plan: &Plan, _: &HeaderTree) -> Result<(), DeliveryError> {
        if self.broken {
            return Err(DeliveryError { who: self.who, why: "no space".into() });
        }
        let mut heard = self.heard.lock().unwrap();
        if let Some(block) = &plan.block {
            for tx in &block.txs {
                heard.push((self.who, format!("tx {} at {}", tx.proven.txid(), block.height)));
            }
            if let Some(script) = self.then.lock().unwrap().take() {
                self.inbox.push(Watch { script, owners: Owners { wallet: false, lightning: true } });
            }
        }
        for txid in &plan.mempool.gone {
            heard.push((self.who, format!("gone {txid}")));
        }
        if let Some((_, height)) = plan.tip {
            heard.push((self.who, format!("tip {height}")));
        }
        Ok(())
    }

    fn believed(&self) -> Vec<Txid> {
        self.believes.into_iter().collect()
    }
}

/// An engine under test.
pub(super) struct Rig {
    pub(super) handle: EngineHandle,
    inbox: WatchInbox,
    store: Store,
    fees: FeeBook,
    heard: Arc<Mutex<Vec<(&'static str, String)>>>,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), EngineError>>,
    dir: tempfile::TempDir,
}

pub(super) struct Wishes {
    then: Option<ScriptBuf>,
    broken: bool,
    /// What the wallet holds for unconfirmed.
    believes: Option<Txid>,
    alarms: config::Alarms,
}

pub(super) const PLAIN: Wishes = Wishes { then: None, broken: false, believes: None, alarms: OFF };

const OFF: config::Alarms =
    config::Alarms { rotate_after: Duration::ZERO, degraded_after: Duration::ZERO, refuse_after: Duration::ZERO };

fn now() -> u32 {
    u32::try_from(crate::clock::unix_now()).unwrap()
}

fn members(world: &World) -> Vec<Member> {
    world.sources().into_iter().map(|source| Member { source, trusted: false }).collect()
}

fn run(world: &World, dir: tempfile::TempDir, first: &[ScriptBuf], wishes: Wishes) -> Rig {
    run_on(1, world, dir, first, wishes)
}

/// An engine that is connected to so many servers at once.
pub(super) fn run_on(
    servers: usize,
    world: &World,
    dir: tempfile::TempDir,
    first: &[ScriptBuf],
    wishes: Wishes,
) -> Rig {
    let store = Store::open(dir.path(), Network::Regtest, [1, 2, 3, 4]).unwrap();
    let (inbox, receiver) = WatchInbox::new();
    for script in first {
        inbox.push(Watch { script: script.clone(), owners: Owners { wallet: true, lightning: true } });
    }
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = |who, then, broken, believes| {
        let (heard, inbox) = (heard.clone(), inbox.clone());
        Arc::new(Listening { who, heard, inbox, then: Mutex::new(then), broken, believes }) as Arc<dyn Listener>
    };
    let limits =
        config::Fees { min_sat_per_vb: 1, max_sat_per_vb: 500, fallback_sat_per_vb: 10, max_factor_per_hour: 4 };
    let fees = FeeBook::load(&store, &limits).unwrap();
    let parts = Parts {
        machine: restore(&store, Network::Regtest).unwrap(),
        pool: Pool::new(members(world), servers, Duration::from_secs(600), &Memory::default(), 1),
        store: store.clone(),
        listeners: vec![
            listening("wallet", None, wishes.broken, wishes.believes),
            listening("lightning", wishes.then, false, None),
        ],
        inbox: receiver,
        fees: fees.clone(),
        caution: Caution::new(&wishes.alarms, Some(now())),
    };
    let (engine, handle) = Engine::new(parts).unwrap();
    let shutdown = Shutdown::new();
    let task = tokio::spawn(engine.run(shutdown.clone()));
    Rig { handle, inbox, store, fees, heard, shutdown, task, dir }
}

impl Rig {
    pub(super) async fn until(&self, what: &str, reached: impl Fn(&EngineState) -> bool) -> EngineState {
        let mut states = self.handle.subscribe();
        let wait = states.wait_for(|state| reached(state));
        let state = timeout(Duration::from_secs(60), wait).await;
        state.unwrap_or_else(|_| panic!("never {what}: {:?}", self.handle.state())).unwrap().clone()
    }

    pub(super) async fn synced_at(&self, height: u32) -> EngineState {
        let synced =
            |state: &EngineState| state.phase == Phase::Synced && state.tip.is_some_and(|tip| tip.height == height);
        self.until("synced", synced).await
    }

    pub(super) fn heard(&self) -> Vec<(&'static str, String)> {
        self.heard.lock().unwrap().clone()
    }

    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.shutdown.trigger(StopReason::Asked("test".into()));
        self.task.await.unwrap().unwrap();
        self.store.close().unwrap();
        self.dir
    }
}

pub(super) fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Waits for something that no state tells.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while !check().await {
        assert!(tokio::time::Instant::now() < until, "never: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_any_server_it_runs_and_says_so() {
    let rig = run(&World::new(&[]), dir(), &[], PLAIN);
    let state = rig.until("no server", |state| state.phase == Phase::NoServer && state.tip.is_some()).await;
    assert_eq!(state.tip.map(|tip| tip.height), Some(0));
    rig.stop().await;
}

#[tokio::test]
async fn a_proven_transaction_reaches_all_listeners_in_their_order_before_the_tip() {
    let world = World::new(&["a:1"]);
    let tx = pay(&script("ours"), 1);
    world.mine(None);
    world.mine(Some(tx.clone()));
    world.mine(None);
    let rig = run(&world, dir(), &[script("ours")], PLAIN);
    rig.synced_at(3).await;
    let told = format!("tx {} at 2", tx.compute_txid());
    let expected =
        [("wallet", told.clone()), ("lightning", told), ("wallet", "tip 3".into()), ("lightning", "tip 3".into())];
    assert_eq!(rig.heard(), expected);
    rig.stop().await;
}

#[tokio::test]
async fn what_a_listener_registers_is_followed_before_the_tip_is_told() {
    let world = World::new(&["a:1"]);
    let (funding, spend) = (pay(&script("funding"), 1), pay(&script("registered late"), 2));
    world.mine(Some(funding.clone()));
    world.mine(Some(spend.clone()));
    let wishes = Wishes { then: Some(script("registered late")), ..PLAIN };
    let rig = run(&world, dir(), &[script("funding")], wishes);
    rig.synced_at(2).await;
    let lightning: Vec<String> =
        rig.heard().into_iter().filter(|(who, _)| *who == "lightning").map(|(_, what)| what).collect();
    let tx = |txid: Txid, height| format!("tx {txid} at {height}");
    assert_eq!(lightning, [tx(funding.compute_txid(), 1), tx(spend.compute_txid(), 2), "tip 2".to_owned()]);
    rig.stop().await;
}

#[tokio::test]
async fn what_the_wallet_believes_and_nobody_has_is_told_as_gone() {
    let world = World::new(&["a:1"]);
    let lost = pay(&script("ours"), 3).compute_txid();
    let wishes = Wishes { believes: Some(lost), ..PLAIN };
    let rig = run(&world, dir(), &[script("ours")], wishes);
    rig.synced_at(0).await;
    eventually("gone", || async { rig.heard().contains(&("wallet", format!("gone {lost}"))) }).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_listener_that_cannot_store_stops_the_engine_with_its_reason() {
    let world = World::new(&["a:1"]);
    world.mine(None);
    let rig = run(&world, dir(), &[], Wishes { broken: true, ..PLAIN });
    let error = rig.task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "wallet could not apply a chain update: no space");
}

#[tokio::test]
async fn a_liar_is_banned_for_good_and_the_next_server_asked() {
    let world = World::new(&["liar:1", "honest:1"]);
    world.servers[0].lies.store(true, Ordering::Relaxed);
    let tx = pay(&script("ours"), 1);
    world.mine(Some(tx.clone()));
    let rig = run(&world, dir(), &[script("ours")], PLAIN);
    let state = rig.synced_at(1).await;
    assert!(matches!(state.servers[0].role, Role::Banned { .. }), "{state:?}");
    assert_eq!(state.servers[1].role, Role::InUse);
    assert_eq!(rig.heard()[0], ("wallet", format!("tx {} at 1", tx.compute_txid())));
    let bans = rig.store.bans(0).unwrap();
    assert_eq!((bans.len(), bans[0].host.as_str()), (1, "liar"));
    rig.stop().await;
}

#[tokio::test]
async fn when_a_server_goes_the_next_one_serves_and_nothing_is_told_twice() {
    let world = World::new(&["a:1", "b:1"]);
    let rig = run(&world, dir(), &[script("ours")], PLAIN);
    world.mine(Some(pay(&script("ours"), 1)));
    rig.synced_at(1).await;
    world.servers[0].cut();
    let in_use = |index: usize| move |state: &EngineState| state.servers[index].role == Role::InUse;
    rig.until("b in use", in_use(1)).await;
    world.mine(Some(pay(&script("ours"), 2)));
    let state = rig.synced_at(2).await;
    assert!(matches!(state.servers[0].role, Role::BackingOff { .. }), "{state:?}");
    assert_eq!(state.servers[0].last_error.as_deref(), Some("the server closed the connection"));
    let txs = rig.heard().iter().filter(|(who, what)| *who == "wallet" && what.starts_with("tx")).count();
    assert_eq!(txs, 2);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_tried_again_by_itself() {
    let world = World::new(&["a:1"]);
    world.servers[0].unreachable.store(true, Ordering::Relaxed);
    let rig = run(&world, dir(), &[], PLAIN);
    rig.until("waiting", |state| matches!(state.phase, Phase::Waiting { .. })).await;
    world.servers[0].unreachable.store(false, Ordering::Relaxed);
    rig.until("in use", |state| state.servers[0].role == Role::InUse).await;
    rig.stop().await;
}

#[tokio::test]
async fn while_no_block_comes_a_server_that_was_not_asked_takes_the_place_of_one_that_was() {
    let world = World::new(&["frozen:1", "b:1"]);
    // The blocks of this world are years old.
    let alarms = config::Alarms { rotate_after: Duration::from_secs(3600), ..OFF };
    let rig = run(&world, dir(), &[], Wishes { alarms, ..PLAIN });
    let state = rig.until("b in use", |state| state.servers[1].role == Role::InUse).await;
    assert!(state.servers[0].demoted && state.servers[0].fault == Some(Fault::Stale), "{state:?}");
    rig.stop().await;
}

#[tokio::test]
async fn the_outbox_is_sent_at_each_connection_and_block_and_only_news_is_written() {
    let world = World::new(&["a:1"]);
    let server = &world.servers[0];
    server.takes.store(false, Ordering::Relaxed);
    let rig = run(&world, dir(), &[], PLAIN);
    rig.synced_at(0).await;
    let tx = pay(&script("somebody"), 7);
    rig.store.outbox_add(std::slice::from_ref(&tx), "test", 1).unwrap();
    let sent = |times: usize| move || async move { server.taken.lock().unwrap().len() >= times };
    let last = || rig.store.outbox().unwrap()[0].last.clone();

    rig.handle.broadcast_outbox();
    eventually("a verdict", || async { last().is_some() }).await;
    let verdict = last().unwrap();
    assert_eq!((verdict.accepted, verdict.note.as_str()), (false, "an input is missing or already spent"));

    world.mine(None);
    eventually("sent with the block", sent(2)).await;
    server.takes.store(true, Ordering::Relaxed);
    rig.handle.rescan();
    eventually("accepted", || async { last().is_some_and(|verdict| verdict.accepted) }).await;
    assert!(server.taken.lock().unwrap().len() >= 3);
    assert_eq!(rig.store.outbox().unwrap()[0].attempts, 2, "the same verdict was written twice");
    rig.stop().await;
}

#[tokio::test]
async fn a_package_is_sent_at_once_even_when_it_is_not_in_the_outbox() {
    let world = World::new(&["a:1"]);
    let rig = run(&world, dir(), &[], PLAIN);
    rig.synced_at(0).await;
    let (parent, child) = (pay(&script("p"), 1), pay(&script("c"), 2));
    rig.handle.broadcast(vec![parent, child.clone()]);
    let taken = &world.servers[0].taken;
    eventually("sent", || async { taken.lock().unwrap().contains(&child.compute_txid()) }).await;
    rig.stop().await;
}

#[tokio::test]
async fn fee_claims_reach_the_book_and_the_disk() {
    let world = World::new(&["a:1"]);
    let rig = run(&world, dir(), &[], PLAIN);
    assert_eq!(rig.fees.within(2), 2500);
    eventually("learnt", || async { rig.fees.within(2) == 2000 }).await;
    let dir = rig.stop().await;
    let store = Store::open(dir.path(), Network::Regtest, [1, 2, 3, 4]).unwrap();
    let limits =
        config::Fees { min_sat_per_vb: 1, max_sat_per_vb: 500, fallback_sat_per_vb: 10, max_factor_per_hour: 4 };
    assert_eq!(FeeBook::load(&store, &limits).unwrap().within(2), 2000);
}

#[tokio::test]
async fn after_a_restart_everything_is_told_again_even_without_a_server() {
    let world = World::new(&["a:1"]);
    let tx = pay(&script("ours"), 1);
    world.mine(Some(tx.clone()));
    let rig = run(&world, dir(), &[script("ours")], PLAIN);
    rig.synced_at(1).await;
    let dir = rig.stop().await;

    let rig = run(&world, dir, &[script("ours")], PLAIN);
    rig.synced_at(1).await;
    assert_eq!(rig.heard()[0], ("wallet", format!("tx {} at 1", tx.compute_txid())));
    rig.inbox.push(Watch { script: script("later"), owners: Owners { wallet: true, lightning: false } });
    rig.until("two watches", |state| state.watches == 2).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_script_is_given_up_with_its_record_and_followed_again_when_it_is_pushed_again() {
    let world = World::new(&["a:1"]);
    world.mine(Some(pay(&script("channel"), 1)));
    let rig = run(&world, dir(), &[script("ours")], PLAIN);
    let channel = || Watch { script: script("channel"), owners: Owners { wallet: false, lightning: true } };
    let given_up = || rig.handle.unwatch(vec![ScriptHash::of(&script("channel"))]);
    let store = &rig.store;
    let stored = |scripts: usize| async move { store.load_histories().unwrap().len() == scripts };
    rig.inbox.push(channel());
    rig.until("both followed", |state| state.watches == 2).await;
    rig.synced_at(1).await;
    // Of the other one there is nothing to store.
    eventually("stored", || stored(1)).await;

    // What was pushed before is put in before.
    rig.inbox.push(channel());
    given_up().await.unwrap();
    rig.until("one followed", |state| state.watches == 1).await;
    eventually("forgotten", || stored(0)).await;
    rig.inbox.push(channel());
    rig.until("both followed again", |state| state.watches == 2).await;
    eventually("stored again", || stored(1)).await;
    rig.stop().await;
}
