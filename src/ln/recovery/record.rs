//! What is known of channels that were given up, and of what their closes have paid us: one value in the store.
//!
//! Pure but for loading and saving: blocks come in, and what is to be done comes out.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

use crate::ln::backup::Channel;
use crate::store::{Store, StoreError};

const KEY: &str = "recovery";

/// Confirmations from which on a close is taken for final (LDK's `ANTI_REORG_DELAY`).
const FINAL: u32 = 6;

/// How long the seed's scripts are followed when nothing is known of the channels: two weeks of blocks.
const LOOK: u32 = 2016;

/// A recovery that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What led to it, for people.
    pub why: String,
    /// Unix seconds.
    pub since: u64,
    pub channels: Vec<Lost>,
    /// Whether the scripts of the seed are followed too.
    look: Look,
    found: Vec<Found>,
}

/// A channel that its peer is to close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    pub channel: Channel,
    pub closed: Option<Closed>,
    /// When its owner gave up waiting for its close (Unix seconds). A close that is seen all the same counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<u64>,
}

impl Lost {
    fn new(channel: Channel) -> Self {
        Self { channel, closed: None, abandoned: None }
    }

    /// True while its close is waited for.
    pub fn is_awaited(&self) -> bool {
        self.closed.is_none() && self.abandoned.is_none()
    }
}

/// The transaction that spent the channel's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    pub txid: Txid,
    pub height: u32,
}

/// Following the static scripts of the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Look {
    Off,
    /// Until all that is in blocks was seen.
    Once,
    /// For some time: a peer may close later.
    Long,
    /// Up to this height.
    Until(u32),
}

/// An output of a close on one of the seed's static scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub height: u32,
    /// The channel, where known.
    pub channel_id: Option<String>,
    /// Spent in this block by somebody who has the words, before it was handed to the sweeper.
    spent: Option<u32>,
    /// The sweeper has it.
    pub handed: bool,
}

/// What a block has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Something to be written.
    pub changed: bool,
    /// Scripts whose spends matter from now on.
    pub follow: Vec<ScriptBuf>,
}

impl Record {
    /// Channels that are known, to be closed by their peers.
    pub fn given_up(why: String, since: u64, channels: Vec<Channel>) -> Self {
        let channels = channels.into_iter().map(Lost::new).collect();
        Self { why, since, channels, look: Look::Off, found: Vec::new() }
    }

    /// A node made anew from its words, and perhaps the channels of a backup, which may be older than the last close.
    pub fn restored(since: u64, backup: Option<Vec<Channel>>) -> Self {
        let (why, look) = match &backup {
            Some(_) => ("restored from its words and a backup of its channels", Look::Once),
            None => ("restored from its words alone", Look::Long),
        };
        Self { look, ..Self::given_up(why.into(), since, backup.unwrap_or_default()) }
    }

