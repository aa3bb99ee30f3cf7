//! From time to time: monitors of channels that are long settled are archived, their scripts followed no more, and
//! leftovers of crashes removed.
//!
//! Rules:
//!
//! - LDK archives a monitor when it has had nothing left to claim for 4032 blocks, and only when it is told to look.
//! - `Filter` has no call to unregister. What LDK wanted in an earlier round and wants no more, neither a monitor nor the
//!   sweeper, is given up; nothing else ever is. The scripts of a recovery are not LDK's: while there is one, nothing is.
//! - A registration that comes between the look and the engine's word would be lost. So LDK is asked once more
//!   afterwards; what it lists by then is put in again, and what it lists later it registers later.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bitcoin::ScriptBuf;

use super::recovery::Record;
use super::{Ln, blocking, persist};
use crate::chain::io::ScriptHash;
use crate::engine::EngineHandle;
use crate::task::Shutdown;

/// How long after the start the first round begins, and how long between rounds.
const FIRST_ROUND: Duration = Duration::from_secs(120);
const ROUNDS: Duration = Duration::from_secs(6 * 3600);

/// Keeps the house until shutdown.
pub async fn keep(ln: Ln, engine: EngineHandle, shutdown: Shutdown) -> Result<(), Infallible> {
    let mut pause = FIRST_ROUND;
    let mut wanted = BTreeSet::new();
    loop {
        tokio::select! {
            _ = shutdown.wait() => return Ok(()),
            () = tokio::time::sleep(pause) => pause = ROUNDS,
        }
        let (house, before) = (ln.clone(), wanted);
        let given_up;
        (wanted, given_up) = blocking(move || round(&house, before)).await;
        if given_up.is_empty() {
            continue;
        }
        tracing::info!(scripts = given_up.len(), "channels are settled for good: their scripts are followed no more");
        let scripts = given_up.iter().map(|script| ScriptHash::of(script)).collect();
        if engine.unwatch(scripts).await.is_none() {
            return Ok(());
        }
        let house = ln.clone();
        blocking(move || follow_again(&house, &given_up)).await;
    }
}

/// Archives and tidies up. `before`: what LDK has wanted so far. Gives what it wants now, and what of `before` it does
/// not.
pub(super) fn round(ln: &Ln, mut before: BTreeSet<ScriptBuf>) -> (BTreeSet<ScriptBuf>, Vec<ScriptBuf>) {
    before.extend(ln.watched().scripts());
    ln.chain_monitor.archive_fully_resolved_channel_monitors();
    // Nothing depends on it; the next round does it.
    if let Err(error) = persist::tidy(&ln.persister, &ln.kv) {
        tracing::warn!(%error, "could not tidy up the channels' state");
    }
    match Record::load(&ln.store) {
        Ok(None) => {}
        Ok(Some(_)) => return (before, Vec::new()),
        Err(error) => {
            tracing::warn!(%error, "no script is given up: it is not known whether a recovery needs it");
            return (before, Vec::new());
        }
    }
    let wanted: BTreeSet<ScriptBuf> = ln.watched().scripts().collect();
    let given_up = before.difference(&wanted).cloned().collect();
    (wanted, given_up)
}

/// Puts in again what LDK wants by now.
fn follow_again(ln: &Ln, given_up: &[ScriptBuf]) {
    ln.watched().scripts().filter(|script| given_up.contains(script)).for_each(|script| ln.filter.follow(&script));
}
