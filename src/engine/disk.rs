//! What the engine keeps on the disk, and how.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;

use super::driver::blocking;
use super::fees::FeeRecord;
use crate::chain::io::{BlockRef, Told};
use crate::config::HostPort;
use crate::crash::{self, Point};
use crate::source::error::PinsError;
use crate::source::pool::{Banned, Memory};
use crate::source::tls::pins::{Pin, Pins};
use crate::store::{Ban, Store, StoreError};

const TOLD: &str = "chain.told";
const FEES: &str = "chain.fees";
/// The server that is told the wallet's scripts.
const HOME: &str = "chain.wallet_server";
/// Estimates are written at most once in so many seconds, and at the end: they are worth little, and cards wear.
const FEES_EVERY: u64 = 3600;
/// And not before so many seconds: the first to answer may lie, and is outvoted by the others then.
const FEES_FIRST: u64 = 300;

/// The part of the store that the engine uses.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) store: Store,
    told: Option<Told>,
    home: Option<String>,
    fees_due: u64,
}

impl Disk {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
        let (told, home) = (read_told(&store)?, read_home(&store)?);
        Ok(Self { store, told, home, fees_due: crate::clock::unix_now().saturating_add(FEES_FIRST) })
    }

    /// Writes, again and again while the disk refuses: what was proven is not given up. Others may run meanwhile.
    pub(super) fn insist<T>(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        blocking(|| store.insist(StoreError::is_transient, || write(self)))
    }

    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// Stores headers, and of what the listeners still have to be told.
    ///
    /// Two writes (the second only when the fork changes), the safer one first: a stored fork may lie too low, which
    /// only makes more be told again, but never above what the stored headers share with what was told.
    pub(super) fn headers(&mut self, from: u32, headers: &[Header], fork: Option<BlockRef>) -> Result<(), StoreError> {
        let Some(forked) = Told::forked(self.told, fork) else { return self.store.store_headers(from, headers) };
        let low = |fork: Option<BlockRef>| fork.map_or(u32::MAX, |fork| fork.height);
        if low(fork) < low(self.told.and_then(|told| told.fork)) {
            self.tell(forked)?;
            self.store.store_headers(from, headers)?;
            crash::passes(Point::HeadersStored);
            return Ok(());
        }
        self.store.store_headers(from, headers)?;
        crash::passes(Point::HeadersStored);
        self.tell(forked)
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

    /// Keeps estimates, if it is time.
    pub(super) fn fees(&mut self, record: Option<FeeRecord>) -> Result<(), StoreError> {
        match record {
            Some(record) if record.at >= self.fees_due => self.fees_now(Some(record)),
            _ => Ok(()),
        }
    }

    /// Keeps estimates at once.
    pub(super) fn fees_now(&mut self, record: Option<FeeRecord>) -> Result<(), StoreError> {
        let Some(record) = record else { return Ok(()) };
        let bytes = serde_json::to_vec(&record).map_err(|error| broken(FEES, &error))?;
        self.store.set_meta(FEES, &bytes)?;
        self.fees_due = record.at.saturating_add(FEES_EVERY);
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

/// What the pool is to remember. A ban that ends later than one that is said now was said by a clock that was ahead: it is
/// written anew, so that it ends, whatever starts are between.
pub(super) fn memory(store: &Store, now: u64) -> Result<Memory, StoreError> {
    let mut bans = Vec::new();
    for Ban { host, until, reason } in store.bans(now)? {
        let ban = Banned { host, until, reason }.cut(now);
        if ban.until != until {
            store.ban(Ban { host: ban.host.clone(), until: ban.until, reason: ban.reason.clone() })?;
        }
        bans.push(ban);
    }
    Ok(Memory { bans, home: read_home(store)? })
}

fn read_home(store: &Store) -> Result<Option<String>, StoreError> {
    let text = |bytes| String::from_utf8(bytes).map_err(|error| broken("read the wallet's server", &error));
    store.meta(HOME)?.map(text).transpose()
}

pub(super) fn read_fees(store: &Store) -> Result<Option<FeeRecord>, StoreError> {
    let Some(bytes) = store.meta(FEES)? else { return Ok(None) };
    // Only a memory: without it the node begins as a new one does.
    let read = serde_json::from_slice(&bytes);
    Ok(read.inspect_err(|error| tracing::warn!(%error, "the remembered fee rates cannot be read")).ok())
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

/// The store's pins of servers' keys.
pub(super) struct StoredPins(pub(super) Store);

impl Pins for StoredPins {
    fn get(&self, server: &HostPort) -> Result<Option<Pin>, PinsError> {
        let pin = self.0.pin(&server.to_string()).map_err(|error| PinsError(error.to_string()))?;
        Ok(pin.map(Pin::from))
    }
    fn set(&self, server: &HostPort, pin: Pin) -> Result<(), PinsError> {
        self.0.set_pin(&server.to_string(), pin.into()).map_err(|error| PinsError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::pool::BAN;

    #[test]
    fn a_fork_is_remembered_over_restarts_even_if_no_tip_was_ever_told() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), bitcoin::Network::Regtest, [0; 4]).unwrap();
        let block = |height: u32| BlockRef { height, hash: BlockHash::from_byte_array([height as u8; 32]) };
        let mut disk = Disk::open(open()).unwrap();
        disk.headers(0, &[], None).unwrap();
        assert_eq!(disk.told(), None);
        disk.headers(0, &[], Some(block(3))).unwrap();
        drop(disk);
        let mut disk = Disk::open(open()).unwrap();
        assert_eq!(disk.told(), Some(Told { tip: block(3), fork: Some(block(3)) }));
        disk.delivered(block(5), true).unwrap();
        disk.headers(0, &[], Some(block(4))).unwrap();
        drop(disk);
        assert_eq!(Disk::open(open()).unwrap().told(), Some(Told { tip: block(5), fork: Some(block(4)) }));
    }

    #[test]
    fn a_ban_that_was_said_while_the_clock_was_years_ahead_ends_in_time_over_restarts() {
        const NOW: u64 = 1_800_000_000;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), bitcoin::Network::Regtest, [0; 4]).unwrap();
        let ban = |host: &str, until| Ban { host: host.into(), until, reason: "a false proof".into() };
        let month = BAN.as_secs();
        store.ban(ban("ahead", NOW + 10 * 365 * 86_400 + month)).unwrap();
        store.ban(ban("right", NOW + 1000)).unwrap();
        let ends = |now| {
            let bans = memory(&store, now).unwrap().bans;
            bans.into_iter().map(|ban| (ban.host, ban.until)).collect::<Vec<_>>()
        };
        assert_eq!(ends(NOW), [("ahead".to_owned(), NOW + month), ("right".to_owned(), NOW + 1000)]);
        // Another start in between does not begin it anew.
        assert_eq!(ends(NOW + 5000), [("ahead".to_owned(), NOW + month)]);
        assert_eq!(ends(NOW + month), []);
    }
}
