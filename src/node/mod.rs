//! Floor 5: the assembly, [`Opened`] → (unlocked →) restored → [`Running`], and the façade that the API
//! calls.
//!
//! The façade answers in every state (promise P4): what is not there yet is an error that says what it waits for.

mod audit;
mod channels;
pub mod check;
mod damage;
pub mod error;
mod fees;
mod hold;
mod locked;
mod money;
mod open;
mod payments;
mod recovery;
mod refusals;
mod run;
mod servers;
mod status;
pub mod views;

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::secp256k1::PublicKey;

use crate::clock::unix_now;
use crate::config::Config;
use crate::dial::Dialer;
use crate::engine::{Caution, EngineHandle, FeeBook};
use crate::ledger::Ledger;
use crate::ln::Ln;
use crate::ln::backup::Backups;
use crate::ln::channels::Channels;
use crate::ln::receive::Receiver;
use crate::ln::recovery::Recovery;
use crate::ln::send::Payer;
use crate::ln::start::Running;
use crate::ln::vault::Vault;
use crate::source::tls::pins::Certificates;
use crate::store::{Mark, Store};
use crate::task::{StopReason, Tasks};
use crate::wallet::Wallet;

use self::error::{Code, NodeError};
use self::hold::Hold;
use self::locked::Gate;
use self::views::*;

pub use self::open::{Opened, open};
pub use self::recovery::{drop_restore, prepare_restore, read_backup};
pub use crate::ln::audit::run_child as second_opinion;

/// The answer to a request.
pub type Answer<T> = Result<T, NodeError>;

/// The node as the API sees it. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Shared>);

struct Shared {
    config: Config,
    tasks: Tasks,
    started_at: u64,
    /// Whether it waits for its owner before it touches the channels.
    hold: Hold,
    /// Of an encrypted seed.
    gate: Option<Gate>,
    /// Since the database is open.
    store: OnceLock<Store>,
    /// Since the disk was read.
    restored: OnceLock<Parts>,
    /// Since LDK was told the chain.
    running: OnceLock<Running>,
    /// Held by the one who has the chain audited.
    auditing: tokio::sync::Mutex<()>,
}

/// What requests work with once everything is read from the disk.
struct Parts {
    ledger: Ledger,
    wallet: Wallet,
    engine: EngineHandle,
    certificates: Arc<Certificates>,
    dialer: Dialer,
    fees: FeeBook,
    caution: Caution,
    ln: Ln,
    channels: Channels,
    vault: Arc<Vault>,
    receiver: Receiver,
    payer: Payer,
    backups: Backups,
    /// Channels that peers are to close, if there are such.
    recovery: Option<Arc<Recovery>>,
    mark: Arc<Mark>,
}

impl Node {
    fn new(config: Config, tasks: Tasks, gate: Option<Gate>) -> Self {
        Self(Arc::new(Shared {
            config,
            tasks,
            started_at: unix_now(),
            hold: Hold::default(),
            gate,
            store: OnceLock::new(),
            restored: OnceLock::new(),
            running: OnceLock::new(),
            auditing: tokio::sync::Mutex::default(),
        }))
    }

    /// The settings that it runs with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What can be looked at.
    fn parts(&self) -> Answer<&Parts> {
        if let Some(held) = self.0.hold.held() {
            return Err(held.refusal());
        }
        self.0.restored.get().ok_or_else(|| {
            let starting = || NodeError::new(Code::NotReady, "the node is starting: it reads its channels");
            self.locked().unwrap_or_else(starting)
        })
    }

    /// Why the disk takes nothing, in words; `None`: it does, or is not open yet.
    fn trouble(&self) -> Option<String> {
        self.0.store.get().and_then(Store::trouble)
    }

    /// What can begin something new: [`Self::running`], and the disk can keep it.
    fn acting(&self) -> Answer<(&Parts, &Running)> {
        match self.trouble() {
            Some(why) => Err(refusals::halted(&why)),
            None => self.running(),
        }
    }

    /// What can be acted with: LDK knows the chain.
    fn running(&self) -> Answer<(&Parts, &Running)> {
        let parts = self.parts()?;
        match self.0.running.get() {
            Some(running) => Ok((parts, running)),
            None => {
                let waits = status::waits_for(&parts.engine.state());
                let why = waits.first().map_or("the first look at the chain".to_owned(), Clone::clone);
                Err(NodeError::new(Code::NotReady, format!("the node is not ready yet; it waits for {why}"))
                    .hint("`lightnode status` shows the progress"))
            }
        }
    }

    /// Runs something that blocks on the disk or on LDK's locks.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Answer<T> + Send + 'static) -> Answer<T> {
        let node = self.clone();
        match tokio::task::spawn_blocking(move || work(&node)).await {
            Ok(answer) => answer,
            Err(error) => Err(NodeError::new(Code::Internal, format!("the request died: {error}"))),
        }
    }

    /// Begins the shutdown; the answer goes out before the process ends.
    pub async fn stop(&self) -> Answer<Done> {
        self.0.tasks.shutdown().trigger(StopReason::Asked("`lightnode stop`".into()));
        Ok(Done { done: "the node is stopping".into() })
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn parse_node_id(text: &str) -> Answer<PublicKey> {
    text.trim().parse().map_err(|_| {
        NodeError::new(Code::BadRequest, "that is not a node id: it has 66 hex digits and begins with 02 or 03")
    })
}
