//! Somebody in between: passes lines between a node and an Electrum server, writes them all down, and can misbehave.
//!
//! It can go away and come back on the same port, hold replies, lose them, and consult a [`Rule`] on every line. It
//! speaks in the clear, or TLS with any [`Identity`], and always speaks in the clear to the server behind it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as sync_mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::eventually::Diagnostic;
use super::identity::Identity;
use super::transcript::{Direction, Entry, Fate, Kind, Recorder, Transcript};

/// What to do with a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Forward,
    Drop,
    /// Pass this on instead.
    Replace(Value),
    /// Close the connection without passing it on.
    Close,
    /// Send these bytes as they are, with no line feed added.
    Raw(Vec<u8>),
    /// Pass on the first half of the line, and close the connection.
    CloseMidLine,
    /// Pass it on when the gate opens; what comes after it does not wait.
    Later(Gate),
    /// Send bytes and never a line feed, this many at most, as fast as they are taken.
    Endless(usize),
    /// Pass it on one byte at a time, with a pause before each.
    Drip(Duration),
}

/// Keeps lines back until a test opens it. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed one.
    pub(crate) fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything through, from now on.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(self) {
        // The sender is held by `self`.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

/// What is written to a client.
enum Out {
    Line(Vec<u8>),
    Last(Vec<u8>),
    Endless(usize),
    Drip(Vec<u8>, Duration),
    Later(Vec<u8>, Gate),
}

/// Decides on every line that arrives. The entry tells direction, connection and, for a reply, also what was asked.
///
/// Closures are rules:
/// ```ignore
/// proxy.set_rule(|line: &Entry| if line.method == "blockchain.estimatefee" { Verdict::Drop } else { Verdict::Forward });
/// ```
pub(crate) trait Rule: Send {
    /// Called in the order in which lines arrive, on the proxy's own thread.
    fn on_line(&mut self, line: &Entry) -> Verdict;
}

impl<F: FnMut(&Entry) -> Verdict + Send> Rule for F {
    fn on_line(&mut self, line: &Entry) -> Verdict {
        self(line)
    }
}

/// A TCP line proxy on its own thread and port; both end with this value.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<(Order, sync_mpsc::Sender<()>)>,
    thread: Option<JoinHandle<()>>,
    _diagnostic: Diagnostic,
}

struct Shared {
    server: SocketAddr,
    recorder: Mutex<Recorder>,
    rule: Mutex<Option<Box<dyn Rule>>>,
    tls: Mutex<Option<TlsAcceptor>>,
    held: watch::Sender<bool>,
    accepted: AtomicUsize,
}

enum Order {
    CloseConnections,
    GoDown,
    ComeBack,
    End,
}

impl Proxy {
    /// Starts one in front of `server`, on a port of its own.
    pub(crate) fn start(server: SocketAddr) -> Self {
        Self::start_at("127.0.0.1", server)
    }

