//! Merkle proofs.

use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::block::Header;

/// A transaction proven to be in a block of our own header tree. Its only constructor is [`prove`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenTx {
    tx: Arc<Transaction>,
    header: Header,
    height: u32,
    pos: u32,
}

impl ProvenTx {
    /// The transaction.
    pub fn tx(&self) -> &Arc<Transaction> {
        &self.tx
    }
    /// Header of its block.
    pub fn header(&self) -> &Header {
        &self.header
    }
    /// Height of its block.
    pub fn height(&self) -> u32 {
        self.height
    }
    /// Position in its block; 0 is the coinbase.
    pub fn pos(&self) -> u32 {
        self.pos
    }
}
