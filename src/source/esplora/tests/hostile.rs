use std::time::{Duration, Instant};

use super::super::super::{NoAnswer, SourceError, Trouble};
use super::super::Limits;
use super::conversation::{LIMITS, connect, source, try_connect};
use super::{Say, Server, genesis, http, id, ok, outside, pays};
use crate::chain::io::{Reply, Request, Status};

fn said(bytes: &str) -> Say {
    Say::Bytes(bytes.as_bytes().to_vec())
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    let mut line = connect(&server).await;
    line.tip().await;
    let location = format!("Location: http://127.0.0.1:{}/blocks/tip/hash\r\n", elsewhere.port);
    server.rule(move |_| Some(http("302 Found", &location, "")));
    assert!(matches!(line.closed().await, SourceError::Transient(Trouble::Garbled(_))));
    assert_eq!(elsewhere.count("/"), 0);
}

#[tokio::test]
async fn an_answer_larger_than_its_limit_is_cut_off_and_its_script_is_not_followed() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    server.rule(|path| {
        let announced = "HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\n\r\n[";
        (path.contains("/txs") || path.contains("/raw")).then(|| Say::AndWait(announced.into()))
    });
    let refused = line.asked(Request::Subscribe { script: id(1) }).await;
    assert!(matches!(refused, Err(SourceError::Refused(NoAnswer::Malformed("an answer is too large")))), "{refused:?}");
    let txid = pays(outside(1), &[1]).compute_txid();
    assert!(line.asked(Request::Transaction { txid }).await.is_err());
}

#[tokio::test]
async fn heads_and_chunks_without_end_are_cut_off() {
    for endless in [
        format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)),
        format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(100_000)),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", "400\r\n".to_owned() + &"x".repeat(1024)),
    ] {
        let server = Server::start().await;
        let limits = Limits { request: Duration::from_millis(300), ..LIMITS };
        server.rule(move |_| Some(Say::AndWait(endless.clone().into_bytes())));
        let outcome = try_connect(&source(&server, limits, genesis().block_hash())).await;
        assert!(matches!(outcome.err(), Some(SourceError::Transient(_))));
    }
}

#[tokio::test]
async fn a_server_that_answers_byte_after_byte_is_left_at_the_deadline() {
    let server = Server::start().await;
    let limits = Limits { request: Duration::from_millis(200), ..LIMITS };
    let mut line = try_connect(&source(&server, limits, genesis().block_hash())).await.unwrap();
    line.tip().await;
    server.rule(|_| Some(Say::AndWait(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n0".to_vec())));
    let begun = Instant::now();
    assert!(matches!(line.closed().await, SourceError::Transient(Trouble::Deadline(_))));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn what_is_not_http_ends_the_connection() {
    for garbage in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 999999 ?\r\n\r\n", "{}\n\n", "\0\0\0\0\r\n\r\n"] {
        let server = Server::start().await;
        let mut line = connect(&server).await;
        line.tip().await;
        server.rule(move |_| Some(said(garbage)));
        assert!(matches!(line.closed().await, SourceError::Transient(_)), "{garbage:?}");
    }
}

#[tokio::test]
async fn a_tip_that_is_no_hash_is_borne_for_a_while_and_then_the_server_is_left() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    let mut bad = 2;
    server.rule(move |path| {
        bad -= i32::from(path == "/blocks/tip/hash");
        (path == "/blocks/tip/hash" && bad >= 0).then(|| ok("<html>\u{1b}[2J try again </html>"))
    });
    server.mine(&[]);
    assert_eq!(line.tip().await, 1);
    server.rule(|path| (path == "/blocks/tip/hash").then(|| ok("<html>")));
    assert!(matches!(line.closed().await, SourceError::Refused(NoAnswer::Malformed("hash"))));
}

#[tokio::test]
async fn a_short_wait_that_the_server_asks_for_is_waited_and_nothing_is_lost() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    let mut refusals = 2;
    server.rule(move |_| {
        refusals -= 1;
        (refusals >= 0).then(|| http("429 Too Many Requests", "Retry-After: 1\r\n", "{\"error\":\"slow down\"}"))
    });
    let begun = Instant::now();
    assert!(matches!(line.asked(Request::Subscribe { script: id(1) }).await, Ok(Reply::Status(None))));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    server.mine(&[pays(outside(1), &[1])]);
    assert!(matches!(line.next().await, crate::source::Event::Status { .. }));
    assert_eq!(line.tip().await, 1);
}

#[tokio::test]
async fn a_server_that_wants_long_peace_gets_it_from_the_next_connection_too() {
    let server = Server::start().await;
    let source = source(&server, LIMITS, genesis().block_hash());
    let mut line = try_connect(&source).await.unwrap();
    line.tip().await;
    server.rule(|_| Some(http("503 Service Unavailable", "Retry-After: 600\r\n", "")));
    assert!(matches!(line.closed().await, SourceError::Transient(Trouble::Busy(wait)) if wait.as_secs() >= 600));
    let before = server.count("/");
    let again = try_connect(&source).await.err();
    assert!(matches!(again, Some(SourceError::Transient(Trouble::Busy(wait))) if wait.as_secs() > 500), "{again:?}");
    assert_eq!(server.count("/"), before, "it was not spoken to");
}

#[tokio::test]
async fn a_block_that_is_not_what_its_header_says_is_not_searched_and_everything_is_asked_for_anew() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    assert!(matches!(line.asked(Request::Subscribe { script: id(1) }).await, Ok(Reply::Status(None))));
    // The server hides our transaction in the block, and lists it all the same.
    let tx = pays(outside(1), &[1]);
    let mut block = server.mine(&[tx, pays(outside(2), &[9])]);
    block.txdata.remove(1);
    let bent = bitcoin::consensus::serialize(&block);
    server.rule(move |path| path.ends_with("/raw").then(|| ok(&bent)));
    let pushed = line.next().await;
    assert!(matches!(pushed, crate::source::Event::Status { status: Some(_), .. }), "{pushed:?}");
    assert_eq!(line.tip().await, 1);
    assert_eq!(server.count("/raw"), 2);
}

