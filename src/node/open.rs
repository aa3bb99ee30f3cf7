//! The first stage: directory, seed and database are ours. What goes wrong here ends the process with a message; after
//! it the API answers.

use bitcoin::bip32::Xpriv;

use super::Node;
use super::error::{Code, NodeError};
use crate::config::Config;
use crate::keys::{Seed, SeedError};
use crate::ledger::Ledger;
use crate::store::{Store, StoreError};
use crate::task::Tasks;

/// The directory is locked, the seed is read, the database is of this seed and network.
pub struct Opened {
    pub(super) node: Node,
    pub(super) seed: Seed,
    pub(super) master: Xpriv,
    pub(super) store: Store,
    pub(super) ledger: Ledger,
}

/// Opens the data directory, with a new seed if there is none.
pub fn open(config: Config, tasks: Tasks) -> Result<Opened, NodeError> {
    let dir = &config.data_dir;
    let seed = match Seed::exists(dir).map_err(refused)? {
        true => Seed::load(dir).map_err(refused)?,
        false => {
            let seed = Seed::create(dir).map_err(refused)?;
            tracing::warn!(
                "a new seed lies in {}: write its 24 words down, they are the only way back to the money on chain",
                dir.join(crate::keys::SEED_FILE).display()
            );
            seed
        }
    };
    let store = Store::open(dir, config.network, seed.fingerprint())
        .map_err(|error| NodeError::new(Code::Refused, error.to_string()))?;
    let (master, ledger) = (seed.wallet_xprv(config.network), Ledger::open(store.clone()));
    Ok(Opened { node: Node::new(config, tasks), seed, master, store, ledger })
}

impl Opened {
    /// The node, for the API to serve from now on.
    pub fn node(&self) -> Node {
        self.node.clone()
    }

    /// Closes the database at the end: what was put off is written.
    pub fn closer(&self) -> impl FnOnce() -> Result<(), StoreError> + Send + use<> {
        let (store, node) = (self.store.clone(), self.node());
        move || {
            let marked = node.0.restored.get().map_or(Ok(()), |parts| parts.mark.end(&store));
            store.close().and(marked)
        }
    }
}

fn refused(error: SeedError) -> NodeError {
    NodeError::new(Code::Refused, error.to_string())
}
