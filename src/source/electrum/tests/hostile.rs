//! Servers that are slow, broken or worse.

use std::time::Duration;

use tokio::time::Instant;

use super::super::wire::MAX_LINE;
use super::*;
use crate::chain::io::{Reply, Request};
use crate::source::{Breach, Trouble};

fn history(byte: u8) -> Request {
    Request::History { script: script(byte) }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_at_the_deadline_and_every_waiter_hears_of_it() {
    let mut talk = Talk::begin("1.4").await;
    let begun = Instant::now();
    let claims = tokio::spawn(talk.session.fee_claims());
    talk.session.ask(history(1));
    assert!(matches!(talk.closed().await, SourceError::Transient(Trouble::Silent(_))));
    assert!(matches!(claims.await.unwrap(), Err(SourceError::Transient(Trouble::Silent(_)))));
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
    assert!(talk.server.hung_up().await);
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_does_not_move_the_deadline() {
    let mut talk = Talk::begin("1.4").await;
    let begun = Instant::now();
    talk.session.ask(history(1));
    let mut server = talk.server;
    let trickle = tokio::spawn(async move {
        for byte in std::iter::repeat(b' ') {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if server.stream.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let Some((_, Event::Closed(why))) = talk.events.recv().await else { panic!() };
    assert!(matches!(why, SourceError::Transient(Trouble::Silent(_))));
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
    trickle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_late_answer_is_refused_and_ignored_when_it_comes() {
    let mut talk = Talk::begin("1.4").await;
    talk.session.ask(history(1));
    let (late, _) = talk.server.expect("blockchain.scripthash.get_history").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    talk.session.ask(history(2));
    let (quick, _) = talk.server.expect("blockchain.scripthash.get_history").await;
    talk.server.answer(quick, "[]").await;
    assert!(matches!(talk.event().await, Event::Answer { reply: Ok(_), .. }));
    let Event::Answer { request, reply: Err(why) } = talk.event().await else { panic!() };
    assert_eq!(request, history(1));
    assert!(matches!(why, SourceError::Transient(Trouble::Deadline(_))), "{why:?}");
    talk.server.answer(late, "[]").await;
    talk.session.ask(history(3));
    let (id, _) = talk.server.expect("blockchain.scripthash.get_history").await;
    talk.server.answer(id, "[]").await;
    assert!(matches!(talk.event().await, Event::Answer { request, reply: Ok(_) } if request == history(3)));
}

#[tokio::test]
async fn a_close_in_the_middle_of_a_line_fails_all_waiters_at_once() {
    let mut talk = Talk::begin("1.4").await;
    let claims = tokio::spawn(talk.session.fee_claims());
    talk.session.ask(history(1));
    let (id, _, _) = talk.server.request().await;
    talk.server.stream.write_all(format!("{{\"id\":{id},\"resu").as_bytes()).await.unwrap();
    drop(std::mem::replace(&mut talk.server, Script::new(tokio::io::duplex(1).0)));
    assert!(matches!(talk.closed().await, SourceError::Transient(Trouble::Closed)));
    assert!(matches!(claims.await.unwrap(), Err(SourceError::Transient(Trouble::Closed))));
    // A dead session does not hang those who ask it.
    assert!(talk.session.fee_claims().await.is_err());
}

#[tokio::test]
async fn a_line_without_end_is_refused_with_flat_memory() {
    let mut talk = Talk::begin("1.4").await;
    talk.session.ask(history(1));
    let mut server = talk.server;
    let flood = tokio::spawn(async move {
        let mut sent = 0usize;
        while server.stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {
            sent += 16 * 1024;
        }
        sent
    });
    let Some((_, Event::Closed(why))) = talk.events.recv().await else { panic!() };
    assert!(matches!(why, SourceError::Transient(Trouble::Garbled("a line is too long"))), "{why:?}");
    let sent = flood.await.unwrap();
    assert!(sent <= MAX_LINE + 256 * 1024, "{sent}");
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection() {
    let deep = format!("{{\"id\":3,\"result\":{}", "[".repeat(100_000));
    let absurd_push = "{\"method\":\"blockchain.headers.subscribe\",\"params\":[{\"hex\":\"00\",\"height\":-7}]}";
    for line in ["garbage", "{\"id\":999,\"result\":null}", &deep, absurd_push, "{\"id\":null,\"error\":\"bad\"}"] {
        let mut talk = Talk::begin("1.4").await;
        talk.session.ask(history(1));
        talk.server.send(line).await;
        let why = talk.closed().await;
        assert!(matches!(why, SourceError::Transient(Trouble::Garbled(_))), "{why:?}");
    }
}

#[tokio::test]
async fn a_claim_of_a_thousand_million_headers_is_malformed() {
    let mut talk = Talk::begin("1.4").await;
    for answer in ["{\"count\":1000000000,\"max\":2016,\"hex\":\"00\"}", "{\"count\":1,\"max\":2016,\"hex\":\"00\"}"] {
        talk.session.ask(Request::Headers { start: 0, count: 2016 });
        let (id, _) = talk.server.expect("blockchain.block.headers").await;
        talk.server.answer(id, answer).await;
        assert!(matches!(talk.event().await, Event::Answer { reply: Err(SourceError::Refused(_)), .. }));
    }
}

#[tokio::test]
async fn a_position_that_no_block_has_is_a_lie() {
    let txid = bitcoin::Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros());
    let mut talk = Talk::begin("1.4").await;
    for (pos, lie) in [("16777216", false), ("4294967296", true), ("-1", false), ("1.5", false)] {
        talk.session.ask(Request::Proof { txid, height: 7 });
        let (id, _) = talk.server.expect("blockchain.transaction.get_merkle").await;
        talk.server.answer(id, format!("{{\"block_height\":7,\"merkle\":[],\"pos\":{pos}}}")).await;
        let Event::Answer { reply, .. } = talk.event().await else { panic!() };
        match reply {
            Ok(Reply::Proof { pos, .. }) => assert_eq!(pos, 1 << 24),
            Err(SourceError::Lying(Breach::Position)) => assert!(lie),
            Err(SourceError::Refused(_)) => assert!(!lie),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pushes_ends_the_connection() {
    let mut talk = Talk::begin("1.4").await;
    let mut server = talk.server;
    let flood = tokio::spawn(async move {
        let push = format!("{{\"method\":\"blockchain.headers.subscribe\",\"params\":[{}]}}\n", tip(6));
        while server.stream.write_all(push.as_bytes()).await.is_ok() {}
    });
    let mut heard = 0;
    loop {
        match talk.events.recv().await {
            Some((_, Event::Tip { .. })) => heard += 1,
            Some((_, Event::Closed(why))) => {
                assert!(matches!(why, SourceError::Transient(Trouble::Flood)), "{why:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(heard <= 5000, "{heard}");
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_engine_is_busy_the_clocks_of_requests_stand_still() {
    let mut talk = Talk::begin("1.4").await;
    // More than the channel holds, so that the connection waits for the engine.
    let push = format!("{{\"method\":\"blockchain.headers.subscribe\",\"params\":[{}]}}", tip(6));
    talk.session.ask(history(1));
    let (id, _) = talk.server.expect("blockchain.scripthash.get_history").await;
    for _ in 0..=EVENT_CAPACITY {
        talk.server.send(&push).await;
    }
    talk.server.answer(id, "[]").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for _ in 0..=EVENT_CAPACITY {
        assert!(matches!(talk.event().await, Event::Tip { .. }));
    }
    assert!(matches!(talk.event().await, Event::Answer { reply: Ok(_), .. }));
}

#[tokio::test(start_paused = true)]
async fn connecting_has_one_deadline_for_all_of_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = electrum(&format!("tcp://{}", listener.local_addr().unwrap()));
    let begun = Instant::now();
    let (sink, _events) = mpsc::channel(EVENT_CAPACITY);
    let outcome = crate::source::Source::connect(&client, ME, sink).await;
    assert!(matches!(outcome, Err(SourceError::Transient(Trouble::ConnectDeadline(_)))), "{outcome:?}");
    assert!(begun.elapsed() <= Duration::from_secs(30) + Duration::from_millis(5));
}

#[tokio::test]
async fn a_dropped_session_closes_the_connection() {
    let talk = Talk::begin("1.4").await;
    drop(talk.session);
    talk.task.await.unwrap();
    assert!(talk.server.hung_up().await);
}
