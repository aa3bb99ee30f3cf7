//! Which servers are connected to, what each is told, and which are left alone. Pure.
//!
//! Up to [`CONNECTIONS`] at a time. Among those that are ready, a trusted one comes first, then the wallet's home, then
//! those that are not demoted, of an operator and a software not yet connected to, with fewer failures and demerits,
//! in the configured order. Who is connected stays so until it fails, or until it is demoted and another is ready.
//! What each is told is decided in `duties`.
//!
//! Bans are for provable lies, of a whole host, for [`BAN`], and are never lifted by need: with all banned the node has
//! no server, and says so. They end by monotonic time, and what is remembered of one is cut to [`BAN`] from now: a clock
//! that was far ahead when it was said does not make it longer, and one that jumps does not make it shorter. Demerits
//! are for everything that only looks bad; with all demoted, all serve.
//!
//! Decision: a trusted server that lies provably is not banned, but left alone for an hour, because a ban of
//! one's own server is more likely to hide a defect than to stop a thief; nothing that it says is believed either way.

mod demerits;
mod duties;
mod operator;
mod slot;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bitcoin::BlockHash;
use tokio::time::Instant;

use super::{SessionInfo, Source, SourceError};
use crate::chain::io::{Owners, SourceId};
use crate::clock::unix_now;

pub use demerits::Fault;
pub use slot::{Role, ServerStatus};

use duties::Outlook;
use operator::family;
use slot::{Later, Slot, State};

/// Servers that are connected at a time; trusted ones are always, whatever their number.
pub const CONNECTIONS: usize = 5;
/// The first wait after a failure; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A connection that lives this long makes former failures forgotten; one that drops sooner is one more.
const PROVEN_AFTER: Duration = Duration::from_secs(120);
/// Until a server that a person must look at is tried again.
const UNUSABLE_WAIT: Duration = Duration::from_secs(3600);
/// For how long a server is banned that was caught lying.
pub const BAN: Duration = Duration::from_secs(30 * 24 * 3600);
/// The wallet moves from its home when that failed so often in a row, not when it is only away for a moment.
const HOME_TRIES: u32 = 2;
/// Blocks that a server may be behind our chain …
const LAG: u32 = 2;
/// … for longer than this.
const LAG_PATIENCE: Duration = Duration::from_secs(20);

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

impl Banned {
    /// What is left of it at `wall` (Unix seconds). Never more than a whole one: what says more was said by a clock that
    /// was ahead, or `wall` is behind.
    fn left(&self, wall: u64) -> Duration {
        Duration::from_secs(self.until.saturating_sub(wall)).min(BAN)
    }

    /// The same, ending at most [`BAN`] after `wall`: what is to be remembered from now on.
    #[must_use]
    pub fn cut(self, wall: u64) -> Self {
        Self { until: self.until.min(wall.saturating_add(BAN.as_secs())), ..self }
    }
}

/// A configured server.
pub struct Member {
    /// How it is connected to.
    pub source: Arc<dyn Source>,
    /// One's own: always used, for everything.
    pub trusted: bool,
}

/// What the pool remembers from earlier runs.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Bans that are not over.
    pub bans: Vec<Banned>,
    /// The address of the server that is told the wallet's scripts.
    pub home: Option<String>,
}

/// The configured servers.
pub struct Pool {
    slots: Vec<Slot>,
    /// The server that is told the wallet's scripts.
    home: Option<usize>,
    connections: usize,
    longest_wait: Duration,
    next_id: u64,
    random: u64,
}

impl Pool {
    /// Uses `connections` of these servers at a time; waits between two tries of one grow up to `longest_wait`, with
    /// jitter drawn from `seed`.
    pub fn new(members: Vec<Member>, connections: usize, longest_wait: Duration, memory: &Memory, seed: u64) -> Self {
        let (now, wall) = (Instant::now(), unix_now());
        let slots: Vec<Slot> = members.into_iter().map(|member| Slot::new(member, &memory.bans, now, wall)).collect();
        let home = slots.iter().position(|slot| memory.home.as_deref() == Some(&slot.addr().to_string()));
        Self { slots, home, connections, longest_wait, next_id: 0, random: seed }
    }

