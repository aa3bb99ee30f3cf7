//! Addresses of servers, as people write them: `ssl://host:port`, `tcp://host:port`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Electrum in clear text.
    Tcp,
    /// Electrum over TLS.
    Tls,
}

/// Address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddr {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl ServerAddr {
    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
    /// Name or IP address, in lower case, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// An address that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// No or another scheme.
    #[error("a server address begins with ssl:// or tcp://")]
    Scheme,
    /// The host is empty or has characters that no host has.
    #[error("the host of the server address is not a name or an IP address (IPv6 in brackets)")]
    Host,
    /// The port is missing or no number from 1 to 65535.
    #[error("the server address must end with :port, a number from 1 to 65535")]
    Port,
}

impl FromStr for ServerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let (scheme, rest) = match text.trim().split_once("://") {
            Some(("tcp", rest)) => (Scheme::Tcp, rest),
            Some(("ssl" | "tls", rest)) => (Scheme::Tls, rest),
            _ => return Err(AddrError::Scheme),
        };
        let (host, port) = rest.rsplit_once(':').ok_or(AddrError::Port)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|port| digits && *port != 0).ok_or(AddrError::Port)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| AddrError::Host)?.to_string(),
            None if is_host(host) => host.to_ascii_lowercase(),
            None => return Err(AddrError::Host),
        };
        Ok(Self { scheme, host, port })
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Tls => "ssl",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in ["ssl://electrum.emzy.de:50002", "tcp://127.0.0.1:50001", "ssl://[2001:db8::1]:50002"] {
            assert_eq!(text.parse::<ServerAddr>().unwrap().to_string(), text);
        }
        let same: ServerAddr = "tls://Example.ORG:1".parse().unwrap();
        assert_eq!(same.to_string(), "ssl://example.org:1");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let cases = [
            ("example.org:50002", AddrError::Scheme),
            ("https://example.org:443", AddrError::Scheme),
            ("ssl://example.org", AddrError::Port),
            ("ssl://example.org:0", AddrError::Port),
            ("ssl://example.org:70000", AddrError::Port),
            ("ssl://example.org:+1", AddrError::Port),
            ("ssl://:50002", AddrError::Host),
            ("ssl://exa mple:50002", AddrError::Host),
            ("ssl://a..b:50002", AddrError::Host),
            ("ssl://2001:db8::1:50002", AddrError::Host),
            ("ssl://[nonsense]:50002", AddrError::Host),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<ServerAddr>(), Err(error), "{text}");
        }
    }
}
