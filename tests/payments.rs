//! `pay` and `receive`: outcomes, fees, repetition, routes, bad invoices.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{CHANNEL, DEPOSIT, open, pay, two_nodes_with_a_channel};
use crate::support::world::World;

#[test]
fn a_payment_reports_its_preimage_and_both_books_agree() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let paid = pay(&alice, &bob, 50_000);
    assert_eq!(paid["amount_msat"], 50_000_000);
    assert_eq!(paid["fee_msat"], 0, "a direct channel costs nothing: {paid}");
    assert_eq!(paid["already"], json!(false));
    let preimage = paid["preimage"].as_str().expect("a preimage");
    let received = bob.entry(paid["id"].as_str().expect("an id"), "succeeded");
    assert_eq!(received["preimage"], preimage);
    assert_eq!(received["direction"], "in");
    assert_eq!(received["amount_msat"], 50_000_000);
}

#[test]
fn paying_an_invoice_again_says_that_it_is_paid_and_pays_nothing() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let invoice = bob.invoice("50000");
    let first = alice.json(&["pay", &invoice]);
    let before = alice.balance("lightning_sat");
    let again = alice.json(&["pay", &invoice]);
    assert_eq!(again["already"], json!(true), "{again}");
    assert_eq!(again["preimage"], first["preimage"]);
    assert_eq!(alice.balance("lightning_sat"), before);
    let history = bob.json(&["history"]);
    let received = history["entries"].as_array().expect("entries").iter().filter(|entry| entry["kind"] == "receive");
    assert_eq!(received.count(), 1);
}

#[test]
fn an_invoice_paid_twice_at_the_same_time_is_paid_once() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let invoice = bob.invoice("50000");
    let children: Vec<_> = (0..4).map(|_| alice.begin(&["pay", &invoice])).collect();
    let outcomes: Vec<_> =
        children.into_iter().map(|child| child.wait_with_output().expect("the command ends")).collect();
    for outcome in &outcomes {
        assert!(outcome.status.success(), "{outcome:?}");
    }
    bob.balance_is("lightning_inbound_sat", bob.usable(1)[0]["receivable_msat"].as_u64().expect("msat") / 1000);
    let spendable = bob.usable(1)[0]["spendable_msat"].as_u64().expect("msat");
    assert!(spendable <= 50_000_000, "bob was paid more than once: {spendable}");
}

#[test]
fn an_invoice_without_amount_is_paid_with_the_amount_of_the_payer() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let invoice = bob.json(&["receive", "-m", "tips"])["invoice"].as_str().expect("an invoice").to_string();
    let missing = alice.run(&["pay", &invoice]);
    assert_eq!(missing.code, 2, "{missing:?}");
    let paid = alice.json(&["pay", &invoice, "12345"]);
    assert_eq!(paid["amount_msat"], 12_345_000);
    let received = bob.entry(paid["id"].as_str().expect("an id"), "succeeded");
    assert_eq!(received["amount_msat"], 12_345_000);
    let fixed = bob.invoice("1000");
    let other = alice.run(&["pay", &fixed, "2000"]);
    assert_eq!(other.code, 2, "{other:?}");
}

#[test]
pub(crate) fn a_payment_over_three_nodes_earns_the_middle_one_its_fee() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let bob = Daemon::new(&world, "bob").started();
    let carol = Daemon::new(&world, "carol").started();
    alice.funded(&world, DEPOSIT);
    bob.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &["--public"]);
    open(&world, &bob, &carol, &[]);
    let invoice = carol.invoice("50000");
    // A limit below the fee: it fails for certain, says so, and may be tried again.
    let dear = alice.run(&["pay", &invoice, "--max-fee", "0"]);
    assert_eq!(dear.code, 1, "{dear:?}");
    assert_eq!(dear.json()["status"], "failed");
    assert!(dear.json()["reason"].as_str().expect("a reason").contains("fee of at most 0 sat"), "{dear:?}");
    let paid = alice.json(&["pay", &invoice]);
    assert_eq!(paid["status"], "succeeded");
    assert_eq!(paid["already"], json!(false));
    let fee = paid["fee_msat"].as_u64().expect("a fee");
    assert!(fee > 0, "{paid}");
    carol.entry(paid["id"].as_str().expect("an id"), "succeeded");
    eventually(
        "bob's earnings",
        || bob.json(&["history"])["forwarding_fees_msat"].as_u64(),
        |earned| *earned == Some(fee),
    );
}

#[test]
fn bad_invoices_are_refused_with_the_reason() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let own = alice.invoice("1000");
    let mainnet = "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqz\
                   puaztrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp";
    for (what, invoice, code, word) in [
        ("garbage", "hello".to_string(), 2, "invoice"),
        ("truncated", own[..own.len() - 10].to_string(), 2, "invoice"),
        ("one letter changed", own.replace('q', "p"), 2, "invoice"),
        ("of another network", mainnet.to_string(), 2, "mainnet"),
        ("our own", own.clone(), 2, "this node"),
    ] {
        let refused = alice.run(&["pay", &invoice]);
        assert_eq!(refused.code, code, "{what}: {refused:?}");
        assert!(refused.stderr.contains(word), "{what}: {refused:?}");
        assert!(refused.stdout.is_empty() || refused.json()["code"].is_string(), "{what}: {refused:?}");
    }
}

#[test]
fn an_expired_invoice_is_refused() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let invoice = bob.json(&["receive", "1000", "--expiry", "1s"])["invoice"].as_str().expect("an invoice").to_string();
    let expired = || alice.json(&["decode", &invoice])["expired"].clone();
    eventually("the invoice to expire", expired, |seen| *seen == json!(true));
    let refused = alice.run(&["pay", &invoice]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("expired"), "{refused:?}");
}

#[test]
fn more_than_the_channel_holds_is_refused_with_what_there_is() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let refused = alice.run(&["pay", &bob.invoice(&CHANNEL.to_string())]);
    assert_eq!(refused.code, 5, "{refused:?}");
    let nothing = bob.run(&["pay", &alice.invoice("1000")]);
    assert_eq!(nothing.code, 5, "{nothing:?}");
}

#[test]
pub(crate) fn a_payment_to_one_who_is_away_fails_for_certain_and_can_be_made_later() {
    let world = World::new();
    let (alice, mut bob) = two_nodes_with_a_channel(&world);
    let invoice = bob.invoice("50000");
    bob.stop();
    let failed = alice.run(&["pay", &invoice, "--timeout", "5s"]);
    assert!([1, 5].contains(&failed.code), "{failed:?}");
    bob.start();
    bob.ready();
    alice.usable(1);
    bob.usable(1);
    assert_eq!(alice.json(&["pay", &invoice])["status"], "succeeded");
}

#[test]
fn receive_wait_returns_when_the_money_is_there() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let waiter = bob.begin(&["receive", "7000", "-m", "waiting", "--wait", "--json"]);
    let open_invoice = || {
        let history = bob.json(&["history"]);
        let entries = history["entries"].as_array().expect("entries").clone();
        entries.iter().find(|entry| entry["description"] == "waiting").map(|entry| entry["invoice"].clone())
    };
    let invoice = eventually("the invoice in bob's book", open_invoice, Option::is_some).expect("just seen");
    alice.json(&["pay", invoice.as_str().expect("an invoice")]);
    let output = waiter.wait_with_output().expect("the command ends");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("succeeded"), "{output:?}");
}
