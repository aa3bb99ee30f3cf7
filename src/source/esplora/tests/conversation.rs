use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Transaction};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::super::{
    BroadcastError, EVENT_CAPACITY, Event, Rejection, Session, Source, SourceError, TlsState, Trouble, Unfit,
};
use super::super::{Esplora, Limits};
use super::{Say, Server, genesis, http, id, mine, missing, ok, outside, pays};
use crate::chain::io::{Reply, Request, SourceId, Status};
use crate::config;
use crate::dial::Dialer;
use crate::source::road::Road;
use crate::source::tls::pins::{Certificates, MemoryPins};

pub(super) const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), request: Duration::from_secs(5), poll: Duration::from_millis(80) };

/// A connection and what it tells.
pub(super) struct Line {
    pub(super) session: Box<dyn Session>,
    pub(super) events: mpsc::Receiver<(SourceId, Event)>,
}

pub(super) fn source(server: &Server, limits: Limits, genesis: BlockHash) -> Esplora {
    let address = format!("http://127.0.0.1:{}", server.port).parse().unwrap();
    let road = Road::new(Dialer::new(None), Arc::new(Certificates::new(MemoryPins::default())));
    Esplora::new(config::Server { address, trusted: false, pin: None }, genesis, road, limits)
}

pub(super) async fn try_connect(source: &Esplora) -> Result<Line, SourceError> {
    let (sink, events) = mpsc::channel(EVENT_CAPACITY);
    let connected = source.connect(SourceId(7), sink).await?;
    tokio::spawn(connected.task);
    Ok(Line { session: connected.session, events })
}

pub(super) async fn connect(server: &Server) -> Line {
    try_connect(&source(server, LIMITS, genesis().block_hash())).await.unwrap()
}

impl Line {
    pub(super) async fn next(&mut self) -> Event {
        let next = timeout(Duration::from_secs(20), self.events.recv()).await.expect("an event in time");
        let (id, event) = next.expect("the connection says why it ends");
        assert_eq!(id, SourceId(7));
        event
    }

