//! A store in a temporary directory.

use std::path::Path;

use bitcoin::Network;

use super::{Store, StoreError};

pub(super) const FINGERPRINT: [u8; 4] = [1, 2, 3, 4];

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, Network::Regtest, FINGERPRINT).unwrap()
}

pub(super) fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (dir, store)
}

/// The database as a power cut at this moment leaves it, opened in a directory of its own: what was not synced may be
/// there or not, what was acknowledged has to be.
pub(super) fn after_power_cut(dir: &Path) -> (tempfile::TempDir, Result<Store, StoreError>) {
    let copy = tempfile::tempdir().unwrap();
    for name in ["lightnode.db", "lightnode.db-wal"] {
        std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    let store = Store::open(copy.path(), Network::Regtest, FINGERPRINT);
    (copy, store)
}
