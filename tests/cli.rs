//! The command line: every command as JSON and for people, every exit code.

use std::process::Command;

use crate::support::daemon::{Daemon, LIGHTNODE, Ran};
use crate::support::eventually::eventually;
use crate::support::scenes::{DEPOSIT, pay, two_nodes_with_a_channel};
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

#[test]
fn every_reading_command_speaks_json_to_programs_and_words_to_people() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let paid = pay(&alice, &bob, 50_000);
    let (id, invoice) = (paid["id"].as_str().expect("an id"), bob.invoice("1000"));
    for (words, field, shown) in [
        (vec!["status"], "/state", "ready"),
        (vec!["balance"], "/lightning_sat", "Lightning"),
        (vec!["address"], "/address", "bcrt1"),
        (vec!["peer", "list"], "/0/node_id", "connected"),
        (vec!["channels"], "/0/capacity_sat", "500,000"),
        (vec!["receive", "21000", "-m", "coffee"], "/invoice", "lnbcrt"),
        (vec!["decode", &invoice], "/payment_hash", "1,000 sat"),
        (vec!["servers"], "/0/duties", "channels, wallet"),
        (vec!["history"], "/entries/0/id", "50,000"),
        (vec!["show", id], "/preimage", paid["preimage"].as_str().expect("a preimage")),
    ] {
        let value = alice.json(&words);
        assert!(value.pointer(field).is_some(), "{words:?} has no {field}: {value}");
        let seen = on_a_terminal(&alice, &words);
        let text = plain(&seen.stdout);
        assert_eq!(seen.code, 0, "{words:?}: {seen:?}");
        assert!(text.contains(shown), "{words:?} does not show {shown:?}:\n{text}");
        assert!(!text.trim_start().starts_with(['{', '[']), "{words:?} shows JSON to a person:\n{text}");
        // The same command, asked for JSON on a terminal, is JSON.
        let forced = on_a_terminal(&alice, &[&words[..], &["--json"]].concat());
        serde_json::from_str::<serde_json::Value>(&plain(&forced.stdout))
            .unwrap_or_else(|error| panic!("{words:?} --json: {error}: {forced:?}"));
    }
}

#[test]
fn a_person_sees_a_qr_code_of_what_is_to_be_scanned() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    for words in [vec!["address"], vec!["receive", "1000"]] {
        let seen = on_a_terminal(&alice, &words);
        let blocks = seen.stdout.chars().filter(|letter| "█▀▄".contains(*letter)).count();
        assert!(blocks > 100, "{words:?}: {seen:?}");
    }
}

#[test]
fn a_payment_on_a_terminal_says_what_was_paid() {
    let world = World::new();
    let (alice, bob) = two_nodes_with_a_channel(&world);
    let seen = on_a_terminal(&alice, &["pay", &bob.invoice("50000")]);
    let text = plain(&seen.stdout);
    assert_eq!(seen.code, 0, "{text}");
    assert!(text.contains("50,000 sat"), "{text}");
}

#[test]
fn exit_codes_tell_programs_what_happened() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice");
    assert_eq!(alice.run(&["status"]).code, 3, "no daemon");
    assert_eq!(alice.run(&["frobnicate"]).code, 2, "no such command");
    assert_eq!(alice.run(&["pay"]).code, 2, "an argument is missing");
    alice.start();
    alice.ready();
    assert_eq!(alice.run(&["status"]).code, 0, "done");
    assert_eq!(alice.run(&["pay", "garbage"]).code, 2, "garbage");
    assert_eq!(alice.run(&["show", "ffffffffffffffff"]).code, 1, "nothing with that id");
    assert_eq!(alice.run(&["send", &world.bitcoind.new_address(), "1000"]).code, 5, "not enough funds");
    let refused = alice.run(&["close", &"00".repeat(32)]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(alice.run(&["init", "--yes"]).code, 6, "a seed is never overwritten");
    // 4, an unknown outcome, needs somebody who does not answer: `outcomes`.
}

