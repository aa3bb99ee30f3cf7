//! Old copies, lost disks: nothing old is acted on, and the money comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::own::OwnServer;
use crate::support::scenes::{DEPOSIT, close_by_force, mine_until, open, pay, two_nodes_with_a_channel};
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

#[test]
pub(crate) fn an_older_copy_of_the_directory_is_refused_and_nothing_is_broadcast() {
    let world = World::new();
    let server = OwnServer::new(&world);
    let (mut alice, bob) = alice_behind(&world, &server);
    becomes_an_older_copy(&mut alice, &bob);

    let mark = server.mark();
    alice.start();
    let status = halted(&alice);
    let why = status["why"].as_str().expect("a reason");
    assert!(why.contains("older copy") && why.contains("nothing was sent"), "{why}");
    assert!(status["waits_for"][0].as_str().expect("a way out").contains("lightnode recover"), "{status}");
    for command in [&["balance"][..], &["receive", "1k"], &["channels"], &["send", &world.bitcoind.new_address(), "1k"]]
    {
        let ran = alice.run(command);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(ran.stderr.contains("lightnode recover"), "{ran:?}");
    }
    // It does not help to try again.
    alice.kill();
    alice.start();
    halted(&alice);
    world.bitcoind.mine(3);
    bob.at_height(world.bitcoind.height());
    assert_eq!(server.asked_since(mark), 0, "a server was asked for something");
    assert!(world.bitcoind.mempool().is_empty(), "something was broadcast");
    assert_eq!(bob.json(&["channels"]).as_array().map(Vec::len), Some(1), "bob's channel lives");
    assert!(bob.entries("channel_close").is_empty());
}

#[test]
pub(crate) fn an_older_copy_whose_owner_gives_its_channels_up_gets_the_money_back() {
    let world = World::new();
    let server = OwnServer::new(&world);
    let (mut alice, bob) = alice_behind(&world, &server);
    becomes_an_older_copy(&mut alice, &bob);
    alice.start();
    halted(&alice);
    alice.json(&["recover"]);
    comes_back(&world, &alice, &bob, DEPOSIT - 100_000);
    assert_eq!(alice.run(&["recover"]).code, 2, "there is nothing more to recover");
    // One is made anew for each block that does not hold it: the last one counts.
    let (swept, replaced): (Vec<_>, Vec<_>) =
        alice.entries("sweep").into_iter().partition(|sweep| sweep["status"] == "succeeded");
    assert_eq!((swept.len(), &swept[0]["direction"]), (1, &"in".into()), "{swept:?}");
    assert!(replaced.iter().all(|sweep| sweep["status"] == "failed"), "{replaced:?}");
}

#[test]
pub(crate) fn a_peer_that_proves_us_behind_is_believed_before_anything_old_is_broadcast() {
    let world = World::new();
    let server = OwnServer::new(&world);
    let (mut alice, bob) = alice_behind(&world, &server);
    becomes_an_older_copy(&mut alice, &bob);
    // What only the machine knew is lost too: nothing but the peer can tell.
    fs::remove_dir_all(alice.state_home()).expect("the test's own folder");

    let mark = server.mark();
    alice.start();
    let mut first = alice.take_process();
    let ended = first.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(6), "{}", first.log().tail(40));
    assert!(first.log().contains("proved that channel"), "{}", first.log().tail(40));
    assert_eq!(server.given_since(mark), 0);
    assert!(world.bitcoind.mempool().is_empty(), "something was broadcast");

    alice.start();
    let in_recovery = |status: &Value| status["recovery"]["why"].as_str().is_some_and(|why| why.contains("proved"));
    eventually("alice to be in recovery", || alice.answering(), in_recovery);
    comes_back(&world, &alice, &bob, DEPOSIT - 100_000);
    // It was this process all the while, and the next one is as any other.
    alice.stop();
    alice.start();
    alice.ready();
}

#[test]
pub(crate) fn a_lost_disk_comes_back_from_the_words_and_the_backup_even_when_stopped_in_the_middle() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    bob.funded(&world, 100_000);
    pay(&alice, &bob, 100_000);
    let (file, words) = (saved(&world, &alice), words(&alice));
    alice.kill();
    fs::remove_dir_all(alice.folder()).expect("the test's own folder");

    let mut again = Daemon::new(&world, "again");
    let made = again.run_with_input(&["init", "--restore", "--backup", &file, "--yes"], &words);
    assert_eq!((made.code, &made.json()["channels"]), (0, &1.into()), "{made:?}");
    again.start();
    eventually("bob's close", || world.bitcoind.mempool(), |all| !all.is_empty());
    again.kill();
    world.bitcoind.mine(2);
    again.start();
    let found = |status: &Value| status["recovery"]["found_sat"].as_u64().is_some_and(|sat| sat > 390_000);
    let status = eventually("the output to be found", || again.answering(), found);
    assert!(status["recovery"]["channels"][0]["closing_txid"].is_string(), "{status}");
    let seen = on_a_terminal(&again, &["status"]);
    assert!(plain(&seen.stdout).contains("given up"), "{seen:?}");
    again.stop();
    again.start();
    comes_back(&world, &again, &bob, DEPOSIT - 100_000);
}

#[test]
pub(crate) fn the_words_alone_find_what_a_close_has_paid() {
    let world = World::new();
    let (mut alice, bob) = two_nodes_with_a_channel(&world);
    bob.funded(&world, 100_000);
    pay(&alice, &bob, 100_000);
    let words = words(&alice);
    alice.kill();
    fs::remove_dir_all(alice.folder()).expect("the test's own folder");
    close_by_force(&world, &bob);
    world.bitcoind.mine(6);

    let mut again = Daemon::new(&world, "again");
    assert_eq!(again.run_with_input(&["init", "--restore", "--yes"], &words).code, 0);
    again.start();
    let state = |status: &Value| status["recovery"]["looks_until_height"].is_u64();
    eventually("the look to be through", || again.answering(), state);
    mine_until(&world, 10, &[&again], || is_whole(&again, DEPOSIT - 100_000));
    // It goes on looking, and is as any other node meanwhile.
    again.ready();
}