#[tokio::test]
async fn a_chain_that_turns_again_and_again_ends_the_connection() {
    let server = Server::start().await;
    server.mine(&[]);
    let mut line = connect(&server).await;
    line.tip().await;
    let branches = [1, 2].map(|salt| super::mine(&genesis().header, salt, &[]));
    let flip = server.clone();
    let task = tokio::spawn(async move {
        for number in 0.. {
            flip.with(|state| state.chain[1] = branches[number % 2].clone());
            tokio::time::sleep(LIMITS.poll).await;
        }
    });
    let reason = loop {
        match line.next().await {
            crate::source::Event::Closed(why) => break why,
            _ => continue,
        }
    };
    task.abort();
    assert!(matches!(reason, SourceError::Transient(Trouble::Garbled("its chain turns again and again"))), "{reason}");
    assert!(server.count("/raw") < 100);
}

#[tokio::test]
async fn a_script_whose_history_is_refused_after_a_jump_is_told_by_a_status_and_its_refusal() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    assert!(matches!(line.asked(Request::Subscribe { script: id(1) }).await, Ok(Reply::Status(None))));
    server.rule(|path| path.contains("/txs").then(|| http("400 Bad Request", "", "Too many history entries")));
    (0..40).for_each(|_| drop(server.mine(&[])));
    match line.next().await {
        crate::source::Event::Status { script, status: Some(Status(_)) } => assert_eq!(script, id(1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(line.tip().await, 40);
    let refused = line.asked(Request::History { script: id(1) }).await;
    assert!(matches!(refused, Err(SourceError::Refused(NoAnswer::Said(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_history_of_too_many_pages_is_not_followed() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    let mut number = 0u32;
    server.rule(move |path| {
        if !path.contains("/txs") {
            return None;
        }
        let mut page = Vec::new();
        for _ in 0..25 {
            number += 1;
            let mut tx = pays(outside(1), &[1]);
            tx.lock_time = bitcoin::absolute::LockTime::from_consensus(number);
            page.push(super::tx_value(&tx, Some(7)));
        }
        Some(ok(serde_json::Value::from(page).to_string()))
    });
    let refused = line.asked(Request::Subscribe { script: id(1) }).await;
    assert!(matches!(refused, Err(SourceError::Refused(NoAnswer::Malformed(_)))), "{refused:?}");
    assert_eq!(server.count("/txs/chain"), 39);
}
