//! A chain of our own making, for tests.

use bitcoin::block::{self, Header};
use bitcoin::hashes::Hash;
use bitcoin::pow::CompactTarget;
use bitcoin::{BlockHash, Transaction, TxMerkleNode};

use super::confirm::{BestChain, BlockNews, News};
use crate::chain::io::BlockRef;

/// A chain in letters: the block at height `h` of chain "aab" is made of the letters up to `h`.
pub(super) struct Letters(pub(super) &'static str);

impl Letters {
    pub(super) fn header(&self, height: u32) -> Option<Header> {
        let letters = self.0.get(..height as usize)?;
        let prev = match height {
            0 => BlockHash::all_zeros(),
            _ => self.header(height - 1)?.block_hash(),
        };
        Some(Header {
            version: block::Version::ONE,
            prev_blockhash: prev,
            merkle_root: TxMerkleNode::hash(letters.as_bytes()),
            time: height,
            bits: CompactTarget::from_consensus(0),
            nonce: 0,
        })
    }

    /// Height of its tip.
    pub(super) fn height(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn at(&self, height: u32) -> BlockRef {
        BlockRef { height, hash: self.header(height).expect("in the chain").block_hash() }
    }

    pub(super) fn news<'a>(
        &self,
        fork: Option<u32>,
        block: Option<(u32, &'a [Transaction])>,
        tip: Option<u32>,
    ) -> News<'a> {
        News {
            fork: fork.map(|height| self.at(height)),
            block: block.map(|(height, txs)| BlockNews {
                header: self.header(height).expect("in the chain"),
                height,
                txs: txs.iter().enumerate().collect(),
            }),
            tip: tip.map(|height| (self.header(height).expect("in the chain"), height)),
        }
    }
}

impl BestChain for Letters {
    fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.header(height).map(|header| header.block_hash())
    }
}
