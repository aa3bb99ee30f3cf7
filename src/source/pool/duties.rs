//! Which connected server is told which scripts. Pure.
//!
//! Rules (threats row 17, issue B):
//!
//! - Channel scripts on three servers: what one hides, another tells. Wallet scripts on one, the wallet's home, which is
//!   none of the three while there are enough others: who knows our addresses shall not know our channels too.
//! - With fewer servers duties are shared; the only one has all. A trusted server (one's own) has all duties, counts as
//!   one of the three, and keeps the wallet's scripts to itself.
//! - Sticky: a duty moves only from a server that went or is demoted, or from the wallet's home to others once there
//!   are enough. Every move tells one more server what is ours.
//! - A server that has a duty is replaced before it is relieved: nothing here leaves a duty to nobody while somebody
//!   is connected, except the wallet's, which waits a moment for its home.

use super::operator::Operator;
use crate::chain::io::Owners;

/// Servers that are told channel scripts.
const WATCHERS: usize = 3;

/// A connected server.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) trusted: bool,
    /// Passed over where others can do it. Never a trusted one.
    pub(super) demoted: bool,
    /// What it is told now.
    pub(super) serves: Owners,
    pub(super) operator: Operator,
    /// Its software without version; empty when it does not say.
    pub(super) family: String,
    pub(super) score: u32,
}

/// What else matters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outlook {
    /// The wallet's home, by its place in the list.
    pub(super) home: Option<usize>,
    /// The wallet's home is not connected, but is likely to be in a moment.
    pub(super) home_awaited: bool,
    /// Servers that are being connected to for the first time.
    pub(super) coming: usize,
}

/// The duties of each, and the wallet's home: another one where the present one cannot be it any more.
pub(super) fn divide(all: &[Candidate], outlook: Outlook) -> (Vec<Owners>, Option<usize>) {
    let home = choose_home(all, outlook);
    let mut watchers: Vec<usize> = (0..all.len()).filter(|at| all[*at].trusted).collect();
    let others = || (0..all.len()).filter(|at| !all[*at].trusted && Some(*at) != home);
    // Those who have the duty and are good; then the other good ones; then the demoted.
    let ranks: [fn(&Candidate) -> bool; 3] =
        [|one| one.serves.lightning && !one.demoted, |one| !one.demoted, |one| one.demoted];
    for rank in ranks {
        while watchers.len() < WATCHERS {
            let free = others().filter(|at| rank(&all[*at]) && !watchers.contains(at));
            match free.min_by_key(|at| order(all, &watchers, home, *at)) {
                Some(at) => watchers.push(at),
                None => break,
            }
        }
    }
    if let Some(home) = home.filter(|home| watchers.len() < WATCHERS && !watchers.contains(home)) {
        // The first ones to connect shall not be told everything only because the others are a moment slower.
        if outlook.coming == 0 || all[home].serves.lightning {
            watchers.push(home);
        }
    }
    let trusted = all.iter().any(|one| one.trusted);
    let duties = |at: usize| Owners {
        wallet: if trusted { all[at].trusted } else { home == Some(at) },
        lightning: watchers.contains(&at),
    };
    ((0..all.len()).map(duties).collect(), home)
}

fn choose_home(all: &[Candidate], outlook: Outlook) -> Option<usize> {
    let good = |at: &usize| !all[*at].demoted;
    let best = |candidates: &mut dyn Iterator<Item = usize>| {
        candidates.min_by_key(|at| (all[*at].serves.lightning && !all[*at].trusted, all[*at].score, *at))
    };
    if let Some(own) = best(&mut (0..all.len()).filter(|at| all[*at].trusted)) {
        // Staying is better than moving, also between one's own.
        return outlook.home.filter(|home| all.get(*home).is_some_and(|one| one.trusted)).or(Some(own));
    }
    let any_good = (0..all.len()).any(|at| good(&at));
    match outlook.home {
        Some(home) if good(&home) || !any_good => Some(home),
        None if outlook.home_awaited => None,
        // The present home is demoted, or gone for good.
        _ => best(&mut (0..all.len()).filter(good)).or_else(|| best(&mut (0..all.len()))),
    }
}