    pub(super) async fn tip(&mut self) -> u32 {
        match self.next().await {
            Event::Tip { height, .. } => height,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn closed(&mut self) -> SourceError {
        match self.next().await {
            Event::Closed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn asked(&mut self, request: Request) -> Result<Reply, SourceError> {
        self.session.ask(request.clone());
        match self.next().await {
            Event::Answer { request: answered, reply } if answered == request => reply,
            other => panic!("{other:?}"),
        }
    }

    async fn subscribed(&mut self, number: u8) -> Option<Status> {
        match self.asked(Request::Subscribe { script: id(number) }).await {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    async fn heights(&mut self, number: u8) -> Vec<Option<u32>> {
        match self.asked(Request::History { script: id(number) }).await {
            Ok(Reply::History(entries)) => entries.iter().map(|entry| entry.height).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// The next event is a status of this script.
    async fn pushed(&mut self, number: u8) -> Option<Status> {
        match self.next().await {
            Event::Status { script, status } if script == id(number) => status,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_tip_comes_first_and_a_new_one_when_there_is_one() {
    let server = Server::start().await;
    server.mine(&[]);
    let mut line = connect(&server).await;
    assert_eq!(line.tip().await, 1);
    server.mine(&[]);
    assert_eq!(line.tip().await, 2);
    let info = line.session.info();
    assert_eq!((info.protocol.as_str(), info.tls), ("esplora", TlsState::Clear));
    assert!(info.latency > Duration::ZERO);
}

#[tokio::test]
async fn what_a_block_confirms_is_told_before_the_block_and_costs_one_request() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    assert_eq!(line.subscribed(1).await, None);
    let tx = pays(outside(1), &[1]);
    server.mine(&[pays(outside(2), &[9]), tx.clone()]);
    let status = line.pushed(1).await;
    assert!(status.is_some());
    assert_eq!(line.tip().await, 1);
    assert_eq!(line.heights(1).await, [Some(1)]);
    let (txid, height) = (tx.compute_txid(), 1);
    assert!(matches!(line.asked(Request::Transaction { txid }).await, Ok(Reply::Transaction(body)) if *body == tx));
    assert!(matches!(line.asked(Request::Proof { txid, height }).await, Ok(Reply::Proof { pos: 2, .. })));
    let looks = server.count("/blocks/tip/hash") + server.count("/mempool");
    let others = server.count("/") - looks;
    assert_eq!(others, 4, "genesis, the newest headers, the subscription, the block");
}

#[tokio::test]
async fn the_first_transaction_of_a_block_comes_with_its_branch() {
    let server = Server::start().await;
    let other = pays(outside(2), &[9]);
    server.mine(std::slice::from_ref(&other));
    let mut line = connect(&server).await;
    line.tip().await;
    let Ok(Reply::Coinbase(first)) = line.asked(Request::Coinbase { height: 1 }).await else { panic!() };
    assert!(first.tx.is_coinbase() && first.branch == [other.compute_txid().into()]);
    assert!(line.asked(Request::Coinbase { height: 2 }).await.is_err());
    // What the server says that is first is to be it.
    server.rule(move |path| path.ends_with("/txid/0").then(|| ok(other.compute_txid().to_string())));
    assert!(line.asked(Request::Coinbase { height: 1 }).await.is_err());
}

#[tokio::test]
async fn an_unconfirmed_transaction_is_seen_and_then_its_replacement() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    assert_eq!(line.subscribed(1).await, None);
    let show = |tx: &Transaction| server.with(|state| state.mempool = vec![tx.clone()]);
    show(&pays(outside(1), &[1]));
    let first = line.pushed(1).await;
    assert_eq!(line.heights(1).await, [None]);
    show(&pays(outside(1), &[1, 9]));
    assert_ne!(line.pushed(1).await, first);
    server.with(|state| state.mempool.clear());
    assert_eq!(line.pushed(1).await, None);
}

#[tokio::test]
async fn a_reorganisation_is_told_as_a_whole_the_chain_first() {
    let server = Server::start().await;
    let tx = pays(outside(1), &[1]);
    let first = server.mine(&[]);
    server.mine(std::slice::from_ref(&tx));
    let mut line = connect(&server).await;
    assert_eq!(line.tip().await, 2);
    let before = line.subscribed(1).await;
    assert_eq!(line.heights(1).await, [Some(2)]);
    server.with(|state| {
        state.chain.truncate(2);
        let mut parent = first.header;
        for txs in [&[][..], &[], std::slice::from_ref(&tx)] {
            let block = mine(&parent, 1, txs);
            parent = block.header;
            state.chain.push(block);
        }
    });
    for height in 2..=4 {
        assert_eq!(line.tip().await, height);
    }
    assert_ne!(line.pushed(1).await, before);
    assert_eq!(line.heights(1).await, [Some(4)]);
}

#[tokio::test]
async fn many_blocks_at_once_are_followed_one_by_one_and_too_many_by_asking_anew() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    line.subscribed(1).await;
    for number in 1..=15 {
        server.mine(&[pays(outside(number), &[if number == 7 { 1 } else { 9 }])]);
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&15) {
        match line.next().await {
            Event::Tip { height, .. } => seen.push(height),
            Event::Status { script, .. } => {
                assert_eq!((script, seen.last()), (id(1), Some(&6)), "right before the block that holds it");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.is_sorted());
    server.with(|state| {
        for number in 0..40 {
            let block = mine(&state.chain.last().unwrap().header, 0, &[pays(outside(100 + number), &[1])]);
            state.chain.push(block);
        }
    });
    assert!(line.pushed(1).await.is_some());
    assert_eq!(line.tip().await, 55);
    assert_eq!(line.heights(1).await.len(), 41);
}

#[tokio::test]
async fn headers_are_read_a_page_at_a_time() {
    let server = Server::start().await;
    (0..25).for_each(|_| drop(server.mine(&[])));
    let mut line = connect(&server).await;
    line.tip().await;
    let Ok(Reply::Headers(headers)) = line.asked(Request::Headers { start: 3, count: 23 }).await else { panic!() };
    let real = server.with(|state| state.chain[3..].iter().map(|block| block.header).collect::<Vec<_>>());
    assert_eq!(headers, real);
    assert!(line.asked(Request::Headers { start: 26, count: 5 }).await.is_err());
    // A chain that became shorter gives what there is.
    server.rule(|path| (path == "/blocks/23").then(missing));
    let Ok(Reply::Headers(headers)) = line.asked(Request::Headers { start: 4, count: 20 }).await else { panic!() };
    assert_eq!(headers[..], real[1..11]);
}

#[tokio::test]
async fn a_server_of_another_network_is_not_used() {
    let server = Server::start().await;
    let other = bitcoin::constants::genesis_block(bitcoin::Network::Signet).block_hash();
    match try_connect(&source(&server, LIMITS, other)).await.err() {
        Some(SourceError::Unusable(Unfit::OtherNetwork(claimed))) => assert_eq!(claimed, genesis().block_hash()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broadcast_is_taken_refused_with_our_words_or_unknown() {
    let server = Server::start().await;
    let line = connect(&server).await;
    let tx = pays(outside(1), &[1]);
    let refused = line.session.broadcast(&tx).await;
    assert!(matches!(refused, Err(BroadcastError::Rejected(Rejection::FeeTooLow))), "{refused:?}");
    let txid = tx.compute_txid().to_string();
    for (said, fine) in [
        (ok(txid), true),
        (http("400 Bad Request", "", "sendrawtransaction RPC error -27: Transaction already in block chain"), true),
        (http("500 Internal Server Error", "", "txn-already-in-mempool"), false),
        (ok("thank you"), false),
    ] {
        server.rule(move |path| (path == "/tx").then(|| said.clone()));
        assert_eq!(line.session.broadcast(&tx).await.is_ok(), fine);
    }
}

#[tokio::test]
async fn a_package_goes_as_one_or_where_that_is_not_known_one_by_one() {
    let server = Server::start().await;
    let line = connect(&server).await;
    let parent = pays(outside(1), &[1]);
    let child = pays(bitcoin::OutPoint::new(parent.compute_txid(), 0), &[2]);
    let txids = [parent.compute_txid(), child.compute_txid()].map(|txid| txid.to_string());
    let taken =
        |txid: &str| format!("{{\"package_msg\":\"success\",\"tx-results\":{{\"{txid}\":{{\"txid\":\"{txid}\"}}}}}}");
    let whole = taken(&txids[0]);
    server.rule(move |path| (path == "/txs/package").then(|| ok(&whole)));
    line.session.broadcast_package(&[parent.clone(), child.clone()]).await.unwrap();
    assert_eq!((server.count("/txs/package"), server.count("/tx")), (1, 1));
    let mut answers = txids.into_iter();
    server.rule(move |path| (path == "/tx").then(|| ok(answers.next().unwrap())));
    line.session.broadcast_package(&[parent, child]).await.unwrap();
}

#[tokio::test]
async fn fees_are_claimed_with_the_histogram() {
    let server = Server::start().await;
    let line = connect(&server).await;
    let claims = line.session.fee_claims().await.unwrap();
    assert_eq!(claims.estimates, [(2, 8250), (6, 4000), (144, 1001), (1008, 1000)]);
    assert_eq!(claims.histogram, [(10_500, 2000), (1000, 100)]);
    assert_eq!(claims.relay, None);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_made_anew() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    // Every answer is the last of its connection.
    let hash = genesis().block_hash().to_string();
    let (polled, mut has_polled) = mpsc::unbounded_channel();
    server.rule(move |path| {
        (path == "/blocks/tip/hash").then(|| {
            polled.send(()).unwrap();
            http("200 OK", "Connection: close\r\n", &hash)
        })
    });
    for _ in 0..5 {
        line.subscribed(1).await;
        has_polled.recv().await.unwrap();
    }
    server.with(|state| state.rule = None);
    server.mine(&[]);
    assert_eq!(line.tip().await, 1);
}

#[tokio::test]
async fn a_server_that_hangs_up_is_left() {
    let server = Server::start().await;
    let mut line = connect(&server).await;
    line.tip().await;
    server.rule(|_| Some(Say::HangUp));
    assert!(matches!(line.closed().await, SourceError::Transient(Trouble::Closed)));
    assert!(line.events.recv().await.is_none(), "nothing after the last event");
}
