//! The next stages: everything is read from the disk, the engine follows the chain, and once LDK was told it, events,
//! timers and peers begin.
//!
//! Order (facts "Start-up order" and design §4): fee book · wallet · LDK · engine, which delivers to the wallet first
//! and then to LDK · only after the first tip: reconciliation of the book, then LDK's motor and the peers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::damage::damaged;
use super::error::{Code, NodeError};
use super::hold::{Turn, behind};
use super::open::{Key, Opened};
use super::recovery::{give_channels_up, take_up};
use super::{Node, Parts, audit};
use crate::clock;
use crate::config::Config;
use crate::crash::{self, Point};
use crate::dial::Dialer;
use crate::engine::{self, Caution, Engine, FeeBook, Listener, WatchInbox};
use crate::keys::Seed;
use crate::ledger::Ledger;
use crate::ln::Ln;
use crate::ln::backup::Backups;
use crate::ln::broadcast;
use crate::ln::channels::{AcceptPolicy, Channels};
use crate::ln::events::{Claims, Context, Desk, Dial, Doors, Events, release_orphans};
use crate::ln::gate::Gate;
use crate::ln::housekeeping;
use crate::ln::peers::Listening;
use crate::ln::purposes::Purposes;
use crate::ln::receive::Receiver;
use crate::ln::recovery::{Recovery, given_up_payments};
use crate::ln::restore::{Ground, Restored};
use crate::ln::send::{Payer, PayerParts};
use crate::ln::settings::user_config;
use crate::ln::start::Doors as Entrance;
use crate::ln::vault;
use crate::source::road::Road;
use crate::store::Store;
use crate::task::Shutdown;
use crate::wallet::Wallet;

/// Peers that LDK wants dialled and that are not dialled yet.
const DIALS: usize = 64;

/// Between two looks at the clock.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// What the last stage needs, beside the façade's parts.
struct Ready {
    restored: Restored,
    events: Events,
    dials: mpsc::Receiver<Dial>,
    dialer: Dialer,
    listening: Listening,
}

impl Opened {
    /// Brings the node up; returns when it runs, or when it is to stop before that. What it starts ends with the tasks.
    pub async fn run(self) -> Result<(), NodeError> {
        let node = self.node();
        let shutdown = node.0.tasks.shutdown().clone();
        let (store, ending) = (self.store.clone(), shutdown.clone());
        node.0.tasks.spawn("disk", async move {
            ending.wait().await;
            tokio::task::spawn_blocking(move || store.prepare_close()).await
        });
        // A disk that is full already would only refuse the first writes.
        tokio::select! {
            () = self.store.well() => {}
            _ = shutdown.wait() => return Ok(()),
        }
        if node.is_damaged(&self.store).await? {
            return Ok(());
        }
        let Some(turn) = node.turn(&self.store).await? else { return Ok(()) };
        let listening =
            Listening::bind(&node.config().node.listen).await.map_err(|error| failed("listen for peers", &error))?;
        node.0.tasks.spawn("clock", watch_clock(shutdown.clone()));
        let Self { node: _, key, store } = self;
        let seed = tokio::select! {
            seed = unlocked(&node, key) => seed?,
            _ = shutdown.wait() => return Ok(()),
        };
        let restoring = node.clone();
        let begun = tokio::task::spawn_blocking(move || Self::restore(&restoring, &seed, store, listening, turn)).await;
        let ready = match begun.map_err(|error| failed("restore the node", &error))? {
            // All pages are whole, and what they say makes no sense.
            Err(error) if error.code == Code::Damaged => {
                node.halt_damaged(damaged(node.config(), &error.message)).await;
                return Ok(());
            }
            ready => ready?,
        };
        tokio::select! {
            started = start(&node, ready) => started,
            _ = shutdown.wait() => Ok(()),
        }
    }

