//! Floor 1: untrusted servers.
//!
//! A [`Source`] is a configured server that can be connected to; a [`Session`] is one live connection.
//! Whatever comes through here is well-formed, and nothing more: what is true is decided in [`crate::chain`].
//!
//! Decision: answers travel in the same ordered channel as notifications ([`Event`]), not as futures of each
//! request. A status in the reply to a subscription and a newer one pushed right after it must arrive in the order
//! in which the server sent them, or the older one would be taken for the newer. Rejected: a future for each
//! request, which loses that order. Cost: none for the engine, which has one loop anyway.

pub mod decimal;
pub mod electrum;
pub mod error;
pub mod esplora;
pub mod fees;
mod latency;
pub mod pool;
pub mod rejection;
pub mod road;
pub mod tls;
pub mod untrusted;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bitcoin::Transaction;
use bitcoin::block::Header;
use tokio::sync::mpsc;

use crate::chain::io::{Reply, Request, ScriptHash, SourceId, Status};
use crate::config::ServerAddr;

pub use error::{Breach, NoAnswer, SourceError, Trouble, Unfit};
pub use fees::FeeClaims;
pub use rejection::{BroadcastError, Rejection};
pub use untrusted::Untrusted;

/// A boxed future, so that the traits of this room are object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where all sessions put what they hear, in the order in which they hear it.
pub type EventSink = mpsc::Sender<(SourceId, Event)>;

/// How many events may wait for the engine. A full channel makes sessions stop reading from their sockets (and
/// stops the clocks of their requests), so that memory stays flat while a slow disk is written to.
pub const EVENT_CAPACITY: usize = 32;

/// Something heard from a connection.
#[derive(Debug)]
pub enum Event {
    /// The server says that this is its tip. The first event of every connection.
    Tip { header: Header, height: u32 },
    /// A pushed status of a script that was subscribed on this connection.
    Status { script: ScriptHash, status: Option<Status> },
    /// The outcome of [`Session::ask`]. A request in flight when the connection ends has none.
    Answer { request: Request, reply: Result<Reply, SourceError> },
    /// The connection is over, and why. The last event of every connection.
    Closed(SourceError),
}

/// A configured server.
pub trait Source: Send + Sync {
    /// Its address, as configured.
    fn addr(&self) -> &ServerAddr;

    /// Connects, checks that the server is of our network and speaks a protocol that we know, and subscribes to
    /// its tip; all within one absolute deadline. `id` marks the events of this connection.
    fn connect(&self, id: SourceId, events: EventSink) -> BoxFuture<'_, Result<Connected, SourceError>>;
}

/// A fresh connection.
pub struct Connected {
    /// To ask with. The connection closes when it is dropped.
    pub session: Box<dyn Session>,
    /// Carries the connection: to be spawned at once. It ends when the connection does.
    pub task: BoxFuture<'static, ()>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("session", &self.session.info()).finish_non_exhaustive()
    }
}

/// A live connection.
pub trait Session: Send + Sync {
    /// Asks; the answer comes as [`Event::Answer`]. Never blocks. On a dead connection it does nothing: its
    /// [`Event::Closed`] is under way.
    fn ask(&self, request: Request);

    /// Gives a transaction to the server's node. Already known counts as success.
    fn broadcast(&self, tx: &Transaction) -> BoxFuture<'static, Result<(), BroadcastError>>;

    /// Gives a package (parents first, the child last) to the server's node: as one where the server can, else one
    /// after the other. Already known counts as success.
    fn broadcast_package(&self, txs: &[Transaction]) -> BoxFuture<'static, Result<(), BroadcastError>>;

    /// What the server claims about fees.
    fn fee_claims(&self) -> BoxFuture<'static, Result<FeeClaims, SourceError>>;

    /// What is known of the connection.
    fn info(&self) -> SessionInfo;
}

/// What is known of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The server.
    pub addr: ServerAddr,
    /// The server's name for its software.
    pub software: Untrusted,
    /// The protocol agreed on, such as `1.4`.
    pub protocol: String,
    /// How the connection is protected.
    pub tls: TlsState,
    /// Where the server was reached; `None` through a proxy.
    pub peer: Option<IpAddr>,
    /// When it was made.
    pub since: SystemTime,
    /// Smoothed time from question to answer.
    pub latency: Duration,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsState {
    /// Clear text, as configured (`tcp://`).
    Clear,
    /// Certificate vouched for by a public authority.
    Authority,
    /// Self-signed; its key is the one seen at first use.
    Pinned,
    /// Self-signed; seen for the first time now, and remembered.
    FirstUse,
}
