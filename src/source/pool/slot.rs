//! One configured server, and what is known of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bitcoin::BlockHash;
use tokio::time::Instant;

use super::demerits::{Demerits, Fault};
use super::duties::Candidate;
use super::operator::Operator;
use super::{Banned, Member};
use crate::chain::io::{Owners, SourceId};
use crate::config::ServerAddr;
use crate::source::{SessionInfo, Source};

/// Tips of one server that are remembered, to notice when it goes back to one.
const TIPS: usize = 8;

pub(super) struct Slot {
    pub(super) source: Arc<dyn Source>,
    pub(super) trusted: bool,
    pub(super) operator: Operator,
    /// Its software without version, as it said last.
    pub(super) family: String,
    pub(super) state: State,
    /// In a row.
    pub(super) failures: u32,
    pub(super) demerits: Demerits,
    pub(super) last_error: Option<String>,
    /// As it says, or said last.
    pub(super) tip: Option<(u32, BlockHash)>,
    left: VecDeque<BlockHash>,
    /// Since when it is behind our chain, and whether it was blamed for it.
    pub(super) behind_since: Option<(Instant, bool)>,
    /// When something was heard from it last.
    pub(super) heard: Option<SystemTime>,
}

pub(super) enum State {
    Waiting(Later),
    Connecting { id: SourceId },
    InUse { id: SourceId, info: Box<SessionInfo>, since: Instant, serves: Owners },
    Unusable { until: Later, why: String },
    Banned { until: Later, why: String },
}

/// A time to come: as it is measured, and for people.
#[derive(Clone, Copy)]
pub(super) struct Later {
    at: Instant,
    wall: SystemTime,
}

impl Later {
    pub(super) fn after(now: Instant, wait: Duration) -> Self {
        Self { at: now + wait, wall: SystemTime::now() + wait }
    }
}

/// A server, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address.
    pub addr: ServerAddr,
    /// One's own.
    pub trusted: bool,
    /// What is done with it.
    pub role: Role,
    /// The scripts that it is told.
    pub serves: Owners,
    /// Its connection, while it is in use.
    pub id: Option<SourceId>,
    /// Passed over where others can do it.
    pub demoted: bool,
    /// What speaks against it; 0 is nothing.
    pub score: u32,
    /// The last thing that does.
    pub fault: Option<Fault>,
    /// What went wrong last, in our words.
    pub last_error: Option<String>,
    /// The height that it claims, or claimed last.
    pub tip: Option<u32>,
    /// When something was heard from it last.
    pub heard: Option<SystemTime>,
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

impl Slot {
    pub(super) fn new(member: Member, bans: &[Banned], now: Instant, wall: u64) -> Self {
        let Member { source, trusted } = member;
        let ban = bans.iter().find(|ban| !trusted && ban.host == source.addr().host());
        let state = match ban {
            Some(ban) => State::Banned { until: Later::after(now, ban.left(wall)), why: ban.reason.clone() },
            None => State::Waiting(Later::after(now, Duration::ZERO)),
        };
        Self {
            operator: Operator::of(source.addr().host()),
            source,
            trusted,
            family: String::new(),
            state,
            failures: 0,
            demerits: Demerits::none(now),
            last_error: None,
            tip: None,
            left: VecDeque::new(),
            behind_since: None,
            heard: None,
        }
    }

    pub(super) fn addr(&self) -> &ServerAddr {
        self.source.addr()
    }

    pub(super) fn is_active(&self) -> bool {
        self.id().is_some()
    }

    pub(super) fn id(&self) -> Option<SourceId> {
        match self.state {
            State::Connecting { id } | State::InUse { id, .. } => Some(id),
            State::Waiting(_) | State::Unusable { .. } | State::Banned { .. } => None,
        }
    }

    pub(super) fn in_use(&self) -> Option<SourceId> {
        if let State::InUse { id, .. } = self.state { Some(id) } else { None }
    }

    pub(super) fn serves(&self) -> Owners {
        if let State::InUse { serves, .. } = self.state { serves } else { Owners::default() }
    }

    pub(super) fn is_demoted(&self, now: Instant) -> bool {
        !self.trusted && self.demerits.demoted(now)
    }

    /// It could be connected to now.
    pub(super) fn is_standby(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting(until) if until.at <= now)
    }

    /// When it may be connected to; `None`: it is in use, or not in sight.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(until) | State::Unusable { until, .. } | State::Banned { until, .. } => Some(until.at),
            State::Connecting { .. } | State::InUse { .. } => None,
        }
    }

    pub(super) fn candidate(&self, now: Instant) -> Option<Candidate> {
        let State::InUse { serves, .. } = self.state else { return None };
        Some(Candidate {
            trusted: self.trusted,
            demoted: self.is_demoted(now),
            serves,
            operator: self.operator.clone(),
            family: self.family.clone(),
            score: self.demerits.score(now),
        })
    }

    /// It says another tip; true when it left that one before.
    pub(super) fn turn_to(&mut self, height: u32, hash: BlockHash) -> bool {
        let Some((_, before)) = self.tip.replace((height, hash)).filter(|(_, before)| *before != hash) else {
            return false;
        };
        self.left.push_back(before);
        while self.left.len() > TIPS {
            self.left.pop_front();
        }
        self.left.contains(&hash)
    }

    pub(super) fn blame(&mut self, fault: Fault, now: Instant) {
        if self.demerits.add(fault, now) && !self.trusted {
            tracing::warn!(server = %self.addr(), why = fault.words(), "a server is demoted");
        }
    }

    pub(super) fn forgive(&mut self, now: Instant) {
        self.demerits = Demerits::none(now);
        self.failures = 0;
        self.last_error = None;
        if !self.is_active() {
            self.state = State::Waiting(Later::after(now, Duration::ZERO));
        }
    }

    pub(super) fn status(&self, now: Instant) -> ServerStatus {
        let role = match &self.state {
            State::Waiting(until) if until.at <= now => Role::Standby,
            State::Waiting(until) => Role::BackingOff { until: until.wall },
            State::Connecting { .. } => Role::Connecting,
            State::InUse { .. } => Role::InUse,
            State::Unusable { until, why } => Role::Unusable { why: why.clone(), until: until.wall },
            State::Banned { until, why } => Role::Banned { why: why.clone(), until: until.wall },
        };
        let info = match &self.state {
            State::InUse { info, .. } => Some(info.as_ref().clone()),
            _ => None,
        };
        ServerStatus {
            addr: self.addr().clone(),
            trusted: self.trusted,
            role,
            serves: self.serves(),
            id: self.in_use(),
            demoted: self.is_demoted(now),
            score: self.demerits.score(now),
            fault: self.demerits.fault(now),
            last_error: self.last_error.clone(),
            tip: self.tip.map(|(height, _)| height),
            heard: self.heard,
            info,
        }
    }
}
