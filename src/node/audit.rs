//! `chain audit`: the second opinion, asked for by a person or by the clock, compared with our facts and kept.
//!
//! It changes nothing but the one line of its result: no server is banned for it, no channel hears of it. A server that
//! is asked learns which scripts are ours; so it is always the same one as long as it answers.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bitcoin::constants::genesis_block;
use tokio::time::sleep;

use super::error::{Code, NodeError};
use super::views::{AuditDisagreement, AuditRequest, BlockId, ChainAudit, NoOpinion, Verdict};
use super::{Answer, Node, Parts, unix_now};
use crate::config::{Login, ServerAddr};
use crate::dial::DialError;
use crate::ln::audit::{self, Block, Comparison, Opinion, Question, Subject, Through};
use crate::source::pool::Role;
use crate::task::Shutdown;

/// The name of the last result in the store.
const LAST: &str = "chain.audit";
/// The clock does not ask sooner after a start: there is enough to do then.
const AFTER_START: Duration = Duration::from_secs(600);
/// Looks at one server: a block may come between theirs and ours, or be known to one of both a little later.
const LOOKS: usize = 3;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(3);
/// No look begins later than this after the first.
const LAST_LOOK: Duration = Duration::from_secs(120);
/// Servers that are tried.
const SERVERS: usize = 5;

/// A server that could be asked.
struct Candidate {
    url: String,
    /// Our own engine is fed by it.
    serves_us: bool,
}

/// What came of one server.
enum Outcome {
    Compared { tip: Block, ours: Block, comparison: Comparison },
    NoOpinion(String),
}

impl Node {
    /// Has LDK's own engine look at what we watch, on `server` or on one that we do not use, and compares. The result is
    /// kept. One at a time.
    pub async fn audit(&self, request: AuditRequest) -> Answer<ChainAudit> {
        let parts = self.parts()?;
        let candidates = candidates(parts, request.server.as_deref())?;
        let Ok(_one) = self.0.auditing.try_lock() else {
            return Err(NodeError::new(Code::Refused, "an audit of the chain is under way")
                .hint("`lightnode chain audit --last` shows its result when it is done"));
        };
        // Without a first tip of ours there is nothing to compare with.
        self.running()?;
        let audit = self.look_around(parts, candidates).await?;
        tell(&audit);
        let kept = audit.clone();
        self.blocking(move |node| {
            let bytes = serde_json::to_vec(&kept)
                .map_err(|error| NodeError::new(Code::Internal, format!("the result cannot be kept: {error}")))?;
            Ok(node.parts()?.ln.store.set_meta(LAST, &bytes)?)
        })
        .await?;
        Ok(audit)
    }

    /// The result that was kept last.
    pub async fn last_audit(&self) -> Answer<ChainAudit> {
        let last = self.blocking(|node| read_last(node.parts()?)).await?;
        last.ok_or_else(|| {
            NodeError::new(Code::NotFound, "there was no audit of the chain yet")
                .hint("`lightnode chain audit` makes one")
        })
    }

    /// In words for `status`, when the last audit found something.
    pub(super) async fn audit_finding(&self) -> Answer<Option<String>> {
        let last = self.blocking(|node| read_last(node.parts()?)).await?;
        let found = last.filter(|audit| audit.verdict == Verdict::Disagrees);
        Ok(found.map(|audit| {
            let stories = match audit.disagreements.len() {
                1 => "another story".to_owned(),
                many => format!("{many} other stories"),
            };
            let server = audit.server.unwrap_or_default();
            format!(
                "{server} tells LDK's own engine {stories} than what is proven here: `lightnode chain audit --last`"
            )
        }))
    }

    /// The first opinion that is to be had.
    async fn look_around(&self, parts: &Parts, candidates: Vec<Candidate>) -> Answer<ChainAudit> {
        let watched = self.blocking(|node| Ok(node.parts()?.ln.watched())).await?;
        let genesis = genesis_block(self.config().network).block_hash();
        let begun = Instant::now();
        let mut audit = ChainAudit {
            at: unix_now(),
            verdict: Verdict::NoOpinion,
            server: None,
            serves_us: false,
            watched: watched.len(),
            compared: 0,
            ours: None,
            theirs: None,
            disagreements: Vec::new(),
            without_opinion: Vec::new(),
        };
        for Candidate { url, serves_us } in candidates {
            let proxy = parts.dialer.proxy_for(&format!("audit {url}"));
            let proxy = proxy.map(|(at, Login { user, password })| Through { proxy: at.to_string(), user, password });
            let question = Question { server: url.clone(), proxy, genesis, watched: watched.clone() };
            match look(parts, &question, begun).await? {
                Outcome::NoOpinion(why) => audit.without_opinion.push(NoOpinion { server: url, why }),
                Outcome::Compared { tip, ours, comparison } => {
                    audit.verdict = match comparison.disagreements.is_empty() {
                        true => Verdict::Agrees,
                        false => Verdict::Disagrees,
                    };
                    audit.compared = comparison.compared;
                    audit.disagreements = comparison.disagreements.iter().map(disagreement).collect();
                    (audit.server, audit.serves_us) = (Some(url), serves_us);
                    (audit.ours, audit.theirs) = (Some(ours.into()), Some(tip.into()));
                    break;
                }
            }
            if begun.elapsed() > LAST_LOOK {
                break;
            }
        }
        Ok(audit)
    }
}

