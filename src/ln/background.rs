//! LDK's motor: events, timers, and the writing of the manager, the scorer and the graph.
//!
//! Rules (`lightning-background-processor` 0.2.3):
//!
//! - `process_events_async` runs from the first synced tip until the process ends. Its future is never dropped and made
//!   again: LDK would stay in the middle of an event.
//! - It ends with `Err` when the manager cannot be written, without a last write: fatal. It writes everything once more
//!   when its sleeper says so.
//! - A manager that is older than a monitor closes that channel at the next start. So the last write comes after the
//!   last message of a peer: first everybody is hung up on, then the sleeper is told.
//! - Event handlers run inline; a slow one delays the manager's write and the pings.
//! - It never archives monitors and never tidies up; [`super::housekeeping`] does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lightning::events::{Event, ReplayEvent};
use lightning_background_processor::{NO_LIQUIDITY_MANAGER, process_events_async};
use tokio::sync::watch;

use super::peers::Peers;
use super::types::{GossipSync, Sweeper};
use super::{Ln, now};
use crate::task::Shutdown;

/// LDK could not go on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the channels' state could not be written: {0}. Nothing acknowledged is lost; look after the disk, then start again"
)]
pub struct MotorError(String);

/// Runs LDK until shutdown. Ends after its last writes.
pub async fn run<H, F>(
    ln: Ln,
    gossip: GossipSync,
    peers: Peers,
    handle: H,
    shutdown: Shutdown,
) -> Result<(), MotorError>
where
    H: Fn(Event) -> F + Send + Sync,
    F: Future<Output = Result<(), ReplayEvent>> + Send,
{
    let quiet = watch::Sender::new(false);
    let sleeper = |time: Duration| -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let mut quiet = quiet.subscribe();
        Box::pin(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => false,
                // It is held by this function, which outlives the sleepers.
                _ = quiet.wait_for(|quiet| *quiet) => true,
            }
        })
    };
    let Ln { managed, chain_monitor, channels, messenger, peers: manager, logger, scorer, .. } = ln;
    let last = Arc::clone(&managed);
    let motor = process_events_async(
        managed,
        handle,
        chain_monitor,
        channels,
        Some(messenger),
        gossip,
        manager,
        NO_LIQUIDITY_MANAGER,
        // Its timer would ask every 30 s; ours asks when there is something to do (`super::sweeps`).
        None::<Arc<Sweeper>>,
        logger,
        Some(scorer),
        sleeper,
        false,
        || Some(now()),
    );
    let ending = async {
        shutdown.wait().await;
        peers.close();
        last.end();
        quiet.send_replace(true);
    };
    tokio::pin!(motor, ending);
    let outcome = tokio::select! {
        outcome = &mut motor => outcome,
        () = &mut ending => motor.await,
    };
    outcome.map_err(|error| MotorError(error.to_string()))?;
    let settled = last.settle().await.map_err(|error| MotorError(error.to_string()))?;
    settled.map_err(|error| MotorError(error.to_string()))
}
