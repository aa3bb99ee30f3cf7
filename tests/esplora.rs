//! Esplora servers: what they cost, what they must not get away with, and that the one of the tests is one.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Block, BlockHash, Transaction, Txid};
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::esplora::{Esplora, Page};
use crate::support::eventually::{eventually, throughout};
use crate::support::scenes::{pay, two_nodes_with_a_channel};
use crate::support::world::{A_WHILE, Kind, World, with};

fn in_esploras_world(story: impl FnOnce(World)) {
    with(Kind::Esplora, || story(World::new()));
}

#[test]
fn a_deposit_is_seen_in_the_mempool_and_confirmed_by_its_block_alone() {
    in_esploras_world(|world| {
        let alice = Daemon::new(&world, "alice").started();
        let txid = world.bitcoind.pay(alice.address(), 123_456).to_string();
        alice.balance_is("onchain_pending_sat", 123_456);
        assert_eq!(alice.balance("onchain_confirmed_sat"), 0);
        assert_eq!(alice.entry(&txid, "pending")["amount_msat"], 123_456_000);
        let mark = world.esplora().mark();
        world.bitcoind.mine(1);
        alice.balance_is("onchain_confirmed_sat", 123_456);
        assert_eq!(alice.entry(&txid, "succeeded")["height"], json!(world.bitcoind.height()));
        // The block has the body and the proof in it.
        let asked = world.esplora().since(mark);
        assert_eq!(asked.iter().filter(|one| one.path.ends_with("/raw")).count(), 1, "{asked:?}");
        assert!(asked.iter().all(|one| !one.path.contains("merkle-proof")), "{asked:?}");
    });
}

#[test]
fn a_block_with_nothing_of_ours_costs_one_request_beside_the_looks() {
    in_esploras_world(|world| {
        let alice = Daemon::new(&world, "alice").started();
        alice.funded(&world, 50_000);
        let server = world.esplora();
        let mark = server.mark();
        world.bitcoind.mine(1);
        alice.at_height(world.bitcoind.height());
        let others: Vec<_> = server
            .since(mark)
            .into_iter()
            .map(|one| one.path)
            .filter(|path| path != "/blocks/tip/hash" && !path.ends_with("/mempool") && path != "/fee-estimates")
            .collect();
        // A settled script is subscribed anew now and then.
        let blocks = others.iter().filter(|path| path.starts_with("/block")).count();
        assert_eq!(blocks, 1, "{others:?}");
        assert!(others.len() <= 2, "{others:?}");
    });
}

#[test]
fn an_idle_node_looks_once_in_an_interval() {
    in_esploras_world(|world| {
        let alice = Daemon::new(&world, "alice");
        alice.configure(&world.servers(), "[chain]\npoll_interval_secs = 2\n");
        let alice = alice.started();
        let server = world.esplora();
        // The first interval is quick.
        let mark = eventually("the quick looks to be over", || server.count(0, "/tip/hash"), |looks| *looks >= 6);
        let begun = std::time::Instant::now();
        eventually("five more looks", || server.count(0, "/tip/hash"), |looks| *looks >= mark + 5);
        assert!(begun.elapsed().as_secs() >= 8, "{:?}", begun.elapsed());
        alice.ready();
    });
}

#[test]
fn a_node_that_follows_esplora_says_so() {
    in_esploras_world(|world| {
        let alice = Daemon::new(&world, "alice").started();
        let server = alice.json(&["status"])["servers"][0].clone();
        assert_eq!(server["address"], json!(world.esplora().url()), "{server}");
        assert_eq!(server["role"], "in_use", "{server}");
        assert!(server["software"].as_str().is_some_and(|name| name.contains("esplora")), "{server}");
    });
}

#[test]
fn a_server_of_another_network_is_refused_in_the_same_words_as_an_electrum_server() {
    in_esploras_world(|world| {
        let mut other = Daemon::new(&world, "signet");
        let text = format!("network = \"signet\"\n[[server]]\nurl = \"{}\"\n[node]\nlisten = []\n", world.server());
        std::fs::write(other.folder().join("lightnode.toml"), text).expect("the test's own folder");
        other.start();
        let status = eventually(
            "the server to be refused",
            || other.answering(),
            |status| status["servers"][0]["trouble"].as_str().is_some_and(|words| words.contains("network")),
        );
        assert_ne!(status["state"], "ready", "{status}");
    });
}

