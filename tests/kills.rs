//! `kill -9` at random moments, while three nodes pay each other in all directions and blocks come in between.
//!
//! The seed is printed; `LIGHTNODE_KILLS="SEED KILLS"` repeats a run or makes it longer (`scripts/stress`). Processes run as
//! they like, so that the same seed gives the same orders and moments, and not the same interleaving.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::{Daemon, Ran};
use crate::support::eventually::within;
use crate::support::scenes::{CHANNEL, DEPOSIT, at_rest, open, pay};
use crate::support::world::World;

/// Of the run in the suite.
const SEED: u64 = 21;
/// As many as the suite has time for.
const KILLS: u64 = 12;
/// By then a payment is decided. The longest wait is that of a payee who has one part of two, the other part of which has
/// failed while its payer was gone: LDK gives it back after three ticks of a minute (`MPP_TIMEOUT_TICKS`).
const DECIDED: Duration = Duration::from_secs(240);

/// Random numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// Any moment of the next so many milliseconds. It is the point, and nothing is waited for.
    fn moment(&mut self, millis: u64) {
        std::thread::sleep(Duration::from_millis(self.below(millis)));
    }
}

/// A payment that somebody was told to make.
struct Order {
    from: usize,
    to: usize,
    hash: String,
    msat: u64,
    command: Child,
    /// Its payer was killed meanwhile.
    cut: bool,
}

/// One whose command has ended.
struct Answered {
    from: usize,
    to: usize,
    hash: String,
    msat: u64,
    answer: Ran,
    cut: bool,
}

impl Order {
    fn answered(self) -> Answered {
        let Self { from, to, hash, msat, command, cut } = self;
        let answer = command.wait_with_output().expect("the command ends").into();
        Answered { from, to, hash, msat, answer, cut }
    }
}

/// A payment that went through, as the payer's book has it.
struct Sent {
    from: usize,
    to: usize,
    msat: u64,
    fee_msat: u64,
}

/// Three nodes, each with a channel to each of the others. That between the first and the last is all on one side: one
/// of the two has to pay by way of the one in the middle.
struct Triangle {
    world: World,
    nodes: Vec<Daemon>,
    peers: Vec<String>,
    channels: Vec<BTreeSet<String>>,
    /// Payments whose commands have not been seen to end.
    orders: Vec<Order>,
    kills: u64,
}

impl Triangle {
    fn new() -> Self {
        let world = World::new();
        let nodes: Vec<Daemon> =
            ["alice", "bob", "carol"].iter().map(|name| Daemon::new(&world, name).started()).collect();
        nodes.iter().for_each(|node| node.funded(&world, DEPOSIT));
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            open(&world, &nodes[from], &nodes[to], &["--public"]);
        }
        pay(&nodes[0], &nodes[1], CHANNEL / 2);
        pay(&nodes[1], &nodes[2], CHANNEL / 2);
        // From here on its side is above the reserve, so that what can be spent tells what is there.
        pay(&nodes[2], &nodes[0], CHANNEL / 80);
        let peers = nodes.iter().map(Daemon::peer).collect();
        let channels = nodes.iter().map(|node| ids(&node.usable(2))).collect();
        Self { world, nodes, peers, channels, orders: Vec::new(), kills: 0 }
    }

    /// What each node holds in its channels, in msat, once nothing is in flight.
    fn held(&self) -> Vec<u64> {
        self.nodes.iter().for_each(at_rest);
        let msat = |channel: &Value| {
            channel["spendable_msat"].as_u64().expect("msat") + 1000 * channel["our_reserve_sat"].as_u64().expect("sat")
        };
        self.nodes.iter().map(|node| node.usable(2).iter().map(msat).sum()).collect()
    }

    fn kill(&mut self, victim: usize) {
        let ended = self.nodes[victim].process().exit_status();
        assert!(ended.is_none(), "node {victim} has ended by itself: {ended:?}");
        self.nodes[victim].kill();
        self.kills += 1;
        self.orders.iter_mut().filter(|order| order.from == victim).for_each(|order| order.cut = true);
    }

    /// Starts a node, which may be killed again while it starts.
    fn revive(&mut self, victim: usize, dice: &mut Dice) {
        self.nodes[victim].start();
        while dice.below(5) == 0 {
            dice.moment(120);
            self.kill(victim);
            self.nodes[victim].start();
        }
        self.nodes[victim].ready();
        self.connect(victim);
    }

    /// A peer that goes away again and again is dialled less and less often; here it is dialled at once.
    fn connect(&self, one: usize) {
        for (other, peer) in self.peers.iter().enumerate().filter(|(other, _)| *other != one) {
            // One who is down, too, dials when it is back.
            let ran = self.nodes[one].run(&["peer", "add", peer]);
            assert!(ran.code == 0 || !self.nodes[other].is_running(), "{ran:?}");
        }
    }

    fn order(&mut self, dice: &mut Dice) {
        let from = dice.below(3) as usize;
        let to = (from + 1 + dice.below(2) as usize) % 3;
        let msat = 1_000_000 + dice.below(20_000_000);
        let made = self.nodes[to].json(&["receive", &format!("{msat}msat")]);
        let (invoice, hash) = (made["invoice"].as_str().expect("an invoice"), made["payment_hash"].as_str());
        let command = self.nodes[from].begin(&["pay", invoice, "--timeout", "30s", "--json"]);
        let hash = hash.expect("a hash").to_string();
        self.orders.push(Order { from, to, hash, msat, command, cut: false });
    }

    /// Waits until every payment is decided, and compares what was answered with what both books say.
    fn settled(&self, orders: Vec<Answered>) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut answers: BTreeMap<i32, usize> = BTreeMap::new();
        for Answered { from, to, hash, msat, answer, cut } in orders {
            assert!(cut || !answer.stderr.contains("the connection"), "nobody was killed: {answer:?}");
            *answers.entry(answer.code).or_default() += 1;
            let is_decided = |book: &Ran| match book.code {
                0 => ["succeeded", "failed"].contains(&book.json()["status"].as_str().expect("a status")),
                // The payer was gone before it had heard of it.
                _ => book.stderr.contains("nothing in the book"),
            };
            let look = || self.nodes[from].run(&["show", &hash]);
            let book = within(DECIDED, "the payment to be decided", look, is_decided);
            let succeeded = book.code == 0 && book.json()["status"] == "succeeded";
            match answer.code {
                0 => assert!(succeeded, "answered as paid, and is not: {answer:?} {book:?}"),
                1 => assert!(!succeeded, "answered as failed for certain, and was paid: {answer:?} {book:?}"),
                _ => {}
            }
            if succeeded {
                let fee_msat = book.json()["fee_msat"].as_u64().expect("a fee");
                let received = self.nodes[to].entry(&hash, "succeeded");
                assert_eq!(received["amount_msat"], msat, "paid more than once: {received}");
                sent.push(Sent { from, to, msat, fee_msat });
            } else {
                let received = self.nodes[to].json(&["show", &hash]);
                assert_ne!(received["status"], "succeeded", "paid, and the payer says otherwise: {book:?}");
            }
        }
        println!("answers by exit code: {answers:?}");
        sent
    }

    /// What each node has now is what it had, with what came and without what went; and what is missing in fees was
    /// earned by somebody.
    fn adds_up(&self, start: &[u64], sent: &[Sent]) {
        let (end, mut earned) = (self.held(), 0);
        for (at, (start, end)) in start.iter().zip(&end).enumerate() {
            let out: u64 = sent.iter().filter(|sent| sent.from == at).map(|sent| sent.msat + sent.fee_msat).sum();
            let came: u64 = sent.iter().filter(|sent| sent.to == at).map(|sent| sent.msat).sum();
            let without_fees = start + came - out;
            assert!(*end >= without_fees, "node {at} has {end} msat, and by the books at least {without_fees}");
            earned += end - without_fees;
        }
        let fees: u64 = sent.iter().map(|sent| sent.fee_msat).sum();
        assert_eq!(earned, fees, "what was paid in fees is not what was earned");
        assert_eq!(start.iter().sum::<u64>(), end.iter().sum::<u64>(), "money has come or gone");
        let paid: u64 = sent.iter().map(|sent| sent.msat).sum();
        println!("{} payments, {paid} msat and {fees} msat of fees: all accounted for", sent.len());
    }
}

