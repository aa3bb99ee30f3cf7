//! Lines over a stream, with bounds on what is kept of them.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::super::error::Trouble;
use super::super::road::Stream;
use super::wire::{self, MAX_LINE};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// Both directions of a connection, and the numbering of requests.
pub(super) struct Wire {
    pub(super) lines: Lines,
    pub(super) out: Outgoing,
    next_id: u64,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            lines: Lines { reader, buffer: Vec::new(), start: 0, scanned: 0 },
            out: Outgoing { writer, queue: VecDeque::new(), unflushed: false },
            next_id: 0,
        }
    }

    /// Queues a request and tells its number.
    pub(super) fn request(&mut self, method: &str, params: &str) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.out.queue.extend(wire::request_line(id, method, params));
        id
    }

    /// Whether a request of this number was ever made.
    pub(super) fn asked(&self, id: u64) -> bool {
        id < self.next_id
    }
}

/// The incoming lines.
pub(super) struct Lines {
    reader: ReadHalf<Stream>,
    /// At most one line that is not whole yet, and one chunk.
    buffer: Vec<u8>,
    /// Where the first line not taken begins.
    start: usize,
    /// Up to where no line feed was found.
    scanned: usize,
}

impl Lines {
    /// The next line, without its line feed. Can be cancelled without losing anything.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let end = self.scanned + at;
                let line = self.buffer[self.start..end].to_vec();
                self.start = end + 1;
                self.scanned = self.start;
                return Ok(line);
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.scanned = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(Trouble::Garbled("a line is too long"));
            }
            if self.buffer.is_empty() {
                self.buffer.shrink_to(CHUNK);
            }
            self.buffer.reserve(CHUNK);
            let mut chunk = (&mut self.reader).take(CHUNK as u64);
            match chunk.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Trouble::Closed),
                Ok(_) => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

/// The outgoing lines.
pub(super) struct Outgoing {
    writer: WriteHalf<Stream>,
    queue: VecDeque<u8>,
    unflushed: bool,
}

impl Outgoing {
    /// Writes what is queued, and then never ends. Can be cancelled without losing anything.
    pub(super) async fn drain(&mut self) -> Result<(), Trouble> {
        self.write().await?;
        pending().await
    }

    /// Writes what is queued.
    pub(super) async fn write(&mut self) -> Result<(), Trouble> {
        while !self.queue.is_empty() {
            self.unflushed = true;
            if self.writer.write_buf(&mut self.queue).await.map_err(broken)? == 0 {
                return Err(Trouble::Closed);
            }
        }
        if self.unflushed {
            self.writer.flush().await.map_err(broken)?;
            self.unflushed = false;
        }
        Ok(())
    }
}

fn broken(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Trouble::Closed,
        _ => Trouble::Broken(Arc::new(error)),
    }
}
