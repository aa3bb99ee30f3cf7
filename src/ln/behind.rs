//! Notices that a peer knows newer states of a channel than we do, before LDK hears of it.
//!
//! Rules (BOLT 2 `channel_reestablish`, LDK `FundedChannel::channel_reestablish`):
//!
//! - `next_revocation_number` of the peer's message counts the secrets that it has from us. One that is above the
//!   number of our present commitment, with the secret that belongs to it, proves that our state is old: to broadcast
//!   it would let the peer take everything. LDK panics then, under its locks, and would again at each start.
//! - In LDK's own message of the same moment `next_local_commitment_number` is the number of our present commitment
//!   and one: what we compare with. A message is compared once; a second one is LDK's to judge.
//!
//! Decision: this handler stands between LDK's peer manager and its channel manager, reads LDK's own messages on their
//! way out, and diverts the one that would make it panic: what is known is written down durably, and the process ends
//! without LDK having moved. Rejected: a panic hook, which runs in the middle of LDK's work, with whatever that has
//! handed out already, and depends on the wording of a panic. Cost: all handlers passed on by hand.
//!
//! A number above ours *without* the right secret proves nothing and goes to LDK, which closes the channel over it:
//! otherwise any peer could halt any node. Whether the secret is right is asked of all channels' keys, because LDK does
//! not say whose are whose; none of them can be guessed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use lightning::ln::msgs::*;
use lightning::ln::types::ChannelId;
use lightning::sign::ChannelSigner;
use lightning::types::features::{InitFeatures, NodeFeatures};

use super::outgoing::Outgoing;
use super::types::{ChannelManager, Signers};

/// BOLT 3: commitment numbers count down from here.
const FIRST_COMMITMENT: u64 = (1 << 48) - 1;

/// Told who proved it and for which channel; does not return.
pub type Behind = Box<dyn Fn(PublicKey, ChannelId) + Send + Sync>;

/// LDK's channel manager, as the peer manager sees it.
pub struct Watchman {
    inner: Arc<ChannelManager>,
    signers: Arc<Signers>,
    outgoing: Outgoing,
    behind: Behind,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of our present commitment, as our last message to the peer had it.
    ours: HashMap<(PublicKey, ChannelId), u64>,
    /// Taken from LDK ahead of time; to go out first.
    events: Vec<MessageSendEvent>,
}

