//! TLS: a self-signed server is pinned at first use, a changed certificate is never used, and nothing is ever said in
//! clear text to a server that shall be secure.

use bitcoin::hashes::{Hash, sha256};
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::identity::Identity;
use crate::support::proxy::Proxy;
use crate::support::world::World;

#[test]
fn a_self_signed_server_is_pinned_at_first_use_and_another_certificate_is_not_used() {
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

    // With the known certificate all is well again.
    alice.stop();
    proxy.set_tls(Some(&own));
    alice.start();
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
fn a_configured_pin_alone_decides_which_certificate_is_used() {
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
    alice.configure(&[], &pinned(&sha256::Hash::hash(own.certificate()).to_string()));
    alice.start();
    alice.ready();
}

fn secure(proxy: &Proxy) -> String {
    format!("ssl://{}", proxy.address())
}

/// Waits until the only server is refused for its certificate.
fn refused(node: &Daemon) -> Value {
    let server = || node.answering()["servers"][0].clone();
    let seen = eventually("the certificate to be refused", server, |server| server["role"] == "unusable");
    assert!(seen["trouble"].as_str().is_some_and(|words| words.contains("certificate")), "{seen}");
    assert_ne!(seen["retry_at"], json!(null), "{seen}");
    seen
}
