//! `BroadcasterInterface`: from LDK's hands into the durable outbox.
//!
//! Rules: LDK calls under its locks, repeats itself every 30 s, gives packages (one child and its parents) in any
//! order, and never asks what became of them. What it repeats by itself is what its monitors claim; a funding
//! transaction or a cooperative close it gives once.
//!
//! Decision: the outbox is written before the call returns (one fsync, as LDK's own monitor writes under the same
//! locks), so that a power cut right after it loses nothing; everything slower (the wallet, the servers) happens in
//! [`carry`]. If the disk refuses, the transaction is sent all the same and the error is recorded: getting a
//! justice transaction out is worth more than keeping the books, and what the monitors claim comes again in any case.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::{Transaction, Txid};
use lightning::chain::chaininterface::BroadcasterInterface;
use tokio::sync::mpsc;

use crate::store::Store;
use crate::task::Shutdown;

/// The same package is not handed on again for so long; the outbox sends it with each block anyway.
const QUIET: Duration = Duration::from_secs(600);

/// A child and its parents, parents first.
pub type Package = Vec<Transaction>;

/// LDK's `BroadcasterInterface`.
#[derive(Debug)]
pub struct Broadcaster {
    store: Store,
    queue: mpsc::UnboundedSender<Package>,
    recent: Mutex<HashMap<Txid, Instant>>,
}

impl Broadcaster {
    /// A broadcaster, and the packages that it has put into the outbox, for [`carry`].
    pub fn new(store: Store) -> (Self, mpsc::UnboundedReceiver<Package>) {
        let (queue, packages) = mpsc::unbounded_channel();
        (Self { store, queue, recent: Mutex::default() }, packages)
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
        // A clock before 1970 only makes the entry look old.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Err(error) = self.store.outbox_add(&package, "lightning", now) {
            tracing::error!(%error, txid = %child, "could not keep a transaction for sending again; it is sent now");
        }
        // The receiver is gone only when the process is ending; the outbox goes on after the next start.
        let _ = self.queue.send(package);
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

    fn tx(number: u32, parents: &[&Transaction]) -> Transaction {
        let input = parents
            .iter()
            .map(|parent| TxIn { previous_output: OutPoint::new(parent.compute_txid(), 0), ..TxIn::default() })
            .collect();
        Transaction { version: Version::TWO, lock_time: LockTime::from_consensus(number), input, output: Vec::new() }
    }

    fn broadcaster() -> (tempfile::TempDir, Broadcaster, mpsc::UnboundedReceiver<Package>) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), bitcoin::Network::Regtest, [0; 4]).expect("a store");
        let (broadcaster, packages) = Broadcaster::new(store);
        (dir, broadcaster, packages)
    }

    #[test]
    fn a_package_in_any_order_is_kept_with_its_parents_first() {
        let (_dir, broadcaster, mut packages) = broadcaster();
        let (a, b) = (tx(1, &[]), tx(2, &[]));
        let child = tx(3, &[&a, &b]);
        broadcaster.broadcast_transactions(&[&child, &b, &a]);
        let package = packages.try_recv().expect("handed on");
        assert_eq!(package, [b.clone(), a.clone(), child.clone()]);
        let outbox = broadcaster.store.outbox().expect("readable");
        assert_eq!(outbox.len(), 1);
        assert_eq!((outbox[0].txid, &outbox[0].package), (child.compute_txid(), &package));
    }

    #[test]
    fn what_ldk_repeats_is_handed_on_once() {
        let (_dir, broadcaster, mut packages) = broadcaster();
        let claim = tx(1, &[]);
        broadcaster.broadcast_transactions(&[&claim]);
        broadcaster.broadcast_transactions(&[&claim]);
        assert!(packages.try_recv().is_ok());
        assert!(packages.try_recv().is_err());
        let later = Instant::now() + QUIET;
        assert!(broadcaster.is_news(claim.compute_txid(), later));
    }

    #[test]
    fn a_transaction_is_sent_even_when_the_disk_refuses() {
        let (_dir, broadcaster, mut packages) = broadcaster();
        broadcaster.store.close().expect("closes");
        broadcaster.broadcast_transactions(&[&tx(1, &[])]);
        assert!(packages.try_recv().is_ok());
    }
}
