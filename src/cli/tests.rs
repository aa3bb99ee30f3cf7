//! Each command against a daemon that writes down what it is asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::{Cli, Output};
use crate::config::Config;

type Asked = Arc<Mutex<Vec<String>>>;

/// A daemon that answers as `answer` says, until the test is over.
struct Daemon {
    dir: tempfile::TempDir,
    asked: Asked,
}

impl Daemon {
    fn new(answer: impl Fn(&str) -> (u16, Value) + Clone + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Asked::default();
        let listener = UnixListener::bind(dir.path().join("lightnode.sock")).unwrap();
        let seen = asked.clone();
        let routes = Router::new().fallback(async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(to_bytes(body, 100_000).await.unwrap().to_vec()).unwrap();
            let line = format!("{} {} {body}", parts.method, parts.uri).trim_end().to_owned();
            let (status, answer) = answer(&line);
            seen.lock().unwrap().push(line);
            let status = StatusCode::from_u16(status).unwrap();
            Response::builder().status(status).body(Body::from(answer.to_string())).unwrap()
        });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { dir, asked }
    }

    /// Runs a command; returns its exit code and what it asked.
    async fn run(&self, words: &[&str]) -> (u8, Vec<String>) {
        self.asked.lock().unwrap().clear();
        let cli = Cli::parse_from(std::iter::once("lightnode").chain(words.iter().copied()));
        let dir = self.dir.path();
        let text = format!("data_dir = \"{}\"", dir.display());
        let config = Config::from_text(&dir.join("lightnode.toml"), &text, dir).unwrap();
        let code = super::run(&cli.command, &config, Output::new(true, false)).await;
        (code, self.asked.lock().unwrap().clone())
    }
}

fn entry(status: &str) -> Value {
    json!({
        "id": "ab".repeat(32), "kind": "pay", "direction": "out", "status": status, "amount_msat": 1000,
        "fee_msat": 0, "created_at": 1, "updated_at": 1, "description": null, "payee": null, "preimage": null,
        "invoice": null, "txid": null, "height": null, "attempts": 1, "reason": null, "open_until_height": null,
    })
}

fn decoded() -> Value {
    json!({
        "network": "regtest", "payee": "02", "payment_hash": "ab".repeat(32), "amount_msat": 1000,
        "description": "", "description_hash": null, "created_at": 1, "expires_at": 2, "expired": false,
        "min_final_cltv_expiry": 18, "route_hints": 0, "own": false,
    })
}

/// What a daemon would answer to a command that goes well.
fn good(line: &str) -> (u16, Value) {
    let value = match line.split_whitespace().take(2).collect::<Vec<_>>()[..] {
        ["POST", "/v1/address"] => json!({ "address": "bcrt1q", "reused": false }),
        ["POST", "/v1/send"] => json!({ "txid": "aa", "amount_sat": 1, "fee_sat": 1, "feerate": 1.0 }),
        ["GET", "/v1/balance"] => json!({
            "lightning_sat": 0, "lightning_inbound_sat": 0, "onchain_spendable_sat": 0, "onchain_confirmed_sat": 0,
            "onchain_pending_sat": 0, "onchain_locked_sat": 0, "reserve_sat": 0, "closing": [],
        }),
        ["GET", "/v1/fees"] => json!({
            "targets": [], "at": null, "age_secs": null, "sources": [],
            "limits": { "min_sat_per_vb": 1, "max_sat_per_vb": 2, "fallback_sat_per_vb": 1, "max_factor_per_hour": 4 },
        }),
        ["GET", "/v1/peers" | "/v1/channels" | "/v1/servers"] => json!([]),
        ["POST", "/v1/peers"] => json!({
            "node_id": "02", "address": null, "connected": true, "inbound": false, "persisted": true, "channels": 0,
            "retry_at": null,
        }),
        ["DELETE", _] => json!({ "done": "removed" }),
        ["POST", "/v1/channels"] => json!({
            "channel_id": "aa", "user_channel_id": "1", "funding_txid": "bb", "amount_sat": 1,
            "confirmations_required": 6,
        }),
        ["POST", "/v1/invoices"] => json!({
            "invoice": "lnbcrt1", "payment_hash": "ab".repeat(32), "amount_msat": 1, "description": "",
            "expires_at": 1, "warning": null,
        }),
        ["POST", "/v1/decode"] => decoded(),
        ["GET", path] if path.starts_with("/v1/history?") => {
            json!({ "entries": [entry("succeeded")], "next": null, "forwarding_fees_msat": 0 })
        }
        ["GET", "/v1/history/abab"] => {
            return (404, json!({ "code": "not_found", "message": "no such entry" }));
        }
        ["POST", path] if path.ends_with("/forgive") => json!({ "done": "forgiven" }),
        ["POST", path] if path.ends_with("/close") => json!({ "channel_id": "aa", "next": "soon" }),
        ["POST", "/v1/payments"] | ["GET", _] => entry("succeeded"),
        _ => return (404, json!({ "code": "not_found", "message": format!("no route for {line}") })),
    };
    (200, value)
}

