//! LDK with every generic filled in: the only place where that happens. Everyone else says `Arc<ChannelManager>`.

use std::sync::{Arc, RwLock};

use lightning::ln::peer_handler::IgnoringMessageHandler;
use lightning::sign::InMemorySigner;

pub use lightning::sign::KeysManager;

pub use super::behind::Watchman;
pub use super::broadcast::Broadcaster;
pub use super::coins::{ChangeScripts, Coins};
pub use super::fees::Fees;
pub use super::filter::FilterInbox;
pub use super::logger::Logger;
pub use super::persist::Persister;
pub use super::presence::Presence;
pub use super::signers::Signers;
pub use super::sweeps::Sweeps;
pub use super::vault::{ManagedKv, Stage};

/// LDK's view of the database. Monitors are written through the [`Stage`], the manager through [`ManagedKv`].
pub type Kv = crate::store::KvStore;

/// Writes monitors and their updates; [`Persister`] wraps it.
pub type MonitorPersister = lightning::util::persist::MonitorUpdatingPersister<
    Arc<Stage>,
    Arc<Logger>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Broadcaster>,
    Arc<Fees>,
>;

/// Watches the chain for one channel.
pub type ChannelMonitor = lightning::chain::channelmonitor::ChannelMonitor<InMemorySigner>;

/// Watches the chain for all channels.
pub type ChainMonitor = lightning::chain::chainmonitor::ChainMonitor<
    InMemorySigner,
    Arc<FilterInbox>,
    Arc<Broadcaster>,
    Arc<Fees>,
    Arc<Logger>,
    Arc<Persister>,
    Arc<KeysManager>,
>;

/// What is known of the public network.
pub type NetworkGraph = lightning::routing::gossip::NetworkGraph<Arc<Logger>>;

/// What our own payments taught us about channels.
pub type Scorer = lightning::routing::scoring::ProbabilisticScorer<Arc<NetworkGraph>, Arc<Logger>>;

/// Finds routes for payments.
pub type Router = lightning::routing::router::DefaultRouter<
    Arc<NetworkGraph>,
    Arc<Logger>,
    Arc<KeysManager>,
    Arc<RwLock<Scorer>>,
    lightning::routing::scoring::ProbabilisticScoringFeeParameters,
    Scorer,
>;

/// Finds paths for onion messages.
pub type MessageRouter =
    lightning::onion_message::messenger::DefaultMessageRouter<Arc<NetworkGraph>, Arc<Logger>, Arc<KeysManager>>;

/// The channels. Only they ask where closes go, and so have [`Signers`]; everyone else just signs.
pub type ChannelManager = lightning::ln::channelmanager::ChannelManager<
    Arc<ChainMonitor>,
    Arc<Broadcaster>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Signers>,
    Arc<Fees>,
    Arc<Router>,
    Arc<MessageRouter>,
    Arc<Logger>,
>;

/// Onion messages: offers and async payments are answered by the channel manager; DNS and custom ones by nobody.
pub type OnionMessenger = lightning::onion_message::messenger::OnionMessenger<
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Logger>,
    Arc<ChannelManager>,
    Arc<MessageRouter>,
    Arc<ChannelManager>,
    Arc<ChannelManager>,
    IgnoringMessageHandler,
    IgnoringMessageHandler,
>;

/// Checks channel announcements against the chain. Ours has no index of outputs by position: there is none.
pub type UtxoLookup = dyn lightning::routing::utxo::UtxoLookup + Send + Sync;

/// Gossip over the peer protocol.
pub type P2pGossip = lightning::routing::gossip::P2PGossipSync<Arc<NetworkGraph>, Arc<UtxoLookup>, Arc<Logger>>;

/// Gossip as snapshots from a server.
pub type RapidGossip = lightning_rapid_gossip_sync::RapidGossipSync<Arc<NetworkGraph>, Arc<Logger>>;

/// The road that gossip takes, as the background processor wants to know it.
pub type GossipSync = lightning_background_processor::GossipSync<
    Arc<P2pGossip>,
    Arc<RapidGossip>,
    Arc<NetworkGraph>,
    Arc<UtxoLookup>,
    Arc<Logger>,
>;

/// Who hears of gossip messages: [`P2pGossip`], or nobody when snapshots are used.
pub type RoutingHandler = dyn lightning::ln::msgs::RoutingMessageHandler + Send + Sync;

/// Connections to peers and their messages.
pub type PeerManager = lightning::ln::peer_handler::PeerManager<
    lightning_net_tokio::SocketDescriptor,
    Arc<Watchman>,
    Arc<RoutingHandler>,
    Arc<OnionMessenger>,
    Arc<Logger>,
    Arc<Presence>,
    Arc<KeysManager>,
    Arc<ChainMonitor>,
>;

/// Brings outputs of closed channels back to the wallet.
pub type Sweeper = lightning::util::sweep::OutputSweeper<
    Arc<Broadcaster>,
    Arc<ChangeScripts>,
    Arc<Fees>,
    Arc<FilterInbox>,
    Arc<ManagedKv>,
    Arc<Logger>,
    Arc<KeysManager>,
>;

/// Chooses wallet coins for fee bumps, avoiding conflicts between claims.
pub type BumpCoins = lightning::events::bump_transaction::Wallet<Arc<Coins>, Arc<Logger>>;

/// Carries out `Event::BumpTransaction`.
pub type Bumper = lightning::events::bump_transaction::BumpTransactionEventHandler<
    Arc<Broadcaster>,
    Arc<BumpCoins>,
    Arc<KeysManager>,
    Arc<Logger>,
>;
