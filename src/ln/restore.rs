//! From the disk to a Lightning node that can be told of the chain.
//!
//! Rules (facts "Start-up order"): keys, fee rates, filter, broadcaster, persister · monitors with their updates ·
//! chain monitor · graph, scorer, router · channel manager, read with the monitors · each monitor given to the chain
//! monitor (which registers its outputs with the filter) · sweeper · then the chain is told to all confirmables, and
//! only then messenger, peers and the background processor go to work ([`super::start`]).
//!
//! - No network and no server is needed here; everything blocks on the disk only.
//! - A manager without its monitors, or monitors without their manager, is refused: LDK would close what it does not
//!   find. A manager that is older than its monitors closes those channels by itself; that is recorded.
//!
//! Decision: a new manager begins at the tip that our tree has at that moment, be it only the checkpoint, instead of
//! waiting for a server. It has no channels, so that the way from there to the real tip concerns nobody, and the node
//! has an id from its first second. It is written at once: from then on "no manager" means damage.

use std::sync::Arc;

use bitcoin::{BlockHash, Network};
use lightning::chain::{BestBlock, ChannelMonitorUpdateStatus};
use lightning::io::{Cursor, ErrorKind};
use lightning::ln::channelmanager::{ChainParameters, ChannelManagerReadArgs};
use lightning::ln::msgs::DecodeError;
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler};
use lightning::routing::scoring::ProbabilisticScoringFeeParameters;
use lightning::sign::{EntropySource, NodeSigner};
use lightning::util::config::UserConfig;
use lightning::util::persist::{
    KVStoreSync, OUTPUT_SWEEPER_PERSISTENCE_KEY, OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE,
    OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::{ReadableArgs, Writeable};
use tokio::sync::mpsc;

use super::behind::Behind;
use super::confirm::{Confirmable, Feeder};
use super::gossip::{Gossip, Snapshots};
use super::outgoing::Outgoing;
use super::persist::MAX_PENDING_UPDATES;
use super::settings::user_config;
use super::types::*;
use super::vault::{Halt, MANAGER, Package, Vault};
use super::{Ln, now};
use crate::chain::io::BlockRef;
use crate::config::Config;
use crate::crash::{self, Point};
use crate::engine::{FeeBook, WatchInbox};
use crate::keys::Seed;
use crate::store::{Mark, Store};
use crate::wallet::Wallet;

/// What a Lightning node is made of.
pub struct Ground<'a> {
    pub config: &'a Config,
    pub seed: &'a Seed,
    pub store: Store,
    pub wallet: Wallet,
    /// Where scripts to follow go.
    pub inbox: WatchInbox,
    /// Rates; the stored ones will do.
    pub fees: FeeBook,
    /// The tip of our header tree, as stored.
    pub tip: BlockRef,
    /// Rises with the channels' state. Absent: nothing of this is ever to be written.
    pub mark: Option<Arc<Mark>>,
    /// Called when a peer proves that a channel's state here is old.
    pub behind: Behind,
    /// Called when channel state cannot be written ([`super::vault::halt`]).
    pub halt: Halt,
}

/// Why there is no Lightning node.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database does not give what it has.
    #[error("could not read {what} from the database: {why}. Nothing was changed")]
    Read {
        /// In words.
        what: &'static str,
        /// The cause.
        why: String,
    },
    /// The database does not take what it must have.
    #[error("could not write {what} to the database: {why}")]
    Write {
        /// In words.
        what: &'static str,
        /// The cause.
        why: String,
    },
    /// What was read contradicts itself.
    #[error(
        "the stored channels cannot be used: {0}. Do not start with an older copy of the database: an old channel state \
         can cost the channel's whole balance. See “recovery” in the README"
    )]
    Damaged(String),
    /// No random numbers.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Everything is read; nobody works yet. The chain may be told, through [`Restored::listener`].
pub struct Restored {
    pub(super) ln: Ln,
    pub(super) feeder: Arc<Feeder>,
    pub(super) gossip: GossipSync,
    pub(super) snapshots: Option<Snapshots>,
    pub(super) vault: Arc<Vault>,
}

