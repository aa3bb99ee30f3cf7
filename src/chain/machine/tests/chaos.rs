//! Anything in any order: the listener asserts the contract at every plan, and in the end everything is told.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A block that pays these scripts, and spends what some of them had.
    Mine(Vec<u8>, bool),
    /// The same of the mempool.
    Mempool(u8),
    /// So many blocks are replaced by so many more; their transactions come back, go to the mempool, or are gone.
    Reorg(usize, usize, u8),
    PushTip,
    PushStatus(u8),
    PushAll(bool),
    Answers(usize),
    /// An answer is an error.
    Refuse,
    Wait(u64),
    Reconnect,
    Restart,
    Watch(u8, bool),
    /// The server claims a header of an earlier height again.
    OldTip(u32),
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let scripts = prop::collection::vec(1u8..8, 0..4);
    prop_oneof![
        4 => (scripts, any::<bool>()).prop_map(|(to, spend)| Event::Mine(to, spend)),
        2 => (1u8..8).prop_map(Event::Mempool),
        2 => (1usize..7, 1usize..4, any::<u8>()).prop_map(|(depth, more, fate)| Event::Reorg(depth, more, fate)),
        2 => Just(Event::PushTip),
        3 => (1u8..8).prop_map(Event::PushStatus),
        4 => any::<bool>().prop_map(Event::PushAll),
        8 => (1usize..12).prop_map(Event::Answers),
        1 => Just(Event::Refuse),
        4 => (1u64..4_000).prop_map(Event::Wait),
        1 => Just(Event::Reconnect),
        1 => Just(Event::Restart),
        2 => (1u8..8, any::<bool>()).prop_map(|(n, wallet)| Event::Watch(n, wallet)),
        1 => (0u32..5).prop_map(Event::OldTip),
    ]
}

pub(super) struct Chaos {
    pub(super) world: World,
    pub(super) salt: u32,
}

impl Chaos {
    fn transactions(&mut self, to: &[u8], spends: bool) -> Vec<std::sync::Arc<bitcoin::Transaction>> {
        let spent: BTreeSet<_> = self.all().iter().flat_map(|tx| tx.input.clone()).map(|i| i.previous_output).collect();
        let coin = self.all().into_iter().rev().find(|tx| {
            let coin = bitcoin::OutPoint::new(tx.compute_txid(), 0);
            tx.output[0].script_pubkey != script(255) && !spent.contains(&coin)
        });
        let mut txs = Vec::new();
        for n in to {
            self.salt += 1;
            txs.push(deposit(self.salt, &[*n]));
        }
        if let Some(coin) = coin.filter(|_| spends) {
            txs.push(spend(&coin, &[to.first().copied().unwrap_or(9)]));
        }
        txs
    }

    fn all(&self) -> Vec<std::sync::Arc<bitcoin::Transaction>> {
        self.world.node.blocks.iter().flat_map(|b| b.1.clone()).chain(self.world.node.mempool.clone()).collect()
    }

    pub(super) fn play(&mut self, event: Event) {
        match event {
            Event::Mine(to, spends) => {
                let mut txs = std::mem::take(&mut self.world.node.mempool);
                txs.extend(self.transactions(&to, spends));
                self.world.node.mine(&txs);
            }
            Event::Mempool(n) => {
                let txs = self.transactions(&[n], false);
                self.world.node.mempool.extend(txs);
            }
            Event::Reorg(depth, more, fate) => self.reorg(depth, more, fate),
            Event::PushTip => self.world.push_tip(),
            Event::PushStatus(n) => self.world.push_status(hash_of(n)),
            Event::PushAll(header_first) => self.world.push(header_first),
            Event::Answers(count) => drop((0..count).map(|_| self.world.answer_one()).count()),
            Event::Refuse => {
                if let Some((source, request)) = self.world.in_flight.pop() {
                    self.world.on(Input::Answer { source, request, reply: Err(Refusal::Error) });
                }
            }
            Event::Wait(ms) => {
                self.world.now += ms;
                self.world.on(Input::Tick);
            }
            Event::Reconnect => {
                self.world.disconnect();
                self.world.connect();
            }
            Event::Restart => {
                self.world.restart();
                self.world.connect();
            }
            Event::Watch(n, wallet) => {
                let watch = Watch { script: script(n), owners: if wallet { WALLET } else { LIGHTNING } };
                self.world.watches.push(watch.clone());
                self.world.on(Input::Watch(watch));
            }
            Event::OldTip(depth) => {
                let height = self.world.node.height().saturating_sub(depth);
                let header = self.world.node.blocks[height as usize].0;
                self.world.on(Input::Tip { source: self.world.source, header, height });
            }
        }
    }

