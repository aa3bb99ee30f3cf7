//! The backup of the channels: a small encrypted file, written anew whenever the set of channels changes.
//!
//! Rules:
//!
//! - It holds no states, so that an old one does no harm; it only misses channels that were opened since.
//! - It never holds a channel up: what cannot be written is told in `status` and tried again.
//! - The file is replaced whole (written beside, synced, renamed), readable by its owner only.
//!
//! Decision: whether the set has changed is looked at after each write of channel state, in memory, rather than told by
//! LDK's events: no event can be missed, and the first look after a start needs no memory of what was last said.

mod contents;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::PublicKey;
use lightning::routing::gossip::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use zeroize::Zeroizing;

use self::contents::ADDRESSES_AT_MOST;
pub use self::contents::{BYTES_AT_MOST, BackupError, Channel, Contents};
use super::types::{ChannelManager, NetworkGraph};
use super::{blocking, now};
use crate::config;
use crate::crash::{self, Point};
use crate::files::replace;
use crate::keys::Seed;
use crate::store::{Store, StoreError};
use crate::task::Shutdown;

#[cfg(test)]
pub(in crate::ln) use self::contents::tests::example;

/// Where the store keeps which set was written last.
const WRITTEN: &str = "backup.written";
/// Several channels that change together are written once.
const COMPANY: Duration = Duration::from_millis(300);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);
/// For the configured command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// What a backup is made from, and where it goes. Clones share it.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    key: Zeroizing<[u8; 32]>,
    network: Network,
    settings: config::Backup,
    channels: Arc<ChannelManager>,
    graph: Arc<NetworkGraph>,
    store: Store,
    state: watch::Sender<State>,
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Unix seconds of the last write in this run.
    pub written_at: Option<u64>,
    /// Why the last one failed, and is tried again.
    pub trouble: Option<String>,
}

impl Backups {
    /// Of this node. Nothing is written before [`Self::keep`].
    pub fn new(ln: &super::Ln, seed: &Seed, config: &config::Config) -> Self {
        Self(Arc::new(Inner {
            key: seed.backup_key(),
            network: config.network,
            settings: config.backup.clone(),
            channels: Arc::clone(&ln.channels),
            graph: Arc::clone(&ln.graph),
            store: ln.store.clone(),
            state: watch::Sender::default(),
        }))
    }

    /// Where it goes by itself.
    pub fn path(&self) -> Option<&Path> {
        self.0.settings.path.as_deref()
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.0.state.borrow().clone()
    }

    /// The present channels, encrypted, and how many they are. Blocks.
    pub fn seal(&self) -> Result<(Vec<u8>, usize), Trouble> {
        let contents = self.0.contents()?;
        Ok((contents.seal(&self.0.key)?, contents.channels.len()))
    }

    /// Writes to where it is configured to go, now.
    pub async fn write(&self) -> Result<(), Trouble> {
        let outcome = self.0.write_all().await;
        self.0.state.send_modify(|state| match &outcome {
            Ok(()) => *state = State { written_at: Some(now().as_secs()), trouble: None },
            Err(trouble) => state.trouble = Some(trouble.to_string()),
        });
        outcome
    }

    /// Writes whenever the set of channels changes, until shutdown. `changes` tells that channel state was written.
    pub async fn keep(
        self,
        mut changes: watch::Receiver<u64>,
        shutdown: Shutdown,
    ) -> Result<(), std::convert::Infallible> {
        loop {
            changes.mark_unchanged();
            let retry = match self.look().await {
                Ok(()) => None,
                Err(trouble) => {
                    tracing::warn!(%trouble, "the backup of the channels could not be written; it is tried again");
                    Some(AGAIN)
                }
            };
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = pause(retry) => {}
                changed = changes.changed(), if retry.is_none() => {
                    if changed.is_err() {
                        // Who writes the channels is gone: so is the node.
                        shutdown.wait().await;
                        return Ok(());
                    }
                    tokio::time::sleep(COMPANY).await;
                }
            }
        }
    }

    /// Writes if the set is another one than was written last.
    async fn look(&self) -> Result<(), Trouble> {
        if self.0.settings.path.is_none() && self.0.settings.command.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(&self.0);
        let (set, known) = blocking(move || inner.set()).await?;
        if known == Some(set) || (known.is_none() && set == Inner::EMPTY) {
            return Ok(());
        }
        self.write().await?;
        let store = self.0.store.clone();
        blocking(move || store.set_meta(WRITTEN, &set)).await?;
        crash::passes(Point::BackupNoted);
        Ok(())
    }
}

