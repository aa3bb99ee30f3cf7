//! A session: the handle to a connection's task.

use std::sync::Arc;
use std::time::SystemTime;

use bitcoin::Transaction;
use bitcoin::block::Header;
use tokio::sync::mpsc;

use super::super::error::SourceError;
use super::super::fees::FeeClaims;
use super::super::rejection::BroadcastError;
use super::super::road::Way;
use super::super::{BoxFuture, EventSink, Session, SessionInfo};
use super::follow::{Call, Follower};
use super::http::Http;
use crate::chain::io::{Request, SourceId};
use crate::config::ServerAddr;

/// A connection to an Esplora server: HTTP has none, so it lasts until the server fails.
pub(super) struct EsploraSession {
    addr: ServerAddr,
    since: SystemTime,
    http: Arc<Http>,
    calls: mpsc::UnboundedSender<Call>,
}

/// Makes a session that begins with the server's newest headers.
pub(super) fn open(
    addr: &ServerAddr,
    id: SourceId,
    http: Arc<Http>,
    recent: &[(u32, Header)],
    events: EventSink,
) -> (EsploraSession, Follower) {
    let (calls, called) = mpsc::unbounded_channel();
    let follower = Follower::new(id, http.clone(), recent, events, called);
    (EsploraSession { addr: addr.clone(), since: SystemTime::now(), http, calls }, follower)
}

impl EsploraSession {
    /// Sends, and has the mempool looked at for what was sent.
    fn sending(
        &self,
        txs: Vec<Transaction>,
        send: impl Future<Output = Result<(), BroadcastError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), BroadcastError>> {
        let calls = self.calls.clone();
        Box::pin(async move {
            let outcome = send.await;
            if outcome.is_ok() {
                // A dead connection has its `Closed` under way.
                let _ = calls.send(Call::Sent(txs));
            }
            outcome
        })
    }
}

impl Session for EsploraSession {
    fn ask(&self, request: Request) {
        // A dead connection has its `Closed` under way.
        let _ = self.calls.send(Call::Ask(request));
    }

    fn broadcast(&self, tx: &Transaction) -> BoxFuture<'static, Result<(), BroadcastError>> {
        let (http, tx) = (self.http.clone(), tx.clone());
        self.sending(vec![tx.clone()], async move { http.broadcast(&tx).await })
    }

    fn broadcast_package(&self, txs: &[Transaction]) -> BoxFuture<'static, Result<(), BroadcastError>> {
        let (http, txs) = (self.http.clone(), txs.to_vec());
        self.sending(txs.clone(), async move { http.broadcast_package(&txs).await })
    }

    fn fee_claims(&self) -> BoxFuture<'static, Result<FeeClaims, SourceError>> {
        let http = self.http.clone();
        Box::pin(async move { http.fee_claims().await })
    }

    fn info(&self) -> SessionInfo {
        let seen = self.http.seen();
        let way = seen.way.unwrap_or(Way::CLEAR);
        SessionInfo {
            addr: self.addr.clone(),
            software: seen.software,
            protocol: "esplora".into(),
            tls: way.tls,
            peer: way.peer,
            since: self.since,
            latency: self.http.latency(),
        }
    }
}
