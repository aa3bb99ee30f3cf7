use std::collections::BTreeMap;

use bitcoin::{Network, constants};
use proptest::prelude::*;

use super::*;
use crate::chain::testing;

const LIMIT: u32 = 0x1d00_ffff;

/// Ancestors by height; only what a rule looks at is filled in.
struct Chain(BTreeMap<u32, Header>);

impl Ancestry for Chain {
    fn ancestor(&self, height: u32) -> Option<Header> {
        self.0.get(&height).copied()
    }
}

fn header(time: u32, bits: u32) -> Header {
    Header { time, bits: CompactTarget::from_consensus(bits), ..testing::genesis() }
}

fn chain(headers: &[(u32, u32, u32)]) -> Chain {
    Chain(headers.iter().map(|&(height, time, bits)| (height, header(time, bits))).collect())
}

fn next(network: Network, height: u32, time: u32, chain: &Chain) -> u32 {
    let parent = chain.0[&(height - 1)];
    next_bits(&Params::new(network), height, &parent, time, chain).unwrap().to_consensus()
}

#[test]
fn block_1_of_mainnet_follows_genesis() {
    let genesis = constants::genesis_block(Network::Bitcoin).header;
    let block = Header {
        version: Version::ONE,
        prev_blockhash: genesis.block_hash(),
        merkle_root: "0e3e2357e806b6cdb1f70b54c3a3a17b6714ee1f0e68bebb44a74b1efd512098".parse().unwrap(),
        time: 1_231_469_665,
        bits: CompactTarget::from_consensus(LIMIT),
        nonce: 2_573_394_689,
    };
    let chain = Chain(BTreeMap::from([(0, genesis)]));
    let params = Params::new(Network::Bitcoin);
    let hash = check(&params, &block, 1, &chain, 1_700_000_000).unwrap();
    assert_eq!(hash.to_string(), "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048");

    let lazy = Header { nonce: 0, ..block };
    assert_eq!(check(&params, &lazy, 1, &chain, 1_700_000_000), Err(Fault::Work.into()));
    let easy = Header { bits: CompactTarget::from_consensus(0x1e00_ffff), ..block };
    assert_eq!(check(&params, &easy, 1, &chain, 1_700_000_000), Err(Fault::Bits.into()));
}

/// The vectors of Bitcoin Core's `pow_tests.cpp`.
#[test]
fn retargets_of_mainnet_are_those_of_core() {
    for (last, first_time, last_time, bits, expected) in [
        (32_255, 1_261_130_161, 1_262_152_739, 0x1d00_ffff, 0x1d00_d86a),
        (2_015, 1_231_006_505, 1_233_061_996, 0x1d00_ffff, 0x1d00_ffff),
        (68_543, 1_279_008_237, 1_279_297_671, 0x1c05_a3f4, 0x1c01_68fd),
        (46_367, 1_263_163_443, 1_269_211_443, 0x1c38_7f6f, 0x1d00_e1fd),
    ] {
        let chain = chain(&[(last + 1 - PERIOD, first_time, bits), (last, last_time, bits)]);
        assert_eq!(next(Network::Bitcoin, last + 1, last_time + 1, &chain), expected, "height {}", last + 1);
    }
}

#[test]
fn within_a_period_the_bits_stay() {
    let chain = chain(&[(100, 5_000, 0x1c05_a3f4)]);
    assert_eq!(next(Network::Bitcoin, 101, 1_000_000, &chain), 0x1c05_a3f4);
}

#[test]
fn a_period_that_ends_before_it_began_counts_as_the_shortest() {
    let bits = 0x1c05_a3f4;
    let backwards = chain(&[(0, 2_000_000, bits), (2015, 1_000_000, bits)]);
    let shortest = chain(&[(0, 1_000_000, bits), (2015, 1_000_000, bits)]);
    let height = PERIOD;
    let expected = next(Network::Bitcoin, height, 0, &shortest);
    assert_eq!(next(Network::Bitcoin, height, 0, &backwards), expected);
    assert_eq!(expected, 0x1c01_68fd);
}

#[test]
fn testnet3_allows_the_limit_after_twenty_minutes_and_looks_back_for_the_real_bits() {
    let real = 0x1c05_a3f4;
    let chain = chain(&[(4032, 0, real), (4033, 600, real), (4034, 3000, LIMIT), (4035, 6000, LIMIT)]);
    let after = |minutes: u32| next(Network::Testnet, 4036, 6000 + minutes * 60, &chain);
    assert_eq!(after(20), real, "exactly twenty minutes are not more than twenty");
    assert_eq!(next(Network::Testnet, 4036, 6000 + 1201, &chain), LIMIT);
    assert_eq!(after(1), real);
}