#[test]
fn a_deposit_that_is_said_to_be_in_a_block_without_proof_is_not_credited_and_the_liar_banned() {
    in_esploras_world(|world| {
        let (alice, height) = (served_by_a_liar(&world), world.bitcoind.height());
        lies(&world, move |path, page| match path {
            _ if path.contains("/txs") => bent(page, |history| {
                for tx in history.as_array_mut().into_iter().flatten() {
                    tx["status"] = json!({ "confirmed": true, "block_height": height });
                }
            }),
            _ if path.ends_with("/merkle-proof") => {
                Page::json(&json!({ "block_height": height, "merkle": ["5a".repeat(32)], "pos": 1 }))
            }
            _ => page,
        });
        let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
        banned(&alice, "it sent a proof that does not prove what it says");
        world.esplora().clear_rule();
        alice.entry(&txid, "pending");
        assert_eq!(alice.balance("onchain_confirmed_sat"), 0);
    });
}

#[test]
fn an_impossible_position_bans_at_the_door() {
    in_esploras_world(|world| {
        let alice = served_by_a_liar(&world);
        let height = world.bitcoind.height();
        lies(&world, move |path, page| match path {
            _ if path.contains("/txs") => bent(page, |history| {
                for tx in history.as_array_mut().into_iter().flatten() {
                    tx["status"] = json!({ "confirmed": true, "block_height": height });
                }
            }),
            _ if path.ends_with("/merkle-proof") => {
                Page::json(&json!({ "block_height": height, "merkle": [], "pos": 1u64 << 40 }))
            }
            _ => page,
        });
        world.bitcoind.pay(alice.address(), 70_000);
        banned(&alice, "the server sent a proof for an impossible position");
    });
}

#[test]
fn another_body_than_asked_for_is_refused_and_never_shown_as_a_deposit() {
    in_esploras_world(|world| {
        let alice = served_by_a_liar(&world);
        lies(&world, |path, page| match path {
            // What it tells of the transaction does not add up, so that the body is asked for.
            _ if path.contains("/txs") => bent(page, |history| {
                history.as_array_mut().into_iter().flatten().for_each(|tx| tx["version"] = json!(7));
            }),
            _ if path.starts_with("/tx/") && path.ends_with("/raw") => {
                let mut tx: Transaction = deserialize(&page.body).expect("a transaction");
                tx.output.iter_mut().for_each(|output| output.value *= 100);
                Page::ok(serialize(&tx))
            }
            _ => page,
        });
        let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
        banned(&alice, "it sent another transaction than asked for");
        world.esplora().clear_rule();
        alice.balance_is("onchain_pending_sat", 70_000);
        assert_eq!(alice.entry(&txid, "pending")["amount_msat"], 70_000_000);
    });
}

#[test]
fn a_block_whose_header_has_no_work_bans_and_the_chain_is_followed_elsewhere() {
    in_esploras_world(|world| {
        let alice = served_by_a_liar(&world);
        let genuine = world.bitcoind.best_hash();
        let mut forged: Option<Block> = None;
        lies(&world, move |path, page| {
            if path == "/blocks/tip/hash" {
                let said = String::from_utf8(page.body.clone()).expect("a hash");
                let new: BlockHash = said.parse().expect("a hash");
                return match &forged {
                    _ if new == genuine => page,
                    Some(block) => Page::ok(block.block_hash().to_string()),
                    None => page,
                };
            }
            if path.ends_with("/raw") && path.starts_with("/block/") {
                if let Ok(mut block) = deserialize::<Block>(&page.body) {
                    while block.header.target().is_met_by(block.block_hash()) {
                        block.header.nonce = block.header.nonce.wrapping_add(1);
                    }
                    forged = Some(block);
                }
                if let Some(block) = forged.as_ref().filter(|block| path.contains(&block.block_hash().to_string())) {
                    return Page::ok(serialize(block));
                }
                return Page::new(404, "Block not found");
            }
            page
        });
        world.bitcoind.mine(1);
        banned(&alice, "it sent a header that breaks the rules of the network");
        world.esplora().clear_rule();
        alice.at_height(world.bitcoind.height());
        assert_eq!(alice.json(&["status"])["tip"]["hash"], json!(world.bitcoind.best_hash()));
    });
}

#[test]
fn a_server_that_lists_nothing_of_a_deposit_cannot_hide_it_in_its_block() {
    in_esploras_world(|world| {
        let alice = Daemon::new(&world, "alice").started();
        world
            .esplora()
            .set_rule(|path, page| if path.contains("/scripthash/") { Page::json(&json!([])) } else { page });
        let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
        world.bitcoind.mine(1);
        alice.balance_is("onchain_confirmed_sat", 70_000);
        assert_eq!(alice.entry(&txid, "succeeded")["height"], json!(world.bitcoind.height()));
    });
}