/// The parts that everything after them is built on.
struct Base {
    keys: Arc<KeysManager>,
    signers: Arc<Signers>,
    logger: Arc<Logger>,
    fees: Arc<Fees>,
    filter: Arc<FilterInbox>,
    broadcaster: Arc<Broadcaster>,
    kv: Arc<Kv>,
    network: Network,
    user: UserConfig,
    tip: BestBlock,
}

impl Restored {
    /// Reads everything. Blocks on the disk. What LDK broadcasts from now on comes out of the second part, for
    /// [`super::broadcast::carry`]; that, and [`super::vault::keep`], have to run before the chain is told.
    pub fn restore(ground: Ground<'_>) -> Result<(Self, mpsc::UnboundedReceiver<Package>), RestoreError> {
        let Ground { config, seed, store, wallet, inbox, fees, tip, mark, behind, halt } = ground;
        let stage = Arc::new(Stage::new(store.kv()));
        let keys = Arc::new(keys(seed)?);
        let base = Base {
            signers: Arc::new(Signers::new(Arc::clone(&keys), wallet.clone())),
            keys,
            logger: Arc::new(Logger),
            fees: Arc::new(Fees::new(fees)),
            filter: Arc::new(FilterInbox::new(inbox)),
            broadcaster: Arc::new(Broadcaster::new(Arc::clone(&stage))),
            kv: store.kv(),
            network: config.network,
            user: user_config(&config.channels),
            tip: BestBlock::new(tip.hash, tip.height),
        };
        let persister = Arc::new(Persister::new(
            MonitorPersister::new(
                Arc::clone(&stage),
                Arc::clone(&base.logger),
                MAX_PENDING_UPDATES,
                Arc::clone(&base.keys),
                Arc::clone(&base.keys),
                Arc::clone(&base.broadcaster),
                Arc::clone(&base.fees),
            ),
            Arc::clone(&stage),
            halt,
        ));
        let monitors = persister
            .inner()
            .read_all_channel_monitors_with_updates()
            .map_err(|error| read("the channels' monitors", error))?;
        let chain_monitor = Arc::new(ChainMonitor::new(
            Some(Arc::clone(&base.filter)),
            Arc::clone(&base.broadcaster),
            Arc::clone(&base.logger),
            Arc::clone(&base.fees),
            Arc::clone(&persister),
            Arc::clone(&base.keys),
            base.keys.get_peer_storage_key(),
        ));
        let Gossip { graph, scorer, sync, handler, snapshots } =
            Gossip::open(&base.kv, base.network, &base.logger, &config.gossip)
                .map_err(|error| read("the map of the network", error))?;
        let router = Arc::new(Router::new(
            Arc::clone(&graph),
            Arc::clone(&base.logger),
            Arc::clone(&base.keys),
            Arc::clone(&scorer),
            ProbabilisticScoringFeeParameters::default(),
        ));
        let message_router = Arc::new(MessageRouter::new(Arc::clone(&graph), Arc::clone(&base.keys)));
        let channels = Arc::new(channel_manager(&base, &chain_monitor, &router, &message_router, &monitors)?);
        let told = told(&channels, &monitors);
        for (_, monitor) in monitors {
            let (id, update) = (monitor.channel_id(), monitor.get_latest_update_id());
            match chain_monitor.load_existing_monitor(id, monitor) {
                Ok(ChannelMonitorUpdateStatus::Completed) => {}
                _ => return Err(RestoreError::Damaged(format!("channel {id} is stored twice"))),
            }
            // A first monitor is no update that LDK would complete by itself after a restart: a channel whose funding
            // it has not given out yet would wait for this word for ever.
            if update == 0 {
                chain_monitor
                    .channel_monitor_updated(id, update)
                    .map_err(|error| RestoreError::Damaged(format!("channel {id} is not there: {error:?}")))?;
            }
        }
        let outgoing = Outgoing::new(Arc::clone(&stage));
        let (vault, packages) =
            Vault::new(stage, store.clone(), Arc::clone(&channels), Arc::clone(&chain_monitor), mark, halt);
        let vault = Arc::new(vault);
        let managed = Arc::new(ManagedKv::new(Arc::clone(&base.kv), Arc::clone(&vault)));
        let sweeper = Arc::new(sweeper(&base, &managed, &wallet, channels.current_best_block())?);
        let feeder = Arc::new(Feeder::new(vec![
            Confirmable { name: "channels", confirm: channels.clone(), told: told.0 },
            Confirmable { name: "monitors", confirm: chain_monitor.clone(), told: told.1 },
            Confirmable { name: "sweeper", confirm: sweeper.clone(), told: block_ref(sweeper.current_best_block()) },
        ]));
        let messenger = Arc::new(OnionMessenger::new(
            Arc::clone(&base.keys),
            Arc::clone(&base.keys),
            Arc::clone(&base.logger),
            Arc::clone(&channels),
            Arc::clone(&message_router),
            Arc::clone(&channels),
            Arc::clone(&channels),
            IgnoringMessageHandler {},
            IgnoringMessageHandler {},
        ));
        let presence = Arc::new(Presence::default());
        let watchman = Arc::new(Watchman::new(Arc::clone(&channels), Arc::clone(&base.signers), outgoing, behind));
        let peers = Arc::new(PeerManager::new(
            MessageHandler {
                chan_handler: watchman,
                route_handler: handler,
                onion_message_handler: Arc::clone(&messenger),
                custom_message_handler: Arc::clone(&presence),
                send_only_message_handler: Arc::clone(&chain_monitor),
            },
            u32::try_from(now().as_secs()).unwrap_or(u32::MAX),
            &base.keys.get_secure_random_bytes(),
            Arc::clone(&base.logger),
            Arc::clone(&base.keys),
        ));
        vault.wakes(Arc::clone(&peers));
        let bumper = Arc::new(Bumper::new(
            Arc::clone(&base.broadcaster),
            Arc::new(BumpCoins::new(Arc::new(Coins(wallet.clone())), Arc::clone(&base.logger))),
            Arc::clone(&base.keys),
            Arc::clone(&base.logger),
        ));
        let sweeps = Arc::new(Sweeps::new(Arc::clone(&sweeper), wallet.clone()));
        let Base { keys, logger, fees, filter, broadcaster, kv, .. } = base;
        let ln = Ln {
            keys,
            logger,
            fees,
            broadcaster,
            filter,
            kv,
            managed,
            store,
            wallet,
            graph,
            scorer,
            router,
            persister,
            chain_monitor,
            channels,
            messenger,
            peers,
            presence,
            sweeper,
            sweeps,
            bumper,
            tip: feeder.tip(),
        };
        Ok((Self { ln, feeder, gossip: sync, snapshots, vault }, packages))
    }

