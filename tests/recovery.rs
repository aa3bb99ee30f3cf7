//! Old copies, lost disks: nothing old is acted on, and the money comes back.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{DEPOSIT, open, pay, two_nodes_with_a_channel};
use crate::support::world::World;

#[test]
fn an_older_copy_of_the_directory_is_refused_and_nothing_is_broadcast() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    let copy = copied(&mut alice);
    alice.start();
    alice.ready();
    alice.usable(1);
    pay(&alice, &bob, 100_000);
    alice.kill();
    put_back(&alice, &copy);

    alice.start();
    let status = halted(&alice);
    let why = status["why"].as_str().expect("a reason");
    assert!(why.contains("older copy") && why.contains("nothing was sent"), "{why}");
    assert!(status["waits_for"][0].as_str().expect("a way out").contains("lightnode recover"), "{status}");
    for command in [&["balance"][..], &["pay", "lnbc1"], &["receive", "1k"], &["channels"]] {
        let ran = alice.run(command);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(ran.stderr.contains("lightnode recover"), "{ran:?}");
    }
    world.bitcoind.mine(3);
    bob.at_height(world.bitcoind.height());
    assert!(world.bitcoind.mempool().is_empty(), "something was broadcast");
    assert!(!bob.log().contains("channel_reestablish for unknown"), "bob was told something");
    assert_eq!(bob.json(&["channels"]).as_array().map(Vec::len), Some(1), "bob's channel lives");
    // It does not help to try again.
    alice.kill();
    alice.start();
    halted(&alice);
}

#[test]
fn a_stopped_node_that_moves_to_another_machine_goes_on() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    alice.stop();
    fs::remove_dir_all(alice.state_home()).expect("the test's own folder");
    alice.start();
    alice.ready();
    alice.usable(1);
    pay(&alice, &bob, 10_000);
}

#[test]
fn the_backup_is_written_again_whenever_a_channel_opens_or_closes_and_the_command_gets_it() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice"), Daemon::new(&world, "bob").started());
    let (file, taken) = (world.folder().join("elsewhere.backup"), world.folder().join("taken"));
    // Each time a file of its own, as long as the backup.
    let command = format!("mkdir -p {0}; cat > {0}/$$.new && mv {0}/$$.new {0}/$$", taken.display());
    let more = format!("[backup]\npath = \"{}\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n", file.display());
    alice.configure(&[world.server()], &more);
    let mut alice = alice.started();
    alice.funded(&world, DEPOSIT);
    assert!(!file.exists(), "there is no channel yet");
    let id = open(&world, &alice, &bob, &[]);
    let with_channel = eventually("the backup", || fs::read(&file).unwrap_or_default(), |bytes| !bytes.is_empty());
    let handed = || {
        fs::read_dir(&taken).map_or(0, |files| {
            files.filter(|file| !file.as_ref().unwrap().path().to_string_lossy().ends_with(".new")).count()
        })
    };
    eventually("the command to have got it", handed, |count| *count > 0);
    assert!(fs::read_dir(&taken).unwrap().any(|file| fs::read(file.unwrap().path()).unwrap() == with_channel));
    // A restart changes nothing.
    let before = handed();
    alice.stop();
    alice.start();
    alice.ready();
    alice.usable(1);
    assert_eq!((fs::read(&file).unwrap(), handed()), (with_channel.clone(), before));

    alice.json(&["close", &id]);
    world.bitcoind.mine(1);
    alice.without_channels();
    eventually("the backup without it", || fs::read(&file).unwrap(), |bytes| bytes.len() < with_channel.len());

    let by_hand = world.folder().join("by-hand.backup");
    let made = alice.json(&["backup", by_hand.to_str().expect("UTF-8")]);
    assert_eq!(made["channels"], 0, "{made}");
    assert!(fs::read(&by_hand).unwrap().starts_with(b"lightnode backup"));
}

#[test]
fn a_backup_that_cannot_be_written_is_told_and_holds_nothing_up() {
    let world = World::new();
    let (alice, bob) = (Daemon::new(&world, "alice"), Daemon::new(&world, "bob").started());
    alice.configure(&[world.server()], "[backup]\npath = \"/proc/no/such/place\"\n");
    let alice = alice.started();
    alice.funded(&world, DEPOSIT);
    open(&world, &alice, &bob, &[]);
    pay(&alice, &bob, 10_000);
    let told = |status: &Value| status["backup"]["trouble"].as_str().is_some_and(|text| text.contains("/proc/no/such"));
    let status = eventually("the trouble in status", || alice.answering(), told);
    assert!(status["waits_for"].to_string().contains("backup"), "{status}");
    let made = alice.run(&["backup"]);
    assert_eq!(made.code, 1, "{made:?}");
}

#[test]
fn wrong_words_do_not_open_a_backup_and_leave_nothing_behind() {
    let world = World::new();
    let (alice, _bob) = two_nodes_with_a_channel(&world);
    let file = saved(&world, &alice);
    let other = Daemon::new(&world, "other");
    let words = other.json(&["init", "--yes"])["words"].as_str().expect("words").to_string();
    let wrong = Daemon::new(&world, "wrong");
    let ran = wrong.run_with_input(&["init", "--restore", "--backup", &file, "--yes"], &words);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("does not open with these words"), "{ran:?}");
    assert!(!wrong.folder().join("seed").exists() && !wrong.folder().join("restore").exists());
}

/// Stopped, and copied as it is.
fn copied(node: &mut Daemon) -> PathBuf {
    node.stop();
    let copy = node.folder().with_extension("copy");
    copy_all(node.folder(), &copy);
    copy
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's own folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => copy_all(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).expect("a copy")),
            // The socket of a node that was killed.
            _ => {}
        }
    }
}

fn put_back(node: &Daemon, copy: &Path) {
    fs::remove_dir_all(node.folder()).expect("the test's own folder");
    copy_all(copy, node.folder());
}

fn halted(node: &Daemon) -> Value {
    eventually("the node to be halted", || node.answering(), |status| status["state"] == "halted")
}

/// A backup in a file of its own; its path.
fn saved(world: &World, node: &Daemon) -> String {
    let file = world.folder().join("node.backup").to_str().expect("UTF-8").to_string();
    let made = node.json(&["backup", &file]);
    assert_eq!(made["channels"], 1, "{made}");
    file
}
