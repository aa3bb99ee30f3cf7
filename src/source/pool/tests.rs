//! Servers that come, go, lie and are forgiven.

use std::time::UNIX_EPOCH;

use super::*;
use crate::config::ServerAddr;
use crate::source::{BoxFuture, Connected, EventSink, TlsState, Trouble, Unfit, Untrusted};
use bitcoin::hashes::Hash;

const LONGEST_WAIT: Duration = Duration::from_secs(600);

struct Named(ServerAddr);

impl Source for Named {
    fn addr(&self) -> &ServerAddr {
        &self.0
    }
    fn connect(&self, _: SourceId, _: EventSink) -> BoxFuture<'_, Result<Connected, SourceError>> {
        Box::pin(async { Err(Trouble::Closed.into()) })
    }
}

fn member(host: &str, trusted: bool) -> Member {
    Member { source: Arc::new(Named(format!("ssl://{host}").parse().unwrap())), trusted }
}

fn pool_with(hosts: &[&str], connections: usize, memory: &Memory) -> Pool {
    Pool::new(hosts.iter().map(|host| member(host, false)).collect(), connections, LONGEST_WAIT, memory, 7)
}

fn pool(hosts: &[&str], connections: usize) -> Pool {
    pool_with(hosts, connections, &Memory::default())
}

fn info(addr: &ServerAddr) -> SessionInfo {
    SessionInfo {
        addr: addr.clone(),
        software: Untrusted::default(),
        protocol: "1.4".into(),
        tls: TlsState::Pinned,
        peer: None,
        since: UNIX_EPOCH,
        latency: Duration::ZERO,
    }
}

fn closed() -> SourceError {
    Trouble::Closed.into()
}

/// Connects to the next one, and tells which it is.
fn connect(pool: &mut Pool, now: Instant) -> Option<(SourceId, String)> {
    let (id, source) = pool.next(now)?;
    pool.connected(id, info(source.addr()), now);
    Some((id, source.addr().host().to_owned()))
}

/// Dials all that are wanted and connects to all of them, except to those that are away.
fn settle(pool: &mut Pool, away: &[&str], now: Instant) {
    let mut dialled = Vec::new();
    while let Some((id, source)) = pool.next(now) {
        dialled.push((id, source.addr().clone()));
    }
    for (id, addr) in dialled {
        match away.contains(&addr.host()) {
            true => assert_eq!(pool.ended(id, &closed(), now), None),
            false => pool.connected(id, info(&addr), now),
        }
        pool.assign(now);
    }
}

fn id_of(pool: &Pool, host: &str, now: Instant) -> SourceId {
    let status = pool.status(now).into_iter().find(|one| one.addr.host() == host);
    status.and_then(|one| one.id).unwrap_or_else(|| panic!("{host} is not in use"))
}

/// Hosts with the wallet's scripts, and hosts with the channels'.
fn duties(pool: &Pool, now: Instant) -> (Vec<String>, Vec<String>) {
    let hosts = |serves: fn(Owners) -> bool| {
        let all = pool.status(now).into_iter().filter(|one| serves(one.serves));
        all.map(|one| one.addr.host().to_owned()).collect()
    };
    (hosts(|serves| serves.wallet), hosts(|serves| serves.lightning))
}

const SIX: [&str; 6] = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1"];

#[test]
fn one_is_used_until_it_fails_then_the_next() {
    let (mut pool, now) = (pool(&["a:1", "b:1"], 1), Instant::now());
    let (a, host) = connect(&mut pool, now).unwrap();
    assert_eq!(host, "a");
    assert!(pool.next(now).is_none());
    pool.ended(a, &closed(), now);
    let (b, host) = connect(&mut pool, now).unwrap();
    assert_eq!(host, "b");
    // `a` is ready again, but `b` is in use and stays.
    assert!(pool.next(now + LONGEST_WAIT).is_none());
    pool.ended(b, &closed(), now + LONGEST_WAIT);
    assert_eq!(connect(&mut pool, now + LONGEST_WAIT).unwrap().1, "a");
}