    /// Reads everything from the disk and starts the engine.
    fn restore(node: &Node, seed: &Seed, store: Store, listening: Listening, turn: Turn) -> Result<Ready, NodeError> {
        let config = node.config();
        let (master, ledger) = (seed.wallet_xprv(config.network), Ledger::open(store.clone()));
        let tasks = &node.0.tasks;
        if let Turn::GiveUp(why) = turn {
            give_channels_up(config, seed, &store, &ledger, &why)?;
        }
        take_up(config, seed, &store)?;
        let mark = Arc::new(store.begin_mark(config.mark_dir.as_deref())?);
        let (inbox, watches) = WatchInbox::new();
        let fees = FeeBook::load(&store, &config.fees)?;
        let machine = engine::restore(&store, config.network)?;
        let caution = Caution::new(&config.alarms, machine.told_before().map(|header| header.time));
        let wallet = Wallet::open(store.clone(), ledger.clone(), &master, config.network, inbox.clone())?;
        crash::passes(Point::WalletMade);
        let ground = Ground {
            config,
            seed,
            store: store.clone(),
            wallet: wallet.clone(),
            inbox: inbox.clone(),
            fees: fees.clone(),
            tip: machine.tree().tip(),
            mark: Some(Arc::clone(&mark)),
            behind: behind(store.clone()),
            halt: vault::halt,
        };
        let (restored, packages) = Restored::restore(ground)?;
        let purposes = Arc::new(Purposes::new(wallet.clone(), restored.ln().chain_monitor.clone()));
        let recovery = Recovery::open(&store, restored.ln(), &inbox)?;
        let mut listeners: Vec<Arc<dyn Listener>> =
            vec![Arc::new(wallet.clone()), restored.listener(), purposes.clone()];
        listeners.extend(recovery.clone().map(|recovery| recovery as Arc<dyn Listener>));
        let dialer = Dialer::new(config.proxy.clone());
        let certificates = engine::certificates(&store);
        let pool = engine::pool(config, &Road::new(dialer.clone(), certificates.clone()), &store)?;
        let engine_parts = engine::Parts {
            machine,
            pool,
            store: store.clone(),
            listeners,
            inbox: watches,
            fees: fees.clone(),
            caution: caution.clone(),
        };
        let (engine, handle) = Engine::new(engine_parts)?;

        tasks.spawn("vault", vault::keep(restored.vault(), tasks.shutdown().clone()));
        let sender = handle.clone();
        tasks.spawn(
            "broadcasts",
            broadcast::carry(
                packages,
                tasks.shutdown().clone(),
                move |txs| purposes.tell(txs),
                move |package| sender.broadcast(package),
            ),
        );
        tasks.spawn("engine", engine.run(tasks.shutdown().clone()));

        let ln = restored.ln().clone();
        let (desk, policy) = (Desk::default(), accept_policy(config));
        let (dial, dials) = mpsc::channel(DIALS);
        let context = Context {
            manager: ln.channels.clone(),
            ledger: ledger.clone(),
            wallet: wallet.clone(),
            claims: Claims { monitors: ln.chain_monitor.clone(), sweeps: ln.sweeps.clone(), bumper: ln.bumper.clone() },
            desk: desk.clone(),
            doors: Doors { accept: policy, dial, caution: caution.clone(), disk: store.clone() },
        };
        let backups = Backups::new(&ln, seed, config);
        tasks.spawn("backup", backups.clone().keep(restored.vault().changes(), tasks.shutdown().clone()));
        let parts = Parts {
            channels: Channels::new(
                ln.channels.clone(),
                ln.chain_monitor.clone(),
                wallet.clone(),
                desk.openings.clone(),
                policy,
            ),
            vault: restored.vault(),
            receiver: Receiver::new(ln.channels.clone(), ln.keys.clone(), ledger.clone(), config.network),
            payer: Payer::new(PayerParts {
                manager: ln.channels.clone(),
                monitors: ln.chain_monitor.clone(),
                ledger: ledger.clone(),
                store: store.clone(),
                hand_over: desk.hand_over,
                settings: config.payments.clone(),
                caution: caution.clone(),
                network: config.network,
                tasks: tasks.clone(),
            }),
            ledger,
            wallet,
            engine: handle,
            certificates,
            dialer: dialer.clone(),
            fees,
            caution,
            ln,
            backups,
            recovery,
            mark,
        };
        let first = node.0.restored.set(parts).is_ok();
        debug_assert!(first, "a node is restored once");
        Ok(Ready { restored, events: Events::new(context, tasks.shutdown().clone()), dials, dialer, listening })
    }
}

