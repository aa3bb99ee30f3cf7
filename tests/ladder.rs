//! A chain that falls silent: said, then nothing new is risked, nothing is closed, and blocks end it.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::ports::free_port;
use crate::support::scenes::{CHANNEL, DEPOSIT, open, pay, two_nodes_with_a_channel};
use crate::support::terminal::{on_a_terminal, plain};
use crate::support::world::World;

const QUICK: &str = "[alarms]\nrotate_after_secs = 5\ndegraded_after_secs = 10\nrefuse_after_secs = 15\n";

#[test]
fn a_new_node_that_reaches_no_server_says_that_it_knows_no_block_and_not_how_old_the_first_one_is() {
    let world = World::new();
    let mut alice = Daemon::with_servers(&world, "alice", &[format!("tcp://127.0.0.1:{}", free_port())]);
    alice.start();
    let status =
        eventually("the server to fail", || alice.answering(), |status| status["servers"][0]["trouble"].is_string());
    assert_eq!(status["alarm"]["why"], "no block is known yet with all that concerns this node");
    assert!(status["alarm"]["age_secs"].as_u64().is_some_and(|age| age < 3600), "{status}");
    assert!(plain(&on_a_terminal(&alice, &["status"]).stdout).contains("no block is known yet"));
}

#[test]
pub(crate) fn a_node_that_hears_of_no_block_pays_forwards_and_takes_nothing_closes_nothing_and_recovers() {
    let world = World::new();
    let (alice, mut bob) = two_nodes_with_a_channel(&world);
    let carol = Daemon::new(&world, "carol").started();
    bob.funded(&world, DEPOSIT);
    open(&world, &bob, &carol, &[]);
    pay(&alice, &carol, 50_000);
    let (through, to_bob, by_bob) = (carol.invoice("20000"), bob.invoice("10000"), alice.invoice("1000"));

    let carols = || carol.json(&["balance"])["lightning_sat"].clone();
    let before = carols();

    bob.stop();
    bob.configure(&[world.server()], QUICK);
    bob.start();
    let status = eventually(
        "bob to be on the last rung",
        || bob.answering(),
        |status| status["alarm"]["step"] == "refusing" && status["state"] == "degraded",
    );
    assert!(status["why"].as_str().expect("words").contains("payments are refused"), "{status}");
    assert!(plain(&on_a_terminal(&bob, &["status"]).stdout).contains("payments are refused"));
    eventually(
        "all to be told",
        || bob.json(&["status"])["least_covered"]["behind"].clone(),
        |behind| *behind == json!(0),
    );
    // Everybody is connected, and bob's channels are up.
    alice.usable(1);
    carol.usable(1);
    bob.usable(2);
    eventually("bob to have shut the gate", || bob.log(), |log| log.contains("nothing is forwarded"));

    let refused = bob.run(&["pay", &by_bob]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("nothing was paid"), "{refused:?}");
    let opening = bob.run(&["open", &carol.peer(), "100000"]);
    assert_eq!(opening.code, 6, "{opening:?}");
    for invoice in [&through, &to_bob] {
        let failed = alice.run(&["pay", invoice, "--timeout", "5s"]);
        assert_eq!(failed.code, 1, "{failed:?}");
    }
    assert_eq!(carols(), before);
    let warned = bob.json(&["receive", "1000"]);
    assert!(warned["warning"].as_str().is_some_and(|words| words.contains("sent back")), "{warned}");
    assert_eq!(
        (alice.channels("usable").len(), bob.channels("usable").len(), carol.channels("usable").len()),
        (1, 2, 1)
    );

    // Blocks end it, and what was refused goes through.
    for invoice in [&through, &to_bob] {
        let paid = eventually(
            "the payment to go through",
            || {
                world.bitcoind.mine(1);
                alice.run(&["pay", invoice, "--timeout", "5s"])
            },
            |ran| ran.code == 0,
        );
        assert_eq!(paid.json()["status"], "succeeded");
    }
    eventually("bob to be calm", || bob.json(&["status"])["alarm"].clone(), |alarm| *alarm == json!(null));
    assert_eq!(alice.channels("usable")[0]["capacity_sat"], CHANNEL);
}
