//! What others learn of a public channel.

use std::fs;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{DEPOSIT, open};
use crate::support::world::World;

#[test]
fn a_public_channel_and_its_nodes_are_known_to_others_who_pay_over_it_without_a_hint() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let bob = Daemon::new(&world, "bob").started();
    let mut carol = Daemon::new(&world, "carol").started();
    carol.funded(&world, DEPOSIT);
    alice.funded(&world, DEPOSIT);
    open(&world, &carol, &alice, &[]);
    open(&world, &alice, &bob, &["--public"]);
    world.bitcoind.mine(1);
    for node in [&alice, &bob, &carol] {
        node.at_height(world.bitcoind.height());
    }
    // Bob's invoice names no way to him: who pays it has heard of the channel.
    let invoice = bob.invoice("50000");
    assert_eq!(carol.json(&["decode", &invoice])["route_hints"], 0);
    let paid = eventually("carol to hear of the channel", || carol.run(&["pay", &invoice]), |ran| ran.code != 1);
    assert_eq!(paid.code, 0, "{paid:?}");
    assert!(paid.json()["fee_msat"].as_u64().expect("a fee") > 0);

    // What she heard is kept, with the names that the nodes gave themselves.
    carol.stop();
    let database = fs::read(carol.folder().join("lightnode.db")).expect("the database of a node that was stopped");
    for name in ["alice", "bob"] {
        let mut alias = [0; 32];
        alias[..name.len()].copy_from_slice(name.as_bytes());
        assert!(database.windows(32).any(|bytes| bytes == alias), "{name} is not in the stored graph");
    }
}
