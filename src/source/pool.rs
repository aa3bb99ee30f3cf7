//! Which server is used: one or several at a time, the next when one fails, none again too soon. Pure.
//!
//! Sticky: a server in use stays in use until it fails. Among those that are ready, the one with the fewest recent
//! failures is taken, then the one configured first.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::{SessionInfo, Source, SourceError};
use crate::chain::io::SourceId;
use crate::config::ServerAddr;

/// The first wait after a failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A connection that lives this long makes former failures forgotten; one that drops sooner is one more.
const PROVEN_AFTER: Duration = Duration::from_secs(120);
/// Until a server that a person must look at is tried again.
const UNUSABLE_WAIT: Duration = Duration::from_secs(3600);
/// For how long a server is banned that was caught lying.
pub const BAN: Duration = Duration::from_secs(30 * 24 * 3600);

/// A ban, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    /// Host, without port.
    pub host: String,
    /// Unix seconds.
    pub until: u64,
    /// In our words.
    pub reason: String,
}

/// The configured servers.
pub struct Pool {
    slots: Vec<Slot>,
    wanted: usize,
    longest_wait: Duration,
    next_id: u64,
    random: u64,
}

struct Slot {
    source: Arc<dyn Source>,
    state: State,
    failures: u32,
    last_error: Option<String>,
    tip: Option<u32>,
}

enum State {
    Waiting(Later),
    Connecting { id: SourceId },
    InUse { id: SourceId, info: Box<SessionInfo>, since: Instant },
    Unusable { until: Later, why: String },
    Banned { until: u64, why: String },
}

/// A time to come: as it is measured, and for people.
#[derive(Clone, Copy)]
struct Later {
    at: Instant,
    wall: SystemTime,
}

impl Later {
    fn after(now: Instant, wait: Duration) -> Self {
        Self { at: now + wait, wall: SystemTime::now() + wait }
    }
}

/// A server, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address.
    pub addr: ServerAddr,
    /// What is done with it.
    pub role: Role,
    /// What went wrong last, in our words.
    pub last_error: Option<String>,
    /// The height that it claims, or claimed last.
    pub tip: Option<u32>,
    /// Its connection, while there is one.
    pub info: Option<SessionInfo>,
}

/// What is done with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is asked.
    InUse,
    /// It is being connected to.
    Connecting,
    /// It could be used.
    Standby,
    /// It failed, and is not tried before this time.
    BackingOff { until: SystemTime },
    /// A person has to look at it; it is tried again then nevertheless.
    Unusable { why: String, until: SystemTime },
    /// It lied.
    Banned { why: String, until: SystemTime },
}

impl Pool {
    /// Uses `wanted` of these servers at a time; waits between two tries of one grow up to `longest_wait`, with jitter
    /// drawn from `seed`.
    pub fn new(
        sources: Vec<Arc<dyn Source>>,
        wanted: usize,
        longest_wait: Duration,
        bans: &[Banned],
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        let slot = |source: Arc<dyn Source>| {
            let ban = bans.iter().find(|ban| ban.host == source.addr().host());
            let state = match ban {
                Some(ban) => State::Banned { until: ban.until, why: ban.reason.clone() },
                None => State::Waiting(Later::after(now, Duration::ZERO)),
            };
            Slot { source, state, failures: 0, last_error: None, tip: None }
        };
        Self { slots: sources.into_iter().map(slot).collect(), wanted, longest_wait, next_id: 0, random: seed }
    }

    /// The next server to connect to, if another is wanted and one is ready; it counts as connecting from now on.
    pub fn next(&mut self, now: Instant) -> Option<(SourceId, Arc<dyn Source>)> {
        if !self.wants_more() {
            return None;
        }
        let wall = unix_now();
        let ready = self.slots.iter_mut().filter(|slot| slot.ready_at(now, wall).is_some_and(|at| at <= now));
        let slot = ready.min_by_key(|slot| slot.failures)?;
        let id = SourceId(self.next_id);
        self.next_id += 1;
        slot.state = State::Connecting { id };
        Some((id, slot.source.clone()))
    }

