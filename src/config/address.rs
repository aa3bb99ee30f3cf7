//! Where a server or a peer is: parsed once, shown as it was written.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::text::clip;

/// Columns of a text that is no address, as an error shows it.
const SHOWN: usize = 100;

/// How a server is spoken to. There is no fallback from what is secure to what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Electrum in clear text; right for the own machine, a VPN or an onion address.
    Tcp,
    /// Electrum over TLS.
    Ssl,
    /// Esplora in clear text; right where `Tcp` is.
    Http,
    /// Esplora over TLS.
    Https,
}

/// A host name or IP address (without brackets), and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// Reached over Tor only.
    pub fn is_onion(&self) -> bool {
        self.host.trim_end_matches('.').ends_with(".onion")
    }
}

/// The address of an Electrum server, `tcp://host:port` or `ssl://host:port`, or of an Esplora server,
/// `http://host:port/path` or `https://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddr {
    pub transport: Transport,
    pub at: HostPort,
    /// What an Esplora server's paths begin with, such as `/api`: empty, or with a slash in front and none behind.
    pub path: String,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("a server address begins with ssl:// or tcp:// (Electrum) or https:// or http:// (Esplora)")]
    Scheme,
    #[error("{} is not a path of an Esplora server, such as /api", clip(.0, SHOWN))]
    Path(String),
    #[error("{} is not a host name or IP address (an IPv6 address stands in brackets)", clip(.0, SHOWN))]
    Host(String),
    #[error("{} is not a port between 1 and 65535", clip(.0, SHOWN))]
    Port(String),
    #[error("the port is missing, as in {}:9735", clip(.0, SHOWN))]
    NoPort(String),
}

impl Transport {
    /// The port that servers use unless they say otherwise.
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Tcp => 50001,
            Transport::Ssl => 50002,
            Transport::Http => 80,
            Transport::Https => 443,
        }
    }

    /// True for TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Ssl | Transport::Https)
    }

    /// True for Esplora's HTTP, false for Electrum's lines.
    pub fn is_esplora(self) -> bool {
        matches!(self, Transport::Http | Transport::Https)
    }

    fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Ssl => "ssl",
            Transport::Http => "http",
            Transport::Https => "https",
        }
    }
}

impl ServerAddr {
    /// The host, for TLS and for connecting (an IPv6 address without its brackets).
    pub fn host(&self) -> &str {
        &self.at.host
    }

    pub fn port(&self) -> u16 {
        self.at.port
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split(text: &str) -> Result<(String, Option<u16>), AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| AddressError::Host(text.to_owned()))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(AddressError::Host(text.to_owned()));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(AddressError::Host(text.to_owned())),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) => return Err(AddressError::Host(text.to_owned())),
            None => (text, None),
        }
    };
    let port = port.map(parse_port).transpose()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let name = !host.is_empty() && host.len() <= 255 && !host.starts_with('-') && host.chars().all(plain);
    if !name && host.parse::<Ipv6Addr>().is_err() {
        return Err(AddressError::Host(text.to_owned()));
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// A path without the slash at its end.
fn path(text: &str) -> Result<String, AddressError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    if text.len() > 200 || !text.chars().all(plain) || text.contains("//") || text.contains("..") {
        return Err(AddressError::Path(text.to_owned()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let bad = || AddressError::Port(text.to_owned());
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    text.parse().ok().filter(|port| *port > 0).ok_or_else(bad)
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match split(text)? {
            (host, Some(port)) => Ok(Self { host, port }),
            (_, None) => Err(AddressError::NoPort(text.to_owned())),
        }
    }
}

impl FromStr for ServerAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        const ALL: [Transport; 4] = [Transport::Tcp, Transport::Ssl, Transport::Http, Transport::Https];
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let transport = ALL.into_iter().find(|one| one.scheme() == scheme).ok_or(AddressError::Scheme)?;
        let (at, path) = match rest.find('/').filter(|_| transport.is_esplora()) {
            Some(slash) => (&rest[..slash], path(&rest[slash..])?),
            None => (rest, String::new()),
        };
        let (host, port) = split(at)?;
        Ok(Self { transport, at: HostPort { host, port: port.unwrap_or(transport.default_port()) }, path })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.transport.scheme(), self.at, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_address_is_shown_as_it_was_written_and_fills_in_the_usual_port() {
        for (text, shown) in [
            ("ssl://electrum.emzy.de:50002", "ssl://electrum.emzy.de:50002"),
            ("ssl://electrum.emzy.de", "ssl://electrum.emzy.de:50002"),
            ("tcp://10.0.0.2", "tcp://10.0.0.2:50001"),
            ("tcp://[::1]:50001", "tcp://[::1]:50001"),
            ("ssl://[2001:db8::1]", "ssl://[2001:db8::1]:50002"),
            ("ssl://Fulcrum.Example.ORG:443", "ssl://fulcrum.example.org:443"),
            ("https://esplora.example.org/api/", "https://esplora.example.org:443/api"),
            ("https://esplora.example.org/", "https://esplora.example.org:443"),
            ("http://[::1]:3000/testnet/api", "http://[::1]:3000/testnet/api"),
            ("http://10.0.0.2", "http://10.0.0.2:80"),
        ] {
            let address: ServerAddr = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<ServerAddr>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, error) in [
            ("electrum.emzy.de:50002", AddressError::Scheme),
            ("ftp://electrum.emzy.de", AddressError::Scheme),
            ("HTTPS://esplora.example.org", AddressError::Scheme),
            ("https://esplora.example.org/api?x=1", AddressError::Path("/api?x=1".into())),
            ("https://esplora.example.org/a/../b", AddressError::Path("/a/../b".into())),
            ("https://esplora.example.org//api", AddressError::Path("//api".into())),
            ("https://user@esplora.example.org/api", AddressError::Host("user@esplora.example.org".into())),
            ("ssl://host/api", AddressError::Host("host/api".into())),
            ("ssl://", AddressError::Host(String::new())),
            ("ssl://host:0", AddressError::Port("0".into())),
            ("ssl://host:65536", AddressError::Port("65536".into())),
            ("ssl://host:+1", AddressError::Port("+1".into())),
            ("ssl://::1", AddressError::Host("::1".into())),
            ("ssl://[host]:1", AddressError::Host("[host]:1".into())),
            ("ssl://a b", AddressError::Host("a b".into())),
            ("ssl://user@host", AddressError::Host("user@host".into())),
        ] {
            assert_eq!(text.parse::<ServerAddr>().unwrap_err(), error, "{text}");
        }
        assert_eq!("127.0.0.1".parse::<HostPort>(), Err(AddressError::NoPort("127.0.0.1".into())));
    }
}
