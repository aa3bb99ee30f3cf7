//! Connections and what comes of them: servers chosen, lost and banned; fees asked for; transactions sent.

use tokio::time::Instant;

use super::driver::{Done, Engine, EngineError, Round};
use super::outbox::{self, Sending, Sent};
use crate::chain::io::{Input, Owners, Refusal, Request, SourceId};
use crate::clock::unix_now;
use crate::crash::{self, Point};
use crate::source::pool::Fault;
use crate::source::{Connected, Event, FeeClaims, Session, SessionInfo, SourceError, Trouble};

impl Engine {
    /// It lied: cut, and not used again for a month.
    pub(super) fn ban(&mut self, id: SourceId, why: &str) -> Result<(), EngineError> {
        if let Some(session) = self.cut(id) {
            let addr = session.info().addr;
            tracing::error!(server = %addr, %why, "server banned");
            self.fees.forget(&addr.to_string());
        }
        match self.pool.ban(id, why, Instant::now()) {
            Some(ban) => Ok(self.disk.insist(|disk| disk.ban(ban.clone()))?),
            None => Ok(()),
        }
    }

    /// Ends a connection; the machine hears nothing of it any more.
    fn cut(&mut self, id: SourceId) -> Option<Box<dyn Session>> {
        let session = self.sessions.remove(&id)?;
        self.on(Input::Down { source: id });
        Some(session)
    }

    /// Takes what a connection tells.
    pub(super) fn heard(&mut self, id: SourceId, event: Event) -> Result<(), EngineError> {
        // Of a connection that was cut, something may still be under way.
        if !self.sessions.contains_key(&id) {
            return Ok(());
        }
        if let Some(session) = self.sessions.get(&id) {
            self.pool.heard(id, session.info());
        }
        match event {
            Event::Tip { header, height } => {
                self.pool.tip(id, height, header.block_hash(), Instant::now());
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
            SourceError::Transient(Trouble::Deadline(_)) => {
                self.pool.blame(id, Fault::Timeout, Instant::now());
                Refusal::Timeout
            }
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
            Some(ban) => Ok(self.disk.insist(|disk| disk.ban(ban.clone()))?),
            None => Ok(()),
        }
    }

    /// Connects while more servers are wanted and one is ready.
    pub(super) fn dial(&mut self) {
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

    /// Divides the duties anew; true when something has changed.
    pub(super) fn assign(&mut self) -> Result<bool, EngineError> {
        let now = Instant::now();
        if let Some(id) = self.pool.replaceable(now) {
            if let Some(session) = self.cut(id) {
                tracing::info!(server = %session.info().addr, "left for a better one");
            }
            self.pool.back_off(id, "others are better now".to_owned(), now);
            return Ok(true);
        }
        let changed = self.pool.assign(now);
        if changed.iter().any(|(_, serves)| serves.wallet) {
            if let Some(home) = self.pool.home() {
                // Before it is told anything: after a restart it is the same one again.
                self.disk.insist(|disk| disk.home(&home))?;
            }
        }
        for (source, serves) in &changed {
            self.on(Input::Serve { source: *source, serves: *serves });
        }
        Ok(!changed.is_empty())
    }

    /// Takes the outcome of a task.
    pub(super) fn done(&mut self, done: Done) -> Result<(), EngineError> {
        match done {
            Done::Dialed(id, Ok(connected)) => self.connected(id, connected)?,
            Done::Dialed(id, Err(why)) => self.ended(id, &why)?,
            Done::Carried => {}
            Done::Fees(id, Ok(claims)) => self.learn(id, claims)?,
            Done::Fees(id, Err(error)) => {
                if let Some(session) = self.sessions.get(&id) {
                    self.fees.failed(&session.info().addr.to_string(), &error, unix_now());
                }
                self.pool.complain(id, &error);
            }
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
        // What it is told comes with the division of duties.
        self.on(Input::Up { source: id, serves: Owners::default() });
        self.ask_fees(id);
        self.send_outbox()
    }

    /// Asks a server what it claims about fees.
    pub(super) fn ask_fees(&mut self, id: SourceId) {
        if let Some(session) = self.sessions.get(&id) {
            let claims = session.fee_claims();
            self.tasks.spawn(async move { Done::Fees(id, claims.await) });
        }
    }

    fn learn(&mut self, id: SourceId, claims: FeeClaims) -> Result<(), EngineError> {
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let info = session.info();
        let estimated = self.fees.learn(&info.addr.to_string(), &claims, unix_now());
        self.pool.heard(id, info);
        tracing::debug!(rates = ?self.fees.view().rates, estimated, "fee rates");
        let record = self.fees.record();
        Ok(self.disk.insist(|disk| disk.fees(record))?)
    }

    /// Sends all of the outbox to all servers, after the sending that is under way.
    pub(super) fn send_outbox(&mut self) -> Result<(), EngineError> {
        if self.sessions.is_empty() {
            return Ok(());
        }
        if self.outbox != Round::Idle {
            self.outbox = Round::Again;
            return Ok(());
        }
        let height = self.machine.tree().height();
        let mut entries = self.disk.insist(|disk| {
            disk.store.outbox_prune(height)?;
            disk.store.outbox()
        })?;
        // What is in a block needs no sending, and a server would charge for the refusal. After a reorganisation it is
        // not proven any more, and goes out again.
        entries.retain(|entry| !entry.package.iter().all(|tx| self.machine.is_proven(&tx.compute_txid())));
        let sessions = || self.sessions.values().map(AsRef::as_ref);
        let all: Vec<Sending> = entries.iter().map(|entry| Sending::entry(entry, sessions())).collect();
        if !all.is_empty() {
            self.outbox = Round::Running;
            self.tasks.spawn(async move { Done::SentRound(outbox::finish(all).await) });
        }
        Ok(())
    }

    /// Sends one package to all servers, whether it is in the outbox or not.
    pub(super) fn send_now(&mut self, package: &[bitcoin::Transaction]) {
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
            crash::passes(Point::OutboxSent);
            self.disk.insist(|disk| disk.store.outbox_result(sent.txid, sent.verdict(unix_now())))?;
            crash::passes(Point::OutboxNoted);
        }
        Ok(())
    }

    /// Ends all connections; their servers are tried again later.
    pub(super) fn leave_all(&mut self, why: &str) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.cut(id);
            self.pool.back_off(id, why.to_owned(), Instant::now());
        }
    }
}
