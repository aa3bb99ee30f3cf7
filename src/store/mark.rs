//! The generation mark: how an older copy of the database is noticed before anybody acts on it.
//!
//! The database carries a random *lineage*, which it keeps for life, and an *epoch*, which only rises: with each start,
//! with each orderly end, and with writes of channel state, at most once a second. The same two stand in small files
//! outside it: `mark` in the data directory (notices that the database alone was put back) and `<lineage>` in a
//! directory of the machine, `mark_dir`, which a copy of the data directory does not carry along.
//!
//! Rules:
//!
//! - The database first, durably; then the files. So no file is ever ahead of the newest database, and one that is
//!   proves that a newer database of this lineage has existed.
//! - At a start both are raised and synced before anything of the node acts: a copy that was made before it is older.
//! - In between the files are overwritten in place and left to the system to write: a killed process loses nothing, a
//!   power cut at most what the system held back (30 s as a rule), and then the mark is too low, never too high.
//!
//! Not noticed, and left to `channel_reestablish` (`ln::behind`): a copy put back together with the mark
//! (a whole-disk image), on a machine that never ran this lineage (a moved node looks the same), and one that was made
//! in the last second before the last change of all.
//!
//! Decision: files named by lineage, not by node id: two databases of one seed (a node made anew from its words) are
//! not each other's copies. Rejected: a sync of the files with each state (two more fsyncs for each step of a payment).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use rusqlite::Transaction;

use super::lock::sync_dir;
use super::{Store, StoreError};
use crate::crash::{self, Point};

/// Name of the mark in the data directory.
pub const MARK_FILE: &str = "mark";
/// Where the database keeps its own.
const KEY: &str = "mark";
/// How often the epoch rises with writes of channel state, at most.
const EVERY: Duration = Duration::from_secs(1);
/// A mark has 87 bytes; a file that is longer is something else.
const LONGEST: u64 = 256;

/// Lineage and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    lineage: [u8; 16],
    epoch: u64,
}

/// How the database stands to the marks outside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It never had a mark: new, or of a version without marks.
    New,
    /// No mark is ahead of it, and the machine knows its lineage.
    Newest,
    /// This machine has no mark of its lineage: moved here, or the machine's mark is lost.
    Stranger,
    /// A newer one of its lineage has run.
    Older {
        /// Epoch of the database.
        found: u64,
        /// Epoch of the mark.
        newest: u64,
        /// The mark.
        mark: PathBuf,
    },
}

/// The marks of a running node. The only one who raises the epoch.
#[derive(Debug)]
pub struct Mark {
    files: Vec<(PathBuf, File)>,
    state: Mutex<Raised>,
}

#[derive(Debug)]
struct Raised {
    now: Generation,
    at: Instant,
}

/// An epoch that is written with a transaction; to be [`Mark::publish`]ed once it is durable.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Advance(Option<Generation>);

impl Generation {
    fn new() -> Result<Self, StoreError> {
        let mut lineage = [0; 16];
        getrandom::fill(&mut lineage).map_err(|error| StoreError::broken("draw a mark", error.to_string()))?;
        Ok(Self { lineage, epoch: 0 })
    }

    fn next(self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self }
    }

    fn bytes(self) -> Vec<u8> {
        [&self.lineage[..], &self.epoch.to_be_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (lineage, epoch) = bytes.split_first_chunk::<16>()?;
        Some(Self { lineage: *lineage, epoch: u64::from_be_bytes(epoch.try_into().ok()?) })
    }

    /// One line, always of the same length, so that it can be overwritten in place.
    fn line(self) -> String {
        let head = format!("lightnode mark 1 {} {:020}", self.lineage.as_hex(), self.epoch);
        let sum = sha256::Hash::hash(head.as_bytes()).to_byte_array();
        format!("{head} {}\n", sum[..4].as_hex())
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("lightnode mark 1 ")?.split_ascii_whitespace();
        let found = Self { lineage: FromHex::from_hex(words.next()?).ok()?, epoch: words.next()?.parse().ok()? };
        (found.line() == line).then_some(found)
    }
}