#[tokio::test]
async fn each_command_asks_its_route_with_what_was_written() {
    let daemon = Daemon::new(good);
    let id = "ab".repeat(32);
    for (words, asked) in [
        ("balance", vec!["GET /v1/balance".to_owned()]),
        ("fees", vec!["GET /v1/fees".into()]),
        ("address", vec!["POST /v1/address {}".into()]),
        ("send bc1q 50k", vec![r#"POST /v1/send {"address":"bc1q","amount_sat":50000,"feerate":null}"#.into()]),
        (
            "send bc1q all --feerate 2.5",
            vec![r#"POST /v1/send {"address":"bc1q","amount_sat":null,"feerate":2.5}"#.into()],
        ),
        ("peer list", vec!["GET /v1/peers".into()]),
        ("peer add 02@h:1", vec![r#"POST /v1/peers {"peer":"02@h:1"}"#.into()]),
        ("peer remove 02/../x", vec!["DELETE /v1/peers/02%2F..%2Fx".into()]),
        ("channels", vec!["GET /v1/channels".into()]),
        ("servers", vec!["GET /v1/servers".into()]),
        ("servers forgive a.b/../x", vec!["POST /v1/servers/a.b%2F..%2Fx/forgive {}".into()]),
        (
            "open 02@h:1 0.01btc --push 1500msat --public --feerate 3",
            vec![
                r#"POST /v1/channels {"peer":"02@h:1","amount_sat":1000000,"push_msat":1500,"public":true,"feerate":3.0}"#
                    .into(),
            ],
        ),
        (
            &format!("close {id} --force"),
            vec![format!(r#"POST /v1/channels/{id}/close {{"force":true}}"#)],
        ),
        (
            "receive 21k -m coffee --expiry 10m",
            vec![r#"POST /v1/invoices {"amount_msat":21000000,"description":"coffee","expiry_secs":600}"#.into()],
        ),
        (
            "receive --wait",
            vec![
                r#"POST /v1/invoices {"amount_msat":null,"description":"","expiry_secs":null}"#.into(),
                format!("GET /v1/history/{id}/wait?timeout_secs=60"),
            ],
        ),
        ("decode lnbc1", vec![r#"POST /v1/decode {"invoice":"lnbc1"}"#.into()]),
        (
            "pay lnbc1 5 --max-fee 10 --timeout 2m",
            vec![
                r#"POST /v1/decode {"invoice":"lnbc1"}"#.into(),
                r#"POST /v1/payments {"invoice":"lnbc1","amount_msat":5000,"max_fee_msat":10000,"timeout_secs":120}"#
                    .into(),
            ],
        ),
        ("history --limit 3 --before ff", vec!["GET /v1/history?limit=3&before=ff".into()]),
        ("show abababab", vec!["GET /v1/history/abababab".into()]),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        assert_eq!(daemon.run(&words).await, (0, asked), "{words:?}");
    }
}

#[tokio::test]
async fn a_payment_ends_with_what_is_known_of_it() {
    for (status, code) in [("succeeded", 0), ("failed", 1), ("unknown", 4), ("pending", 4)] {
        let daemon = Daemon::new(move |line| match line.starts_with("POST /v1/payments") {
            true => (200, entry(status)),
            false => good(line),
        });
        assert_eq!(daemon.run(&["pay", "lnbc1"]).await.0, code, "{status}");
    }
    let daemon = Daemon::new(|line| match line.starts_with("POST /v1/payments") {
        true => (422, json!({ "code": "insufficient_funds", "message": "too little" })),
        false => good(line),
    });
    assert_eq!(daemon.run(&["pay", "lnbc1"]).await.0, 5);
}

#[tokio::test]
async fn an_invoice_that_is_none_is_never_offered_for_payment() {
    let daemon = Daemon::new(|_| (400, json!({ "code": "bad_request", "message": "not an invoice" })));
    let (code, asked) = daemon.run(&["pay", "garbage"]).await;
    assert_eq!((code, asked.len()), (2, 1));
}

#[tokio::test]
async fn waiting_for_a_payment_goes_on_until_it_is_settled() {
    let rounds = Arc::new(Mutex::new(vec![entry("expired"), entry("pending"), entry("pending")]));
    let daemon = Daemon::new(move |line| match line.contains("/wait") {
        true => (200, rounds.lock().unwrap().pop().unwrap()),
        false => good(line),
    });
    let (code, asked) = daemon.run(&["receive", "1k", "--wait"]).await;
    assert_eq!((code, asked.len()), (1, 4));
}

#[tokio::test]
async fn an_answer_that_is_not_understood_leaves_money_unknown() {
    let daemon = Daemon::new(|_| (200, json!({ "surprise": true })));
    assert_eq!(daemon.run(&["send", "bc1q", "1k"]).await.0, 4);
    assert_eq!(daemon.run(&["balance"]).await.0, 3);
}