#[test]
fn a_recovery_whose_peer_is_gone_ends_when_its_owner_abandons_the_channel_and_the_words_find_a_late_close() {
    let world = World::new();
    let (mut alice, mut bob) = two_nodes_with_a_channel(&world);
    let (file, words) = (saved(&world, &alice), words(&alice));
    let id = alice.json(&["channels"])[0]["channel_id"].as_str().expect("an id").to_string();
    alice.kill();
    bob.kill();
    let mut again = Daemon::new(&world, "again");
    assert_eq!(again.run_with_input(&["init", "--restore", "--backup", &file, "--yes"], &words).code, 0);
    again.start();
    let waits = |status: &Value| status["state"] == "degraded" && status["recovery"]["looking"] == false;
    let status = eventually("the recovery to wait for bob", || again.answering(), waits);
    assert!(status["recovery"]["channels"][0]["waits_for"].is_string(), "{status}");

    let asks = again.run(&["recovery", "abandon", &id]);
    assert!(asks.code == 2 && asks.stderr.contains("--yes"), "{asks:?}");
    let seen = again.answering();
    assert!(seen["recovery"]["channels"][0]["abandoned_at"].is_null(), "{seen}");
    for (wrong, code) in [("0000000000000000", 1), (&id[..7], 1)] {
        let refused = again.run(&["recovery", "abandon", wrong, "--yes"]);
        assert_eq!(refused.code, code, "{refused:?}");
    }
    let done = again.json(&["recovery", "abandon", &id[..12], "--yes"]);
    assert!(done["done"].as_str().expect("words").contains("500000 sat"), "{done}");
    again.ready();
    let over = again.answering();
    assert!(over["recovery"].is_null(), "{over}");
    assert_eq!(again.run(&["recovery", "abandon", &id, "--yes"]).code, 2, "nothing is left to be abandoned");
    again.stop();
    again.start();
    again.ready();
    again.stop();

    // Bob comes back after all and closes.
    bob.start();
    bob.ready();
    close_by_force(&world, &bob);
    world.bitcoind.mine(6);
    let mut later = Daemon::new(&world, "later");
    assert_eq!(later.run_with_input(&["init", "--restore", "--yes"], &words).code, 0);
    later.start();
    let looked = |status: &Value| status["recovery"]["looks_until_height"].is_u64();
    eventually("the look to be through", || later.answering(), looked);
    mine_until(&world, 20, &[&later], || is_whole(&later, DEPOSIT));
}

#[test]
pub(crate) fn a_stopped_node_that_moves_to_another_machine_goes_on() {
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

/// Alice with a server of her own, with a channel to bob, who can pay for a close.
pub(crate) fn alice_behind(world: &World, server: &OwnServer) -> (Daemon, Daemon) {
    let alice = Daemon::with_servers(world, "alice", &[server.url()]).started();
    let bob = Daemon::new(world, "bob").started();
    alice.funded(world, DEPOSIT);
    bob.funded(world, 100_000);
    open(world, &alice, &bob, &[]);
    (alice, bob)
}

/// Its directory is one that was copied before the channel went on.
pub(crate) fn becomes_an_older_copy(alice: &mut Daemon, bob: &Daemon) {
    let copy = copied(alice);
    goes_on(alice, bob);
    alice.kill();
    put_back(alice, &copy);
}

/// After a copy was made, the channel goes on without it.
fn goes_on(alice: &mut Daemon, bob: &Daemon) {
    alice.start();
    alice.ready();
    alice.usable(1);
    pay(alice, bob, 100_000);
}

/// The peer closes, our share is swept to the wallet, and the node is as any other again.
pub(crate) fn comes_back(world: &World, node: &Daemon, peer: &Daemon, sat: u64) {
    let close = || world.bitcoind.mempool().len() + closed(node);
    eventually("the peer's close", close, |count| *count > 0);
    mine_until(world, 20, &[node], || is_whole(node, sat));
    world.bitcoind.mine(6);
    node.ready();
    let status = node.answering();
    assert!(status["recovery"].is_null(), "{status}");
    peer.without_channels();
}

/// Channels whose close is in a block.
fn closed(node: &Daemon) -> usize {
    let status = node.answering();
    let channels = status["recovery"]["channels"].as_array().cloned().unwrap_or_default();
    channels.iter().filter(|channel| channel["closing_txid"].is_string()).count()
}

/// All the money is in the wallet, but for the fees of opening, closing and sweeping.
pub(crate) fn is_whole(node: &Daemon, sat: u64) -> bool {
    let there = node.balance("onchain_confirmed_sat");
    assert!(there <= sat, "{there} of {sat} sat");
    there > sat - 20_000
}

pub(crate) fn words(node: &Daemon) -> String {
    fs::read_to_string(node.folder().join("seed")).expect("the seed's file").trim().to_string()
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

pub(crate) fn halted(node: &Daemon) -> Value {
    eventually("the node to be halted", || node.answering(), |status| status["state"] == "halted")
}

/// A backup in a file of its own; its path.
pub(crate) fn saved(world: &World, node: &Daemon) -> String {
    let file = world.folder().join("node.backup").to_str().expect("UTF-8").to_string();
    let made = node.json(&["backup", &file]);
    assert_eq!(made["channels"], 1, "{made}");
    file
}
