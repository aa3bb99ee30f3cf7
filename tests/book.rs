//! The book for people: pages, beginnings of ids, foreign text made harmless.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::scenes::two_nodes_with_a_channel;
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

#[test]
fn the_history_is_paged_without_gap_or_repetition_and_says_where_it_goes_on() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let mut made: Vec<Value> = (0..5)
        .map(|number| alice.json(&["receive", "-m", &format!("number {number}")])["payment_hash"].clone())
        .collect();
    made.reverse();
    let mut seen = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let mut words = vec!["history", "--limit", "2"];
        words.extend(before.as_deref().map(|id| ["--before", id]).iter().flatten());
        let page = alice.json(&words);
        let entries = page["entries"].as_array().expect("entries");
        assert!(entries.len() <= 2, "{page}");
        seen.extend(entries.iter().map(|entry| entry["id"].clone()));
        assert!(seen.len() <= made.len(), "pages repeat themselves: {page}");
        let Some(next) = page["next"].as_str() else { break };
        before = Some(next.to_string());
    }
    assert_eq!(seen, made);
    // A page can begin at any line, and a person is told the command for the next one.
    let older = alice.json(&["history", "--before", made[1].as_str().expect("an id")]);
    assert_eq!(older["entries"][0]["id"], made[2]);
    let shown = plain(&on_a_terminal(&alice, &["history", "--limit", "2"]).stdout);
    assert!(shown.contains("number 4") && shown.contains("older: lightnode history --before"), "{shown}");
    assert!(!shown.contains("number 2"), "{shown}");
}

#[test]
fn an_entry_is_found_by_the_beginning_of_its_id() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let hash = alice.json(&["receive", "1000"])["payment_hash"].as_str().expect("a hash").to_string();
    for digits in [8, 20, 64] {
        assert_eq!(alice.json(&["show", &hash[..digits]])["id"], json!(hash));
    }
    for (id, code) in [(&hash[..7], 2), ("coffee", 2), (&"0f".repeat(32), 1)] {
        let refused = alice.run(&["show", id]);
        assert_eq!(refused.code, code, "{id}: {refused:?}");
    }
}

#[test]
fn an_invoice_that_nobody_can_pay_yet_comes_with_a_warning() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob"));
    let made = alice.json(&["receive", "1000"]);
    assert!(made["warning"].as_str().expect("a warning").contains("no channel"), "{made}");
    let shown = plain(&on_a_terminal(&alice, &["receive", "1000"]).stdout);
    assert!(shown.contains("there is no channel yet"), "{shown}");
    drop((alice, bob));

    let (alice, bob) = two_nodes_with_a_channel(&world);
    // All the money is on alice's side: she can receive nothing, bob can.
    let made = alice.json(&["receive", "1000"]);
    assert!(made["warning"].as_str().expect("a warning").contains("nothing can be received"), "{made}");
    assert_eq!(bob.json(&["receive", "1000"])["warning"], Value::Null);
    let much = bob.json(&["receive", "1M"]);
    assert!(much["warning"].as_str().expect("a warning").contains("at most"), "{much}");
}

#[test]
fn what_a_payee_writes_into_an_invoice_cannot_command_or_mislead_a_terminal() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    // Another colour, another title, back to the line's beginning, right to left, invisible.
    let evil = "tea\u{1b}[31m\u{1b}]0;paid\u{7}\rfree\u{202e}\u{200b}\u{9b}2Kend";
    let made = bob.json(&["receive", "1000", "-m", evil]);
    let (invoice, hash) = (made["invoice"].as_str().expect("text"), made["payment_hash"].as_str().expect("text"));
    let decoded = on_a_terminal(&alice, &["decode", invoice]);
    harmless(&decoded.stdout);
    assert!(decoded.stdout.contains("\\u{1b}[31m"), "it is shown, not hidden: {decoded:?}");
    harmless(&on_a_terminal(&alice, &["pay", invoice]).stdout);
    bob.entry(hash, "succeeded");
    // Programs get the text itself, the same from every command, in JSON that may be shown on a terminal, too.
    for (node, words) in [
        (&alice, vec!["decode", invoice]),
        (&alice, vec!["show", hash]),
        (&bob, vec!["show", hash]),
        (&bob, vec!["history", "--limit", "1"]),
    ] {
        let ran = node.run(&[words.as_slice(), &["--json"]].concat());
        harmless(&ran.stdout);
        let answer = ran.json();
        let text = answer.get("entries").map_or(&answer, |entries| &entries[0])["description"].clone();
        assert_eq!(text, evil, "{words:?}: {ran:?}");
    }
    for node in [&alice, &bob] {
        for words in [vec!["history"], vec!["show", hash]] {
            let seen = on_a_terminal(node, &words);
            assert!(seen.stdout.contains("tea"), "{words:?}: {seen:?}");
            harmless(&seen.stdout);
        }
    }
    assert!(!alice.log().contains('\u{202e}') && !bob.log().contains('\u{202e}'), "the log is read on a terminal, too");
}

/// Nothing of the evil text is there as it was written.
fn harmless(shown: &str) {
    for evil in ["\u{1b}[31m", "\u{1b}]0;", "\u{7}", "\rfree", "\u{202e}", "\u{200b}", "\u{9b}"] {
        assert!(!shown.contains(evil), "{evil:?} reached the terminal: {shown:?}");
    }
}