    /// The one that is under way.
    pub fn load(store: &Store) -> Result<Option<Self>, StoreError> {
        let broken = |error: serde_json::Error| StoreError::Broken {
            what: "read how far the recovery has come",
            why: error.to_string(),
        };
        let bytes = store.meta(KEY)?.filter(|bytes| !bytes.is_empty());
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(broken)).transpose()
    }

    /// Keeps it; durable when it returns.
    pub fn save(&self, store: &Store) -> Result<(), StoreError> {
        store.set_meta(KEY, &self.encode()?)
    }

    /// Name and value, to be written with other things.
    pub(super) fn row(&self) -> Result<(&'static str, Vec<u8>), StoreError> {
        Ok((KEY, self.encode()?))
    }

    /// It is over.
    pub(super) fn clear(store: &Store) -> Result<(), StoreError> {
        store.set_meta(KEY, &[])
    }

    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self)
            .map_err(|error| StoreError::Broken { what: "keep how far the recovery has come", why: error.to_string() })
    }

    /// True while the static scripts are to be followed.
    pub(super) fn looks(&self) -> bool {
        self.look != Look::Off
    }

    /// Scripts to be followed from the start.
    pub(super) fn scripts(&self) -> impl Iterator<Item = ScriptBuf> + '_ {
        let fundings = self.channels.iter().map(|lost| lost.channel.script.clone());
        fundings.chain(self.found.iter().map(|found| found.output.script_pubkey.clone()))
    }

    /// The chain above this height is another one now. What the sweeper has is its own to follow.
    pub(super) fn forked(&mut self, height: u32) -> bool {
        let before = self.clone();
        for lost in &mut self.channels {
            lost.closed = lost.closed.filter(|closed| closed.height <= height);
        }
        self.found.retain(|found| found.handed || found.height <= height);
        for found in &mut self.found {
            found.spent = found.spent.filter(|spent| *spent <= height);
        }
        *self != before
    }

    /// A transaction is in the block at `height`. `ours`: the static scripts.
    pub(super) fn block(&mut self, tx: &Transaction, height: u32, ours: &BTreeSet<ScriptBuf>) -> News {
        let (mut news, txid) = (News::default(), tx.compute_txid());
        let mut channel_id = None;
        for input in tx.input.iter().map(|input| input.previous_output) {
            for lost in self.channels.iter_mut().filter(|lost| lost.channel.funding == input) {
                channel_id = Some(lost.channel.channel_id.clone());
                let closed = Some(Closed { txid, height });
                news.changed |= lost.closed != closed;
                lost.closed = closed;
            }
            for found in self.found.iter_mut().filter(|found| found.outpoint == input && !found.handed) {
                news.changed |= found.spent != Some(height);
                found.spent = Some(height);
            }
        }
        for (vout, output) in (0..).zip(&tx.output).filter(|(_, output)| ours.contains(&output.script_pubkey)) {
            let outpoint = OutPoint { txid, vout };
            if self.found.iter().any(|found| found.outpoint == outpoint) {
                continue;
            }
            self.found.push(Found {
                outpoint,
                output: output.clone(),
                height,
                channel_id: channel_id.clone(),
                spent: None,
                handed: false,
            });
            news.changed = true;
            news.follow.push(output.script_pubkey.clone());
        }
        news
    }

    /// All blocks up to here are told. True when something changed.
    pub(super) fn tip(&mut self, height: u32) -> bool {
        let look = match self.look {
            Look::Once => Look::Off,
            Look::Long => Look::Until(height.saturating_add(LOOK)),
            Look::Until(end) if end <= height => Look::Off,
            look => look,
        };
        let changed = look != self.look;
        self.look = look;
        changed
    }

    /// The owner waits no longer for the close of this channel; true when that is new.
    pub(super) fn abandon(&mut self, channel_id: &str, now: u64) -> bool {
        let mut awaited =
            self.channels.iter_mut().filter(|lost| lost.channel.channel_id == channel_id && lost.is_awaited());
        awaited.next().map(|lost| lost.abandoned = Some(now)).is_some()
    }

    /// Outputs that the sweeper is to have now.
    pub(super) fn due(&self, tip: u32) -> Vec<Found> {
        let due = |found: &&Found| !found.handed && found.spent.is_none() && is_final(found.height, tip);
        self.found.iter().filter(due).cloned().collect()
    }

    /// The sweeper has this one.
    pub(super) fn handed(&mut self, outpoint: OutPoint) {
        self.found.iter_mut().filter(|found| found.outpoint == outpoint).for_each(|found| found.handed = true);
    }

    /// Outputs that the sweeper was given.
    pub(super) fn with_the_sweeper(&self) -> impl Iterator<Item = OutPoint> + '_ {
        self.found.iter().filter(|found| found.handed).map(|found| found.outpoint)
    }

    /// True when nothing is left to be found, and what was found is spent or with the sweeper.
    pub(super) fn is_complete(&self, tip: u32) -> bool {
        let closed = |lost: &Lost| match lost.closed {
            Some(closed) => is_final(closed.height, tip),
            None => lost.abandoned.is_some(),
        };
        let over = |found: &Found| found.handed || found.spent.is_some_and(|spent| is_final(spent, tip));
        !self.looks() && self.channels.iter().all(closed) && self.found.iter().all(over)
    }

    /// What was found and not yet handed on, in sat.
    pub fn waiting_sat(&self) -> u64 {
        let waiting = self.found.iter().filter(|found| !found.handed && found.spent.is_none());
        waiting.map(|found| found.output.value.to_sat()).sum()
    }

    /// Up to which height the static scripts are followed, once that is known.
    pub fn looks_until(&self) -> Option<u32> {
        match self.look {
            Look::Until(height) => Some(height),
            Look::Off | Look::Once | Look::Long => None,
        }
    }

    /// True when the seed's scripts have not been looked through yet.
    pub fn is_looking(&self) -> bool {
        matches!(self.look, Look::Once | Look::Long)
    }
}

