//! Recovery, as the assembly and the API see it: what a restore left to be taken up, channels to be given up, and how
//! far it has come.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use bitcoin::hex::DisplayHex;

use super::error::{Code, NodeError};
use super::hold::BEHIND;
use super::views::{BackupMade, BackupState, Done, LostChannel, RecoveryState};
use super::{Answer, Node, Parts};
use crate::config::Config;
use crate::crash::{self, Point};
use crate::engine::{self, FeeBook, WatchInbox};
use crate::files::replace;
use crate::keys::Seed;
use crate::ledger::Ledger;
use crate::ln::backup::{BYTES_AT_MOST, Contents, Trouble};
use crate::ln::recovery::{Lost, Record, give_up};
use crate::ln::restore::{Ground, Restored};
use crate::ln::vault;
use crate::store::Store;
use crate::text::escape;
use crate::wallet::Wallet;

/// What `init --restore` leaves for the first start: a backup, or an empty file for the words alone.
const RESTORE_FILE: &str = "restore";
/// Fewer digits of a channel's id name nothing.
const SHORTEST_ID: usize = 8;

/// Leaves a restore to be taken up by the first start; how many channels the backup names. Checks the backup first.
pub fn prepare_restore(config: &Config, words: &str, backup: Option<&[u8]>) -> Result<usize, NodeError> {
    let seed = Seed::from_words(words).map_err(|error| NodeError::new(Code::BadRequest, error.to_string()))?;
    let count = match backup {
        Some(bytes) => open_backup(bytes, &seed, config)?.channels.len(),
        None => 0,
    };
    let path = config.data_dir.join(RESTORE_FILE);
    replace(&path, backup.unwrap_or_default())
        .map_err(|error| NodeError::new(Code::Failed, format!("could not write {}: {error}", path.display())))?;
    crash::passes(Point::RestoreLeft);
    Ok(count)
}

/// Something is to be restored at this start.
pub(super) fn is_restoring(config: &Config) -> bool {
    config.data_dir.join(RESTORE_FILE).exists()
}

/// Where an `init --restore` was cut off before it had written the seed, no new one is made unasked.
pub(super) fn refuse_half_restored(config: &Config) -> Result<(), NodeError> {
    if !is_restoring(config) {
        return Ok(());
    }
    let message = "`lightnode init --restore` was cut off here before it had written the seed";
    Err(NodeError::new(Code::Refused, message).hint("do it again; or begin with new words: `lightnode init`"))
}

