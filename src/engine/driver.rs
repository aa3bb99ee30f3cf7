//! The loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::disk::Disk;
use super::fees::FeeBook;
use super::handle::{Command, EngineHandle};
use super::outbox::{self, Sending, Sent};
use super::state::{EngineState, Phase, Tip};
use super::{DeliveryError, Listener};
use crate::chain::io::{Action, Input, Plan, Refusal, Report, Request, SourceId, Watch};
use crate::chain::machine::Machine;
use crate::source::pool::{Pool, Role};
use crate::source::{
    Connected, EVENT_CAPACITY, Event, EventSink, FeeClaims, Session, SessionInfo, SourceError, Trouble,
};
use crate::store::{Store, StoreError};
use crate::task::Shutdown;

/// How often servers are asked about fees.
const FEES_EVERY: Duration = Duration::from_secs(600);
/// Without a new block for so long, another server is asked (six blocks' time; once in 400 blocks it is only chance).
const STALE: Duration = Duration::from_secs(3600);

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
    machine: Machine,
    pool: Pool,
    disk: Disk,
    listeners: Vec<Arc<dyn Listener>>,
    inbox: mpsc::UnboundedReceiver<Watch>,
    fees: FeeBook,
    commands: mpsc::UnboundedReceiver<Command>,
    state: watch::Sender<EngineState>,
    sessions: BTreeMap<SourceId, Box<dyn Session>>,
    sink: EventSink,
    events: mpsc::Receiver<(SourceId, Event)>,
    tasks: JoinSet<Done>,
    outbox: Round,
    fees_at: Instant,
    block_at: Instant,
}

/// A task of the engine that is done.
enum Done {
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
enum Round {
    Idle,
    Running,
    /// And it is to be sent once more.
    Again,
}

impl Engine {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Result<(Self, EngineHandle), StoreError> {
        let Parts { machine, pool, store, listeners, inbox, fees } = parts;
        let (commands, commanded) = mpsc::unbounded_channel();
        let (sink, events) = mpsc::channel(EVENT_CAPACITY);
        let (state, watched) = watch::channel(EngineState::default());
        let now = Instant::now();
        let engine = Self {
            machine,
            pool,
            disk: Disk::open(store)?,
            listeners,
            inbox,
            fees,
            commands: commanded,
            state,
            sessions: BTreeMap::new(),
            sink,
            events,
            tasks: JoinSet::new(),
            outbox: Round::Idle,
            fees_at: now + FEES_EVERY,
            block_at: now,
        };
        engine.publish();
        Ok((engine, EngineHandle { commands, state: watched }))
    }

    /// Runs until shutdown, or until something happens that must stop the process.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), EngineError> {
        // What is not watched when the first server is up cannot hold a delivery back.
        self.drain_inbox();
        loop {
            self.perform()?;
            self.dial();
            self.publish();
            let wake = self.wake();
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
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

    fn on(&mut self, input: Input) {
        self.machine.on(input, unix_millis());
    }

    fn drain_inbox(&mut self) {
        while let Ok(watch) = self.inbox.try_recv() {
            self.on(Input::Watch(watch));
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
                    blocking(|| self.disk.headers(from, &headers, fork))?;
                }
                Action::StoreOlderHeaders { from, headers } => {
                    blocking(|| self.disk.store.prepend_headers(from, &headers))?;
                }
                Action::StoreHistory(record) => blocking(|| self.disk.store.store_history(&record))?,
                Action::Deliver(plan) => self.deliver(&plan)?,
                Action::Report { source, report } => self.report(source, report)?,
            }
        }
        Ok(())
    }

    fn deliver(&mut self, plan: &Plan) -> Result<(), EngineError> {
        let tree = self.machine.tree();
        blocking(|| {
            self.listeners.iter().try_for_each(|listener| listener.deliver(plan, tree))?;
            match plan.told() {
                Some(tip) => self.disk.delivered(tip, plan.fork.is_some()).map_err(EngineError::from),
                None => Ok(()),
            }
        })?;
        self.drain_inbox();
        self.on(Input::Delivered);
        if let Some((header, height)) = plan.tip {
            tracing::info!(height, hash = %header.block_hash(), "new best block");
            self.block_at = Instant::now();
            self.send_outbox()?;
        }
        Ok(())
    }

    fn report(&mut self, id: SourceId, report: Report) -> Result<(), EngineError> {
        match report {
            Report::Lie(lie) => {
                let why = format!("it lied: {lie:?}");
                self.ban(id, &why)
            }
            Report::Degraded { script } => {
                tracing::warn!(?script, "the server does not serve the whole history of a script");
                Ok(())
            }
            Report::Recovered { script } => {
                tracing::info!(?script, "the server serves the whole history of a script again");
                Ok(())
            }
        }
    }

