//! The first stage: directory, seed and database are ours. What goes wrong here ends the process with a message; after
//! it the API answers.

use tokio::sync::oneshot;

use super::Node;
use super::damage::{damaged, refuse_lost};
use super::error::{Code, NodeError};
use super::locked::Gate;
use super::recovery::{is_restoring, refuse_half_restored};
use crate::config::Config;
use crate::crash::{self, Point};
use crate::keys::{Kept, Passphrase, Seed, SeedError};
use crate::store::{Store, StoreError};
use crate::task::Tasks;

/// The directory is locked, the seed is read or known to be sealed, the database is of this seed and network.
pub struct Opened {
    pub(super) node: Node,
    pub(super) key: Key,
    pub(super) store: Store,
}

/// What opens the wallet.
pub(super) enum Key {
    /// It is there.
    Seed(Seed),
    /// It comes when somebody gives the passphrase.
    Awaited(oneshot::Receiver<Seed>),
}

/// Opens the data directory, with a new seed if there is none.
pub fn open(config: Config, tasks: Tasks) -> Result<Opened, NodeError> {
    let dir = &config.data_dir;
    Seed::tidy(dir).map_err(refused)?;
    let kept = match Seed::exists(dir).map_err(refused)? {
        true => Kept::read(dir).map_err(refused)?,
        false => create(&config)?,
    };
    refuse_lost(&config, is_restoring(&config))?;
    let store = Store::open(dir, config.network, kept.fingerprint()).map_err(|error| match error.is_damage() {
        true => damaged(&config, &format!("{error}. It was not changed")),
        false => NodeError::new(Code::Refused, error.to_string()),
    })?;
    crash::passes(Point::DatabaseMade);
    let (key, gate) = match kept {
        Kept::Open(seed) => (Key::Seed(seed), None),
        Kept::Sealed(sealed) => {
            let (gate, seed) = Gate::new(sealed);
            (Key::Awaited(seed), Some(gate))
        }
    };
    let node = Node::new(config, tasks, gate);
    let first = node.0.store.set(store.clone()).is_ok();
    debug_assert!(first, "a node is opened once");
    Ok(Opened { node, key, store })
}

/// A new seed; encrypted if there is a passphrase for it.
fn create(config: &Config) -> Result<Kept, NodeError> {
    let dir = &config.data_dir;
    refuse_half_restored(config)?;
    let passphrase = config.passphrase_file.as_deref().map(Passphrase::from_file).transpose().map_err(refused)?;
    crash::passes(Point::SeedMissing);
    let seed = Seed::create(dir, passphrase.as_ref()).map_err(refused)?;
    crash::passes(Point::SeedMade);
    let path = dir.join(crate::keys::SEED_FILE);
    if passphrase.is_some() {
        tracing::warn!(
            "a new seed lies in {}, encrypted: see its 24 words with `lightnode seed show` and write them down, they are \
             the only way back to the money on chain",
            path.display()
        );
        return Kept::read(dir).map_err(refused);
    }
    tracing::warn!(
        "a new seed lies in {}: write its 24 words down, they are the only way back to the money on chain",
        path.display()
    );
    Ok(Kept::Open(seed))
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