    /// The node, for those who only look or build on it.
    pub fn ln(&self) -> &Ln {
        &self.ln
    }

    /// Who writes the channels from now on.
    pub fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }

    /// What the engine is to tell of the chain.
    pub fn listener(&self) -> Arc<Feeder> {
        Arc::clone(&self.feeder)
    }
}

/// The keys of this seed.
///
/// LDK asks for a "starting time" that was never used before, for its random numbers. A Raspberry Pi has no clock of
/// its own and may wake up twice in the same past, so it gets 96 random bits.
pub(super) fn keys(seed: &Seed) -> Result<KeysManager, RestoreError> {
    let secs = getrandom::u64().map_err(RestoreError::Random)?;
    let nanos = getrandom::u32().map_err(RestoreError::Random)?;
    // v2: after a loss of the database, what peers' closes pay us lies on one of 2,000 scripts that the words give.
    Ok(KeysManager::new(&seed.ldk_seed(), secs, nanos, true))
}

fn channel_manager(
    base: &Base,
    chain_monitor: &Arc<ChainMonitor>,
    router: &Arc<Router>,
    message_router: &Arc<MessageRouter>,
    monitors: &[(BlockHash, ChannelMonitor)],
) -> Result<ChannelManager, RestoreError> {
    if let Some(bytes) = get(&base.kv, MANAGER, "the channels")? {
        let args = ChannelManagerReadArgs::new(
            Arc::clone(&base.keys),
            Arc::clone(&base.keys),
            Arc::clone(&base.signers),
            Arc::clone(&base.fees),
            Arc::clone(chain_monitor),
            Arc::clone(&base.broadcaster),
            Arc::clone(router),
            Arc::clone(message_router),
            Arc::clone(&base.logger),
            base.user.clone(),
            monitors.iter().map(|(_, monitor)| monitor).collect(),
        );
        return match <(BlockHash, ChannelManager)>::read(&mut Cursor::new(&bytes), args) {
            Ok((_, manager)) => Ok(manager),
            Err(DecodeError::DangerousValue) => Err(RestoreError::Damaged(
                "a channel's monitor is older than the channel itself, so that using it could lose its money".into(),
            )),
            Err(error) => Err(RestoreError::Damaged(error.to_string())),
        };
    }
    if !monitors.is_empty() {
        return Err(RestoreError::Damaged(format!(
            "there are monitors of {} channels, but the channels are missing",
            monitors.len()
        )));
    }
    let manager = ChannelManager::new(
        Arc::clone(&base.fees),
        Arc::clone(chain_monitor),
        Arc::clone(&base.broadcaster),
        Arc::clone(router),
        Arc::clone(message_router),
        Arc::clone(&base.logger),
        Arc::clone(&base.keys),
        Arc::clone(&base.keys),
        Arc::clone(&base.signers),
        base.user.clone(),
        ChainParameters { network: base.network, best_block: base.tip },
        u32::try_from(now().as_secs()).unwrap_or(u32::MAX),
    );
    let [primary, secondary, key] = MANAGER;
    KVStoreSync::write(&*base.kv, primary, secondary, key, manager.encode())
        .map_err(|error| RestoreError::Write { what: "the new node", why: error.to_string() })?;
    crash::passes(Point::ManagerMade);
    Ok(manager)
}