#[test]
fn garbage_leaves_the_node_up_and_the_truth_is_found_afterwards() {
    in_esploras_world(|world| {
        let alice = Daemon::new(&world, "alice").started();
        // The rest of the kinds stands beside the client: each time the server is left it is left for longer.
        let html = "<html>\u{1b}[2J\u{202e}</html>".as_bytes().to_vec();
        for (what, garbage) in [("html", html), ("20 MB", vec![b'['; 20 << 20])] {
            world.esplora().set_rule(move |_, _| Page::ok(garbage.clone()));
            let mark = world.esplora().mark();
            world.bitcoind.mine(1);
            eventually(what, || world.esplora().mark(), |asked| *asked > mark + 2);
            alice.answering();
        }
        world.esplora().clear_rule();
        let txid = world.bitcoind.pay(alice.address(), 70_000).to_string();
        world.bitcoind.mine(1);
        alice.entry(&txid, "succeeded");
        assert!(!alice.log().contains('\u{1b}'), "written raw into the log");
    });
}

#[test]
fn a_server_that_asks_for_peace_is_left_alone_and_another_one_serves() {
    in_esploras_world(|world| {
        let other = Esplora::run(world.bitcoind.another_client());
        let alice = Daemon::with_servers(&world, "alice", &[world.server(), other.url()]).started();
        world.esplora().set_rule(|_, _| Page::new(429, "{\"error\":\"too many requests\"}").with("retry-after", "300"));
        world.bitcoind.mine(1);
        alice.at_height(world.bitcoind.height());
        let status = eventually(
            "the first to be left alone",
            || alice.answering(),
            |status| status["servers"][0]["role"] != "in_use" && status["servers"][0]["role"] != "connecting",
        );
        assert!(status["servers"][0]["trouble"].as_str().is_some_and(|words| words.contains("slow down")), "{status}");
        let mark = world.esplora().mark();
        throughout(A_WHILE * 4, "nothing is asked meanwhile", || world.esplora().mark() == mark);
    });
}

#[test]
fn a_channel_lives_on_a_server_that_is_slow_and_refuses_now_and_then() {
    in_esploras_world(|world| {
        let mut number = 0;
        world.esplora().set_rule(move |_, page| {
            number += 1;
            match number % 17 {
                0 => Page::new(429, "").with("retry-after", "1"),
                9 => Page::new(500, "Internal server error"),
                _ => page,
            }
        });
        let (alice, bob) = two_nodes_with_a_channel(&world);
        pay(&alice, &bob, 50_000);
    });
}

#[test]
fn the_server_of_the_tests_says_what_another_projects_client_expects() {
    in_esploras_world(|world| {
        let client = esplora_client::Builder::new(&world.esplora().url()).max_retries(0).build_blocking();
        let address: bitcoin::Address<bitcoin::address::NetworkUnchecked> =
            world.bitcoind.new_address().parse().expect("an address");
        let script = address.assume_checked().script_pubkey();
        let first =
            world.bitcoind.pay(bitcoin::Address::from_script(&script, bitcoin::Network::Regtest).unwrap(), 1000);
        world.bitcoind.mine(1);
        let second =
            world.bitcoind.pay(bitcoin::Address::from_script(&script, bitcoin::Network::Regtest).unwrap(), 2000);
        let (height, best) = (world.bitcoind.height(), world.bitcoind.best_hash());

        assert_eq!(client.get_height().unwrap(), height);
        assert_eq!(client.get_tip_hash().unwrap(), best);
        assert_eq!(client.get_block_hash(0).unwrap(), world.bitcoind.hash_at(0));
        assert!(client.get_block_hash(height + 1).is_err());
        assert_eq!(client.get_block_by_hash(&best).unwrap(), Some(world.bitcoind.block(best)));
        assert_eq!(client.get_header_by_hash(&best).unwrap().block_hash(), best);
        assert!(client.get_block_status(&best).unwrap().in_best_chain);
        let infos = client.get_block_infos(Some(height - 5)).unwrap();
        assert_eq!((infos.len(), infos[0].height, infos[9].height), (10, height - 5, height - 14));
        assert_eq!(client.get_block_infos(Some(0)).unwrap()[0].previousblockhash, None);

        let listed = client.get_scripthash_txs(&script, None).unwrap();
        assert_eq!(listed.iter().map(|tx| tx.txid).collect::<Vec<_>>(), [second, first]);
        assert_eq!(listed[1].to_tx(), world.bitcoind.raw_tx(first));
        assert_eq!(listed[1].status.block_height, Some(height));
        assert!(listed[1].fee.to_sat() > 0);
        assert_eq!(client.get_mempool_scripthash_txs(&script).unwrap().len(), 1);
        let stats: Value = stats(&client, &script);
        assert_eq!(
            (&stats["chain_stats"]["tx_count"], &stats["mempool_stats"]["funded_txo_sum"]),
            (&json!(1), &json!(2000))
        );

        assert_eq!(client.get_tx(&first).unwrap(), Some(world.bitcoind.raw_tx(first)));
        assert_eq!(client.get_tx(&Txid::all_zeros()).unwrap(), None);
        let proof = client.get_merkle_proof(&first).unwrap().expect("a proof");
        assert_eq!(proof.block_height, height);
        assert!(client.get_merkle_proof(&second).unwrap().is_none());
        let block = client.get_merkle_block(&first).unwrap().expect("a proof");
        assert_eq!(block.header.block_hash(), best);
        let input = world.bitcoind.raw_tx(first).input[0].previous_output;
        let spent = client.get_output_status(&input.txid, u64::from(input.vout)).unwrap().expect("a status");
        assert_eq!((spent.spent, spent.txid), (true, Some(first)));
        assert!(!client.get_tx_outspends(&second).unwrap().is_empty());

        assert!(client.get_fee_estimates().unwrap().is_empty());
        assert_eq!(client.get_mempool_stats().unwrap().count, 1);
        assert_eq!(client.get_mempool_txids().unwrap(), [second]);
        let again = client.broadcast(&world.bitcoind.raw_tx(first)).unwrap_err().to_string();
        assert!(again.contains("400") && again.contains("-27"), "{again}");
    });
}