#[test]
fn errors_go_to_stderr_with_what_to_do_next() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice");
    let away = alice.run(&["balance"]);
    assert_eq!(away.code, 3);
    assert!(away.stdout.is_empty(), "{away:?}");
    assert!(away.stderr.contains("lightnode run"), "{away:?}");
}

#[test]
fn init_makes_a_seed_once_and_restore_reads_its_words_back() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice");
    let made = alice.run(&["init", "--yes"]);
    assert_eq!(made.code, 0, "{made:?}");
    let words = made.json()["words"].as_str().expect("the words, shown once").to_string();
    assert_eq!(words.split_whitespace().count(), 24);
    let mode = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("it was just made").permissions().mode() & 0o777
    };
    assert_eq!(mode(&alice.folder().join("seed")), 0o600);
    let fresh = world.folder().join("fresh");
    let output = Command::new(LIGHTNODE).arg("--data-dir").arg(&fresh).args(["init", "--yes"]).output();
    assert!(output.expect("the binary under test starts").status.success());
    assert_eq!(mode(&fresh), 0o700);
    assert!(fresh.join("lightnode.toml").is_file(), "a commented configuration is made where there is none");
    let again = alice.run(&["init", "--yes"]);
    assert_eq!(again.code, 6, "a second init must not touch the seed: {again:?}");

    let bob = Daemon::new(&world, "bob");
    let restored = bob.run_with_input(&["init", "--restore", "--yes"], &words);
    assert_eq!(restored.code, 0, "{restored:?}");
    let (alice, bob) = (alice.started(), bob.started());
    assert_eq!(alice.node_id(), bob.node_id());

    let carol = Daemon::new(&world, "carol");
    let mut wrong: Vec<&str> = words.split(' ').collect();
    wrong[3] = "lightnode";
    let refused = carol.run_with_input(&["init", "--restore", "--yes"], &wrong.join(" "));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("lightnode") || refused.stderr.contains("4"), "{refused:?}");
}

#[test]
fn the_first_run_makes_a_seed_by_itself_and_says_where_it_lies() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    assert!(alice.folder().join("seed").is_file());
    assert!(alice.log().contains("seed"), "{}", alice.log());
    // The same records are in the file that rotates.
    let logs = std::fs::read_dir(alice.folder().join("logs")).expect("the folder of logs");
    let text: String =
        logs.map(|file| std::fs::read_to_string(file.expect("an entry").path()).expect("a log file")).collect();
    assert!(text.contains("a new seed lies in"), "{text}");
    assert!(!alice.log().contains(&std::fs::read_to_string(alice.folder().join("seed")).expect("the seed")[..20]));
    // The same records lie in a file of the day, without the words either.
    let files: Vec<_> = std::fs::read_dir(alice.folder().join("logs")).expect("a folder of logs").collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let file = files[0].as_ref().expect("a log file").path();
    let text = std::fs::read_to_string(&file).expect("a log file");
    assert!(text.contains("answering") && text.contains("seed"), "{text}");
    assert!(!text.contains(&std::fs::read_to_string(alice.folder().join("seed")).expect("the seed")[..20]));
}

#[test]
fn stop_and_sigterm_end_the_daemon_in_good_order() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.stop();
    assert!(!alice.socket().exists(), "the socket is left behind");
    alice.start();
    alice.ready();
    let mut process = alice.take_process();
    process.terminate();
    assert!(process.wait(std::time::Duration::from_secs(20)).success());
}

#[test]
fn completions_are_printed_for_the_common_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output =
            Command::new(LIGHTNODE).args(["completions", shell]).output().expect("the binary under test starts");
        let ran = Ran::from(output);
        assert!(ran.code == 0 && ran.stdout.contains("lightnode"), "{shell}: {ran:?}");
    }
}

