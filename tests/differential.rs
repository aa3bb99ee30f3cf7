//! Our engine beside LDK's own (`lightning-transaction-sync`), over random chains on one server: the calls that reach a
//! recording `Confirm` end in the same state, which is bitcoind's, and ours obey the contract at every step.
//!
//! LDK's engine is known to do less in these cases, which are excluded by name and nothing else:
//! - **Best block first.** It tells the best block before the transactions below it, and each transaction in a call of
//!   its own: the contract's order is asserted of ours alone.
//! - **A settled spend that another replaces.** It forgets an output whose spend has 6 confirmations
//!   (`prune_output_spends`); when a reorganisation takes that spend back and another transaction spends the output
//!   instead, it never looks for that one, or for what follows from it. [`Game::excused`] holds exactly those, and a test
//!   of its own shows that they are needed.
//!
//! A tip of ours is told when all below it was. Only a server that speaks of a script long after it spoke of the block can
//! make it earlier, and then that is asserted of the server.
//!
//! `LIGHTNODE_TEST_SEED=n` plays one game again.

mod contract;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::{OutPoint, Txid};
use serde_json::{Value, json};

use crate::support::bitcoind::random;
use crate::support::electrumx::ElectrumX;
use crate::support::engines::{Ours, Theirs};
use crate::support::eventually::{eventually, eventually_ok};
use crate::support::locks::{Lock, output_of};
use crate::support::probe::Probe;
use crate::support::proxy::Proxy;
use crate::support::recorder::{Block, Call, Family, Memory, Recorder};
use crate::support::transcript::Kind;
use crate::support::world::World;
use contract::Model;

/// What an output begins with, in sat.
const FUNDING: u64 = 100_000;
/// Of each spend, in sat; a replacement pays so much more.
const FEE: u64 = 1_000;
/// Confirmations at which LDK's engine forgets an output that was spent.
const SETTLED: u32 = 6;

/// An output of ours.
#[derive(Clone, Debug)]
struct Coin {
    outpoint: OutPoint,
    lock: Lock,
    sat: u64,
    spends: u64,
}

/// So long after a block's notification one of a script's is late: our engine waits for a little more than this.
const LATE: Duration = Duration::from_millis(60);

/// Both engines, and what they should know.
struct Game {
    world: World,
    server: ElectrumX,
    /// Between the server and ours.
    line: Proxy,
    /// Where the transcript of the present step begins.
    mark: usize,
    ours: Ours,
    theirs: Theirs,
    family: Family,
    model: Model,
    coins: Vec<Coin>,
    /// All transactions that concern us, and what they spend of ours.
    relevant: BTreeMap<Txid, Vec<OutPoint>>,
    /// Spends that LDK's engine has seen settled, by output.
    settled: BTreeMap<OutPoint, Txid>,
    /// Transactions that it cannot know (see the module).
    excused: BTreeSet<Txid>,
    /// What our listener remembered at some time.
    older: Memory,
    locks: u64,
    /// Blocks that ours was told for their transactions, and transactions that were unconfirmed.
    moved: (usize, usize),
    random: u64,
}

impl Game {
    fn new(seed: u64) -> Self {
        println!("LIGHTNODE_TEST_SEED={seed}");
        let world = World::new();
        let server = world.old_electrumx();
        let url = format!("tcp://{}", server.tcp());
        let family = Family::default();
        let line = Proxy::start(server.tcp());
        let ours = Ours::start(&line.url(), Recorder::new(family.clone()));
        let theirs = Theirs::start(&url, Recorder::new(family.clone()));
        let mut game = Self {
            world,
            server,
            line,
            mark: 0,
            ours,
            theirs,
            family,
            model: Model::default(),
            coins: Vec::new(),
            relevant: BTreeMap::new(),
            settled: BTreeMap::new(),
            excused: BTreeSet::new(),
            older: Memory::default(),
            locks: 0,
            moved: (0, 0),
            random: seed,
        };
        game.compare("the beginning");
        game
    }

