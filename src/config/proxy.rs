//! `proxy`: the way out to everybody.

use std::fmt;
use std::str::FromStr;

use super::address::HostPort;

/// A SOCKS5 proxy: `socks5://[user:password@]host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub at: HostPort,
    /// For a proxy that asks who we are. Such a proxy cannot be asked to keep servers apart by other names.
    pub login: Option<Login>,
}

/// User and password, 1 to 255 bytes each (RFC 1929).
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

/// Why a text is no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("it begins with socks5://, as in socks5://127.0.0.1:9050")]
    Scheme,
    #[error("before the @ stand user:password, 1 to 255 bytes each")]
    Login,
    #[error(transparent)]
    Address(#[from] super::AddressError),
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let rest = text.strip_prefix("socks5://").ok_or(ProxyError::Scheme)?;
        let (login, at) = match rest.rsplit_once('@') {
            Some((login, at)) => (Some(login.parse()?), at),
            None => (None, rest),
        };
        Ok(Self { at: at.strip_suffix('/').unwrap_or(at).parse()?, login })
    }
}

impl FromStr for Login {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let fits = |part: &str| (1..=255).contains(&part.len());
        match text.split_once(':') {
            Some((user, password)) if fits(user) && fits(password) => {
                Ok(Self { user: user.to_owned(), password: password.to_owned() })
            }
            _ => Err(ProxyError::Login),
        }
    }
}

/// Without the password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some(login) => write!(f, "socks5://{}:…@{}", login.user.escape_debug(), self.at),
            None => write!(f, "socks5://{}", self.at),
        }
    }
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_and_perhaps_a_login_whose_password_is_never_shown() {
        for (text, shown) in [
            ("socks5://127.0.0.1:9050", "socks5://127.0.0.1:9050"),
            ("socks5://[::1]:9050/", "socks5://[::1]:9050"),
            ("socks5://me:s:ec@ret@tor.lan:9050", "socks5://me:…@tor.lan:9050"),
        ] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), format!("\"{shown}\""));
        }
        let login = "socks5://me:s:ec@ret@tor.lan:9050".parse::<Proxy>().unwrap().login.unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "s:ec@ret"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_with_the_reason() {
        for (text, why) in [
            ("127.0.0.1:9050", ProxyError::Scheme),
            ("http://127.0.0.1:9050", ProxyError::Scheme),
            ("socks5://me@127.0.0.1:9050", ProxyError::Login),
            ("socks5://:x@127.0.0.1:9050", ProxyError::Login),
            ("socks5://127.0.0.1", super::super::AddressError::NoPort("127.0.0.1".into()).into()),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap_err(), why, "{text}");
        }
    }
}