async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It could not be made.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("could not write {}: {source} (setting backup.path)", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The command.
    #[error("the command of backup.command {0}")]
    Command(String),
}

impl Inner {
    const EMPTY: [u8; 32] = [0; 32];

    /// Names the present set, and the one that was written last.
    fn set(&self) -> Result<([u8; 32], Option<[u8; 32]>), StoreError> {
        let channels = self.list()?;
        let set = match channels.is_empty() {
            true => Self::EMPTY,
            // Where it goes is part of it: a new place is to be filled at once.
            false => sha256::Hash::hash(format!("{channels:?}{:?}", self.settings).as_bytes()).to_byte_array(),
        };
        Ok((set, self.store.meta(WRITTEN)?.and_then(|bytes| bytes.try_into().ok())))
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        let node_id = self.channels.get_our_node_id();
        Ok(Contents { network: self.network, node_id, written_at: now().as_secs(), channels: self.list()? })
    }

    /// Channels that are funded and not closed, by id.
    fn list(&self) -> Result<Vec<Channel>, StoreError> {
        let known = self.store.peers()?;
        let addresses = |peer: PublicKey| {
            let stored = known.iter().find(|known| known.node_id == peer).map(|known| known.address.clone());
            let graph = self.graph.read_only();
            let node = graph.node(&NodeId::from_pubkey(&peer)).and_then(|node| node.announcement_info.as_ref());
            let announced = node.map(|info| info.addresses().iter().map(ToString::to_string).collect::<Vec<_>>());
            let mut all: Vec<String> = stored.into_iter().chain(announced.unwrap_or_default()).collect();
            all.retain(|address| address.parse::<config::HostPort>().is_ok());
            all.dedup();
            all.truncate(ADDRESSES_AT_MOST);
            all
        };
        Ok(listed(&self.channels, addresses))
    }

    async fn write_all(self: &Arc<Self>) -> Result<(), Trouble> {
        let inner = Arc::clone(self);
        let sealed = blocking(move || {
            let sealed = inner.contents()?.seal(&inner.key)?;
            crash::passes(Point::BackupSealed);
            if let Some(path) = &inner.settings.path {
                replace(path, &sealed).map_err(|source| Trouble::File { path: path.clone(), source })?;
            }
            Ok::<_, Trouble>(sealed)
        });
        let sealed = sealed.await?;
        crash::passes(Point::BackupFiled);
        if let Some((program, arguments)) = self.settings.command.split_first() {
            run(program, arguments, &sealed).await.map_err(Trouble::Command)?;
        }
        crash::passes(Point::BackupFed);
        Ok(())
    }
}

/// Channels that are funded and not closed, by id.
pub fn listed(channels: &ChannelManager, addresses: impl Fn(PublicKey) -> Vec<String>) -> Vec<Channel> {
    let details = channels.list_channels();
    let mut list: Vec<Channel> = details
        .iter()
        .filter_map(|channel| {
            let (funding, script) = (channel.funding_txo?, channel.funding_redeem_script.as_ref()?);
            Some(Channel {
                channel_id: channel.channel_id.to_string(),
                peer: channel.counterparty.node_id,
                addresses: addresses(channel.counterparty.node_id),
                funding: funding.into_bitcoin_outpoint(),
                script: script.to_p2wsh(),
                capacity_sat: channel.channel_value_satoshis,
            })
        })
        .collect();
    list.sort_by(|a, b| a.channel_id.cmp(&b.channel_id));
    list
}

/// Gives the bytes to a program; an error completes "the command …".
async fn run(program: &str, arguments: &[String], bytes: &[u8]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("could not be started: {error}"))?;
    let fed = async {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(bytes).await?;
            input.shutdown().await?;
        }
        child.wait().await
    };
    match tokio::time::timeout(COMMAND_DEADLINE, fed).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("failed ({status})")),
        Ok(Err(error)) => Err(format!("did not take the backup: {error}")),
        Err(_) => Err(format!("did not end within {} s", COMMAND_DEADLINE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_command_gets_the_bytes_and_its_failure_is_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("copy").display().to_string();
        let script = |text: String| ["-c".to_owned(), text];
        run("sh", &script(format!("cat > {into}")), b"sealed").await.unwrap();
        assert_eq!(fs::read(&into).unwrap(), b"sealed");
        let failed = run("sh", &script("cat > /dev/null; exit 3".into()), b"sealed").await.unwrap_err();
        assert!(failed.contains("failed") && failed.contains('3'), "{failed}");
        assert!(run("/no/such/program", &[], b"").await.unwrap_err().contains("could not be started"));
    }
}