/// Smaller is better: another operator than the chosen ones and the home, another software, fewer points, the
/// configured order.
fn order(all: &[Candidate], chosen: &[usize], home: Option<usize>, at: usize) -> (bool, bool, u32, usize) {
    let one = &all[at];
    let with = || chosen.iter().copied().chain(home).filter(|other| *other != at).map(|other| &all[other]);
    let operator = with().any(|other| other.operator.is_likely(&one.operator));
    let family =
        chosen.iter().map(|other| &all[*other]).any(|other| !one.family.is_empty() && other.family == one.family);
    (operator, family, one.score, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Owners = Owners { wallet: false, lightning: false };
    const WALLET: Owners = Owners { wallet: true, lightning: false };
    const CHANNELS: Owners = Owners { wallet: false, lightning: true };
    const ALL: Owners = Owners { wallet: true, lightning: true };

    fn server(host: &str) -> Candidate {
        Candidate {
            trusted: false,
            demoted: false,
            serves: NOTHING,
            operator: Operator::of(host),
            family: String::new(),
            score: 0,
        }
    }

    fn servers(number: usize) -> Vec<Candidate> {
        (0..number).map(|at| server(&format!("10.{at}.0.1"))).collect()
    }

    /// Divides again and again, each time from the duties before; they must have settled at the first time.
    fn settled(all: &mut [Candidate], outlook: Outlook) -> (Vec<Owners>, Option<usize>) {
        let (duties, home) = divide(all, outlook);
        all.iter_mut().zip(&duties).for_each(|(one, serves)| one.serves = *serves);
        let again = divide(all, Outlook { home, ..outlook });
        assert_eq!(again, (duties.clone(), home), "duties must not wander");
        (duties, home)
    }

    #[test]
    fn channels_are_on_three_and_the_wallet_on_a_fourth() {
        for number in [4, 5, 8] {
            let (duties, home) = settled(&mut servers(number), Outlook::default());
            assert_eq!(duties.iter().filter(|duty| **duty == CHANNELS).count(), 3, "{number}");
            assert_eq!(duties.iter().filter(|duty| **duty == WALLET).count(), 1, "{number}");
            assert_eq!(duties[home.unwrap()], WALLET);
        }
    }

    #[test]
    fn with_fewer_servers_duties_are_shared_and_the_only_one_has_all() {
        assert_eq!(settled(&mut servers(1), Outlook::default()).0, [ALL]);
        assert_eq!(settled(&mut servers(2), Outlook::default()).0, [ALL, CHANNELS]);
        assert_eq!(settled(&mut servers(3), Outlook::default()).0, [ALL, CHANNELS, CHANNELS]);
        assert_eq!(divide(&[], Outlook::default()), (Vec::new(), None));
    }

    #[test]
    fn the_first_to_connect_is_not_told_everything_while_others_are_coming() {
        let mut all = servers(1);
        let outlook = Outlook { coming: 3, ..Outlook::default() };
        let (duties, home) = settled(&mut all, outlook);
        assert_eq!((duties, home), (vec![WALLET], Some(0)));
        // They did not come.
        assert_eq!(settled(&mut all, Outlook { home, ..Outlook::default() }).0, [ALL]);
        // A share once given is kept until there are enough others.
        all.extend(servers(3).into_iter().skip(1));
        let (duties, _) = settled(&mut all, Outlook { home, coming: 1, ..Outlook::default() });
        assert_eq!(duties, [ALL, CHANNELS, CHANNELS]);
        all.push(server("10.9.0.1"));
        assert_eq!(settled(&mut all, Outlook { home, ..Outlook::default() }).0, [WALLET, CHANNELS, CHANNELS, CHANNELS]);
    }

    #[test]
    fn the_wallet_waits_for_its_home_and_moves_when_it_is_gone_for_good() {
        let mut all = servers(4);
        let awaited = Outlook { home_awaited: true, ..Outlook::default() };
        let (duties, home) = divide(&all, awaited);
        assert_eq!((duties, home), (vec![CHANNELS, CHANNELS, CHANNELS, NOTHING], None));
        all.iter_mut().take(3).for_each(|one| one.serves = CHANNELS);
        let (duties, home) = settled(&mut all, Outlook::default());
        assert_eq!(
            (duties, home),
            (vec![CHANNELS, CHANNELS, CHANNELS, WALLET], Some(3)),
            "to one that knows nothing yet"
        );
    }

    #[test]
    fn a_demoted_server_loses_its_duties_to_others_and_only_to_others() {
        let mut all = servers(5);
        let (duties, home) = settled(&mut all, Outlook::default());
        assert_eq!((home, duties[4]), (Some(0), NOTHING));
        all[1].demoted = true;
        let outlook = Outlook { home, ..Outlook::default() };
        assert_eq!(settled(&mut all, outlook).0, [WALLET, NOTHING, CHANNELS, CHANNELS, CHANNELS]);
        // The home is demoted too: the wallet moves, first of all to one that is told no channels.
        all[0].demoted = true;
        let (duties, moved) = settled(&mut all, outlook);
        assert!(!all[moved.unwrap()].demoted);
        assert!(duties[0].lightning && !duties[0].wallet, "{duties:?}");
        // When all are demoted, they serve as if none were.
        all.iter_mut().for_each(|one| one.demoted = true);
        let (duties, kept) = settled(&mut all, Outlook { home: moved, ..Outlook::default() });
        assert_eq!(kept, moved);
        assert_eq!(duties.iter().filter(|duty| duty.lightning).count(), 3);
        assert_eq!(duties.iter().filter(|duty| duty.wallet).count(), 1);
    }

    #[test]
    fn different_operators_and_different_software_are_preferred() {
        let mut all: Vec<_> = ["a.one.org", "b.one.org", "c.one.org", "x.two.org", "y.three.org"].map(server).into();
        let (duties, home) = settled(&mut all, Outlook { home: Some(0), ..Outlook::default() });
        assert_eq!((duties, home), (vec![WALLET, CHANNELS, NOTHING, CHANNELS, CHANNELS], Some(0)));
        let mut all: Vec<_> = ["a.org", "b.org", "c.org", "d.org", "e.org"].map(server).into();
        let peers = ["192.0.2.1", "203.0.113.1", "203.0.200.1", "198.51.100.1", "2001:db8::1"];
        for (one, peer) in all.iter_mut().zip(peers) {
            one.operator.reached_at(peer.parse().unwrap());
        }
        let (duties, _) = settled(&mut all, Outlook { home: Some(0), ..Outlook::default() });
        assert_eq!(duties, [WALLET, CHANNELS, NOTHING, CHANNELS, CHANNELS]);
        let mut all = servers(5);
        for (one, family) in all.iter_mut().zip(["electrumx", "electrumx", "electrumx", "fulcrum", "electrs"]) {
            one.family = family.into();
        }
        let (duties, _) = settled(&mut all, Outlook { home: Some(0), ..Outlook::default() });
        assert_eq!(duties, [WALLET, CHANNELS, NOTHING, CHANNELS, CHANNELS]);
    }

    #[test]
    fn ones_own_server_has_all_duties_and_the_wallet_for_itself() {
        let mut all = servers(5);
        all[3].trusted = true;
        let (duties, home) = settled(&mut all, Outlook { home: Some(0), ..Outlook::default() });
        assert_eq!(home, Some(3));
        assert_eq!(duties[3], ALL);
        assert_eq!(duties.iter().filter(|duty| duty.wallet).count(), 1);
        assert_eq!(duties.iter().filter(|duty| duty.lightning).count(), 3);
        all.iter_mut().for_each(|one| one.trusted = true);
        assert_eq!(settled(&mut all, Outlook::default()).0, [ALL; 5]);
    }

    #[test]
    fn whatever_comes_and_goes_no_duty_is_left_to_nobody() {
        let mut random = 7_u64;
        let mut draw = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut all, mut home) = (servers(5), None);
        for _ in 0..5_000 {
            let at = draw(all.len() as u64 + 1) as usize;
            match draw(4) {
                0 if all.len() > 1 && at < all.len() => {
                    all.remove(at);
                    home = home.and_then(|home: usize| (home != at).then(|| home - usize::from(home > at)));
                }
                1 if all.len() < 7 => all.push(server(&format!("10.{}.0.1", draw(9)))),
                2 if at < all.len() => all[at].demoted = !all[at].demoted && !all[at].trusted,
                _ => {}
            }
            let before: Vec<Owners> = all.iter().map(|one| one.serves).collect();
            let (duties, now) = settled(&mut all, Outlook { home, ..Outlook::default() });
            home = now;
            assert!(duties.iter().any(|duty| duty.wallet) && duties.iter().any(|duty| duty.lightning));
            let watchers = duties.iter().filter(|duty| duty.lightning).count();
            assert_eq!(watchers, all.len().min(WATCHERS));
            // Nobody good loses a duty but to its sharing.
            let shared = all.len() <= WATCHERS;
            for ((one, before), after) in all.iter().zip(before).zip(&duties) {
                let relieved = before.lightning && !after.lightning;
                assert!(!relieved || one.demoted || after.wallet || !shared, "{all:?}");
            }
        }
    }
}
