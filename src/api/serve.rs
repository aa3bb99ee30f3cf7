//! Takes connections and serves them until it is told to stop.
//!
//! Chosen: hyper directly, for a deadline on request heads, a bound on connections and an end that does not wait for
//! ever. Rejected: `axum::serve`, which has none of them. Cost: the loop below.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::listen::Listeners;
use super::routes;
use super::token::Token;
use super::types::{Code, NodeError};
use super::wire::Refusal;
use crate::node::Node;

/// A client has this long for the head of a request; an idle connection is closed after it, too.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// Requests that are under way when the end comes have this long to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Connections at a time and listener. A waiting `pay` holds one.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a connection could not be accepted (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `node` until `shutdown`, then lets answers that are under way go out, for at most a second. Requests that
/// are carried out meanwhile are not cancelled with their connection.
pub async fn serve(node: Node, listeners: Listeners, shutdown: impl Future<Output = ()>) {
    serve_router(routes::router(node), listeners, shutdown).await;
}

pub(super) async fn serve_router(router: Router, listeners: Listeners, shutdown: impl Future<Output = ()>) {
    let Listeners { unix, socket, tcp } = listeners;
    let (end, ended) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    let local = accept(unix, router.clone(), ended.clone());
    let remote = async {
        if let Some((listener, token)) = tcp {
            accept(listener, guarded(router, token), ended).await;
        }
    };
    let stop = async {
        shutdown.as_mut().await;
        // First the name goes, so that nobody comes any more who would not be answered.
        drop(socket);
        drop(end);
    };
    tokio::join!(local, remote, stop);
}

/// Where connections come in.
trait Door {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Takes connections until `ended`, then waits for those that are left.
async fn accept(door: impl Door, router: Router, mut ended: watch::Receiver<()>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let arrived = async {
            let place = places.clone().acquire_owned().await;
            (door.next().await, place)
        };
        tokio::select! {
            _ = ended.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, place) = arrived => match stream {
                Ok(stream) => {
                    let connection = connection(stream, router.clone(), ended.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("an API connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, rest).await.is_err() {
        tracing::info!("API requests that were under way get no answer: the node stops");
    }
}

async fn connection<S>(stream: S, router: Router, mut ended: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        _ = ended.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("an API connection ended: {error}");
    }
}

/// The same routes, for those who show the token.
fn guarded(router: Router, token: Token) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(token), check_token))
}

async fn check_token(State(token): State<Arc<Token>>, request: Request, next: Next) -> Response {
    if token.admits(request.headers().get(AUTHORIZATION).map(|header| header.as_bytes())) {
        return next.run(request).await;
    }
    let error = NodeError::new(Code::Unauthorized, "the API token is missing or wrong");
    let error = error.hint("send `Authorization: Bearer …` with the content of the token file");
    Refusal::from(error).into_response()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::config;

    struct Served {
        dir: tempfile::TempDir,
        tcp: String,
        end: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn served(routes: Router) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let api = config::Api {
            socket: dir.path().join("s"),
            tcp: Some(config::HostPort { host: "127.0.0.1".into(), port: 0 }),
            token_file: dir.path().join("token"),
        };
        let listeners = Listeners::bind(&api).await.unwrap();
        let tcp = listeners.tcp_address().unwrap().to_string();
        let (end, ended) = oneshot::channel();
        let router = routes::with_fallbacks(routes);
        let task = tokio::spawn(serve_router(router, listeners, async {
            ended.await.unwrap();
        }));
        Served { dir, tcp, end, task }
    }

    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> String {
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ask_socket(dir: &Path, head: &str) -> String {
        ask(UnixStream::connect(dir.join("s")).await.unwrap(), head).await
    }

    #[tokio::test]
    async fn what_is_no_route_is_answered_in_json() {
        let served = served(Router::new().route("/v1/status", get(async || "{}"))).await;
        let dir = served.dir.path();
        assert!(ask_socket(dir, "GET /v1/status HTTP/1.1").await.starts_with("HTTP/1.1 200"));
        let answer = ask_socket(dir, "GET /v1/nothing HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(answer.ends_with("{\"code\":\"not_found\",\"message\":\"there is no GET /v1/nothing\"}"), "{answer}");
        let answer = ask_socket(dir, "DELETE /v1/status HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(answer.contains("{\"code\":\"bad_request\""), "{answer}");
    }

    #[tokio::test]
    async fn tcp_wants_the_token_and_the_socket_does_not() {
        let served = served(Router::new().route("/v1/status", get(async || "{}"))).await;
        let token = std::fs::read_to_string(served.dir.path().join("token")).unwrap();
        let connect = || async { TcpStream::connect(&served.tcp).await.unwrap() };
        let answer = ask(connect().await, "GET /v1/status HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("\"unauthorized\""), "{answer}");
        let answer = ask(connect().await, "GET /v1/nothing HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "routes are not told apart without the token: {answer}");
        let head = format!("GET /v1/status HTTP/1.1\r\nAuthorization: Bearer {}", token.trim());
        let answer = ask(connect().await, &head).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn the_end_lets_answers_out_and_does_not_wait_for_idle_clients() {
        let (begun, has_begun) = oneshot::channel();
        let begun = Arc::new(std::sync::Mutex::new(Some(begun)));
        let slow = post(async move || {
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            "slow"
        });
        let served = served(Router::new().route("/v1/slow", slow)).await;
        let idle = UnixStream::connect(served.dir.path().join("s")).await.unwrap();
        let waiting = UnixStream::connect(served.dir.path().join("s")).await.unwrap();
        let waiting = tokio::spawn(ask(waiting, "POST /v1/slow HTTP/1.1"));
        has_begun.await.unwrap();
        served.end.send(()).unwrap();
        assert!(waiting.await.unwrap().ends_with("slow"));
        tokio::time::timeout(Duration::from_secs(2), served.task).await.unwrap().unwrap();
        assert!(!served.dir.path().join("s").exists());
        drop(idle);
    }
}
