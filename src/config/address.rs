//! Where a server or a peer is: parsed once, shown as it was written.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// How an Electrum server is spoken to. There is no fallback from the second to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Clear text; right for the own machine, a VPN or an onion address.
    Tcp,
    /// TLS.
    Ssl,
}

/// A host name or IP address (without brackets), and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// The address of an Electrum server: `tcp://host:port` or `ssl://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddr {
    pub transport: Transport,
    pub at: HostPort,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("a server address begins with ssl:// or tcp://, as in ssl://electrum.example.org:50002")]
    Scheme,
    #[error("{0} is not a host name or IP address (an IPv6 address stands in brackets)")]
    Host(String),
    #[error("{0} is not a port between 1 and 65535")]
    Port(String),
    #[error("the port is missing, as in {0}:9735")]
    NoPort(String),
}

impl Transport {
    /// The port that Electrum servers use unless they say otherwise.
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Tcp => 50001,
            Transport::Ssl => 50002,
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Ssl => "ssl",
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
        let (transport, rest) = if let Some(rest) = text.strip_prefix("ssl://") {
            (Transport::Ssl, rest)
        } else if let Some(rest) = text.strip_prefix("tcp://") {
            (Transport::Tcp, rest)
        } else {
            return Err(AddressError::Scheme);
        };
        let (host, port) = split(rest)?;
        Ok(Self { transport, at: HostPort { host, port: port.unwrap_or(transport.default_port()) } })
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
        write!(f, "{}://{}", self.transport.scheme(), self.at)
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
            ("https://electrum.emzy.de", AddressError::Scheme),
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