    fn ban(&mut self, id: SourceId, why: &str) -> Result<(), EngineError> {
        if let Some(session) = self.cut(id) {
            tracing::error!(server = %session.info().addr, %why, "server banned");
        }
        match self.pool.ban(id, why) {
            Some(ban) => Ok(blocking(|| self.disk.ban(ban))?),
            None => Ok(()),
        }
    }

    /// Ends a connection; the machine hears nothing of it any more.
    fn cut(&mut self, id: SourceId) -> Option<Box<dyn Session>> {
        let session = self.sessions.remove(&id)?;
        self.on(Input::Down { source: id });
        Some(session)
    }

    fn heard(&mut self, id: SourceId, event: Event) -> Result<(), EngineError> {
        // Of a connection that was cut, something may still be under way.
        if !self.sessions.contains_key(&id) {
            return Ok(());
        }
        match event {
            Event::Tip { header, height } => {
                self.pool.tip(id, height);
                self.on(Input::Tip { source: id, header, height });
            }
            Event::Status { script, status } => self.on(Input::Status { source: id, script, status }),
            Event::Answer { request, reply: Ok(reply) } => {
                self.on(Input::Answer { source: id, request, reply: Ok(reply) });
            }
            Event::Answer { request, reply: Err(error) } => self.refused(id, request, &error)?,
            Event::Closed(why) => self.ended(id, &why)?,
        }
        Ok(())
    }

    fn refused(&mut self, id: SourceId, request: Request, error: &SourceError) -> Result<(), EngineError> {
        tracing::debug!(?request, %error, "a request was not answered");
        if let SourceError::Lying(breach) = error {
            return self.ban(id, &breach.to_string());
        }
        self.pool.complain(id, error);
        let refusal = match error {
            SourceError::Transient(Trouble::Deadline(_)) => Refusal::Timeout,
            _ => Refusal::Error,
        };
        self.on(Input::Answer { source: id, request, reply: Err(refusal) });
        Ok(())
    }

    /// A connection could not be made, or is over.
    fn ended(&mut self, id: SourceId, why: &SourceError) -> Result<(), EngineError> {
        if let Some(session) = self.cut(id) {
            tracing::warn!(server = %session.info().addr, %why, "lost a server");
        }
        match self.pool.ended(id, why, Instant::now()) {
            Some(ban) => Ok(blocking(|| self.disk.ban(ban))?),
            None => Ok(()),
        }
    }

    /// Connects while more servers are wanted and one is ready.
    fn dial(&mut self) {
        while let Some((id, source)) = self.pool.next(Instant::now()) {
            tracing::info!(server = %source.addr(), "connecting");
            let sink = self.sink.clone();
            self.tasks.spawn(async move {
                let outcome = source.connect(id, sink).await;
                if let Err(why) = &outcome {
                    tracing::warn!(server = %source.addr(), %why, "could not connect");
                }
                Done::Dialed(id, outcome)
            });
        }
    }

    fn done(&mut self, done: Done) -> Result<(), EngineError> {
        match done {
            Done::Dialed(id, Ok(connected)) => self.connected(id, connected)?,
            Done::Dialed(id, Err(why)) => self.ended(id, &why)?,
            Done::Carried => {}
            Done::Fees(id, Ok(claims)) => self.learn(id, claims)?,
            Done::Fees(id, Err(error)) => self.pool.complain(id, &error),
            Done::Sent(sent) => self.sent(sent)?,
            Done::SentRound(sent) => {
                self.sent(sent)?;
                if std::mem::replace(&mut self.outbox, Round::Idle) == Round::Again {
                    self.send_outbox()?;
                }
            }
        }
        Ok(())
    }

    fn connected(&mut self, id: SourceId, connected: Connected) -> Result<(), EngineError> {
        let Connected { session, task } = connected;
        let info = session.info();
        let SessionInfo { addr, software, protocol, tls, .. } = &info;
        tracing::info!(server = %addr, %software, %protocol, ?tls, "connected");
        self.pool.connected(id, info, Instant::now());
        self.sessions.insert(id, session);
        self.tasks.spawn(async move {
            task.await;
            Done::Carried
        });
        self.on(Input::Up { source: id });
        self.block_at = Instant::now();
        self.ask_fees(id);
        self.send_outbox()
    }

    fn ask_fees(&mut self, id: SourceId) {
        if let Some(session) = self.sessions.get(&id) {
            let claims = session.fee_claims();
            self.tasks.spawn(async move { Done::Fees(id, claims.await) });
        }
    }

    fn learn(&mut self, id: SourceId, claims: FeeClaims) -> Result<(), EngineError> {
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let info = session.info();
        let record = self.fees.learn(info.addr.host(), claims, unix_now());
        self.pool.refresh(id, info);
        tracing::debug!(rates = ?self.fees.view().rates, estimated = record.is_some(), "fee rates");
        match record {
            Some(record) => Ok(blocking(|| self.disk.fees(&record))?),
            None => Ok(()),
        }
    }

