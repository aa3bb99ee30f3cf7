//! A server of gossip snapshots that lies: it costs a route or a dearer one, never more than the limit of a fee, and a
//! true snapshot mends it.
//!
//! Row 22 of the table of threats.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{DEPOSIT, at_rest, open};
use crate::support::snapshots::{Channel, Snapshots, Word, promising, snapshot};
use crate::support::world::World;

const DAY: u64 = 24 * 3600;
/// What carrying 50,000 sat costs, and a little more, in msat.
const CARRIED: u32 = 10_000;

/// Alice has a channel with bob, who has one with carol, of which alice can hear by snapshots alone.
struct Scene {
    world: World,
    server: Snapshots,
    alice: Daemon,
    carol: Daemon,
    beyond: Channel,
    _bob: Daemon,
}

#[test]
fn a_snapshot_that_is_no_honest_one_is_refused_with_the_reason_and_memory_stays_flat() {
    let mut scene = Scene::new();
    let true_one = snapshot(now(), &[scene.beyond.clone()]);
    let bad = [
        ("without end", Word::Endless, "the server sends more than"),
        ("garbage", Word::File(vec![0x5a; 100_000]), "it is no snapshot"),
        ("cut off", Word::File(true_one[..true_one.len() - 9].to_vec()), "the snapshot cannot be used"),
        ("too old", Word::File(snapshot(now() - 15 * DAY, &[])), "more than two weeks old"),
        ("of the future", Word::File(snapshot(now() + 2 * DAY, &[scene.beyond.clone()])), "it is of the future"),
        ("too many nodes", Word::File(promising(now(), u32::MAX, 0)), "more nodes than the network can have"),
        ("too many channels", Word::File(promising(now(), 0, u32::MAX)), "more channels than the network can have"),
    ];
    for (what, word, why) in bad {
        let log = scene.hears(word, "no new map of the network");
        assert!(log.contains(why), "{what}: {log}");
        let peak = scene.alice.peak_memory();
        assert!(peak < 90_000_000, "{what}: {} MB", peak / 1_000_000);
        scene.alice.ready();
    }
    // Nothing of it keeps the true one out.
    scene.hears(Word::File(true_one), "brought up to date");
    let paid = scene.alice.json(&["pay", &scene.carol.invoice("50000")]);
    assert_eq!(paid["status"], "succeeded", "{paid}");
    // Only what was taken was noted: each question but the last was for everything.
    assert!(scene.server.asked().iter().all(|path| path == "/snapshot/0"), "{:?}", scene.server.asked());
}

#[test]
fn fees_that_a_snapshot_makes_absurd_are_never_paid_and_those_it_makes_too_small_cost_nothing() {
    let mut scene = Scene::new();
    let before = scene.alice.balance("lightning_sat");
    let priced = |scene: &Scene, age: u64, base_msat: u32| {
        Word::File(snapshot(now() - age, &[Channel { base_msat, ..scene.beyond.clone() }]))
    };
    // 100,000 sat to carry 50,000; alice has them, and bob would take them.
    let word = priced(&scene, 600, 100_000_000);
    scene.hears(word, "brought up to date");
    let invoice = scene.carol.invoice("50000");
    let dear = scene.alice.run(&["pay", &invoice]);
    assert_eq!(dear.code, 1, "{dear:?}");
    assert!(dear.json()["reason"].as_str().is_some_and(|why| why.contains("for a fee of at most 550 sat")), "{dear:?}");
    assert_eq!(scene.alice.balance("lightning_sat"), before);

    // Bob does not carry it for nothing: the payment comes back.
    let word = priced(&scene, 300, 0);
    scene.hears(word, "brought up to date");
    let cheap = scene.alice.run(&["pay", &invoice, "--timeout", "5s"]);
    assert_eq!(cheap.code, 1, "{cheap:?}");
    at_rest(&scene.alice);
    assert_eq!(scene.alice.balance("lightning_sat"), before);

    let word = priced(&scene, 0, CARRIED);
    scene.hears(word, "brought up to date");
    let paid = scene.alice.json(&["pay", &invoice]);
    assert_eq!(paid["status"], "succeeded", "{paid}");
    assert!(paid["fee_msat"].as_u64().is_some_and(|fee| fee > 0 && fee <= 50_000), "{paid}");
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let server = Snapshots::start(Word::File(snapshot(now(), &[])));
        let alice = Daemon::new(&world, "alice");
        alice.configure(&world.servers(), &format!("[gossip]\nsource = \"{}\"\n", server.url()));
        let alice = alice.started();
        let (bob, carol) = (Daemon::new(&world, "bob").started(), Daemon::new(&world, "carol").started());
        alice.funded(&world, DEPOSIT);
        bob.funded(&world, DEPOSIT);
        open(&world, &alice, &bob, &[]);
        open(&world, &bob, &carol, &["--public"]);
        let short_id = carol.usable(1)[0]["short_channel_id"].as_str().expect("a place in the chain").to_owned();
        let beyond = Channel { short_id, nodes: [bob.node_id(), carol.node_id()], base_msat: CARRIED };
        world.bitcoind.mine(1);
        // Carol's invoices name no way to her.
        let hints = || carol.json(&["decode", &carol.invoice("1000")])["route_hints"].clone();
        eventually("an invoice without hints", hints, |hints| *hints == 0);
        Self { world, server, alice, carol, beyond, _bob: bob }
    }

    /// Alice starts anew, which is when she asks for a snapshot; returns her log once it tells of this.
    fn hears(&mut self, word: Word, told: &str) -> String {
        self.alice.stop();
        self.server.says(word);
        self.alice.start();
        let log = eventually("the snapshot to be told of", || self.alice.log(), |log| log.contains(told));
        self.alice.ready();
        self.alice.at_height(self.world.bitcoind.height());
        self.alice.usable(1);
        log
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}
