//! From settings and the disk to the parts of the engine.

use std::sync::Arc;

use bitcoin::constants::genesis_block;

use super::disk::{self, Disk, StoredPins};
use super::fees::FeeBook;
use crate::chain::machine::{Machine, UnknownTold};
use crate::chain::params::Params;
use crate::chain::tree::{self, HeaderTree};
use crate::config::{self, Config};
use crate::source::Source;
use crate::source::electrum::{self, Electrum};
use crate::source::esplora::{self, Esplora};
use crate::source::pool::{CONNECTIONS, Member, Pool};
use crate::source::road::Road;
use crate::source::tls::pins::Certificates;
use crate::store::{Store, StoreError};

/// What is stored of the chain cannot be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its headers are not valid.
    #[error(transparent)]
    Headers(#[from] tree::RestoreError),
    /// Its headers and what was delivered do not belong together.
    #[error(transparent)]
    Told(#[from] UnknownTold),
}

/// The sync machine as it was when the process ended.
pub fn restore(store: &Store, network: bitcoin::Network) -> Result<Machine, RestoreError> {
    let params = Params::new(network);
    let (mut from, mut headers) = store.load_headers()?;
    if from == 1 {
        // Networks without checkpoints begin with their genesis, which nobody sends and so nobody stores.
        headers.insert(0, params.genesis());
        from = 0;
    }
    let tree = HeaderTree::restore(params, from, headers)?;
    let told = Disk::open(store.clone())?.told();
    Ok(Machine::new(tree, store.load_histories()?, told)?)
}

/// What is known of the servers' keys.
pub fn certificates(store: &Store) -> Arc<Certificates> {
    Arc::new(Certificates::new(StoredPins(store.clone())))
}

/// The configured servers, reached over `road`, with what is known of them: bans, the wallet's home.
pub fn pool(config: &Config, road: &Road, store: &Store) -> Result<Pool, StoreError> {
    let genesis = genesis_block(config.network).block_hash();
    let config::Chain { connect_timeout, request_timeout, ping_interval, max_backoff, poll_interval, .. } =
        config.chain;
    let (connect, request) = (connect_timeout, request_timeout);
    let pushed = electrum::Limits { connect, request, ping: ping_interval };
    let polled = esplora::Limits { connect, request, poll: poll_interval };
    let source = |server: &config::Server| -> Arc<dyn Source> {
        match server.address.transport.is_esplora() {
            true => Arc::new(Esplora::new(server.clone(), genesis, road.clone(), polled)),
            false => Arc::new(Electrum::new(server.clone(), genesis, road.clone(), pushed)),
        }
    };
    let member = |server: &config::Server| Member { source: source(server), trusted: server.trusted };
    let memory = disk::memory(store, crate::clock::unix_now())?;
    // Without entropy all nodes only draw the same jitter.
    let seed = getrandom::u64().unwrap_or_default();
    Ok(Pool::new(config.servers.iter().map(member).collect(), CONNECTIONS, max_backoff, &memory, seed))
}

impl FeeBook {
    /// A book that begins with what was stored.
    pub fn load(store: &Store, limits: &config::Fees) -> Result<Self, StoreError> {
        Ok(Self::new(limits, disk::read_fees(store)?))
    }
}
