//! `status`: what the node is, what it uses, what it waits for.

use std::time::SystemTime;

use super::channels::word;
use super::hold::Held;
use super::views::{AlarmView, ChannelCounts, LeastCovered, RecoveryState, State, Status, Tip};
use super::{Answer, Node, Parts, servers};
use crate::clock::{self, unix_now};
use crate::engine::{Alarm, EngineState, Phase, Step};
use crate::ln::channels::Standing;

impl Node {
    /// Answers in every state, also when the disk does not even let itself be read.
    pub async fn status(&self) -> Answer<Status> {
        clock::look();
        let known = self.known().await;
        match self.trouble() {
            None => known,
            Some(why) => Ok(Status { state: State::Halted(why), ..known.unwrap_or_else(|_| self.starting()) }),
        }
    }

    async fn known(&self) -> Answer<Status> {
        let Ok(parts) = self.parts() else { return Ok(self.starting()) };
        let recovery = parts.recovery_state();
        // One look for all that is said of it.
        let caution = parts.caution.alarm();
        let (engine, running) = (parts.engine.state(), self.0.running.get());
        let channels = self.channels().await?;
        let count = |standing| channels.iter().filter(|channel| channel.state == word(standing)).count();
        let (connected, known) = match running {
            Some(running) => (running.peers.connected(), running.peers.list()?.len()),
            None => (0, 0),
        };
        Ok(Status {
            state: match (state(&engine, running.is_some(), caution), &recovery) {
                (State::Ready, Some(recovery)) => recovery.summary().map_or(State::Ready, State::Degraded),
                (state, _) => state,
            },
            node_id: Some(parts.ln.node_id().to_string()),
            tip: engine.tip.map(|tip| Tip {
                height: tip.height,
                hash: tip.hash.to_string(),
                time: tip.time.into(),
                age_secs: unix_now().saturating_sub(tip.time.into()),
            }),
            waits_for: self.waits(parts, &engine, recovery.as_ref()),
            warnings: servers::warnings(&engine.servers),
            alarm: alarm(caution),
            least_covered: engine
                .least_covered
                .zip(engine.channels_behind())
                .map(|(height, behind)| LeastCovered { height, behind }),
            servers: engine.servers.iter().map(servers::brief).collect(),
            audit: self.audit_finding().await?,
            peers_connected: connected,
            peers_known: known,
            channels: ChannelCounts {
                usable: count(Standing::Usable),
                opening: count(Standing::Opening),
                inactive: count(Standing::Inactive),
                closing: count(Standing::Closing),
            },
            balance: Some(self.balance().await?),
            listening: running
                .map_or(Vec::new(), |running| running.listening.iter().map(ToString::to_string).collect()),
            recovery,
            backup: Some(parts.backup_state()),
            ..self.starting()
        })
    }

    fn starting(&self) -> Status {
        let config = self.config();
        let (state, waits_for) = match (self.0.hold.held(), self.gate()) {
            (Some(Held { why, ways_out, .. }), _) => (State::Halted(why), vec![ways_out]),
            (None, Some(gate)) => (State::Locked, gate.waits()),
            (None, None) => (State::Starting, vec!["its channels to be read from the disk".into()]),
        };
        Status {
            state,
            version: env!("CARGO_PKG_VERSION").into(),
            network: config.network.to_string(),
            node_id: None,
            alias: config.node.alias.clone(),
            tip: None,
            waits_for,
            warnings: Vec::new(),
            alarm: None,
            least_covered: None,
            servers: Vec::new(),
            audit: None,
            peers_connected: 0,
            peers_known: 0,
            channels: ChannelCounts::default(),
            balance: None,
            listening: Vec::new(),
            recovery: None,
            backup: None,
            clock: clock::trouble(),
            started_at: self.0.started_at,
        }
    }