    /// When [`Self::next`] will have a server; `None`: none is wanted, or all are banned.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        let wall = unix_now();
        self.wants_more().then(|| self.slots.iter().filter_map(|slot| slot.ready_at(now, wall)).min()).flatten()
    }

    fn wants_more(&self) -> bool {
        let active = |slot: &&Slot| matches!(slot.state, State::Connecting { .. } | State::InUse { .. });
        self.slots.iter().filter(active).count() < self.wanted
    }

    /// A connection is made.
    pub fn connected(&mut self, id: SourceId, info: SessionInfo, now: Instant) {
        if let Some(slot) = self.slot(id) {
            slot.state = State::InUse { id, info: Box::new(info), since: now };
        }
    }

    /// What is known of a connection has changed.
    pub fn refresh(&mut self, id: SourceId, fresh: SessionInfo) {
        if let Some(Slot { state: State::InUse { info, .. }, .. }) = self.slot(id) {
            **info = fresh;
        }
    }

    /// A server says its tip.
    pub fn tip(&mut self, id: SourceId, height: u32) {
        if let Some(slot) = self.slot(id) {
            slot.tip = Some(height);
        }
    }

    /// Something went wrong that does not end the connection.
    pub fn complain(&mut self, id: SourceId, error: &SourceError) {
        if let Some(slot) = self.slot(id) {
            slot.last_error = Some(error.to_string());
        }
    }

    /// A connection could not be made, or is over. Tells of a ban that is to be remembered.
    pub fn ended(&mut self, id: SourceId, error: &SourceError, now: Instant) -> Option<Banned> {
        match error {
            SourceError::Transient(_) | SourceError::Refused(_) => {
                self.back_off(id, error.to_string(), now);
                None
            }
            SourceError::Unusable(why) => {
                let why = why.to_string();
                if let Some(slot) = self.slot(id) {
                    slot.last_error = Some(why.clone());
                    slot.state = State::Unusable { until: Later::after(now, UNUSABLE_WAIT), why };
                }
                None
            }
            SourceError::Lying(why) => self.ban(id, &why.to_string()),
        }
    }

    /// Not this one for a while; the next.
    pub fn back_off(&mut self, id: SourceId, why: String, now: Instant) {
        let (draw, longest) = (self.draw(), self.longest_wait);
        let Some(slot) = self.slot(id) else { return };
        let proven = |since: Instant| now.saturating_duration_since(since) >= PROVEN_AFTER;
        slot.failures = match slot.state {
            State::InUse { since, .. } if proven(since) => 1,
            _ => slot.failures.saturating_add(1),
        };
        let whole = FIRST_WAIT.saturating_mul(1 << (slot.failures - 1).min(16)).min(longest);
        // Half of it, and a random part of the other half: servers that went away together come back apart.
        let wait = whole / 2 + (whole / 2).mul_f64(f64::from(draw) / f64::from(u32::MAX));
        slot.last_error = Some(why);
        slot.state = State::Waiting(Later::after(now, wait));
    }

    /// It lied: not again for [`BAN`]. All servers of its host are banned with it.
    pub fn ban(&mut self, id: SourceId, why: &str) -> Option<Banned> {
        let host = self.slot(id)?.source.addr().host().to_owned();
        let until = unix_now().saturating_add(BAN.as_secs());
        for slot in self.slots.iter_mut().filter(|slot| slot.source.addr().host() == host) {
            slot.last_error = Some(why.to_owned());
            slot.state = State::Banned { until, why: why.to_owned() };
        }
        Some(Banned { host, until, reason: why.to_owned() })
    }

    /// A person wants it now: nothing waits any more. Bans stay.
    pub fn retry_now(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if matches!(slot.state, State::Waiting(_) | State::Unusable { .. }) {
                slot.failures = 0;
                slot.state = State::Waiting(Later::after(now, Duration::ZERO));
            }
        }
    }

    /// All servers, for people.
    pub fn status(&self, now: Instant) -> Vec<ServerStatus> {
        self.slots.iter().map(|slot| slot.status(now)).collect()
    }

    fn slot(&mut self, id: SourceId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| match slot.state {
            State::Connecting { id: its } | State::InUse { id: its, .. } => its == id,
            State::Waiting(_) | State::Unusable { .. } | State::Banned { .. } => false,
        })
    }

    /// SplitMix64; good enough for jitter.
    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) as u32
    }
}

