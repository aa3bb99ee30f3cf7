//! A store in a temporary directory.

use super::Store;

pub(super) const FINGERPRINT: [u8; 4] = [1, 2, 3, 4];

pub(super) fn open(dir: &std::path::Path) -> Store {
    Store::open(dir, bitcoin::Network::Regtest, FINGERPRINT).unwrap()
}

pub(super) fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (dir, store)
}
