//! From an address to a stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::super::TlsState;
use super::super::error::{SourceError, Trouble, Unfit};
use super::lines::Stream;
use super::pins::Pinning;
use super::tls;
use crate::config::ServerAddr;

/// How long one address of a name may take before the next is tried (IPv6 is often configured and dead).
const ONE_ADDRESS: Duration = Duration::from_secs(8);

/// A stream, and how it is protected.
pub(in crate::source) struct Dialed {
    pub(in crate::source) stream: Stream,
    pub(in crate::source) tls: TlsState,
}

/// Connects. The deadline of the whole is the caller's.
pub(in crate::source) async fn dial(server: &ServerAddr, pins: &Pinning) -> Result<Dialed, SourceError> {
    // Looking the name up would tell the resolver of it, and lead nowhere.
    if server.host().ends_with(".onion") {
        return Err(Unfit::Onion.into());
    }
    let tcp = connect(server).await?;
    Ok(match server.transport.is_secure() {
        false => Dialed { stream: Box::new(tcp), tls: TlsState::Clear },
        true => {
            let (stream, tls) = tls::secure(tcp, server, pins).await?;
            Dialed { stream: Box::new(stream), tls }
        }
    })
}

async fn connect(server: &ServerAddr) -> Result<TcpStream, Trouble> {
    let addresses =
        lookup_host((server.host(), server.port())).await.map_err(|error| Trouble::NoAddress(Some(Arc::new(error))))?;
    let mut last = Trouble::NoAddress(None);
    for address in addresses {
        last = match timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Requests are small and waited for.
                tcp.set_nodelay(true).map_err(|error| Trouble::Broken(Arc::new(error)))?;
                return Ok(tcp);
            }
            Ok(Err(error)) => Trouble::Unreachable(Arc::new(error)),
            Err(_) => Trouble::ConnectDeadline(ONE_ADDRESS),
        };
    }
    Err(last)
}
