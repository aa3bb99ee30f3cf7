//! The simplest Electrum client there can be: asks, waits, believes. For looking at servers, never for testing the node.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{BlockHash, Script};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::eventually::patience;
use super::identity::Identity;

const ANSWER: Duration = Duration::from_secs(30);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection to a server, after the handshake of versions.
pub(crate) struct Probe {
    stream: BufReader<Box<dyn Stream>>,
    socket: TcpStream,
    next_id: u64,
    /// A line of which the end has not come yet.
    begun: String,
    notifications: VecDeque<Value>,
}

impl Probe {
    /// Connects in the clear.
    pub(crate) fn connect(server: SocketAddr) -> Self {
        Self::try_connect(server).unwrap_or_else(|error| panic!("cannot talk to the Electrum server: {error}"))
    }

    /// Connects in the clear, where a refusal is of interest.
    pub(crate) fn try_connect(server: SocketAddr) -> Result<Self, String> {
        let socket = TcpStream::connect(server).map_err(|error| error.to_string())?;
        let stream = socket.try_clone().map_err(|error| error.to_string())?;
        Self::greet(Box::new(stream), socket)
    }

    /// Connects over TLS and trusts this one certificate.
    pub(crate) fn connect_tls(server: SocketAddr, trusted: &Identity) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.certificate().clone()).map_err(|error| error.to_string())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a valid name");
        let tls = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        let socket = TcpStream::connect(server).map_err(|error| error.to_string())?;
        let stream = socket.try_clone().map_err(|error| error.to_string())?;
        Self::greet(Box::new(StreamOwned::new(tls, stream)), socket)
    }

    fn greet(stream: Box<dyn Stream>, socket: TcpStream) -> Result<Self, String> {
        let (stream, notifications) = (BufReader::new(stream), VecDeque::new());
        let mut probe = Self { stream, socket, next_id: 0, begun: String::new(), notifications };
        probe.try_call("server.version", &json!(["probe/1", ["1.4", "1.6"]]))?;
        Ok(probe)
    }

    /// Asks and waits for the result. Panics when the server refuses or is silent.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|error| panic!("Electrum {method} {params}: {error}"))
    }

    /// Asks and waits for the result, where a refusal is of interest.
    pub(crate) fn try_call(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        self.ask(method, params)?;
        let id = self.next_id;
        let deadline = Instant::now() + patience(ANSWER);
        loop {
            let mut line = self.read_line(deadline)?;
            if line.get("id").is_none_or(|value| value != id) {
                self.notifications.push_back(line);
            } else if line["error"].is_null() {
                return Ok(line["result"].take());
            } else {
                return Err(line["error"].to_string());
            }
        }
    }

    /// Asks without waiting for the reply.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Result<(), String> {
        self.next_id += 1;
        let line = format!("{}\n", json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params }));
        let stream = self.stream.get_mut();
        stream.write_all(line.as_bytes()).and_then(|()| stream.flush()).map_err(|error| error.to_string())
    }

    /// The next notification of `method`, or why there is none within `span`. Others are skipped.
    pub(crate) fn notification(&mut self, method: &str, span: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + patience(span);
        loop {
            let mut line = match self.notifications.pop_front() {
                Some(line) => line,
                None => self.read_line(deadline)?,
            };
            if line["method"] == method {
                return Ok(line["params"].take());
            }
        }
    }

    /// The hash of the server's best block. Subscribes to headers.
    pub(crate) fn tip(&mut self) -> BlockHash {
        let tip = self.call("blockchain.headers.subscribe", &json!([]));
        let header: Header = deserialize_hex(tip["hex"].as_str().expect("a header")).expect("a header");
        header.block_hash()
    }

    /// What the server knows of a script: confirmed, then unconfirmed.
    pub(crate) fn history(&mut self, script: &Script) -> Vec<Value> {
        let history = self.call("blockchain.scripthash.get_history", &json!([script_hash(script)]));
        history.as_array().expect("a list").clone()
    }

    fn read_line(&mut self, deadline: Instant) -> Result<Value, String> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        match self.stream.read_line(&mut self.begun) {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(_) => serde_json::from_str(&std::mem::take(&mut self.begun)).map_err(|error| error.to_string()),
            Err(error) => Err(format!("no line in time: {error}")),
        }
    }
}

/// The name that the Electrum protocol gives to a script.
pub(crate) fn script_hash(script: &Script) -> String {
    let mut bytes = sha256::Hash::hash(script.as_bytes()).to_byte_array();
    bytes.reverse();
    bitcoin::hex::DisplayHex::to_lower_hex_string(&bytes)
}
