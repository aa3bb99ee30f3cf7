//! Honest servers, with the habits of their kinds.

use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, absolute, transaction};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::chain::io::{HistoryEntry, Reply, Request, Status};
use crate::source::{BroadcastError, FeeClaims, NoAnswer, Rejection, Unfit};

fn a_tx(lock: u32) -> Transaction {
    let lock_time = absolute::LockTime::from_consensus(lock);
    let output = vec![bitcoin::TxOut { value: bitcoin::Amount::ONE_SAT, script_pubkey: Default::default() }];
    Transaction { version: transaction::Version::TWO, lock_time, input: vec![Default::default()], output }
}

async fn greeted(script: &[(&str, &str)]) -> Result<Connected, SourceError> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (sink, _events) = mpsc::channel(EVENT_CAPACITY);
    let mut server = Script::new(theirs);
    let client = electrum("tcp://server:1");
    let dialed = Dialed { stream: Box::new(ours) as Stream, way: Way::CLEAR };
    let (outcome, ()) = tokio::join!(client.greet(dialed, ME, sink), async {
        for (method, answer) in script {
            let (id, _) = server.expect(method).await;
            match answer.strip_prefix("error ") {
                Some(error) => server.refuse(id, error).await,
                None => server.answer(id, answer).await,
            }
        }
    });
    outcome
}

#[tokio::test]
async fn the_version_comes_first_and_names_us() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (sink, _events) = mpsc::channel(EVENT_CAPACITY);
    let client = electrum("tcp://server:1");
    let asked = tokio::spawn(async move {
        let dialed = Dialed { stream: Box::new(ours) as Stream, way: Way::CLEAR };
        client.greet(dialed, ME, sink).await.map(drop)
    });
    let (_, params) = Script::new(theirs).expect("server.version").await;
    let name = params[0].as_str().unwrap().to_owned();
    assert!(name.starts_with("lightnode/"), "{name}");
    assert_eq!(params[1], json!(["1.4", "1.6"]));
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_of_another_network_is_not_used() {
    let main = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    let features = format!("{{\"genesis_hash\":\"{}\"}}", main.block_hash());
    let outcome = greeted(&[("server.version", "[\"x\",\"1.4\"]"), ("server.features", &features)]).await;
    assert!(matches!(outcome, Err(SourceError::Unusable(Unfit::OtherNetwork(_)))), "{outcome:?}");

    // An electrs without features: its first header tells.
    let header = format!("\"{}\"", serialize_hex(&main.header));
    let outcome = greeted(&[
        ("server.version", "[\"electrs\",\"1.4\"]"),
        ("server.features", "error \"unknown method\""),
        ("blockchain.block.header", &header),
    ])
    .await;
    assert!(matches!(outcome, Err(SourceError::Unusable(Unfit::OtherNetwork(_)))), "{outcome:?}");
}

#[tokio::test]
async fn a_server_without_features_is_known_by_its_first_header() {
    let header = format!("\"{}\"", serialize_hex(&a_header()));
    let outcome = greeted(&[
        ("server.version", "[\"electrs/0.10.0\",\"1.4\"]"),
        ("server.features", "{\"server_version\":\"electrs\"}"),
        ("blockchain.block.header", &header),
        ("blockchain.headers.subscribe", &tip(0)),
    ])
    .await;
    assert_eq!(outcome.unwrap().session.info().software.to_string(), "electrs/0.10.0");
}

#[tokio::test]
async fn a_protocol_that_we_do_not_speak_is_said() {
    let outcome = greeted(&[("server.version", "[\"x\",\"1.2\"]")]).await;
    assert!(matches!(outcome, Err(SourceError::Unusable(Unfit::Protocol(_)))), "{outcome:?}");
}

