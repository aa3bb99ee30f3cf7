//! Power cuts at every named place (`lightnode::crash`), while everything that moves money is done.
//!
//! Each story is told once undisturbed, and the places that the victim passes are counted; then it is told again for each
//! of them, with the process gone there. What follows every crash is the same: the node comes up, no channel is closed
//! that should live, what was answered is there, nothing is paid twice, and the sums are right to the millisatoshi.

/// Opening, closing, and what a close by force pays.
mod channels;
/// The seed, the backup, the mark.
mod keeping;
/// Lost and old channels on their way home.
mod recovery;

use std::collections::BTreeMap;
use std::fs;

use lightnode::crash::Point;
use serde_json::Value;

use crate::support::daemon::{Daemon, Ran};
use crate::support::eventually::eventually;
use crate::support::scenes::{CHANNEL, at_rest, in_mempool, open, pay};
use crate::support::world::World;

/// What is being done when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    FirstStart,
    Opening,
    Accepting,
    Paying,
    Receiving,
    Forwarding,
    Closing,
    Sweeping,
    Deposit,
    Withdrawal,
    Reorg,
    Making,
    Sealing,
    Backing,
    Marking,
    Restoring,
    Recovering,
    GivingUp,
}

use Story::*;

/// In which stories a place has to be passed. It may be in others, too: they are found by counting.
fn stories(point: Point) -> &'static [Story] {
    match point {
        Point::SeedMissing | Point::SeedMade | Point::DatabaseMade | Point::WalletMade | Point::ManagerMade => {
            &[FirstStart]
        }
        Point::CommitBefore | Point::CommitAfter => &[
            Opening, Accepting, Paying, Receiving, Forwarding, Closing, Sweeping, Deposit, Withdrawal, Reorg,
            Recovering,
        ],
        Point::VaultStaged | Point::VaultWritten | Point::VaultCompleted | Point::VaultOut => {
            &[Opening, Accepting, Paying, Receiving, Forwarding, Closing, Sweeping]
        }
        Point::BroadcastTold | Point::OutboxSent | Point::OutboxNoted => &[Opening, Closing, Sweeping],
        Point::InvoiceBooked | Point::ClaimGiven | Point::ClaimBooked => &[Receiving],
        Point::PayBooked | Point::PayHanded | Point::PaySettled => &[Paying],
        Point::EventCame | Point::EventDone => &[Opening, Accepting, Paying, Receiving, Forwarding, Closing, Sweeping],
        Point::FundingBuilt | Point::FundingGiven | Point::PeerKept => &[Opening],
        Point::CloseAsked | Point::CloseWritten => &[Closing],
        Point::SendBooked => &[Withdrawal],
        Point::AddressMade => &[Deposit],
        Point::HeadersStored | Point::DeliveredAll | Point::Delivered | Point::DeliveredTold => {
            &[Opening, Sweeping, Deposit, Withdrawal, Reorg]
        }
        Point::HistoriesStored => &[Opening, Deposit, Withdrawal, Reorg],
        Point::SweepTracked | Point::SweepMade => &[Sweeping, Recovering],
        Point::SeedWritten | Point::SeedReplaced => &[FirstStart, Making, Sealing, Restoring],
        Point::SeedWiped => &[Sealing],
        Point::FileWritten | Point::FileReplaced => &[Backing, Restoring],
        Point::BackupSealed | Point::BackupFiled | Point::BackupFed | Point::BackupNoted => &[Backing],
        Point::MarkRaised | Point::MarkWritten => &[FirstStart, Marking],
        Point::RestoreLeft | Point::RestoreTaken | Point::RestoreRemoved => &[Restoring],
        Point::GivenUp => &[GivingUp],
        Point::RecoveryPeers
        | Point::RecoveryFound
        | Point::RecoveryHanded
        | Point::RecoveryKept
        | Point::RecoveryOver => &[Recovering],
    }
}

