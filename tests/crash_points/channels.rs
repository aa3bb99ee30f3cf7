//! Channels that are opened and closed while the power goes.

use super::Story::*;
use super::{Case, Net, Story, cases, knows_height, pay};
use crate::support::daemon::{Daemon, Ran};
use crate::support::eventually::eventually;
use crate::support::scenes::in_mempool;

/// Size of the channels that are opened and closed in turn, in sat: a peer takes ten at most.
const SMALL: u64 = 40_000;

/// Opens a channel from the first node to the second; their only one. Returns its id.
fn open_one(net: &Net) -> String {
    let opened = net.nodes[0].json(&["open", &net.peers[1], &SMALL.to_string()]);
    in_mempool(&net.world, opened["funding_txid"].as_str().expect("a txid"));
    net.mine(6);
    net.nodes.iter().for_each(|node| drop(node.usable(1)));
    opened["channel_id"].as_str().expect("an id").to_string()
}

/// Closes the only channel, by agreement; the first node has the money back when this returns.
fn close_one(net: &Net, id: &str) {
    net.nodes[0].json(&["close", id]);
    closes(net);
    net.mine(1);
    net.nodes.iter().for_each(Daemon::without_channels);
}

/// Waits until the one transaction is there that nodes with one channel make.
fn closes(net: &Net) {
    eventually("the closing transaction", || net.world.bitcoind.mempool(), |all| all.len() == 1);
}

/// Mines blocks one by one, as long as the victim lives to see them; true when it is gone.
fn mine_until_gone(net: &mut Net, victim: usize, blocks: u32) -> bool {
    for _ in 0..blocks {
        if !net.nodes[victim].has_crashed() {
            net.world.bitcoind.mine(1);
        }
        let height = net.world.bitcoind.height();
        let node = &net.nodes[victim];
        eventually(
            "the block, or the power to go",
            || node.has_crashed() || knows_height(node, height),
            |there| *there,
        );
    }
    // What the last block brings forth is still under way.
    net.nodes[victim].crashes(false, |_| true)
}

fn openings(story: Story, victim: usize) {
    let mut net = Net::new(&["alice", "bob"], 4_000_000, 2);
    net.nodes[victim].record();
    let id = open_one(&net);
    let passed = net.nodes[victim].recorded();
    close_one(&net, &id);
    for case in cases(story, &passed) {
        eprintln!("{story:?}: {case:?}");
        net.nodes[victim].arm(case.point, case.number);
        let mut opening = net.nodes[0].begin(&["open", &net.peers[1], &SMALL.to_string(), "--json"]);
        let mut ended = || opening.try_wait().is_ok_and(|ended| ended.is_some());
        // Some of it happens only when the funding is in a block.
        let mut gone = net.nodes[victim].crashes(false, |_| ended());
        if gone {
            net.revive(victim);
        }
        let answer: Ran = opening.wait_with_output().expect("the command ends").into();
        let channels = net.nodes[0].json(&["channels"]);
        let channel = channels.as_array().expect("a list").first().cloned();
        if answer.code == 0 {
            let known = channel.as_ref().map(|channel| channel["channel_id"].clone());
            assert_eq!(known.as_ref(), Some(&answer.json()["channel_id"]), "{case:?}: answered and forgotten");
        }
        let Some(channel) = channel else {
            assert!(gone, "{case:?}: {answer:?}");
            assert_eq!(net.nodes[0].balance("onchain_locked_sat"), 0, "{case:?}: coins are locked for nothing");
            continue;
        };
        in_mempool(&net.world, &channel["funding"].as_str().expect("an outpoint")[..64]);
        if !gone {
            net.nodes[victim].arm(case.point, 1);
            gone = mine_until_gone(&mut net, victim, 6);
            if gone {
                net.revive(victim);
            }
        }
        assert!(gone || !case.must, "{case:?}: it did not come there");
        net.mine(6);
        net.nodes.iter().for_each(|node| drop(node.usable(1)));
        close_one(&net, channel["channel_id"].as_str().expect("an id"));
        assert_eq!(net.nodes[0].balance("onchain_locked_sat"), 0, "{case:?}: coins are locked for nothing");
    }
    let id = open_one(&net);
    pay(&net.nodes[0], &net.nodes[1], 1_000);
    close_one(&net, &id);
}

