//! Networks: genesis, proof-of-work limits, retargeting rules, checkpoints.

use bitcoin::block::Header;
use bitcoin::{BlockHash, Network, consensus, constants};

use super::io::BlockRef;

/// How the next `bits` follow from the headers before (Bitcoin Core, `pow.cpp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retarget {
    /// Every 2016 blocks, from the last block's bits: mainnet and signet.
    Steady,
    /// As [`Retarget::Steady`], and a block more than 20 minutes after its parent may have the limit: testnet3.
    TwentyMinutes,
    /// As [`Retarget::TwentyMinutes`], from the *first* block's bits, against the time warp: testnet4 (BIP 94).
    Bip94,
    /// Always the limit: regtest.
    Constant,
}

/// What the header rules need to know of a network.
#[derive(Clone, Debug)]
pub struct Params {
    /// Limit, spacing and timespan as the `bitcoin` crate has them.
    pub(super) consensus: &'static consensus::Params,
    /// The flavour of the retarget rule.
    pub(super) retarget: Retarget,
    /// Ascending. All but genesis are blocks that Bitcoin Core ships as assumevalid or assumeutxo.
    pub(super) checkpoints: Vec<BlockRef>,
}

/// Blocks between two retargets.
pub(super) const PERIOD: u32 = 2016;

/// The newest block of this table also stands for Core's minimum chain work (for mainnet at 938343:
/// 0x1128750f82f4c366153a3a030): a chain that does not hold it is refused whatever its work.
const MAINNET: &[(u32, &str)] = &[
    (840_000, "0000000000000000000320283a032748cef8227873ff4872689bf23f1cda83a5"),
    (880_000, "000000000000000000010b17283c3c400507969a9c2afd1dcf2082ec5cca2880"),
    (910_000, "0000000000000000000108970acb9522ffd516eae17acddcb1bd16469194a821"),
    (935_000, "0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee"),
    (938_343, "00000000000000000000ccebd6d74d9194d8dcdc1d177c478e094bfad51ba5ac"),
];
const TESTNET3: &[(u32, &str)] = &[(4_842_348, "000000007a61e4230b28ac5cb6b5e5a0130de37ac1faf2f8987d2fa6505b67f4")];
const TESTNET4: &[(u32, &str)] = &[(123_613, "0000000002368b1e4ee27e2e85676ae6f9f9e69579b29093e9a82c170bf7cf8a")];
const SIGNET: &[(u32, &str)] = &[(293_175, "00000008414aab61092ef93f1aacc54cf9e9f16af29ddad493b908a01ff5c329")];

impl Params {
    /// The rules of a network.
    pub fn new(network: Network) -> Self {
        let (retarget, table) = match network {
            Network::Bitcoin => (Retarget::Steady, MAINNET),
            Network::Testnet => (Retarget::TwentyMinutes, TESTNET3),
            Network::Testnet4 => (Retarget::Bip94, TESTNET4),
            Network::Signet => (Retarget::Steady, SIGNET),
            Network::Regtest => (Retarget::Constant, &[][..]),
        };
        let genesis = BlockRef { height: 0, hash: constants::genesis_block(network).block_hash() };
        let known = table.iter().map(|&(height, hex)| BlockRef {
            height,
            hash: hex.parse::<BlockHash>().expect("the table above holds hashes of 64 hex digits"),
        });
        Params { consensus: network.params(), retarget, checkpoints: std::iter::once(genesis).chain(known).collect() }
    }

    /// The network.
    pub fn network(&self) -> Network {
        self.consensus.network
    }

    /// The first header of the network.
    pub fn genesis(&self) -> Header {
        constants::genesis_block(self.network()).header
    }

    /// The newest block that is known without asking anybody; genesis where there is no other.
    pub fn newest_checkpoint(&self) -> BlockRef {
        *self.checkpoints.last().expect("genesis is always in the list")
    }

    /// The newest checkpoint at or below `height`.
    pub(super) fn checkpoint_below(&self, height: u32) -> BlockRef {
        let reached = self.checkpoints.iter().rev().find(|c| c.height <= height);
        *reached.expect("genesis, at height 0, is always in the list")
    }

    /// False where a block at this height must have another hash.
    pub(super) fn allows(&self, block: BlockRef) -> bool {
        self.checkpoints.iter().all(|c| c.height != block.height || c.hash == block.hash)
    }
}

/// The first height of the retarget period that `height` is in.
pub(super) fn period_start(height: u32) -> u32 {
    height - height % PERIOD
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Network; 5] =
        [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];

    #[test]
    fn checkpoints_ascend_and_leave_eleven_headers_of_their_period_for_the_median_time() {
        for network in ALL {
            let params = Params::new(network);
            assert!(params.checkpoints.windows(2).all(|w| w[0].height < w[1].height), "{network}");
            let newest = params.newest_checkpoint().height;
            assert!(newest == 0 || newest - period_start(newest) >= 10, "{network}");
        }
    }

    #[test]
    fn the_period_of_every_retargeting_network_is_2016_blocks() {
        for network in ALL {
            assert_eq!(network.params().difficulty_adjustment_interval(), u64::from(PERIOD));
        }
    }

    #[test]
    fn another_hash_at_a_checkpoint_is_not_allowed() {
        let params = Params::new(Network::Signet);
        let cp = params.newest_checkpoint();
        assert!(params.allows(cp));
        assert!(!params.allows(BlockRef { height: cp.height, hash: params.checkpoints[0].hash }));
        assert!(params.allows(BlockRef { height: cp.height + 1, hash: cp.hash }));
    }
}