#[test]
fn every_crash_point_has_a_story_and_a_name_of_its_own() {
    let mut names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert!(Point::ALL.iter().all(|point| !stories(*point).is_empty()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Point::ALL.len());
}

/// A place where the power goes.
#[derive(Clone, Copy, Debug)]
struct Case {
    point: Point,
    /// At which passing.
    number: u32,
    /// It must be come to. A later passing than the first may not come, for writes are grouped as they happen to meet; nor
    /// may a place that the story was only seen to pass.
    must: bool,
}

/// The cases of a story: each place that was passed in it, the first time; where writes are many, also in the middle and
/// at the end; and in the stories that are quickly told, after every single write. Panics when a place was not passed that
/// has to be. Of the places that the clock leads to, and in the stories that are about a few places, only those that have
/// to be passed.
fn cases(story: Story, passed: &BTreeMap<Point, u32>) -> Vec<Case> {
    for point in Point::ALL.iter().filter(|point| stories(**point).contains(&story)) {
        assert!(passed.contains_key(point), "{story:?} never comes to {}; passed: {passed:?}", point.name());
    }
    let few = matches!(story, Making | Sealing | Backing | Marking | Restoring | Recovering);
    let chosen = |point: Point| stories(point).contains(&story) || !(few || is_clocked(point));
    let mut cases = Vec::new();
    for (point, count) in passed.iter().filter(|(point, _)| chosen(**point)) {
        let quick = matches!(story, FirstStart | Paying | Receiving | Forwarding | Deposit | Withdrawal);
        let mut numbers = match point {
            Point::CommitAfter | Point::VaultWritten if quick => (1..=*count).collect(),
            Point::MarkRaised | Point::MarkWritten => (1..=*count).collect(),
            Point::CommitBefore | Point::CommitAfter if few => vec![count.div_ceil(2)],
            Point::CommitBefore | Point::CommitAfter => vec![1, count.div_ceil(2), *count],
            _ if quick => vec![1, *count],
            _ => vec![1],
        };
        numbers.sort_unstable();
        numbers.dedup();
        let needed = stories(*point).contains(&story);
        cases.extend(numbers.into_iter().map(|number| Case { point: *point, number, must: needed && number == 1 }));
    }
    cases
}

/// Places that are come to by the clock: the mark is raised now and then, and the backup waits for company, so that what is
/// counted of them in one telling may belong to what was done before it.
fn is_clocked(point: Point) -> bool {
    use Point::*;
    let mark = matches!(point, MarkRaised | MarkWritten);
    let backup = matches!(point, BackupSealed | BackupFiled | BackupFed | BackupNoted);
    mark || backup || matches!(point, FileWritten | FileReplaced)
}

/// Some nodes of one world, by number, and how they are reached.
struct Net {
    world: World,
    nodes: Vec<Daemon>,
    peers: Vec<String>,
}

impl Net {
    /// Nodes with `deposit` sat each in `coins` coins, not connected.
    fn new(names: &[&str], deposit: u64, coins: u64) -> Self {
        let world = World::new();
        let mut nodes: Vec<Daemon> = names.iter().map(|name| Daemon::new(&world, name)).collect();
        // What bitcoind estimates wanders, and two nodes that asked at different times would not agree on a close.
        let fees = "[fees]\nmax_sat_per_vb = 10\nfallback_sat_per_vb = 10\n";
        nodes.iter().for_each(|node| node.configure(&[world.server()], fees));
        nodes.iter_mut().for_each(Daemon::start);
        nodes.iter().for_each(Daemon::ready);
        for node in &nodes {
            for _ in 0..coins {
                world.bitcoind.pay(node.address(), deposit / coins);
            }
        }
        world.bitcoind.mine(1);
        nodes.iter().for_each(|node| node.balance_is("onchain_confirmed_sat", deposit / coins * coins));
        let peers = nodes.iter().map(Daemon::peer).collect();
        Self { world, nodes, peers }
    }

    /// A chain of nodes with a channel from each to the next, half of which is on the other side.
    fn chain(names: &[&str]) -> Self {
        let net = Self::new(names, 1_000_000, 2);
        for at in 1..names.len() {
            open(&net.world, &net.nodes[at - 1], &net.nodes[at], &["--public"]);
            pay(&net.nodes[at - 1], &net.nodes[at], CHANNEL / 4);
        }
        net
    }

    /// Starts a node that has ended, and waits until it and its neighbours are connected again.
    fn revive(&mut self, victim: usize) {
        self.nodes[victim].start();
        self.nodes[victim].ready();
        self.connect(victim);
    }

    /// A peer that goes away again and again is dialled less and less often; here it is dialled at once.
    fn connect(&self, victim: usize) {
        for (other, node) in self.nodes.iter().enumerate() {
            if other.abs_diff(victim) == 1 {
                node.json(&["peer", "add", &self.peers[victim]]);
            }
        }
    }

    /// What each node holds in its channels, in msat, once nothing is in flight.
    fn held(&self) -> Vec<u64> {
        self.nodes.iter().for_each(at_rest);
        self.nodes.iter().map(held).collect()
    }

    /// Mines so many blocks, and waits until everybody has them.
    fn mine(&self, blocks: u32) {
        self.world.bitcoind.mine(blocks);
        let height = self.world.bitcoind.height();
        self.nodes.iter().for_each(|node| node.at_height(height));
    }
}

/// Our side of all channels, in msat; all of them are usable.
fn held(node: &Daemon) -> u64 {
    let all = node.json(&["channels"]);
    let all = all.as_array().expect("a list of channels");
    let msat = |channel: &Value| {
        assert_eq!(channel["state"], "usable", "{channel}");
        channel["spendable_msat"].as_u64().expect("msat") + 1000 * channel["our_reserve_sat"].as_u64().expect("sat")
    };
    all.iter().map(msat).sum()
}

/// A payment of `sat` over the whole chain, with `victim` gone at `point`; afterwards it is paid exactly once.
fn pay_through(net: &mut Net, victim: usize, case: Case, sat: u64) {
    let (last, before) = (net.nodes.len() - 1, net.held());
    net.nodes[victim].arm(case.point, case.number);
    let shown = net.nodes[last].try_json(&["receive", &sat.to_string()]);
    if shown.is_none() {
        // Nobody can pay what was not shown; the next one will do.
        assert!(net.nodes[victim].crashes(true, |_| false));
        net.revive(victim);
    }
    let invoice = match &shown {
        Some(shown) => shown["invoice"].as_str().expect("an invoice").to_string(),
        None => net.nodes[last].invoice(&sat.to_string()),
    };
    let mut paying = net.nodes[0].begin(&["pay", &invoice, "--timeout", "60s", "--json"]);
    let mut ended = || paying.try_wait().is_ok_and(|ended| ended.is_some());
    if shown.is_some() && net.nodes[victim].crashes(case.must, |_| ended()) {
        net.revive(victim);
    }
    let first: Ran = paying.wait_with_output().expect("the command ends").into();
    paid_once(net, &invoice, &first, sat);
    let after = net.held();
    let fee = before[0] - after[0] - sat * 1000;
    assert_eq!(after[last], before[last] + sat * 1000, "{case:?}: the payee has what was paid");
    if last == 2 {
        assert_eq!(after[1], before[1] + fee, "{case:?}: the one in the middle has the fee");
        assert!(fee > 0, "{case:?}: it was forwarded for nothing");
    } else {
        assert_eq!(fee, 0, "{case:?}: paid more than once");
    }
}

/// The payment succeeds: this time, or when it is tried again after it has failed for certain.
fn paid_once(net: &Net, invoice: &str, first: &Ran, sat: u64) {
    let (payer, payee) = (&net.nodes[0], &net.nodes[net.nodes.len() - 1]);
    let hash = payer.json(&["decode", invoice])["payment_hash"].as_str().expect("a hash").to_string();
    net.nodes.iter().for_each(|node| drop(node.usable(channels_of(net, node))));
    let known = payer.run(&["show", &hash]);
    let settled = known.code == 0
        && eventually(
            "the payer's book to be settled",
            || payer.json(&["show", &hash]),
            |entry| entry["status"] == "succeeded" || entry["status"] == "failed",
        )["status"]
            == "succeeded";
    if first.code == 0 {
        assert!(settled, "it was answered as paid, and is not: {first:?}");
    }
    if !settled {
        let again = payer.json(&["pay", invoice]);
        assert_eq!((again["status"].as_str(), again["already"].as_bool()), (Some("succeeded"), Some(false)), "{again}");
    }
    assert_eq!(payee.entry(&hash, "succeeded")["amount_msat"], sat * 1000);
    let again = payer.json(&["pay", invoice]);
    assert_eq!(again["already"], true, "{again}");
}

fn channels_of(net: &Net, node: &Daemon) -> usize {
    let at = net.nodes.iter().position(|other| std::ptr::eq(other, node)).expect("one of the net");
    if at == 0 || at == net.nodes.len() - 1 { 1 } else { 2 }
}

/// Counts what the victim passes in one payment, and pays again for each of these places.
fn payments(story: Story, names: &[&str], victim: usize) {
    let mut net = Net::chain(names);
    net.nodes[victim].record();
    pay(&net.nodes[0], &net.nodes[names.len() - 1], 1_000);
    let passed = net.nodes[victim].recorded();
    for (number, case) in cases(story, &passed).into_iter().enumerate() {
        eprintln!("{story:?}: {case:?}");
        pay_through(&mut net, victim, case, 500 + number as u64);
    }
}

#[test]
fn a_payer_without_power_at_any_point_pays_once() {
    payments(Paying, &["alice", "bob"], 0);
}

#[test]
fn a_payee_without_power_at_any_point_is_paid_once() {
    payments(Receiving, &["alice", "bob"], 1);
}

#[test]
fn a_node_between_without_power_at_any_point_passes_a_payment_on_once() {
    payments(Forwarding, &["alice", "bob", "carol"], 1);
}

#[test]
fn a_new_node_without_power_at_any_point_is_the_same_one_at_the_next_start() {
    let world = World::new();
    let mut first = Daemon::new(&world, "first");
    first.record();
    first.start();
    first.ready();
    for (number, case) in cases(FirstStart, &first.recorded()).into_iter().enumerate() {
        eprintln!("{FirstStart:?}: {case:?}");
        let mut node = Daemon::new(&world, &format!("node{number}"));
        node.arm(case.point, case.number);
        node.start();
        let seed = |node: &Daemon| fs::read(node.folder().join("seed")).ok();
        if node.crashes(case.must, is_ready) {
            let before = seed(&node);
            node.start();
            node.ready();
            assert!(before.is_none() || seed(&node) == before, "{case:?}: it has another seed now");
        }
        node.funded(&world, 10_000);
        node.stop();
    }
}

fn is_ready(node: &Daemon) -> bool {
    node.try_json(&["status"]).is_some_and(|status| status["state"] == "ready")
}

/// A deposit of `sat` and a block with it, as far as the node lives to show an address.
fn deposit(net: &Net, sat: u64) -> Option<String> {
    let made = net.nodes[0].try_json(&["address"]);
    let txid = made.map(|made| net.world.bitcoind.pay(made["address"].as_str().expect("an address"), sat).to_string());
    net.world.bitcoind.mine(1);
    txid
}

fn knows_height(node: &Daemon, height: u32) -> bool {
    node.try_json(&["status"]).is_some_and(|status| status["tip"]["height"] == height)
}

#[test]
fn deposits_are_counted_once_without_power_at_any_point() {
    let mut net = Net::new(&["alice"], 1_000_000, 1);
    net.nodes[0].record();
    deposit(&net, 20_000).expect("an address");
    let mut wanted = 1_020_000;
    net.nodes[0].balance_is("onchain_confirmed_sat", wanted);
    for (number, case) in cases(Deposit, &net.nodes[0].recorded()).into_iter().enumerate() {
        eprintln!("{Deposit:?}: {case:?}");
        let sat = 30_000 + number as u64;
        net.nodes[0].arm(case.point, case.number);
        let txid = deposit(&net, sat);
        let height = net.world.bitcoind.height();
        if net.nodes[0].crashes(case.must, |node| knows_height(node, height)) {
            net.revive(0);
        }
        if let Some(txid) = txid {
            wanted += sat;
            net.nodes[0].balance_is("onchain_confirmed_sat", wanted);
            assert_eq!(net.nodes[0].entry(&txid, "succeeded")["amount_msat"], sat * 1000, "{case:?}");
        }
        assert_eq!(net.nodes[0].balance("onchain_pending_sat"), 0, "{case:?}");
    }
    assert_eq!(net.nodes[0].balance("onchain_confirmed_sat"), wanted);
}

#[test]
fn a_withdrawal_without_power_at_any_point_is_sent_when_it_was_answered_and_never_twice() {
    let mut net = Net::new(&["alice"], 2_000_000, 1);
    let there = net.world.bitcoind.new_address();
    let send = |net: &Net, sat: u64| net.nodes[0].try_json(&["send", &there, &sat.to_string()]);
    net.nodes[0].record();
    let sent = send(&net, 10_000).expect("an answer");
    in_mempool(&net.world, sent["txid"].as_str().expect("a txid"));
    net.mine(1);
    let (mut sum, mut count) = (10_000, 1);
    for (number, case) in cases(Withdrawal, &net.nodes[0].recorded()).into_iter().enumerate() {
        eprintln!("{Withdrawal:?}: {case:?}");
        let sat = 11_000 + number as u64;
        net.nodes[0].arm(case.point, case.number);
        let answered = send(&net, sat);
        if let Some(sent) = &answered {
            let txid: bitcoin::Txid = sent["txid"].as_str().expect("a txid").parse().expect("a txid");
            let gone = |net: &Net| net.nodes[0].has_crashed() || net.world.bitcoind.mempool().contains(&txid);
            eventually("the withdrawal, or the power to go", || gone(&net), |gone| *gone);
        }
        net.world.bitcoind.mine(1);
        let height = net.world.bitcoind.height();
        if net.nodes[0].crashes(case.must, |node| knows_height(node, height)) {
            net.revive(0);
        }
        let booked = net.nodes[0].entries("withdrawal");
        let mine = booked.iter().find(|entry| entry["amount_msat"] == sat * 1000);
        assert!(mine.is_some() || answered.is_none(), "{case:?}: answered and forgotten");
        if let Some(entry) = mine {
            let txid = entry["txid"].as_str().expect("a txid").to_string();
            eventually(
                "the withdrawal in a block",
                || {
                    net.mine(1);
                    net.nodes[0].json(&["show", &txid])["status"].clone()
                },
                |status| status == "succeeded",
            );
            (sum, count) = (sum + sat, count + 1);
        }
        let received: f64 = net.world.bitcoind.call("getreceivedbyaddress", &[there.clone().into()]);
        assert_eq!((received * 1e8).round() as u64, sum, "{case:?}: what arrived is not what the book says");
        assert_eq!(net.nodes[0].entries("withdrawal").len(), count, "{case:?}");
    }
}

#[test]
fn a_reorganisation_without_power_at_any_point_closes_no_channel_and_loses_no_deposit() {
    let mut net = Net::chain(&["alice", "bob"]);
    net.mine(3);
    let fresh = |net: &Net, sat: u64| {
        let txid = net.world.bitcoind.pay(net.nodes[0].address(), sat);
        net.mine(1);
        txid
    };
    fresh(&net, 20_000);
    net.nodes[0].record();
    net.world.bitcoind.reorg(1, 2);
    net.nodes[0].at_height(net.world.bitcoind.height());
    for (number, case) in cases(Reorg, &net.nodes[0].recorded()).into_iter().enumerate() {
        eprintln!("{Reorg:?}: {case:?}");
        let (held, sat) = (net.held(), 21_000 + number as u64);
        let txid = fresh(&net, sat);
        let wanted = net.nodes[0].balance("onchain_confirmed_sat");
        net.nodes[0].arm(case.point, case.number);
        net.world.bitcoind.reorg(1, 2);
        let height = net.world.bitcoind.height();
        if net.nodes[0].crashes(case.must, |node| knows_height(node, height)) {
            net.revive(0);
        }
        net.nodes.iter().for_each(|node| drop(node.usable(1)));
        assert_eq!(net.held(), held, "{case:?}");
        // bitcoind may leave what it has just put back into its mempool to a later block.
        let again = || {
            net.mine(1);
            net.nodes[0].balance("onchain_confirmed_sat")
        };
        eventually("the deposit in another block", again, |sat| *sat == wanted);
        assert_eq!(net.nodes[0].entry(&txid.to_string(), "succeeded")["amount_msat"], sat * 1000);
    }
    pay(&net.nodes[0], &net.nodes[1], 1_000);
}
