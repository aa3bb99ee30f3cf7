//! Configuration: mistakes are named, files that ship with the project hold.

use std::fs;
use std::process::Command;

use crate::support::daemon::{Daemon, LIGHTNODE, Ran};
use crate::support::world::World;

fn run_with(text: &str) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("lightnode.toml"), text).expect("a temporary folder");
    let output = Command::new(LIGHTNODE).arg("--data-dir").arg(folder.path()).arg("run").output();
    output.expect("the binary under test starts").into()
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let ran = run_with("network = \"regtest\"\n[node]\nalais = \"x\"\n");
    assert_eq!(ran.code, 2, "{ran:?}");
    for word in ["alais", "alias", "3"] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_line() {
    let ran = run_with("network = \"regtest\"\n[node]\nalias = 7\n");
    assert_eq!(ran.code, 2, "{ran:?}");
    for word in ["alias", "3"] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
}

#[test]
fn regtest_without_a_server_says_which_key_is_missing() {
    let ran = run_with("network = \"regtest\"\n");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("server"), "{ran:?}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let inside = file.path().join("data");
    let output = Command::new(LIGHTNODE).arg("--data-dir").arg(&inside).args(["--network", "regtest", "run"]).output();
    let ran = Ran::from(output.expect("the binary under test starts"));
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains(&inside.display().to_string()), "{ran:?}");
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_lives_on() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let second = alice.run(&["run"]);
    assert_ne!(second.code, 0, "{second:?}");
    assert!(second.stderr.contains("already") || second.stderr.contains("another"), "{second:?}");
    alice.ready();
}

#[test]
fn another_network_on_the_same_directory_is_refused() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.stop();
    let text = "network = \"signet\"\n[[server]]\nurl = \"tcp://127.0.0.1:1\"\n";
    fs::write(alice.folder().join("lightnode.toml"), text).expect("the test's own folder");
    let refused = alice.run(&["run"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("regtest"), "{refused:?}");
}

#[test]
fn another_seed_on_the_same_directory_is_refused() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice").started();
    alice.stop();
    let mut bob = Daemon::new(&world, "bob").started();
    bob.stop();
    fs::copy(bob.folder().join("seed"), alice.folder().join("seed")).expect("the test's own folder");
    let refused = alice.run(&["run"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("seed"), "{refused:?}");
}
