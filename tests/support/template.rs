//! The chain that every world begins with, mined once and copied.
//!
//! Starting from nothing costs seconds: a wallet, 120 blocks, an index. So the first test on a machine builds bitcoind's
//! and ElectrumX's folders and keeps them under `target/`, and each world begins with a copy.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fs4::fs_std::FileExt;
use serde_json::json;

use super::bitcoind::{Bitcoind, SETTINGS};
use super::electrumx::ElectrumX;
use super::tools::tools;

/// Of the 120 rewards of 50 BTC, 21 can be spent at once.
pub(crate) const BLOCKS: u32 = 120;

/// What the programs had to say while the template was made.
const LOGS: [&str; 2] = ["bitcoind.log", "electrumx.log"];

/// Copies the first chain into `folder`, as `bitcoind` and `electrumx`.
pub(crate) fn unpack(folder: &Path) {
    static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(find_or_build);
    copy(&TEMPLATE, folder).expect("the template can be copied into the test's own folder");
}

fn find_or_build() -> PathBuf {
    let mut hash = DefaultHasher::new();
    (SETTINGS, BLOCKS, &tools().bitcoind, &tools().electrumx).hash(&mut hash);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = home.join(format!("regtest-{:016x}", hash.finish()));
    let lock = File::create(home.join("regtest.lock")).expect("cargo's folder for tests");
    lock.lock_exclusive().expect("a lock in cargo's folder for tests");
    if !place.exists() {
        let new = tempfile::tempdir_in(home).expect("cargo's folder for tests");
        build(new.path());
        fs::rename(new.keep(), &place).expect("cargo's folder for tests");
    }
    place
}

fn build(folder: &Path) {
    let mut bitcoind = Bitcoind::spawn(&folder.join("bitcoind"));
    bitcoind.wait_ready().expect("bitcoind starts");
    let _: serde_json::Value = bitcoind.call("createwallet", &[json!("miner")]);
    bitcoind.mine(BLOCKS);
    let mut electrumx = ElectrumX::run(&folder.join("electrumx"), &bitcoind.rpc_url());
    electrumx.stop();
    bitcoind.stop();
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else if !LOGS.iter().any(|log| entry.file_name() == *log) {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