/// Asks one server, again while the stories differ.
async fn look(parts: &Parts, question: &Question, begun: Instant) -> Answer<Outcome> {
    if let Err(why) = can_speak(&question.server).and_then(|()| can_reach(question)) {
        return Ok(Outcome::NoOpinion(why));
    }
    let mut looks = 0;
    loop {
        looks += 1;
        let (tip, confirmed) = match audit::ask(question).await {
            Opinion::Formed { tip, confirmed } => (tip, confirmed),
            Opinion::CannotSpeak { why } | Opinion::BrokeOff { why } => return Ok(Outcome::NoOpinion(why)),
        };
        let ended = || NodeError::new(Code::NotReady, "the node is stopping");
        let ours = parts.engine.proven(tip.into()).await.ok_or_else(ended)?;
        let comparison = audit::compare(&question.watched, &ours, tip, &confirmed);
        if comparison.disagreements.is_empty() || looks == LOOKS || begun.elapsed() > LAST_LOOK {
            return Ok(Outcome::Compared { tip, ours: ours.tip.into(), comparison });
        }
        sleep(PAUSE).await;
    }
}

/// LDK's client speaks Electrum.
fn can_speak(url: &str) -> Result<(), String> {
    match url.split_once("://") {
        Some(("tcp" | "ssl", _)) => Ok(()),
        _ => Err("LDK's engine is built here for Electrum servers only, and this is none".into()),
    }
}

/// Its client would look an onion address up.
fn can_reach(question: &Question) -> Result<(), String> {
    let onion = question.server.parse::<ServerAddr>().is_ok_and(|server| server.at.is_onion());
    if onion && question.proxy.is_none() { Err(DialError::Onion.to_string()) } else { Ok(()) }
}

/// Whom to ask, in this order: servers that do not serve us, then those that do.
fn candidates(parts: &Parts, wanted: Option<&str>) -> Answer<Vec<Candidate>> {
    let servers = parts.engine.state().servers;
    let serves_us =
        |url: &str| servers.iter().any(|server| server.addr.to_string() == url && matches!(server.role, Role::InUse));
    if let Some(wanted) = wanted {
        let url = match can_speak(wanted) {
            Err(_) => wanted.to_owned(),
            Ok(()) => wanted
                .parse::<ServerAddr>()
                .map_err(|error| NodeError::new(Code::BadRequest, error.to_string()))?
                .to_string(),
        };
        return Ok(vec![Candidate { serves_us: serves_us(&url), url }]);
    }
    let usable = servers.iter().filter(|server| !matches!(server.role, Role::Banned { .. }));
    let mut candidates: Vec<Candidate> = usable
        .map(|server| {
            let url = server.addr.to_string();
            Candidate { serves_us: serves_us(&url), url }
        })
        .collect();
    candidates.sort_by_key(|candidate| candidate.serves_us);
    candidates.truncate(SERVERS);
    Ok(candidates)
}

fn disagreement(found: &audit::Disagreement) -> AuditDisagreement {
    let txid = match found.of {
        Subject::Tip => None,
        Subject::Transaction(txid) => Some(txid.to_string()),
    };
    AuditDisagreement {
        txid,
        height: found.height(),
        ours: found.ours.map(Into::into),
        theirs: found.theirs.map(Into::into),
    }
}

impl From<Block> for BlockId {
    fn from(block: Block) -> Self {
        Self { height: block.height, hash: block.hash.to_string() }
    }
}

/// What an older version kept in another form is not shown.
fn read_last(parts: &Parts) -> Answer<Option<ChainAudit>> {
    let bytes = parts.ln.store.meta(LAST)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn tell(audit: &ChainAudit) {
    let server = audit.server.as_deref().unwrap_or("no server");
    for NoOpinion { server, why } in &audit.without_opinion {
        tracing::info!(%server, %why, "no second opinion from this server");
    }
    match audit.verdict {
        Verdict::Agrees => {
            tracing::info!(%server, watched = audit.watched, compared = audit.compared, "LDK's own engine agrees");
        }
        Verdict::NoOpinion => tracing::warn!("no server gave a second opinion about the chain"),
        Verdict::Disagrees => {
            tracing::error!(%server, "LDK's own engine was told another story; nothing was done about it");
            for AuditDisagreement { txid, height, ours, theirs } in &audit.disagreements {
                tracing::error!(?txid, ?height, ?ours, ?theirs, "two stories");
            }
        }
    }
}

/// Asks by itself, once in the configured time, until shutdown.
pub(super) async fn by_the_clock(node: Node, shutdown: Shutdown) -> Result<(), Infallible> {
    let Some(interval) = node.config().chain.audit_interval else {
        drop(shutdown.wait().await);
        return Ok(());
    };
    let mut least = AFTER_START.min(interval);
    loop {
        let last = node.last_audit().await.map_or(0, |audit| audit.at);
        let since = Duration::from_secs(unix_now().saturating_sub(last));
        let wait = jittered(interval).saturating_sub(since).max(least);
        tokio::select! {
            _ = shutdown.wait() => return Ok(()),
            () = sleep(wait) => {}
        }
        tokio::select! {
            _ = shutdown.wait() => return Ok(()),
            made = node.audit(AuditRequest { server: None }) => if let Err(error) = made {
                tracing::warn!(%error, "the audit of the chain was not made");
            }
        }
        // One that was not made leaves no time behind.
        least = interval / 2;
    }
}

/// Up to a tenth more, so that not all nodes come at once. Without entropy they do.
fn jittered(interval: Duration) -> Duration {
    let share = getrandom::u64().unwrap_or_default() % 1000;
    interval + interval.mul_f64(share as f64 / 10_000.0)
}
