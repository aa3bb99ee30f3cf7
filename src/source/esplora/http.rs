//! One question and its answer over HTTP/1.1: bounded in bytes and time, on connections that are kept.
//!
//! - At most [`SLOTS`] requests at once, each on a connection of its own; connections are kept and used again.
//! - Each request has an absolute deadline, and its body a limit; what exceeds one costs the connection it came on.
//! - Redirects are not followed: the server was configured, where it points to was not.
//! - 429 and 503 close the [`Gate`] for all requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, SERVER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::super::error::{NoAnswer, ServerError, SourceError, Trouble};
use super::super::latency::Latency;
use super::super::road::{Way, in_time};
use super::super::untrusted::Untrusted;
use super::gate::{Gate, Pace, retry_after};
use super::{Door, Limits};

/// Requests under way at once, and connections kept. Public servers count requests, not connections; more would only
/// make an own server on a small machine stumble.
const SLOTS: usize = 4;
/// Times that one request is sent again because the server asks us to slow down.
const MOST_TRIES: u32 = 4;
/// Bytes of a status line and headers.
const MOST_HEAD: usize = 32 << 10;
/// Headers of an answer.
const MOST_HEADERS: usize = 64;
/// Bytes of an error's text that are read.
const MOST_COMPLAINT: usize = 4 << 10;

/// The way to one server.
pub(super) struct Http {
    door: Door,
    limits: Limits,
    gate: Arc<Mutex<Gate>>,
    slots: Semaphore,
    idle: Mutex<Vec<Wire>>,
    /// Microseconds from question to answer, smoothed; 0: none yet.
    latency: Latency,
    /// Troubles since the last answer.
    troubles: AtomicU32,
    seen: Mutex<Seen>,
}

/// What the server showed of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Of the last connection.
    pub(super) way: Option<Way>,
    pub(super) software: Untrusted,
}

/// A connection between two requests.
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    /// Carries it; only while a request is under way.
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Why nothing came back.
enum Fault {
    /// The connection had ended before the server read the request: another one may do.
    Stale,
    /// No connection could be made, or it broke, or was too slow.
    Broken(SourceError),
    TooLarge,
}