impl Watchman {
    /// Before `inner`; `behind` is called when a peer proves that our state is old.
    /// What must not go out before it is on disk waits in `outgoing`.
    pub fn new(inner: Arc<ChannelManager>, signers: Arc<Signers>, outgoing: Outgoing, behind: Behind) -> Self {
        Self { inner, signers, outgoing, behind, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what LDK wants to send, and reads it.
    fn gather(&self) {
        // Under the lock: what was taken and is not yet read would make a message pass that must not.
        let mut state = self.state();
        let events = self.inner.get_and_clear_pending_msg_events();
        for event in &events {
            if let MessageSendEvent::SendChannelReestablish { node_id, msg } = event {
                let ours = msg.next_local_commitment_number.saturating_sub(1);
                state.ours.insert((*node_id, msg.channel_id), ours);
            }
        }
        state.events.extend(events);
    }

    /// True when the message proves that the peer has a secret of a commitment that we do not know of.
    fn proves_us_behind(&self, peer: PublicKey, msg: &ChannelReestablish) -> bool {
        self.gather();
        let Some(ours) = self.state().ours.remove(&(peer, msg.channel_id)) else { return false };
        is_ahead(msg, ours) && self.is_our_secret(msg)
    }

    fn is_our_secret(&self, msg: &ChannelReestablish) -> bool {
        let Ok(secret) = SecretKey::from_slice(&msg.your_last_per_commitment_secret) else { return false };
        let secp = Secp256k1::new();
        let given = PublicKey::from_secret_key(&secp, &secret);
        let index = FIRST_COMMITMENT - msg.next_remote_commitment_number + 1;
        self.signers.all().iter().any(|signer| signer.get_per_commitment_point(index, &secp) == Ok(given))
    }
}

/// True when the peer counts more of our secrets than we have given out. Numbers that LDK refuses are not counted.
fn is_ahead(msg: &ChannelReestablish, ours: u64) -> bool {
    let theirs = msg.next_remote_commitment_number;
    theirs > ours && theirs < FIRST_COMMITMENT
}

impl BaseMessageHandler for Watchman {
    fn get_and_clear_pending_msg_events(&self) -> Vec<MessageSendEvent> {
        self.gather();
        let events = std::mem::take(&mut self.state().events);
        self.outgoing.pass(events)
    }

    fn peer_disconnected(&self, their_node_id: PublicKey) {
        self.inner.peer_disconnected(their_node_id);
        self.outgoing.forget(their_node_id);
        let mut state = self.state();
        state.ours.retain(|(peer, _), _| *peer != their_node_id);
        // It would reach the next connection, beside that one's own.
        state.events.retain(|event| {
            !matches!(event, MessageSendEvent::SendChannelReestablish { node_id, .. } if *node_id == their_node_id)
        });
    }

    fn provided_node_features(&self) -> NodeFeatures {
        self.inner.provided_node_features()
    }

    fn provided_init_features(&self, their_node_id: PublicKey) -> InitFeatures {
        self.inner.provided_init_features(their_node_id)
    }

    fn peer_connected(&self, their_node_id: PublicKey, msg: &Init, inbound: bool) -> Result<(), ()> {
        self.inner.peer_connected(their_node_id, msg, inbound)
    }
}

/// Passes messages on.
macro_rules! pass_on {
    ($($name:ident($message:ty);)*) => {
        $(fn $name(&self, their_node_id: PublicKey, msg: $message) {
            self.inner.$name(their_node_id, msg);
        })*
    };
}

impl ChannelMessageHandler for Watchman {
    pass_on! {
        handle_open_channel(&OpenChannel);
        handle_open_channel_v2(&OpenChannelV2);
        handle_accept_channel(&AcceptChannel);
        handle_accept_channel_v2(&AcceptChannelV2);
        handle_funding_created(&FundingCreated);
        handle_funding_signed(&FundingSigned);
        handle_channel_ready(&ChannelReady);
        handle_peer_storage(PeerStorage);
        handle_peer_storage_retrieval(PeerStorageRetrieval);
        handle_shutdown(&Shutdown);
        handle_closing_signed(&ClosingSigned);
        handle_stfu(&Stfu);
        handle_splice_init(&SpliceInit);
        handle_splice_ack(&SpliceAck);
        handle_splice_locked(&SpliceLocked);
        handle_tx_add_input(&TxAddInput);
        handle_tx_add_output(&TxAddOutput);
        handle_tx_remove_input(&TxRemoveInput);
        handle_tx_remove_output(&TxRemoveOutput);
        handle_tx_complete(&TxComplete);
        handle_tx_signatures(&TxSignatures);
        handle_tx_init_rbf(&TxInitRbf);
        handle_tx_ack_rbf(&TxAckRbf);
        handle_tx_abort(&TxAbort);
        handle_update_add_htlc(&UpdateAddHTLC);
        handle_update_fulfill_htlc(UpdateFulfillHTLC);
        handle_update_fail_htlc(&UpdateFailHTLC);
        handle_update_fail_malformed_htlc(&UpdateFailMalformedHTLC);
        handle_commitment_signed(&CommitmentSigned);
        handle_revoke_and_ack(&RevokeAndACK);
        handle_update_fee(&UpdateFee);
        handle_announcement_signatures(&AnnouncementSignatures);
        handle_channel_update(&ChannelUpdate);
        handle_error(&ErrorMessage);
    }

    fn handle_commitment_signed_batch(&self, node_id: PublicKey, channel_id: ChannelId, batch: Vec<CommitmentSigned>) {
        self.inner.handle_commitment_signed_batch(node_id, channel_id, batch);
    }

    fn handle_channel_reestablish(&self, their_node_id: PublicKey, msg: &ChannelReestablish) {
        if self.proves_us_behind(their_node_id, msg) {
            (self.behind)(their_node_id, msg.channel_id);
            return;
        }
        self.inner.handle_channel_reestablish(their_node_id, msg);
    }

    fn get_chain_hashes(&self) -> Option<Vec<ChainHash>> {
        self.inner.get_chain_hashes()
    }

    fn message_received(&self) {
        self.inner.message_received();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reestablish(next_remote: u64) -> ChannelReestablish {
        let key = SecretKey::from_slice(&[1; 32]).expect("a key");
        ChannelReestablish {
            channel_id: ChannelId([1; 32]),
            next_local_commitment_number: 1,
            next_remote_commitment_number: next_remote,
            your_last_per_commitment_secret: [1; 32],
            my_current_per_commitment_point: PublicKey::from_secret_key(&Secp256k1::new(), &key),
            next_funding: None,
            my_current_funding_locked: None,
        }
    }

    #[test]
    fn a_peer_is_ahead_from_the_first_secret_that_we_have_not_given() {
        let ahead = |theirs, ours| is_ahead(&reestablish(theirs), ours);
        assert_eq!([ahead(4, 5), ahead(5, 5), ahead(6, 5), ahead(50, 5)], [false, false, true, true]);
        assert!(!ahead(FIRST_COMMITMENT, 5), "a number that LDK refuses");
    }
}
