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
pub(super) mod dial;
mod handshake;
mod lines;
pub mod pins;
pub mod replies;
mod spki;
mod tls;
pub mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;

use super::error::{SourceError, Trouble};
use super::{BoxFuture, Connected, EventSink, Source};
use crate::chain::io::SourceId;
use crate::config::{Server, ServerAddr};

use dial::Dialed;
use pins::{Pinning, Pins};

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
    pinning: Pinning,
    limits: Limits,
}

impl Electrum {
    /// A configured server, to be used only if its chain begins with `genesis`.
    pub fn new(server: Server, genesis: BlockHash, pins: Arc<dyn Pins>, limits: Limits) -> Self {
        let pinning = Pinning { configured: server.pin, pins };
        Self { addr: server.address, genesis, pinning, limits }
    }

    async fn establish(&self, id: SourceId, events: EventSink) -> Result<Connected, SourceError> {
        let dialed = dial::dial(&self.addr, &self.pinning).await?;
        self.greet(dialed, id, events).await
    }

    async fn greet(&self, dialed: Dialed, id: SourceId, events: EventSink) -> Result<Connected, SourceError> {
        let mut wire = lines::Wire::new(dialed.stream);
        let greeting = handshake::handshake(&mut wire, self.genesis).await?;
        let (session, connection) = client::open(&self.addr, id, dialed.tls, wire, greeting, events, self.limits);
        Ok(Connected { session: Box::new(session), task: Box::pin(connection.run()) })
    }
}

impl Source for Electrum {
    fn addr(&self) -> &ServerAddr {
        &self.addr
    }

    fn connect(&self, id: SourceId, events: EventSink) -> BoxFuture<'_, Result<Connected, SourceError>> {
        Box::pin(async move {
            match tokio::time::timeout(self.limits.connect, self.establish(id, events)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Trouble::ConnectDeadline(self.limits.connect).into()),
            }
        })
    }
}
