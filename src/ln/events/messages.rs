//! Onion messages. This release keeps no mailbox and serves no static invoices for others.

use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::SocketAddress;

use super::{Context, Dial, Outcome};

/// `ConnectionNeeded`, never again: the peers room dials, as fast as it can.
pub(super) fn connect(cx: &Context, node_id: PublicKey, addresses: Vec<SocketAddress>) -> Outcome {
    match cx.doors.dial.try_send(Dial { node_id, addresses }) {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::Discard(format!("a message to {node_id} is dropped: too many peers wait to be dialled")),
    }
}

/// `OnionMessageIntercepted`: for a peer that is away. Our messenger does not ask for these; whoever sent it sends
/// it again.
pub(super) fn intercepted(peer: PublicKey) -> Outcome {
    Outcome::Discard(format!("a message for {peer}, who is away, is dropped: this node keeps no mailbox"))
}

/// `OnionMessagePeerConnected`: nothing is kept for it.
pub(super) fn peer_connected(peer: PublicKey) -> Outcome {
    Outcome::Discard(format!("{peer} is back; nothing is kept for it"))
}

/// `PersistStaticInvoice`, `StaticInvoiceRequested`: only for nodes that offered this service, which ours never does.
pub(super) fn static_invoice(what: &str) -> Outcome {
    Outcome::Discard(format!("refused to {what}: this node does not serve others' invoices"))
}
