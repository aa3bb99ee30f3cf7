//! The task that follows a server: one loop, no locks. It asks, keeps the [`Book`], and tells what is new.
//!
//! Requests run as tasks of their own and come back as [`Done`]; the book changes only here. An answer that was under
//! way while the chain moved is asked for again: it may or may not know of the block.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Transaction};
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::super::error::{NoAnswer, SourceError, Trouble};
use super::super::{Event, EventSink};
use super::book::{Book, Fetched};
use super::chase::Chase;
use super::http::Http;
use super::replies::Listed;
use super::timetable::Timetable;
use crate::chain::io::{Reply, Request, ScriptHash, SourceId};

/// Histories fetched at once.
const FETCHES: usize = 4;
/// So many requests without an answer, one after another, and the server is left.
const TROUBLES: u32 = 3;

/// Something for the task to do.
pub(super) enum Call {
    /// Answered by an event.
    Ask(Request),
    /// The server took these: they will be in its mempool.
    Sent(Vec<Transaction>),
}

/// A request that came back.
pub(super) enum Done {
    Tip(Result<BlockHash, SourceError>),
    Newer(Result<Vec<(u32, Header)>, SourceError>),
    Block(BlockHash, Result<Bytes, SourceError>),
    /// With the epoch of the book in which it was asked for.
    Script(ScriptHash, u64, Result<Fetched, SourceError>),
    Mempool(ScriptHash, Result<Vec<Listed>, SourceError>),
    Answer(Request, Result<Reply, SourceError>),
}

/// Follows one server, to be run.
pub(super) struct Follower {
    id: SourceId,
    pub(super) http: Arc<Http>,
    events: EventSink,
    calls: mpsc::UnboundedReceiver<Call>,
    pub(super) book: Book,
    pub(super) table: Timetable,
    pub(super) chase: Chase,
    pub(super) jobs: JoinSet<Done>,
    /// Histories that are wanted, and the questions that wait for them.
    fetches: HashMap<ScriptHash, Vec<Request>>,
    /// Of these, the ones that are not being fetched.
    queue: VecDeque<ScriptHash>,
    fetching: usize,
    /// To be told, in this order.
    out: VecDeque<Event>,
}

impl Follower {
    pub(super) fn new(
        id: SourceId,
        http: Arc<Http>,
        recent: &[(u32, Header)],
        events: EventSink,
        calls: mpsc::UnboundedReceiver<Call>,
    ) -> Self {
        let table = Timetable::new(http.limits().poll, Instant::now());
        let tip = recent.last().map(|(height, header)| Event::Tip { header: *header, height: *height });
        Self {
            id,
            http,
            events,
            calls,
            book: Book::new(recent),
            table,
            chase: Chase::default(),
            jobs: JoinSet::new(),
            fetches: HashMap::new(),
            queue: VecDeque::new(),
            fetching: 0,
            out: tip.into_iter().collect(),
        }
    }

    /// Runs until the server fails or the session is dropped; then says why.
    pub(super) async fn run(mut self) {
        if let Err(Some(reason)) = self.carry().await {
            // When nobody listens any more, nobody needs to know.
            let _ = self.events.send((self.id, Event::Closed(reason))).await;
        }
    }

