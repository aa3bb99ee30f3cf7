use super::*;

const HOUR: u64 = 3600;
const BLOCK: u64 = 1_000_000;

fn limits() -> config::Fees {
    config::Fees { min_sat_per_vb: 1, max_sat_per_vb: 500, fallback_sat_per_vb: 10, max_factor_per_hour: 4 }
}

fn book() -> FeeBook {
    FeeBook::new(&limits(), None)
}

/// A book that remembers rates in sat/vB, of now.
fn remembering(rates: [u32; PLACES], now: u64) -> FeeBook {
    let rates = Rates { targets: rates.map(|rate| rate * 250), urgent: rates[URGENT] * 250 };
    FeeBook::new(&limits(), Some(FeeRecord { at: now, rates }))
}

/// Estimates in sat/vB for the four targets; 0 is none.
fn says(estimates: [u64; PLACES]) -> FeeClaims {
    let estimates = TARGETS.into_iter().zip(estimates.map(|rate| rate * 1000)).filter(|(_, rate)| *rate > 0);
    FeeClaims { estimates: estimates.collect(), ..FeeClaims::default() }
}

/// In sat/vB, for the four targets, as they are in force at `now`.
fn at(book: &FeeBook, now: u64) -> [u32; PLACES] {
    book.read(|book| book.rates(now).0).targets.map(|rate| rate / 250)
}

fn urgent(book: &FeeBook) -> u32 {
    book.read(|book| book.rates(0).0).urgent / 250
}

fn origins(book: &FeeBook, now: u64) -> [Origin; PLACES + 1] {
    book.read(|book| book.view(now)).origins
}

#[test]
fn before_any_estimate_the_fallback_is_used_and_said() {
    assert_eq!(at(&book(), 0), [10; 4]);
    assert_eq!((book().view().at, origins(&book(), 0)), (None, [Origin::Fallback; 5]));
}

#[test]
fn without_estimates_the_last_good_ones_stay_and_after_a_day_no_lower_than_the_fallback() {
    let book = book();
    assert!(book.learn("a", &says([30, 20, 5, 2]), 0));
    assert!(!book.learn("a", &FeeClaims::default(), HOUR));
    assert_eq!(at(&book, HOUR), [30, 20, 5, 2]);
    assert_eq!(book.record().map(|record| record.at), Some(0));
    let late = STALE + 1;
    assert_eq!(at(&book, late), [30, 20, 10, 10]);
    assert_eq!(origins(&book, late)[..3], [Origin::Servers(1, None), Origin::Servers(1, None), Origin::Fallback]);
}

#[test]
fn a_faster_target_never_costs_less_and_between_two_the_faster_counts() {
    let book = book();
    let now = unix_now();
    book.learn("a", &says([10, 20, 0, 3]), now);
    assert_eq!(at(&book, now), [20, 20, 20, 3]);
    assert_eq!(
        origins(&book, now)[..3],
        [Origin::Servers(1, Some(Bound::Slower)), Origin::Servers(1, None), Origin::Faster(None)]
    );
    assert_eq!(book.within(1), book.within(2));
    assert_eq!(book.within(143), book.within(6));
    assert_eq!(book.within(u16::MAX), 750);
}

#[test]
fn no_claim_leads_out_of_the_limits() {
    let now = unix_now();
    let book = book();
    book.learn("a", &FeeClaims { relay: Some(9_999_999), ..says([9999, 1, 1, 1]) }, now);
    assert_eq!(at(&book, now), [500; 4]);
    assert_eq!(origins(&book, now)[0], Origin::Servers(1, Some(Bound::Most)));
    let stored = FeeRecord { at: now, rates: Rates { targets: [u32::MAX, 1000, 1, 0], urgent: u32::MAX } };
    let book = FeeBook::new(&limits(), Some(stored));
    assert_eq!(TARGETS.map(|target| book.within(target)), [125_000, 1000, FLOOR, FLOOR]);
    let floor = config::Fees { min_sat_per_vb: 3, ..limits() };
    assert_eq!(FeeBook::new(&floor, Some(stored)).within(1008), 750);
}