    /// The next server to connect to, if another is wanted and one is ready; it counts as connecting from now on.
    pub fn next(&mut self, now: Instant) -> Option<(SourceId, Arc<dyn Source>)> {
        let ready = |slot: &Slot| slot.ready_at().is_some_and(|at| at <= now);
        let (room, places) = (self.wants_more(now), 0..self.slots.len());
        let wanted = |at: &usize| self.slots[*at].trusted || room || (self.home == Some(*at) && self.awaits_home(now));
        let at = places.filter(|at| ready(&self.slots[*at]) && wanted(at)).min_by_key(|at| self.order(*at, now))?;
        let id = SourceId(self.next_id);
        self.next_id += 1;
        let slot = &mut self.slots[at];
        slot.state = State::Connecting { id };
        Some((id, slot.source.clone()))
    }

    /// Smaller is tried first.
    fn order(&self, at: usize, now: Instant) -> impl Ord + use<> {
        let slot = &self.slots[at];
        let active = || self.slots.iter().filter(|other| other.is_active());
        let operator = active().any(|other| other.operator.is_likely(&slot.operator));
        let software = active().any(|other| !slot.family.is_empty() && other.family == slot.family);
        let home = self.home == Some(at);
        (!slot.trusted, !home, slot.is_demoted(now), operator, software, slot.failures, slot.demerits.score(now), at)
    }

