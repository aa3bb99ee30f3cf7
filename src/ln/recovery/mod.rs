//! Recovery: channels whose state is lost or old are closed by their peers, and what that pays us is swept.
//!
//! Rules (BOLT 2 "data loss", LDK's "We have fallen behind"):
//!
//! - An old state of a channel is never signed for, sent or broadcast: its monitor is put aside before LDK could act
//!   on it (`aside`), and the channel manager starts with no channels.
//! - A peer greets us with `channel_reestablish` for a channel that our manager does not know. LDK answers with one
//!   that no node can agree to, and with an error: the peer closes, with its own newest commitment. So all there is to
//!   do is to be connected. Nobody else is to say it unasked: two nodes that both do not know the channel would answer
//!   each other for ever.
//! - What such a close pays us lies on a static script of the seed (`scripts`), with the next block to spend.
//!   Payments that were under way in it are the peer's to settle or to keep.
//! - A recovery ends when all is closed, found and swept, or abandoned by its owner: a peer may be gone for good. From
//!   then on nothing is followed any more; a later restore from the words finds what a late close has paid.
//! - A close counts from its sixth confirmation, as with LDK's monitors: what a reorganisation takes back was never
//!   handed to the sweeper, whose transaction it would spoil.
//!
//! Decision: the normal engine and a normal manager, with an additional listener, rather than a mode of its own: wallet,
//! peers and sweeper are what they always are, and new channels may be opened meanwhile. Channels that were closed
//! before the copy was made keep their monitors: no newer state of them can exist, and only their monitors can claim.

mod aside;
mod record;
mod scripts;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::ScriptBuf;
use lightning::util::sweep::{OutputSpendStatus, TrackedSpendableOutput};
use tokio::sync::Notify;

pub use self::aside::{give_up, given_up_payments};
pub use self::record::{Lost, Record};
use self::scripts::{Scripts, descriptor};
use super::peers::Peers;
use super::types::KeysManager;
use super::{Ln, blocking, now};
use crate::chain::io::{Owners, Plan, Watch};
use crate::chain::tree::HeaderTree;
use crate::config::HostPort;
use crate::crash::{self, Point};
use crate::engine::{DeliveryError, Listener, WatchInbox};
use crate::store::{Store, StoreError};
use crate::task::Shutdown;

/// How often peers that are away are tried at their other addresses.
const DIAL_AGAIN: Duration = Duration::from_secs(60);

/// A recovery that is under way.
pub struct Recovery {
    store: Store,
    keys: Arc<KeysManager>,
    inbox: WatchInbox,
    scripts: BTreeSet<ScriptBuf>,
    /// `None` once it is over.
    record: Mutex<Option<Record>>,
    wake: Notify,
}

impl Recovery {
    /// The one that the store knows of, with its scripts put into the inbox; `None`: there is none.
    ///
    /// Their peers are remembered, and so dialled from the start.
    pub fn open(store: &Store, ln: &Ln, inbox: &WatchInbox) -> Result<Option<Arc<Self>>, StoreError> {
        let Some(record) = Record::load(store)? else { return Ok(None) };
        let Scripts { anchors, all } = Scripts::of(&ln.keys);
        for Lost { channel, .. } in record.channels.iter().filter(|lost| lost.is_awaited()) {
            let known = store.peers()?.iter().any(|peer| peer.node_id == channel.peer);
            if let (Some(address), false) = (channel.addresses.first(), known) {
                store.add_peer(channel.peer, address, now().as_secs())?;
            }
        }
        crash::passes(Point::RecoveryPeers);
        let recovery = Self {
            store: store.clone(),
            keys: Arc::clone(&ln.keys),
            inbox: inbox.clone(),
            scripts: all,
            record: Mutex::default(),
            wake: Notify::new(),
        };
        record.scripts().for_each(|script| recovery.follow(script));
        if record.looks() {
            anchors.into_iter().for_each(|script| recovery.follow(script));
        }
        *recovery.record() = Some(record);
        Ok(Some(Arc::new(recovery)))
    }

    /// How far it has come; `None` once it is over.
    pub fn state(&self) -> Option<Record> {
        self.record().clone()
    }

    /// The owner waits no longer for the close of this channel. Durable when it returns; false: it is not waited for.
    pub fn abandon(&self, channel_id: &str) -> Result<bool, StoreError> {
        let mut held = self.record();
        let Some(mut record) = held.clone() else { return Ok(false) };
        let changed = record.abandon(channel_id, now().as_secs());
        if changed {
            record.save(&self.store)?;
            *held = Some(record);
            self.wake.notify_one();
        }
        Ok(changed)
    }

    fn follow(&self, script: ScriptBuf) {
        self.inbox.push(Watch { script, owners: Owners { wallet: false, lightning: true } });
    }

