//! TLS: a self-signed server is pinned at first use, a changed certificate is never used, and nothing is ever said in
//! clear text to a server that shall be secure.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::identity::Identity;
use crate::support::proxy::Proxy;
use crate::support::terminal::{Asked, talk_on_a_terminal};
use crate::support::world::World;

#[test]
fn a_self_signed_server_is_pinned_at_first_use_and_another_key_is_not_used() {
    let world = World::new();
    let (proxy, own, others) = (world.proxy(), Identity::new(), Identity::new());
    proxy.set_tls(Some(&own));
    let mut alice = Daemon::with_servers(&world, "alice", &[secure(&proxy)]).started();
    alice.funded(&world, 50_000);

    // Somebody steps in between.
    let mark = proxy.mark();
    proxy.set_tls(Some(&others));
    proxy.close_connections();
    refused(&alice);
    assert_ne!(alice.json(&["status"])["state"], "ready");

    // The pin outlives the process.
    alice.stop();
    alice.start();
    refused(&alice);
    assert!(proxy.since(mark).0.is_empty(), "spoken to all the same:\n{}", proxy.since(mark));
    assert_eq!(alice.balance("onchain_confirmed_sat"), 50_000, "what was proven stays");
    alice.stop();

    // With the known key all is well again, also when its certificate is a new one.
    proxy.set_tls(Some(&own.renewed()));
    alice.start();
    alice.ready();
    assert_eq!(alice.json(&["servers"])[0]["changed_key"], json!(null));
}

#[test]
fn a_changed_key_is_an_alarm_until_a_person_accepts_exactly_that_key() {
    let world = World::new();
    let (proxy, old, new) = (world.proxy(), Identity::new(), Identity::new());
    proxy.set_tls(Some(&old));
    let mut alice = Daemon::with_servers(&world, "alice", &[secure(&proxy)]).started();
    proxy.set_tls(Some(&new));
    proxy.close_connections();
    refused(&alice);
    let alarm = json!({ "known": old.key_hash(), "shown": new.key_hash(), "vouched": false });
    assert_eq!(alice.json(&["servers"])[0]["changed_key"], alarm);
    let waits = alice.json(&["status"])["waits_for"].to_string();
    assert!(waits.contains("servers trust"), "{waits}");
    assert!(alice.log().contains("shows another key than before"), "{}", alice.log());

    // Nobody is there to look at it; another key than the shown one; another server.
    let at = proxy.address().to_string();
    assert_eq!(alice.run(&["servers", "trust", "127.0.0.1"]).code, 2);
    let path = format!("/v1/servers/{at}/trust");
    let body = json!({ "key": old.key_hash() });
    let (status, error) = alice.api("POST", &path, Some(body)).expect("an answer");
    assert_ne!(status, 200, "{error}");
    assert_eq!(error["code"], "refused", "{error}");
    assert_eq!(alice.run(&["servers", "trust", "nobody.example", "--yes"]).code, 1);
    assert_eq!(alice.json(&["servers"])[0]["changed_key"], alarm);

    // A person sees both keys, and only a yes is one.
    let ask = |answer| talk_on_a_terminal(&alice, &["servers", "trust", &at], &[Asked::Openly("Accept it?", answer)]);
    for answer in ["", "n"] {
        let refused = ask(answer);
        assert_eq!(refused.code, 6, "{answer}: {refused:?}");
        let keys = [format!("known  {}", old.key_hash()), format!("shown  {}", new.key_hash())];
        assert!(keys.iter().all(|key| refused.stdout.contains(key)), "{refused:?}");
    }
    assert_eq!(alice.json(&["servers"])[0]["changed_key"], alarm);
    let accepted = ask("y");
    assert!(accepted.code == 0 && accepted.stdout.contains("is accepted from now on"), "{accepted:?}");
    // At once, long before it would have been tried by itself.
    alice.ready();
    assert_eq!(alice.run(&["servers", "trust", "127.0.0.1", "--yes"]).code, 1, "nothing is left to accept");

    // It is the known one from now on, and the old one is another.
    alice.stop();
    alice.start();
    alice.ready();
    proxy.set_tls(Some(&old));
    proxy.close_connections();
    refused(&alice);
    let trusted = alice.json(&["servers", "trust", "127.0.0.1", "--yes"]);
    assert_eq!(trusted, json!({ "server": at, "key": old.key_hash(), "by_authority": false }));
    alice.ready();
}

#[test]
fn a_server_that_shall_be_secure_is_never_spoken_to_in_clear_text() {
    let world = World::new();
    let proxy = world.proxy();
    let mut alice = Daemon::with_servers(&world, "alice", &[secure(&proxy)]);
    alice.start();
    alice.answering();
    let status = eventually(
        "the trouble to be told",
        || alice.json(&["status"]),
        |status| status["servers"][0]["trouble"].as_str().is_some_and(|words| words.contains("secure")),
    );
    assert_eq!(status["servers"][0]["role"], "backing_off", "{status}");
    let said = proxy.transcript();
    assert!(said.0.iter().all(|line| line.method.is_empty()), "a request in clear text:\n{said}");
}

#[test]
fn a_configured_pin_alone_decides_which_key_is_used() {
    let world = World::new();
    let (proxy, own) = (world.proxy(), Identity::new());
    proxy.set_tls(Some(&own));
    let pinned = |pin: &str| format!("[[server]]\nurl = \"{}\"\npin = \"{pin}\"\n", secure(&proxy));
    let mut alice = Daemon::new(&world, "alice");
    alice.configure(&[], &pinned(&"1f".repeat(32)));
    alice.start();
    alice.answering();
    refused(&alice);
    assert!(proxy.transcript().0.is_empty(), "spoken to all the same:\n{}", proxy.transcript());
    alice.stop();
    alice.configure(&[], &pinned(&own.key_hash()));
    alice.start();
    alice.ready();
}

fn secure(proxy: &Proxy) -> String {
    format!("ssl://{}", proxy.address())
}

/// Waits until the only server is refused for its key.
fn refused(node: &Daemon) -> Value {
    let server = || node.answering()["servers"][0].clone();
    let seen = eventually("the key to be refused", server, |server| server["role"] == "unusable");
    assert!(seen["trouble"].as_str().is_some_and(|words| words.contains("key")), "{seen}");
    assert_ne!(seen["retry_at"], json!(null), "{seen}");
    seen
}