#[test]
fn what_needs_the_chain_is_refused_before_the_node_is_ready_with_what_it_waits_for() {
    let world = World::new();
    let nowhere = format!("tcp://127.0.0.1:{}", crate::support::ports::free_port());
    let mut alice = Daemon::with_servers(&world, "alice", &[nowhere]);
    alice.start();
    alice.answering();
    eventually("its channels to be read", || alice.json(&["status"])["state"].clone(), |state| *state == "syncing");
    // The generator of the curve is a node id like any other.
    let peer = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:9";
    let invoice = Daemon::new(&world, "bob").started().invoice("1000");
    let target = world.bitcoind.new_address();
    for words in [
        vec!["open", peer, "100000"],
        vec!["peer", "add", peer],
        vec!["send", &target, "1000"],
        vec!["pay", &invoice],
        vec!["receive", "1000"],
    ] {
        let refused = alice.run(&words);
        assert_eq!(refused.code, 3, "{words:?}: {refused:?}");
        assert!(refused.stderr.contains("server"), "{words:?} does not say what is waited for: {refused:?}");
        assert!(refused.stdout.is_empty(), "{words:?}: {refused:?}");
    }
    // What needs no chain works.
    for words in [vec!["status"], vec!["balance"], vec!["history"], vec!["channels"], vec!["decode", &invoice]] {
        assert_eq!(alice.run(&words).code, 0, "{words:?}");
    }
}

#[test]
fn every_acting_command_tells_a_person_what_it_did() {
    let world = World::new();
    let (mut alice, bob) = (Daemon::new(&world, "alice").started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, DEPOSIT);
    let done = |node: &Daemon, words: &[&str], shown: &[&str]| {
        let seen = on_a_terminal(node, words);
        let text = plain(&seen.stdout);
        assert_eq!(seen.code, 0, "{words:?}: {text}");
        for word in shown {
            assert!(text.contains(word), "{words:?} does not show {word:?}:\n{text}");
        }
        assert!(!text.trim_start().starts_with(['{', '[']), "{words:?} shows JSON to a person:\n{text}");
    };
    let (peer, node_id) = (bob.peer(), bob.node_id());
    done(&alice, &["peer", "add", &peer], &["connected to", &node_id]);
    done(
        &alice,
        &["send", &world.bitcoind.new_address(), "10k", "--feerate", "3"],
        &["sent 10,000 sat", "fee", "txid"],
    );
    done(&alice, &["open", &node_id, "200k"], &["opening a channel of 200,000 sat", "confirmations", "funding"]);
    eventually("both transactions", || world.bitcoind.mempool(), |all| all.len() == 2);
    world.bitcoind.mine(6);
    let id = alice.usable(1)[0]["channel_id"].as_str().expect("an id").to_string();
    bob.usable(1);
    done(&alice, &["close", &id[..8]], &["closing", &id]);
    eventually("the closing transaction", || world.bitcoind.mempool(), |all| all.len() == 1);
    world.bitcoind.mine(6);
    alice.without_channels();
    done(&alice, &["peer", "remove", &node_id], &["is forgotten"]);
    let process = alice.take_process();
    done(&alice, &["stop"], &["stopped"]);
    drop(process);
    let fresh = Daemon::new(&world, "fresh");
    done(&fresh, &["init", "--yes"], &["24 words", "not shown again", "seed", "lightnode run", " 1. ", " 24. "]);
}

#[test]
fn amounts_are_understood_in_the_usual_units() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    for (text, msat) in [("50k", 50_000_000_u64), ("0.001btc", 100_000_000), ("1500msat", 1_500), ("21sat", 21_000)] {
        assert_eq!(alice.json(&["receive", text])["amount_msat"], msat, "{text}");
    }
    for text in ["0", "-1", "1.5", "21000001btc", "0.000000000001btc", "many", "all"] {
        assert_eq!(alice.run(&["receive", text]).code, 2, "{text}");
    }
}
