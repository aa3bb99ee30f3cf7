//! Messages to peers on their way out, and the one that LDK lets go too early.
//!
//! Rule (`ChannelManager::internal_funding_created`): who accepts a channel signs the funding at once, and does not wait for
//! its first monitor: no money of ours is in it yet. But the opener sends the funding when it has the signature. A power
//! cut before our write would leave a channel that is paid for and that we do not know; at the next connection LDK's
//! answer makes the opener close it by force.
//!
//! Decision: `funding_signed` waits here until what was staged before it is on disk; the vault wakes the peer manager after
//! each write. Rejected: to write before the handler returns, for it would block the peer manager on a disk that refuses.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::MessageSendEvent;

use super::vault::Stage;

/// Holds messages back until what they speak of is on disk.
pub struct Outgoing {
    stage: Arc<Stage>,
    /// Each with the mark of what has to be written first.
    held: Mutex<Vec<(u64, MessageSendEvent)>>,
}

impl Outgoing {
    /// For a manager whose monitors go through `stage`.
    pub fn new(stage: Arc<Stage>) -> Self {
        Self { stage, held: Mutex::default() }
    }

    /// What may go out now, of what LDK has just handed out and of what is held.
    pub fn pass(&self, come: Vec<MessageSendEvent>) -> Vec<MessageSendEvent> {
        // What the messages speak of was staged before they were made.
        sort(&mut self.held(), come, self.stage.mark(), |mark| self.stage.is_written(mark))
    }

    /// The peer has hung up: what is held for it is of a connection that is no more, and LDK begins anew.
    pub fn forget(&self, peer: PublicKey) {
        self.held().retain(|(_, event)| !is_early(event, Some(peer)));
    }

    fn held(&self) -> MutexGuard<'_, Vec<(u64, MessageSendEvent)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for messages that LDK lets go too early; with `to`, only of that peer.
fn is_early(event: &MessageSendEvent, to: Option<PublicKey>) -> bool {
    matches!(event, MessageSendEvent::SendFundingSigned { node_id, .. } if to.is_none_or(|peer| peer == *node_id))
}

/// What may go now, of what is held and what has come; the rest stays held. `mark` covers all that has come.
fn sort(
    held: &mut Vec<(u64, MessageSendEvent)>,
    come: Vec<MessageSendEvent>,
    mark: u64,
    is_written: impl Fn(u64) -> bool,
) -> Vec<MessageSendEvent> {
    let (early, mut free): (Vec<_>, Vec<_>) = come.into_iter().partition(|event| is_early(event, None));
    held.extend(early.into_iter().map(|event| (mark, event)));
    let (written, waiting): (Vec<_>, Vec<_>) = held.drain(..).partition(|(mark, _)| is_written(*mark));
    *held = waiting;
    free.extend(written.into_iter().map(|(_, event)| event));
    free
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::ecdsa::Signature;
    use bitcoin::secp256k1::{Secp256k1, SecretKey};
    use lightning::ln::msgs::{FundingSigned, PeerStorage};
    use lightning::ln::types::ChannelId;

    use super::*;

    fn node_id() -> PublicKey {
        PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[1; 32]).unwrap())
    }

    fn funding_signed() -> MessageSendEvent {
        let signature = Signature::from_compact(&[1; 64]).unwrap();
        let msg = FundingSigned { channel_id: ChannelId([1; 32]), signature };
        MessageSendEvent::SendFundingSigned { node_id: node_id(), msg }
    }

    fn other() -> MessageSendEvent {
        MessageSendEvent::SendPeerStorage { node_id: node_id(), msg: PeerStorage { data: Vec::new() } }
    }

    #[test]
    fn the_signature_of_a_funding_waits_until_what_was_staged_before_it_is_written() {
        let mut held = Vec::new();
        let free = sort(&mut held, vec![funding_signed(), other()], 5, |mark| mark <= 4);
        assert!(matches!(free[..], [MessageSendEvent::SendPeerStorage { .. }]), "{free:?}");
        assert!(sort(&mut held, Vec::new(), 6, |mark| mark <= 4).is_empty());
        let free = sort(&mut held, vec![funding_signed()], 6, |mark| mark <= 5);
        assert!(matches!(free[..], [MessageSendEvent::SendFundingSigned { .. }]), "{free:?}");
        assert_eq!(held.len(), 1);
    }
}