    /// Ends with the reason, or with none: the session was dropped, or nobody listens.
    async fn carry(&mut self) -> Result<std::convert::Infallible, Option<SourceError>> {
        loop {
            while let Some(event) = self.out.pop_front() {
                self.events.send((self.id, event)).await.map_err(|_| None)?;
            }
            self.depart();
            let wake = self.table.wake(Instant::now());
            tokio::select! {
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(done).map_err(Some)?,
                    Err(died) => {
                        let died = std::io::Error::other(died);
                        return Err(Some(Trouble::Broken(Arc::new(died)).into()));
                    }
                },
                call = self.calls.recv() => match call {
                    Some(Call::Ask(request)) => self.ask(request),
                    Some(Call::Sent(txs)) => self.sent(&txs),
                    None => return Err(None),
                },
                () = sleep_until(wake), if self.chase.is_idle() => {}
            }
        }
    }

    /// Starts what is due.
    fn depart(&mut self) {
        let now = Instant::now();
        if self.chase.is_idle() {
            if self.table.tip_is_due(now) {
                self.look_at_tip();
            }
            for script in self.table.looks(self.book.pending(), now) {
                let http = self.http.clone();
                self.jobs.spawn(async move { Done::Mempool(script, http.mempool(script).await) });
            }
        }
        while self.fetching < FETCHES {
            let Some(script) = self.queue.pop_front() else { return };
            self.fetching += 1;
            let (http, epoch, places) = (self.http.clone(), self.book.epoch(), self.book.places(&script));
            self.jobs.spawn(async move { Done::Script(script, epoch, http.script(script, places).await) });
        }
    }

    fn done(&mut self, done: Done) -> Result<(), SourceError> {
        match done {
            Done::Tip(outcome) => self.tip_came(outcome),
            Done::Newer(outcome) => self.newer_came(outcome),
            Done::Block(hash, outcome) => self.block_came(hash, outcome),
            Done::Script(script, epoch, outcome) => self.script_came(script, epoch, outcome),
            Done::Mempool(script, outcome) => {
                match self.harmless(outcome)? {
                    Some(listed) if self.book.differs(&script, &listed) => self.want(script, None),
                    _ => {}
                }
                Ok(())
            }
            Done::Answer(request, outcome) => {
                let reply = match outcome {
                    Err(error) if self.is_fatal(&error) => return Err(error),
                    reply => reply,
                };
                self.say(Event::Answer { request, reply });
                Ok(())
            }
        }
    }

    fn ask(&mut self, request: Request) {
        let at_hand = match request {
            Request::Subscribe { script } => {
                if !self.book.follows(&script) {
                    self.book.follow(script);
                    self.table.add(script);
                }
                return self.want(script, Some(request));
            }
            Request::History { script } => match self.book.history(&script) {
                Some(entries) => Some(Reply::History(entries)),
                None => return self.want(script, Some(request)),
            },
            Request::Transaction { txid } => self.book.body(&txid),
            Request::Proof { txid, height } => self.book.proof(txid, height),
            Request::Headers { .. } | Request::Coinbase { .. } => None,
        };
        match at_hand {
            Some(reply) => self.say(Event::Answer { request, reply: Ok(reply) }),
            None => {
                let http = self.http.clone();
                self.jobs.spawn(async move {
                    let reply = http.answer(&request).await;
                    Done::Answer(request, reply)
                });
            }
        }
    }

    /// What was sent will be in the mempool, of our scripts too.
    fn sent(&mut self, txs: &[Transaction]) {
        for script in txs.iter().flat_map(|tx| self.book.concerned(tx)) {
            self.table.want(script);
        }
    }

    /// Has a script's history fetched; a question may wait for it.
    pub(super) fn want(&mut self, script: ScriptHash, asked: Option<Request>) {
        let queue = &mut self.queue;
        let waiting = self.fetches.entry(script).or_insert_with(|| {
            queue.push_back(script);
            Vec::new()
        });
        waiting.extend(asked);
    }

    fn script_came(
        &mut self,
        script: ScriptHash,
        epoch: u64,
        outcome: Result<Fetched, SourceError>,
    ) -> Result<(), SourceError> {
        self.fetching -= 1;
        if epoch != self.book.epoch() && outcome.is_ok() {
            self.queue.push_back(script);
            return Ok(());
        }
        let asked = self.fetches.remove(&script).unwrap_or_default();
        match outcome {
            Ok(fetched) => {
                let now = Instant::now();
                let learnt = self.book.learn(script, fetched);
                if learnt.ahead {
                    self.table.tip_now(now);
                }
                if learnt.moved {
                    self.table.mempool_moved(now);
                }
                for request in asked {
                    let reply = match request {
                        Request::Subscribe { .. } => Reply::Status(self.book.tell(script)),
                        _ => Reply::History(self.book.history(&script).unwrap_or_default()),
                    };
                    self.say(Event::Answer { request, reply: Ok(reply) });
                }
            }
            Err(error) if self.is_fatal(&error) => return Err(error),
            Err(error) => {
                // Nobody asked: then it has to be said in another way, or tried again.
                match error {
                    SourceError::Refused(_) if asked.is_empty() => self.book.lose(script),
                    _ if asked.is_empty() => self.want(script, None),
                    _ => {}
                }
                for request in asked {
                    self.say(Event::Answer { request, reply: Err(error.clone()) });
                }
            }
        }
        if !self.fetches.contains_key(&script) {
            self.jumped_for(script);
        }
        self.tell_news();
        Ok(())
    }

    /// Tells statuses that have changed, unless the chain they belong to has not been told yet.
    pub(super) fn tell_news(&mut self) {
        if !self.chase.withholds() {
            for (script, status) in self.book.news() {
                self.say(Event::Status { script, status });
            }
        }
    }

    pub(super) fn say(&mut self, event: Event) {
        self.out.push_back(event);
    }

    /// An outcome without which things go on.
    pub(super) fn harmless<T>(&self, outcome: Result<T, SourceError>) -> Result<Option<T>, SourceError> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.is_fatal(&error) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "a question to an Esplora server has no answer");
                Ok(None)
            }
        }
    }

    /// True when the server is to be left for it.
    pub(super) fn is_fatal(&self, error: &SourceError) -> bool {
        match error {
            SourceError::Refused(NoAnswer::Said(_) | NoAnswer::Malformed(_)) => false,
            SourceError::Transient(Trouble::Deadline(_) | Trouble::Closed | Trouble::Broken(_)) => {
                self.http.troubles() >= TROUBLES
            }
            SourceError::Transient(_) | SourceError::Lying(_) | SourceError::Unusable(_) => true,
        }
    }
}
