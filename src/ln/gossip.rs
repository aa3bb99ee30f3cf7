//! The map of the network: from peers, or as snapshots of a server (rapid gossip sync).
//!
//! Graph and scorer hold no money. What cannot be read is thrown away with a warning; what a server sends is bounded
//! and only ever costs a failed or a dearer route, and fees are limited for each payment.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use bitcoin::Network;
use lightning::io::{Cursor, ErrorKind};
use lightning::ln::peer_handler::IgnoringMessageHandler;
use lightning::routing::scoring::ProbabilisticScoringDecayParameters;
use lightning::util::persist::{
    KVStoreSync, NETWORK_GRAPH_PERSISTENCE_KEY, NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
    NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE, SCORER_PERSISTENCE_KEY, SCORER_PERSISTENCE_PRIMARY_NAMESPACE,
    SCORER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::ReadableArgs;
use lightning_rapid_gossip_sync::GraphSyncError;

use super::fetch::{self, Limits};
use super::snapshot::{self, Unfit};
use super::types::{GossipSync, Kv, Logger, NetworkGraph, P2pGossip, RapidGossip, RoutingHandler, Scorer};
use crate::config::GossipSource;
use crate::dial::Dialer;
use crate::task::Shutdown;

/// A snapshot of mainnet has about 5 MB.
const LIMITS: Limits = Limits { bytes: 16 << 20, time: Duration::from_secs(120) };

/// Servers make a snapshot a day, some every three hours.
const REFRESH: Duration = Duration::from_secs(6 * 3600);

/// After a failure: at first so long, then twice as long each time, up to [`REFRESH`].
const RETRY: Duration = Duration::from_secs(60);

/// What we know of the network, and where more comes from.
pub struct Gossip {
    /// The map.
    pub graph: Arc<NetworkGraph>,
    /// Our experience with it.
    pub scorer: Arc<RwLock<Scorer>>,
    /// As the background processor wants to know it.
    pub sync: GossipSync,
    /// Who hears of peers' gossip messages.
    pub handler: Arc<RoutingHandler>,
    /// Where snapshots come from, if they do.
    pub snapshots: Option<Snapshots>,
}

impl Gossip {
    /// Reads what was stored. Only a database that cannot be read is an error.
    pub fn open(
        kv: &Kv,
        network: Network,
        logger: &Arc<Logger>,
        source: &GossipSource,
    ) -> Result<Self, lightning::io::Error> {
        let graph = Arc::new(
            stored(
                kv,
                [
                    NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
                    NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE,
                    NETWORK_GRAPH_PERSISTENCE_KEY,
                ],
                Arc::clone(logger),
            )?
            .unwrap_or_else(|| NetworkGraph::new(network, Arc::clone(logger))),
        );
        let decay = ProbabilisticScoringDecayParameters::default();
        let scorer = stored(
            kv,
            [SCORER_PERSISTENCE_PRIMARY_NAMESPACE, SCORER_PERSISTENCE_SECONDARY_NAMESPACE, SCORER_PERSISTENCE_KEY],
            (decay, Arc::clone(&graph), Arc::clone(logger)),
        )?
        .unwrap_or_else(|| Scorer::new(decay, Arc::clone(&graph), Arc::clone(logger)));
        let scorer = Arc::new(RwLock::new(scorer));
        Ok(match source {
            GossipSource::P2p => {
                let gossip = Arc::new(P2pGossip::new(Arc::clone(&graph), None, Arc::clone(logger)));
                let handler: Arc<RoutingHandler> = gossip.clone();
                Self { graph, scorer, sync: GossipSync::P2P(gossip), handler, snapshots: None }
            }
            GossipSource::Rapid(url) => {
                let rapid = Arc::new(RapidGossip::new(Arc::clone(&graph), Arc::clone(logger)));
                let snapshots = Snapshots { url: url.clone(), rapid: Arc::clone(&rapid), graph: Arc::clone(&graph) };
                let handler: Arc<RoutingHandler> = Arc::new(IgnoringMessageHandler {});
                Self { graph, scorer, sync: GossipSync::Rapid(rapid), handler, snapshots: Some(snapshots) }
            }
        })
    }
}

/// A stored value; `None` when there is none, or none that makes sense.
fn stored<A, T: ReadableArgs<A>>(kv: &Kv, key: [&str; 3], args: A) -> Result<Option<T>, lightning::io::Error> {
    let [primary, secondary, key] = key;
    let bytes = match KVStoreSync::read(kv, primary, secondary, key) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match T::read(&mut Cursor::new(&bytes), args) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            tracing::warn!(%error, what = key, "what was stored makes no sense; starting with an empty one");
            Ok(None)
        }
    }
}

/// Snapshots of a server, applied to the graph.
pub struct Snapshots {
    url: String,
    rapid: Arc<RapidGossip>,
    graph: Arc<NetworkGraph>,
}

