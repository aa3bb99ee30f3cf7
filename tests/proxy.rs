//! With a proxy, nothing leaves beside it: servers, peers and snapshots are reached through it, by name.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::identity::Identity;
use crate::support::scenes::in_mempool;
use crate::support::socks::{Asked, Socks};
use crate::support::world::{Kind, World, with};

/// Names that no resolver knows (RFC 6761): whoever reaches them did not look them up by himself.
const FIRST: &str = "first.invalid";
const SECOND: &str = "second.invalid";
/// Of version 3, as the network has them.
const ONION: &str = "explorerzydxu5ecjrkwceayqybizmpjjznk5izmitf2modhcusuqlid.onion";

#[test]
fn servers_are_reached_through_the_proxy_by_name_each_with_a_login_of_its_own() {
    let (world, socks) = (World::new(), Socks::start());
    let (one, two) = (world.proxy(), world.proxy());
    socks.name(FIRST, one.address());
    socks.name(SECOND, two.address());
    let servers = [FIRST, SECOND].map(|name| format!("tcp://{name}:50001"));
    let alice = Daemon::with_servers(&world, "alice", &servers);
    alice.prepend(&format!("proxy = \"{}\"", socks.url()));
    let alice = alice.started();
    alice.funded(&world, 50_000);

    // The first goes away and comes back: both were asked for, the first one twice.
    socks.forget(FIRST);
    one.close_connections();
    eventually("the second to be asked for", || socks.asked_for(SECOND), |asked| !asked.is_empty());
    socks.name(FIRST, one.address());
    socks.forget(SECOND);
    two.close_connections();
    let asked = eventually("the first again", || socks.asked_for(FIRST), |asked| asked.len() > 1);
    alice.ready();

    assert!(socks.asked().iter().all(|asked| asked.by_name && asked.port == 50001), "{:?}", socks.asked());
    let login = |asked: &Asked| asked.login.clone().expect("a login");
    let first = login(&asked[0]);
    assert!(asked.iter().all(|again| login(again) == first), "one server, several circuits: {asked:?}");
    assert!(socks.asked_for(SECOND).iter().all(|other| login(other) != first), "two servers, one circuit");
}

#[test]
fn an_onion_server_is_used_through_the_proxy_in_clear_text_and_with_tls() {
    let (world, socks) = (World::new(), Socks::start());
    let proxy = world.proxy();
    socks.name(ONION, proxy.address());
    let mut alice = Daemon::with_servers(&world, "alice", &[format!("tcp://{ONION}:110")]);
    alice.prepend(&format!("proxy = \"{}\"", socks.url()));
    alice.start();
    alice.ready();
    alice.stop();

    proxy.set_tls(Some(&Identity::new()));
    alice.configure(&[format!("ssl://{ONION}:50002")], "");
    alice.prepend(&format!("proxy = \"{}\"", socks.url()));
    alice.start();
    alice.ready();
    assert!(socks.asked().iter().all(|asked| asked.by_name && asked.host == ONION), "{:?}", socks.asked());
}

#[test]
fn an_esplora_server_is_reached_through_the_proxy_by_name_and_not_beside_it_when_the_proxy_knows_it_no_more() {
    with(Kind::Esplora, || {
        let (world, socks) = (World::new(), Socks::start());
        socks.name(FIRST, world.esplora().address());
        socks.name(ONION, world.esplora().address());
        let servers = [format!("http://{FIRST}:3000/api"), format!("http://{ONION}/api")];
        let alice = Daemon::with_servers(&world, "alice", &servers);
        alice.prepend(&format!("proxy = \"{}\"", socks.url()));
        let alice = alice.started();
        alice.funded(&world, 50_000);
        let sent = alice.json(&["send", &world.bitcoind.new_address(), "20000"]);
        in_mempool(&world, sent["txid"].as_str().expect("a txid"));
        let (first, onion) = (socks.asked_for(FIRST), socks.asked_for(ONION));
        assert!(first.iter().all(|asked| asked.by_name && asked.port == 3000) && !first.is_empty(), "{first:?}");
        assert!(onion.iter().all(|asked| asked.by_name && asked.port == 80) && !onion.is_empty(), "{onion:?}");
        assert!(onion.iter().all(|asked| asked.login != first[0].login), "two servers, one circuit");
        assert!(first.iter().all(|asked| asked.login == first[0].login), "one server, several circuits");
        assert_eq!(socks.asked().len(), first.len() + onion.len(), "{:?}", socks.asked());

        // Nobody knows them any more; the server is there all the same, and is not asked by another way.
        socks.forget(FIRST);
        socks.forget(ONION);
        world.esplora().stop();
        world.esplora().start();
        let mark = world.esplora().mark();
        let (asked, height) = (socks.asked().len(), world.bitcoind.height());
        world.bitcoind.mine(1);
        eventually("the proxy to be asked again", || socks.asked().len(), |again| *again > asked + 2);
        assert_eq!(world.esplora().mark(), mark, "asked beside the proxy");
        assert_eq!(alice.json(&["status"])["tip"]["height"], json!(height));
    });
}

