//! `node_announcement`: alias, colour and addresses, for nodes with public channels.
//!
//! Rules (BOLT 7): other nodes take it only when they know a public channel of ours, and forget it after two weeks. A
//! channel is announced when it is 6 blocks deep. So: once there is one, a minute later for peers that were not connected
//! yet, ten minutes later for those who heard of the channel after us, then every hour; LDK forwards it to the peers that
//! are connected at that time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lightning::ln::msgs::SocketAddress;

use super::types::{ChannelManager, PeerManager};
use crate::config::{HostPort, Identity};
use crate::task::Shutdown;

/// How often it is looked whether there is something to announce.
const LOOK: Duration = Duration::from_secs(60);
/// Pauses after the first announcements; the last one stays.
const PAUSES: [Duration; 3] = [LOOK, Duration::from_secs(600), Duration::from_secs(3600)];

/// Announces us.
pub struct Announcer {
    channels: Arc<ChannelManager>,
    peers: Arc<PeerManager>,
    alias: [u8; 32],
    color: [u8; 3],
    addresses: Vec<SocketAddress>,
}

/// An address that cannot be announced.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be announced to the network (setting node.announce): {1}")]
pub struct AnnounceError(HostPort, String);

impl Announcer {
    /// An announcer of this identity.
    pub fn new(
        channels: Arc<ChannelManager>,
        peers: Arc<PeerManager>,
        identity: &Identity,
    ) -> Result<Self, AnnounceError> {
        let alias = alias_bytes(&alias(identity, &channels.get_our_node_id().to_string()));
        let addresses = identity.announce.iter().map(socket_address).collect::<Result<_, _>>()?;
        Ok(Self { channels, peers, alias, color: identity.color, addresses })
    }

    /// Announces from time to time until shutdown.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        let mut pauses = PAUSES.into_iter();
        let mut pause = Duration::ZERO;
        let mut last: Option<Instant> = None;
        loop {
            if last.is_none_or(|at| at.elapsed() >= pause) && self.has_public_channel() {
                self.peers.broadcast_node_announcement(self.color, self.alias, self.addresses.clone());
                last = Some(Instant::now());
                pause = pauses.next().unwrap_or(pause);
            }
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn has_public_channel(&self) -> bool {
        self.channels.list_channels().iter().any(|channel| channel.is_announced && channel.is_channel_ready)
    }
}

/// The configured alias, or one made from the node id.
pub fn alias(identity: &Identity, node_id: &str) -> String {
    match &identity.alias {
        Some(alias) => alias.clone(),
        None => format!("lightnode-{}", node_id.get(..8).unwrap_or(node_id)),
    }
}

/// 32 bytes, filled up with zeros; cut between characters.
fn alias_bytes(alias: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut end = alias.len().min(bytes.len());
    while !alias.is_char_boundary(end) {
        end -= 1;
    }
    bytes[..end].copy_from_slice(&alias.as_bytes()[..end]);
    bytes
}

fn socket_address(address: &HostPort) -> Result<SocketAddress, AnnounceError> {
    address.to_string().parse().map_err(|error| AnnounceError(address.clone(), format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_alias_is_cut_between_characters() {
        let bytes = alias_bytes("ééééééééééééééééé");
        assert_eq!(std::str::from_utf8(&bytes).expect("whole characters"), "éééééééééééééééé");
        let bytes = alias_bytes("aéééééééééééééééé");
        assert_eq!(&bytes[31..], [0]);
        assert!(std::str::from_utf8(&bytes).is_ok());
    }

    #[test]
    fn without_an_alias_one_is_made_from_the_node_id() {
        let identity = Identity { alias: None, color: [0; 3], listen: Vec::new(), announce: Vec::new() };
        assert_eq!(alias(&identity, "02abcdef0123"), "lightnode-02abcdef");
    }

    #[test]
    fn addresses_of_every_kind_can_be_announced() {
        for text in ["203.0.113.7:9735", "[2001:0db8:0000:0000:0000:0000:0000:0001]:9735", "node.example.org:9735"] {
            let address: HostPort = text.parse().expect("an address");
            assert_eq!(socket_address(&address).expect("announced").to_string(), text);
        }
    }
}
