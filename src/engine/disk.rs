//! What the engine keeps on the disk, and how.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;

use super::fees::FeeRecord;
use crate::chain::io::{BlockRef, Told};
use crate::config::ServerAddr;
use crate::source::electrum::pins::Pins;
use crate::source::error::PinsError;
use crate::source::pool::{Banned, Memory};
use crate::store::{Ban, Store, StoreError};

const TOLD: &str = "chain.told";
const FEES: &str = "chain.fees";
/// The server that is told the wallet's scripts.
const HOME: &str = "chain.wallet_server";
/// Estimates are written at most once in so many seconds: they are worth little, and cards wear.
const FEES_EVERY: u64 = 3600;

/// The part of the store that the engine uses.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) store: Store,
    told: Option<Told>,
    home: Option<String>,
    fees_at: u64,
}

impl Disk {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
        let (told, home) = (read_told(&store)?, read_home(&store)?);
        Ok(Self { store, told, home, fees_at: 0 })
    }

    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// Stores headers, and of what the listeners still have to be told.
    ///
    /// Two writes (the second only when the fork changes), the safer one first: a stored fork may lie too low, which
    /// only makes more be told again, but never above what the stored headers share with what was told.
    pub(super) fn headers(&mut self, from: u32, headers: &[Header], fork: Option<BlockRef>) -> Result<(), StoreError> {
        let Some(told) = self.told else { return self.store.store_headers(from, headers) };
        let low = |fork: Option<BlockRef>| fork.map_or(u32::MAX, |fork| fork.height);
        if low(fork) < low(told.fork) {
            self.tell(Told { fork, ..told })?;
            return self.store.store_headers(from, headers);
        }
        self.store.store_headers(from, headers)?;
        self.tell(Told { fork, ..told })
    }

    /// A plan was delivered that brought the listeners to `tip`.
    pub(super) fn delivered(&mut self, tip: BlockRef, with_fork: bool) -> Result<(), StoreError> {
        let fork = self.told.and_then(|told| told.fork).filter(|_| !with_fork);
        self.tell(Told { tip, fork })
    }

    fn tell(&mut self, told: Told) -> Result<(), StoreError> {
        if self.told != Some(told) {
            self.store.set_meta(TOLD, &write_told(told))?;
            self.told = Some(told);
        }
        Ok(())
    }

    pub(super) fn fees(&mut self, record: &FeeRecord) -> Result<(), StoreError> {
        if record.at.saturating_sub(self.fees_at) < FEES_EVERY {
            return Ok(());
        }
        let bytes = serde_json::to_vec(record).map_err(|error| broken(FEES, &error))?;
        self.store.set_meta(FEES, &bytes)?;
        self.fees_at = record.at;
        Ok(())
    }

    pub(super) fn ban(&self, ban: Banned) -> Result<(), StoreError> {
        let Banned { host, until, reason } = ban;
        self.store.ban(Ban { host, until, reason })
    }

    /// Remembers the server that is told the wallet's scripts; the same one is not written again.
    pub(super) fn home(&mut self, address: &str) -> Result<(), StoreError> {
        if self.home.as_deref() != Some(address) {
            self.store.set_meta(HOME, address.as_bytes())?;
            self.home = Some(address.to_owned());
        }
        Ok(())
    }
}

/// What the pool is to remember.
pub(super) fn memory(store: &Store, now: u64) -> Result<Memory, StoreError> {
    let banned = |Ban { host, until, reason }| Banned { host, until, reason };
    Ok(Memory { bans: store.bans(now)?.into_iter().map(banned).collect(), home: read_home(store)? })
}

fn read_home(store: &Store) -> Result<Option<String>, StoreError> {
    let text = |bytes| String::from_utf8(bytes).map_err(|error| broken("read the wallet's server", &error));
    store.meta(HOME)?.map(text).transpose()
}

pub(super) fn read_fees(store: &Store) -> Result<Option<FeeRecord>, StoreError> {
    let bytes = store.meta(FEES)?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| broken(FEES, &error))).transpose()
}

fn broken(what: &'static str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Broken { what, why: why.to_string() }
}

/// 36 bytes a block: height, hash.
fn write_told(told: Told) -> Vec<u8> {
    let block = |block: BlockRef| block.height.to_be_bytes().into_iter().chain(block.hash.to_byte_array());
    block(told.tip).chain(told.fork.into_iter().flat_map(block)).collect()
}

fn read_told(store: &Store) -> Result<Option<Told>, StoreError> {
    let Some(bytes) = store.meta(TOLD)? else { return Ok(None) };
    let block = |bytes: &[u8]| {
        let (height, hash) = bytes.split_first_chunk::<4>()?;
        let hash = BlockHash::from_byte_array(hash.try_into().ok()?);
        Some(BlockRef { height: u32::from_be_bytes(*height), hash })
    };
    let told = match bytes.split_at_checked(36) {
        Some((tip, [])) => block(tip).map(|tip| Told { tip, fork: None }),
        Some((tip, fork)) => block(tip).zip(block(fork)).map(|(tip, fork)| Told { tip, fork: Some(fork) }),
        None => None,
    };
    told.map(Some).ok_or_else(|| broken("read what was delivered", &"the stored value is damaged"))
}

/// The store's pins of certificates.
pub(super) struct StoredPins(pub(super) Store);

impl Pins for StoredPins {
    fn get(&self, server: &ServerAddr) -> Result<Option<[u8; 32]>, PinsError> {
        self.0.pin(&server.at.to_string()).map_err(|error| PinsError(error.to_string()))
    }
    fn set(&self, server: &ServerAddr, pin: [u8; 32]) -> Result<(), PinsError> {
        self.0.set_pin(&server.at.to_string(), pin).map_err(|error| PinsError(error.to_string()))
    }
}