/// Looks at the clock now and then, so that a jump stands in the log when it happens.
async fn watch_clock(shutdown: Shutdown) -> Result<(), Infallible> {
    loop {
        clock::look();
        tokio::select! {
            () = tokio::time::sleep(CLOCK_EVERY) => {}
            _ = shutdown.wait() => return Ok(()),
        }
    }
}

/// The seed: at once, or when the passphrase of a sealed one is given, by its file or by somebody.
async fn unlocked(node: &Node, key: Key) -> Result<Seed, NodeError> {
    let awaited = match key {
        Key::Seed(seed) => return Ok(seed),
        Key::Awaited(awaited) => awaited,
    };
    let try_file = node.blocking(|node| {
        if let (Some(gate), Some(path)) = (node.gate(), &node.config().passphrase_file) {
            gate.try_file(path);
        }
        Ok(())
    });
    try_file.await?;
    if node.gate().is_some() {
        tracing::warn!("locked: waiting for the passphrase of the seed (`lightnode unlock`)");
    }
    awaited.await.map_err(|error| failed("wait for the passphrase", &error))
}

/// Waits for the first tip, settles what a crash left open, and lets LDK, peers and events begin.
async fn start(node: &Node, ready: Ready) -> Result<(), NodeError> {
    let Ready { restored, events, dials, dialer, listening } = ready;
    let tip = restored.ln().synced().await;
    tracing::info!(height = tip.height, "the chain is known");
    node.blocking(|node| {
        let parts = node.parts()?;
        parts.ln.store.insist(|_: &NodeError| node.trouble().is_some(), || settle(parts))
    })
    .await?;
    let (parts, forwarding) = (node.parts()?, user_config(&node.config().channels).channel_config);
    let gate = Gate::new(parts.ln.channels.clone(), parts.caution.clone(), forwarding);
    node.0.tasks.spawn("gate", gate.run(node.0.tasks.shutdown().clone()));
    let (tasks, events) = (&node.0.tasks, Arc::new(events));
    let handle = move |event| {
        let events = Arc::clone(&events);
        async move { events.handle(event).await }
    };
    let running = restored
        .start(tasks, Entrance { identity: &node.config().node, listening, wanted: dials, dialer }, handle)
        .await
        .map_err(|error| failed("announce the node", &error))?;
    let housekeeping = housekeeping::keep(running.ln.clone(), node.parts()?.engine.clone(), tasks.shutdown().clone());
    tasks.spawn("ln-housekeeping", housekeeping);
    if let Some(recovery) = node.parts()?.recovery.clone() {
        tasks.spawn("recovery", recovery.run(running.ln.clone(), running.peers.clone(), tasks.shutdown().clone()));
    }
    let first = node.0.running.set(running).is_ok();
    debug_assert!(first, "a node starts once");
    node.blocking(|node| Ok(node.parts()?.ln.store.came_up()?)).await?;
    tasks.spawn("audit", audit::by_the_clock(node.clone(), tasks.shutdown().clone()));
    tracing::info!("ready");
    Ok(())
}

/// What a crash left open: payments that never left, coins of fundings that never were.
fn settle(parts: &Parts) -> Result<(), NodeError> {
    parts.payer.reconcile(&given_up_payments(&parts.ln.store)?)?;
    let Ln { channels, chain_monitor, .. } = &parts.ln;
    release_orphans(&parts.wallet, channels, chain_monitor)?;
    Ok(())
}

fn accept_policy(config: &Config) -> AcceptPolicy {
    AcceptPolicy {
        inbound: config.channels.accept_inbound,
        min_sat: config.channels.min_inbound_sat,
        max_sat: config.channels.max_funding_sat,
        reserve_sat: config.channels.reserve_sat,
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> NodeError {
    NodeError::new(Code::Internal, format!("could not {what}: {error}"))
}
