//! What no ElectrumX can be made to say: another chain of the same height, a fork thousands of blocks deep, blocks of
//! any time, headers that lead nowhere.
//!
//! Rows 6, 7, 20 and 21 of the table of threats, over chains that the test makes up: three servers with blocks of real
//! regtest work, of which one or two misbehave.

use std::slice;

use bitcoin::{OutPoint, ScriptBuf, Txid};
use lightnode::chain::tree::MAX_REORG;
use lightnode::source::pool::Role;
use serde_json::json;
use tempfile::TempDir;

use crate::support::adversary::{Adversary, on};
use crate::support::listening::Listening;
use crate::support::recorder::Call;
use crate::support::scripted::{Chain, Scripted, now, payment};
use crate::support::watched::{Watched, key, locked_script};
use crate::support::world::A_WHILE;

/// Three servers, each with an adversary in front, and an engine that follows them.
struct Scene {
    listening: Listening,
    fronts: [Adversary; 3],
    servers: [Scripted; 3],
    _folder: TempDir,
}

impl Scene {
    /// All of them on this chain, and told of it.
    fn new(chain: &Chain, watched: &[&Watched]) -> Self {
        let folder = tempfile::Builder::new().prefix("lightnode-").tempdir().expect("a temporary folder");
        let servers: [Scripted; 3] = std::array::from_fn(|_| Scripted::start(chain.clone()));
        let fronts: [Adversary; 3] =
            std::array::from_fn(|at| Adversary::before(servers[at].address(), u8::try_from(at + 1).expect("a few")));
        let urls = fronts.each_ref().map(|front| front.url());
        let listening = Listening::start(folder.path(), &urls, watched);
        listening.at(chain.tip().block_hash());
        Self { listening, fronts, servers, _folder: folder }
    }

    /// Some of the servers have another chain from now on.
    fn announce(&self, which: std::ops::Range<usize>, chain: &Chain) {
        self.servers[which].iter().for_each(|server| server.announce(chain));
    }

    /// How much each was asked since.
    fn asked(&self, marks: &[usize; 3]) -> [usize; 3] {
        std::array::from_fn(|at| self.fronts[at].since(marks[at]).requests().count())
    }

    fn marks(&self) -> [usize; 3] {
        self.fronts.each_ref().map(|front| front.mark())
    }

    fn is_banned(&self, server: usize) -> bool {
        matches!(self.listening.state().servers[server].role, Role::Banned { .. })
    }

    /// What was told beside tips, since the first so many calls.
    fn told(&self, before: usize) -> Vec<Call> {
        self.listening.calls().split_off(before).into_iter().filter(|call| !matches!(call, Call::Tip(_))).collect()
    }
}

/// A chain with a confirmed output that is followed, and what spends it, not mined.
fn chain_with_an_output() -> (Chain, Watched, bitcoin::Transaction) {
    let mut chain = Chain::new();
    let funding = payment(OutPoint::new(chain.tip().merkle_root.to_raw_hash().into(), 0), &locked_script());
    chain.mine(slice::from_ref(&funding));
    let outpoint = OutPoint::new(funding.compute_txid(), 0);
    let watched = Watched::made_up(outpoint, chain.height());
    let mut spend = payment(outpoint, &ScriptBuf::from_bytes([&[0x00, 0x14][..], &[8; 20]].concat()));
    spend.input[0].witness = key();
    (chain, watched, spend)
}

fn confirmed(call: &Call, txid: Txid) -> Option<u32> {
    match call {
        Call::Confirmed((height, _), txs) => txs.iter().any(|(_, told)| *told == txid).then_some(*height),
        Call::Unconfirmed(_) | Call::Tip(_) => None,
    }
}

#[test]
fn another_chain_of_the_same_height_changes_nothing_until_it_has_more_work() {
    let (mut chain, watched, spend) = chain_with_an_output();
    let mut other = chain.clone();
    chain.mine(slice::from_ref(&spend));
    chain.mine_empty(1);
    // The same height, the spend in a block later.
    other.mine_empty(1);
    other.mine(slice::from_ref(&spend));
    let (scene, txid) = (Scene::new(&chain, &[&watched]), spend.compute_txid());
    scene.listening.hears_of(txid, watched.height + 1);

    let (before, marks) = (scene.listening.calls().len(), scene.marks());
    for _ in 0..3 {
        scene.announce(0..2, &other);
        scene.listening.hears_nothing_for(A_WHILE);
    }
    assert!((0..3).all(|at| !scene.is_banned(at)), "{:?}", scene.listening.state());
    let asked = scene.asked(&marks);
    assert!(asked.iter().all(|asked| *asked < 20), "{asked:?}");

    // One block more, and it is the best: taken back, told anew, then the tip.
    other.mine_empty(1);
    scene.announce(0..3, &other);
    scene.listening.at(other.tip().block_hash());
    scene.listening.hears_of(txid, watched.height + 2);
    let told = scene.told(before);
    assert!(matches!(told[..], [Call::Unconfirmed(gone), Call::Confirmed(..)] if gone == txid), "{told:?}");
    assert_eq!(confirmed(&told[1], txid), Some(watched.height + 2));
}

#[test]
fn a_reorganisation_that_leaves_a_transaction_at_its_height_is_told_with_the_new_block() {
    let (mut chain, watched, spend) = chain_with_an_output();
    let mut other = chain.clone();
    chain.mine(slice::from_ref(&spend));
    // Its history, and so its status, is the same; the block is not.
    other.mine(slice::from_ref(&spend));
    other.mine_empty(1);
    let (scene, txid) = (Scene::new(&chain, &[&watched]), spend.compute_txid());
    scene.listening.hears_of(txid, watched.height + 1);
    let before = scene.listening.calls().len();
    scene.announce(0..3, &other);
    scene.listening.at(other.tip().block_hash());
    let told = scene.told(before);
    let block = (watched.height + 1, other.hash_at(watched.height + 1));
    assert_eq!(told, [Call::Unconfirmed(txid), Call::Confirmed(block, vec![(1, txid)])]);
}

