//! A server of gossip snapshots (rapid gossip sync) that says what a test tells it to, true or not.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bitcoin::Network;
use bitcoin::constants::ChainHash;
use bitcoin::hex::FromHex;

/// What it says to every question.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// This file.
    File(Vec<u8>),
    /// Bytes that begin as a snapshot does, until nobody takes them any more.
    Endless,
}

/// A channel of a snapshot, and what both its sides are said to take for a payment.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    /// As `channels` shows it: block, transaction and output, with an x between them.
    pub(crate) short_id: String,
    pub(crate) nodes: [String; 2],
    pub(crate) base_msat: u32,
}

/// A snapshot of format 1, of that time.
pub(crate) fn snapshot(time: u64, channels: &[Channel]) -> Vec<u8> {
    let mut nodes: Vec<&String> = channels.iter().flat_map(|channel| &channel.nodes).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut channels: Vec<(u64, &Channel)> = channels.iter().map(|one| (number(&one.short_id), one)).collect();
    channels.sort_unstable_by_key(|(id, _)| *id);
    let mut bytes = head(time);
    bytes.extend(count(nodes.len()));
    nodes.iter().for_each(|id| bytes.extend(Vec::from_hex(id).expect("a node id")));
    bytes.extend(count(channels.len()));
    let mut before = 0;
    for (id, channel) in &channels {
        let mut ends = channel.nodes.each_ref().map(|id| nodes.iter().position(|node| *node == id).expect("listed"));
        ends.sort_unstable();
        // Without features; few enough nodes for one byte each.
        bytes.extend([0, 0]);
        bytes.extend(big(id - before));
        bytes.extend(ends.map(|end| u8::try_from(end).expect("a few nodes")));
        before = *id;
    }
    bytes.extend(count(2 * channels.len()));
    // What holds where an update says nothing else: 144 blocks, at least 1 msat, no fee, at most 1 BTC.
    bytes.extend(144_u16.to_be_bytes());
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(100_000_000_000_u64.to_be_bytes());
    let mut before = 0;
    for (id, channel) in &channels {
        for direction in [0, 1] {
            bytes.extend(big(id - before));
            bytes.push(0b0001_0000 | direction);
            bytes.extend(channel.base_msat.to_be_bytes());
            before = *id;
        }
    }
    bytes
}

/// A snapshot that promises so many nodes and channels, and holds none.
pub(crate) fn promising(time: u64, nodes: u32, channels: u32) -> Vec<u8> {
    [head(time), nodes.to_be_bytes().to_vec(), channels.to_be_bytes().to_vec()].concat()
}

fn head(time: u64) -> Vec<u8> {
    let time = u32::try_from(time).expect("before 2106");
    let network = ChainHash::using_genesis_block(Network::Regtest).to_bytes();
    [&b"LDK\x01"[..], &network, &time.to_be_bytes()].concat()
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a few").to_be_bytes()
}

/// A `BigSize` (BOLT 1).
fn big(number: u64) -> Vec<u8> {
    match number {
        0..0xfd => vec![number as u8],
        _ => [&[0xff][..], &number.to_be_bytes()].concat(),
    }
}

fn number(short_id: &str) -> u64 {
    let parts: Vec<u64> = short_id.split('x').map(|part| part.parse().expect("a number")).collect();
    let [block, tx, output] = parts[..] else { panic!("no short channel id: {short_id}") };
    block << 40 | tx << 16 | output
}

struct Shared {
    word: Mutex<Word>,
    asked: Mutex<Vec<String>>,
    ends: Mutex<bool>,
}

/// The server, on its own thread and port; both end with this value.
pub(crate) struct Snapshots {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// One that says this.
    pub(crate) fn start(word: Word) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback interface");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared { word: Mutex::new(word), asked: Mutex::default(), ends: Mutex::new(false) });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if *lock(&serving.ends) {
                    return;
                }
                // Who hangs up in the middle of a file has had enough of it.
                let _ = answer(&serving, client);
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// As a configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/snapshot", self.address)
    }

    /// What it says from now on.
    pub(crate) fn says(&self, word: Word) {
        *lock(&self.shared.word) = word;
    }

    /// The paths that it was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.shared.asked).clone()
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        *lock(&self.shared.ends) = true;
        // The thread waits for a client.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(shared: &Shared, client: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    lock(&shared.asked).push(first.split(' ').nth(1).unwrap_or_default().to_owned());
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    let word = lock(&shared.word).clone();
    match word {
        Word::File(bytes) => client.write_all(&bytes),
        Word::Endless => {
            client.write_all(b"LDK\x01")?;
            loop {
                client.write_all(&[0; 64 * 1024])?;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
