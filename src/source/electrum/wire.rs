//! The wire: one JSON-RPC object a line, read with bounds. Pure.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::super::error::ServerError;
use super::super::untrusted::Untrusted;

/// Longest line read. A reply of 8.1 MB is legal (a 4 MB transaction in hex); padding comes on top.
pub const MAX_LINE: usize = 8_300_000;
/// Deepest nesting read. Real replies have at most 4 levels.
pub const MAX_DEPTH: usize = 16;

/// What a line is.
#[derive(Debug)]
pub enum Message<'a> {
    /// Answer to request `id`.
    Answer { id: u64, outcome: Result<&'a RawValue, ServerError> },
    /// Something pushed.
    Notification { method: Cow<'a, str>, params: &'a RawValue },
    /// An error that belongs to no request.
    Complaint(ServerError),
    /// Padding only.
    Blank,
}

/// A line that is not the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Garbled(pub &'static str);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(default, borrow, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Tells `null` (a result like any other) from a member that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one line, without its line feed.
pub fn parse_line(line: &[u8]) -> Result<Message<'_>, Garbled> {
    if line.len() > MAX_LINE {
        return Err(Garbled("a line is too long"));
    }
    let text = std::str::from_utf8(line).map_err(|_| Garbled("a line is not UTF-8"))?;
    if text.trim().is_empty() {
        return Ok(Message::Blank);
    }
    if deeper_than(line, MAX_DEPTH) {
        return Err(Garbled("a line is nested too deep"));
    }
    let line: Line = serde_json::from_str(text).map_err(|_| Garbled("a line is not a JSON-RPC object"))?;
    if let Some(method) = line.method {
        let params = line.params.ok_or(Garbled("a notification has no parameters"))?;
        return Ok(Message::Notification { method, params });
    }
    let error = line.error.filter(|error| error.get() != "null").map(read_error);
    let id = match line.id.map(RawValue::get) {
        None | Some("null") => {
            return error.map(Message::Complaint).ok_or(Garbled("an answer has no number"));
        }
        Some(id) => id.parse().map_err(|_| Garbled("the number of an answer is not ours"))?,
    };
    let outcome = match (error, line.result) {
        (Some(error), _) => Err(error),
        (None, Some(result)) => Ok(result),
        (None, None) => return Err(Garbled("an answer has neither result nor error")),
    };
    Ok(Message::Answer { id, outcome })
}

/// An error is `{code, message}`, or with some servers a bare string.
fn read_error(raw: &RawValue) -> ServerError {
    #[derive(Deserialize)]
    struct Full<'a> {
        code: Option<i64>,
        #[serde(borrow)]
        message: Option<Cow<'a, str>>,
    }
    if let Ok(Full { code, message }) = serde_json::from_str(raw.get()) {
        let text = Untrusted::new(message.as_deref().unwrap_or_default());
        return ServerError { code, text };
    }
    match serde_json::from_str::<Cow<str>>(raw.get()) {
        Ok(text) => ServerError { code: None, text: Untrusted::new(&text) },
        Err(_) => ServerError { code: None, text: Untrusted::new(raw.get()) },
    }
}

/// Whether brackets nest deeper than `limit`, outside of strings. Needs no stack.
pub(in crate::source) fn deeper_than(line: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in line {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Writes a request line, with its line feed. `params` is a JSON array.
pub(super) fn request_line(id: u64, method: &str, params: &str) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(line: &str) -> (u64, String) {
        match parse_line(line.as_bytes()) {
            Ok(Message::Answer { id, outcome: Ok(raw) }) => (id, raw.get().to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn error(line: &str) -> ServerError {
        match parse_line(line.as_bytes()) {
            Ok(Message::Answer { outcome: Err(error), .. }) => error,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &str) -> &'static str {
        match parse_line(line.as_bytes()) {
            Err(Garbled(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_may_be_padded_and_null_is_a_result() {
        assert_eq!(result(r#"   {"id": 7,   "result": null , "jsonrpc":"2.0"}       "#), (7, "null".into()));
        assert_eq!(result(r#"{"id":8,"error":null,"result":[1]}"#), (8, "[1]".into()));
        assert!(matches!(parse_line(b"      "), Ok(Message::Blank)));
    }

    #[test]
    fn an_error_may_be_an_object_a_bare_string_or_anything() {
        let full = error(r#"{"id":1,"error":{"code":-32601,"message":"unknown \u001b method"}}"#);
        assert_eq!((full.code, full.text.to_string()), (Some(-32601), "unknown \\u{1b} method".into()));
        assert_eq!(error(r#"{"id":1,"error":"busy"}"#).text.to_string(), "busy");
        assert_eq!(error(r#"{"id":1,"error":17}"#).text.to_string(), "17");
        assert_eq!(error(r#"{"id":1,"error":{"message":"x"},"result":"y"}"#).text.to_string(), "x");
    }

    #[test]
    fn notifications_are_told_by_their_method() {
        let line = br#"{"jsonrpc":"2.0","method":"blockchain.headers.subscribe","params":[{}]}"#;
        let Ok(Message::Notification { method, params }) = parse_line(line) else { panic!() };
        assert_eq!((method.as_ref(), params.get()), ("blockchain.headers.subscribe", "[{}]"));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        assert_eq!(refused("nonsense"), "a line is not a JSON-RPC object");
        assert_eq!(refused("[1,2]"), "a line is not a JSON-RPC object");
        assert_eq!(refused("{}"), "an answer has no number");
        assert_eq!(refused(r#"{"id":1}"#), "an answer has neither result nor error");
        assert_eq!(refused(r#"{"id":-1,"result":1}"#), "the number of an answer is not ours");
        assert_eq!(refused(r#"{"id":"1","result":1}"#), "the number of an answer is not ours");
        assert_eq!(refused(r#"{"id":1,"id":2,"result":1}"#), "a line is not a JSON-RPC object");
        assert_eq!(refused(r#"{"method":"x"}"#), "a notification has no parameters");
    }

    #[test]
    fn deep_nesting_is_refused_without_a_deep_stack() {
        let deep = format!("{{\"id\":1,\"result\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(refused(&deep), "a line is nested too deep");
        let unclosed = "[".repeat(1_000_000);
        assert_eq!(refused(&unclosed), "a line is nested too deep");
        let in_text = format!("{{\"id\":1,\"result\":\"{}\"}}", "[{\\\"".repeat(1000));
        assert_eq!(result(&in_text).0, 1);
    }

    #[test]
    fn an_error_without_a_number_is_a_complaint() {
        let line = br#"{"id":null,"error":{"code":-32700,"message":"parse error"}}"#;
        assert!(matches!(parse_line(line), Ok(Message::Complaint(_))));
    }
}
