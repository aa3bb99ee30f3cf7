//! A session: the handle to a connection's task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::super::error::{NoAnswer, SourceError, Trouble};
use super::super::fees::{FeeClaims, TARGETS};
use super::super::latency::Latency;
use super::super::rejection::{BroadcastError, classify, one_by_one, taken_as_one};
use super::super::road::Way;
use super::super::{BoxFuture, Event, EventSink, Session, SessionInfo};
use super::Limits;
use super::connection::{Call, Connection};
use super::handshake::{Greeting, Protocol};
use super::lines::Wire;
use super::replies;
use crate::chain::io::{Request, SourceId};
use crate::config::ServerAddr;

/// A live connection to an Electrum server.
pub(super) struct ElectrumSession {
    info: SessionInfo,
    latency: Arc<Latency>,
    caller: Caller,
}

/// The part that futures take along.
#[derive(Clone)]
struct Caller {
    calls: mpsc::UnboundedSender<Call>,
    protocol: Protocol,
    /// An electrs answers `estimatefee` with an error, and errors cost: asked once a connection.
    no_estimates: Arc<AtomicBool>,
}

/// A connection whose first event is the tip that the greeting brought.
pub(super) struct Opened {
    connection: Connection,
    first: Event,
}

impl Opened {
    pub(super) async fn run(self) {
        self.connection.run(self.first).await;
    }
}

/// Makes a session out of a greeted connection.
pub(super) fn open(
    addr: &ServerAddr,
    id: SourceId,
    way: Way,
    wire: Wire,
    greeting: Greeting,
    events: EventSink,
    limits: Limits,
) -> (ElectrumSession, Opened) {
    let Greeting { software, protocol, tip: (header, height) } = greeting;
    let info = SessionInfo {
        addr: addr.clone(),
        software,
        protocol: protocol.to_string(),
        tls: way.tls,
        peer: way.peer,
        since: SystemTime::now(),
        latency: Duration::ZERO,
    };
    let latency = Arc::new(Latency::default());
    let (calls, receiver) = mpsc::unbounded_channel();
    let connection = Connection::new(id, wire, events, receiver, limits, latency.clone());
    let caller = Caller { calls, protocol, no_estimates: Arc::default() };
    (ElectrumSession { info, latency, caller }, Opened { connection, first: Event::Tip { header, height } })
}

impl Session for ElectrumSession {
    fn ask(&self, request: Request) {
        // A dead connection has its `Closed` under way.
        let _ = self.caller.calls.send(Call::Ask(request));
    }

    fn broadcast(&self, tx: &Transaction) -> BoxFuture<'static, Result<(), BroadcastError>> {
        let (caller, tx) = (self.caller.clone(), serialize_hex(tx));
        Box::pin(async move { caller.broadcast(&tx).await })
    }

    fn broadcast_package(&self, txs: &[Transaction]) -> BoxFuture<'static, Result<(), BroadcastError>> {
        let (caller, txs) = (self.caller.clone(), txs.iter().map(serialize_hex).collect::<Vec<_>>());
        Box::pin(async move { caller.broadcast_package(&txs).await })
    }

    fn fee_claims(&self) -> BoxFuture<'static, Result<FeeClaims, SourceError>> {
        let caller = self.caller.clone();
        Box::pin(async move { caller.fee_claims().await })
    }

    fn info(&self) -> SessionInfo {
        SessionInfo { latency: self.latency.get(), ..self.info.clone() }
    }
}

impl Caller {
    async fn call(&self, method: &'static str, params: String) -> Result<Box<RawValue>, SourceError> {
        let (waiter, answer) = oneshot::channel();
        let call = Call::Raw { method, params, waiter };
        self.calls.send(call).map_err(|_| Trouble::Closed)?;
        answer.await.map_err(|_| Trouble::Closed)?
    }

    async fn broadcast(&self, tx: &str) -> Result<(), BroadcastError> {
        match self.call("blockchain.transaction.broadcast", format!("[\"{tx}\"]")).await {
            Ok(txid) => Ok(replies::txid(&txid).map(drop)?),
            Err(SourceError::Refused(NoAnswer::Said(error))) => {
                classify(error.text.raw()).map_or(Ok(()), |rejection| Err(rejection.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn broadcast_package(&self, txs: &[String]) -> Result<(), BroadcastError> {
        if self.protocol >= Protocol::V1_6 && txs.len() > 1 {
            let params = format!("[[\"{}\"]]", txs.join("\",\""));
            let answer = self.call("blockchain.transaction.broadcast_package", params).await;
            if taken_as_one(answer.and_then(|answer| replies::package_errors(&answer)))? {
                return Ok(());
            }
        }
        one_by_one(txs.iter().map(|tx| self.broadcast(tx))).await
    }

    async fn fee_claims(&self) -> Result<FeeClaims, SourceError> {
        let mut claims = FeeClaims { relay: self.relay().await?, ..FeeClaims::default() };
        if !self.no_estimates.load(Ordering::Relaxed) {
            for target in TARGETS {
                match self.call("blockchain.estimatefee", format!("[{target}]")).await {
                    Ok(raw) => claims.estimates.extend(replies::rate(&raw).map(|rate| (target, rate))),
                    Err(SourceError::Refused(_)) => {
                        self.no_estimates.store(true, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let histogram = self.call("mempool.get_fee_histogram", "[]".into()).await;
        match histogram.and_then(|raw| replies::histogram(&raw)) {
            Ok(histogram) => claims.histogram = histogram,
            Err(SourceError::Refused(why)) => tracing::debug!("no fee histogram: {why}"),
            Err(error) => return Err(error),
        }
        Ok(claims)
    }

    async fn relay(&self) -> Result<Option<u64>, SourceError> {
        let (method, info) = match self.protocol >= Protocol::V1_6 {
            true => ("mempool.get_info", true),
            false => ("blockchain.relayfee", false),
        };
        match self.call(method, "[]".into()).await {
            Ok(raw) if info => replies::mempool_floor(&raw),
            Ok(raw) => Ok(replies::rate(&raw)),
            Err(SourceError::Refused(why)) => {
                tracing::debug!("no relay fee: {why}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