#[test]
fn an_onion_server_without_a_proxy_is_refused_in_plain_words() {
    let world = World::new();
    let mut alice = Daemon::with_servers(&world, "alice", &[format!("tcp://{ONION}:110")]);
    alice.start();
    let server = eventually(
        "the server to be refused",
        || alice.answering()["servers"][0].clone(),
        |server| server["role"] == "unusable",
    );
    let trouble = server["trouble"].as_str().expect("words");
    assert!(trouble.contains("proxy = \"socks5://127.0.0.1:9050\""), "{trouble}");
    alice.stop();
}

#[test]
fn without_its_proxy_the_node_reaches_nobody_and_says_so() {
    let world = World::new();
    let proxy = world.proxy();
    let mut alice = Daemon::with_servers(&world, "alice", &[proxy.url()]);
    let nowhere = crate::support::ports::free_port();
    alice.prepend(&format!("proxy = \"socks5://me:s3cret@127.0.0.1:{nowhere}\""));
    alice.start();
    let told = |status: &serde_json::Value| {
        status["servers"][0]["trouble"].as_str().is_some_and(|words| words.contains("proxy"))
    };
    let status = eventually("the trouble to be told", || alice.answering(), told);
    assert!(!status.to_string().contains("s3cret"), "{status}");
    assert_eq!(status["state"], "syncing", "{status}");
    assert_eq!(proxy.accepted(), 0, "dialled beside the proxy");
    alice.stop();
}

#[test]
fn peers_and_snapshots_are_reached_through_the_proxy_too() {
    let (world, socks) = (World::new(), Socks::start());
    socks.name(FIRST, world.electrumx.tcp());
    let bob = Daemon::new(&world, "bob").started();
    let (node_id, at) =
        bob.peer().split_once('@').map(|(id, at)| (id.to_owned(), at.to_owned())).expect("id@host:port");
    socks.name(ONION, at.parse().expect("an address"));
    let mut alice = Daemon::with_servers(&world, "alice", &[format!("tcp://{FIRST}:50001")]);
    alice.configure(&[format!("tcp://{FIRST}:50001")], "[gossip]\nsource = \"http://snapshots.invalid\"\n");
    alice.prepend(&format!("proxy = \"{}\"", socks.url()));
    alice.start();
    alice.ready();

    let peer = alice.json(&["peer", "add", &format!("{node_id}@{ONION}:9735")]);
    assert_eq!(peer["connected"], json!(true), "{peer}");
    let asked = socks.asked_for(ONION);
    assert!(asked.iter().all(|asked| asked.by_name && asked.port == 9735) && !asked.is_empty(), "{asked:?}");
    assert_ne!(asked[0].login, socks.asked_for(FIRST)[0].login, "a peer and a server on one circuit");
    eventually(
        "the snapshot",
        || socks.asked_for("snapshots.invalid"),
        |asked| asked.iter().any(|asked| asked.by_name && asked.port == 80),
    );

    // Nor does LDK's own client leave beside it; whether it and this server understand each other is another matter.
    alice.run(&["chain", "audit"]);
    let asked = socks.asked_for(FIRST);
    assert!(asked.iter().all(|asked| asked.by_name), "{asked:?}");
    assert!(
        asked.iter().any(|again| again.login != asked[0].login),
        "the audit did not go through the proxy: {asked:?}"
    );

    // Without the proxy, such an address is refused with the reason.
    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let refused = bob.run(&["peer", "add", &format!("{stranger}@{ONION}:9735")]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("onion addresses need a proxy"), "{refused:?}");
    alice.stop();
}