    fn waits(&self, parts: &Parts, engine: &EngineState, recovery: Option<&RecoveryState>) -> Vec<String> {
        let mut waits = waits_for(engine);
        waits.extend(parts.certificates.alarms().into_iter().map(|(server, _)| {
            format!("your word on {server}, which shows another key than before (`lightnode servers trust {server}`)")
        }));
        let (reserve, confirmed) = (parts.channels.reserve_sat(), parts.wallet.balance(0).confirmed_sat);
        if confirmed < reserve {
            waits.push(format!(
                "a deposit of {} sat: the reserve that pays for closing channels by force is short",
                reserve - confirmed
            ));
        }
        let closing = parts.ln.closing_balances();
        if !closing.is_empty() {
            let sat: u64 = closing.iter().map(|one| one.amount_sat).sum();
            waits.push(format!("{sat} sat from closed channels to come back (`lightnode balance` shows until when)"));
        }
        for lost in recovery.into_iter().flat_map(|recovery| &recovery.channels) {
            if let Some(what) = &lost.waits_for {
                waits.push(format!("channel {:.12}, {} sat, given up: {what}", lost.channel_id, lost.capacity_sat));
            }
        }
        if let Some(trouble) = parts.backups.state().trouble {
            waits.push(format!("the backup of the channels: {trouble}"));
        }
        waits
    }
}

fn alarm(alarm: Alarm) -> Option<AlarmView> {
    let step = match alarm.step {
        Step::Calm => return None,
        Step::Rotate => "rotating",
        Step::Degraded => "degraded",
        Step::Refuse => "refusing",
    };
    Some(AlarmView { step: step.into(), why: alarm.to_string(), age_secs: alarm.age.as_secs() })
}

fn state(engine: &EngineState, running: bool, alarm: Alarm) -> State {
    let waits = waits_for(engine);
    let why = || waits.first().cloned().unwrap_or_else(|| "the first look at the chain".into());
    if !running {
        return State::Syncing(why());
    }
    match alarm.step {
        Step::Refuse => {
            return State::Degraded(format!("payments are refused, nothing is forwarded, channels stay open: {alarm}"));
        }
        Step::Degraded => return State::Degraded(alarm.to_string()),
        Step::Calm | Step::Rotate => {}
    }
    match engine.phase {
        Phase::NoServer | Phase::Waiting { .. } | Phase::Connecting => State::Degraded(format!(
            "no server is connected: the chain is not followed, payments over open channels still work; waiting for {}",
            why()
        )),
        // A single new block passes through these phases in an instant; a longer way is worth a word.
        Phase::Headers | Phase::Histories if behind(engine) > 1 => State::Syncing(why()),
        Phase::Headers | Phase::Histories | Phase::Synced => {
            if clock::is_behind() {
                State::Degraded("the clock of this machine is behind the chain's; set it, invoices depend on it".into())
            } else if !engine.degraded.is_empty() {
                State::Degraded(format!(
                    "no server serves {} of {} scripts; another server would help",
                    engine.degraded.len(),
                    engine.watches
                ))
            } else {
                State::Ready
            }
        }
    }
}

fn behind(engine: &EngineState) -> u32 {
    engine.claimed.unwrap_or(engine.height).saturating_sub(engine.height)
}

/// In words, what the engine waits for; empty when all that the servers know was proven.
pub(super) fn waits_for(engine: &EngineState) -> Vec<String> {
    let words = match &engine.phase {
        Phase::NoServer => "a server that can be used (none is configured, or all are banned)".into(),
        Phase::Waiting { until } => {
            let left = until.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs());
            format!("a server: all failed, the next try is in {left} s")
        }
        Phase::Connecting => "a server to answer".into(),
        Phase::Headers => {
            format!("headers: at {} of {}", engine.height, engine.claimed.unwrap_or(engine.height))
        }
        Phase::Histories => format!("the histories of {} of {} scripts", engine.pending, engine.watches),
        Phase::Synced => return Vec::new(),
    };
    vec![words]
}
