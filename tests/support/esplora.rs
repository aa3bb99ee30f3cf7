//! An Esplora server for tests: answers from a bitcoind, writes down what it is asked, and can misbehave.
//!
//! None can be had from a registry, so this one is held to what Blockstream's server says (`API.md` of Esplora,
//! `rest.rs` of its electrs): the same paths, fields, pages, limits, status codes and error texts. That it is so is
//! tested with the client of another project (`esplora-client`). Within a block it lists transactions in the order of
//! their ids, as electrs does, which is no order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Request, Response};
use corepc_client::client_sync::v29::Client;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::esplora_index::Index;
use super::eventually::Diagnostic;

/// An answer, honest or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes are sent one by one with this pause between them.
    pub(crate) trickle: Option<Duration>,
}

impl Page {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), trickle: None }
    }

    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self { headers: vec![("content-type", "application/json".into())], ..Self::ok(body.to_string()) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A question and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Duration,
    pub(crate) method: String,
    /// Without the prefix `/api`.
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) bytes: usize,
}

/// Decides what is said: gets the path and the honest answer.
type Rule = Box<dyn FnMut(&str, Page) -> Page + Send>;

struct Shared {
    index: Mutex<Index>,
    start: Instant,
    asked: Mutex<Vec<Asked>>,
    rule: Mutex<Option<Rule>>,
    held: watch::Sender<bool>,
}

/// A server on its own thread. Its port stays the same over [`stop`](Self::stop) and [`start`](Self::start).
pub(crate) struct Esplora {
    shared: Arc<Shared>,
    port: AtomicU16,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
    _diagnostic: Diagnostic,
}

impl Esplora {
    /// Serves the chain of the bitcoind behind this client.
    pub(crate) fn run(bitcoind: Client) -> Self {
        let shared = Arc::new(Shared {
            index: Mutex::new(Index::new(bitcoind)),
            start: Instant::now(),
            asked: Mutex::default(),
            rule: Mutex::default(),
            held: watch::Sender::new(false),
        });
        let shown = Arc::clone(&shared);
        let diagnostic = Diagnostic::new("questions to the Esplora server", move || {
            let asked = lock(&shown.asked);
            let line = |one: &Asked| {
                let Asked { at, method, path, status, bytes } = one;
                format!("{:9.3} {method} {path} = {status}, {bytes} bytes\n", at.as_secs_f32())
            };
            asked[asked.len().saturating_sub(60)..].iter().map(line).collect()
        });
        let server = Self { shared, port: AtomicU16::new(0), running: Mutex::default(), _diagnostic: diagnostic };
        server.start();
        server
    }

    /// As a configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port.load(Ordering::Relaxed))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.load(Ordering::Relaxed)).into()
    }

    /// The same server under another name, by which it is always honest: a ban is of a host.
    pub(crate) fn other_url(&self) -> String {
        format!("http://localhost:{}/api", self.port.load(Ordering::Relaxed))
    }

    /// Serves again.
    pub(crate) fn start(&self) {
        let mut running = lock(&self.running);
        assert!(running.is_none(), "the Esplora server runs already");
        let address = SocketAddr::from(([127, 0, 0, 1], self.port.load(Ordering::Relaxed)));
        let listener = super::eventually::eventually_ok("a port", || std::net::TcpListener::bind(address));
        listener.set_nonblocking(true).expect("a socket");
        self.port.store(listener.local_addr().expect("a bound socket").port(), Ordering::Relaxed);
        let (end, ended) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime with IO");
                let router = Router::new().fallback(answer).with_state(shared);
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served.expect("it serves"),
                    // The one who would have ended it is gone, which ends it too.
                    _ = ended => {}
                }
            });
            // With all its connections.
            runtime.shutdown_background();
        });
        *running = Some((end, thread));
    }

    /// Closes all connections and takes no new ones.
    pub(crate) fn stop(&self) {
        let (end, thread) = lock(&self.running).take().expect("the Esplora server runs");
        end.send(()).expect("its thread lives");
        thread.join().expect("its thread ends");
    }

    /// Consults `rule` on every answer from now on.
    pub(crate) fn set_rule(&self, rule: impl FnMut(&str, Page) -> Page + Send + 'static) {
        *lock(&self.shared.rule) = Some(Box::new(rule));
    }

    /// Honest again.
    pub(crate) fn clear_rule(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// Keeps all answers back until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Gives what was kept back.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// A place in what was asked, for [`since`](Self::since).
    pub(crate) fn mark(&self) -> usize {
        lock(&self.shared.asked).len()
    }

    /// What was asked since.
    pub(crate) fn since(&self, mark: usize) -> Vec<Asked> {
        lock(&self.shared.asked)[mark..].to_vec()
    }

    /// How many questions since `mark` were of paths that hold `part`.
    pub(crate) fn count(&self, mark: usize, part: &str) -> usize {
        self.since(mark).iter().filter(|asked| asked.path.contains(part)).count()
    }
}

impl Drop for Esplora {
    fn drop(&mut self) {
        if let Some((end, thread)) = lock(&self.running).take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().strip_prefix("/api").unwrap_or(head.uri.path()).to_owned();
    let body = axum::body::to_bytes(body, 8 << 20).await.unwrap_or_default();
    let page = honest(&shared, head.method.clone(), path.clone(), body).await;
    let honest = head.headers.get("host").is_some_and(|host| host.as_bytes().starts_with(b"localhost"));
    let page = match lock(&shared.rule).as_mut() {
        Some(rule) if !honest => rule(&path, page),
        _ => page,
    };
    let asked = Asked {
        at: shared.start.elapsed(),
        method: head.method.to_string(),
        path,
        status: page.status,
        bytes: page.body.len(),
    };
    lock(&shared.asked).push(asked);
    let mut held = shared.held.subscribe();
    let _ = held.wait_for(|held| !held).await;
    let mut response = Response::builder().status(page.status).header("server", "esplora-of-the-tests");
    for (name, value) in &page.headers {
        response = response.header(*name, value);
    }
    let body = match page.trickle {
        None => Body::from(page.body),
        Some(pause) => trickle(page.body, pause),
    };
    response.body(body).expect("a response")
}

async fn honest(shared: &Arc<Shared>, method: Method, path: String, body: Bytes) -> Page {
    let shared = Arc::clone(shared);
    let asked = tokio::task::spawn_blocking(move || {
        let mut index = lock(&shared.index);
        match method {
            Method::GET => index.get(&path),
            Method::POST => index.post(&path, &String::from_utf8_lossy(&body)),
            _ => Page::new(404, format!("endpoint does not exist {path:?}")),
        }
    });
    // A bitcoind that is going away takes its answers with it.
    asked.await.unwrap_or_else(|_| Page::new(500, "Internal server error"))
}

fn trickle(bytes: Vec<u8>, pause: Duration) -> Body {
    let (mut writer, reader) = tokio::io::duplex(1);
    tokio::spawn(async move {
        for byte in bytes {
            tokio::time::sleep(pause).await;
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &[byte]).await.is_err() {
                return;
            }
        }
    });
    Body::new(super::esplora_index::Drip(reader))
}
