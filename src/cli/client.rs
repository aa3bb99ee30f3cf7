//! One request over the daemon's socket, with a deadline for each step.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::exit::{Effect, Failure};
use crate::api::types::{Code, NodeError};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A history of a thousand entries has about a megabyte.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Speaks to the daemon; a connection for each request.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// An answer: as it came, and understood.
#[derive(Debug)]
pub(super) struct Reply<T> {
    pub(super) json: Vec<u8>,
    pub(super) value: T,
}

/// Why there is no answer of the wanted kind.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nothing was asked: nobody listens.
    Away { socket: PathBuf, source: io::Error },
    /// Asked; no answer before the deadline.
    Late(Duration),
    /// Asked; the connection broke, or the answer is not one.
    Broken(String),
    /// The daemon's own error.
    Refused(NodeError),
}

impl ClientError {
    /// In words, with the exit code for a request of this effect.
    pub(super) fn failure(self, effect: Effect) -> Failure {
        let asked = |what: String| match effect {
            Effect::Money => {
                NodeError::new(Code::Unknown, format!("{what}, so it is not known what became of the request"))
                    .hint("look at `lightnode history` and `lightnode channels` before you try again")
            }
            Effect::Harmless => NodeError::new(Code::NotReady, what).hint("look at its log, or try again"),
        };
        let error = match self {
            ClientError::Refused(error) => error,
            ClientError::Late(after) => asked(format!("the daemon gave no answer within {} seconds", after.as_secs())),
            ClientError::Broken(why) => asked(format!("the connection to the daemon broke: {why}")),
            ClientError::Away { socket, source } => away(&socket, &source),
        };
        Failure::new(error, effect)
    }
}

fn away(socket: &Path, source: &io::Error) -> NodeError {
    let socket = socket.display();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            NodeError::new(Code::NotReady, format!("no daemon answers at {socket}"))
                .hint("is it running? start it with `lightnode run`")
        }
        io::ErrorKind::PermissionDenied => {
            NodeError::new(Code::NotReady, format!("the daemon at {socket} belongs to another user"))
                .hint("run the command as the user who runs the daemon")
        }
        _ => NodeError::new(Code::NotReady, format!("the daemon at {socket} cannot be reached: {source}")),
    }
}

impl Client {
    pub(super) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<Reply<T>, ClientError> {
        self.ask(Method::GET, path, Vec::new(), deadline).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<Reply<T>, ClientError> {
        self.ask(Method::DELETE, path, Vec::new(), deadline).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Duration,
    ) -> Result<Reply<T>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Broken(error.to_string()))?;
        self.ask(Method::POST, path, body, deadline).await
    }

    /// True while somebody listens.
    pub(super) async fn answers(&self) -> bool {
        matches!(timeout(CONNECT_DEADLINE, UnixStream::connect(&self.socket)).await, Ok(Ok(_)))
    }

    /// The process that listens, where the system tells.
    pub(super) async fn daemon_pid(&self) -> Option<i32> {
        let stream = timeout(CONNECT_DEADLINE, UnixStream::connect(&self.socket)).await.ok()?.ok()?;
        // A process of another container has no number here.
        stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        deadline: Duration,
    ) -> Result<Reply<T>, ClientError> {
        let away = |source| ClientError::Away { socket: self.socket.clone(), source };
        let stream = timeout(CONNECT_DEADLINE, UnixStream::connect(&self.socket)).await;
        let stream = stream.map_err(|_| away(io::ErrorKind::TimedOut.into()))?.map_err(away)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "lightnode")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let answer = timeout(deadline, exchange(stream, request)).await;
        let (ok, json) = answer.map_err(|_| ClientError::Late(deadline))?.map_err(ClientError::Broken)?;
        let not_understood = |error: serde_json::Error| {
            ClientError::Broken(format!("its answer is not understood (another version of lightnode?): {error}"))
        };
        if ok {
            let value = serde_json::from_slice(&json).map_err(not_understood)?;
            Ok(Reply { json, value })
        } else {
            let error = serde_json::from_slice(&json).map_err(not_understood)?;
            Err(ClientError::Refused(error))
        }
    }
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<(bool, Vec<u8>), String> {
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(words)?;
        let ok = response.status().is_success();
        Ok((ok, read(response).await?))
    };
    // The connection makes progress only while it is polled, and may end before its last answer is read.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = talk => answer,
        () = drive => Err("it ended early".to_owned()),
    }
}

async fn read(response: Response<Incoming>) -> Result<Vec<u8>, String> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes().to_vec())
}

/// One part of a path, so that no id can become another route.
pub(super) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Done;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// A daemon that gives one answer, whatever it is asked.
    async fn daemon(answer: &'static str) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        let client = Client::new(socket);
        (dir, client)
    }

    const SOON: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn an_answer_comes_as_it_was_sent() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\r\n{\"done\": \"stopping\", \"newer\": 1}\n";
        let (_dir, client) = daemon(text).await;
        let reply: Reply<Done> = client.get("/v1/x", SOON).await.unwrap();
        assert_eq!(reply.value.done, "stopping");
        assert_eq!(reply.json, b"{\"done\": \"stopping\", \"newer\": 1}\n");
    }

    #[tokio::test]
    async fn an_error_of_the_daemon_is_an_error() {
        let text = "HTTP/1.1 403 x\r\ncontent-length: 37\r\n\r\n{\"code\":\"refused\",\"message\":\"expired\"}";
        let text: &'static str = text.replace("37", "38").leak();
        let (_dir, client) = daemon(text).await;
        let error = client.get::<Done>("/v1/x", SOON).await.unwrap_err();
        let failure = error.failure(Effect::Money);
        assert_eq!((failure.exit, failure.error.message.as_str()), (6, "expired"));
    }

    #[tokio::test]
    async fn who_does_not_answer_leaves_the_outcome_unknown_where_money_is_concerned() {
        for (answer, word) in [("", "no answer within"), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "broke")] {
            for (effect, exit) in [(Effect::Money, 4), (Effect::Harmless, 3)] {
                let (_dir, client) = daemon(answer).await;
                let failure = client.get::<Done>("/v1/x", SOON).await.unwrap_err().failure(effect);
                assert_eq!(failure.exit, exit);
                assert!(failure.error.message.contains(word), "{}", failure.error.message);
            }
        }
    }

    #[tokio::test]
    async fn nobody_there_is_no_unknown_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("s"));
        let failure = client.get::<Done>("/v1/x", SOON).await.unwrap_err().failure(Effect::Money);
        assert_eq!(failure.exit, 3);
        assert_eq!(failure.error.hint.unwrap(), "is it running? start it with `lightnode run`");
    }

    #[test]
    fn ids_stay_in_their_place() {
        assert_eq!(segment("ab12"), "ab12");
        assert_eq!(segment("../stop?x=1"), "..%2Fstop%3Fx%3D1");
    }
}
