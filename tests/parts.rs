use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use bitcoin::Address;
use serde_json::{Value, json};

use super::support::eventually::{eventually, eventually_eq, throughout};
use super::support::identity::Identity;
use super::support::probe::{Probe, script_hash};
use super::support::process::Process;
use super::support::proxy::Verdict;
use super::support::transcript::Entry;
use super::support::world::{A_WHILE, World};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_mined_block_is_announced_by_electrumx() {
    let world = World::new();
    let mut probe = world.probe();
    assert_eq!(probe.tip(), world.bitcoind.best_hash());
    let before = world.bitcoind.height();

    world.bitcoind.mine(1);

    let tip = probe.notification("blockchain.headers.subscribe", SOON).unwrap();
    assert_eq!(tip[0]["height"], before + 1);
    assert_eq!(probe.tip(), world.bitcoind.best_hash());
}

#[test]
fn a_payment_is_in_the_mempool_then_in_a_block() {
    let world = World::new();
    let address = world.bitcoind.new_address();
    let script = address.parse::<Address<_>>().unwrap().assume_checked().script_pubkey();
    let mut probe = world.probe();
    assert_eq!(probe.call("blockchain.scripthash.subscribe", &json!([script_hash(&script)])), Value::Null);

    let txid = world.pay(&address, 50_000);

    assert_eq!(probe.history(&script)[0]["tx_hash"], json!(txid));
    assert_eq!(probe.history(&script)[0]["height"], 0);
    assert_eq!(world.bitcoind.mempool(), [txid]);
    assert!(world.bitcoind.raw_tx(txid).output.iter().any(|output| output.value.to_sat() == 50_000));
    probe.notification("blockchain.scripthash.subscribe", SOON).unwrap();

    world.mine(1);

    assert_eq!(world.bitcoind.confirmations(txid), 1);
    eventually_eq("the payment is confirmed", json!(world.bitcoind.height()), || {
        probe.history(&script)[0]["height"].clone()
    });
}

#[test]
fn the_miner_can_pay_many_times_without_a_block() {
    let world = World::new();
    let address = world.bitcoind.new_address();
    for _ in 0..20 {
        world.bitcoind.pay(&address, 1_000_000_000);
    }
    assert_eq!(world.bitcoind.mempool().len(), 20);
}

#[test]
fn electrumx_follows_a_reorganisation() {
    let world = World::new();
    let txid = world.pay(world.bitcoind.new_address(), 70_000);
    world.mine(3);
    let (height, old) = (world.bitcoind.height(), world.bitcoind.best_hash());

    world.reorg(3, 4);

    assert_eq!(world.bitcoind.height(), height + 1);
    assert_ne!(world.bitcoind.hash_at(height), old);
    assert_eq!(world.bitcoind.confirmations(txid), 4);
    assert_eq!(world.probe().tip(), world.bitcoind.best_hash());
}

#[test]
fn a_reorganisation_can_leave_a_transaction_out() {
    let world = World::new();
    let left_out = world.bitcoind.pay(world.bitcoind.new_address(), 70_000);
    world.bitcoind.mine(1);
    let kept = world.bitcoind.pay(world.bitcoind.new_address(), 80_000);
    world.bitcoind.mine(1);

    world.bitcoind.reorg_without(2, 3, &[left_out]);

    // The second payment may have spent the first one's change; then it had to stay out as well.
    let heir = world.bitcoind.raw_tx(kept).input.iter().any(|input| input.previous_output.txid == left_out);
    assert_eq!(world.bitcoind.confirmations(left_out), 0);
    assert_eq!(world.bitcoind.confirmations(kept), if heir { 0 } else { 3 });
    assert!(world.bitcoind.mempool().contains(&left_out));
    world.sync();
}

#[test]
fn a_block_holds_exactly_what_it_was_asked_to_hold() {
    let world = World::new();
    let [first, second] = [10_000, 20_000].map(|sat| world.bitcoind.pay(world.bitcoind.new_address(), sat));

    let hash = world.bitcoind.mine_exactly(&[first]);

    let block = world.bitcoind.block(hash);
    assert_eq!(block.txdata.len(), 2);
    assert_eq!(block.txdata[1].compute_txid(), first);
    assert_eq!(world.bitcoind.mempool(), [second]);
}

