//! Requests about servers.

use super::error::{Code, NodeError};
use super::views::{Ban, ChangedKey, Done, Server, ServerDetail, TrustKey, Trusted};
use super::{Answer, Node, unix};
use crate::chain::machine::Coverage;
use crate::config::HostPort;
use crate::source::TlsState;
use crate::source::pool::{Role, ServerStatus};
use crate::source::tls::pins::{Changed, Pin, TrustError};

impl Node {
    /// All configured servers, in their order.
    pub async fn servers(&self) -> Answer<Vec<ServerDetail>> {
        let parts = self.parts()?;
        let (state, alarms) = (parts.engine.state(), parts.certificates.alarms());
        let changed = |at: &HostPort| alarms.iter().find(|(server, _)| server == at).map(|(_, changed)| *changed);
        let all = state.servers.iter().zip(&state.coverage);
        Ok(all
            .map(|(status, coverage)| ServerDetail {
                changed_key: changed(&status.addr.at).map(changed_key),
                ..detail(status, coverage, state.height)
            })
            .collect())
    }

    /// Accepts the key that a server shows instead of the known one. The request names it as a person has read it: what
    /// is shown by now may be a third one. The server is tried at once.
    pub async fn trust_server(&self, server: String, request: TrustKey) -> Answer<Trusted> {
        self.blocking(move |node| {
            let parts = node.parts()?;
            let bad = |what: &str| NodeError::new(Code::BadRequest, format!("that is not {what}"));
            let at: HostPort = server.trim().parse().map_err(|_| bad("a server as host:port"))?;
            let key = request.key.trim().parse().map_err(|_| bad("a key: it has 64 hex digits"))?;
            let accepted = parts.certificates.trust(&at, key).map_err(|error| not_trusted(&at, &error))?;
            tracing::warn!(server = %at, %key, "a changed key is accepted");
            parts.engine.retry();
            Ok(Trusted { server: at.to_string(), key: key.to_string(), by_authority: accepted == Pin::Authority })
        })
        .await
    }

    /// Lifts the ban of a host, and forgets what else speaks against its servers.
    pub async fn forgive_server(&self, host: String) -> Answer<Done> {
        let host = host.trim().to_ascii_lowercase();
        match self.parts()?.engine.forgive(&host).await {
            Some(true) => Ok(Done { done: format!("{host} is forgiven and can be used again") }),
            Some(false) => Err(NodeError::new(Code::NotFound, format!("no server of the host {host} is known"))
                .hint("`lightnode servers` lists them; a host is written without scheme and port")),
            None => Err(NodeError::new(Code::NotReady, "the node is stopping")),
        }
    }
}

/// Servers that should be there besides one's own: what one hides another tells.
const ENOUGH: usize = 3;

/// In words, what makes the servers less worth than they could be. Nothing is said of too few where all are one's own.
pub(super) fn warnings(servers: &[ServerStatus]) -> Vec<String> {
    let banned = |one: &&ServerStatus| matches!(one.role, Role::Banned { .. });
    let used = || servers.iter().filter(|one| one.role == Role::InUse);
    let mut warnings = Vec::new();
    if !servers.is_empty() && servers.iter().all(|one| banned(&one)) {
        warnings
            .push("all servers are banned because they lied; `lightnode servers` shows why and how to lift it".into());
    } else if used().any(|one| one.demoted)
        && used().all(|one| one.demoted || one.trusted)
        && !used().any(|one| one.trusted)
    {
        warnings.push(
            "every connected server is suspect (`lightnode servers` shows why); they are used all the same".into(),
        );
    }
    let (all_own, own_used) = (servers.iter().all(|one| one.trusted), used().any(|one| one.trusted));
    if used().count() < ENOUGH && used().count() > 0 && !all_own && !own_used {
        warnings.push(format!(
            "{} of at least {ENOUGH} servers connected: a theft that they all hide is not seen",
            used().count()
        ));
    }
    warnings
}

/// The word for programs, when it is tried again, and why not before.
fn role(status: &ServerStatus) -> (&'static str, Option<u64>, Option<String>) {
    match &status.role {
        Role::InUse => ("in_use", None, None),
        Role::Connecting => ("connecting", None, None),
        Role::Standby => ("standby", None, None),
        Role::BackingOff { until } => ("backing_off", Some(unix(*until)), None),
        Role::Unusable { why, until } => ("unusable", Some(unix(*until)), Some(why.clone())),
        Role::Banned { why, until } => ("banned", Some(unix(*until)), Some(why.clone())),
    }
}

/// The short form, for `status`.
pub(super) fn brief(status: &ServerStatus) -> Server {
    let (role, retry_at, why) = role(status);
    Server {
        address: status.addr.to_string(),
        role: role.into(),
        software: status.info.as_ref().map(|info| info.software.to_string()),
        retry_at,
        trouble: why.or_else(|| status.last_error.clone()),
    }
}

fn detail(status: &ServerStatus, coverage: &Coverage, height: u32) -> ServerDetail {
    let (word, retry_at, why) = role(status);
    let info = status.info.as_ref();
    let ban = match &status.role {
        Role::Banned { why, until } => Some(Ban { reason: why.clone(), until: unix(*until) }),
        _ => None,
    };
    let duties = [
        (info.is_some(), "headers"),
        (info.is_some(), "broadcasts"),
        (status.serves.lightning, "channels"),
        (status.serves.wallet, "wallet"),
    ];
    ServerDetail {
        address: status.addr.to_string(),
        role: word.into(),
        trusted: status.trusted,
        duties: duties.into_iter().filter(|(has, _)| *has).map(|(_, duty)| duty.to_owned()).collect(),
        software: info.map(|info| info.software.to_string()),
        protocol: info.map(|info| info.protocol.clone()),
        protection: info.map(|info| protection(info.tls).into()),
        tip: status.tip,
        behind: status.tip.map(|tip| height.saturating_sub(tip)),
        latency_ms: info.map(|info| u64::try_from(info.latency.as_millis()).unwrap_or(u64::MAX)),
        heard_at: status.heard.map(unix),
        connected_since: info.map(|info| unix(info.since)),
        watches: coverage.watches,
        degraded: coverage.degraded,
        covered: coverage.covered,
        score: status.score,
        demoted: status.demoted,
        fault: status.fault.map(|fault| fault.words().into()),
        trouble: why.or_else(|| status.last_error.clone()),
        retry_at,
        ban,
        changed_key: None,
    }
}

fn changed_key(changed: Changed) -> ChangedKey {
    let known = match changed.known {
        Pin::Authority => None,
        Pin::Key(key) => Some(key.to_string()),
    };
    ChangedKey { known, shown: changed.shown.to_string(), vouched: changed.vouched }
}

fn not_trusted(at: &HostPort, error: &TrustError) -> NodeError {
    match error {
        TrustError::NoAlarm => NodeError::new(Code::NotFound, format!("{at}: {error}")),
        TrustError::Other(_) => NodeError::new(Code::Refused, format!("{at}: {error}; nothing was accepted"))
            .hint("somebody may be in between; look at `lightnode servers` again"),
        TrustError::Pins(_) => NodeError::new(Code::Internal, format!("{at}: {error}; nothing was accepted")),
    }
}

fn protection(tls: TlsState) -> &'static str {
    match tls {
        TlsState::Clear => "clear",
        TlsState::Authority => "authority",
        TlsState::Pinned => "pinned",
        TlsState::FirstUse => "first_use",
    }
}
