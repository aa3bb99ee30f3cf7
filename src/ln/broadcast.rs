//! `BroadcasterInterface`: from LDK's hands into the durable outbox.
//!
//! Rules: LDK calls under its locks, repeats itself every 30 s, gives packages (one child and its parents) in any
//! order, and never asks what became of them. What it repeats by itself is what its monitors claim; a funding
//! transaction or a cooperative close it gives once.
//!
//! Decision: a package waits on the vault's stage until the state that it comes from is on disk, together with its row
//! in the outbox, and goes out then ([`carry`]). A power cut in between has told nobody anything: a funding never goes
//! out before its channel is kept, and a commitment never before we know that we broadcast it. The cost is one write of
//! delay; a disk that refuses ends the process, and what the monitors claim comes again with the next start.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::{Transaction, Txid};
use lightning::chain::chaininterface::BroadcasterInterface;
use tokio::sync::mpsc;

use super::vault::{Package, Stage};
use crate::crash::{self, Point};
use crate::task::Shutdown;

/// The same package is not handed on again for so long; the outbox sends it with each block anyway.
const QUIET: Duration = Duration::from_secs(600);

/// LDK's `BroadcasterInterface`.
pub struct Broadcaster {
    stage: Arc<Stage>,
    recent: Mutex<HashMap<Txid, Instant>>,
}

impl Broadcaster {
    /// A broadcaster onto this stage.
    pub fn new(stage: Arc<Stage>) -> Self {
        Self { stage, recent: Mutex::default() }
    }

    /// True when the package that this child stands for was not seen for a while.
    fn is_news(&self, child: Txid, now: Instant) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, at| now.duration_since(*at) < QUIET);
        recent.insert(child, now).is_none()
    }
}

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, txs: &[&Transaction]) {
        let package = parents_first(txs);
        let Some(child) = package.last().map(Transaction::compute_txid) else { return };
        if !self.is_news(child, Instant::now()) {
            return;
        }
        tracing::info!(txid = %child, transactions = package.len(), "lightning broadcasts");
        self.stage.broadcast(package);
    }
}

/// Hands each package on until shutdown: to `tell` (the wallet, whose coins it may spend) and then to `send` (the
/// engine, which has servers). Packages that come during shutdown are in the outbox.
pub async fn carry<E: Display>(
    mut packages: mpsc::UnboundedReceiver<Package>,
    shutdown: Shutdown,
    tell: impl Fn(&[Transaction]) -> Result<(), E> + Send,
    send: impl Fn(Package) + Send,
) -> Result<(), std::convert::Infallible> {
    loop {
        let package = tokio::select! {
            _ = shutdown.wait() => return Ok(()),
            package = packages.recv() => match package {
                Some(package) => package,
                // Nobody can broadcast any more: LDK's objects are gone.
                None => {
                    shutdown.wait().await;
                    return Ok(());
                }
            },
        };
        // The wallet hears of it again when a server shows it, or when it confirms.
        if let Err(error) = tell(&package) {
            tracing::error!(%error, "the wallet could not take note of a transaction that lightning broadcasts");
        }
        crash::passes(Point::BroadcastTold);
        send(package);
    }
}

/// Parents before children, and otherwise as given.
fn parents_first(txs: &[&Transaction]) -> Package {
    let txids: Vec<Txid> = txs.iter().map(|tx| tx.compute_txid()).collect();
    let mut left: Vec<usize> = (0..txs.len()).collect();
    let mut sorted = Vec::with_capacity(txs.len());
    while !left.is_empty() {
        let waits = |at: usize| {
            txs[at].input.iter().any(|input| left.iter().any(|other| txids[*other] == input.previous_output.txid))
        };
        // Transactions cannot spend each other in a circle, so that one is always free.
        let next = left.iter().position(|at| !waits(*at)).unwrap_or(0);
        sorted.push(txs[left.remove(next)].clone());
    }
    sorted
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{OutPoint, TxIn};

    use super::*;
    use crate::store::Store;

    fn tx(number: u32, parents: &[&Transaction]) -> Transaction {
        let input = parents
            .iter()
            .map(|parent| TxIn { previous_output: OutPoint::new(parent.compute_txid(), 0), ..TxIn::default() })
            .collect();
        Transaction { version: Version::TWO, lock_time: LockTime::from_consensus(number), input, output: Vec::new() }
    }

    fn broadcaster() -> (tempfile::TempDir, Broadcaster) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), bitcoin::Network::Regtest, [0; 4]).expect("a store");
        (dir, Broadcaster::new(Arc::new(Stage::new(store.kv()))))
    }

    #[test]
    fn a_package_in_any_order_is_staged_with_its_parents_first() {
        let (_dir, broadcaster) = broadcaster();
        let (a, b) = (tx(1, &[]), tx(2, &[]));
        let child = tx(3, &[&a, &b]);
        broadcaster.broadcast_transactions(&[&child, &b, &a]);
        assert_eq!(broadcaster.stage.take().packages, [vec![b, a, child]]);
    }

    #[test]
    fn what_ldk_repeats_is_staged_once() {
        let (_dir, broadcaster) = broadcaster();
        let claim = tx(1, &[]);
        broadcaster.broadcast_transactions(&[&claim]);
        broadcaster.broadcast_transactions(&[&claim]);
        assert_eq!(broadcaster.stage.take().packages.len(), 1);
        let later = Instant::now() + QUIET;
        assert!(broadcaster.is_news(claim.compute_txid(), later));
    }
}
