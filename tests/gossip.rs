//! What others learn of a public channel.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::scenes::{DEPOSIT, open};
use crate::support::world::World;

#[test]
pub(crate) fn a_public_channel_is_known_to_others_who_pay_over_it_without_a_hint() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice").started();
    let bob = Daemon::new(&world, "bob").started();
    let carol = Daemon::new(&world, "carol").started();
    carol.funded(&world, DEPOSIT);
    alice.funded(&world, DEPOSIT);
    open(&world, &carol, &alice, &[]);
    open(&world, &alice, &bob, &["--public"]);
    world.bitcoind.mine(1);
    for node in [&alice, &bob, &carol] {
        node.at_height(world.bitcoind.height());
    }
    // Bob's invoice names no way to him: who pays it has heard of the channel.
    let hints = |invoice: &String| carol.json(&["decode", invoice])["route_hints"].clone();
    let invoice = eventually("an invoice without hints", || bob.invoice("50000"), |invoice| hints(invoice) == 0);
    let paid = eventually("carol to hear of the channel", || carol.run(&["pay", &invoice]), |ran| ran.code != 1);
    assert_eq!(paid.code, 0, "{paid:?}");
    assert!(paid.json()["fee_msat"].as_u64().expect("a fee") > 0);
    assert_eq!(paid.json()["already"], json!(false));
}
