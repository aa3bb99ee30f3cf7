//! Anything in any order with several servers, of which one alone is honest: whatever the others do, the listeners end
//! where they would with the honest one alone, the contract holds at every plan, and the work stays bounded.

use proptest::prelude::*;

use super::chaos::{Chaos, Event, event};
use super::*;

/// What a server does from now on.
#[derive(Clone, Debug)]
enum Fault {
    /// It knows what the honest one knows now, and pushes it.
    CatchUp,
    /// The same, but it leaves out every transaction of a script.
    Hide(u8),
    /// It gives no transaction's witness any more.
    Strip,
    /// It is on a branch that leaves the honest chain so far below the tip, and is no longer.
    Branch(usize),
    /// It knows nothing of the last blocks.
    Lag(usize),
    /// Its history of a script is empty, or refused.
    Deny(u8, bool),
    /// It says null, or nonsense, of a script.
    Say(u8, Option<u8>),
    /// It names an earlier tip, at its height or another.
    Tip(u32, i8),
    Silent(bool),
    Leave,
    /// It answers what was not asked, or what was asked with nonsense.
    Nonsense(u8),
}

fn fault() -> impl Strategy<Value = Fault> {
    let n = 1u8..8;
    prop_oneof![
        4 => Just(Fault::CatchUp),
        4 => n.clone().prop_map(Fault::Hide),
        2 => Just(Fault::Strip),
        1 => (1usize..4).prop_map(Fault::Branch),
        2 => (1usize..4).prop_map(Fault::Lag),
        2 => (n.clone(), any::<bool>()).prop_map(|(n, empty)| Fault::Deny(n, empty)),
        2 => (n, any::<Option<u8>>()).prop_map(|(n, word)| Fault::Say(n, word)),
        1 => (0u32..5, -1i8..2).prop_map(|(depth, off)| Fault::Tip(depth, off)),
        1 => any::<bool>().prop_map(Fault::Silent),
        1 => Just(Fault::Leave),
        1 => any::<u8>().prop_map(Fault::Nonsense),
    ]
}

#[derive(Clone, Debug)]
enum Turn {
    Honest(Event),
    Other(usize, Fault),
    Join(bool),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => event().prop_map(Turn::Honest),
        4 => (0usize..3, fault()).prop_map(|(which, fault)| Turn::Other(which, fault)),
        1 => any::<bool>().prop_map(Turn::Join),
    ]
}

fn play_fault(world: &mut World, source: SourceId, fault: Fault) {
    let honest = world.node.clone();
    match fault {
        Fault::CatchUp => world.catch_up(source),
        Fault::Hide(n) => {
            world.catch_up(source);
            let node = &mut world.peer(source).node;
            node.hidden = node.history(hash_of(n)).iter().map(|entry| entry.txid).collect();
            world.push_of(source);
        }
        Fault::Strip => {
            world.catch_up(source);
            world.peer(source).node.strips = true;
        }
        Fault::Branch(depth) => {
            let mut node = honest;
            let depth = depth.min(node.blocks.len() - 1);
            node.unwind(depth);
            node.mine_empty(depth);
            world.peer(source).node = node;
            world.push_of(source);
        }
        Fault::Lag(depth) => {
            let mut node = honest;
            let depth = depth.min(node.blocks.len() - 1);
            node.unwind(depth);
            world.peer(source).node = node;
            world.push_of(source);
        }
        Fault::Deny(n, empty) => {
            let reply = if empty { Ok(Reply::History(Vec::new())) } else { Err(Refusal::Error) };
            world.peer(source).lies.push((Request::History { script: hash_of(n) }, reply));
            world.push_of(source);
        }
        Fault::Say(n, word) => {
            let status = word.map(|word| Status([word; 32]));
            world.on(Input::Status { source, script: hash_of(n), status });
        }
        Fault::Tip(depth, off) => {
            let at = world.node.height().saturating_sub(depth);
            let header = world.node.blocks[at as usize].0;
            world.on(Input::Tip { source, header, height: at.saturating_add_signed(off.into()) });
        }
        Fault::Silent(silent) => world.peer(source).silent = silent,
        Fault::Leave => world.leave(source),
        Fault::Nonsense(salt) => {
            let asked = world.in_flight.iter().position(|(of, _)| *of == source);
            let Some((_, request)) = asked.map(|at| world.in_flight.remove(at)) else { return };
            let reply = match salt % 3 {
                0 => Reply::Status(Some(Status([salt; 32]))),
                1 => Reply::History(Vec::new()),
                _ => Reply::Coinbase(Coinbase { tx: deposit(salt.into(), &[9]), branch: Vec::new() }),
            };
            world.on(Input::Answer { source, request, reply: Ok(reply) });
        }
    }
}

/// Plays; then the honest server says all that it knows, while the others stay as they are.
fn play(seed: u64, turns: Vec<Turn>) {
    let world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING), (3, Owners::ALL)], seed);
    let mut chaos = Chaos { world, salt: 0 };
    let (mut wallets, count) = (false, turns.len());
    for turn in turns {
        let others: Vec<SourceId> = chaos.world.peers.keys().copied().collect();
        match turn {
            Turn::Honest(event) => chaos.play(event),
            Turn::Join(all) if others.len() < 3 => {
                wallets |= all;
                let node = chaos.world.node.clone();
                chaos.world.join(node, if all { Owners::ALL } else { LIGHTNING });
            }
            Turn::Join(_) => {}
            Turn::Other(which, fault) => {
                if let Some(&source) = others.get(which) {
                    play_fault(&mut chaos.world, source, fault);
                }
            }
        }
    }
    let world = &mut chaos.world;
    // More work than any branch.
    world.node.mine_empty(1);
    world.push(seed % 2 == 0);
    world.settle_within(700_000);
    world.push(true);
    world.settle_within(700_000);
    assert!(!world.reported.iter().any(|(source, r)| *source == world.source && matches!(r, Report::Lie(_))));
    world.assert_complete();
    if !wallets {
        let scripts = world.watches.iter().filter(|w| w.owners.wallet).map(|w| ScriptHash::of(&w.script));
        let listed = scripts.flat_map(|id| world.node.history(id)).filter(|e| e.height.is_none()).map(|e| e.txid);
        assert_eq!(world.listener.unconfirmed, listed.collect(), "what the wallet's own server lists");
    }
    assert!(world.asked.len() < 100 + 60 * count, "{} requests for {count} turns", world.asked.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn with_one_honest_server_everything_is_told_in_order_whatever_the_others_do(
        seed: u64,
        turns in prop::collection::vec(turn(), 1..60),
    ) {
        play(seed, turns);
    }
}

#[test]
fn a_server_that_waits_for_another_ones_job_and_leaves_our_chain_does_not_keep_us_awake() {
    use Turn::{Honest, Join, Other};
    let first = [Honest(Event::Mine(vec![], false)), Join(false), Honest(Event::Mine(vec![2], false))];
    let then = [Honest(Event::Reconnect), Join(false), Honest(Event::Answers(3)), Other(0, Fault::CatchUp)];
    play(9_392_479_092_561_488_654, first.into_iter().chain(then).chain([Other(0, Fault::Branch(1))]).collect());
}
