//! Sending transactions, again and again until somebody takes them out of the outbox.
//!
//! Every connected server gets everything: one that says "ok" and drops it costs nothing that way.

use bitcoin::{Transaction, Txid};

use crate::source::{BoxFuture, BroadcastError, Session};
use crate::store::{OutboxEntry, Verdict};

/// What is being sent of one package.
pub(super) struct Sending {
    txid: Txid,
    before: Option<Verdict>,
    to: Vec<BoxFuture<'static, Result<(), BroadcastError>>>,
}

/// What came of it; `changed` when it is not what was known before.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) txid: Txid,
    pub(super) accepted: bool,
    pub(super) note: String,
    pub(super) changed: bool,
}

impl Sent {
    pub(super) fn verdict(&self, at: u64) -> Verdict {
        Verdict { at, accepted: self.accepted, note: self.note.clone() }
    }
}

impl Sending {
    /// A package in the outbox, to all of these.
    pub(super) fn entry<'a>(entry: &OutboxEntry, sessions: impl Iterator<Item = &'a dyn Session>) -> Self {
        Self { txid: entry.txid, before: entry.last.clone(), to: send(&entry.package, sessions) }
    }

    /// A package that somebody wants to be sent now, to all of these; `None` when it is empty.
    pub(super) fn now<'a>(package: &[Transaction], sessions: impl Iterator<Item = &'a dyn Session>) -> Option<Self> {
        let txid = package.last()?.compute_txid();
        Some(Self { txid, before: None, to: send(package, sessions) })
    }

    /// Accepted when any server did; else what the last one said.
    async fn finish(self) -> Sent {
        let mut outcome = Err("no server is connected".to_owned());
        for sending in self.to {
            match (sending.await, &outcome) {
                (Ok(()), _) => outcome = Ok(()),
                (Err(error), Err(_)) => outcome = Err(error.to_string()),
                (Err(_), Ok(())) => {}
            }
        }
        let (accepted, note) = match outcome {
            Ok(()) => (true, String::new()),
            Err(why) => (false, why),
        };
        let changed = self.before.is_none_or(|before| (before.accepted, before.note) != (accepted, note.clone()));
        Sent { txid: self.txid, accepted, note, changed }
    }
}

/// Carries all of them out, in order: a later one may spend an earlier one's outputs.
pub(super) async fn finish(all: Vec<Sending>) -> Vec<Sent> {
    let mut sent = Vec::with_capacity(all.len());
    for sending in all {
        sent.push(sending.finish().await);
    }
    sent
}

fn send<'a>(
    package: &[Transaction],
    sessions: impl Iterator<Item = &'a dyn Session>,
) -> Vec<BoxFuture<'static, Result<(), BroadcastError>>> {
    sessions
        .map(|session| match package {
            [tx] => session.broadcast(tx),
            _ => session.broadcast_package(package),
        })
        .collect()
}
