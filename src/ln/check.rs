//! The stored channels looked at as a whole, for `lightnode db check`.
//!
//! Rules: reading a manager or a monitor makes LDK act (a stale manager closes channels, an update may broadcast). Here
//! all that it would act with is dumb: the broadcaster drops, the watch forgets, nothing is persisted, no event is kept.
//! What it wanted to do is what is found.

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::secp256k1::{PublicKey, Secp256k1, Signing, Verification};
use bitcoin::{BlockHash, Transaction};
use lightning::blinded_path::payment::{BlindedPaymentPath, ReceiveTlvs};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::channelmonitor::{ChannelMonitorUpdate, MonitorEvent};
use lightning::chain::transaction::OutPoint;
use lightning::chain::{ChannelMonitorUpdateStatus, Watch};
use lightning::events::{ClosureReason, Event, EventsProvider};
use lightning::io::{Cursor, ErrorKind};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{ChannelManager, ChannelManagerReadArgs, RecentPaymentDetails};
use lightning::ln::msgs::DecodeError;
use lightning::ln::types::ChannelId;
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::router::{InFlightHtlcs, Route, RouteParameters, Router};
use lightning::sign::InMemorySigner;
use lightning::util::logger::{Level, Logger, Record};
use lightning::util::persist::{KVStoreSync, MonitorUpdatingPersister};
use lightning::util::ser::ReadableArgs;

use super::persist::MAX_PENDING_UPDATES;
use super::restore::{RestoreError, keys};
use super::settings::user_config;
use super::types::{ChannelMonitor, KeysManager, Kv};
use super::vault::MANAGER;
use crate::config;
use crate::keys::Seed;
use crate::store::Store;

/// Errors of LDK that are quoted, at most.
const QUOTED: usize = 5;

/// What the stored channels say.
#[derive(Debug, Default)]
pub struct Checked {
    /// Channels that are not closed.
    pub channels: usize,
    /// Monitors, also of closed channels.
    pub monitors: usize,
    /// Payments that LDK still has under way: payment hash, hex, and what the payee is to get, in msat.
    pub under_way: Vec<(String, u64)>,
    /// Payment hashes of payments that LDK has the preimage of, hex; those of the last days.
    pub fulfilled: Vec<String>,
    /// In words.
    pub wrong: Vec<String>,
}

type Silent = Arc<Dumb>;
type Manager = ChannelManager<
    Silent,
    Silent,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Silent,
    Silent,
    Arc<NullMessageRouter>,
    Silent,
>;

/// Reads manager and monitors as a start would. Fails when they cannot be read at all.
pub fn check(store: &Store, seed: &Seed, channels: &config::Channels) -> Result<Checked, RestoreError> {
    let kv = store.kv();
    let keys = Arc::new(keys(seed)?);
    let dumb = Arc::new(Dumb::default());
    let persister = MonitorUpdatingPersister::new(
        Arc::clone(&kv),
        Arc::clone(&dumb),
        MAX_PENDING_UPDATES,
        Arc::clone(&keys),
        Arc::clone(&keys),
        Arc::clone(&dumb),
        Arc::clone(&dumb),
    );
    let monitors = persister
        .read_all_channel_monitors_with_updates()
        .map_err(|error| RestoreError::Damaged(format!("a monitor cannot be read: {error}{}", dumb.quoted())))?;
    let mut checked = Checked { monitors: monitors.len(), ..Checked::default() };
    let Some(bytes) = manager(&kv)? else {
        if !monitors.is_empty() {
            checked
                .wrong
                .push(format!("there are monitors of {} channels, but the channels are missing", monitors.len()));
        }
        return Ok(checked);
    };
    let args = ChannelManagerReadArgs::new(
        Arc::clone(&keys),
        Arc::clone(&keys),
        Arc::clone(&keys),
        Arc::clone(&dumb),
        Arc::clone(&dumb),
        Arc::clone(&dumb),
        Arc::clone(&dumb),
        Arc::new(NullMessageRouter {}),
        Arc::clone(&dumb),
        user_config(channels),
        monitors.iter().map(|(_, monitor)| monitor).collect(),
    );
    match <(BlockHash, Manager)>::read(&mut Cursor::new(&bytes), args) {
        Ok((_, manager)) => checked.look_at(&manager, &monitors),
        Err(DecodeError::DangerousValue) => checked.wrong.push(
            "a channel's monitor is older than the channel itself: using it could lose the channel's money".into(),
        ),
        Err(error) => checked.wrong.push(format!("the channels cannot be read: {error}{}", dumb.quoted())),
    }
    Ok(checked)
}

