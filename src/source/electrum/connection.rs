//! The task that owns a connection: one loop, no locks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bitcoin::TxMerkleNode;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};

use super::super::error::{NoAnswer, SourceError, Trouble};
use super::super::latency::Latency;
use super::super::{Event, EventSink};
use super::Limits;
use super::lines::Wire;
use super::replies::{self, first_of, pushed_status, pushed_tip, read_reply, transaction};
use super::wire::{Message, parse_line};
use crate::chain::io::{Coinbase, Reply, Request, SourceId};

/// Works everywhere; more does not.
const IN_FLIGHT: usize = 8;
/// Pushes taken at once, and then each second. A block touches each of our scripts once at most.
const PUSH_BURST: f32 = 5000.0;
const PUSHES_A_SECOND: f32 = 20.0;

/// A question on its way to the server.
pub(super) enum Call {
    /// Answered by an event.
    Ask(Request),
    /// Answered to one who waits; goes first.
    Raw { method: &'static str, params: String, waiter: Waiter },
}

/// One who waits for a raw result.
pub(super) type Waiter = oneshot::Sender<Result<Box<RawValue>, SourceError>>;

/// What is in flight.
struct Pending {
    to: To,
    sent: Instant,
}

enum To {
    Event(Request),
    /// The body of a block's first transaction, whose branch came before; to be the answer to the request.
    Coinbase(Request, Vec<TxMerkleNode>),
    Waiter(Waiter),
    Nobody,
}

/// A live connection, to be run.
pub(super) struct Connection {
    pub(super) id: SourceId,
    pub(super) wire: Wire,
    pub(super) events: EventSink,
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    pub(super) limits: Limits,
    pub(super) latency: Arc<Latency>,
    flight: Flight,
}

/// What waits and what is under way.
struct Flight {
    urgent: VecDeque<Call>,
    queued: VecDeque<Call>,
    /// By number, and so by age.
    pending: BTreeMap<u64, Pending>,
    /// When the last request was sent.
    sent: Instant,
    /// When the last whole line came.
    heard: Instant,
    pushes: Pushes,
}

/// A leaky bucket of pushes.
struct Pushes {
    room: f32,
    at: Instant,
}

impl Connection {
    pub(super) fn new(
        id: SourceId,
        wire: Wire,
        events: EventSink,
        calls: mpsc::UnboundedReceiver<Call>,
        limits: Limits,
        latency: Arc<Latency>,
    ) -> Self {
        let now = Instant::now();
        let flight = Flight {
            urgent: VecDeque::new(),
            queued: VecDeque::new(),
            pending: BTreeMap::new(),
            sent: now,
            heard: now,
            pushes: Pushes { room: PUSH_BURST, at: now },
        };
        Self { id, wire, events, calls, limits, latency, flight }
    }

    /// Runs until the connection is over or its session is dropped; then says why, to everybody who waits.
    pub(super) async fn run(mut self, first: Event) {
        let events = self.events.clone();
        let reason = match events.send((self.id, first)).await {
            Ok(()) => self.carry(&events).await,
            Err(_) => None,
        };
        let Some(reason) = reason else { return };
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            self.flight.take(call);
        }
        self.flight.fail_all(&reason);
        // When nobody listens any more, nobody needs to know.
        let _ = events.send((self.id, Event::Closed(reason))).await;
    }

    /// `None`: the session was dropped, or nobody listens.
    async fn carry(&mut self, events: &EventSink) -> Option<SourceError> {
        loop {
            let paused = Instant::now();
            let permit = events.reserve().await.ok()?;
            // While the engine was busy we did not listen: that time is not the server's.
            self.flight.shift(paused.elapsed());
            match self.next_event().await {
                Ok(Some(event)) => permit.send((self.id, event)),
                Ok(None) => return None,
                Err(reason) => return Some(reason),
            }
        }
    }