#[test]
fn two_worlds_share_no_block_after_their_common_beginning() {
    let (one, other) = (World::new(), World::new());
    let height = one.bitcoind.height();
    assert_eq!(one.bitcoind.hash_at(height - 1), other.bitcoind.hash_at(height - 1));
    assert_ne!(one.bitcoind.best_hash(), other.bitcoind.best_hash());
}

#[test]
fn electrumx_comes_back_on_the_same_ports() {
    let mut world = World::new();
    let address = world.electrumx.tcp();
    world.electrumx.stop();
    assert!(Probe::try_connect(address).is_err());
    world.bitcoind.mine(2);

    world.electrumx.start();
    assert_eq!(Probe::connect(address).tip(), world.bitcoind.best_hash());

    world.electrumx.kill();
    world.electrumx.start();
    assert_eq!(Probe::connect(address).tip(), world.bitcoind.best_hash());
}

#[test]
fn a_second_electrumx_serves_the_same_chain() {
    let world = World::new();
    let second = world.another_electrumx();
    assert_eq!(Probe::connect(second.tcp()).tip(), world.bitcoind.best_hash());
}

#[test]
fn electrumx_speaks_tls_with_the_certificate_it_was_given() {
    let world = World::new();
    let mut probe = Probe::connect_tls(world.electrumx.tls(), world.electrumx.identity()).unwrap();
    assert_eq!(probe.tip(), world.bitcoind.best_hash());
    assert!(Probe::connect_tls(world.electrumx.tls(), &Identity::new()).is_err());
}

#[test]
fn a_proxy_writes_down_what_went_through() {
    let world = World::new();
    let proxy = world.proxy();
    let mut probe = Probe::connect(proxy.address());
    let mark = proxy.mark();
    probe.tip();
    probe.call("blockchain.estimatefee", &json!([6]));
    probe.call("blockchain.estimatefee", &json!([2]));

    let said = proxy.since(mark);
    assert_eq!(
        said.counts().into_iter().collect::<Vec<_>>(),
        [("blockchain.estimatefee".to_owned(), 2), ("blockchain.headers.subscribe".to_owned(), 1),]
    );
    assert_eq!(said.requests().last().unwrap().params, json!([2]));
    assert_eq!(said.replies("blockchain.estimatefee"), 2);
    assert_eq!(proxy.transcript().count("server.version"), 1);

    world.mine(1);
    probe.notification("blockchain.headers.subscribe", SOON).unwrap();
    assert!(proxy.since(mark).notifications("blockchain.headers.subscribe") >= 1);
}

#[test]
fn a_proxy_goes_down_and_comes_back_on_the_same_port() {
    let world = World::new();
    let proxy = world.proxy();
    let mut probe = Probe::connect(proxy.address());

    proxy.go_down();
    assert!(probe.try_call("server.ping", &json!([])).is_err());
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);

    proxy.come_back();
    let mut probe = Probe::connect(proxy.address());
    assert_eq!(probe.tip(), world.bitcoind.best_hash());

    proxy.close_connections();
    assert!(probe.try_call("server.ping", &json!([])).is_err());
    assert_eq!(Probe::connect(proxy.address()).tip(), world.bitcoind.best_hash());
    assert_eq!(proxy.accepted(), 3);
}

#[test]
fn a_proxy_holds_replies_until_they_are_released() {
    let world = World::new();
    let proxy = world.proxy();
    let mut probe = Probe::connect(proxy.address());
    probe.tip();

    proxy.hold();
    world.mine(1);
    eventually(
        "the announcement waits in the proxy",
        || proxy.transcript(),
        |seen| seen.notifications("blockchain.headers.subscribe") == 1,
    );
    assert!(probe.notification("blockchain.headers.subscribe", A_WHILE).is_err());

    proxy.release();
    probe.notification("blockchain.headers.subscribe", SOON).unwrap();
}