fn manager(kv: &Kv) -> Result<Option<Vec<u8>>, RestoreError> {
    let [primary, secondary, key] = MANAGER;
    match KVStoreSync::read(kv, primary, secondary, key) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RestoreError::Read { what: "the channels", why: error.to_string() }),
    }
}

impl Checked {
    fn look_at(&mut self, manager: &Manager, monitors: &[(BlockHash, ChannelMonitor)]) {
        let channels = manager.list_channels();
        self.channels = channels.len();
        for channel in &channels {
            let monitored = monitors.iter().any(|(_, monitor)| monitor.channel_id() == channel.channel_id);
            // A channel has its monitor from the moment that its funding transaction is known.
            if channel.funding_txo.is_some() && !monitored {
                self.wrong.push(format!("channel {} has no monitor", channel.channel_id));
            }
        }
        for payment in manager.list_recent_payments() {
            match payment {
                RecentPaymentDetails::Pending { payment_hash, total_msat, .. } => {
                    self.under_way.push((payment_hash.to_string(), total_msat));
                }
                RecentPaymentDetails::Fulfilled { payment_hash, .. } => {
                    self.fulfilled.extend(payment_hash.map(|hash| hash.to_string()));
                }
                RecentPaymentDetails::AwaitingInvoice { .. } | RecentPaymentDetails::Abandoned { .. } => {}
            }
        }
        let stale = Mutex::new(Vec::new());
        manager.process_pending_events(&|event: Event| {
            if let Event::ChannelClosed { channel_id, reason: ClosureReason::OutdatedChannelManager, .. } = event {
                stale.lock().unwrap_or_else(PoisonError::into_inner).push(channel_id);
            }
            Ok(())
        });
        for channel in stale.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.wrong.push(format!(
                "channel {channel}: what is stored of it is older than its monitor; the next start closes it by force"
            ));
        }
    }
}

/// Takes part in nothing; keeps LDK's errors for words.
#[derive(Default)]
struct Dumb(Mutex<Vec<String>>);

impl Dumb {
    fn quoted(&self) -> String {
        let errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().map(|error| format!("; {error}")).collect()
    }
}

impl Logger for Dumb {
    fn log(&self, record: Record<'_>) {
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if record.level >= Level::Error && errors.len() < QUOTED {
            errors.push(record.args.to_string());
        }
    }
}

impl BroadcasterInterface for Dumb {
    fn broadcast_transactions(&self, _: &[&Transaction]) {}
}

impl FeeEstimator for Dumb {
    fn get_est_sat_per_1000_weight(&self, _: ConfirmationTarget) -> u32 {
        253
    }
}

impl Watch<InMemorySigner> for Dumb {
    fn watch_channel(
        &self,
        _: ChannelId,
        _: lightning::chain::channelmonitor::ChannelMonitor<InMemorySigner>,
    ) -> Result<ChannelMonitorUpdateStatus, ()> {
        Err(())
    }

    fn update_channel(&self, _: ChannelId, _: &ChannelMonitorUpdate) -> ChannelMonitorUpdateStatus {
        ChannelMonitorUpdateStatus::InProgress
    }

    fn release_pending_monitor_events(&self) -> Vec<(OutPoint, ChannelId, Vec<MonitorEvent>, PublicKey)> {
        Vec::new()
    }
}

impl Router for Dumb {
    fn find_route(
        &self,
        _: &PublicKey,
        _: &RouteParameters,
        _: Option<&[&ChannelDetails]>,
        _: InFlightHtlcs,
    ) -> Result<Route, &'static str> {
        Err("no route is looked for")
    }

    fn create_blinded_payment_paths<T: Signing + Verification>(
        &self,
        _: PublicKey,
        _: Vec<ChannelDetails>,
        _: ReceiveTlvs,
        _: Option<u64>,
        _: &Secp256k1<T>,
    ) -> Result<Vec<BlindedPaymentPath>, ()> {
        Err(())
    }
}