    /// Sends all of the outbox to all servers, after the sending that is under way.
    fn send_outbox(&mut self) -> Result<(), EngineError> {
        if self.sessions.is_empty() {
            return Ok(());
        }
        if self.outbox != Round::Idle {
            self.outbox = Round::Again;
            return Ok(());
        }
        let entries = blocking(|| self.disk.store.outbox())?;
        let sessions = || self.sessions.values().map(AsRef::as_ref);
        let all: Vec<Sending> = entries.iter().map(|entry| Sending::entry(entry, sessions())).collect();
        if !all.is_empty() {
            self.outbox = Round::Running;
            self.tasks.spawn(async move { Done::SentRound(outbox::finish(all).await) });
        }
        Ok(())
    }

    fn send_now(&mut self, package: &[bitcoin::Transaction]) {
        if self.sessions.is_empty() {
            tracing::warn!("a transaction waits in the outbox: no server is connected");
            return;
        }
        if let Some(sending) = Sending::now(package, self.sessions.values().map(AsRef::as_ref)) {
            self.tasks.spawn(async move { Done::Sent(outbox::finish(vec![sending]).await) });
        }
    }

    fn sent(&mut self, all: Vec<Sent>) -> Result<(), EngineError> {
        for sent in all.into_iter().filter(|sent| sent.changed) {
            match sent.accepted {
                true => tracing::info!(txid = %sent.txid, "transaction sent"),
                false => {
                    tracing::warn!(txid = %sent.txid, why = %sent.note, "transaction not taken, it is sent again")
                }
            }
            blocking(|| self.disk.store.outbox_result(sent.txid, sent.verdict(unix_now())))?;
        }
        Ok(())
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
        }
        Ok(())
    }

    fn leave_all(&mut self, why: &str) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.cut(id);
            self.pool.back_off(id, why.to_owned(), Instant::now());
        }
    }

    /// The next time at which something is to be done by itself.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let machine =
            self.machine.deadline().map(|at| now + Duration::from_millis(at.saturating_sub(unix_millis())));
        let stale = self.others_ready(now).then_some(self.block_at + STALE);
        [machine, self.pool.retry_at(now), stale].into_iter().flatten().fold(self.fees_at, Instant::min)
    }

    fn tick(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        self.on(Input::Tick);
        if now >= self.fees_at {
            self.fees_at = now + FEES_EVERY;
            for id in self.sessions.keys().copied().collect::<Vec<_>>() {
                self.ask_fees(id);
            }
        }
        if now >= self.block_at + STALE && self.others_ready(now) {
            self.block_at = now;
            tracing::warn!("no new block for an hour: asking another server");
            self.leave_all("it knew of no new block for an hour");
        }
        Ok(())
    }

    /// Whether there is another server to go to.
    fn others_ready(&self, now: Instant) -> bool {
        !self.sessions.is_empty() && self.pool.status(now).iter().any(|server| server.role == Role::Standby)
    }

    fn publish(&self) {
        let now = Instant::now();
        let progress = self.machine.progress();
        let servers = self.pool.status(now);
        let phase = if progress.serving.is_some() {
            match progress.claimed {
                Some(claimed) if claimed <= progress.height && self.machine.synced() => Phase::Synced,
                Some(claimed) if claimed <= progress.height => Phase::Histories,
                _ => Phase::Headers,
            }
        } else if servers.iter().any(|server| server.role == Role::Connecting) {
            Phase::Connecting
        } else {
            let until = servers.iter().filter_map(|server| match server.role {
                Role::BackingOff { until } | Role::Unusable { until, .. } => Some(until),
                Role::InUse | Role::Connecting | Role::Standby | Role::Banned { .. } => None,
            });
            until.min().map_or(Phase::NoServer, |until| Phase::Waiting { until })
        };
        let tip = self.machine.tree().header_at(progress.height).map(|header| Tip {
            height: progress.height,
            hash: header.block_hash(),
            time: header.time,
        });
        let state = EngineState {
            phase,
            tip,
            claimed: progress.claimed,
            watches: progress.watches,
            pending: progress.pending,
            degraded: progress.degraded,
            clock_behind: progress.clock_behind,
            servers,
        };
        self.state.send_if_modified(|present| {
            let changed = *present != state;
            *present = state;
            changed
        });
    }
}

/// Lets the other tasks of this thread go elsewhere while the disk is written to.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // With one thread there is nowhere to go.
        _ => work(),
    }
}

/// Unix time in milliseconds. A clock before 1970 is taken as 1970; the machine notices that it is wrong.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn unix_now() -> u64 {
    unix_millis() / 1000
}
