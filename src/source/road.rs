//! From the address of a server to a stream, whatever is then spoken on it: the way out, TLS, and the server's key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::TlsState;
use super::error::{SourceError, Trouble, Unfit};
use super::tls::pins::Certificates;
use super::tls::{self, Pinning};
use crate::config::{HostPort, Server};
use crate::dial::{DialError, Dialer};

/// A stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream of whatever transport.
pub type Stream = Box<dyn Io>;

/// How servers are reached. Cheap to clone.
#[derive(Clone)]
pub struct Road {
    dialer: Dialer,
    certificates: Arc<Certificates>,
}

/// A stream, and how it goes.
pub struct Dialed {
    /// Ready to be spoken on.
    pub stream: Stream,
    /// How it goes.
    pub way: Way,
}

/// How a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// How it is protected.
    pub tls: TlsState,
    /// Where the server was reached; `None` through a proxy, which alone knows.
    pub peer: Option<IpAddr>,
}

impl Way {
    /// In clear text, to nobody knows where.
    pub const CLEAR: Way = Way { tls: TlsState::Clear, peer: None };
}

/// How a server wants to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// In clear text, as configured.
    Clear,
    /// TLS, and with a configured pin only with this key.
    Tls {
        /// SHA-256 of its SubjectPublicKeyInfo.
        pin: Option<[u8; 32]>,
    },
}

impl Guard {
    /// What the configuration wants for this server.
    pub fn of(server: &Server) -> Self {
        match server.address.transport.is_secure() {
            true => Self::Tls { pin: server.pin },
            false => Self::Clear,
        }
    }
}

impl Road {
    /// Out through `dialer`, held against `certificates`.
    pub fn new(dialer: Dialer, certificates: Arc<Certificates>) -> Self {
        Self { dialer, certificates }
    }

    /// Connects. The deadline of the whole is the caller's.
    pub async fn open(&self, server: &HostPort, guard: Guard) -> Result<Dialed, SourceError> {
        let tcp = self.dialer.dial(server, &format!("server {server}")).await.map_err(not_dialled)?;
        let peer = if self.dialer.proxied() { None } else { tcp.peer_addr().ok().map(|at| at.ip()) };
        Ok(match guard {
            Guard::Clear => Dialed { stream: Box::new(tcp), way: Way { tls: TlsState::Clear, peer } },
            Guard::Tls { pin } => {
                let pinning = Pinning { configured: pin.map(Into::into), certificates: Arc::clone(&self.certificates) };
                let (stream, tls) = tls::secure(tcp, server, &pinning).await?;
                Dialed { stream: Box::new(stream), way: Way { tls, peer } }
            }
        })
    }
}

/// Gives all of connecting one absolute deadline.
pub(super) async fn in_time<T>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    timeout(limit, connecting).await.unwrap_or_else(|_| Err(Trouble::ConnectDeadline(limit).into()))
}

fn not_dialled(error: DialError) -> SourceError {
    match error {
        DialError::Onion => Unfit::Onion.into(),
        other => Trouble::Dial(Arc::new(other)).into(),
    }
}