    /// splitmix64
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.random() % (most + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    fn new_lock(&mut self) -> Lock {
        self.locks += 1;
        Lock(self.locks)
    }

    /// Of older coins, most are spent for good.
    fn young_coin(&mut self) -> usize {
        let last = self.coins.len() as u64 - 1;
        self.up_to(last).max(self.up_to(last)) as usize
    }

    fn our_lock(&mut self) -> Lock {
        let lock = self.new_lock();
        self.family.add(lock.script());
        lock
    }

    /// A channel is funded: both are to hear of the transaction and of what spends its output.
    fn fund(&mut self) {
        let lock = self.our_lock();
        let script = lock.script();
        // LDK registers a funding before it is broadcast.
        self.ours.follow(&script);
        let txid = self.world.bitcoind.pay(lock.address(), FUNDING);
        let outpoint = output_of(&self.world.bitcoind.raw_tx(txid), lock);
        for recorder in [&self.ours.recorder, &self.theirs.recorder] {
            recorder.watch_transaction(txid, script.clone());
            recorder.watch_output(outpoint, script.clone());
        }
        self.theirs.follow_transaction(txid, &script);
        self.theirs.follow_output(outpoint, &script);
        self.relevant.insert(txid, Vec::new());
        self.coins.push(Coin { outpoint, lock, sat: FUNDING, spends: 0 });
    }

    /// Spends a coin, to a script of ours or to nobody; a later spend of the same coin replaces the one before.
    fn spend(&mut self, index: usize, on: bool) -> Option<usize> {
        let lock = if on { self.our_lock() } else { self.new_lock() };
        let coin = &mut self.coins[index];
        coin.spends += 1;
        let sat = coin.sat.checked_sub(FEE * coin.spends).filter(|sat| *sat > 1_000)?;
        let tx = coin.lock.spend(coin.outpoint, sat, lock);
        let (txid, spent) = (tx.compute_txid(), coin.outpoint);
        // It may be spent by a transaction in a block, or by heirs that pay more.
        self.world.bitcoind.broadcast(&tx).ok()?;
        self.relevant.insert(txid, vec![spent]);
        if !on {
            return None;
        }
        self.coins.push(Coin { outpoint: OutPoint::new(txid, 0), lock, sat, spends: 0 });
        Some(self.coins.len() - 1)
    }

    /// Takes the newest blocks back and mines others, in which some of their transactions are left out.
    fn reorg(&mut self, depth: u32, longer: u32, leave_out: bool) {
        let first = self.world.bitcoind.height() + 1 - depth;
        let near: Vec<Txid> = self.truth().into_iter().filter(|(_, at)| at.0 >= first).map(|(txid, _)| txid).collect();
        self.world.bitcoind.unwind(depth);
        // bitcoind does not keep all of a very long chain of transactions that waits again.
        let waiting = self.world.bitcoind.mempool();
        let mut left_out = near;
        left_out.retain(|txid| waiting.contains(txid) && leave_out && self.chance(50));
        let mut out = left_out.clone();
        for txid in &left_out {
            out.extend(self.world.bitcoind.call::<Vec<Txid>>("getmempooldescendants", &[json!(txid)]));
        }
        let mut mined: Vec<Txid> = waiting.into_iter().filter(|txid| !out.contains(txid)).collect();
        for _ in 0..depth + longer {
            self.world.bitcoind.mine_exactly(&std::mem::take(&mut mined));
        }
        // What waits again may be replaced.
        let spent = left_out.iter().filter_map(|txid| self.relevant[txid].first()).copied().collect::<Vec<_>>();
        for outpoint in spent {
            let index = self.coins.iter().position(|coin| coin.outpoint == outpoint);
            if let Some(index) = index.filter(|_| self.chance(60)) {
                let on = self.chance(50);
                self.spend(index, on);
            }
        }
    }

    fn step(&mut self) -> String {
        let coins = self.coins.len() as u64;
        match self.up_to(99) {
            0..20 => {
                self.fund();
                "a funding".into()
            }
            20..40 if coins > 0 => {
                let (index, on) = (self.young_coin(), self.chance(70));
                self.spend(index, on);
                format!("a spend of {index}")
            }
            40..50 if coins > 0 => {
                let first = self.young_coin();
                let mut last = Some(first);
                for _ in 0..3 {
                    last = last.and_then(|index| self.spend(index, true));
                }
                format!("a chain of spends from {first}")
            }
            50..56 => {
                let address = self.world.bitcoind.new_address();
                self.world.bitcoind.pay(address, 20_000);
                "noise".into()
            }
            56..64 => {
                self.ours.stop();
                // What it was told may be forgotten: LDK writes late.
                if self.chance(50) {
                    let older = self.older.clone();
                    self.ours.recorder.remember(&older);
                }
                if self.chance(50) {
                    self.world.bitcoind.mine(2);
                }
                let Memory { confirmed, tip, .. } = self.ours.recorder.memory();
                self.check_calls();
                self.model = Model::new(confirmed, tip);
                self.ours.start_again();
                "a restart".into()
            }
            64..86 => {
                let (depth, longer) = (1 + self.up_to(5) as u32, 1 + self.up_to(1) as u32);
                let leave_out = self.chance(60);
                self.reorg(depth, longer, leave_out);
                format!("a reorganisation, {depth} deep")
            }
            _ => {
                let blocks = 1 + self.up_to(2) as u32;
                self.world.bitcoind.mine(blocks);
                format!("{blocks} blocks")
            }
        }
    }

    /// Where the relevant transactions are, as bitcoind says.
    fn truth(&self) -> BTreeMap<Txid, Block> {
        let bitcoind = &self.world.bitcoind;
        let block_of = |txid: &Txid| {
            let info: Value = bitcoind.try_call("getrawtransaction", &[json!(txid), json!(true)]).ok()?;
            let confirmations = info["confirmations"].as_u64().filter(|many| *many > 0)?;
            let height = bitcoind.height() + 1 - u32::try_from(confirmations).expect("a short chain");
            Some((height, bitcoind.hash_at(height)))
        };
        self.relevant.keys().filter_map(|txid| Some((*txid, block_of(txid)?))).collect()
    }

    /// Lets both come to rest and compares them with each other, with bitcoind and with the contract.
    fn compare(&mut self, step: &str) {
        let best = self.world.bitcoind.best_hash();
        let mut probe = Probe::connect(self.server.tcp());
        eventually("ElectrumX announces the best block", || probe.tip(), |tip| *tip == best);
        let truth = self.truth();
        self.excuse(&truth);
        let before = self.theirs.recorder.memory();
        eventually_ok("LDK's engine comes through", || self.theirs.sync());
        self.settle(&before);
        self.ours.synced(best);

        let tip = Some((self.world.bitcoind.height(), best));
        // A script's news may come to the server's clients a moment after the block's.
        let ours = eventually(
            &format!("ours to know the truth after {step}"),
            || self.ours.recorder.memory(),
            |memory| memory.confirmed == truth && memory.tip == tip,
        );
        let mut theirs = self.theirs.recorder.memory();
        assert_eq!(theirs.tip, ours.tip, "{step}");
        let mut expected = ours.confirmed.clone();
        expected.retain(|txid, _| !self.excused.contains(txid));
        theirs.confirmed.retain(|txid, _| !self.excused.contains(txid));
        assert_eq!(theirs.confirmed, expected, "{step}: ours and theirs differ");
        for (tip, confirmed) in self.check_calls() {
            // A tip on a branch that has left tells nothing of this truth.
            if self.world.bitcoind.try_call::<Value>("getblockhash", &[json!(tip.0)]) == Ok(json!(tip.1)) {
                let complete: BTreeMap<_, _> = truth.iter().filter(|(_, at)| at.0 <= tip.0).collect();
                let told: BTreeMap<_, _> = confirmed.iter().collect();
                assert!(
                    told == complete || self.server_was_late(),
                    "{step}: a tip too early: {told:?} of {complete:?}"
                );
            }
        }
        self.mark = self.line.mark();
        if self.chance(30) {
            self.older = ours;
        }
    }

    /// True when, in this step, the server spoke of a script long after it had spoken of a block.
    fn server_was_late(&self) -> bool {
        let mut block = None;
        self.line.since(self.mark).0.iter().filter(|line| line.kind == Kind::Notification).any(|line| {
            if line.method == "blockchain.headers.subscribe" {
                block = Some(line.at);
            }
            block.is_some_and(|at| line.at > at + LATE)
        })
    }

    /// Holds the calls since the last time to the contract.
    fn check_calls(&mut self) -> Vec<(Block, BTreeMap<Txid, Block>)> {
        let calls = self.ours.recorder.take_calls();
        self.moved.0 += calls.iter().filter(|call| matches!(call, Call::Confirmed(..))).count();
        self.moved.1 += calls.iter().filter(|call| matches!(call, Call::Unconfirmed(_))).count();
        self.model.take(&calls).unwrap_or_else(|breach| panic!("{breach}\nin {calls:#?}"));
        self.model.take_tips()
    }

    /// Notes what LDK's engine will not look at any more: spends that it knew `before` it heard of a tip that buries them.
    fn settle(&mut self, before: &Memory) {
        let now = self.theirs.recorder.memory();
        let height = now.tip.map_or(0, |tip| tip.0);
        for (txid, at) in &before.confirmed {
            if before.tip != now.tip && now.confirmed.get(txid) == Some(at) && at.0 + SETTLED <= height + 1 {
                self.settled.extend(self.relevant[txid].iter().map(|outpoint| (*outpoint, *txid)));
            }
        }
    }

    /// Names what LDK's engine cannot know: another spend of a settled output, and what follows from it.
    fn excuse(&mut self, truth: &BTreeMap<Txid, Block>) {
        let mut in_order: Vec<(&Txid, &Block)> = truth.iter().collect();
        in_order.sort_by_key(|(_, at)| at.0);
        loop {
            let before = self.excused.len();
            for (txid, _) in &in_order {
                let spent = &self.relevant[*txid];
                let replaces = |outpoint| self.settled.get(outpoint).is_some_and(|settled| settled != *txid);
                if spent.iter().any(|outpoint| replaces(outpoint) || self.excused.contains(&outpoint.txid)) {
                    self.excused.insert(**txid);
                }
            }
            if self.excused.len() == before {
                return;
            }
        }
    }
}

fn play(seed: u64, steps: usize) {
    let seed = std::env::var("LIGHTNODE_TEST_SEED").map_or(seed, |text| text.parse().expect("a number"));
    let mut game = Game::new(seed);
    for number in 0..steps {
        let mut step = game.step();
        if game.chance(40) {
            game.world.bitcoind.mine(1);
            step.push_str(", a block");
        }
        let step = format!("step {number}, {step}");
        println!("{step}");
        game.compare(&step);
    }
    let ((told, untold), excused) = (game.moved, game.excused.len());
    println!("{told} blocks with transactions told, {untold} unconfirmed, {excused} unknown to LDK's engine");
    assert!(told > 0, "a game in which nothing happens");
    game.ours.stop();
}

#[test]
fn over_a_known_chain_both_engines_end_in_the_same_state() {
    play(1, 40);
}

#[test]
fn over_a_random_chain_both_engines_end_in_the_same_state() {
    play(random(), 40);
}

#[test]
fn a_settled_spend_that_another_replaces_is_seen_by_our_engine_and_not_by_ldks() {
    let mut game = Game::new(0);
    game.fund();
    game.world.bitcoind.mine(1);
    game.spend(0, false);
    game.world.bitcoind.mine(1);
    game.compare("a spend");
    game.world.bitcoind.mine(SETTLED - 1);
    game.compare("a settled spend");
    let spend = *game.settled.get(&game.coins[0].outpoint).expect("it is settled");
    game.world.bitcoind.reorg_without(SETTLED, SETTLED + 1, &[spend]);
    game.compare("the spend is taken back");
    game.spend(0, false);
    game.world.bitcoind.mine(1);
    game.compare("another spend");
    let other = *game.excused.first().expect("LDK's engine does not look for it: see the module");
    assert!(game.ours.recorder.memory().confirmed.contains_key(&other));
    assert!(!game.theirs.recorder.memory().confirmed.contains_key(&other), "it does now: drop the exclusion");
    game.ours.stop();
}

#[test]
fn a_transaction_in_another_block_of_the_same_height_is_moved_by_both() {
    let mut game = Game::new(0);
    game.fund();
    let height = game.world.bitcoind.height() + 1;
    game.world.bitcoind.mine(2);
    game.compare("a funding");
    let before = game.ours.recorder.memory().confirmed;
    game.world.bitcoind.reorg(2, 3);
    game.compare("a reorganisation");
    let moved = game.ours.recorder.memory().confirmed;
    assert_eq!(moved.values().map(|at| at.0).collect::<Vec<_>>(), [height]);
    assert_ne!(moved, before);
    game.ours.stop();
}
