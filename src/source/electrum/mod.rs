//! Our own client for Electrum servers.
//!
//! Contract (Electrum protocol 1.4 to 1.6; ElectrumX, Fulcrum, electrs):
//! - one JSON-RPC object a line; servers pad lines with spaces and push notifications nobody asked for;
//! - `server.version` comes first, or ElectrumX hangs up; protocol 1.6 makes that the rule;
//! - at most 8 requests in flight; the same script is never subscribed twice in flight (can crash an electrs);
//! - idle for 600 s is dropped; each error answer costs us dearly in ElectrumX's session costs: do not provoke them;
//! - replies up to 8.1 MB are legal; everything beyond, and every wait beyond its deadline, ends the connection.

mod client;
mod connection;
mod handshake;
mod lines;
pub mod replies;
pub mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bitcoin::BlockHash;

use super::error::SourceError;
use super::road::{Dialed, Guard, Road, in_time};
use super::{BoxFuture, Connected, EventSink, Source};
use crate::chain::io::SourceId;
use crate::config::{Server, ServerAddr};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the name lookup to the tip: all of connecting.
    pub connect: Duration,
    /// From sending a request to its whole answer.
    pub request: Duration,
    /// Idle time after which the server is pinged.
    pub ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(30), request: Duration::from_secs(20), ping: Duration::from_secs(290) }
    }
}

/// An Electrum server.
pub struct Electrum {
    addr: ServerAddr,
    genesis: BlockHash,
    guard: Guard,
    road: Road,
    limits: Limits,
}

impl Electrum {
    /// A configured server, to be reached over `road`, and to be used only if its chain begins with `genesis`.
    pub fn new(server: Server, genesis: BlockHash, road: Road, limits: Limits) -> Self {
        let guard = Guard::of(&server);
        Self { addr: server.address, genesis, guard, road, limits }
    }

    async fn establish(&self, id: SourceId, events: EventSink) -> Result<Connected, SourceError> {
        let dialed = self.road.open(&self.addr.at, self.guard).await?;
        self.greet(dialed, id, events).await
    }

    async fn greet(&self, dialed: Dialed, id: SourceId, events: EventSink) -> Result<Connected, SourceError> {
        let mut wire = lines::Wire::new(dialed.stream);
        let greeting = handshake::handshake(&mut wire, self.genesis).await?;
        let (session, connection) = client::open(&self.addr, id, dialed.way, wire, greeting, events, self.limits);
        Ok(Connected { session: Box::new(session), task: Box::pin(connection.run()) })
    }
}

impl Source for Electrum {
    fn addr(&self) -> &ServerAddr {
        &self.addr
    }

    fn connect(&self, id: SourceId, events: EventSink) -> BoxFuture<'_, Result<Connected, SourceError>> {
        Box::pin(in_time(self.limits.connect, self.establish(id, events)))
    }
}
