//! Servers with chains of their own: only work counts, nothing is told that our heaviest chain does not say, and no lie
//! makes much work.
//!
//! Rows 3, 4, 6, 7, 8, 20 and 21 of the table of threats: three servers, of which one or two misbehave.

use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget};
use lightnode::engine::EngineState;
use lightnode::source::pool::{Fault, Role};
use serde_json::json;

use crate::support::adversary::{Adversary, on};
use crate::support::daemon::Daemon;
use crate::support::forge::{Branch, header, worked, workless};
use crate::support::listening::Listening;
use crate::support::recorder::Call;
use crate::support::scenes::{CHANNEL, open, pay};
use crate::support::watched::Watched;
use crate::support::world::{A_WHILE, World};

/// Makes a header that is wrong, on the best block.
type Forging = fn(&World) -> Header;

#[test]
fn a_tip_that_two_of_three_servers_freeze_goes_on_with_the_third() {
    let world = World::new();
    let (servers, listening) = listening(&world);
    servers[..2].iter().for_each(Adversary::freezes);
    world.mine(3);
    listening.at(world.bitcoind.best_hash());
}

#[test]
fn a_forged_header_bans_its_server_whatever_is_wrong_with_it() {
    let forgeries: [(&str, Forging); 3] = [
        ("without the work", |world| workless(next(world))),
        ("with bits that the rules do not give", |world| {
            // Harder than the network's: no rule of regtest gives it, and no miner found it.
            Header { bits: CompactTarget::from_consensus(0x1d00_ffff), ..next(world) }
        }),
        ("from before the median of its forefathers", |world| worked(Header { time: 1_300_000_000, ..next(world) })),
    ];
    let world = World::new();
    for (at, (what, forge)) in forgeries.into_iter().enumerate() {
        let servers: [Adversary; 3] = Adversary::several(&world);
        let listening = listen(&world, &format!("listening-{at}"), &servers);
        let forged = forge(&world);
        let claim = json!([{ "height": world.bitcoind.height() + 1, "hex": serialize_hex(&forged) }]);
        servers[0].does([on("blockchain.headers.subscribe").notified().answers(claim)]);
        world.mine(1);
        let state = listening.until(what, |state| banned(state, 0));
        assert!(!banned(&state, 1) && !banned(&state, 2), "{what}: {state:?}");
        listening.at(world.bitcoind.best_hash());
        only_the_real_chain(&world, &listening);
    }
}

#[test]
fn a_height_far_above_our_headers_is_told_to_nobody() {
    let world = World::new();
    let (servers, listening) = listening(&world);
    let unlinked = Header { prev_blockhash: BlockHash::from_byte_array([7; 32]), ..next(&world) };
    let claim = json!([{ "height": world.bitcoind.height() + 500, "hex": serialize_hex(&worked(unlinked)) }]);
    servers[0].does([
        on("blockchain.headers.subscribe").notified().answers(claim),
        // It has nothing that leads there.
        on("blockchain.block.headers").answers(json!({ "count": 0, "hex": "", "max": 2016 })),
    ]);
    let mark = servers[0].mark();
    world.mine(1);
    listening.at(world.bitcoind.best_hash());
    world.mine(1);
    listening.at(world.bitcoind.best_hash());
    only_the_real_chain(&world, &listening);
    assert!(servers[0].since(mark).requests().count() < 30, "{:?}", servers[0].since(mark).counts());
}

#[test]
fn a_servers_own_header_at_a_funding_height_closes_nothing() {
    let world = World::new();
    let servers: [Adversary; 3] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let (alice, bob) = (Daemon::with_servers(&world, "alice", &urls).started(), Daemon::new(&world, "bob").started());
    alice.funded(&world, 1_000_000);
    open(&world, &alice, &bob, &[]);
    let funding = world.bitcoind.height() - 5;
    // As much work as the real chain, or less: with other blocks from the funding on.
    for length in [6, 5, 1] {
        let branch = Branch::on(&world.bitcoind, funding - 1, length);
        servers[0].does(branch.shown());
        servers[0].close_connections();
        servers[1].does([
            on("blockchain.block.header").answers(branch.claim()["hex"].clone()),
            on("blockchain.block.headers").tampers(move |reply| branch.splice(reply)),
        ]);
        servers[1].close_connections();
        world.bitcoind.mine(1);
        alice.at_height(world.bitcoind.height());
        pay(&alice, &bob, 10_000);
    }
    assert_eq!(alice.json(&["status"])["tip"]["hash"], json!(world.bitcoind.best_hash()));
    assert_eq!(alice.usable(1)[0]["capacity_sat"], CHANNEL);
    assert!(world.bitcoind.mempool().is_empty());
    assert!(alice.entries("channel_close").is_empty());
}

