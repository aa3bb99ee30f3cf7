//! Requests about peers and channels.

use std::collections::BTreeSet;

use bitcoin::secp256k1::PublicKey;

use super::error::{Code, NodeError};
use super::money::feerate;
use super::refusals::BLIND;
use super::views::{AddPeer, Channel, CloseChannel, Closing, Done, OpenChannel, Opened, Peer};
use super::{Answer, Node, parse_node_id, unix};
use crate::config::{AddressError, HostPort};
use crate::crash::{self, Point};
use crate::ln::channels::{ChannelView, Open, Standing};
use crate::ln::peers::{PeerState, Peers};

/// Port of Lightning where none is given (BOLT 1).
const LIGHTNING_PORT: u16 = 9735;

impl Node {
    /// Peers, connected or to be connected.
    pub async fn peers(&self) -> Answer<Vec<Peer>> {
        self.blocking(|node| {
            let (parts, running) = node.running()?;
            let channels = parts.ln.channels.list_channels();
            let count = |id: &PublicKey| channels.iter().filter(|c| c.counterparty.node_id == *id).count();
            Ok(running.peers.list()?.into_iter().map(|peer| shown(count(&peer.node_id), peer)).collect())
        })
        .await
    }

    /// Connects, and remembers the peer, so that it is dialled again after a restart.
    pub async fn add_peer(&self, request: AddPeer) -> Answer<Peer> {
        let (node_id, address) = self.connect(&request.peer).await?;
        self.blocking(move |node| {
            let (parts, running) = node.running()?;
            if let Some(address) = address {
                running.peers.remember(node_id, &address)?;
                crash::passes(Point::PeerKept);
            }
            let channels = parts.ln.channels.list_channels_with_counterparty(&node_id).len();
            match running.peers.list()?.into_iter().find(|peer| peer.node_id == node_id) {
                Some(peer) => Ok(shown(channels, peer)),
                None => Err(NodeError::new(Code::PeerUnavailable, "the peer hung up right after it was connected")),
            }
        })
        .await
    }

    /// Forgets a peer and hangs up. Refused while there are channels with it.
    pub async fn remove_peer(&self, node_id: String) -> Answer<Done> {
        let node_id = parse_node_id(&node_id)?;
        self.blocking(move |node| {
            let (_, running) = node.running()?;
            match running.peers.forget(node_id)? {
                true => Ok(Done { done: format!("{node_id} is forgotten") }),
                false => Err(NodeError::new(Code::NotFound, format!("no peer {node_id} is remembered"))),
            }
        })
        .await
    }

    /// All channels that are not closed.
    pub async fn channels(&self) -> Answer<Vec<Channel>> {
        self.blocking(|node| {
            let parts = node.parts()?;
            let connected = match node.running() {
                Ok((_, running)) => connected(&running.peers)?,
                // Before LDK was told the chain it talks to nobody.
                Err(_) => BTreeSet::new(),
            };
            Ok(parts.channels.list(&connected).into_iter().map(channel).collect())
        })
        .await
    }

    /// Connects if need be, opens, and waits until the funding transaction is on its way or the peer has refused.
    pub async fn open_channel(&self, request: OpenChannel) -> Answer<Opened> {
        let (parts, running) = self.acting()?;
        if let Some(why) = parts.caution.refusing() {
            return Err(NodeError::new(Code::Refused, format!("no channel was opened: {why}")).hint(BLIND));
        }
        let rate = feerate(parts, request.feerate)?;
        if request.public && self.config().node.announce.is_empty() && self.config().node.listen.is_empty() {
            return Err(NodeError::new(
                Code::Refused,
                "a public channel needs an address where others can reach this node",
            )
            .hint("set `listen` and `announce` under [node], or open it without --public"));
        }
        let (peer, address) = self.connect(&request.peer).await?;
        if let Some(address) = address {
            let peers = running.peers.clone();
            self.blocking(move |_| Ok(peers.remember(peer, &address)?)).await?;
            crash::passes(Point::PeerKept);
        }
        let open = Open {
            peer,
            amount_sat: request.amount_sat,
            push_msat: request.push_msat,
            public: request.public,
            feerate: rate,
        };
        let opened = parts.channels.open(open).await?;
        Ok(Opened {
            channel_id: opened.channel_id.to_string(),
            user_channel_id: format!("{:032x}", opened.user_channel_id),
            funding_txid: opened.funding.txid.to_string(),
            amount_sat: opened.amount_sat,
            confirmations_required: opened.confirmations_required,
        })
    }

