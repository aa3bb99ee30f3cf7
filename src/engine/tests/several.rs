//! Several servers at once.

use std::sync::atomic::Ordering;

use super::super::*;
use super::driving::{PLAIN, dir, run_on};
use super::world::{World, pay, script};

#[tokio::test]
async fn what_two_of_three_servers_hide_is_told_once_and_before_its_tip() {
    let world = World::new(&["a:1", "b:1", "c:1"]);
    let rig = run_on(3, &world, dir(), &[script("ours")], PLAIN);
    let covers = |state: &EngineState| state.coverage.iter().all(|one| one.watches == 1 && one.covered == Some(0));
    rig.until("three servers cover", |state| state.coverage.len() == 3 && covers(state)).await;
    rig.synced_at(0).await;
    let tx = pay(&script("ours"), 1);
    for server in &world.servers[..2] {
        *server.hides.lock().unwrap() = Some(tx.compute_txid());
    }
    world.mine(Some(tx.clone()));
    let told = format!("tx {} at 1", tx.compute_txid());
    let state = rig.synced_at(1).await;
    let lightning: Vec<_> =
        rig.heard().into_iter().filter(|(who, _)| *who == "lightning").map(|(_, what)| what).collect();
    assert_eq!(lightning, ["tip 0".to_owned(), told, "tip 1".to_owned()]);
    assert_eq!((state.least_covered, state.degraded), (Some(1), vec![]));
    rig.stop().await;
}

#[tokio::test]
async fn a_liar_among_three_keeps_nothing_from_being_told() {
    let world = World::new(&["liar:1", "b:1", "c:1"]);
    world.servers[0].lies.store(true, Ordering::Relaxed);
    let rig = run_on(3, &world, dir(), &[script("ours")], PLAIN);
    for n in 1..5 {
        world.mine(Some(pay(&script("ours"), n)));
        rig.synced_at(n).await;
    }
    let told = rig.heard().iter().filter(|(who, what)| *who == "wallet" && what.starts_with("tx")).count();
    assert_eq!(told, 4);
    rig.stop().await;
}
