//! For people or for programs.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::client::Reply;
use super::exit::Failure;
use crate::api::types::NodeError;
use crate::text::{escape_whole as escape, plain_json};

/// How a command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Answers are the API's JSON.
    json: bool,
    /// Errors are JSON, too: `--json` was given.
    json_errors: bool,
    /// Ids in full length.
    pub(super) verbose: bool,
}

impl Output {
    /// As `--json`, `-v` and the terminal want it.
    pub fn new(json: bool, verbose: bool) -> Self {
        Self { json: json || !io::stdout().is_terminal(), json_errors: json, verbose }
    }

    pub(super) fn for_people(&self) -> bool {
        !self.json
    }

    /// The API's answer, or what `text` makes of it.
    pub(super) fn reply<T>(&self, reply: &Reply<T>, text: impl FnOnce(&T) -> String) {
        if self.json { self.json(&reply.json) } else { self.text(&text(&reply.value)) }
    }

    /// A command that needed no daemon did this.
    pub(super) fn done(&self, done: &str) {
        if self.json { self.json(serde_json::json!({ "done": done }).to_string().as_bytes()) } else { self.text(done) }
    }

    pub(super) fn json(&self, json: &[u8]) {
        let json = json.trim_ascii_end();
        // Foreign text is whole in it, and cannot command a terminal.
        let plain = std::str::from_utf8(json).map(|json| plain_json(json).into_bytes());
        write(&[plain.as_deref().unwrap_or(json), b"\n"].concat());
    }

    pub(super) fn text(&self, text: &str) {
        write(text.as_bytes());
        if !text.ends_with('\n') {
            write(b"\n");
        }
    }

    /// Says on stderr what went wrong and what to do; returns the exit code.
    pub fn failure(&self, failure: &Failure) -> u8 {
        self.error(&failure.error);
        failure.exit
    }

    fn error(&self, error: &NodeError) {
        let text = match serde_json::to_string(error) {
            Ok(json) if self.json_errors => plain_json(&json),
            _ => {
                let hint = error.hint.as_ref().map(|hint| format!("\nhint: {}", escape(hint))).unwrap_or_default();
                format!("error: {}{hint}", escape(&error.message))
            }
        };
        // Where not even stderr can be written there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A line for people on stderr.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// A reader who went away (`| head`) is no error. Other trouble is said, and does not change the exit code: that one
/// tells what became of the money.
fn write(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: the output could not be written: {error}");
        }
        _ => {}
    }
}
