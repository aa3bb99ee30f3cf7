//! What servers claim about fees. Claims: the engine's fee book caps and compares them.

/// A claim of a server about fees. All rates are in satoshi per 1000 virtual bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeeClaims {
    /// Target in blocks and the rate for it, fastest target first; a target without an estimate is absent.
    pub estimates: Vec<(u16, u64)>,
    /// The lowest rate that the server's node relays or keeps now.
    pub relay: Option<u64>,
    /// The mempool by rate, highest first: rate and virtual bytes that pay it.
    pub histogram: Vec<(u64, u64)>,
}

/// The targets asked for, in blocks, fastest first.
pub const TARGETS: [u16; 4] = [2, 6, 144, 1008];
