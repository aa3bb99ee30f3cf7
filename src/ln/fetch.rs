//! One file over HTTP(S), bounded in size and time: for gossip snapshots.
//!
//! Decision: the parts of hyper that the API needs anyway, instead of an HTTP client with its own TLS, pool, cookies
//! and redirects. The cost: no redirects.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::config::HostPort;
use crate::dial::{DialError, Dialer};

/// What a fetch may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of the body.
    pub bytes: usize,
    /// From the first lookup to the last byte.
    pub time: Duration,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that we understand.
    #[error("{0} is not an http:// or https:// address")]
    Url(String),
    /// No connection.
    #[error("could not connect: {0}")]
    Connect(#[from] DialError),
    /// No secure connection.
    #[error("no secure connection: {0}")]
    Tls(#[source] std::io::Error),
    /// The server does not speak HTTP as it should, or hung up.
    #[error("the server's answer cannot be read: {0}")]
    Http(String),
    /// The server says no.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// More than the limit.
    #[error("the server sends more than {0} bytes")]
    TooLarge(usize),
    /// Over the limit.
    #[error("not done within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// The body at `url`.
pub async fn get(dialer: &Dialer, url: &str, limits: Limits) -> Result<Vec<u8>, FetchError> {
    tokio::time::timeout(limits.time, fetch(dialer, url, limits.bytes))
        .await
        .unwrap_or(Err(FetchError::Timeout(limits.time)))
}

async fn fetch(dialer: &Dialer, url: &str, most: usize) -> Result<Vec<u8>, FetchError> {
    let bad = || FetchError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let authority = uri.authority().ok_or_else(bad)?.clone();
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad()),
    };
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let at = HostPort { host, port };
    let stream = dialer.dial(&at, &format!("snapshots {at}")).await?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("lightnode/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/octet-stream")
        .body(Empty::<Bytes>::new())
        .map_err(|_| bad())?;
    if tls {
        let name = ServerName::try_from(at.host).map_err(|_| bad())?;
        let stream =
            TlsConnector::from(Arc::new(tls_config()?)).connect(name, stream).await.map_err(FetchError::Tls)?;
        exchange(stream, request, most).await
    } else {
        exchange(stream, request, most).await
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>, most: usize) -> Result<Vec<u8>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |error: hyper::Error| FetchError::Http(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(http)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), most).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge(most)
            } else {
                FetchError::Http(error.to_string())
            }
        })?;
        Ok(body.to_bytes().to_vec())
    };
    // The connection has to be driven while the answer is awaited; dropping both ends it.
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            // The last bytes may have arrived with the end.
            Ok(()) => answer.await,
            Err(error) => Err(http(error)),
        },
    }
}

fn tls_config() -> Result<ClientConfig, FetchError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Http(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that says `answer` to whatever it is asked, and then waits or hangs up.
    pub(in crate::ln) async fn server(answer: Vec<u8>, hang: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            if hang {
                std::future::pending::<()>().await;
            }
        });
        format!("http://{address}/snapshot/0")
    }

    async fn fetched(url: &str, limits: Limits) -> Result<Vec<u8>, FetchError> {
        get(&Dialer::new(None), url, limits).await
    }

    const LIMITS: Limits = Limits { bytes: 100, time: Duration::from_secs(5) };

    #[tokio::test]
    async fn a_body_within_the_limit_is_returned() {
        let url = server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec(), false).await;
        assert_eq!(fetched(&url, LIMITS).await.expect("fetched"), b"abc");
        let url = server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc".to_vec(), false).await;
        assert_eq!(fetched(&url, LIMITS).await.expect("fetched"), b"abc");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_cut_off() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.extend([0; 1000]);
        let url = server(answer, true).await;
        assert!(matches!(fetched(&url, LIMITS).await, Err(FetchError::TooLarge(100))));
    }

    #[tokio::test]
    async fn a_silent_server_is_left_at_the_deadline() {
        let url = server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na".to_vec(), true).await;
        let limits = Limits { time: Duration::from_millis(200), ..LIMITS };
        assert!(matches!(fetched(&url, limits).await, Err(FetchError::Timeout(_))));
    }

    #[tokio::test]
    async fn a_refusal_and_nonsense_are_errors() {
        let url = server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), false).await;
        assert!(matches!(fetched(&url, LIMITS).await, Err(FetchError::Status(StatusCode::NOT_FOUND))));
        let url = server(b"SSH-2.0-OpenSSH\r\n".to_vec(), false).await;
        assert!(matches!(fetched(&url, LIMITS).await, Err(FetchError::Http(_))));
        assert!(matches!(fetched("ftp://example.org/", LIMITS).await, Err(FetchError::Url(_))));
    }
}