#[test]
fn several_transactions_of_a_script_in_one_block_have_the_status_that_electrum_gives_them() {
    with(Kind::Both, || {
        let world = World::new();
        let addresses: Vec<_> = (0..3).map(|_| world.bitcoind.new_address()).collect();
        for address in addresses.iter().cycle().take(9) {
            world.bitcoind.pay(address, 10_000);
        }
        world.mine(1);
        let alice = Daemon::with_servers(&world, "alice", &[world.servers().swap_remove(1)]).started();
        // Any node would do: what it is asked is what matters.
        let own = alice.address();
        for _ in 0..3 {
            world.bitcoind.pay(&own, 20_000);
        }
        world.mine(1);
        alice.balance_is("onchain_confirmed_sat", 60_000);
        let script = own.parse::<bitcoin::Address<_>>().expect("an address").assume_checked().script_pubkey();
        let history = world.probe().history(&script);
        let text: String = history
            .iter()
            .map(|item| format!("{}:{}:", item["tx_hash"].as_str().expect("a txid"), item["height"]))
            .collect();
        let status = sha256::Hash::hash(text.as_bytes());
        // From Esplora to ElectrumX: the stored status is the same, so nothing is fetched again.
        let mut alice = alice;
        alice.stop();
        let proxy = world.proxy();
        alice.configure(&[proxy.url()], "");
        alice.start();
        alice.ready();
        assert!(proxy.transcript().0.iter().any(|line| line.body["result"] == json!(status.to_string())));
        assert_eq!(proxy.transcript().count("blockchain.scripthash.get_history"), 0);
        assert_eq!(alice.balance("onchain_confirmed_sat"), 60_000);
    });
}

fn stats(client: &esplora_client::BlockingClient, script: &bitcoin::Script) -> Value {
    let stats = client.get_scripthash_stats(script).expect("stats");
    json!({
        "chain_stats": { "tx_count": stats.chain_stats.tx_count },
        "mempool_stats": { "funded_txo_sum": stats.mempool_stats.funded_txo_sum.to_sat() },
    })
}

/// Alice's wallet is served by the world's Esplora under one name, since she knew no other server at first, and could be
/// by the same under another: a ban is of a host.
fn served_by_a_liar(world: &World) -> Daemon {
    let servers = [world.esplora().url(), world.esplora().other_url()];
    let mut alice = Daemon::with_servers(world, "alice", &servers[..1]).started();
    alice.stop();
    alice.configure(&servers, "");
    alice.start();
    alice.ready();
    let duties = || alice.json(&["servers"])[0]["duties"].clone();
    eventually("the liar to serve the wallet", duties, |duties| duties.to_string().contains("wallet"));
    alice
}

fn lies(world: &World, rule: impl FnMut(&str, Page) -> Page + Send + 'static) {
    world.esplora().set_rule(rule);
}

fn bent(page: Page, bend: impl FnOnce(&mut Value)) -> Page {
    let Ok(mut body) = serde_json::from_slice(&page.body) else { return page };
    bend(&mut body);
    Page { body: body.to_string().into_bytes(), ..page }
}

/// Waits until the first server is banned for this reason.
fn banned(node: &Daemon, why: &str) {
    let status =
        eventually("the liar to be banned", || node.answering(), |status| status["servers"][0]["role"] == "banned");
    assert_eq!(status["servers"][0]["trouble"], why, "{status}");
}