    fn record(&self) -> MutexGuard<'_, Option<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands what is found to the sweeper and looks after the peers, until it is over and the node ends.
    pub async fn run(self: Arc<Self>, ln: Ln, peers: Peers, shutdown: Shutdown) -> Result<(), StoreError> {
        let mut tip = ln.tip.clone();
        let dialling = Arc::clone(&self).dial(peers);
        let working = async {
            loop {
                tip.mark_unchanged();
                self.hand_over(&ln).await?;
                if self.is_over(&ln) {
                    let store = self.store.clone();
                    blocking(move || Record::clear(&store)).await?;
                    crash::passes(Point::RecoveryOver);
                    *self.record() = None;
                    tracing::info!("the recovery is over: all that was known is closed and on its way to the wallet");
                    return Ok(());
                }
                tokio::select! {
                    () = self.wake.notified() => {}
                    // It ends with the node.
                    Ok(()) = tip.changed() => {}
                    () = tokio::time::sleep(DIAL_AGAIN) => {}
                }
            }
        };
        let ended = tokio::select! {
            ended = working => ended,
            never = dialling => match never {},
            _ = shutdown.wait() => return Ok(()),
        };
        ended?;
        shutdown.wait().await;
        Ok(())
    }

    async fn hand_over(&self, ln: &Ln) -> Result<(), StoreError> {
        let Some(tip) = ln.best_block() else { return Ok(()) };
        let due = self.record().as_ref().map(|record| record.due(tip.height)).unwrap_or_default();
        for found in due {
            let (keys, output) = (Arc::clone(&self.keys), found.output.clone());
            let Some(output) = blocking(move || descriptor(&keys, found.outpoint, &output)).await else {
                tracing::error!(outpoint = %found.outpoint, "no key was found for an output of a closed channel");
                continue;
            };
            if ln.sweeps.track(vec![output], None).await.is_err() {
                // LDK has recorded why; the next block tries again.
                tracing::warn!(outpoint = %found.outpoint, "an output of a closed channel could not be handed on yet");
                continue;
            }
            crash::passes(Point::RecoveryHanded);
            tracing::info!(outpoint = %found.outpoint, sat = found.output.value.to_sat(), "sweeping a closed channel");
            let kept = self.record().as_mut().map(|record| {
                record.handed(found.outpoint);
                record.clone()
            });
            if let Some(record) = kept {
                let store = self.store.clone();
                blocking(move || record.save(&store)).await?;
                crash::passes(Point::RecoveryKept);
            }
        }
        Ok(())
    }

    fn is_over(&self, ln: &Ln) -> bool {
        let (record, Some(tip)) = (self.record(), ln.best_block()) else { return false };
        let Some(record) = record.as_ref() else { return true };
        let swept = ln.sweeper.tracked_spendable_outputs();
        record.is_complete(tip.height) && record.with_the_sweeper().all(|output| is_swept(&swept, output))
    }

    /// Tries the other addresses of peers that are away. The first is dialled like that of any peer.
    async fn dial(self: Arc<Self>, peers: Peers) -> Infallible {
        loop {
            tokio::time::sleep(DIAL_AGAIN).await;
            let open: Vec<Lost> = self.state().map(|record| record.channels).unwrap_or_default();
            for Lost { channel, .. } in open.iter().filter(|lost| lost.is_awaited()) {
                for address in channel.addresses.iter().skip(1).filter_map(|text| text.parse::<HostPort>().ok()) {
                    if peers.is_connected(&channel.peer) || peers.connect(channel.peer, &address).await.is_ok() {
                        break;
                    }
                }
            }
        }
    }
}

/// True when the sweep is in a block, or so old that the sweeper has forgotten it.
fn is_swept(tracked: &[TrackedSpendableOutput], output: bitcoin::OutPoint) -> bool {
    let status = tracked.iter().find(|one| one.descriptor.spendable_outpoint().into_bitcoin_outpoint() == output);
    status.is_none_or(|one| matches!(one.status, OutputSpendStatus::PendingThresholdConfirmations { .. }))
}

impl Listener for Recovery {
    fn deliver(&self, plan: &Plan, _headers: &HeaderTree) -> Result<(), DeliveryError> {
        let mut held = self.record();
        let Some(record) = held.as_mut() else { return Ok(()) };
        let mut changed = plan.fork.is_some_and(|fork| record.forked(fork.height));
        if let Some(block) = &plan.block {
            for tx in &block.txs {
                let news = record.block(tx.proven.tx(), block.height, &self.scripts);
                changed |= news.changed;
                news.follow.into_iter().for_each(|script| self.follow(script));
            }
        }
        changed |= plan.tip.is_some_and(|(_, height)| record.tip(height));
        if changed {
            let failed = |error: StoreError| DeliveryError { who: "the recovery", why: error.to_string() };
            record.save(&self.store).map_err(failed)?;
            crash::passes(Point::RecoveryFound);
        }
        self.wake.notify_one();
        Ok(())
    }
}