impl Store {
    /// Compares the database with the marks in its own directory and in `outside`. Changes nothing.
    pub fn standing(&self, outside: Option<&Path>) -> Result<Standing, StoreError> {
        let Some(own) = self.generation()? else { return Ok(Standing::New) };
        let places = self.places(outside, own);
        let marks: Vec<(PathBuf, Generation)> =
            places.iter().filter_map(|place| Some((place.clone(), read(place)?))).collect();
        let newest = marks
            .iter()
            .filter(|(_, mark)| mark.lineage == own.lineage && mark.epoch > own.epoch)
            .max_by_key(|(_, mark)| mark.epoch);
        if let Some((mark, Generation { epoch, .. })) = newest {
            return Ok(Standing::Older { found: own.epoch, newest: *epoch, mark: mark.clone() });
        }
        let known = outside.is_none() || marks.iter().any(|(place, _)| place.parent() == outside);
        Ok(if known { Standing::Newest } else { Standing::Stranger })
    }

    /// Raises the epoch, in the database and then in the marks, all durable when it returns. To be called before
    /// anything of the node acts, and only when [`Self::standing`] allows it.
    ///
    /// A mark that cannot be written is told in the log: the node can live without, only blinder.
    pub fn begin_mark(&self, outside: Option<&Path>) -> Result<Mark, StoreError> {
        if let Standing::Older { mark, .. } = self.standing(outside)? {
            let why = format!("{} says that a newer one has run", mark.display());
            return Err(StoreError::broken("begin with this database", why));
        }
        let now = match self.generation()? {
            Some(known) => known.next(),
            None => Generation::new()?.next(),
        };
        self.set_meta(KEY, &now.bytes())?;
        crash::passes(Point::MarkRaised);
        let mut files = Vec::new();
        for place in self.places(outside, now) {
            match open(&place).and_then(|file| overwrite(&file, now, true).map(|()| file)) {
                Ok(file) => {
                    place.parent().map_or(Ok(()), sync_dir)?;
                    files.push((place, file));
                    crash::passes(Point::MarkWritten);
                }
                Err(error) => tracing::warn!(
                    mark = %place.display(), %error,
                    "this mark cannot be written: an older copy of the database will not be noticed by it"
                ),
            }
        }
        Ok(Mark { files, state: Mutex::new(Raised { now, at: Instant::now() }) })
    }

    /// Gives the database a new lineage in a transaction that takes its old channels away: what is known of the old
    /// lineage stays with its marks, so that copies of it are still noticed.
    pub fn new_lineage() -> Result<impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send, StoreError> {
        let fresh = Generation::new()?;
        Ok(move |tx: &Transaction<'_>| put(tx, fresh))
    }

    fn generation(&self) -> Result<Option<Generation>, StoreError> {
        let damaged = || StoreError::broken("read the database's mark", "the stored value is damaged");
        self.meta(KEY)?.map(|bytes| Generation::from_bytes(&bytes).ok_or_else(damaged)).transpose()
    }

    fn places(&self, outside: Option<&Path>, generation: Generation) -> Vec<PathBuf> {
        let inside = self.path().with_file_name(MARK_FILE);
        let outside = outside.map(|dir| dir.join(generation.lineage.to_lower_hex_string()));
        [inside].into_iter().chain(outside).collect()
    }
}

impl Mark {
    /// Raises the epoch along with a write of channel state, at most once a second.
    pub fn advance(&self, tx: &Transaction<'_>) -> rusqlite::Result<Advance> {
        let now = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.at.elapsed() < EVERY {
                return Ok(Advance(None));
            }
            state.at = Instant::now();
            state.now = state.now.next();
            state.now
        };
        put(tx, now)?;
        Ok(Advance(Some(now)))
    }

    /// Writes what is durable in the database to the marks, without waiting for the disk.
    pub fn publish(&self, advance: Advance) {
        if let Advance(Some(now)) = advance {
            self.write(now, false);
        }
    }