impl Snapshots {
    /// Fetches and applies until shutdown. Failures are recorded and tried again; they stop nothing.
    pub async fn run(self, dialer: Dialer, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        let mut failures = 0;
        loop {
            let pause = tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                outcome = self.refresh(&dialer) => match outcome {
                    Ok(new) => {
                        failures = 0;
                        tracing::info!(until = new, "the map of the network was brought up to date");
                        REFRESH
                    }
                    Err(error) => {
                        failures += 1;
                        let pause = retry_after(failures);
                        tracing::warn!(%error, retry_secs = pause.as_secs(), "no new map of the network");
                        pause
                    }
                },
            };
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One snapshot: what changed since the last one, whose time is stored with the graph.
    async fn refresh(&self, dialer: &Dialer) -> Result<u32, SnapshotError> {
        let now = super::now();
        let last = self.graph.get_last_rapid_gossip_sync_timestamp();
        // Of a clock that was wrong once.
        let since = last.filter(|last| !snapshot::is_future(*last, now)).unwrap_or(0);
        let bytes = fetch::get(dialer, &format!("{}/{since}", self.url), LIMITS).await?;
        snapshot::look_over(&bytes, now)?;
        let rapid = Arc::clone(&self.rapid);
        tokio::task::spawn_blocking(move || rapid.update_network_graph(&bytes))
            .await
            .map_err(|error| SnapshotError::Apply(error.to_string()))?
            .map_err(|error| {
                SnapshotError::Apply(match error {
                    GraphSyncError::DecodeError(error) => error.to_string(),
                    GraphSyncError::LightningError(error) => error.err,
                })
            })
    }
}

/// Why there is no new map.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(transparent)]
    Fetch(#[from] fetch::FetchError),
    #[error("the snapshot is refused: {0}")]
    Unfit(#[from] Unfit),
    #[error("the snapshot cannot be used: {0}")]
    Apply(String),
}

fn retry_after(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(REFRESH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_damaged_graph_is_thrown_away_and_the_node_starts() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), Network::Regtest, [0; 4]).expect("a store");
        let kv = store.kv();
        KVStoreSync::write(&*kv, "", "", NETWORK_GRAPH_PERSISTENCE_KEY, vec![0xff; 40]).expect("writes");
        KVStoreSync::write(&*kv, "", "", SCORER_PERSISTENCE_KEY, vec![0x01]).expect("writes");
        let gossip = Gossip::open(&kv, Network::Regtest, &Arc::new(Logger), &GossipSource::P2p).expect("opens");
        assert!(gossip.graph.read_only().channels().is_empty());
    }

    #[test]
    fn a_graph_that_was_written_is_read_again() {
        use lightning::util::ser::Writeable;
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), Network::Regtest, [0; 4]).expect("a store");
        let kv = store.kv();
        let graph = NetworkGraph::new(Network::Regtest, Arc::new(Logger));
        graph.set_last_rapid_gossip_sync_timestamp(1_700_000_000);
        KVStoreSync::write(&*kv, "", "", NETWORK_GRAPH_PERSISTENCE_KEY, graph.encode()).expect("writes");
        let source = GossipSource::Rapid("https://example.org/snapshot".into());
        let gossip = Gossip::open(&kv, Network::Regtest, &Arc::new(Logger), &source).expect("opens");
        assert_eq!(gossip.graph.get_last_rapid_gossip_sync_timestamp(), Some(1_700_000_000));
        assert!(gossip.snapshots.is_some());
    }

    /// One channel between two nodes, as a rapid gossip sync server (format 1) tells of it.
    fn snapshot(network: Network, time: u32) -> Vec<u8> {
        let secp = bitcoin::secp256k1::Secp256k1::new();
        let mut nodes = [1, 2].map(|n| {
            let key = bitcoin::secp256k1::SecretKey::from_slice(&[n; 32]).expect("a key");
            key.public_key(&secp).serialize()
        });
        nodes.sort_unstable();
        let mut bytes = b"LDK\x01".to_vec();
        bytes.extend(bitcoin::constants::ChainHash::using_genesis_block(network).to_bytes());
        bytes.extend(time.to_be_bytes());
        bytes.extend(2_u32.to_be_bytes());
        bytes.extend(nodes.concat());
        // Announcements: one, without features, short channel id 100x1x0, of nodes 0 and 1. Updates: none.
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.push(0xff);
        bytes.extend((100_u64 << 40 | 1 << 16).to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(0_u32.to_be_bytes());
        bytes
    }

    #[tokio::test]
    async fn a_snapshot_is_fetched_and_applied_and_one_of_another_network_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), Network::Regtest, [0; 4]).expect("a store");
        let time = u32::try_from(crate::ln::now().as_secs()).expect("before 2106");
        for (network, channels) in [(Network::Signet, 0), (Network::Regtest, 1)] {
            let body = snapshot(network, time);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let url = fetch::tests::server([head.into_bytes(), body].concat(), false).await;
            let source = GossipSource::Rapid(url);
            let gossip = Gossip::open(&store.kv(), Network::Regtest, &Arc::new(Logger), &source).expect("opens");
            let outcome = gossip.snapshots.expect("asked for").refresh(&Dialer::new(None)).await;
            assert_eq!(outcome.ok(), (channels == 1).then_some(time));
            assert_eq!(gossip.graph.read_only().channels().len(), channels);
        }
    }

    #[test]
    fn a_failing_server_is_asked_less_and_less_often() {
        assert_eq!(retry_after(1), Duration::from_secs(60));
        assert_eq!(retry_after(3), Duration::from_secs(240));
        assert_eq!(retry_after(1000), REFRESH);
    }
}