#[test]
fn waits_double_up_to_a_limit_and_never_vanish() {
    let (mut pool, mut now) = (pool(&["a:1"], 1), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..15 {
        let (id, _) = connect(&mut pool, now).unwrap();
        // Accepting and then dropping us is a failure like any other.
        pool.ended(id, &closed(), now);
        let ready = pool.retry_at(now).unwrap();
        assert!(pool.next(ready - Duration::from_millis(1)).is_none());
        waits.push(ready - now);
        now = ready;
    }
    for (index, wait) in waits.iter().enumerate() {
        let whole = FIRST_WAIT.saturating_mul(1 << index).min(LONGEST_WAIT);
        assert!(*wait >= whole / 2 && *wait <= whole, "{index}: {wait:?}");
    }
}

#[test]
fn a_connection_that_lived_makes_failures_forgotten() {
    let (mut pool, mut now) = (pool(&["a:1"], 1), Instant::now());
    for _ in 0..8 {
        let (id, _) = connect(&mut pool, now).unwrap();
        pool.ended(id, &closed(), now);
        now = pool.retry_at(now).unwrap();
    }
    let (id, _) = connect(&mut pool, now).unwrap();
    now += PROVEN_AFTER;
    pool.ended(id, &closed(), now);
    assert!(pool.retry_at(now).unwrap() - now <= FIRST_WAIT);
}

#[test]
fn a_liar_is_banned_with_its_whole_host_and_only_forgiveness_lifts_it() {
    let (mut pool, now) = (pool(&["a:1", "a:2", "b:1"], 1), Instant::now());
    let (id, _) = connect(&mut pool, now).unwrap();
    let ban = pool.ban(id, "a forged header", now).unwrap();
    assert_eq!((ban.host.as_str(), ban.reason.as_str()), ("a", "a forged header"));
    pool.retry_now(now);
    let (id, host) = connect(&mut pool, now).unwrap();
    assert_eq!(host, "b");
    pool.ended(id, &closed(), now);
    let roles = |pool: &Pool| pool.status(now).into_iter().map(|status| status.role).collect::<Vec<_>>();
    assert!(matches!(&roles(&pool)[..], [Role::Banned { .. }, Role::Banned { .. }, Role::BackingOff { .. }]));
    // A ban survives a restart.
    let memory = Memory { bans: vec![ban], home: None };
    let (mut again, now) = (pool_with(&["a:1", "a:2", "b:1"], 1, &memory), Instant::now());
    let roles = |pool: &Pool| pool.status(now).into_iter().map(|status| status.role).collect::<Vec<_>>();
    assert!(matches!(again.status(now)[0].role, Role::Banned { .. }));
    assert!(!again.forgive("nobody", now));
    assert!(again.forgive("a", now));
    assert_eq!(roles(&again), [Role::Standby, Role::Standby, Role::Standby]);
    assert_eq!(connect(&mut again, now).unwrap().1, "a");
}

#[test]
fn a_remembered_ban_is_no_longer_than_one_and_no_jump_of_the_clock_ends_it() {
    let ban = |secs: u64| Banned { host: "a".into(), until: unix_now() + secs, reason: "a forged header".into() };
    for (left, wanted) in [(100 * BAN.as_secs(), BAN), (600, Duration::from_secs(600)), (0, Duration::ZERO)] {
        let pool = pool_with(&["a:1"], 1, &Memory { bans: vec![ban(left)], home: None });
        let now = Instant::now();
        let wait = pool.retry_at(now).unwrap().saturating_duration_since(now);
        assert!(wait <= wanted && wait + Duration::from_secs(10) > wanted, "{left}: {wait:?}");
        // For people it is by the clock on the wall, as everything else.
        let Role::Banned { until, .. } = pool.status(now)[0].role.clone() else { panic!("it is not banned") };
        assert!(until <= SystemTime::now() + wanted, "{left}: {until:?}");
    }
    assert_eq!(ban(7).cut(unix_now()).left(unix_now()).as_secs(), 7);
}

#[test]
fn with_all_banned_there_is_no_server_and_no_ban_is_lifted_by_need() {
    let (mut pool, now) = (pool(&["a:1", "b:1"], 5), Instant::now());
    settle(&mut pool, &[], now);
    for host in ["a", "b"] {
        let id = id_of(&pool, host, now);
        assert!(pool.ban(id, "a forged header", now).is_some());
    }
    assert!(pool.next(now).is_none());
    assert!(pool.retry_at(now).unwrap() > now + BAN - Duration::from_secs(10));
}

#[test]
fn a_server_with_a_changed_pin_waits_for_a_person() {
    let (mut pool, now) = (pool(&["a:1"], 1), Instant::now());
    let (id, _) = pool.next(now).unwrap();
    assert_eq!(pool.ended(id, &Unfit::Onion.into(), now), None);
    assert!(matches!(pool.status(now)[0].role, Role::Unusable { .. }));
    assert!(pool.next(now).is_none());
    assert_eq!(pool.retry_at(now), Some(now + UNUSABLE_WAIT));
    pool.retry_now(now);
    assert!(pool.next(now).is_some());
}

#[test]
fn five_of_many_are_used_with_different_operators_first() {
    let hosts = ["x.one.org:1", "y.one.org:1", "10.0.0.1:1", "10.0.9.9:1", "c.org:1", "d.org:1", "e.org:1"];
    let (mut pool, now) = (pool(&hosts, CONNECTIONS), Instant::now());
    settle(&mut pool, &[], now);
    let used = pool.status(now).into_iter().filter(|one| one.id.is_some()).map(|one| one.addr.to_string());
    let wanted = ["x.one.org", "10.0.0.1", "c.org", "d.org", "e.org"].map(|host| format!("ssl://{host}:1"));
    assert_eq!(used.collect::<Vec<_>>(), wanted);
}

#[test]
fn names_that_turned_out_to_lead_into_one_network_are_not_used_together_where_others_are_there() {
    let (mut pool, now) = (pool(&["a.org:1", "b.net:1", "c.com:1"], 2), Instant::now());
    let connect_at = |pool: &mut Pool, peer: &str, now| {
        let (id, source) = pool.next(now).unwrap();
        let peer = Some(peer.parse().unwrap());
        pool.connected(id, SessionInfo { peer, ..info(source.addr()) }, now);
        (id, source.addr().host().to_owned())
    };
    // Nothing tells yet that two of them are of one hand.
    assert_eq!(connect_at(&mut pool, "203.0.113.7", now).1, "a.org");
    let (b, host) = connect_at(&mut pool, "203.0.200.1", now);
    assert_eq!(host, "b.net");
    pool.ended(b, &closed(), now);
    let (c, host) = connect_at(&mut pool, "198.51.100.1", now);
    assert_eq!(host, "c.com");
    pool.ended(c, &closed(), now);
    // Both have failed once. The one of the other network comes first, though it stands last.
    assert_eq!(connect_at(&mut pool, "198.51.100.1", now + LONGEST_WAIT).1, "c.com");
}

#[test]
fn the_wallet_comes_home_after_a_restart_and_waits_for_it() {
    let (mut first, now) = (pool(&SIX, CONNECTIONS), Instant::now());
    settle(&mut first, &[], now);
    let home = first.home().unwrap();
    assert_eq!(home, "ssl://a:1");
    // Another one was the home in the run before: it is dialled, though five come first in the order.
    let memory = Memory { bans: Vec::new(), home: Some("ssl://f:1".into()) };
    let (mut second, now) = (pool_with(&SIX, CONNECTIONS, &memory), Instant::now());
    settle(&mut second, &[], now);
    assert_eq!(duties(&second, now).0, ["f"]);
    assert_eq!(duties(&second, now).1.len(), 3);
    // It goes for a moment: nobody else is told, and its place is kept.
    let f = id_of(&second, "f", now);
    second.ended(f, &closed(), now);
    second.assign(now);
    assert!(second.next(now).is_none(), "its place is kept");
    assert!(duties(&second, now).0.is_empty());
    let later = second.retry_at(now).unwrap();
    settle(&mut second, &[], later);
    assert_eq!(duties(&second, later).0, ["f"]);
    // It goes and does not come back: the wallet moves, to one that knows no channel.
    let f = id_of(&second, "f", later);
    let watchers = duties(&second, later).1;
    second.ended(f, &closed(), later);
    let mut at = later;
    for _ in 0..3 {
        at = second.retry_at(at).unwrap_or(at);
        settle(&mut second, &["f"], at);
    }
    let (wallet, channels) = duties(&second, at);
    assert_eq!((wallet.len(), &channels), (1, &watchers));
    assert!(!watchers.contains(&wallet[0]) && wallet[0] != "f", "{wallet:?} {watchers:?}");
}

#[test]
fn who_kept_something_back_loses_its_duties_and_then_its_place() {
    let (mut pool, now) = (pool(&SIX, CONNECTIONS), Instant::now());
    settle(&mut pool, &["f"], now);
    let before = duties(&pool, now).1;
    let liar = id_of(&pool, &before[0], now);
    pool.blame(liar, Fault::Omitted, now);
    let changed = pool.assign(now);
    // First the other one has it, then this one no more.
    assert_eq!(changed.len(), 2);
    assert!(changed[0].1.lightning && changed[1] == (liar, Owners::default()), "{changed:?}");
    assert!(!duties(&pool, now).1.contains(&before[0]));
    // `f` is on standby and better: it takes the place.
    assert_eq!(pool.replaceable(now), Some(liar));
    pool.back_off(liar, "others are better".into(), now);
    settle(&mut pool, &[], now);
    assert!(pool.status(now)[5].id.is_some());
    assert_eq!(pool.replaceable(now), None);
}

#[test]
fn with_all_demoted_all_serve_and_nobody_is_left() {
    let (mut pool, now) = (pool(&SIX[..4], CONNECTIONS), Instant::now());
    settle(&mut pool, &[], now);
    for status in pool.status(now) {
        pool.blame(status.id.unwrap(), Fault::Omitted, now);
    }
    pool.assign(now);
    let (wallet, channels) = duties(&pool, now);
    assert_eq!((wallet.len(), channels.len()), (1, 3));
    assert_eq!(pool.replaceable(now), None);
}

#[test]
fn a_tip_that_flips_and_one_that_lags_demote() {
    let (mut pool, now) = (pool(&SIX[..4], CONNECTIONS), Instant::now());
    settle(&mut pool, &[], now);
    let hash = |byte| BlockHash::from_byte_array([byte; 32]);
    let (flips, lags) = (id_of(&pool, "a", now), id_of(&pool, "b", now));
    for round in 0..6 {
        pool.tip(flips, 100, hash(round % 2), now);
    }
    // A reorganisation, and a chain that grows, are none.
    let fine = id_of(&pool, "c", now);
    for (height, byte) in [(100, 1), (101, 2), (101, 3), (102, 4)] {
        pool.tip(fine, height, hash(byte), now);
    }
    pool.tip(lags, 99, hash(1), now);
    pool.review(101, now);
    assert_eq!(pool.review_at(), None, "two blocks are no lag");
    pool.review(102, now);
    let then = pool.review_at().unwrap();
    pool.review(102, then);
    let demoted = pool.status(then).into_iter().map(|one| (one.demoted, one.fault));
    let wanted = [(true, Some(Fault::Flip)), (true, Some(Fault::Lag)), (false, None), (false, None)];
    assert_eq!(demoted.collect::<Vec<_>>(), wanted);
    assert_eq!(pool.review_at(), None, "it is blamed once");
}

#[test]
fn without_news_the_stalest_watcher_is_rotated_and_standbys_taken_in() {
    let (mut pool, now) = (pool(&SIX, CONNECTIONS), Instant::now());
    settle(&mut pool, &[], now);
    let watchers = duties(&pool, now).1;
    for (host, height) in watchers.iter().zip([7, 6, 7]) {
        let id = id_of(&pool, host, now);
        pool.tip(id, height, BlockHash::from_byte_array([1; 32]), now);
    }
    pool.rotate(now);
    pool.assign(now);
    assert!(!duties(&pool, now).1.contains(&watchers[1]));
    assert_eq!(pool.replaceable(now), Some(id_of(&pool, &watchers[1], now)));
}

#[test]
fn ones_own_server_is_always_used_and_never_banned() {
    let mut members: Vec<Member> = SIX.iter().map(|host| member(host, false)).collect();
    members.push(member("own:1", true));
    let (mut pool, now) = (Pool::new(members, 2, LONGEST_WAIT, &Memory::default(), 7), Instant::now());
    settle(&mut pool, &[], now);
    assert_eq!(duties(&pool, now).0, ["own"]);
    assert!(duties(&pool, now).1.contains(&"own".to_owned()));
    let own = id_of(&pool, "own", now);
    for _ in 0..9 {
        pool.blame(own, Fault::Omitted, now);
    }
    assert!(!pool.status(now)[6].demoted && pool.status(now)[6].score > 0);
    assert_eq!(pool.ban(own, "a forged header", now), None);
    assert!(matches!(pool.status(now)[6].role, Role::Unusable { .. }));
}
