//! The loop: inputs to the machine, and its actions performed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::caution::Caution;
use super::disk::Disk;
use super::fees::FeeBook;
use super::handle::{Command, EngineHandle, Proven};
use super::ladder::{Cause, Step};
use super::outbox::Sent;
use super::state::{EngineState, Phase};
use super::{DeliveryError, Listener};
use crate::chain::io::{Action, Input, Lie, Owners, Plan, Report, ScriptHash, ScriptRecord, SourceId, Watch};
use crate::chain::machine::Machine;
use crate::clock;
use crate::crash::{self, Point};
use crate::source::pool::{Fault, Pool};
use crate::source::{Connected, EVENT_CAPACITY, Event, EventSink, FeeClaims, Session, SourceError};
use crate::store::{Store, StoreError};
use crate::task::Shutdown;

/// How often servers are asked about fees.
const FEES_EVERY: Duration = Duration::from_secs(600);
/// While no new block comes, one more server is passed over in each such time.
const ROTATE_EVERY: Duration = Duration::from_secs(600);
/// Histories are written together, after at most this time (and always before a delivery that they are in).
const GATHER: Duration = Duration::from_secs(1);
/// How often a long way to the tip is told of in the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What an engine is made of.
pub struct Parts {
    /// As [`super::restore`] gives it.
    pub machine: Machine,
    /// As [`super::pool`] gives it.
    pub pool: Pool,
    /// For headers, histories, bans, fees, and the outbox.
    pub store: Store,
    /// In the order in which they are told: the wallet, then Lightning.
    pub listeners: Vec<Arc<dyn Listener>>,
    /// The end of the [`super::WatchInbox`].
    pub inbox: mpsc::UnboundedReceiver<Watch>,
    /// Shared with all who pay fees.
    pub fees: FeeBook,
    /// Shared with all who take risks.
    pub caution: Caution,
}

/// Why the engine, and with it the process, has to end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Something could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener could not apply a plan.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// A task of the engine panicked.
    #[error("a task of the engine died")]
    Died(#[from] JoinError),
}

/// Drives the machine; to be [`Engine::run`].
pub struct Engine {
    pub(super) machine: Machine,
    pub(super) pool: Pool,
    pub(super) disk: Disk,
    listeners: Vec<Arc<dyn Listener>>,
    inbox: mpsc::UnboundedReceiver<Watch>,
    pub(super) fees: FeeBook,
    caution: Caution,
    commands: mpsc::UnboundedReceiver<Command>,
    state: watch::Sender<EngineState>,
    pub(super) sessions: BTreeMap<SourceId, Box<dyn Session>>,
    pub(super) sink: EventSink,
    events: mpsc::Receiver<(SourceId, Event)>,
    pub(super) tasks: JoinSet<Done>,
    pub(super) outbox: Round,
    /// Not written yet; the first since then.
    records: Vec<ScriptRecord>,
    records_at: Instant,
    fees_at: Instant,
    /// When the next server is passed over, if the silence lasts.
    rotate_at: Instant,
    said_at: Instant,
}

/// A task of the engine that is done.
pub(super) enum Done {
    Dialed(SourceId, Result<Connected, SourceError>),
    /// The connection has told why by its last event.
    Carried,
    Fees(SourceId, Result<FeeClaims, SourceError>),
    Sent(Vec<Sent>),
    /// As `Sent`, and the outbox may be sent again.
    SentRound(Vec<Sent>),
}

/// Whether the outbox is being sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Idle,
    Running,
    /// And it is to be sent once more.
    Again,
}

impl Engine {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Result<(Self, EngineHandle), StoreError> {
        let Parts { machine, pool, store, listeners, inbox, fees, caution } = parts;
        let (commands, commanded) = mpsc::unbounded_channel();
        let (sink, events) = mpsc::channel(EVENT_CAPACITY);
        let (state, watched) = watch::channel(EngineState::default());
        let now = Instant::now();
        let mut engine = Self {
            machine,
            pool,
            disk: Disk::open(store)?,
            listeners,
            inbox,
            fees,
            caution,
            commands: commanded,
            state,
            sessions: BTreeMap::new(),
            sink,
            events,
            tasks: JoinSet::new(),
            outbox: Round::Idle,
            records: Vec::new(),
            records_at: now,
            fees_at: now + FEES_EVERY,
            rotate_at: now,
            said_at: now,
        };
        engine.publish();
        Ok((engine, EngineHandle { commands, state: watched }))
    }

