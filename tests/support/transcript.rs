//! What went through a proxy, line by line: so that tests can assert what a node asked, and how often.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Which way a line travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Reply,
    Notification,
    /// A JSON array, or no JSON at all.
    #[default]
    Other,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Forwarded,
    Dropped,
    Replaced,
    /// Passed on later, or slowly.
    Delayed,
    /// The connection was closed instead of passing it on.
    Closed,
}

/// One line that reached the proxy, as it reached it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Since the proxy started.
    pub(crate) at: Duration,
    /// Connections are numbered from 1.
    pub(crate) connection: usize,
    pub(crate) direction: Direction,
    pub(crate) kind: Kind,
    /// Of a reply too: the proxy remembers what was asked. Empty if unknown.
    pub(crate) method: String,
    /// Of the request, also in its reply; of the notification.
    pub(crate) params: Value,
    /// `null` for notifications.
    pub(crate) id: Value,
    /// The whole line; a string if it was no JSON.
    pub(crate) body: Value,
    pub(crate) fate: Fate,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.direction == Direction::ToServer { "->" } else { "<-" };
        let at = self.at.as_secs_f32();
        write!(f, "{at:9.3} #{} {arrow} {:?} {} {}", self.connection, self.kind, self.method, self.params)?;
        if self.kind == Kind::Reply {
            let result = if self.body["error"].is_null() { &self.body["result"] } else { &self.body["error"] };
            write!(f, " = {}", shortened(&result.to_string()))?;
        }
        if self.fate != Fate::Forwarded {
            write!(f, " [{:?}]", self.fate)?;
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.into(),
    }
}

/// The lines of a proxy, or of a part of its life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(pub(crate) Vec<Entry>);

impl Transcript {
    /// The requests, in the order in which they came.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| entry.kind == Kind::Request)
    }

    /// How many requests of `method` there were.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.requests().filter(|entry| entry.method == method).count()
    }

    /// How many requests there were of each method.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.requests() {
            *counts.entry(entry.method.clone()).or_default() += 1;
        }
        counts
    }

    /// How many replies to `method` reached the proxy.
    pub(crate) fn replies(&self, method: &str) -> usize {
        self.0.iter().filter(|entry| entry.kind == Kind::Reply && entry.method == method).count()
    }

    /// How many notifications of `method` reached the proxy.
    pub(crate) fn notifications(&self, method: &str) -> usize {
        self.0.iter().filter(|entry| entry.kind == Kind::Notification && entry.method == method).count()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// Turns lines into entries; remembers what each connection asked, because a reply names only a number.
pub(crate) struct Recorder {
    start: Instant,
    asked: HashMap<(usize, String), (String, Value)>,
    pub(crate) entries: Vec<Entry>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), asked: HashMap::new(), entries: Vec::new() }
    }

    /// The entry for a line, not yet recorded: what becomes of it is not known.
    pub(crate) fn read(&mut self, connection: usize, direction: Direction, line: &[u8]) -> Entry {
        let body = serde_json::from_slice(line);
        let body: Value = body.unwrap_or_else(|_| String::from_utf8_lossy(line).trim_end().into());
        let id = body.get("id").cloned().unwrap_or_default();
        let named = body.get("method").and_then(Value::as_str).map(str::to_owned);
        let key = (connection, id.to_string());
        let (kind, method, params) = match named {
            Some(method) => {
                let params = body.get("params").cloned().unwrap_or_default();
                if id.is_null() {
                    (Kind::Notification, method, params)
                } else {
                    self.asked.insert(key, (method.clone(), params.clone()));
                    (Kind::Request, method, params)
                }
            }
            None if body.is_object() => {
                let (method, params) = self.asked.get(&key).cloned().unwrap_or_default();
                (Kind::Reply, method, params)
            }
            None => Default::default(),
        };
        let at = self.start.elapsed();
        Entry { at, connection, direction, kind, method, params, id, body, fate: Fate::Forwarded }
    }
}