    /// At an orderly end: raises the epoch a last time, all durable when it returns.
    pub fn end(&self, store: &Store) -> Result<(), StoreError> {
        let now = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.now = state.now.next();
            state.now
        };
        store.set_meta(KEY, &now.bytes())?;
        self.write(now, true);
        Ok(())
    }

    fn write(&self, now: Generation, sync: bool) {
        crash::passes(Point::MarkRaised);
        for (place, file) in &self.files {
            match overwrite(file, now, sync) {
                Ok(()) => crash::passes(Point::MarkWritten),
                Err(error) => tracing::warn!(mark = %place.display(), %error, "the mark could not be written"),
            }
        }
    }
}

fn put(tx: &Transaction<'_>, generation: Generation) -> rusqlite::Result<()> {
    Store::meta_put(tx, KEY, &generation.bytes())
}

/// `None`: there is none, or none that can be read, which is told.
fn read(place: &Path) -> Option<Generation> {
    let mut line = String::new();
    let found = File::open(place).and_then(|file| file.take(LONGEST).read_to_string(&mut line));
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(mark = %place.display(), %error, "a mark cannot be read and is passed over");
            None
        }
        Ok(_) => {
            let mark = Generation::from_line(&line);
            if mark.is_none() {
                tracing::warn!(mark = %place.display(), "a mark is damaged and is passed over");
            }
            mark
        }
    }
}

fn open(place: &Path) -> io::Result<File> {
    if let Some(dir) = place.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(place)
}