#[test]
fn two_servers_with_less_work_do_not_move_the_third_however_deep_and_with_more_they_do() {
    let (mut chain, watched, spend) = chain_with_an_output();
    let mut false_one = chain.clone();
    chain.mine(slice::from_ref(&spend));
    chain.mine_empty(100);
    false_one.mine_empty(100);
    let (scene, txid) = (Scene::new(&chain, &[&watched]), spend.compute_txid());
    scene.listening.hears_of(txid, watched.height + 1);
    let (before, marks) = (scene.listening.calls().len(), scene.marks());
    scene.announce(0..2, &false_one);
    scene.listening.hears_nothing_for(A_WHILE);
    chain.mine_empty(1);
    scene.announce(2..3, &chain);
    scene.listening.at(chain.tip().block_hash());
    assert_eq!(scene.told(before), []);
    let asked = scene.asked(&marks);
    assert!(asked.iter().all(|asked| *asked < 30), "{asked:?}");
    // Work alone counts, whoever shows it; the rest is for the alarms.
    false_one.mine_empty(10);
    scene.announce(0..2, &false_one);
    scene.listening.at(false_one.tip().block_hash());
    assert_eq!(scene.told(before), [Call::Unconfirmed(txid)]);
}

#[test]
fn a_fork_deeper_than_any_reorganisation_is_not_followed_whatever_its_length_and_costs_little() {
    let mut chain = Chain::new();
    let mut deep = chain.clone();
    chain.mine_empty(MAX_REORG + 20);
    deep.mine_empty(MAX_REORG + 60);
    let scene = Scene::new(&chain, &[]);
    let marks = scene.marks();
    scene.announce(0..1, &deep);
    scene.listening.hears_nothing_for(A_WHILE);
    chain.mine_empty(1);
    scene.announce(1..3, &chain);
    scene.listening.at(chain.tip().block_hash());
    let asked = scene.asked(&marks);
    assert!(asked[0] < 20, "{asked:?}");
}

#[test]
fn a_tip_far_above_with_headers_that_lead_nowhere_is_told_to_nobody_and_asked_about_less_and_less() {
    let mut chain = Chain::new();
    // Its own blocks from the first one on, 500 more than anybody else.
    let mut alone = Chain::new();
    alone.mine_empty(500);
    let scene = Scene::new(&chain, &[]);
    let marks = scene.marks();
    // What it shows links among itself, and never to ours.
    let lead = alone.clone();
    scene.fronts[0].does([
        on("blockchain.headers.subscribe").notified().answers(json!([lead.claim()])),
        on("blockchain.block.headers").asked().becomes("server.ping", json!([])),
        on("blockchain.block.headers").answers(lead.headers(400, 100)),
    ]);
    scene.announce(0..1, &alone);
    scene.listening.hears_nothing_for(A_WHILE);
    chain.mine_empty(1);
    scene.announce(1..3, &chain);
    scene.listening.at(chain.tip().block_hash());
    for call in scene.listening.calls() {
        let Call::Tip((height, hash)) = call else { panic!("{call:?}") };
        assert_eq!(hash, chain.hash_at(height));
    }
    let asked = scene.asked(&marks);
    assert!(asked[0] < 20, "{asked:?}");
}

#[test]
fn blocks_as_early_as_the_median_allows_are_followed_and_one_at_the_median_bans_who_shows_it() {
    let mut chain = Chain::new();
    let scene = Scene::new(&chain, &[]);
    // Most as early, some as late as can be: the bent time of a time-warp.
    for turn in 0..21 {
        let time = if turn % 3 == 2 { now() + 3600 } else { chain.median_time() + 1 };
        chain.mine_at(time, &[]);
    }
    scene.announce(0..3, &chain);
    scene.listening.at(chain.tip().block_hash());

    let mut bent = chain.clone();
    bent.mine_at(bent.median_time(), &[]);
    scene.announce(0..1, &bent);
    scene.listening.until("the liar to be banned", |state| matches!(state.servers[0].role, Role::Banned { .. }));
    assert!(!scene.is_banned(1) && !scene.is_banned(2));
    chain.mine_at(chain.median_time() + 1, &[]);
    scene.announce(1..3, &chain);
    scene.listening.at(chain.tip().block_hash());
}

#[test]
fn blocks_of_the_future_wait_and_those_before_them_are_followed() {
    let mut chain = Chain::new();
    let scene = Scene::new(&chain, &[]);
    chain.mine_at(now() + 3600, &[]);
    let good = chain.tip().block_hash();
    let mut ahead = chain.clone();
    // Two hours and some more; more blocks on it, and all of them of more work.
    ahead.mine_at(now() + 3 * 3600, &[]);
    ahead.mine_empty(5);
    let marks = scene.marks();
    scene.announce(0..2, &ahead);
    scene.announce(2..3, &chain);
    scene.listening.at(good);
    scene.listening.hears_nothing_for(A_WHILE);
    // It may be our clock: nobody is banned for it.
    assert!((0..3).all(|at| !scene.is_banned(at)), "{:?}", scene.listening.state());
    chain.mine_empty(2);
    scene.announce(2..3, &chain);
    scene.listening.at(chain.tip().block_hash());
    let asked = scene.asked(&marks);
    assert!(asked.iter().all(|asked| *asked < 20), "{asked:?}");
}