/// New words, asked for, have nothing to restore: what an `init --restore` that was cut off has left is of other ones.
pub fn drop_restore(config: &Config) -> Result<(), NodeError> {
    let path = config.data_dir.join(RESTORE_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(NodeError::new(Code::Failed, format!("could not remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn open_backup(bytes: &[u8], seed: &Seed, config: &Config) -> Result<Contents, NodeError> {
    Contents::open(bytes, &seed.backup_key(), config.network)
        .map_err(|error| NodeError::new(Code::BadRequest, error.to_string()))
}

/// Takes up what `init --restore` left, durably, and then removes it. Once: a recovery that is under way stays.
pub(super) fn take_up(config: &Config, seed: &Seed, store: &Store) -> Result<(), NodeError> {
    let path = config.data_dir.join(RESTORE_FILE);
    let failed = |error: std::io::Error| NodeError::new(Code::Failed, format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    match fs::File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.and_then(|file| file.take(BYTES_AT_MOST as u64 + 1).read_to_end(&mut bytes)).map_err(failed)?,
    };
    if Record::load(store)?.is_none() {
        let channels = match bytes.is_empty() {
            true => None,
            false => Some(open_backup(&bytes, seed, config)?.channels),
        };
        tracing::info!(channels = channels.as_ref().map_or(0, Vec::len), "a recovery begins");
        Record::restored(super::unix_now(), channels).save(store)?;
    }
    crash::passes(Point::RestoreTaken);
    fs::remove_file(&path).map_err(failed)?;
    crash::passes(Point::RestoreRemoved);
    Ok(())
}

/// Gives all open channels of this database up, and writes them into the book.
pub(super) fn give_channels_up(
    config: &Config,
    seed: &Seed,
    store: &Store,
    ledger: &Ledger,
    why: &str,
) -> Result<(), NodeError> {
    let machine = engine::restore(store, config.network)?;
    // Nobody reads what is asked for: all of this is only looked at.
    let (inbox, _watches) = WatchInbox::new();
    let master = seed.wallet_xprv(config.network);
    let wallet = Wallet::open(store.clone(), ledger.clone(), &master, config.network, inbox.clone())?;
    let ground = Ground {
        config,
        seed,
        store: store.clone(),
        wallet,
        inbox,
        fees: FeeBook::load(store, &config.fees)?,
        tip: machine.tree().tip(),
        mark: None,
        behind: super::hold::behind(store.clone()),
        halt: vault::halt,
    };
    let (restored, _packages) = Restored::restore(ground)?;
    let payments: Vec<String> = ledger.open_sends()?.into_iter().map(|record| record.id).collect();
    let record = give_up(store, restored, why, &payments, BEHIND)?;
    tracing::warn!(
        channels = record.channels.len(),
        why,
        "the channels are given up; their peers are asked to close them"
    );
    Ok(())
}

impl Parts {
    /// How far a recovery has come.
    pub(super) fn recovery_state(&self) -> Option<RecoveryState> {
        let record = self.recovery.as_ref()?.state()?;
        let channels = record.channels.iter().map(|lost| self.lost(lost)).collect();
        Some(RecoveryState {
            why: record.why.clone(),
            since: record.since,
            channels,
            found_sat: record.waiting_sat(),
            looking: record.is_looking(),
            looks_until_height: record.looks_until(),
        })
    }

    fn lost(&self, lost: &Lost) -> LostChannel {
        let Lost { channel, closed, abandoned } = lost;
        let waits_for = match closed {
            _ if !lost.is_awaited() => None,
            _ if self.ln.presence.is_connected(&channel.peer) => {
                Some("its peer was asked to close it; the close has to be confirmed".to_owned())
            }
            _ if channel.addresses.is_empty() => {
                Some(format!("its peer, whose address is not known: `lightnode peer add {}@HOST:PORT`", channel.peer))
            }
            _ => Some(format!("its peer to be reached at {}", channel.addresses.join(" or "))),
        };
        LostChannel {
            channel_id: channel.channel_id.clone(),
            peer: channel.peer.to_string(),
            capacity_sat: channel.capacity_sat,
            closing_txid: closed.map(|closed| closed.txid.to_string()),
            abandoned_at: *abandoned,
            waits_for,
        }
    }

    /// How the backup stands.
    pub(super) fn backup_state(&self) -> BackupState {
        let state = self.backups.state();
        BackupState {
            path: self.backups.path().map(|path| path.display().to_string()),
            written_at: state.written_at,
            trouble: state.trouble,
        }
    }
}

impl RecoveryState {
    /// What is left to be done, in a line for `status`; `None`: only what peers may still close by themselves is looked
    /// for, and the node is as good as any.
    pub(super) fn summary(&self) -> Option<String> {
        let awaited = |channel: &&LostChannel| channel.closing_txid.is_none() && channel.abandoned_at.is_none();
        let open = self.channels.iter().filter(awaited).count();
        let mut parts = Vec::new();
        if open > 0 {
            parts.push(format!("{open} of {} channels are not closed by their peers yet", self.channels.len()));
        }
        if self.looking {
            parts.push("the chain is looked through for closed channels".into());
        }
        if self.found_sat > 0 {
            parts.push(format!("{} sat of closed channels are found and wait for 6 confirmations", self.found_sat));
        }
        if parts.is_empty() && self.looks_until_height.is_some() {
            return None;
        }
        if parts.is_empty() {
            parts.push("what was found is on its way to the wallet".into());
        }
        Some(format!("recovery ({}): {}", self.why, parts.join("; ")))
    }
}

impl Node {
    /// `backup`: the channels, encrypted, for the caller; also written to where it goes by itself.
    pub async fn backup(&self) -> Answer<BackupMade> {
        let backups = self.parts()?.backups.clone();
        let written = match backups.write().await {
            Ok(()) => backups.path().map(|path| path.display().to_string()),
            // The caller has its own copy in this answer; what failed is shown by `status` and tried again.
            Err(Trouble::File { .. } | Trouble::Command(_)) => None,
            Err(error) => return Err(NodeError::new(Code::Failed, error.to_string())),
        };
        let trouble = backups.state().trouble;
        let (bytes, channels) = self
            .blocking(move |_| backups.seal().map_err(|error| NodeError::new(Code::Failed, error.to_string())))
            .await?;
        Ok(BackupMade { channels, path: written, trouble, content: bytes.to_lower_hex_string() })
    }
}

impl Node {
    /// Ends the wait for the close of a lost channel, named by its id or the beginning of it.
    pub async fn abandon(&self, id: String) -> Answer<Done> {
        let nothing = || NodeError::new(Code::BadRequest, "no recovery is under way, so nothing is waited for");
        let recovery = self.parts()?.recovery.clone().ok_or_else(nothing)?;
        let record = recovery.state().ok_or_else(nothing)?;
        let wanted = id.trim().to_ascii_lowercase();
        let named = |lost: &&Lost| wanted.len() >= SHORTEST_ID && lost.channel.channel_id.starts_with(&wanted);
        let lost = match &record.channels.iter().filter(named).collect::<Vec<_>>()[..] {
            [one] => (*one).clone(),
            [] => {
                let message = format!("no channel of the recovery has the id {}", escape(&wanted));
                return Err(NodeError::new(Code::NotFound, message).hint("`lightnode status` lists them"));
            }
            _ => return Err(NodeError::new(Code::BadRequest, "several channels begin so: give more of the id")),
        };
        let channel = lost.channel.channel_id;
        if let Some(closed) = lost.closed {
            let message = format!("channel {channel:.12} is closed by {}: its money is on its way", closed.txid);
            return Err(NodeError::new(Code::Refused, message).hint("`lightnode status` shows how far it has come"));
        }
        let (shown, sat) = (channel.clone(), lost.channel.capacity_sat);
        let changed = self.blocking(move |_| Ok(recovery.abandon(&channel)?)).await?;
        tracing::warn!(channel = %shown, sat, changed, "a lost channel is abandoned by its owner");
        let done = format!(
            "channel {shown:.12} of {sat} sat is abandoned: its close is waited for no longer. If its peer closes it after \
             all, a node restored from the words finds what that pays"
        );
        Ok(Done { done })
    }
}

/// The backup's file as it was given, within bounds.
pub fn read_backup(path: &Path) -> Result<Vec<u8>, NodeError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(BYTES_AT_MOST as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| NodeError::new(Code::BadRequest, format!("could not read {}: {error}", path.display())))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(open: usize, closed: usize) -> RecoveryState {
        let channel = |closing_txid| LostChannel {
            channel_id: "ab".repeat(32),
            peer: "02".repeat(33),
            capacity_sat: 1000,
            closing_txid,
            abandoned_at: None,
            waits_for: None,
        };
        let channels = std::iter::repeat_n(channel(None), open);
        let channels = channels.chain(std::iter::repeat_n(channel(Some("cd".repeat(32))), closed)).collect();
        let why = "restored from its words and a backup of its channels".to_owned();
        RecoveryState { why, since: 0, channels, found_sat: 0, looking: false, looks_until_height: None }
    }

    #[test]
    fn what_is_left_is_said_until_nothing_is() {
        let open = state(1, 1).summary().unwrap();
        assert!(open.contains("1 of 2 channels are not closed by their peers yet"), "{open}");
        let found = RecoveryState { found_sat: 5, ..state(0, 1) }.summary().unwrap();
        assert!(found.contains("5 sat") && found.contains("6 confirmations"), "{found}");
        assert!(state(0, 1).summary().unwrap().contains("on its way to the wallet"));
        let mut one = state(2, 0);
        one.channels[0].abandoned_at = Some(7);
        assert!(one.summary().unwrap().contains("1 of 2 channels"), "{:?}", one.summary());
        // With the words alone: two weeks of blocks in which the node is as any other.
        let looking = RecoveryState { looking: true, ..state(0, 0) };
        assert!(looking.summary().is_some());
        assert_eq!(RecoveryState { looks_until_height: Some(3000), ..state(0, 0) }.summary(), None);
    }
}