#[test]
fn a_node_that_opens_a_channel_without_power_at_any_point_has_it_or_its_coins() {
    openings(Opening, 0);
}

#[test]
fn a_node_that_accepts_a_channel_without_power_at_any_point_knows_it_when_it_is_funded() {
    openings(Accepting, 1);
}

#[test]
fn a_close_without_power_at_any_point_brings_the_money_home_once() {
    let mut net = Net::new(&["alice", "bob"], 4_000_000, 2);
    let share = |net: &Net| net.nodes[0].balance("onchain_confirmed_sat");
    let id = open_one(&net);
    net.nodes[0].record();
    close_one(&net, &id);
    for case in cases(Closing, &net.nodes[0].recorded()) {
        eprintln!("{Closing:?}: {case:?}");
        let id = open_one(&net);
        let before = share(&net);
        net.nodes[0].arm(case.point, case.number);
        let mut closing = net.nodes[0].begin(&["close", &id, "--json"]);
        let mut ended = || closing.try_wait().is_ok_and(|ended| ended.is_some());
        let mut gone = net.nodes[0].crashes(false, |_| ended());
        if gone {
            net.revive(0);
        }
        let answer: Ran = closing.wait_with_output().expect("the command ends").into();
        let lives = || net.nodes[0].channels("usable").iter().any(|channel| channel["channel_id"] == id.as_str());
        let (lives, _) = eventually(
            "the channel to be usable, or closed",
            || (lives(), net.world.bitcoind.mempool().len()),
            |(lives, closes)| *lives || *closes == 1,
        );
        if lives {
            assert_ne!(answer.code, 0, "{case:?}: answered and forgotten");
            net.nodes[0].json(&["close", &id]);
            closes(&net);
        }
        if !gone {
            net.nodes[0].arm(case.point, 1);
            gone = mine_until_gone(&mut net, 0, 1);
            if gone {
                net.revive(0);
            }
        }
        assert!(gone || !case.must, "{case:?}: it did not come there");
        net.mine(1);
        net.nodes.iter().for_each(Daemon::without_channels);
        let gained = eventually("the money", || share(&net), |now| *now > before) - before;
        assert!(gained <= SMALL && gained > SMALL - 6_000, "{case:?}: {gained} sat came home");
    }
}

#[test]
fn a_sweep_without_power_at_any_point_brings_the_money_home_once() {
    let mut net = Net::new(&["alice", "bob"], 4_000_000, 4);
    let share = |net: &Net| net.nodes[0].balance("onchain_confirmed_sat");
    // Bob closes by force; what alice gets from that lies on a key of LDK's, and is swept six blocks later. She hears of it
    // when it is in a block, or else her own commitment could be first, and her money locked for a day.
    let close = |net: &mut Net, case: Option<Case>| {
        let id = open_one(net);
        let before = share(net);
        net.nodes[0].freeze();
        net.nodes[1].json(&["close", &id, "--force"]);
        eventually("the commitment", || net.world.bitcoind.mempool(), |all| !all.is_empty());
        net.world.bitcoind.mine(1);
        match case {
            Some(case) => net.nodes[0].arm(case.point, case.number),
            None => net.nodes[0].record(),
        }
        net.nodes[0].thaw();
        before
    };
    let swept = |net: &Net| {
        let swept = || {
            net.mine(1);
            net.nodes[0].json(&["balance"])["closing"].as_array().is_some_and(Vec::is_empty)
        };
        eventually("the sweep in a block", swept, |done| *done);
        net.nodes.iter().for_each(Daemon::without_channels);
    };
    let _before = close(&mut net, None);
    (0..6).for_each(|_| net.mine(1));
    swept(&net);
    for case in cases(Sweeping, &net.nodes[0].recorded()) {
        eprintln!("{Sweeping:?}: {case:?}");
        let before = close(&mut net, Some(case));
        let gone = mine_until_gone(&mut net, 0, 8);
        assert!(gone || !case.must, "{case:?}: it did not come there");
        if gone {
            net.revive(0);
        }
        swept(&net);
        let gained = eventually("the money", || share(&net), |now| *now > before) - before;
        assert!(gained <= SMALL && gained > SMALL - 8_000, "{case:?}: {gained} sat came home");
    }
}