fn is_final(height: u32, tip: u32) -> bool {
    height.saturating_add(FINAL) <= tip.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, TxIn, Witness};

    use super::*;
    use crate::ln::backup::example;

    fn spend(inputs: &[OutPoint], script: &ScriptBuf) -> Transaction {
        let input =
            inputs.iter().map(|point| TxIn { previous_output: *point, witness: Witness::new(), ..TxIn::default() });
        let output = vec![
            TxOut { value: Amount::from_sat(330), script_pubkey: ScriptBuf::new() },
            TxOut { value: Amount::from_sat(70_000), script_pubkey: script.clone() },
        ];
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: input.collect(), output }
    }

    fn ours() -> (ScriptBuf, BTreeSet<ScriptBuf>) {
        let script = ScriptBuf::new_p2wsh(&bitcoin::hashes::Hash::from_byte_array([200; 32]));
        (script.clone(), BTreeSet::from([script]))
    }

    fn one_channel() -> (Record, OutPoint) {
        let channels = example(1).channels;
        let funding = channels[0].funding;
        (Record::given_up("test".into(), 0, channels), funding)
    }

    #[test]
    fn a_close_is_found_followed_and_swept_when_it_is_final() {
        let (mut record, funding) = one_channel();
        let (script, scripts) = ours();
        let close = spend(&[funding], &script);
        let news = record.block(&close, 100, &scripts);
        assert_eq!(news, News { changed: true, follow: vec![script] });
        assert_eq!(record.block(&close, 100, &scripts), News::default(), "told again, nothing is new");
        assert_eq!(record.waiting_sat(), 70_000);
        assert!(record.due(104).is_empty() && !record.is_complete(104));
        let due = record.due(105);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].channel_id, Some(record.channels[0].channel.channel_id.clone()));
        record.handed(due[0].outpoint);
        assert!(record.due(105).is_empty() && record.is_complete(105));
        assert_eq!(record.waiting_sat(), 0);
    }

    #[test]
    fn a_close_that_left_the_chain_is_forgotten_and_another_one_found() {
        let (mut record, funding) = one_channel();
        let (script, scripts) = ours();
        record.block(&spend(&[funding], &script), 100, &scripts);
        assert!(record.forked(99));
        assert!(record.due(200).is_empty() && !record.is_complete(200));
        assert!(!record.forked(99));
        let other = spend(&[funding, OutPoint::null()], &script);
        record.block(&other, 101, &scripts);
        assert_eq!(record.due(106)[0].outpoint.txid, other.compute_txid());
    }

    #[test]
    fn what_somebody_with_the_words_has_spent_is_not_swept() {
        let (mut record, funding) = one_channel();
        let (script, scripts) = ours();
        let close = spend(&[funding], &script);
        record.block(&close, 100, &scripts);
        let swept = OutPoint { txid: close.compute_txid(), vout: 1 };
        assert!(record.block(&spend(&[swept], &ScriptBuf::new()), 103, &scripts).changed);
        assert!(record.due(200).is_empty());
        assert!(!record.is_complete(107) && record.is_complete(108));
        // And if that spend leaves the chain, it is ours again.
        record.forked(102);
        assert_eq!(record.due(200).len(), 1);
    }

    #[test]
    fn a_channel_that_is_abandoned_is_not_waited_for_and_its_close_still_counts() {
        let (mut record, funding) = one_channel();
        let id = record.channels[0].channel.channel_id.clone();
        assert!(!record.abandon("another", 7) && !record.is_complete(100));
        assert!(record.abandon(&id, 7) && !record.abandon(&id, 8));
        assert_eq!(record.channels[0].abandoned, Some(7));
        assert!(record.is_complete(100));
        // Its peer closes before the recovery has ended.
        let (script, scripts) = ours();
        record.block(&spend(&[funding], &script), 100, &scripts);
        assert!(!record.is_complete(105));
        assert_eq!(record.due(105).len(), 1);
        // What is closed cannot be abandoned: its money is on its way.
        let (mut record, funding) = one_channel();
        record.block(&spend(&[funding], &script), 100, &scripts);
        assert!(!record.abandon(&id, 7));
    }

    #[test]
    fn with_the_words_alone_the_look_goes_on_for_two_weeks_of_blocks() {
        let mut record = Record::restored(0, None);
        assert!(record.looks() && !record.is_complete(1));
        assert!(record.tip(1000));
        assert!(!record.tip(1001) && !record.is_complete(1001));
        assert_eq!(record.looks_until(), Some(3016));
        assert!(record.tip(3016) && record.is_complete(3016));
    }

    #[test]
    fn with_a_backup_one_look_will_do() {
        let mut record = Record::restored(0, Some(Vec::new()));
        assert!(record.looks());
        assert!(record.tip(1000) && record.is_complete(1000));
    }

    #[test]
    fn it_comes_back_from_the_disk_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), bitcoin::Network::Regtest, [0; 4]).unwrap();
        assert_eq!(Record::load(&store).unwrap(), None);
        let (mut record, funding) = one_channel();
        let (script, scripts) = ours();
        record.block(&spend(&[funding], &script), 100, &scripts);
        record.save(&store).unwrap();
        assert_eq!(Record::load(&store).unwrap(), Some(record));
        Record::clear(&store).unwrap();
        assert_eq!(Record::load(&store).unwrap(), None);
    }
}
