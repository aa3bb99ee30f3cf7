//! Floor 1: the only way out. Whoever wants a stream to somebody gets it here: through the proxy if one is configured,
//! else directly. No other file looks a name up or connects (`tests/architecture.rs` sees to it).
//!
//! Rules: with a proxy, nothing leaves beside it, and names go to it unresolved (RFC 1928, address type 3): the local
//! resolver would tell its operator whom we talk to. Onion addresses are never looked up. Whom we talk to as different
//! parties stays apart: each gets a SOCKS login of its own, which Tor answers with a circuit of its own
//! (`IsolateSOCKSAuth`, its default). The deadline of the whole is the caller's.
//!
//! Decision: a room of its own on floor 1, because servers (`source`), peers and snapshots (`ln`) need it, and neither
//! may use the other. Rejected: a dialler handed through every constructor as a trait. Cost: one more room.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;

use crate::config::{HostPort, Login, Proxy};

/// How long one address of a name may take before the next is tried (IPv6 is often configured and dead).
const ONE_ADDRESS: Duration = Duration::from_secs(8);

/// The way out. Cheap to clone; clones isolate alike.
#[derive(Clone, Debug)]
pub struct Dialer {
    proxy: Option<Proxy>,
    /// Makes the logins of this process other ones than those of the last, and nobody else's.
    secret: [u8; 16],
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Reached over Tor only.
    #[error("onion addresses need a proxy: set `proxy`, as in proxy = \"socks5://127.0.0.1:9050\"")]
    Onion,
    /// The name cannot be looked up.
    #[error("its name has no address")]
    NoAddress(#[source] Option<io::Error>),
    /// None of its addresses can be connected to.
    #[error("cannot connect: {}", .0.kind())]
    Unreachable(#[source] io::Error),
    /// Its last address did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The proxy is not there.
    #[error("the proxy {proxy} cannot be reached, and nothing is dialled without it: {source}")]
    Proxy {
        /// Which one.
        proxy: Box<Proxy>,
        /// Why not.
        #[source]
        source: Box<DialError>,
    },
    /// The proxy is there and says no.
    #[error("no way through the proxy: {0}")]
    Through(#[source] tokio_socks::Error),
}

impl Dialer {
    /// Through this proxy, or directly.
    pub fn new(proxy: Option<Proxy>) -> Self {
        // Without entropy logins only repeat those of the last run.
        let mut secret = [0; 16];
        let _ = getrandom::fill(&mut secret);
        Self { proxy, secret }
    }

    /// Whether a proxy is between us and everybody.
    pub fn proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// For a client that dials by itself (LDK's own): the proxy to go through, and the login for this party. `None`:
    /// directly, where that is allowed at all ([`Self::dial`] tells).
    pub fn proxy_for(&self, party: &str) -> Option<(HostPort, Login)> {
        let proxy = self.proxy.as_ref()?;
        Some((proxy.at.clone(), proxy.login.clone().unwrap_or_else(|| self.login(party))))
    }

    /// A stream to `at`. What is dialled for another `party` shares no circuit with it.
    pub async fn dial(&self, at: &HostPort, party: &str) -> Result<TcpStream, DialError> {
        let stream = match &self.proxy {
            Some(proxy) => self.through(proxy, at, party).await?,
            // Looking the name up would tell the resolver of it, and lead nowhere.
            None if at.is_onion() => return Err(DialError::Onion),
            None => directly(at).await?,
        };
        // Requests are small and waited for.
        stream.set_nodelay(true).map_err(DialError::Unreachable)?;
        Ok(stream)
    }

    async fn through(&self, proxy: &Proxy, at: &HostPort, party: &str) -> Result<TcpStream, DialError> {
        let socket = directly(&proxy.at)
            .await
            .map_err(|source| DialError::Proxy { proxy: Box::new(proxy.clone()), source: Box::new(source) })?;
        let target = match at.host.parse::<IpAddr>() {
            Ok(ip) => TargetAddr::Ip((ip, at.port).into()),
            Err(_) => TargetAddr::Domain(at.host.as_str().into(), at.port),
        };
        let Login { user, password } = proxy.login.clone().unwrap_or_else(|| self.login(party));
        let stream = Socks5Stream::connect_with_password_and_socket(socket, target, &user, &password).await;
        Ok(stream.map_err(DialError::Through)?.into_inner())
    }

    /// The same for the same party, and telling nothing of it.
    fn login(&self, party: &str) -> Login {
        let hash = sha256::Hash::hash(&[&self.secret, party.as_bytes()].concat()).to_string();
        let (user, password) = hash.split_at(hash.len() / 2);
        Login { user: user.to_owned(), password: password.to_owned() }
    }
}

async fn directly(at: &HostPort) -> Result<TcpStream, DialError> {
    let addresses =
        lookup_host((at.host.as_str(), at.port)).await.map_err(|error| DialError::NoAddress(Some(error)))?;
    let mut last = DialError::NoAddress(None);
    for address in addresses {
        last = match timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => DialError::Unreachable(error),
            Err(_) => DialError::Silent(ONE_ADDRESS),
        };
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_have_logins_of_their_own_that_stay_theirs() {
        let dialer = Dialer::new(None);
        assert_eq!(dialer.login("server a"), dialer.clone().login("server a"));
        assert_ne!(dialer.login("server a"), dialer.login("server b"));
        assert_ne!(dialer.login("server a"), Dialer::new(None).login("server a"));
        let Login { user, password } = dialer.login("server a");
        assert!(user.len() == 32 && password.len() == 32 && user != password);
    }

    #[tokio::test]
    async fn an_onion_address_without_a_proxy_is_refused_without_asking_anybody() {
        for host in ["abc.onion:1", "abc.onion.:1"] {
            let outcome = Dialer::new(None).dial(&host.parse().unwrap(), "server").await;
            assert!(matches!(outcome, Err(DialError::Onion)), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn without_its_proxy_nothing_is_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string().parse().unwrap();
        // A port of our own on which nobody listens.
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dialer = Dialer::new(Some(format!("socks5://{unused}").parse().unwrap()));
        let outcome = dialer.dial(&at, "server").await;
        assert!(matches!(outcome, Err(DialError::Proxy { .. })), "{outcome:?}");
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err());
    }
}
