//! The header tree.

use bitcoin::BlockHash;
use bitcoin::block::Header;

/// Headers that passed the rules, linked; knows the best chain.
#[derive(Debug)]
pub struct HeaderTree {}

impl HeaderTree {
    /// Header of the best chain at `height`, if the tree reaches there.
    pub fn header_at(&self, _height: u32) -> Option<Header> {
        None
    }
    /// Hash of the best chain's block at `height`, if the tree reaches there.
    pub fn hash_at(&self, _height: u32) -> Option<BlockHash> {
        None
    }
    /// Height of the best chain's tip.
    pub fn height(&self) -> u32 {
        0
    }
}