impl Http {
    pub(super) fn new(door: Door, limits: Limits, gate: Arc<Mutex<Gate>>) -> Self {
        Self {
            door,
            limits,
            gate,
            slots: Semaphore::new(SLOTS),
            idle: Mutex::default(),
            latency: Latency::default(),
            troubles: AtomicU32::new(0),
            seen: Mutex::default(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn latency(&self) -> Duration {
        self.latency.get()
    }

    /// How often nothing came since the last answer.
    pub(super) fn troubles(&self) -> u32 {
        self.troubles.load(Ordering::Relaxed)
    }

    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// The body at `path`, at most `most` bytes.
    pub(super) async fn get(&self, path: &str, most: usize) -> Result<Bytes, SourceError> {
        self.ask(Method::GET, path, Bytes::new(), most).await
    }

    /// The answer to a body that is sent to `path`.
    pub(super) async fn post(&self, path: &str, body: String, most: usize) -> Result<Bytes, SourceError> {
        self.ask(Method::POST, path, body.into(), most).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes, most: usize) -> Result<Bytes, SourceError> {
        let mut tries = 0;
        loop {
            // Bound first, so that the lock is not held while it is slept.
            let closed = lock(&self.gate).closed(Instant::now());
            if let Some(wait) = closed {
                sleep(wait).await;
                continue;
            }
            let slot = self.slots.acquire().await.map_err(|_| Trouble::Closed)?;
            let begun = Instant::now();
            let outcome = self.once(&method, path, &body, most).await;
            drop(slot);
            let answer = match outcome {
                Ok(answer) => answer,
                Err(Fault::TooLarge) => {
                    self.troubles.store(0, Ordering::Relaxed);
                    return Err(NoAnswer::Malformed("an answer is too large").into());
                }
                Err(Fault::Broken(error)) => {
                    self.troubles.fetch_add(1, Ordering::Relaxed);
                    return Err(error);
                }
                Err(Fault::Stale) => {
                    self.troubles.fetch_add(1, Ordering::Relaxed);
                    return Err(Trouble::Closed.into());
                }
            };
            self.troubles.store(0, Ordering::Relaxed);
            self.latency.measure(begun.elapsed());
            match answer.status {
                StatusCode::OK => {
                    lock(&self.gate).passed();
                    return Ok(answer.body);
                }
                // Where others are answered and this one is not, waiting longer does not help.
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if tries < MOST_TRIES => {
                    tries += 1;
                    self.slow_down(&answer.headers)?;
                }
                status if status.is_redirection() => {
                    return Err(Trouble::Garbled("it sends us elsewhere, and we do not follow").into());
                }
                status => {
                    lock(&self.gate).passed();
                    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(MOST_COMPLAINT)]);
                    let said = ServerError { code: Some(status.as_u16().into()), text: Untrusted::new(&text) };
                    return Err(NoAnswer::Said(said).into());
                }
            }
        }
    }

    fn slow_down(&self, headers: &HeaderMap) -> Result<(), Trouble> {
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let draw = (getrandom::u32().unwrap_or_default() & 0xff) as u8;
        let pace = lock(&self.gate).slow_down(Instant::now(), asked, draw);
        tracing::debug!(server = %self.door.addr, ?pace, "the server asks us to slow down");
        match pace {
            Pace::Wait => Ok(()),
            Pace::Leave(wait) => Err(Trouble::Busy(wait)),
        }
    }

    /// One request: on a kept connection if there is one that lives, else on a new one.
    async fn once(&self, method: &Method, path: &str, body: &Bytes, most: usize) -> Result<Answer, Fault> {
        loop {
            let kept = lock(&self.idle).pop();
            let old = kept.is_some();
            let mut wire = match kept {
                Some(wire) => wire,
                None => self.dial().await?,
            };
            let request = self.request(method, path, body.clone())?;
            let outcome = match timeout(self.limits.request, exchange(&mut wire, request, most)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(broken(Trouble::Deadline(self.limits.request))),
            };
            match outcome {
                // The server had closed it meanwhile. What is sent may be sent twice: nothing here counts.
                Err(Fault::Stale) if old => continue,
                Err(fault) => {
                    // The others may be as dead, and each would cost its own deadline.
                    lock(&self.idle).clear();
                    return Err(fault);
                }
                Ok((answer, alive)) => {
                    if alive {
                        lock(&self.idle).push(wire);
                    }
                    self.note(&answer.headers);
                    return Ok(answer);
                }
            }
        }
    }

    async fn dial(&self) -> Result<Wire, Fault> {
        let made = async {
            let dialed = self.door.open().await?;
            let (sender, connection) = Builder::new()
                .max_buf_size(MOST_HEAD)
                .max_headers(MOST_HEADERS)
                .handshake(TokioIo::new(dialed.stream))
                .await
                .map_err(|_| Trouble::Garbled("no HTTP"))?;
            lock(&self.seen).way = Some(dialed.way);
            Ok::<_, SourceError>(Wire { sender, connection: Box::pin(connection) })
        };
        in_time(self.limits.connect, made).await.map_err(Fault::Broken)
    }

    fn request(&self, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Fault> {
        let addr = &self.door.addr;
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", addr.path))
            .header(HOST, addr.at.to_string())
            .header(USER_AGENT, concat!("lightnode/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "text/plain")
            .body(Full::new(body));
        request.map_err(|_| broken(Trouble::Garbled("its path is no path")))
    }

    fn note(&self, headers: &HeaderMap) {
        let mut seen = lock(&self.seen);
        if seen.software == Untrusted::default() {
            let text = headers.get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default();
            seen.software = Untrusted::new(text);
        }
    }
}

/// The answer, and whether the connection can be used again.
async fn exchange(wire: &mut Wire, request: Request<Full<Bytes>>, most: usize) -> Result<(Answer, bool), Fault> {
    let Wire { sender, connection } = wire;
    let answer = async {
        sender.ready().await.map_err(|_| Fault::Stale)?;
        let response = sender.send_request(request).await.map_err(fault)?;
        let (head, body) = response.into_parts();
        // What is announced as too large need not be read.
        if body.size_hint().lower() > most as u64 {
            return Err(Fault::TooLarge);
        }
        let body = Limited::new(body, most)
            .collect()
            .await
            .map_err(|error| if error.is::<LengthLimitError>() { Fault::TooLarge } else { broken(Trouble::Closed) })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer.map(|answer| (answer, true)),
        ended = connection => match ended {
            // The last bytes may have arrived with the end.
            Ok(()) => answer.await.map(|answer| (answer, false)),
            Err(error) => Err(fault(error)),
        },
    }
}

fn fault(error: hyper::Error) -> Fault {
    if error.is_parse() {
        return broken(Trouble::Garbled("what it sends is not HTTP"));
    }
    // Cancelled, or hung up before a whole head came.
    match error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        true => Fault::Stale,
        false => broken(Trouble::Closed),
    }
}

fn broken(trouble: Trouble) -> Fault {
    Fault::Broken(trouble.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