    /// Closes by agreement, or by force.
    pub async fn close_channel(&self, channel_id: String, request: CloseChannel) -> Answer<Closing> {
        self.blocking(move |node| {
            let (parts, _) = node.acting()?;
            let closing = match request.force {
                true => parts.channels.force_close(&channel_id)?,
                false => parts.channels.close(&channel_id)?,
            };
            crash::passes(Point::CloseAsked);
            // On the disk before it is answered: a close that was promised is not forgotten in a power cut.
            parts.vault.flush().map_err(|error| {
                NodeError::new(
                    Code::Unknown,
                    format!("the close is begun, but not on disk, and the node is ending: {error}"),
                )
                .hint("look at `lightnode channels` after the next start")
            })?;
            crash::passes(Point::CloseWritten);
            Ok(Closing { channel_id: closing.channel_id.to_string(), next: closing.next })
        })
        .await
    }

    /// Connects to `node_id@host:port`, or to a known `node_id`. The address is given back when there was one.
    async fn connect(&self, peer: &str) -> Answer<(PublicKey, Option<HostPort>)> {
        let (_, running) = self.running()?;
        let (id, address) = match peer.trim().split_once('@') {
            Some((id, address)) => (id, Some(address)),
            None => (peer, None),
        };
        let node_id = parse_node_id(id)?;
        match address {
            Some(text) => {
                let address = address_of(text)
                    .map_err(|error| NodeError::new(Code::BadRequest, format!("the peer's address: {error}")))?;
                running.peers.connect(node_id, &address).await?;
                Ok((node_id, Some(address)))
            }
            None => {
                running.peers.connect_known(node_id).await?;
                Ok((node_id, None))
            }
        }
    }
}

fn address_of(text: &str) -> Result<HostPort, AddressError> {
    match text.parse() {
        Err(AddressError::NoPort(_)) => format!("{text}:{LIGHTNING_PORT}").parse(),
        parsed => parsed,
    }
}

fn connected(peers: &Peers) -> Answer<BTreeSet<PublicKey>> {
    Ok(peers.list()?.into_iter().filter(|peer| peer.connected).map(|peer| peer.node_id).collect())
}

fn shown(channels: usize, peer: PeerState) -> Peer {
    Peer {
        node_id: peer.node_id.to_string(),
        address: peer.address,
        connected: peer.connected,
        inbound: peer.inbound,
        persisted: peer.persisted,
        channels,
        retry_at: peer.retry_at.map(unix),
    }
}

fn channel(view: ChannelView) -> Channel {
    Channel {
        channel_id: view.channel_id.to_string(),
        user_channel_id: format!("{:032x}", view.user_channel_id),
        peer: view.peer.to_string(),
        peer_connected: view.peer_connected,
        state: word(view.standing).into(),
        waits_for: view.waits_for,
        funding: view.funding.map(|outpoint| outpoint.to_string()),
        short_channel_id: view.short_channel_id.map(scid),
        public: view.public,
        outbound: view.outbound,
        capacity_sat: view.capacity_sat,
        spendable_msat: view.spendable_msat,
        receivable_msat: view.receivable_msat,
        our_reserve_sat: view.our_reserve_sat,
        confirmations: view.confirmations,
        confirmations_required: view.confirmations_required,
        feerate_sat_per_kw: view.feerate_sat_per_kw,
        pending_htlcs: view.pending_htlcs,
    }
}

/// The word for programs.
pub(super) fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Opening => "opening",
        Standing::Usable => "usable",
        Standing::Inactive => "inactive",
        Standing::Closing => "closing",
    }
}

/// `block x transaction x output` (BOLT 7).
fn scid(id: u64) -> String {
    format!("{}x{}x{}", id >> 40, (id >> 16) & 0xff_ffff, id & 0xffff)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_short_channel_id_reads_as_block_transaction_and_output() {
        assert_eq!(super::scid((539_268 << 40) | (845 << 16) | 1), "539268x845x1");
    }
}