fn sweeper(base: &Base, managed: &Arc<ManagedKv>, wallet: &Wallet, best: BestBlock) -> Result<Sweeper, RestoreError> {
    const KEY: [&str; 3] = [
        OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE,
        OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
        OUTPUT_SWEEPER_PERSISTENCE_KEY,
    ];
    let scripts = Arc::new(ChangeScripts(wallet.clone()));
    let Some(bytes) = get(&base.kv, KEY, "the outputs to be swept")? else {
        return Ok(Sweeper::new(
            best,
            Arc::clone(&base.broadcaster),
            Arc::clone(&base.fees),
            Some(Arc::clone(&base.filter)),
            Arc::clone(&base.keys),
            scripts,
            Arc::clone(managed),
            Arc::clone(&base.logger),
        ));
    };
    let args = (
        Arc::clone(&base.broadcaster),
        Arc::clone(&base.fees),
        Some(Arc::clone(&base.filter)),
        Arc::clone(&base.keys),
        scripts,
        Arc::clone(managed),
        Arc::clone(&base.logger),
    );
    <(BestBlock, Sweeper)>::read(&mut Cursor::new(&bytes), args)
        .map(|(_, sweeper)| sweeper)
        .map_err(|error| RestoreError::Damaged(format!("outputs to be swept: {error}")))
}

/// The best blocks that the manager and the monitors know.
///
/// Monitors are written at different times; those that are behind are told the same again, so that the newest counts.
fn told(channels: &ChannelManager, monitors: &[(BlockHash, ChannelMonitor)]) -> (BlockRef, BlockRef) {
    let manager = block_ref(channels.current_best_block());
    let newest = monitors
        .iter()
        .map(|(_, monitor)| block_ref(monitor.current_best_block()))
        .max_by_key(|block| block.height)
        .unwrap_or(manager);
    (manager, newest)
}

fn block_ref(best: BestBlock) -> BlockRef {
    BlockRef { height: best.height, hash: best.block_hash }
}

fn get(kv: &Kv, [primary, secondary, key]: [&str; 3], what: &'static str) -> Result<Option<Vec<u8>>, RestoreError> {
    match KVStoreSync::read(kv, primary, secondary, key) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read(what, error)),
    }
}

fn read(what: &'static str, error: lightning::io::Error) -> RestoreError {
    RestoreError::Read { what, why: error.to_string() }
}
