//! What can go wrong with a server, by what to do about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::tls::pins::{Changed, KeyHash};
use super::untrusted::Untrusted;
use crate::config::HostPort;
use crate::dial::DialError;
use crate::text::escape;

/// What went wrong, by what to do about it. The cause is inside, in our own words.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection, or no answer in time: again later, or elsewhere.
    #[error(transparent)]
    Transient(#[from] Trouble),
    /// There is no usable answer to this request. The connection lives.
    #[error(transparent)]
    Refused(#[from] NoAnswer),
    /// Provably wrong on purpose: the server is banned.
    #[error(transparent)]
    Lying(#[from] Breach),
    /// Not to be used until a person changes something.
    #[error(transparent)]
    Unusable(#[from] Unfit),
}

/// A connection that cannot be made or went away.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no way to it.
    #[error("no connection to the server: {0}")]
    Dial(#[source] Arc<DialError>),
    /// The connection was not usable in time.
    #[error("the server could not be connected to within {} s", .0.as_secs())]
    ConnectDeadline(Duration),
    /// The TLS handshake failed.
    #[error("no secure connection to the server: {}", escape(&.0.to_string()))]
    Tls(#[source] Arc<io::Error>),
    /// The pin of the key could not be read or written.
    #[error("the server's key could not be looked up or remembered")]
    Pins(#[source] Arc<PinsError>),
    /// This request has no answer in time; others have.
    #[error("the server did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// Nothing whole came within a request's deadline.
    #[error("the server fell silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The connection broke.
    #[error("the connection to the server broke: {}", .0.kind())]
    Broken(#[source] Arc<io::Error>),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// What the server sends is not the protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Garbled(&'static str),
    /// The server asks us to ask less.
    #[error("the server asks us to slow down: it is left alone for {} s", .0.as_secs())]
    Busy(Duration),
    /// The server pushes more than anything of ours can cause.
    #[error("the server floods us with notifications")]
    Flood,
}

/// A request without a usable answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The server answered with an error.
    #[error("the server answered with an error: {0}")]
    Said(ServerError),
    /// The answer is not of the form that the protocol gives it.
    #[error("the server's answer is malformed: {0}")]
    Malformed(&'static str),
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServerError {
    /// JSON-RPC code, where given.
    pub code: Option<i64>,
    /// Free text.
    pub text: Untrusted,
}

/// Provable lies that the door sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A position that no block has room for.
    #[error("the server sent a proof for an impossible position")]
    Position,
}

/// Why a server is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It serves another chain.
    #[error("the server is of another network: its chain begins with {0}")]
    OtherNetwork(bitcoin::BlockHash),
    /// It speaks no protocol that we speak.
    #[error("the server speaks protocol {0}; needed is 1.4 to 1.6")]
    Protocol(Untrusted),
    /// It is reached over Tor only.
    #[error("onion addresses need a proxy: set `proxy`, as in proxy = \"socks5://127.0.0.1:9050\"")]
    Onion,
    /// Its key is not the one known. Somebody may be in between.
    #[error(
        "the server's key has changed: known is {}, it shows {}; somebody may be in between, so it is not used until \
         `lightnode servers trust {server}`",
        changed.known,
        changed.shown
    )]
    KeyChanged {
        /// Which one.
        server: HostPort,
        /// From what to what.
        changed: Changed,
    },
    /// Its key is not the configured one.
    #[error("the server's key is not the configured one, it shows {0}; it is not used until `pin` is set to that")]
    OtherKey(KeyHash),
}

/// Pins could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the pins of keys cannot be used: {0}")]
pub struct PinsError(pub String);