fn ids(channels: &[Value]) -> BTreeSet<String> {
    channels.iter().map(|channel| channel["channel_id"].as_str().expect("an id").to_string()).collect()
}

#[test]
fn random_kills_lose_nothing_and_pay_nothing_twice() {
    let given = std::env::var("LIGHTNODE_KILLS").ok();
    let mut numbers = given.iter().flat_map(|text| text.split_whitespace()).map(|text| text.parse().expect("a number"));
    let (seed, kills) = (numbers.next().unwrap_or(SEED), numbers.next().unwrap_or(KILLS));
    println!("scripts/stress {seed} {kills}");
    let (mut dice, mut net) = (Dice(seed), Triangle::new());
    let start = net.held();

    let (mut done, mut told) = (Vec::new(), 0);
    while net.kills < kills {
        // Mostly in the middle of payments, sometimes while channels are taken up again.
        if dice.below(4) != 0 {
            net.nodes.iter().for_each(|node| drop(node.usable(2)));
        }
        for _ in 0..1 + dice.below(3) {
            net.order(&mut dice);
        }
        if dice.below(4) == 0 {
            net.world.bitcoind.mine(1);
        }
        dice.moment(500);
        let victim = dice.below(3) as usize;
        net.kill(victim);
        if dice.below(5) == 0 {
            let second = (victim + 1) % 3;
            net.kill(second);
            net.revive(second, &mut dice);
        }
        net.revive(victim, &mut dice);
        for mut order in std::mem::take(&mut net.orders) {
            // A command may still wait for one who was killed.
            match order.command.try_wait().expect("own child") {
                Some(_) => done.push(order.answered()),
                None => net.orders.push(order),
            }
        }
        if net.kills / 20 > told {
            told = net.kills / 20;
            println!(
                "{} kills, {} payments ordered, {} answered",
                net.kills,
                net.orders.len() + done.len(),
                done.len()
            );
        }
    }
    done.extend(std::mem::take(&mut net.orders).into_iter().map(Order::answered));
    (0..3).for_each(|at| net.connect(at));

    let ordered = done.len();
    let sent = net.settled(done);
    println!("{} kills, {ordered} payments ordered", net.kills);
    net.adds_up(&start, &sent);
    for (node, channels) in net.nodes.iter().zip(&net.channels) {
        assert_eq!(ids(&node.usable(2)), *channels, "a channel is gone");
        assert_eq!(node.entries("channel_close"), Vec::<Value>::new(), "a channel was closed");
    }
    for node in &mut net.nodes {
        let log = std::fs::read_to_string(node.folder().with_extension("log")).expect("its log");
        assert!(!log.contains("panicked"), "{:?} has panicked", node.folder());
        node.stop();
        let report = node.json(&["db", "check"]);
        assert_eq!(report["ok"], true, "{report}");
    }
}