    async fn next_event(&mut self) -> Result<Option<Event>, SourceError> {
        loop {
            self.flight.depart(&mut self.wire);
            let wake = self.flight.wake(&self.limits);
            tokio::select! {
                line = self.wire.lines.next() => {
                    if let Some(event) = self.hear(&line?)? {
                        return Ok(Some(event));
                    }
                }
                // Ends with an error only; it is pending when all is written.
                written = self.wire.out.drain() => written?,
                call = self.calls.recv() => match call {
                    Some(call) => self.flight.take(call),
                    None => return Ok(None),
                },
                () = sleep_until(wake) => {
                    if let Some(event) = self.flight.tick(&mut self.wire, &self.limits)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Takes a whole line.
    fn hear(&mut self, line: &[u8]) -> Result<Option<Event>, SourceError> {
        let now = Instant::now();
        let message = parse_line(line).map_err(|garbled| Trouble::Garbled(garbled.0))?;
        let (id, outcome) = match message {
            Message::Answer { id, outcome } => (id, outcome),
            Message::Notification { method, params } => {
                self.flight.pushes.count(now)?;
                return pushed(&method, params);
            }
            Message::Complaint(error) => {
                tracing::debug!("a server complains: {error}");
                return Err(Trouble::Garbled("an error that belongs to no request").into());
            }
            Message::Blank => return Ok(None),
        };
        self.flight.heard = now;
        let Some(Pending { to, sent }) = self.flight.pending.remove(&id) else {
            // An answer after its deadline is of no use; one to a question never asked is no protocol.
            return match self.wire.asked(id) {
                true => Ok(None),
                false => Err(Trouble::Garbled("an answer to no question").into()),
            };
        };
        self.latency.measure(now.duration_since(sent));
        let outcome = outcome.map_err(|error| SourceError::from(NoAnswer::Said(error)));
        match to {
            To::Event(request @ Request::Coinbase { .. }) => match outcome.and_then(first_of) {
                Ok((txid, branch)) => {
                    let (method, params) = replies::method(&Request::Transaction { txid });
                    let id = self.wire.request(method, &params);
                    self.flight.depart_as(id, To::Coinbase(request, branch));
                    Ok(None)
                }
                Err(error) => Ok(Some(Event::Answer { request, reply: Err(error) })),
            },
            To::Event(request) => {
                let reply = outcome.and_then(|raw| read_reply(&request, raw));
                Ok(Some(Event::Answer { request, reply }))
            }
            To::Coinbase(request, branch) => {
                let body = outcome.and_then(transaction).map(Arc::new);
                let reply = body.map(|tx| Reply::Coinbase(Coinbase { tx, branch }));
                Ok(Some(Event::Answer { request, reply }))
            }
            To::Waiter(waiter) => {
                // Who gave up waiting does not need it.
                let _ = waiter.send(outcome.map(RawValue::to_owned));
                Ok(None)
            }
            To::Nobody => Ok(None),
        }
    }
}

/// A push of ours, well-formed; anything else that is pushed is noise (ElectrumX makes some on purpose).
fn pushed(method: &str, params: &RawValue) -> Result<Option<Event>, SourceError> {
    let bad = |_| Trouble::Garbled("a malformed notification");
    Ok(match method {
        "blockchain.headers.subscribe" => {
            let (header, height) = pushed_tip(params).map_err(bad)?;
            Some(Event::Tip { header, height })
        }
        "blockchain.scripthash.subscribe" => {
            let (script, status) = pushed_status(params).map_err(bad)?;
            Some(Event::Status { script, status })
        }
        _ => None,
    })
}

impl Flight {
    fn take(&mut self, call: Call) {
        match call {
            Call::Raw { .. } => self.urgent.push_back(call),
            Call::Ask(_) => self.queued.push_back(call),
        }
    }

    /// Sends what may be sent.
    fn depart(&mut self, wire: &mut Wire) {
        while self.pending.len() < IN_FLIGHT {
            let Some(call) = self.urgent.pop_front().or_else(|| self.next_queued()) else { return };
            let (id, to) = match call {
                Call::Raw { method, params, waiter } => (wire.request(method, &params), To::Waiter(waiter)),
                Call::Ask(request) => {
                    let (method, params) = replies::method(&request);
                    (wire.request(method, &params), To::Event(request))
                }
            };
            self.depart_as(id, to);
        }
    }

    fn depart_as(&mut self, id: u64, to: To) {
        self.sent = Instant::now();
        self.pending.insert(id, Pending { to, sent: self.sent });
    }

    /// The next question that is not a subscription already in flight.
    fn next_queued(&mut self) -> Option<Call> {
        let in_flight = |call: &Call| match call {
            Call::Ask(request @ Request::Subscribe { .. }) => {
                self.pending.values().any(|pending| matches!(&pending.to, To::Event(other) if other == request))
            }
            Call::Ask(_) | Call::Raw { .. } => false,
        };
        let free = self.queued.iter().position(|call| !in_flight(call))?;
        self.queued.remove(free)
    }

    /// When something is to be done without anything being heard.
    fn wake(&self, limits: &Limits) -> Instant {
        match self.pending.first_key_value() {
            Some((_, oldest)) => oldest.sent + limits.request,
            None => self.sent + limits.ping,
        }
    }

    fn tick(&mut self, wire: &mut Wire, limits: &Limits) -> Result<Option<Event>, SourceError> {
        let now = Instant::now();
        let Some(oldest) = self.pending.first_entry() else {
            if now >= self.sent + limits.ping {
                let id = wire.request("server.ping", "[]");
                self.depart_as(id, To::Nobody);
            }
            return Ok(None);
        };
        if now < oldest.get().sent + limits.request {
            return Ok(None);
        }
        // Nothing whole since it was sent: the connection is of no use to anybody.
        if self.heard <= oldest.get().sent {
            return Err(Trouble::Silent(limits.request).into());
        }
        let late = SourceError::from(Trouble::Deadline(limits.request));
        Ok(match oldest.remove().to {
            To::Event(request) | To::Coinbase(request, _) => Some(Event::Answer { request, reply: Err(late) }),
            To::Waiter(waiter) => {
                // Who gave up waiting does not need it.
                let _ = waiter.send(Err(late));
                None
            }
            To::Nobody => None,
        })
    }

    fn shift(&mut self, by: Duration) {
        for pending in self.pending.values_mut() {
            pending.sent += by;
        }
    }

    fn fail_all(&mut self, reason: &SourceError) {
        let waiting = self.urgent.drain(..).filter_map(|call| match call {
            Call::Raw { waiter, .. } => Some(waiter),
            Call::Ask(_) => None,
        });
        let flying = std::mem::take(&mut self.pending).into_values().filter_map(|pending| match pending.to {
            To::Waiter(waiter) => Some(waiter),
            To::Event(_) | To::Coinbase(..) | To::Nobody => None,
        });
        for waiter in waiting.chain(flying) {
            // Who gave up waiting does not need it.
            let _ = waiter.send(Err(reason.clone()));
        }
    }
}

impl Pushes {
    fn count(&mut self, now: Instant) -> Result<(), Trouble> {
        let regained = now.duration_since(self.at).as_secs_f32() * PUSHES_A_SECOND;
        self.room = (self.room + regained).min(PUSH_BURST) - 1.0;
        self.at = now;
        if self.room < 0.0 { Err(Trouble::Flood) } else { Ok(()) }
    }
}
