//! Payments whose outcome is not known yet: said so, waited for, never paid twice.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

use serde_json::json;

use crate::support::daemon::{Daemon, Ran};
use crate::support::eventually::eventually;
use crate::support::process::signal;
use crate::support::scenes::two_nodes_with_a_channel;
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

#[test]
pub(crate) fn a_payment_without_an_answer_is_unknown_until_a_named_block_and_its_success_is_found_later() {
    let world = World::new();
    let (alice, mut bob) = two_nodes_with_a_channel(&world);
    let (invoice, hash) = invoice_and_hash(&bob);
    bob.freeze();

    let unknown = alice.run(&["pay", &invoice, "--timeout", "2s"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    let told = unknown.json();
    assert_eq!((&told["status"], &told["already"]), (&json!("unknown"), &json!(false)), "{told}");
    let until = told["open_until_height"].as_u64().expect("the block until which it can stay open");
    assert!(until > u64::from(world.bitcoind.height()), "{told}");
    assert_eq!(alice.json(&["show", &hash])["status"], "unknown");

    // A person is told the same, and what to do; asking again has not paid again.
    let seen = on_a_terminal(&alice, &["pay", &invoice, "--timeout", "3s"]);
    let text = plain(&seen.stdout);
    assert_eq!(seen.code, 4, "{text}");
    for words in [format!("until block {until}"), format!("lightnode show {hash}"), "Do not pay".into()] {
        assert!(text.contains(&words), "{words}:\n{text}");
    }
    assert!(text.contains("paying 50,000 sat · attempt 1 · 1 s"), "no progress:\n{text}");
    assert_eq!(alice.channels("usable")[0]["pending_htlcs"], 1, "only one payment is out");

    bob.thaw();
    let settled = alice.entry(&hash, "succeeded");
    assert_eq!(settled["open_until_height"], json!(null), "{settled}");
    let again = alice.json(&["pay", &invoice]);
    assert_eq!((&again["already"], &again["preimage"]), (&json!(true), &settled["preimage"]));
    assert_eq!(bob.entry(&hash, "succeeded")["amount_msat"], 50_000_000);
}

#[test]
fn ctrl_c_leaves_the_payment_running_and_whoever_asks_again_waits_for_it() {
    let world = World::new();
    let (alice, mut bob) = two_nodes_with_a_channel(&world);
    let (invoice, hash) = invoice_and_hash(&bob);
    bob.freeze();

    let first = alice.begin(&["pay", &invoice]);
    under_way(&alice);
    assert!(signal(first.id(), "INT"));
    let left = ended(first);
    assert_eq!(left.code, 4, "{left:?}");
    assert!(left.stderr.contains(&format!("lightnode show {hash}")), "{left:?}");

    let mut second = alice.begin(&["pay", &invoice]);
    // It says that it waits after two seconds, not before.
    let mut line = String::new();
    let mut stderr = BufReader::new(second.stderr.take().expect("a pipe"));
    stderr.read_line(&mut line).expect("its words");
    assert!(line.contains("paying 50,000 sat"), "{line}");
    bob.thaw();
    let joined = ended(second);
    assert_eq!(joined.code, 0, "{joined:?}");
    let paid = joined.json();
    assert_eq!((&paid["status"], &paid["already"]), (&json!("succeeded"), &json!(true)), "{paid}");
    let received = bob.entry(&hash, "succeeded");
    assert_eq!((&received["amount_msat"], &received["preimage"]), (&json!(50_000_000), &paid["preimage"]));
}

#[test]
pub(crate) fn stop_does_not_wait_for_a_payment_that_is_out_and_the_book_tells_its_end_after_the_restart() {
    let world = World::new();
    let (mut alice, mut bob) = two_nodes_with_a_channel(&world);
    let (invoice, hash) = invoice_and_hash(&bob);
    bob.freeze();
    let paying = alice.begin(&["pay", &invoice]);
    under_way(&alice);

    let stopping = alice.begin(&["stop"]);
    let status = alice.take_process().wait(Duration::from_secs(5));
    assert!(status.success(), "{status}");
    assert_eq!(ended(stopping).code, 0);
    // Whoever waited is not told that it failed.
    let broken = ended(paying);
    assert_eq!(broken.code, 4, "{broken:?}");
    assert!(broken.stdout.contains(&hash) || broken.stderr.contains(&hash), "{broken:?}");

    bob.thaw();
    alice.start();
    alice.ready();
    let settled = alice.entry(&hash, "succeeded");
    assert_eq!(settled["amount_msat"], 50_000_000);
    assert_eq!(bob.entry(&hash, "succeeded")["preimage"], settled["preimage"]);
    alice.usable(1);
}

/// An invoice over 50,000 sat, and its payment hash.
fn invoice_and_hash(node: &Daemon) -> (String, String) {
    let made = node.json(&["receive", "50k"]);
    let text = |field: &str| made[field].as_str().expect("text").to_string();
    (text("invoice"), text("payment_hash"))
}

/// Waits until an HTLC of `node` is out.
fn under_way(node: &Daemon) {
    eventually("the payment to be out", || node.channels("usable")[0]["pending_htlcs"].clone(), |out| *out == 1);
}

fn ended(child: Child) -> Ran {
    child.wait_with_output().expect("the command ends").into()
}