#[test]
fn a_tip_that_flips_with_every_word_makes_little_work_and_demotes() {
    let world = World::new();
    let (servers, listening) = listening(&world);
    let height = world.bitcoind.height();
    let branches = [Branch::on(&world.bitcoind, height - 2, 2), Branch::on(&world.bitcoind, height - 3, 3)];
    let mut turn = 0usize;
    servers[0].does([on("blockchain.headers.subscribe").notified().tampers(move |params| {
        turn += 1;
        *params = json!([branches[turn % 2].claim()]);
    })]);
    let mark = servers[0].mark();
    for _ in 0..10 {
        world.mine(1);
        listening.at(world.bitcoind.best_hash());
    }
    only_the_real_chain(&world, &listening);
    let state = listening.until("it to be demoted", |state| state.servers[0].demoted);
    assert_eq!(state.servers[0].fault, Some(Fault::Flip), "{state:?}");
    assert!(!state.servers[1].demoted && !state.servers[2].demoted, "{state:?}");
    // Ten flips: a few requests each at most, and less once it is known for what it is.
    assert!(servers[0].since(mark).requests().count() <= 60, "{:?}", servers[0].since(mark).counts());
}

#[test]
fn headers_from_the_future_are_not_followed() {
    let world = World::new();
    let (servers, listening) = listening(&world);
    let height = world.bitcoind.height();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let soon = u32::try_from(now).expect("this century") + 3 * 3600;
    let branch = Branch::on(&world.bitcoind, height, 12).spaced(soon, 600);
    servers[0].does(branch.shown());
    servers[0].close_connections();
    listening.hears_nothing_for(A_WHILE);
    world.mine(1);
    listening.at(world.bitcoind.best_hash());
    only_the_real_chain(&world, &listening);
}

#[test]
fn after_a_false_reorganisation_a_true_one_is_told() {
    let world = World::new();
    let watched = Watched::new(&world);
    let servers: [Adversary; 3] = Adversary::several(&world);
    let urls = servers.each_ref().map(|server| server.url());
    let listening = Listening::start(&world.folder().join("listening"), &urls, &[&watched]);
    listening.hears_of(watched.outpoint.txid, watched.height);
    world.mine(2);
    listening.at(world.bitcoind.best_hash());
    // Three blocks of its own against three of ours: no reason to leave what came first.
    servers[0].does(Branch::on(&world.bitcoind, watched.height - 1, 3).shown());
    servers[0].close_connections();
    listening.hears_nothing_for(A_WHILE);
    // Then the miners do reorganise, with one block more.
    world.reorg(3, 4);
    listening.at(world.bitcoind.best_hash());
    listening.hears_of(watched.outpoint.txid, watched.height);
    let told: Vec<Call> = listening.calls().into_iter().filter(|call| !matches!(call, Call::Tip(_))).collect();
    assert_eq!(told.len(), 3, "confirmed, unconfirmed, confirmed: {told:?}");
    assert!(matches!(told[1], Call::Unconfirmed(_)), "{told:?}");
}

fn listening(world: &World) -> ([Adversary; 3], Listening) {
    let servers: [Adversary; 3] = Adversary::several(world);
    let listening = listen(world, "listening", &servers);
    (servers, listening)
}

fn listen(world: &World, name: &str, servers: &[Adversary; 3]) -> Listening {
    let urls = servers.each_ref().map(|server| server.url());
    let listening = Listening::start(&world.folder().join(name), &urls, &[]);
    listening.at(world.bitcoind.best_hash());
    listening
}

/// A header on the best block, with all but the work.
fn next(world: &World) -> Header {
    let last = header(&world.bitcoind, world.bitcoind.best_hash());
    Header { prev_blockhash: last.block_hash(), time: last.time + 1, ..last }
}

fn banned(state: &EngineState, server: usize) -> bool {
    matches!(state.servers[server].role, Role::Banned { .. })
}

/// Every tip that was told is, or was, bitcoind's own.
fn only_the_real_chain(world: &World, listening: &Listening) {
    for call in listening.calls() {
        if let Call::Tip((height, hash)) = call {
            assert_eq!(hash, world.bitcoind.hash_at(height), "height {height}");
        }
    }
}