    /// The same, on this address of the loopback network: another host, as far as a node can see.
    pub(crate) fn start_at(host: &str, server: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            server,
            recorder: Mutex::new(Recorder::new()),
            rule: Mutex::default(),
            tls: Mutex::default(),
            held: watch::Sender::new(false),
            accepted: AtomicUsize::new(0),
        });
        let listener = std::net::TcpListener::bind((host, 0)).expect("a loopback interface");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a bound socket");
        let (orders, inbox) = mpsc::unbounded_channel();
        let serving = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let name = format!("proxy-{}", address.port());
        let serve = move || runtime.block_on(serve(serving, listener, inbox));
        let thread = std::thread::Builder::new().name(name).spawn(serve).expect("a thread");
        let shown = Arc::clone(&shared);
        let diagnostic = Diagnostic::new(format!("transcript of the proxy at {address}"), move || {
            let entries = &lock(&shown.recorder).entries;
            Transcript(entries[entries.len().saturating_sub(60)..].to_vec()).to_string()
        });
        Self { address, shared, orders, thread: Some(thread), _diagnostic: diagnostic }
    }

    /// Where a node finds it; the same for its whole life.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, as a configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.address())
    }

    /// Everything that went through so far.
    pub(crate) fn transcript(&self) -> Transcript {
        self.since(0)
    }

    /// A place in the transcript, for [`since`](Self::since).
    pub(crate) fn mark(&self) -> usize {
        lock(&self.shared.recorder).entries.len()
    }

    /// What went through since `mark`.
    pub(crate) fn since(&self, mark: usize) -> Transcript {
        Transcript(lock(&self.shared.recorder).entries[mark..].to_vec())
    }

    /// How many connections were ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Consults `rule` on every line from now on, in both directions.
    pub(crate) fn set_rule(&self, rule: impl Rule + 'static) {
        *lock(&self.shared.rule) = Some(Box::new(rule));
    }

    /// Passes everything on again.
    pub(crate) fn clear_rule(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// Loses every reply from now on (notifications still pass). Takes the place of another rule.
    pub(crate) fn drop_replies(&self) {
        self.set_rule(|line: &Entry| if line.kind == Kind::Reply { Verdict::Drop } else { Verdict::Forward });
    }

    /// Keeps back all that the server says, until [`release`](Self::release). It is written down when it arrives.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Passes on what was kept back, in order.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Speaks TLS as `identity` on connections made from now on, or in the clear.
    pub(crate) fn set_tls(&self, identity: Option<&Identity>) {
        *lock(&self.shared.tls) = identity.map(Identity::acceptor);
    }

    /// Closes all connections; new ones are welcome.
    pub(crate) fn close_connections(&self) {
        self.order(Order::CloseConnections);
    }

    /// Closes all connections and refuses new ones, as a server that went down.
    pub(crate) fn go_down(&self) {
        self.order(Order::GoDown);
    }

    /// Serves again, on the same port.
    pub(crate) fn come_back(&self) {
        self.order(Order::ComeBack);
    }

    /// Returns when it is done.
    fn order(&self, order: Order) {
        let (done, wait) = sync_mpsc::channel();
        self.orders.send((order, done)).expect("the proxy's thread lives");
        wait.recv().expect("the proxy's thread lives");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.orders.send((Order::End, sync_mpsc::channel().0));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    mut inbox: mpsc::UnboundedReceiver<(Order, sync_mpsc::Sender<()>)>,
) {
    let address = listener.local_addr().expect("a bound socket");
    let mut listener = Some(TcpListener::from_std(listener).expect("a runtime with IO"));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = inbox.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::CloseConnections => connections.shutdown().await,
                    Order::GoDown => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Order::ComeBack if listener.is_none() => listener = Some(bind_again(address).await),
                    Order::ComeBack => {}
                    Order::End => return,
                }
                // The one who ordered may be gone already.
                let _ = done.send(());
            }
            Ok((client, _)) = accept => {
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                connections.spawn(connection(Arc::clone(&shared), number, client));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Some other program's outgoing connection may be using the port for a moment.
async fn bind_again(address: SocketAddr) -> TcpListener {
    for _ in 0..600 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("somebody took the port {address} of a proxy that was down");
}

async fn connection(shared: Arc<Shared>, number: usize, client: TcpStream) {
    let Ok(server) = TcpStream::connect(shared.server).await else { return };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let tls = lock(&shared.tls).clone();
    match tls {
        None => carry(&shared, number, client, server).await,
        Some(tls) => {
            if let Ok(client) = tls.accept(client).await {
                carry(&shared, number, client, server).await;
            }
        }
    }
}

/// Carries lines both ways until one side is gone or a rule closes the connection.
async fn carry(shared: &Shared, number: usize, client: impl AsyncRead + AsyncWrite, server: TcpStream) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_server, mut to_server) = server.into_split();
    let (queue, mut queued) = mpsc::unbounded_channel::<Out>();

    let asking = async {
        let mut lines = BufReader::new(from_client);
        while let Some(line) = next(shared, number, Direction::ToServer, &mut lines).await {
            // What is bent on its way to the server is a line too.
            let (Out::Line(line) | Out::Last(line) | Out::Drip(line, _) | Out::Later(line, _)) = line else { return };
            if to_server.write_all(&line).await.is_err() {
                return;
            }
        }
    };
    let answering = async move {
        let mut lines = BufReader::new(from_server);
        while let Some(line) = next(shared, number, Direction::ToClient, &mut lines).await {
            let _ = queue.send(line);
        }
        // The client still gets what the server said before it left; then `delivering` ends.
        drop(queue);
        std::future::pending().await
    };
    // Apart from the reading, so that held replies are written down when they arrive.
    let (late, mut opened) = mpsc::unbounded_channel::<Vec<u8>>();
    let delivering = async {
        let mut held = shared.held.subscribe();
        let mut waiting = JoinSet::new();
        loop {
            let out = tokio::select! {
                out = queued.recv() => match out {
                    Some(out) => out,
                    None => return,
                },
                // `late` lives as long as this.
                Some(line) = opened.recv() => Out::Line(line),
            };
            if held.wait_for(|held| !held).await.is_err() {
                return;
            }
            let written = match out {
                Out::Line(line) => write(&mut to_client, &line).await,
                Out::Last(line) => {
                    let _ = write(&mut to_client, &line).await;
                    return;
                }
                Out::Endless(most) => {
                    let chunk = [b' '; 16 * 1024];
                    let mut written = Ok(());
                    for _ in 0..most.div_ceil(chunk.len()) {
                        written = write(&mut to_client, &chunk).await;
                        if written.is_err() {
                            break;
                        }
                    }
                    written
                }
                Out::Drip(line, pause) => {
                    let mut written = Ok(());
                    for byte in line {
                        tokio::time::sleep(pause).await;
                        written = write(&mut to_client, &[byte]).await;
                        if written.is_err() {
                            break;
                        }
                    }
                    written
                }
                Out::Later(line, gate) => {
                    let late = late.clone();
                    waiting.spawn(async move {
                        gate.passed().await;
                        let _ = late.send(line);
                    });
                    Ok(())
                }
            };
            if written.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
        () = delivering => {}
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// What shall be passed on next. Nothing when the connection shall end.
async fn next(
    shared: &Shared,
    number: usize,
    direction: Direction,
    lines: &mut (impl AsyncBufReadExt + Unpin),
) -> Option<Out> {
    loop {
        let mut line = Vec::new();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        // Only this thread records, and it does not await before it is done: lines stay in their order. The lock is
        // free while the rule decides, so that a rule may look at the transcript.
        let mut entry = lock(&shared.recorder).read(number, direction, &line);
        let verdict = lock(&shared.rule).as_mut().map_or(Verdict::Forward, |rule| rule.on_line(&entry));
        let (fate, passed_on) = match verdict {
            Verdict::Forward => (Fate::Forwarded, Some(Out::Line(line))),
            Verdict::Drop => (Fate::Dropped, None),
            Verdict::Replace(value) => (Fate::Replaced, Some(Out::Line(format!("{value}\n").into_bytes()))),
            Verdict::Close => (Fate::Closed, None),
            Verdict::Raw(bytes) => (Fate::Replaced, Some(Out::Line(bytes))),
            Verdict::CloseMidLine => (Fate::Closed, Some(Out::Last(line[..line.len() / 2].to_vec()))),
            Verdict::Later(gate) => (Fate::Delayed, Some(Out::Later(line, gate))),
            Verdict::Endless(most) => (Fate::Replaced, Some(Out::Endless(most))),
            Verdict::Drip(pause) => (Fate::Delayed, Some(Out::Drip(line, pause))),
        };
        entry.fate = fate;
        lock(&shared.recorder).entries.push(entry);
        if passed_on.is_some() || fate == Fate::Closed {
            return passed_on;
        }
    }
}
