//! Two whole nodes with their event handlers, on a chain of our own making: channels, payments, and what crashes and
//! restarts do to them.

mod world;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::FeeRate;
use bitcoin::hashes::Hash;
use lightning::types::payment::PaymentHash;

use self::world::{NETWORK, Node, Story, spend_of, unix_now, until};
use super::channels::{CloseError, OpenError, Standing};
use super::send::PayError;
use super::{decode, housekeeping};
use crate::ledger::{Kind, NewSend, Side, State};
use crate::wallet::{SendAmount, Spend};

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_opens_pays_both_ways_and_closes() {
    let (mut story, opened) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    assert_eq!(opened.amount_sat, 300_000);

    // There.
    let invoice = b.invoice(Some(50_000_000));
    let paid = a.pay(&invoice, None).await.unwrap();
    assert_eq!((paid.record.state, paid.already), (State::Succeeded, false), "{paid:?}");
    assert_eq!((paid.record.fee_msat, paid.record.attempts), (Some(0), 1), "{paid:?}");
    let preimage = paid.record.preimage.clone().unwrap();
    let received = || b.ledger.line(&paid.record.id, Side::Receive).unwrap().unwrap();
    until("the payee has it in the book", || received().state == State::Succeeded).await;
    assert_eq!((received().preimage, received().amount_msat), (Some(preimage), Some(50_000_000)));

    // Again: told, not paid.
    let again = a.pay(&invoice, None).await.unwrap();
    assert!(again.already);
    assert_eq!(again.record.preimage, paid.record.preimage);

    // Back, for an invoice that leaves the amount to the payer.
    let invoice = a.invoice(None);
    assert!(matches!(b.pay(&invoice, None).await, Err(PayError::Amount(_))));
    assert_eq!(b.pay(&invoice, Some(20_000_000)).await.unwrap().record.state, State::Succeeded);

    // What cannot be.
    assert!(matches!(a.pay(&a.invoice(Some(1_000)), None).await, Err(PayError::Own)));
    let too_much = a.pay(&b.invoice(Some(299_000_000)), None).await.unwrap_err();
    assert!(too_much.to_string().contains("299000 sat cannot be sent: at most"), "{too_much}");

    // Closed by agreement, and the money is home.
    let id = opened.channel_id.to_string();
    assert!(matches!(a.channels.close("ffffffffff"), Err(CloseError::NotFound(_))));
    a.channels.close(&id[..10]).unwrap();
    let closing = spend_of(a, opened.funding).await;
    until("both have it in the book", || [a, b].iter().all(|node| node.ledger.closed_channels(9).unwrap().len() == 1))
        .await;
    let reason = a.ledger.closed_channels(9).unwrap().remove(0).reason;
    assert_eq!(reason, "both sides agreed to close it; we asked for it");
    let txid = closing.compute_txid();
    story.mine(Some(closing));
    // In the wallet at once, by its name, and only there.
    let Story { a, b, .. } = &story;
    for node in [a, b] {
        let line = node.ledger.line(&txid.to_string(), Side::Chain).unwrap().unwrap();
        assert_eq!((line.kind, line.state), (Kind::ChannelClose, State::Succeeded));
        assert_eq!(node.ln.closing_balances(), []);
    }
    assert_eq!(b.wallet.balance(0).confirmed_sat, 100_000 + 30_000);
    story.mine_empty(6);
    assert!(story.a.ln.sweeper.tracked_spendable_outputs().is_empty(), "nothing to sweep");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_can_be_spent_goes_into_a_channel_but_the_reserve() {
    let story = Story::begin().await;
    let opened = story.a.open(&story.b, None).await.unwrap();
    assert_eq!(story.a.channels.reserve_sat(), 25_000);
    let left = 1_000_000 - opened.amount_sat;
    assert!((25_000..26_000).contains(&left), "{left} sat left for reserve and fee");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_refused_and_locks_no_coins() {
    let story = Story::begin().await;
    let Story { a, b, .. } = &story;
    let why = |error: OpenError| error.to_string();
    assert!(why(a.open(b, Some(9_999)).await.unwrap_err()).contains("at least 10000 sat"));
    assert!(why(a.open(b, Some(16_000_001)).await.unwrap_err()).contains("at most 16000000 sat"));
    let error = a.open(b, Some(990_000)).await.unwrap_err();
    assert!(matches!(error, OpenError::NotEnough(_)), "{error}");
    assert!(why(error).contains("25000"), "the reserve is named");
    let refused = a.open(b, Some(15_000)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Refused(_)), "{refused}");
    assert!(why(refused).contains("saying \"the channel is too small: at least 20000 sat\""));
    a.ln.peers.disconnect_by_node_id(b.ln.node_id());
    until("they are apart", || !a.peers.is_connected(&b.ln.node_id())).await;
    assert!(matches!(a.open(b, Some(100_000)).await, Err(OpenError::PeerAway)));
    assert!(a.wallet.fundings().is_empty());
    assert!(a.ledger.closed_channels(9).unwrap().is_empty(), "what never was is no history");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_never_reached_ldk_has_failed_after_a_restart_and_a_channel_comes_back() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { chain, a, b, dirs } = story;
    let invoice = b.invoice(Some(10_000_000));
    let hash = decode::parse(&invoice, NETWORK).unwrap().payment_hash().to_byte_array();
    // The process ends between the book and LDK.
    let new = NewSend {
        payment_hash: hash,
        amount_msat: 10_000_000,
        max_fee_msat: None,
        invoice: Some(invoice.clone()),
        payee: None,
        description: None,
    };
    let _token = a.ledger.begin_send(new).unwrap();
    a.stop().await;
    let a = Node::start(dirs[0].path().into(), &chain).await;
    let line = a.ledger.send_of(hash).unwrap().unwrap();
    assert_eq!(line.state, State::Failed);
    assert!(line.reason.unwrap().contains("no money has moved"));

    a.connect(&b).await;
    let story = Story { chain, a, b, dirs };
    story.usable().await;
    // It failed for certain: it may be paid now.
    assert_eq!(story.a.pay(&invoice, None).await.unwrap().record.state, State::Succeeded);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_channel_was_given_up_is_unknown_at_each_start_and_never_said_to_have_failed() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    let invoice = b.invoice(Some(10_000_000));
    let payment_hash = decode::parse(&invoice, NETWORK).unwrap().payment_hash().to_byte_array();
    let new = NewSend {
        payment_hash,
        amount_msat: 10_000_000,
        max_fee_msat: None,
        invoice: Some(invoice),
        payee: None,
        description: None,
    };
    let _token = a.ledger.begin_send(new).unwrap();
    let line = || a.ledger.send_of(payment_hash).unwrap().unwrap();
    for _ in 0..2 {
        a.payer.reconcile(&BTreeSet::from([line().id])).unwrap();
        assert_eq!(line().state, State::Unknown);
        assert!(line().reason.unwrap().contains("given up"));
    }
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_to_a_peer_that_is_away_is_not_begun() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    let invoice = b.invoice(Some(1_000_000));
    a.ln.peers.disconnect_by_node_id(b.ln.node_id());
    until("they are apart", || a.standing() == Some(Standing::Inactive)).await;
    let error = a.pay(&invoice, None).await.unwrap_err();
    assert!(matches!(error, PayError::NoChannelUp(_)), "{error}");
    let id = decode::parse(&invoice, NETWORK).unwrap().payment_hash().to_byte_array();
    assert_eq!(a.ledger.send_of(id).unwrap(), None, "no line is spent on it");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_closed_by_force_and_both_books_say_so() {
    let (mut story, opened) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    a.ln.peers.disconnect_by_node_id(b.ln.node_id());
    until("they are apart", || a.standing() == Some(Standing::Inactive)).await;
    let id = opened.channel_id.to_string();
    let away = a.channels.close(&id).unwrap_err();
    assert!(matches!(away, CloseError::PeerAway(_)), "{away}");
    let closing = a.channels.force_close(&id).unwrap();
    assert!(closing.next.contains("locked for 288 blocks"), "{}", closing.next);
    // LDK leaves the commitment of an anchor channel to the handler of `BumpTransaction`.
    let commitment = spend_of(a, opened.funding).await;
    story.mine(Some(commitment));
    until("both have it in the book", || {
        [&story.a, &story.b].iter().all(|node| node.ledger.closed_channels(9).unwrap().len() == 1)
    })
    .await;
    let reason = |node: &Node| node.ledger.closed_channels(9).unwrap().remove(0).reason;
    assert_eq!(reason(&story.a), "closed by force: closed by its owner");
    assert!(reason(&story.b).contains("commitment transaction is confirmed"), "{}", reason(&story.b));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_hangs_is_unknown_until_a_height_and_a_restart_does_not_settle_it() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { chain, a, b, dirs } = story;
    b.deaf.store(true, Ordering::Relaxed);
    let text = b.invoice(Some(10_000_000));
    let invoice = decode::parse(&text, NETWORK).unwrap();
    let hash = PaymentHash(invoice.payment_hash().to_byte_array());
    let height = chain.tree.height();

    let paid = a.pay_within(1, &text, None).await.unwrap();
    assert_eq!((paid.record.state, paid.already), (State::Unknown, false), "{paid:?}");
    assert!(paid.record.open_until_height.unwrap() > height, "{paid:?}");
    // Asked for again, it is waited for, not paid again.
    let again = a.pay_within(1, &text, None).await.unwrap();
    assert_eq!((again.record.state, again.already), (State::Unknown, true), "{again:?}");
    let htlcs = |node: &Node| node.ln.channels.list_channels()[0].pending_outbound_htlcs.len();
    assert_eq!(htlcs(&a), 1);

    a.stop().await;
    let a = Node::start(dirs[0].path().into(), &chain).await;
    let line = || a.ledger.send_of(hash.0).unwrap().unwrap();
    assert_eq!((line().state, line().open_until_height), (State::Unknown, paid.record.open_until_height));
    a.connect(&b).await;

    // In the end the payee takes it.
    let preimage = b.ln.channels.get_payment_preimage(hash, *invoice.payment_secret()).unwrap();
    b.ln.channels.claim_funds(preimage);
    until("it is paid", || line().state == State::Succeeded).await;
    assert_eq!((line().preimage.is_some(), line().open_until_height), (true, None));
    assert_eq!(a.pay(&text, None).await.unwrap().record.preimage, line().preimage);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_the_payee_rejects_has_failed_for_certain_and_may_be_tried_again() {
    let (story, _) = Story::with_channel(300_000).await;
    let Story { a, b, .. } = &story;
    b.deaf.store(true, Ordering::Relaxed);
    let text = b.invoice(Some(10_000_000));
    let hash = PaymentHash(decode::parse(&text, NETWORK).unwrap().payment_hash().to_byte_array());
    let paying = a.pay(&text, None);
    let rejecting = async {
        until("it has arrived", || !b.ln.channels.list_channels()[0].pending_inbound_htlcs.is_empty()).await;
        for _ in 0..100 {
            b.ln.channels.fail_htlc_backwards(&hash);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (paid, ()) = tokio::join!(paying, rejecting);
    let record = paid.unwrap().record;
    assert_eq!((record.state, record.attempts), (State::Failed, 1), "{record:?}");
    assert!(record.reason.as_deref().unwrap().contains("the recipient rejected it"), "{record:?}");
    b.deaf.store(false, Ordering::Relaxed);
    assert_eq!(a.pay(&text, None).await.unwrap().record.state, State::Succeeded);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_of_a_funding_that_ldk_never_had_are_free_after_a_restart() {
    let Story { chain, a, b, dirs } = Story::begin().await;
    let spend = Spend {
        script: bitcoin::ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros()),
        amount: SendAmount::Sat(300_000),
        feerate: FeeRate::from_sat_per_vb_u32(2),
        keep_back_sat: 0,
        coins: Vec::new(),
        force: false,
    };
    let _lost = a.wallet.fund(&spend).unwrap();
    assert_eq!(a.wallet.balance(0).spendable_sat, 0);
    a.stop().await;
    let a = Node::start(dirs[0].path().into(), &chain).await;
    assert_eq!((a.wallet.fundings().len(), a.wallet.balance(0).spendable_sat), (0, 1_000_000));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blind_node_forwards_pays_and_takes_nothing_closes_nothing_and_recovers() {
    let (mut story, _) = Story::with_channel(300_000).await;
    let dir = tempfile::tempdir().unwrap();
    let c = Node::start(dir.path().into(), &story.chain).await;
    let Story { chain, a, b, .. } = &mut story;
    chain.mine(Some(c.deposit(100_000, 3)), &[a, b, &c]);
    chain.mine(Some(b.deposit(500_000, 4)), &[a, b, &c]);
    b.connect(&c).await;
    let opened = b.open(&c, Some(60_000)).await.unwrap();
    let funding = spend_of(b, b.wallet.fundings()[0].inputs[0]).await;
    assert_eq!(funding.compute_txid(), opened.funding.txid);
    chain.mine(Some(funding), &[a, b, &c]);
    chain.mine_empty(5, &[a, b, &c]);
    let usable = |node: &Node| node.ln.channels.list_usable_channels().len();
    until("both channels are usable", || (usable(a), usable(b), usable(&c)) == (1, 2, 1)).await;
    let told = |node: &Node| node.ln.channels.list_channels().iter().all(|c| c.counterparty.forwarding_info.is_some());
    until("c was told how it is reached", || told(&c)).await;
    let paid = a.pay(&c.invoice(Some(5_000_000)), None).await.unwrap();
    assert_eq!(paid.record.state, State::Succeeded, "{paid:?}");

    // Made while all was well.
    let (through, to_b) = (c.invoice(Some(4_000_000)), b.invoice(Some(3_000_000)));
    b.caution.told(unix_now() - 4 * 3600);
    let deltas = |node: &Node| {
        let channels = node.ln.channels.list_channels();
        channels.iter().filter_map(|channel| channel.config).map(|config| config.cltv_expiry_delta).collect::<Vec<_>>()
    };
    until("the gate is shut", || deltas(b) == [u16::MAX; 2]).await;
    for invoice in [&through, &to_b] {
        let paid = a.pay(invoice, None).await.unwrap();
        assert_eq!(paid.record.state, State::Failed, "{paid:?}");
    }
    assert!(matches!(b.pay(&a.invoice(Some(1_000_000)), None).await, Err(PayError::Blind(_))));
    assert!(matches!(c.open(b, Some(30_000)).await, Err(OpenError::Refused(_))));
    assert_eq!((usable(a), usable(b), usable(&c)), (1, 2, 1), "nothing is closed for it");

    b.caution.told(unix_now());
    until("the gate is open", || deltas(b) == [144; 2]).await;
    for invoice in [&through, &to_b] {
        let paid = a.pay(invoice, None).await.unwrap();
        assert_eq!(paid.record.state, State::Succeeded, "{paid:?}");
    }
    c.stop().await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_a_channel_that_is_settled_for_good_are_given_up_and_those_of_another_are_not() {
    let (mut story, settled) = Story::with_channel(300_000).await;
    let stays = story.a.open(&story.b, Some(200_000)).await.unwrap();
    let funding = spend_of(&story.a, story.a.wallet.fundings().last().unwrap().inputs[0]).await;
    story.mine(Some(funding));
    story.mine_empty(6);
    let script = |node: &Node, channel| node.ln.chain_monitor.get_monitor(channel).unwrap().get_funding_script();
    let (gone, kept) = (script(&story.a, settled.channel_id), script(&story.a, stays.channel_id));
    story.a.channels.close(&settled.channel_id.to_string()).unwrap();
    let closing = spend_of(&story.a, settled.funding).await;
    story.mine(Some(closing));
    story.mine_empty(7);

    let (wanted, given_up) = housekeeping::round(&story.a.ln, BTreeSet::new());
    assert!(wanted.contains(&gone) && wanted.contains(&kept));
    assert_eq!(given_up, [] as [bitcoin::ScriptBuf; 0], "it may yet leave the chain");
    story.chain.mine_empty(4032, &[]);
    story.chain.tell_tip(&story.a);
    story.chain.tell_tip(&story.b);
    let (wanted, given_up) = housekeeping::round(&story.a.ln, wanted);
    assert_eq!(story.a.ln.chain_monitor.list_monitors(), [stays.channel_id]);
    assert!(given_up.contains(&gone) && !wanted.contains(&gone), "{given_up:?}");
    assert!(!given_up.contains(&kept) && wanted.contains(&kept), "{given_up:?}");
    story.end().await;
}
