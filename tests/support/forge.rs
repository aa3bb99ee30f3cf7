//! Headers that nobody mined: with real regtest work, or with none.

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, TxMerkleNode};
use serde_json::{Value, json};

use super::adversary::{Clause, on};
use super::bitcoind::{Bitcoind, random};

/// A branch of headers on top of the real chain, that only its maker knows.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    /// Height of the last block that it shares with the real chain.
    fork: u32,
    headers: Vec<Header>,
}

impl Branch {
    /// `length` headers on the block at `fork`, ten minutes apart, each with the work that regtest wants.
    pub(crate) fn on(bitcoind: &Bitcoind, fork: u32, length: u32) -> Self {
        let parent = header(bitcoind, bitcoind.hash_at(fork));
        let mut headers: Vec<Header> = Vec::new();
        for _ in 0..length {
            let last = *headers.last().unwrap_or(&parent);
            headers.push(worked(Header {
                prev_blockhash: last.block_hash(),
                merkle_root: TxMerkleNode::from_byte_array(unique()),
                time: last.time + 600,
                ..last
            }));
        }
        Self { fork, headers }
    }

    /// The same with the times of `seconds` apart, for bending time.
    pub(crate) fn spaced(mut self, parent_time: u32, seconds: u32) -> Self {
        let mut last: Option<Header> = None;
        for header in &mut self.headers {
            let (prev, time) = last.map_or((header.prev_blockhash, parent_time), |last| (last.block_hash(), last.time));
            *header = worked(Header { prev_blockhash: prev, time: time.saturating_add(seconds), ..*header });
            last = Some(*header);
        }
        self
    }

    /// Its height.
    pub(crate) fn height(&self) -> u32 {
        self.fork + u32::try_from(self.headers.len()).expect("a few")
    }

    /// Its last block.
    pub(crate) fn tip(&self) -> BlockHash {
        self.headers.last().expect("a branch has headers").block_hash()
    }

    /// A server that takes this branch for the best chain: it says so to who subscribes, and shows its headers.
    pub(crate) fn shown(&self) -> Vec<Clause> {
        let (announced, answered, single) = (self.clone(), self.clone(), self.clone());
        let notified = self.clone();
        vec![
            on("blockchain.headers.subscribe").tampers(move |tip| *tip = announced.claim()),
            on("blockchain.headers.subscribe").notified().tampers(move |params| *params = json!([notified.claim()])),
            on("blockchain.block.headers").tampers(move |reply| answered.splice(reply)),
            on("blockchain.block.header").tampers(move |reply| single.splice(reply)),
        ]
    }

    /// What a notification says of its tip.
    pub(crate) fn claim(&self) -> Value {
        let tip = self.headers.last().expect("a branch has headers");
        json!({ "height": self.height(), "hex": serialize_hex(tip) })
    }

    /// Headers of a reply, replaced from where they leave the real chain. The reply tells no heights: what is replaced
    /// is known by its parents.
    pub(crate) fn splice(&self, reply: &mut Value) {
        let Some(hex) = reply["hex"].as_str() else { return };
        let mut headers: Vec<Header> = chunks(hex);
        let parent = self.headers[0].prev_blockhash;
        if let Some(at) = headers.iter().position(|header| header.prev_blockhash == parent) {
            headers.truncate(at);
            headers.extend(&self.headers);
        } else if headers.last().is_some_and(|last| last.block_hash() == parent) {
            headers.extend(&self.headers);
        }
        reply["count"] = json!(headers.len());
        reply["hex"] = json!(headers.iter().map(serialize_hex).collect::<String>());
    }
}

fn chunks(hex: &str) -> Vec<Header> {
    hex.as_bytes()
        .chunks(160)
        .map(|chunk| deserialize_hex(std::str::from_utf8(chunk).expect("hex")).expect("a header"))
        .collect()
}

/// The header of a block of the real chain.
pub(crate) fn header(bitcoind: &Bitcoind, hash: BlockHash) -> Header {
    deserialize_hex(&bitcoind.call::<String>("getblockheader", &[json!(hash), json!(false)])).expect("a header")
}

/// With a nonce that meets its own target.
pub(crate) fn worked(mut header: Header) -> Header {
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce = header.nonce.wrapping_add(1);
    }
    header
}

/// With a nonce that does not.
pub(crate) fn workless(mut header: Header) -> Header {
    while header.target().is_met_by(header.block_hash()) {
        header.nonce = header.nonce.wrapping_add(1);
    }
    header
}

/// Each block that is announced is announced without its work.
pub(crate) fn announces_no_work() -> Clause {
    on("blockchain.headers.subscribe").notified().tampers(|params| {
        let header = deserialize_hex(params[0]["hex"].as_str().expect("a header")).expect("a header");
        params[0]["hex"] = json!(serialize_hex(&workless(header)));
    })
}

fn unique() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&random().to_le_bytes());
    bytes
}