impl Slot {
    /// When it may be connected to; `None`: it is in use, or not in sight.
    fn ready_at(&self, now: Instant, wall: u64) -> Option<Instant> {
        match self.state {
            State::Waiting(until) | State::Unusable { until, .. } => Some(until.at),
            State::Banned { until, .. } => Some(now + Duration::from_secs(until.saturating_sub(wall))),
            State::Connecting { .. } | State::InUse { .. } => None,
        }
    }

    fn status(&self, now: Instant) -> ServerStatus {
        let role = match &self.state {
            State::Waiting(until) if until.at <= now => Role::Standby,
            State::Waiting(until) => Role::BackingOff { until: until.wall },
            State::Connecting { .. } => Role::Connecting,
            State::InUse { .. } => Role::InUse,
            State::Unusable { until, why } => Role::Unusable { why: why.clone(), until: until.wall },
            State::Banned { until, why } => {
                Role::Banned { why: why.clone(), until: UNIX_EPOCH + Duration::from_secs(*until) }
            }
        };
        let info = match &self.state {
            State::InUse { info, .. } => Some(info.as_ref().clone()),
            _ => None,
        };
        let addr = self.source.addr().clone();
        ServerStatus { addr, role, last_error: self.last_error.clone(), tip: self.tip, info }
    }
}

/// Bans outlive the process, so they are in wall-clock time. A clock before 1970 is taken as 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::super::{BoxFuture, Connected, EventSink, TlsState, Trouble, Unfit, Untrusted};
    use super::*;

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

    fn pool(hosts: &[&str], wanted: usize) -> Pool {
        let named = |host: &&str| Arc::new(Named(format!("ssl://{host}").parse().unwrap())) as Arc<dyn Source>;
        Pool::new(hosts.iter().map(named).collect(), wanted, LONGEST_WAIT, &[], 7)
    }

    fn info(addr: &ServerAddr) -> SessionInfo {
        SessionInfo {
            addr: addr.clone(),
            software: Untrusted::default(),
            protocol: "1.4".into(),
            tls: TlsState::Pinned,
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
    fn a_liar_is_banned_with_its_whole_host_and_a_retry_does_not_lift_it() {
        let (mut pool, now) = (pool(&["a:1", "a:2", "b:1"], 1), Instant::now());
        let (id, _) = connect(&mut pool, now).unwrap();
        let ban = pool.ban(id, "a forged header").unwrap();
        assert_eq!((ban.host.as_str(), ban.reason.as_str()), ("a", "a forged header"));
        pool.retry_now(now);
        let (id, host) = connect(&mut pool, now).unwrap();
        assert_eq!(host, "b");
        pool.ended(id, &closed(), now);
        let roles = pool.status(now).into_iter().map(|status| status.role).collect::<Vec<_>>();
        assert!(matches!(&roles[..], [Role::Banned { .. }, Role::Banned { .. }, Role::BackingOff { .. }]));
        // A ban survives a restart.
        let pool_again =
            Pool::new(pool.slots.iter().map(|slot| slot.source.clone()).collect(), 1, LONGEST_WAIT, &[ban], 7);
        assert!(matches!(pool_again.status(now)[0].role, Role::Banned { .. }));
    }

    #[test]
    fn a_server_with_a_changed_pin_waits_for_a_person() {
        let (mut pool, now) = (pool(&["a:1"], 1), Instant::now());
        let (id, _) = pool.next(now).unwrap();
        assert_eq!(pool.ended(id, &Unfit::PinChanged.into(), now), None);
        assert!(matches!(pool.status(now)[0].role, Role::Unusable { .. }));
        assert!(pool.next(now).is_none());
        assert_eq!(pool.retry_at(now), Some(now + UNUSABLE_WAIT));
        pool.retry_now(now);
        assert!(pool.next(now).is_some());
    }

    #[test]
    fn several_are_used_when_several_are_wanted() {
        let (mut pool, now) = (pool(&["a:1", "b:1", "c:1"], 2), Instant::now());
        assert!(connect(&mut pool, now).is_some());
        assert!(connect(&mut pool, now).is_some());
        assert!(pool.next(now).is_none());
    }
}