#[tokio::test]
async fn answers_may_come_in_any_order_padded_and_between_noise() {
    let mut talk = Talk::begin("1.4.2").await;
    let history = Request::History { script: script(1) };
    let headers = Request::Headers { start: 0, count: 2016 };
    talk.session.ask(history.clone());
    talk.session.ask(headers.clone());
    let (first, params) = talk.server.expect("blockchain.scripthash.get_history").await;
    assert_eq!(params[0], "01".repeat(32));
    let (second, _) = talk.server.expect("blockchain.block.headers").await;
    talk.server.send(r#"{"jsonrpc":"2.0","method":"blockchain.nonsense.subscribe","params":["x"]}    "#).await;
    talk.server.send("                                   ").await;
    let hex = serialize_hex(&a_header());
    talk.server.answer(second, format!("   {{\"count\": 1, \"max\":2016,\"hex\":\"{hex}\"}}   ")).await;
    talk.server.answer(first, "[]").await;
    let Event::Answer { request, reply: Ok(Reply::Headers(got)) } = talk.event().await else { panic!() };
    assert_eq!((request, got), (headers, vec![a_header()]));
    let Event::Answer { request, reply: Ok(Reply::History(got)) } = talk.event().await else { panic!() };
    assert_eq!((request, got), (history, vec![]));
}

#[tokio::test]
async fn headers_of_protocol_1_6_are_a_list() {
    let mut talk = Talk::begin("1.6").await;
    talk.session.ask(Request::Headers { start: 0, count: 2 });
    let (id, _) = talk.server.expect("blockchain.block.headers").await;
    let hex = serialize_hex(&a_header());
    talk.server.answer(id, format!("{{\"count\":2,\"max\":2016,\"headers\":[\"{hex}\",\"{hex}\"]}}")).await;
    let Event::Answer { reply: Ok(Reply::Headers(got)), .. } = talk.event().await else { panic!() };
    assert_eq!(got, vec![a_header(); 2]);
}

#[tokio::test]
async fn a_status_pushed_after_the_subscription_arrives_after_it() {
    let mut talk = Talk::begin("1.4").await;
    talk.session.ask(Request::Subscribe { script: script(0xab) });
    let (id, _) = talk.server.expect("blockchain.scripthash.subscribe").await;
    talk.server.answer(id, "null").await;
    let (hash, status) = ("ab".repeat(32), "cd".repeat(32));
    let push = format!(
        "{{\"method\":\"blockchain.scripthash.subscribe\",\"params\":[\"{hash}\",\"{status}\"],\"jsonrpc\":\"2.0\"}}"
    );
    talk.server.send(&push).await;
    assert!(matches!(talk.event().await, Event::Answer { reply: Ok(Reply::Status(None)), .. }));
    let Event::Status { script: hash, status } = talk.event().await else { panic!() };
    assert_eq!((hash, status), (script(0xab), Some(Status([0xcd; 32]))));
}

#[tokio::test]
async fn eight_are_in_flight_and_no_script_is_subscribed_twice_at_once() {
    let mut talk = Talk::begin("1.4").await;
    for byte in [1, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
        talk.session.ask(Request::Subscribe { script: script(byte) });
    }
    let mut ids = Vec::new();
    for byte in 1..=8u8 {
        let (id, params) = talk.server.expect("blockchain.scripthash.subscribe").await;
        assert_eq!(params[0].as_str().unwrap()[..2], format!("{byte:02x}"));
        ids.push(id);
    }
    // Nothing more is sent before an answer: the next line is the second subscription of script 1.
    talk.server.answer(ids[0], "null").await;
    let (_, params) = talk.server.expect("blockchain.scripthash.subscribe").await;
    assert_eq!(params[0], "01".repeat(32));
    talk.server.answer(ids[1], "null").await;
    let (_, params) = talk.server.expect("blockchain.scripthash.subscribe").await;
    assert_eq!(params[0], "09".repeat(32));
}

#[tokio::test]
async fn a_history_is_read_strictly() {
    let txid = |byte: &str| byte.repeat(32);
    let entry = |byte: &str, height: i64| format!("{{\"tx_hash\":\"{}\",\"height\":{height},\"fee\":1}}", txid(byte));
    let good = [entry("01", 5), entry("02", 5), entry("03", 9), entry("04", 0), entry("05", -1), entry("06", 0)];
    let bad = [
        vec![entry("01", 5), entry("02", 4)],
        vec![entry("01", 0), entry("02", 4)],
        vec![entry("01", 5), entry("01", 6)],
        vec![entry("01", -2)],
        vec![entry("01", 4_294_967_297)],
        vec!["{\"tx_hash\":\"00\",\"height\":1}".into()],
    ];
    let mut talk = Talk::begin("1.4").await;
    for bad in bad {
        talk.session.ask(Request::History { script: script(1) });
        let (id, _) = talk.server.expect("blockchain.scripthash.get_history").await;
        talk.server.answer(id, format!("[{}]", bad.join(","))).await;
        let Event::Answer { reply: Err(why), .. } = talk.event().await else { panic!("{bad:?}") };
        assert!(matches!(why, SourceError::Refused(NoAnswer::Malformed(_))), "{why:?}");
    }
    talk.session.ask(Request::History { script: script(1) });
    let (id, _) = talk.server.expect("blockchain.scripthash.get_history").await;
    talk.server.answer(id, format!("[{}]", good.join(","))).await;
    let Event::Answer { reply: Ok(Reply::History(got)), .. } = talk.event().await else { panic!() };
    let heights: Vec<_> = got.iter().map(|HistoryEntry { height, .. }| *height).collect();
    assert_eq!(heights, [Some(5), Some(5), Some(9), None, None, None]);
}

#[tokio::test]
async fn the_first_transaction_of_a_block_is_asked_for_by_its_place_and_then_by_its_id() {
    let tx = &genesis_block(Network::Regtest).txdata[0];
    let first = format!("{{\"tx_hash\":\"{}\",\"merkle\":[\"{}\"]}}", tx.compute_txid(), "5a".repeat(32));
    let request = Request::Coinbase { height: 7 };
    let mut talk = Talk::begin("1.4").await;
    for said in [Some(serialize_hex(tx)), None] {
        talk.session.ask(request.clone());
        let (id, params) = talk.server.expect("blockchain.transaction.id_from_pos").await;
        assert_eq!(params, serde_json::json!([7, 0, true]));
        talk.server.answer(id, &first).await;
        let (id, params) = talk.server.expect("blockchain.transaction.get").await;
        assert_eq!(params, serde_json::json!([tx.compute_txid().to_string()]));
        match &said {
            Some(hex) => talk.server.answer(id, format!("\"{hex}\"")).await,
            None => talk.server.refuse(id, "\"unknown\"").await,
        }
        let Event::Answer { request: asked, reply } = talk.event().await else { panic!() };
        assert_eq!(asked, request);
        match reply {
            Ok(Reply::Coinbase(coinbase)) => {
                assert!(said.is_some() && *coinbase.tx == *tx && coinbase.branch.len() == 1)
            }
            Err(SourceError::Refused(NoAnswer::Said(_))) => assert!(said.is_none()),
            other => panic!("{other:?}"),
        }
    }
    let many = format!("{{\"tx_hash\":\"{}\",\"merkle\":{:?}}}", tx.compute_txid(), vec!["5a".repeat(32); 33]);
    for malformed in ["null", "{}", &many] {
        talk.session.ask(request.clone());
        let (id, _) = talk.server.expect("blockchain.transaction.id_from_pos").await;
        talk.server.answer(id, malformed).await;
        let Event::Answer { reply: Err(why), .. } = talk.event().await else { panic!("{malformed}") };
        assert!(matches!(why, SourceError::Refused(NoAnswer::Malformed(_))), "{why:?}");
    }
}

#[tokio::test]
async fn an_error_answer_refuses_the_request_and_keeps_the_connection() {
    let mut talk = Talk::begin("1.4").await;
    for error in ["\"history too large\\u001b[2J\"", "{\"code\":1,\"message\":\"history too large\\u001b[2J\"}"] {
        talk.session.ask(Request::History { script: script(1) });
        let (id, _) = talk.server.expect("blockchain.scripthash.get_history").await;
        talk.server.refuse(id, error).await;
        let Event::Answer { reply: Err(why), .. } = talk.event().await else { panic!() };
        assert!(matches!(why, SourceError::Refused(NoAnswer::Said(_))), "{why:?}");
        assert!(why.to_string().ends_with("history too large\\u{1b}[2J"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_pinged_before_the_server_drops_it() {
    let mut talk = Talk::begin("1.4").await;
    for _ in 0..3 {
        let before = Instant::now();
        let (id, _) = talk.server.expect("server.ping").await;
        assert!(before.elapsed() < Duration::from_secs(300));
        talk.server.answer(id, "null").await;
    }
}

#[tokio::test]
async fn a_broadcast_is_told_its_outcome_in_our_words() {
    let mut talk = Talk::begin("1.4").await;
    let tx = a_tx(0);
    let taken = talk.session.broadcast(&tx);
    let ((), taken) = tokio::join!(
        async {
            let (id, params) = talk.server.expect("blockchain.transaction.broadcast").await;
            assert_eq!(params[0], serialize_hex(&tx));
            talk.server.answer(id, format!("\"{}\"", tx.compute_txid())).await;
        },
        taken
    );
    assert!(taken.is_ok());
    for (text, known) in [("txn-already-in-mempool", true), ("bad-txns-inputs-missingorspent", false)] {
        let outcome = talk.session.broadcast(&tx);
        let ((), outcome) = tokio::join!(
            async {
                let (id, _) = talk.server.expect("blockchain.transaction.broadcast").await;
                let message = format!("the transaction was rejected by network rules.\\n\\n{text}\\n[0200]");
                talk.server.refuse(id, &format!("{{\"code\":1,\"message\":\"{message}\"}}")).await;
            },
            outcome
        );
        match outcome {
            Ok(()) => assert!(known),
            Err(BroadcastError::Rejected(Rejection::MissingInputs)) => assert!(!known),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_package_goes_as_one_where_the_protocol_has_it() {
    let txs = [a_tx(1), a_tx(2)];
    let mut talk = Talk::begin("1.6").await;
    let taken = talk.session.broadcast_package(&txs);
    let ((), taken) = tokio::join!(
        async {
            let (id, params) = talk.server.expect("blockchain.transaction.broadcast_package").await;
            assert_eq!(params[0], json!([serialize_hex(&txs[0]), serialize_hex(&txs[1])]));
            talk.server.answer(id, "{\"success\":true}").await;
        },
        taken
    );
    assert!(taken.is_ok());

    let mut talk = Talk::begin("1.4").await;
    let taken = talk.session.broadcast_package(&txs);
    let ((), taken) = tokio::join!(
        async {
            // The parent confirmed meanwhile; the child is what matters.
            let (id, _) = talk.server.expect("blockchain.transaction.broadcast").await;
            talk.server.refuse(id, "\"Transaction outputs already in utxo set\"").await;
            let (id, _) = talk.server.expect("blockchain.transaction.broadcast").await;
            talk.server.answer(id, format!("\"{}\"", txs[1].compute_txid())).await;
        },
        taken
    );
    assert!(taken.is_ok());
}

#[tokio::test]
async fn fee_claims_are_read_without_floating_point() {
    let mut talk = Talk::begin("1.4").await;
    let claims = talk.session.fee_claims();
    let script = [
        ("blockchain.relayfee", "1e-05"),
        ("blockchain.estimatefee", "0.00020001"),
        ("blockchain.estimatefee", "0.0001"),
        ("blockchain.estimatefee", "-1"),
        ("blockchain.estimatefee", "1e400"),
        ("mempool.get_fee_histogram", "[[30.5,20000],[1,-7]]"),
    ];
    let ((), claims) = tokio::join!(talk.server.serve(&script), claims);
    let estimates = vec![(2, 20_001), (6, 10_000)];
    assert_eq!(claims.unwrap(), FeeClaims { estimates, relay: Some(1000), histogram: vec![] });
}

#[tokio::test]
async fn an_electrs_that_cannot_estimate_is_asked_once_and_its_mempool_instead() {
    let mut talk = Talk::begin("1.4").await;
    for round in 0..2 {
        let claims = talk.session.fee_claims();
        let ((), claims) = tokio::join!(
            async {
                talk.server.serve(&[("blockchain.relayfee", "0.00001")]).await;
                if round == 0 {
                    let (id, _) = talk.server.expect("blockchain.estimatefee").await;
                    talk.server.refuse(id, "\"unavailable\"").await;
                }
                talk.server.serve(&[("mempool.get_fee_histogram", "[[12.5,10000],[3,500]]")]).await;
            },
            claims
        );
        assert_eq!(claims.unwrap().histogram, [(12_500, 10_000), (3000, 500)]);
    }
}