/// The line is shorter than a sector, which disks write whole.
fn overwrite(file: &File, generation: Generation, sync: bool) -> io::Result<()> {
    let line = generation.line();
    file.write_all_at(line.as_bytes(), 0)?;
    if sync {
        file.set_len(line.len() as u64)?;
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        _dir: tempfile::TempDir,
        data: PathBuf,
        outside: PathBuf,
    }

    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let (data, outside) = (dir.path().join("data"), dir.path().join("state"));
        std::fs::create_dir(&data).unwrap();
        Home { _dir: dir, data, outside }
    }

    impl Home {
        fn open(&self) -> Store {
            Store::open(&self.data, bitcoin::Network::Regtest, [7; 4]).unwrap()
        }

        /// One run of the node, in good order.
        fn run(&self) {
            let store = self.open();
            store.begin_mark(Some(&self.outside)).unwrap().end(&store).unwrap();
            store.close().unwrap();
        }

        fn standing(&self) -> Standing {
            self.open().standing(Some(&self.outside)).unwrap()
        }

        fn copy_to(&self, to: &Path) {
            std::fs::create_dir_all(to).unwrap();
            for entry in std::fs::read_dir(&self.data).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }

    #[test]
    fn the_newest_database_goes_on_after_each_run_and_after_a_crash() {
        let home = home();
        assert_eq!(home.standing(), Standing::New);
        home.run();
        assert_eq!(home.standing(), Standing::Newest);
        // Killed after its start.
        let store = home.open();
        drop(store.begin_mark(Some(&home.outside)).unwrap());
        store.close().unwrap();
        assert_eq!(home.standing(), Standing::Newest);
    }

    #[test]
    fn a_whole_directory_that_is_put_back_is_older_than_the_machines_mark() {
        let home = home();
        home.run();
        let copy = home.data.with_extension("copy");
        home.copy_to(&copy);
        home.run();
        std::fs::remove_dir_all(&home.data).unwrap();
        std::fs::rename(&copy, &home.data).unwrap();
        assert!(matches!(home.standing(), Standing::Older { mark, .. } if mark.starts_with(&home.outside)));
    }

    #[test]
    fn a_copy_made_before_a_start_is_older_even_if_that_run_was_killed_at_once() {
        let home = home();
        home.run();
        let copy = home.data.with_extension("copy");
        home.copy_to(&copy);
        let store = home.open();
        drop(store.begin_mark(Some(&home.outside)).unwrap());
        store.close().unwrap();
        std::fs::remove_dir_all(&home.data).unwrap();
        std::fs::rename(&copy, &home.data).unwrap();
        assert!(matches!(home.standing(), Standing::Older { .. }));
    }

    #[test]
    fn a_database_that_alone_is_put_back_is_older_than_the_mark_beside_it() {
        let home = home();
        home.run();
        let database = std::fs::read(home.data.join(super::super::DATABASE)).unwrap();
        home.run();
        std::fs::remove_dir_all(&home.outside).unwrap();
        std::fs::write(home.data.join(super::super::DATABASE), database).unwrap();
        assert!(matches!(home.standing(), Standing::Older { mark, .. } if mark == home.data.join(MARK_FILE)));
    }

    #[test]
    fn a_node_that_moved_to_a_new_machine_is_a_stranger_and_may_run() {
        let mut home = home();
        home.run();
        home.outside.set_file_name("state-of-another-machine");
        assert_eq!(home.standing(), Standing::Stranger);
        home.run();
        assert_eq!(home.standing(), Standing::Newest);
    }

    #[test]
    fn another_database_of_the_same_seed_is_no_copy() {
        let home = home();
        home.run();
        home.run();
        std::fs::remove_dir_all(&home.data).unwrap();
        std::fs::create_dir(&home.data).unwrap();
        home.run();
        assert_eq!(home.standing(), Standing::Newest);
    }

    #[test]
    fn a_new_lineage_leaves_the_marks_of_the_old_one() {
        let home = home();
        home.run();
        let copy = home.data.with_extension("copy");
        home.copy_to(&copy);
        home.run();
        let store = home.open();
        store.write("change the lineage", Store::new_lineage().unwrap()).unwrap();
        store.close().unwrap();
        home.run();
        assert_eq!(home.standing(), Standing::Newest);
        std::fs::remove_dir_all(&home.data).unwrap();
        std::fs::rename(&copy, &home.data).unwrap();
        assert!(matches!(home.standing(), Standing::Older { .. }));
    }

    #[test]
    fn the_epoch_rises_with_writes_only_once_in_a_while_and_never_ahead_of_the_database() {
        let home = home();
        let store = home.open();
        let mark = store.begin_mark(Some(&home.outside)).unwrap();
        let mark = std::sync::Arc::new(mark);
        let begun = store.generation().unwrap().unwrap().epoch;
        let step = |mark: &std::sync::Arc<Mark>| {
            let inner = std::sync::Arc::clone(mark);
            store.write("step", move |tx| inner.advance(tx)).unwrap()
        };
        mark.publish(step(&mark));
        assert_eq!(store.generation().unwrap().unwrap().epoch, begun);
        mark.state.lock().unwrap().at -= EVERY;
        let advance = step(&mark);
        assert_eq!(store.generation().unwrap().unwrap().epoch, begun + 1);
        let file = store.places(Some(&home.outside), store.generation().unwrap().unwrap()).pop().unwrap();
        assert_eq!(read(&file).unwrap().epoch, begun, "published before it was durable");
        mark.publish(advance);
        assert_eq!(read(&file).unwrap().epoch, begun + 1);
    }

    #[test]
    fn a_damaged_mark_proves_nothing() {
        let whole = Generation { lineage: [3; 16], epoch: 41 }.line();
        assert_eq!(Generation::from_line(&whole).map(|found| found.epoch), Some(41));
        for at in 0..whole.len() {
            let mut torn = whole.clone().into_bytes();
            torn[at] ^= 1;
            let read = String::from_utf8(torn).ok().and_then(|line| Generation::from_line(&line));
            assert_eq!(read, None, "byte {at}");
            assert_eq!(Generation::from_line(&whole[..at]), None);
        }
    }

    #[test]
    fn a_machine_without_a_place_for_the_mark_still_has_the_one_in_the_directory() {
        let home = home();
        std::fs::write(&home.outside, "a file where the directory should be").unwrap();
        home.run();
        assert_eq!(home.open().standing(None).unwrap(), Standing::Newest);
        assert!(home.data.join(MARK_FILE).exists());
    }
}
