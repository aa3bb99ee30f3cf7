//! The API on its socket: answers in every state, errors with code, message and hint.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::ports::free_port;
use crate::support::world::World;

#[test]
fn the_api_answers_before_any_server_does() {
    let world = World::new();
    let mut alice = Daemon::with_servers(&world, "alice", &[format!("tcp://127.0.0.1:{}", free_port())]);
    alice.start();
    let status = alice.answering();
    assert!(["starting", "syncing"].contains(&status["state"].as_str().expect("a state")), "{status}");
    for (method, path, body) in [
        ("GET", "/v1/balance", None),
        ("GET", "/v1/channels", None),
        ("GET", "/v1/peers", None),
        ("GET", "/v1/history", None),
        ("POST", "/v1/address", Some(json!({}))),
        ("POST", "/v1/invoices", Some(json!({ "amount_msat": 1000 }))),
    ] {
        let (code, answer) = alice.api(method, path, body).expect("an answer");
        assert!(code == 200 || code == 503, "{path}: {code} {answer}");
        if code == 503 {
            is_error(&answer, "not_ready");
        }
    }
}

#[test]
fn errors_have_a_code_a_message_and_a_hint_and_never_a_bare_text() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    for (method, path, body, status, code) in [
        ("GET", "/v1/nothing", None, 404, "not_found"),
        ("DELETE", "/v1/status", None, 405, "bad_request"),
        ("POST", "/v1/payments", Some(json!({ "invoice": "garbage" })), 400, "bad_request"),
        ("POST", "/v1/payments", Some(json!({ "invoice": "x", "unheard": 1 })), 400, "bad_request"),
        ("POST", "/v1/payments", Some(json!({})), 400, "bad_request"),
        ("POST", "/v1/send", Some(json!({ "address": "x", "amount_sat": "many" })), 400, "bad_request"),
        ("GET", "/v1/history/ffffffffffffffffffffffffffffffff", None, 404, "not_found"),
        ("POST", "/v1/channels/00ff/close", Some(json!({})), 404, "not_found"),
    ] {
        let (got, answer) = alice.api(method, path, body).expect("an answer");
        assert_eq!(got, status, "{method} {path}: {answer}");
        is_error(&answer, code);
    }
}

#[test]
fn the_socket_belongs_to_its_owner_alone() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    for (path, mode) in
        [(alice.socket(), 0o600), (alice.folder().join("seed"), 0o600), (alice.folder().join("lightnode.db"), 0o600)]
    {
        let seen = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(seen.permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn a_huge_body_is_refused() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let (code, answer) =
        alice.api("POST", "/v1/decode", Some(json!({ "invoice": "x".repeat(4_000_000) }))).expect("an answer");
    assert_eq!(code, 413, "{answer}");
    is_error(&answer, "bad_request");
}

fn is_error(answer: &Value, code: &str) {
    assert_eq!(answer["code"], code, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|words| words.len() > 5), "{answer}");
}
