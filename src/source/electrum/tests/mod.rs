//! The client against a scripted server.

mod conversation;
mod garbage;
mod hostile;
mod security;

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, Network};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use super::{Electrum, Limits};
use crate::chain::io::{ScriptHash, SourceId};
use crate::config::Server;
use crate::dial::Dialer;
use crate::source::road::{Dialed, Road, Stream, Way};
use crate::source::tls::pins::{Certificates, MemoryPins};
use crate::source::{Connected, EVENT_CAPACITY, Event, Session, SourceError, TlsState};

const ME: SourceId = SourceId(1);

fn genesis() -> BlockHash {
    genesis_block(Network::Regtest).block_hash()
}

fn a_header() -> Header {
    genesis_block(Network::Regtest).header
}

fn script(byte: u8) -> ScriptHash {
    ScriptHash([byte; 32])
}

fn electrum(addr: &str) -> Electrum {
    let server = Server { address: addr.parse().unwrap(), trusted: false, pin: None };
    Electrum::new(server, genesis(), road(Arc::new(Certificates::new(MemoryPins::default()))), Limits::default())
}

fn road(certificates: Arc<Certificates>) -> Road {
    Road::new(Dialer::new(None), certificates)
}

/// The server's end, played by the test.
struct Script<S> {
    stream: BufReader<S>,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Script<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The next request: its number, method and parameters.
    async fn request(&mut self) -> (u64, String, Value) {
        let mut line = String::new();
        assert_ne!(self.stream.read_line(&mut line).await.unwrap(), 0, "the client hung up");
        let line: Value = serde_json::from_str(&line).unwrap();
        (line["id"].as_u64().unwrap(), line["method"].as_str().unwrap().to_owned(), line["params"].clone())
    }

    async fn expect(&mut self, expected: &str) -> (u64, Value) {
        let (id, method, params) = self.request().await;
        assert_eq!(method, expected);
        (id, params)
    }

    async fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn answer(&mut self, id: u64, result: impl std::fmt::Display) {
        self.send(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}")).await;
    }

    async fn refuse(&mut self, id: u64, error: &str) {
        self.send(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}")).await;
    }

    /// Answers one request of each of these methods, in this order.
    async fn serve(&mut self, script: &[(&str, &str)]) {
        for (method, result) in script {
            let (id, _) = self.expect(method).await;
            self.answer(id, result).await;
        }
    }

    /// An honest handshake.
    async fn greet(&mut self, protocol: &str) {
        let version = format!("[\"ElectrumX 1.18.0\",\"{protocol}\"]");
        let features = format!("{{\"genesis_hash\":\"{}\"}}", genesis());
        self.serve(&[
            ("server.version", &version),
            ("server.features", &features),
            ("blockchain.headers.subscribe", &tip(5)),
        ])
        .await;
    }

    /// Whether the client hung up, whatever it still sent.
    async fn hung_up(mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.is_ok()
    }
}

fn tip(height: u32) -> String {
    format!("{{\"hex\":\"{}\",\"height\":{height}}}", serialize_hex(&a_header()))
}

/// A connected client, and the server that it is connected to.
struct Talk {
    server: Script<DuplexStream>,
    session: Box<dyn Session>,
    events: Receiver<(SourceId, Event)>,
    task: JoinHandle<()>,
}

impl Talk {
    async fn begin(protocol: &str) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (sink, mut events) = mpsc::channel(EVENT_CAPACITY);
        let mut server = Script::new(theirs);
        let client = electrum("tcp://server:1");
        let greeted = async {
            let dialed = Dialed { stream: Box::new(ours) as Stream, way: Way::CLEAR };
            client.greet(dialed, ME, sink).await
        };
        let (connected, ()) = tokio::join!(greeted, server.greet(protocol));
        let Connected { session, task } = connected.unwrap();
        let task = tokio::spawn(task);
        assert!(matches!(events.recv().await, Some((ME, Event::Tip { height: 5, .. }))));
        Self { server, session, events, task }
    }

    async fn event(&mut self) -> Event {
        let (id, event) = self.events.recv().await.unwrap();
        assert_eq!(id, ME);
        event
    }

    /// Why the connection ended; nothing else may come before, or after.
    async fn closed(&mut self) -> SourceError {
        match self.event().await {
            Event::Closed(why) => {
                (&mut self.task).await.unwrap();
                why
            }
            other => panic!("{other:?}"),
        }
    }
}