#[test]
fn the_look_back_of_testnet3_ends_at_the_start_of_the_period() {
    let chain = chain(&[(4031, 0, 0x1c05_a3f4), (4032, 600, LIMIT), (4033, 1200, LIMIT)]);
    assert_eq!(next(Network::Testnet, 4034, 1300, &chain), LIMIT);
}

#[test]
fn a_retarget_starts_from_the_last_bits_on_testnet3_and_from_the_first_on_testnet4() {
    let real = 0x1c05_a3f4;
    let two_weeks = 14 * 24 * 3600;
    let chain = chain(&[(2016, 0, real), (4031, two_weeks, LIMIT)]);
    assert_eq!(next(Network::Testnet, 4032, two_weeks + 1, &chain), LIMIT);
    assert_eq!(next(Network::Testnet4, 4032, two_weeks + 1, &chain), real);
}

#[test]
fn regtest_always_has_its_limit() {
    let chain = chain(&[(0, 0, 0x207f_ffff), (2015, 1, 0x207f_ffff)]);
    assert_eq!(next(Network::Regtest, 2016, 2, &chain), 0x207f_ffff);
}

#[test]
fn signet_never_is_easier_than_its_limit() {
    let chain = chain(&[(0, 0, 0x1e03_77ae), (2015, u32::MAX, 0x1e03_77ae)]);
    assert_eq!(next(Network::Signet, 2016, 2, &chain), 0x1e03_77ae);
}

/// Eleven headers ten minutes apart; the median is that of the sixth.
fn eleven() -> (Chain, Header, u32) {
    let mut headers = vec![testing::genesis()];
    headers.extend(testing::chain(&testing::genesis(), 10, 1));
    let (last, median) = (headers[10], headers[5].time);
    (Chain((0..).zip(headers).collect()), last, median)
}

fn at(parent: &Header, time: u32) -> Header {
    let mut header = Header { time, ..testing::mine(parent, testing::salted(9)) };
    testing::grind(&mut header);
    header
}

#[test]
fn a_header_must_be_later_than_the_median_of_eleven() {
    let (chain, last, median) = eleven();
    let params = Params::new(Network::Regtest);
    let late = u64::from(last.time) + 1000;
    assert_eq!(check(&params, &at(&last, median), 11, &chain, late), Err(Fault::MedianTime.into()));
    assert!(check(&params, &at(&last, median + 1), 11, &chain, late).is_ok());
}

#[test]
fn a_header_two_hours_ahead_of_a_sane_clock_has_to_wait() {
    let (chain, last, median) = eleven();
    let params = Params::new(Network::Regtest);
    let clock = last.time + 1000;
    let (good, early) = (at(&last, clock + 7200), at(&last, clock + 7201));
    assert!(check(&params, &good, 11, &chain, clock.into()).is_ok());
    assert_eq!(check(&params, &early, 11, &chain, clock.into()), Err(Failed::Future));
    assert!(check(&params, &early, 11, &chain, u64::from(median) - 1).is_ok(), "that clock is wrong");
}

#[test]
fn old_versions_are_refused_where_the_soft_forks_are_active() {
    let allowed =
        |network, version, height| version_allowed(&Params::new(network), Version::from_consensus(version), height);
    assert!(allowed(Network::Bitcoin, 1, 227_930));
    assert!(!allowed(Network::Bitcoin, 1, 227_931));
    assert!(!allowed(Network::Bitcoin, 2, 363_725));
    assert!(!allowed(Network::Bitcoin, 3, 388_381));
    assert!(allowed(Network::Bitcoin, 4, 388_381));
    assert!(!allowed(Network::Bitcoin, -1, 388_381));
    assert!(allowed(Network::Bitcoin, 0x2000_0000, 900_000));
    assert!(allowed(Network::Regtest, 1, 900_000));
}

proptest! {
    #[test]
    fn retargets_agree_with_the_bitcoin_crate(
        first in 0u32..2_000_000_000,
        span in 0u32..10_000_000,
        bits in 0x1b00_8000u32..0x1c7f_ffff,
    ) {
        let chain = chain(&[(2016, first, bits), (4031, first + span, bits)]);
        let rules = Network::Bitcoin.params();
        let theirs = CompactTarget::from_header_difficulty_adjustment(chain.0[&2016], chain.0[&4031], rules);
        prop_assert_eq!(next(Network::Bitcoin, 4032, 0, &chain), theirs.to_consensus());
    }
}