#[test]
fn a_proxy_loses_or_alters_what_its_rule_says() {
    let world = World::new();
    let proxy = world.proxy();
    let mut probe = Probe::connect(proxy.address());

    proxy.set_rule(|line: &Entry| match (line.method.as_str(), line.body.get("result")) {
        ("blockchain.estimatefee", Some(_)) => {
            Verdict::Replace(json!({ "jsonrpc": "2.0", "id": line.id, "result": 21 }))
        }
        ("server.banner", _) => Verdict::Close,
        _ => Verdict::Forward,
    });
    assert_eq!(probe.call("blockchain.estimatefee", &json!([2])), 21);
    assert!(probe.try_call("server.banner", &json!([])).is_err());

    proxy.clear_rule();
    let mut probe = Probe::connect(proxy.address());
    assert_eq!(probe.call("blockchain.estimatefee", &json!([2])), -1);

    proxy.drop_replies();
    let mark = proxy.mark();
    probe.ask("server.ping", &json!([])).unwrap();
    eventually("the reply reaches the proxy", || proxy.since(mark), |seen| seen.replies("server.ping") == 1);
    throughout(A_WHILE, "the reply is lost", || probe.notification("anything", Duration::ZERO).is_err());
}

#[test]
fn a_proxy_can_speak_tls_and_change_its_certificate() {
    let world = World::new();
    let proxy = world.proxy();
    let (first, second) = (Identity::new(), Identity::new());
    proxy.set_tls(Some(&first));
    assert_eq!(Probe::connect_tls(proxy.address(), &first).unwrap().tip(), world.bitcoind.best_hash());
    proxy.set_tls(Some(&second));
    assert!(Probe::connect_tls(proxy.address(), &first).is_err());
    assert!(Probe::connect_tls(proxy.address(), &second).is_ok());
}

#[test]
fn electrumx_holds_replies_back_when_it_is_not_hurried() {
    let mut world = World::new();
    world.electrumx.stop();
    world.electrumx.take_your_time();
    world.electrumx.start();
    let mut probe = world.probe();
    // The first kilobyte of a connection is not held back.
    probe.call("blockchain.block.headers", &json!([0, 100]));
    let start = Instant::now();
    for _ in 0..2 {
        probe.call("server.ping", &json!([]));
    }
    assert!(start.elapsed() > Duration::from_secs(1), "two replies took only {:?}", start.elapsed());
}

/// Only a helper: what the next test runs in a process of its own, and kills.
#[test]
#[ignore = "started by another test"]
fn a_test_that_waits_to_be_killed() {
    let folder = std::env::var("LIGHTNODE_TEST_FOLDER").unwrap();
    let mut command = Command::new("sleep");
    command.arg("600");
    let child = Process::spawn("a long sleep", &command, &std::path::Path::new(&folder).join("log"));
    std::fs::write(format!("{folder}/new"), child.pid().to_string()).unwrap();
    std::fs::rename(format!("{folder}/new"), format!("{folder}/pid")).unwrap();
    std::thread::park();
}

#[test]
fn no_process_outlives_a_test_binary_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--ignored", "--exact", "parts::a_test_that_waits_to_be_killed"]);
    other.env("LIGHTNODE_TEST_FOLDER", folder.path());
    let mut other = Process::spawn("the test binary", &other, &folder.path().join("other.log"));
    let pid_file = folder.path().join("pid");
    eventually("the other test starts its process", || pid_file.exists(), |exists| *exists);
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let lives = || Command::new("/bin/sh").args(["-c", "kill -0 \"$0\" 2>/dev/null", &pid]).status().unwrap().success();
    assert!(lives());

    other.kill();

    eventually("its process is killed too", lives, |lives| !lives);
}

#[test]
fn a_process_that_ends_is_told_apart_from_one_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done"]);
    let log = folder.path().join("log");
    let mut process = Process::spawn("a shell", &command, &log);
    eventually("it runs", || process.log().contains("up"), |up| *up);
    process.terminate();
    assert_eq!(process.wait(SOON).code(), Some(3));
    assert_eq!(process.log().tail(1), "bye");

    let mut process = Process::spawn("a shell", &command, &log);
    eventually("it runs", || process.log().contains("up"), |up| *up);
    process.kill();
    assert_eq!(process.exit_status().unwrap().code(), None);
}