#[test]
fn one_server_among_three_moves_nothing_and_doubles_at_most_what_is_urgent() {
    let book = book();
    book.learn("a", &says([30, 20, 10, 5]), 0);
    book.learn("b", &says([32, 22, 12, 6]), 1);
    book.learn("liar", &says([500, 500, 500, 500]), 2);
    assert_eq!(at(&book, 2), [32, 22, 12, 6]);
    assert_eq!(urgent(&book), 44);
    book.learn("liar", &says([1, 1, 1, 1]), 3);
    assert_eq!(at(&book, 3), [30, 20, 10, 5]);
    assert_eq!(urgent(&book), 22);
    // What is no estimate has no vote.
    book.learn("liar", &says([20_000, 20_000, 20_000, 20_000]), 4);
    assert_eq!(at(&book, 4), [31, 21, 11, 5]);
    assert_eq!(origins(&book, 4)[0], Origin::Servers(2, None));
}

#[test]
fn a_mempool_that_fills_raises_the_fastest_target_before_the_estimates_do() {
    let (book, now) = (book(), unix_now());
    for server in ["a", "b"] {
        let filling = FeeClaims { histogram: vec![(80_000, 2 * BLOCK)], ..says([20, 10, 5, 1]) };
        book.learn(server, &filling, now);
    }
    book.learn("c", &says([20, 10, 5, 1]), now);
    assert_eq!(at(&book, now), [80, 10, 5, 1]);
}

#[test]
fn a_server_without_estimates_is_taken_by_its_mempool() {
    let (book, now) = (book(), unix_now());
    let histogram = vec![(50_000, BLOCK), (20_000, BLOCK), (5000, 10 * BLOCK), (2000, 1000 * BLOCK)];
    assert!(book.learn("a", &FeeClaims { histogram, ..FeeClaims::default() }, now));
    assert_eq!(at(&book, now), [50, 5, 2, 2]);
}

#[test]
fn a_rate_changes_by_the_factor_in_an_hour_and_says_what_holds_it() {
    let now = unix_now();
    let book = remembering([20, 20, 20, 20], now);
    assert_eq!(origins(&book, now), [Origin::Remembered; 5]);
    book.learn("a", &says([500, 400, 70, 1]), now + 1);
    assert_eq!(at(&book, now + 1), [80, 80, 70, 5]);
    assert_eq!(
        origins(&book, now + 1)[1..4],
        [Origin::Servers(1, Some(Bound::Pace)), Origin::Servers(1, None), Origin::Servers(1, Some(Bound::Pace))]
    );
    // Saying it again does not help.
    book.learn("a", &says([500, 400, 70, 1]), now + 2);
    assert_eq!(at(&book, now + 2), [80, 80, 70, 5]);
    book.learn("a", &says([500, 400, 70, 1]), now + HOUR + 1);
    assert_eq!(at(&book, now + HOUR + 1), [320, 320, 70, 1]);
}

#[test]
fn nothing_is_below_what_servers_relay_and_one_of_them_alone_does_not_raise_it() {
    let now = unix_now();
    let book = book();
    let relays = |rate| FeeClaims { relay: Some(rate), ..says([9, 3, 1, 1]) };
    book.learn("a", &relays(4000), now);
    assert_eq!(at(&book, now), [9, 4, 4, 4]);
    book.learn("b", &relays(1000), now);
    book.learn("c", &relays(1000), now);
    assert_eq!(at(&book, now), [9, 3, 1, 1]);
}

#[test]
fn each_servers_last_word_is_kept_and_counts_for_a_while() {
    let now = unix_now();
    let book = book();
    book.learn("a", &says([9, 9, 9, 9]), now);
    book.failed("b", &crate::source::Trouble::Closed.into(), now + 1);
    let servers = book.view().servers;
    assert_eq!(servers[0].1.said.as_ref().map(|word| word.estimates.len()), Ok(4));
    assert!(servers[1].1.said.as_ref().is_err_and(|why| why.contains("closed")));
    // A word that is old has no vote any more, but is still shown.
    book.learn("c", &says([5, 5, 5, 5]), now + CLAIM_LIFE);
    assert_eq!(at(&book, now + CLAIM_LIFE), [5; 4]);
    assert_eq!(book.view().servers.len(), 3);
    book.forget("a");
    assert_eq!(book.view().servers.len(), 2);
}

#[test]
fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
    assert_eq!(median(vec![]), None);
    assert_eq!(median(vec![7]), Some(7));
    assert_eq!(median(vec![9, 1, 5]), Some(5));
    assert_eq!(median(vec![u32::MAX, 1, u32::MAX - 2, 3]), Some((u32::MAX - 2 - 3) / 2 + 3));
}
