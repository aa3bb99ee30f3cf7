use serde_json::{Value, json};

use super::super::tests::{block_value, genesis, id, mine, outside, pays, tx_value};
use super::*;

fn refused<T: std::fmt::Debug>(outcome: Result<T, SourceError>) -> String {
    match outcome {
        Err(SourceError::Refused(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn three_blocks() -> Vec<Value> {
    let first = mine(&genesis().header, 0, &[]);
    let second = mine(&first.header, 0, &[]);
    [genesis(), first, second].iter().enumerate().rev().map(|(height, block)| block_value(block, height)).collect()
}

#[test]
fn headers_come_newest_first_and_are_read_upwards() {
    let headers = blocks(&bytes(&json!(three_blocks()))).unwrap();
    assert_eq!(headers.iter().map(|(height, _)| *height).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(headers[0].1, genesis().header);
}

#[test]
fn a_version_with_its_highest_bit_is_read_signed_and_unsigned() {
    let mut block = mine(&genesis().header, 0, &[]);
    block.header.version = bitcoin::block::Version::from_consensus(-1);
    for version in [json!(-1), json!(u32::MAX)] {
        let mut value = block_value(&block, 1);
        value["version"] = version;
        assert_eq!(blocks(&bytes(&json!([value]))).unwrap(), [(1, block.header)]);
    }
}

#[test]
fn headers_that_do_not_hang_together_are_refused() {
    type Bend = fn(&mut Vec<Value>);
    let good = three_blocks();
    let bends: [Bend; 9] = [
        |all| all[0]["height"] = json!(7),
        |all| all[1]["nonce"] = json!(77),
        |all| all[1]["id"] = all[0]["id"].clone(),
        |all| all[2]["height"] = json!(4_000_000_000u64),
        |all| all[0]["timestamp"] = json!(-1),
        |all| all[0]["timestamp"] = json!(u64::MAX),
        |all| all.swap(0, 1),
        |all| drop(all.remove(1)),
        |all| all.clear(),
    ];
    for (index, bend) in bends.iter().enumerate() {
        let mut all = good.clone();
        bend(&mut all);
        assert!(refused(blocks(&bytes(&json!(all)))).contains("blocks"), "{index}");
    }
    let many: Vec<Value> = std::iter::repeat_n(good[2].clone(), MOST_BLOCKS + 1).collect();
    assert!(refused(blocks(&bytes(&json!(many)))).contains("number"));
}

#[test]
fn a_page_of_history_has_the_mempool_and_then_the_chain_from_above_with_bodies() {
    let [a, b, c] = [1, 2, 3].map(|number| pays(outside(number), &[9, 1]));
    let page = json!([tx_value(&a, None), tx_value(&b, Some(8)), tx_value(&c, Some(8))]);
    let read = history(&bytes(&page), id(1)).unwrap();
    assert_eq!(read.iter().map(|line| line.height).collect::<Vec<_>>(), [None, Some(8), Some(8)]);
    assert_eq!(read[0].tx.as_deref(), Some(&a));
    assert_eq!(read[0].coins, [OutPoint::new(a.compute_txid(), 1)]);
    assert_eq!(read[0].parents, [outside(1).txid]);
}

#[test]
fn a_body_that_does_not_add_up_is_not_used() {
    let tx = pays(outside(1), &[1]);
    let mut value = tx_value(&tx, None);
    value["locktime"] = json!(7);
    let read = history(&bytes(&json!([value])), id(1)).unwrap();
    assert_eq!((read[0].txid, &read[0].tx), (tx.compute_txid(), &None));
}

#[test]
fn histories_out_of_order_or_range_are_refused() {
    let [a, b] = [1, 2].map(|number| pays(outside(number), &[1]));
    let far = 4_000_000_000;
    for (page, why) in [
        (json!([tx_value(&a, Some(7)), tx_value(&b, Some(8))]), "order"),
        (json!([tx_value(&a, Some(7)), tx_value(&b, None)]), "order"),
        (json!([tx_value(&a, Some(7)), tx_value(&a, Some(7))]), "twice"),
        (json!([tx_value(&a, Some(far))]), "height"),
        (json!([{ "txid": a.compute_txid() }]), "history"),
        (json!({ "error": "too many requests" }), "history"),
    ] {
        assert!(refused(history(&bytes(&page), id(1))).contains(why), "{page}");
    }
    let mut value = tx_value(&a, Some(7));
    value["status"]["block_height"] = json!(null);
    assert!(refused(history(&bytes(&json!([value])), id(1))).contains("height"));
}

#[test]
fn depth_is_bounded_before_anything_is_read() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for refusal in [
        refused(history(deep.as_bytes(), id(1))),
        refused(blocks(deep.as_bytes())),
        refused(proof(deep.as_bytes(), 1)),
        refused(estimates(deep.as_bytes(), &[2])),
        refused(package_errors(deep.as_bytes())),
    ] {
        assert!(refusal.contains("deep"), "{refusal}");
    }
}

#[test]
fn hashes_are_read_strictly() {
    let hash = genesis().block_hash();
    assert_eq!(block_hash(format!("{hash}\n").as_bytes()).unwrap(), hash);
    for text in ["", "Too many requests", "{\"error\":1}", "00", &format!("{hash}00"), "\u{202e}"] {
        refused(block_hash(text.as_bytes()));
        refused(txid(text.as_bytes()));
    }
    refused(block_hash(&[0xff; 64]));
}

#[test]
fn a_position_that_no_block_has_room_for_is_a_lie() {
    let branch = |pos: Value| bytes(&json!({ "block_height": 7, "merkle": ["5a".repeat(32)], "pos": pos }));
    assert!(matches!(proof(&branch(json!(1)), 7), Ok(Reply::Proof { pos: 1, .. })));
    assert!(matches!(proof(&branch(json!(1u64 << 32)), 7), Err(SourceError::Lying(_))));
    refused(proof(&branch(json!(-1)), 7));
    refused(proof(&branch(json!(1)), 8));
}

#[test]
fn estimates_are_exact_and_a_missing_target_has_the_next_faster_ones_rate() {
    let body = br#"{"1":87.882,"3":20,"25":1.027,"144":-1,"1008":1e400,"x":5}"#;
    assert_eq!(estimates(body, &[2, 6, 144, 1008]).unwrap(), [(2, 87_882), (6, 20_000), (144, 1027), (1008, 1027)]);
    assert_eq!(estimates(b"{}", &[2, 6]).unwrap(), []);
    refused(estimates(b"[]", &[2]));
    refused(estimates(b"null", &[2]));
}

#[test]
fn the_histogram_is_that_of_electrum() {
    let body = br#"{"count":2,"vsize":3,"total_fee":4,"fee_histogram":[[53.01,102131],[1.1,775272]]}"#;
    assert_eq!(histogram(body).unwrap(), [(53_010, 102_131), (1100, 775_272)]);
    refused(histogram(br#"{"fee_histogram":[[1.0,2],[3.0,4]]}"#));
    refused(histogram(b"{}"));
}

#[test]
fn a_package_is_taken_or_says_why_not() {
    let wtxid = "5a".repeat(32);
    let taken = json!({ "package_msg": "success", "tx-results": { &wtxid: { "txid": wtxid } } });
    assert_eq!(package_errors(&bytes(&taken)).unwrap(), [""; 0]);
    let result = json!({ "txid": wtxid, "error": "min relay fee not met" });
    let refusal = json!({ "package_msg": "transaction failed", "tx-results": { &wtxid: result } });
    assert_eq!(package_errors(&bytes(&refusal)).unwrap(), ["min relay fee not met"]);
    let silent = json!({ "package_msg": "package-not-child-with-unconfirmed-parents", "tx-results": {} });
    assert_eq!(package_errors(&bytes(&silent)).unwrap(), ["package-not-child-with-unconfirmed-parents"]);
}
