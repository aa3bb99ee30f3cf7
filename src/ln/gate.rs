//! Shut while the node is blind: no HTLC is forwarded, no attempt at a payment made, no channel is closed for it.
//!
//! Rules (lightning 0.2.7, `channelmanager.rs`, `channel.rs`):
//!
//! - There is no switch for forwarding, and only HTLCs to intercept scids can be intercepted. An HTLC is forwarded only
//!   if it satisfies the outgoing channel's `ChannelConfig`, or the one before it, which counts for some minutes more
//!   (`htlc_satisfies_config`).
//! - An incoming HTLC that expires more than 2016 blocks away is refused (`CLTV_FAR_FAR_AWAY`), so one that leaves us
//!   with a delta of more than that cannot exist.
//! - A change of the config is a `channel_update`, to the network or to the peer; the channel stays up.
//!
//! Decision: forwarding is shut by a `cltv_expiry_delta` that nothing can satisfy, set twice, so that the config before
//! it cannot be satisfied either. Rejected: disconnecting peers (they could close), unsetting
//! `accept_forwards_to_priv_channels` (not public channels). Cost: two updates in the gossip of public channels at the
//! start of such an alarm, one at its end. An HTLC that was accepted before is carried to its end.
//!
//! The same road brings changed fees of the configuration to channels that exist.

use std::sync::Arc;

use lightning::ln::channelmanager::{PaymentId, RecentPaymentDetails};
use lightning::util::config::ChannelConfig;

use super::blocking;
use super::types::ChannelManager;
use super::words::api_error;
use crate::engine::Caution;
use crate::task::Shutdown;

/// No HTLC satisfies the first, nor the second.
const SHUT: [u16; 2] = [u16::MAX - 1, u16::MAX];

/// Opens and shuts.
#[derive(Clone)]
pub struct Gate {
    manager: Arc<ChannelManager>,
    caution: Caution,
    /// As configured.
    open: ChannelConfig,
}

impl Gate {
    /// For the channels of `manager`, which forward as `open` says while the gate is open.
    pub fn new(manager: Arc<ChannelManager>, caution: Caution, open: ChannelConfig) -> Self {
        Self { manager, caution, open }
    }

    /// Follows the alarm until shutdown.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        let (mut was_shut, mut begun) = (false, false);
        loop {
            // Begun before the look: what happens in between ends it.
            let changed = self.caution.changed();
            let refusing = self.caution.refusing();
            let turns = refusing.is_some() != was_shut;
            if turns {
                was_shut = refusing.is_some();
                match &refusing {
                    Some(why) => tracing::error!("payments are refused and nothing is forwarded: {why}"),
                    None => tracing::warn!("payments are accepted and forwarded again"),
                }
            }
            // A block is no reason to look at every channel. While it is shut, though, one may come that is not shut yet.
            if turns || refusing.is_some() || !begun {
                begun = true;
                let gate = self.clone();
                blocking(move || gate.apply(refusing.is_some())).await;
            }
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = changed => {}
            }
        }
    }

    /// Brings all channels to where they are to be. Blocks.
    pub fn apply(&self, shut: bool) {
        for channel in self.manager.list_channels() {
            let Some(present) = channel.config else { continue };
            let wanted: Vec<ChannelConfig> = match shut {
                true if present.cltv_expiry_delta == SHUT[1] => continue,
                true => SHUT.map(|delta| ChannelConfig { cltv_expiry_delta: delta, ..self.open }).into(),
                false if present == self.open => continue,
                false => vec![self.open],
            };
            for config in wanted {
                let peer = channel.counterparty.node_id;
                // An error means that the channel has gone meanwhile.
                if let Err(error) = self.manager.update_channel_config(&peer, &[channel.channel_id], &config) {
                    tracing::warn!(channel = %channel.channel_id, "its forwarding could not be set: {}", api_error(&error));
                }
            }
        }
        if shut {
            self.end_attempts();
        }
    }

    /// What is out stays out; no new part is sent.
    fn end_attempts(&self) {
        for payment in self.manager.list_recent_payments() {
            if let RecentPaymentDetails::Pending { payment_id: PaymentId(id), .. } = payment {
                self.manager.abandon_payment(PaymentId(id));
            }
        }
    }
}