    fn reorg(&mut self, depth: usize, more: usize, fate: u8) {
        let node = &mut self.world.node;
        let depth = depth.min(node.blocks.len() - 1);
        let old = node.unwind(depth);
        let mut kept = Vec::new();
        for txs in old {
            match fate % 3 {
                0 => node.mine(&txs),
                1 => {
                    kept.extend(txs);
                    node.mine_empty(1);
                }
                _ => node.mine_empty(1),
            }
        }
        if fate % 3 == 2 {
            // What spent the vanished is gone too.
            node.mempool.clear();
        }
        node.mempool.extend(kept);
        node.mine_empty(more);
    }
}

/// Plays, then lets an honest server push everything, and asks whether all is told.
fn play(seed: u64, events: Vec<Event>) {
    let world = World::new(Node::new(5), &[(1, WALLET), (2, LIGHTNING), (3, WALLET.union(LIGHTNING))], seed);
    let mut chaos = Chaos { world, salt: 0 };
    for event in events {
        chaos.play(event);
    }
    let world = &mut chaos.world;
    world.push(seed % 2 == 0);
    world.settle_within(700_000);
    world.push(true);
    world.settle_within(700_000);
    assert!(!world.reports.iter().any(|r| matches!(r, Report::Lie(_))), "an honest server is no liar");
    world.assert_complete();
    let all = world.node.mempool.iter().map(|tx| tx.compute_txid()).collect::<BTreeSet<_>>();
    assert!(world.listener.unconfirmed.is_subset(&all), "what is gone was said to be");
    let wallets = world.watches.iter().filter(|w| w.owners.wallet).map(|w| ScriptHash::of(&w.script));
    let listed = wallets.flat_map(|id| world.node.history(id)).filter(|e| e.height.is_none()).map(|e| e.txid);
    assert_eq!(world.listener.unconfirmed, listed.collect(), "and what is there, too");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_contract_holds_and_in_the_end_all_is_told(
        seed: u64,
        events in prop::collection::vec(event(), 1..60),
    ) {
        play(seed, events);
    }
}

#[test]
fn a_server_that_reorganised_and_says_so_only_after_its_proofs_failed_is_followed_again() {
    use Event::{Answers, Mine, PushTip, Reconnect, Reorg, Wait};
    let first = [Reconnect, Mine(vec![1], false), Mine(vec![1, 2], false), PushTip, Answers(3), Reorg(1, 1, 42)];
    let then = [Answers(9), Wait(1000), Answers(8), Wait(1999), Answers(3), Mine(vec![], false), PushTip];
    play(4_182_880_764_335_526, first.into_iter().chain(then).collect());
}

#[test]
fn a_fork_that_was_untold_at_a_restart_is_not_forgotten_with_the_next_one() {
    use Event::{Answers, Mempool, Mine, OldTip, PushAll, PushTip, Reorg, Restart, Wait};
    // A block is told and its tip is not when it leaves the chain; that is not told either.
    let empty = || Mine(vec![], false);
    let first = [Reorg(1, 1, 0), Mempool(2), Mempool(1), PushAll(false), empty(), Answers(6), Mine(vec![], true)];
    let then = [OldTip(1), Wait(68), Answers(7), empty(), Wait(1958), empty(), empty(), empty(), Reorg(6, 1, 0)];
    let last = [Wait(3042), Answers(1), PushTip, Answers(2), Restart, Reorg(1, 1, 0)];
    play(562_470_835_616_296_612, first.into_iter().chain(then).chain(last).collect());
}

#[test]
fn a_server_whose_proofs_failed_against_a_block_that_has_left_our_chain_since_is_no_liar() {
    use Event::{Answers, Mine, PushAll, Refuse, Reorg, Wait, Watch};
    let (all, empty) = (|| PushAll(false), || Mine(vec![], false));
    let first = [Mine(vec![3, 6], false), Watch(6, false), all(), Mine(vec![6, 1], true), all()];
    let then = [Mine(vec![1, 3, 4], false), Answers(7), all(), Reorg(3, 1, 204), empty(), Answers(2), Refuse];
    let last = [Wait(1000), Answers(9), Refuse, empty(), Answers(7), Wait(1181), Wait(817), Answers(3), all(), empty()];
    play(782_552_390_526_611_662, first.into_iter().chain(then).chain(last).collect());
}

#[test]
fn a_job_that_a_lost_connection_cut_off_is_done_on_the_next_though_the_status_is_the_known_one() {
    use Event::{Answers, Mine, PushAll, Reconnect, Reorg, Watch};
    let first = [Watch(5, false), Mine(vec![2], false), PushAll(false), Answers(4), Mine(vec![1, 3], false)];
    let then = [Reorg(2, 1, 69), PushAll(false), Answers(6), Reconnect];
    play(65_972_432_525_491_934, first.into_iter().chain(then).collect());
}