    /// When [`Self::next`] will have a server; `None`: none is wanted, or all are banned.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        let room = self.wants_more(now);
        let home = self.home.filter(|_| self.awaits_home(now)).map(|at| &self.slots[at]);
        let wanted = self.slots.iter().filter(|slot| room || slot.trusted).chain(home);
        wanted.filter_map(Slot::ready_at).min()
    }

    /// Whether there is room for any server. The wallet's home keeps its place while it is awaited, unless nobody else
    /// would be there meanwhile.
    fn wants_more(&self, now: Instant) -> bool {
        let kept = self.home.filter(|at| !self.slots[*at].is_active() && self.awaits_home(now));
        let active = self.slots.iter().filter(|slot| slot.is_active()).count();
        active == 0 || active + usize::from(kept.is_some()) < self.connections
    }

    /// Whether the wallet's home (or a trusted server, which would be it) is away for a moment only.
    fn awaits_home(&self, now: Instant) -> bool {
        let may_come = |slot: &Slot| match slot.state {
            State::Connecting { .. } => slot.failures < HOME_TRIES,
            State::Waiting(_) => slot.failures < HOME_TRIES && !slot.is_demoted(now),
            State::InUse { .. } | State::Unusable { .. } | State::Banned { .. } => false,
        };
        let home = self.home.map(|at| &self.slots[at]);
        self.slots.iter().filter(|slot| slot.trusted).chain(home).any(may_come)
    }

    /// A connection is made. What it is told comes with the next [`Self::assign`].
    pub fn connected(&mut self, id: SourceId, info: SessionInfo, now: Instant) {
        if let Some(slot) = self.slot(id) {
            slot.family = family(info.software.raw());
            if let Some(peer) = info.peer {
                slot.operator.reached_at(peer);
            }
            slot.heard = Some(SystemTime::now());
            slot.behind_since = None;
            let serves = Owners::default();
            slot.state = State::InUse { id, info: Box::new(info), since: now, serves };
        }
    }

    /// Divides the duties anew, and gives those that changed. Servers whose duties grow come first: nothing is
    /// taken from one before another has it.
    pub fn assign(&mut self, now: Instant) -> Vec<(SourceId, Owners)> {
        let places: Vec<usize> = (0..self.slots.len()).filter(|at| self.slots[*at].in_use().is_some()).collect();
        let candidates: Vec<_> = places.iter().filter_map(|at| self.slots[*at].candidate(now)).collect();
        let trusted = candidates.iter().any(|one| one.trusted);
        let coming = |slot: &&Slot| matches!(slot.state, State::Connecting { .. }) && slot.failures == 0;
        let outlook = Outlook {
            home: self.home.and_then(|home| places.iter().position(|at| *at == home)),
            home_awaited: !trusted && self.awaits_home(now),
            coming: self.slots.iter().filter(coming).count(),
        };
        let (duties, home) = duties::divide(&candidates, outlook);
        if let Some(home) = home {
            self.home = Some(places[home]);
        }
        let mut changed = Vec::new();
        for (at, duty) in places.into_iter().zip(duties) {
            if let State::InUse { id, serves, .. } = &mut self.slots[at].state {
                if *serves != duty {
                    let grows = duty.contains(*serves);
                    *serves = duty;
                    changed.push((!grows, *id, duty));
                }
            }
        }
        changed.sort_by_key(|(shrinks, ..)| *shrinks);
        changed.into_iter().map(|(_, id, duty)| (id, duty)).collect()
    }

    /// The server that is told the wallet's scripts, to be remembered.
    pub fn home(&self) -> Option<String> {
        self.home.map(|at| self.slots[at].addr().to_string())
    }

    /// A demoted server whose place another one could take. Its connection is to be ended, with [`Self::back_off`].
    pub fn replaceable(&self, now: Instant) -> Option<SourceId> {
        let better = |slot: &Slot| slot.is_standby(now) && slot.failures == 0 && !slot.is_demoted(now);
        if self.wants_more(now) || !self.slots.iter().any(better) {
            return None;
        }
        let demoted = self.slots.iter().filter(|slot| slot.is_demoted(now));
        let worst = demoted.filter(|slot| slot.in_use().is_some()).max_by_key(|slot| slot.demerits.score(now));
        worst.and_then(Slot::in_use)
    }

    /// What is known of a connection now; something was heard on it.
    pub fn heard(&mut self, id: SourceId, fresh: SessionInfo) {
        let Some(slot) = self.slot(id) else { return };
        slot.heard = Some(SystemTime::now());
        if let State::InUse { info, .. } = &mut slot.state {
            **info = fresh;
        }
    }

    /// A server says its tip. Going back to one that it had left is a fault.
    pub fn tip(&mut self, id: SourceId, height: u32, hash: BlockHash, now: Instant) {
        if let Some(slot) = self.slot(id) {
            if slot.turn_to(height, hash) {
                slot.blame(Fault::Flip, now);
            }
        }
    }

    /// Looks which servers are behind our chain.
    pub fn review(&mut self, height: u32, now: Instant) {
        for slot in self.slots.iter_mut().filter(|slot| slot.in_use().is_some()) {
            let lags = slot.tip.is_some_and(|(tip, _)| tip.saturating_add(LAG) < height);
            slot.behind_since = match slot.behind_since {
                _ if !lags => None,
                None => Some((now, false)),
                Some((since, false)) if now >= since + LAG_PATIENCE => {
                    slot.blame(Fault::Lag, now);
                    Some((since, true))
                }
                known => known,
            };
        }
    }

    /// When [`Self::review`] has something to say again, if no tip comes before.
    pub fn review_at(&self) -> Option<Instant> {
        let waits = |slot: &Slot| slot.behind_since.filter(|(_, told)| !told).map(|(since, _)| since + LAG_PATIENCE);
        self.slots.iter().filter(|slot| slot.in_use().is_some()).filter_map(waits).min()
    }

    /// Nothing new for too long: the server with the stalest word on the chain loses its duties to others.
    pub fn rotate(&mut self, now: Instant) {
        let told = |slot: &&mut Slot| !slot.trusted && slot.serves().lightning && !slot.is_demoted(now);
        let stalest = self.slots.iter_mut().filter(told).min_by_key(|slot| (slot.tip.map(|(tip, _)| tip), slot.heard));
        if let Some(slot) = stalest {
            slot.blame(Fault::Stale, now);
        }
    }

    /// Something was not as it should be.
    pub fn blame(&mut self, id: SourceId, fault: Fault, now: Instant) {
        if let Some(slot) = self.slot(id) {
            slot.blame(fault, now);
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
                self.unusable(id, &why.to_string(), now);
                None
            }
            SourceError::Lying(why) => self.ban(id, &why.to_string(), now),
        }
    }

    fn unusable(&mut self, id: SourceId, why: &str, now: Instant) {
        if let Some(slot) = self.slot(id) {
            slot.last_error = Some(why.to_owned());
            slot.state = State::Unusable { until: Later::after(now, UNUSABLE_WAIT), why: why.to_owned() };
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
    pub fn ban(&mut self, id: SourceId, why: &str, now: Instant) -> Option<Banned> {
        let slot = self.slot(id)?;
        if slot.trusted {
            self.unusable(id, why, now);
            return None;
        }
        let host = slot.addr().host().to_owned();
        let until = Later::after(now, BAN);
        for slot in self.slots.iter_mut().filter(|slot| !slot.trusted && slot.addr().host() == host) {
            slot.last_error = Some(why.to_owned());
            slot.state = State::Banned { until, why: why.to_owned() };
        }
        Some(Banned { host, until: unix_now().saturating_add(BAN.as_secs()), reason: why.to_owned() })
    }

    /// Lifts the ban of a host, and forgets what else speaks against its servers. False: no server is of this host.
    pub fn forgive(&mut self, host: &str, now: Instant) -> bool {
        let mut found = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.addr().host() == host) {
            slot.forgive(now);
            found = true;
        }
        found
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
        self.slots.iter_mut().find(|slot| slot.id() == Some(id))
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
