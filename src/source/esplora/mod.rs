//! Esplora servers (Blockstream's and mempool's HTTP API, github.com/Blockstream/esplora/blob/master/API.md), spoken to
//! as if they pushed.
//!
//! Contract (Esplora's `electrs`, `rest.rs`; mempool's fork of it):
//! - `/blocks[/:height]` lists ten headers with all fields, newest first; a height above the tip is a 404.
//! - `/scripthash/:hash/txs` lists up to 50 unconfirmed and 25 confirmed transactions, newest first, within a block in no
//!   order that means anything; `/txs/chain/:last` the next 25. The hash is in its own byte order, not Electrum's.
//! - Errors are plain text with a status; a rejected transaction is a 400 with the node's words. A 429 may have JSON
//!   where a hash is expected: the status is looked at first.
//! - One public service limits to about 700 requests an hour.
//!
//! Decision: the session asks for the tip's hash once in a poll interval (a minute; a quarter of it after news), and
//! fetches each new block **whole** (`/block/:hash/raw`). One request tells all about every followed script, proves by the
//! header's root that nothing was left out, names no script of ours, and is answered from a cache of the server; bodies
//! and merkle proofs of what is found come with it. Between blocks, four scripts a poll are asked for what they have
//! in the mempool. So an idle hour costs 60 requests for the tip, at most 240 for the mempool and 12 for fees, a block
//! one more, whether it has something of ours or not; subscribing costs one request a script.
//! Rejected: what LDK's and BDK's Esplora clients do, a request for each watched output or script at each block, which
//! for 200 scripts is twice what a public server allows; and `/scripthash/:hash` counts spread over time, which tell a
//! spend hours after its block. Cost: the bytes of the blocks, about 2 MB each or 250 MB a day; who pays for traffic
//! takes an Electrum server. An unconfirmed deposit to one of many addresses may be seen only with its block.
//!
//! Decision: `esplora-client` gives the shapes of the replies; the requests are made here. Its own clients follow
//! redirects, read bodies up to a gigabyte, hide `Retry-After`, know no SOCKS proxy and no pinned key. hyper is linked for
//! the API anyway, and the streams are those of the Electrum client. Cost: the paths stand here.

pub mod block;
mod book;
mod calls;
mod chase;
mod follow;
mod gate;
mod history;
mod http;
pub mod replies;
mod session;
mod stock;
mod timetable;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::BlockHash;
use tokio::time::Instant;

use super::error::{SourceError, Trouble, Unfit};
use super::road::{Dialed, Guard, Road, in_time};
use super::{BoxFuture, Connected, EventSink, Source};
use crate::chain::io::SourceId;
use crate::config::{Server, ServerAddr};

use gate::Gate;
use http::Http;

/// Scripts that are looked at in the mempool at each regular poll.
const LOOKS: usize = 4;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection, and for all of connecting: from the name lookup to the tip.
    pub connect: Duration,
    /// From sending a request to its whole answer.
    pub request: Duration,
    /// Between two looks at the tip while nothing is under way.
    pub poll: Duration,
}

/// An Esplora server.
pub struct Esplora {
    door: Door,
    genesis: BlockHash,
    limits: Limits,
    /// Outlives a connection: a server that wants peace gets it.
    gate: Arc<Mutex<Gate>>,
}

/// Where connections to the server come from.
#[derive(Clone)]
struct Door {
    addr: ServerAddr,
    guard: Guard,
    road: Road,
}

impl Door {
    async fn open(&self) -> Result<Dialed, SourceError> {
        self.road.open(&self.addr.at, self.guard).await
    }
}

impl Esplora {
    /// A configured server, to be reached over `road`, and to be used only if its chain begins with `genesis`.
    pub fn new(server: Server, genesis: BlockHash, road: Road, limits: Limits) -> Self {
        let guard = Guard::of(&server);
        let door = Door { addr: server.address, guard, road };
        Self { door, genesis, limits, gate: Arc::default() }
    }

    async fn establish(&self, id: SourceId, events: EventSink) -> Result<Connected, SourceError> {
        let closed = self.gate.lock().unwrap_or_else(PoisonError::into_inner).closed(Instant::now());
        if let Some(wait) = closed {
            return Err(Trouble::Busy(wait).into());
        }
        let http = Arc::new(Http::new(self.door.clone(), self.limits, self.gate.clone()));
        let claimed = http.genesis().await?;
        if claimed != self.genesis {
            return Err(Unfit::OtherNetwork(claimed).into());
        }
        let recent = http.newest().await?;
        let (session, follower) = session::open(&self.door.addr, id, http, &recent, events);
        Ok(Connected { session: Box::new(session), task: Box::pin(follower.run()) })
    }
}

impl Source for Esplora {
    fn addr(&self) -> &ServerAddr {
        &self.door.addr
    }

    fn connect(&self, id: SourceId, events: EventSink) -> BoxFuture<'_, Result<Connected, SourceError>> {
        Box::pin(in_time(self.limits.connect, self.establish(id, events)))
    }
}