    /// Runs until shutdown, or until something happens that must stop the process.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), EngineError> {
        // What is not watched when the first server is up cannot hold a delivery back.
        self.drain_inbox();
        self.believe();
        loop {
            self.settle()?;
            self.publish();
            let wake = self.wake();
            tokio::select! {
                _ = shutdown.wait() => {
                    blocking(|| self.disk.fees_now(self.fees.record()))?;
                    return self.write_records();
                }
                Some((id, event)) = self.events.recv() => self.heard(id, event)?,
                Some(done) = self.tasks.join_next() => self.done(done?)?,
                Some(watch) = self.inbox.recv() => {
                    self.on(Input::Watch(watch));
                    self.drain_inbox();
                }
                Some(command) = self.commands.recv() => self.command(command)?,
                () = sleep_until(wake) => self.tick()?,
            }
        }
    }

    /// Does what is to be done until nothing is: what a server did may change whom we speak to, and what about.
    fn settle(&mut self) -> Result<(), EngineError> {
        loop {
            self.perform()?;
            self.dial();
            if !self.assign()? {
                return Ok(());
            }
        }
    }

    pub(super) fn on(&mut self, input: Input) {
        self.machine.on(input, clock::wall_millis());
    }

    fn drain_inbox(&mut self) {
        while let Ok(watch) = self.inbox.try_recv() {
            self.on(Input::Watch(watch));
        }
    }

    /// Tells the machine what the listeners hold for unconfirmed.
    fn believe(&mut self) {
        let believed: Vec<_> = self.listeners.iter().flat_map(|listener| listener.believed()).collect();
        if !believed.is_empty() {
            self.on(Input::Believed(believed));
        }
    }

    /// Does what the machine wants, in its order.
    fn perform(&mut self) -> Result<(), EngineError> {
        while let Some(action) = self.machine.next() {
            match action {
                Action::Ask { source, request } => {
                    if let Some(session) = self.sessions.get(&source) {
                        session.ask(request);
                    }
                }
                Action::StoreHeaders { from, headers, fork } => {
                    self.write_records()?;
                    self.disk.insist(|disk| disk.headers(from, &headers, fork))?;
                }
                Action::StoreOlderHeaders { from, headers } => {
                    self.disk.insist(|disk| disk.store.prepend_headers(from, &headers))?;
                }
                Action::StoreHistory(record) => {
                    if self.records.is_empty() {
                        self.records_at = Instant::now() + GATHER;
                    }
                    self.records.push(record);
                }
                Action::ForgetHistories(scripts) => {
                    // One of them may wait to be written.
                    self.write_records()?;
                    self.disk.insist(|disk| disk.store.forget_histories(scripts.clone()))?;
                }
                Action::Deliver(plan) => {
                    self.write_records()?;
                    self.deliver(&plan)?;
                }
                Action::Report { source, report } => self.report(source, report)?,
            }
        }
        Ok(())
    }

    fn write_records(&mut self) -> Result<(), EngineError> {
        let records = std::mem::take(&mut self.records);
        match records.is_empty() {
            true => Ok(()),
            false => {
                self.disk.insist(|disk| disk.store.store_histories(records.clone()))?;
                crash::passes(Point::HistoriesStored);
                Ok(())
            }
        }
    }

    fn deliver(&mut self, plan: &Plan) -> Result<(), EngineError> {
        let tree = self.machine.tree();
        blocking(|| {
            for listener in &self.listeners {
                listener.deliver(plan, tree)?;
                crash::passes(Point::Delivered);
            }
            crash::passes(Point::DeliveredAll);
            Ok::<_, DeliveryError>(())
        })?;
        if let Some(tip) = plan.told() {
            self.disk.insist(|disk| disk.delivered(tip, plan.fork.is_some()))?;
        }
        crash::passes(Point::DeliveredTold);
        self.drain_inbox();
        if plan.fork.is_some() {
            self.believe();
        }
        self.on(Input::Delivered);
        if let Some((header, height)) = plan.tip {
            tracing::info!(height, hash = %header.block_hash(), "new best block");
            self.pool.review(height, Instant::now());
            self.caution.told(header.time);
            self.send_outbox()?;
        }
        Ok(())
    }

    fn report(&mut self, id: SourceId, report: Report) -> Result<(), EngineError> {
        match report {
            Report::Lie(lie) => {
                let why = match lie {
                    Lie::Header => "it sent a header that breaks the rules of the network",
                    Lie::Proof => "it sent a proof that does not prove what it says",
                    Lie::Body => "it sent another transaction than asked for",
                    Lie::Witness => "it sent a transaction with a forged witness",
                };
                self.ban(id, why)
            }
            Report::Degraded { script } => {
                self.pool.blame(id, Fault::Degraded, Instant::now());
                tracing::warn!(script = %shown(script), "the server does not serve the whole history of a script");
                Ok(())
            }
            Report::Recovered { script } => {
                tracing::info!(script = %shown(script), "the server serves the whole history of a script again");
                Ok(())
            }
            Report::Omitted { script, txid } => {
                self.pool.blame(id, Fault::Omitted, Instant::now());
                tracing::warn!(script = %shown(script), %txid, "the server left out a transaction that another one proved");
                Ok(())
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<(), EngineError> {
        match command {
            Command::Send(package) => self.send_now(&package),
            Command::SendOutbox => self.send_outbox()?,
            Command::Retry => self.pool.retry_now(Instant::now()),
            Command::Rescan => {
                tracing::info!("asking again for everything");
                self.leave_all("asked to connect anew");
                self.pool.retry_now(Instant::now());
            }
            Command::Proven(block, answer) => {
                let tree = self.machine.tree();
                let txs = self.machine.proven_for_lightning().cloned().collect();
                // Who asked may have gone.
                let _ = answer.send(Proven { tip: tree.tip(), contains: tree.contains(block), txs });
            }
            Command::Unwatch { scripts, done } => {
                // Who registered one of them before this was asked has said so.
                self.drain_inbox();
                self.on(Input::Unwatch { scripts, owners: Owners { wallet: false, lightning: true } });
                // Who asked may have gone.
                let _ = done.send(());
            }
            Command::Forgive { host, done } => {
                let banned = self.disk.insist(|disk| disk.store.unban(&host))?;
                let known = self.pool.forgive(&host, Instant::now());
                tracing::info!(%host, banned, known, "a server is forgiven");
                // Who asked may have gone.
                let _ = done.send(banned || known);
            }
        }
        Ok(())
    }

    /// The next time at which something is to be done by itself.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let machine =
            self.machine.deadline().map(|at| now + Duration::from_millis(at.saturating_sub(clock::wall_millis())));
        let records = (!self.records.is_empty()).then_some(self.records_at);
        let review = self.pool.review_at();
        [machine, self.pool.retry_at(now), self.rotate_due(now), records, review]
            .into_iter()
            .flatten()
            .fold(self.fees_at, Instant::min)
    }

    fn tick(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        self.on(Input::Tick);
        self.pool.review(self.machine.tree().height(), now);
        if now >= self.records_at {
            self.write_records()?;
        }
        if now >= self.fees_at {
            self.fees_at = now + FEES_EVERY;
            for id in self.sessions.keys().copied().collect::<Vec<_>>() {
                self.ask_fees(id);
            }
        }
        if self.rotate_due(now).is_some_and(|due| due <= now) {
            self.rotate_at = now + ROTATE_EVERY;
            tracing::warn!("others are asked: {}", self.caution.alarm());
            self.pool.rotate(now);
        }
        Ok(())
    }

    /// When a server is passed over for another because no block comes; `None` while that is off, or while we have not
    /// worked off what the servers have: that is no silence of theirs.
    fn rotate_due(&self, now: Instant) -> Option<Instant> {
        let alarm = self.caution.alarm();
        let at = match alarm.step {
            _ if alarm.cause != Cause::Coverage && !self.machine.synced() => return None,
            Step::Calm => now + self.caution.next()?,
            _ => self.rotate_at,
        };
        Some(at.max(self.rotate_at))
    }

    /// Says what it does: in the state always, in the log when that is something new or takes long.
    fn publish(&mut self) {
        let now = Instant::now();
        clock::chain_says(self.machine.tree().median_time());
        let state = EngineState::of(&self.machine, &self.pool, now);
        self.caution.behind(state.channels_behind().unwrap_or(0));
        let phase = std::mem::discriminant(&state.phase);
        let turned = phase != std::mem::discriminant(&self.state.borrow().phase);
        let long = now >= self.said_at + SAY_EVERY && matches!(state.phase, Phase::Headers | Phase::Histories);
        if turned || long {
            self.said_at = now;
            let EngineState { phase, height, claimed, pending, watches, .. } = &state;
            tracing::info!(height, claimed, pending, watches, "{phase}");
        }
        self.state.send_if_modified(|present| {
            let changed = *present != state;
            *present = state;
            changed
        });
    }
}

/// As servers write it.
fn shown(script: ScriptHash) -> impl std::fmt::Display {
    let mut bytes = script.0;
    bytes.reverse();
    bytes.to_lower_hex_string()
}

/// Lets the other tasks of this thread go elsewhere while the disk is written to.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // With one thread there is nowhere to go.
        _ => work(),
    }
}
