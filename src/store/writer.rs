//! The one thread that writes.
//!
//! It takes what is queued and commits it together. Lazy jobs ride along with the next commit; should none come, they
//! are committed alone after [`LAZY`]. Values held back by the key-value store are written when they are due.

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::error::by_disk;
use super::health::Health;
use super::kv::Held;
use super::reserve::Reserve;
use super::{StoreError, locked};
use crate::crash::{self, Point};

/// At most so many jobs share a commit.
const GROUP: usize = 256;

/// A lazy job waits no longer than this for a commit to ride along with.
const LAZY: Duration = Duration::from_secs(30);

/// The first and the longest pause before a disk that refused is tried again.
const TRIALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a trial writes: about as much as a large commit. A disk with less space than that is still full.
const TRIAL: i64 = 64 << 10;

pub(super) struct Writer {
    queue: Sender<Message>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    /// Absent when there is none, and nothing can be written.
    id: Option<std::thread::ThreadId>,
}

enum Message {
    Job(Box<dyn Job>),
    Lazy(Box<dyn Job>),
    /// A held value may be due.
    Wake,
    /// The end is near: space is made, and a disk that refused is tried; then answered.
    Prepare(SyncSender<()>),
    Stop,
}

/// Work for the writer. Exactly one of its ends is reached: `finish`, or dropped when the writer is gone.
trait Job: Send {
    /// Inside the transaction.
    fn run(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()>;
    /// After the commit, or instead of it.
    fn finish(self: Box<Self>, outcome: Result<(), Arc<rusqlite::Error>>);
}

struct Work<T, F, R> {
    what: &'static str,
    work: Option<F>,
    value: Option<T>,
    reply: R,
}

impl<T, F, R> Job for Work<T, F, R>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    R: FnOnce(Result<T, StoreError>) + Send,
{
    fn run(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(tx)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Arc<rusqlite::Error>>) {
        let what = self.what;
        let value = match outcome {
            Ok(()) => self.value.ok_or(StoreError::Closed { what }),
            Err(source) => Err(StoreError::Sqlite { what, source }),
        };
        (self.reply)(value);
    }
}

impl Writer {
    /// Sets the reserve aside, too: without it the disk counts as full.
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        held: Arc<Held>,
        health: Arc<Health>,
        reserve: Reserve,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = channel();
        let mut begin = Loop {
            connection,
            jobs,
            held,
            lazy: Vec::new(),
            lazy_due: None,
            health,
            reserve,
            failing: None,
            ending: false,
        };
        if let Err(error) = begin.reserve.hold() {
            begin.refused(&error);
        }
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || begin.run())
            .map_err(StoreError::io("start the writer of", path))?;
        let id = Some(thread.thread().id());
        Ok(Self { queue, thread: Mutex::new(Some(thread)), id })
    }

    /// For a database that is only looked at: every write finds it closed.
    pub(super) fn absent() -> Self {
        Self { queue: channel().0, thread: Mutex::new(None), id: None }
    }

    pub(super) fn write<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        if Some(std::thread::current().id()) == self.id {
            return Err(StoreError::broken(what, "a write inside a write would wait for itself"));
        }
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.send(Message::Job(Box::new(Work {
            what,
            work: Some(work),
            value: None,
            // Nobody waits any more only when the waiting thread is gone.
            reply: move |value| drop(reply.send(value)),
        })));
        answer.recv().unwrap_or(Err(StoreError::Closed { what }))
    }

    pub(super) fn write_async<T, F>(
        &self,
        what: &'static str,
        work: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(Work {
            what,
            work: Some(work),
            value: None,
            // The future may have been dropped; the work is done all the same.
            reply: move |value| drop(reply.send(value)),
        })));
        async move { answer.await.unwrap_or(Err(StoreError::Closed { what })) }
    }

    /// Work that may be lost in a power cut: done with the next commit, or after [`LAZY`]. Keeps its place in the
    /// order of jobs. False: there is no writer any more.
    pub(super) fn write_lazily<F>(&self, what: &'static str, work: F) -> bool
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        let job = Box::new(Work {
            what,
            work: Some(work),
            value: None,
            reply: move |value| {
                if let Err(error) = value {
                    tracing::warn!(%error, "what was to be written later was not written");
                }
            },
        });
        self.queue.send(Message::Lazy(job)).is_ok()
    }

    /// Has the writer look at the held values. False: there is no writer any more.
    pub(super) fn wake(&self) -> bool {
        self.queue.send(Message::Wake).is_ok()
    }

    /// Makes space for the end; returns when the disk was tried with it.
    pub(super) fn prepare_close(&self) {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Prepare(reply));
        // An error: the writer has ended, and there is nothing to prepare.
        let _ = answer.recv();
    }

    /// Ends the writer after everything queued before.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        let Some(thread) = locked(&self.thread).take() else { return Ok(()) };
        self.send(Message::Stop);
        if Some(std::thread::current().id()) == self.id {
            // The last handle went inside a job: the writer ends by itself.
            return Ok(());
        }
        thread.join().unwrap_or_else(|_| Err(StoreError::broken("close the database", "its writer had panicked")))
    }

    /// A message to a writer that is gone is dropped, and with it the reply end, which tells the waiter.
    fn send(&self, message: Message) {
        drop(self.queue.send(message));
    }
}

struct Loop {
    connection: Connection,
    jobs: Receiver<Message>,
    held: Arc<Held>,
    lazy: Vec<Box<dyn Job>>,
    lazy_due: Option<Instant>,
    health: Arc<Health>,
    reserve: Reserve,
    /// The disk refused; when it is tried again, and how long after that.
    failing: Option<(Instant, Duration)>,
    /// The reserve was given free.
    ending: bool,
}

impl Loop {
    fn run(mut self) -> Result<(), StoreError> {
        let mut going = true;
        while going {
            let mut group = Vec::new();
            going = self.gather(&mut group);
            let now = Instant::now();
            if self.failing.is_some_and(|(at, _)| at <= now) {
                self.attempt();
            }
            let well = self.failing.is_none();
            if !group.is_empty() || (well && self.lazy_due.is_some_and(|due| due <= now)) || !going {
                self.lazy_due = None;
                // What is lazy still was asked for after all of the group.
                group.append(&mut self.lazy);
                self.commit(group);
            }
            let due = match going {
                true if self.failing.is_some() => Vec::new(),
                true => self.held.due(now),
                false => self.held.all(),
            };
            let flushed = self.flush(due);
            if !going {
                flushed?;
            }
        }
        const WHAT: &str = "close the database";
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(StoreError::sqlite(WHAT))?;
        self.connection.close().map_err(|(_, error)| StoreError::sqlite(WHAT)(error))
    }

    /// Waits for work, then takes all that is there. False: it is time to end.
    fn gather(&mut self, group: &mut Vec<Box<dyn Job>>) -> bool {
        let deadline = match self.failing {
            Some((at, _)) => Some(at),
            None => self.lazy_due.into_iter().chain(self.held.deadline()).min(),
        };
        let mut next = match deadline {
            None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.jobs.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        loop {
            match next {
                Ok(Message::Job(job)) => {
                    // Lazy jobs asked for before this one keep their place.
                    group.append(&mut self.lazy);
                    group.push(job);
                }
                Ok(Message::Lazy(job)) => {
                    self.lazy.push(job);
                    self.lazy_due.get_or_insert_with(|| Instant::now() + LAZY);
                }
                Ok(Message::Wake) => {}
                Ok(Message::Prepare(reply)) => {
                    self.reserve.release();
                    self.ending = true;
                    if self.failing.is_some() {
                        self.attempt();
                    }
                    // Nobody waits any more only when the waiting thread is gone.
                    let _ = reply.send(());
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
            if group.len() >= GROUP {
                return true;
            }
            next = match self.jobs.try_recv() {
                Ok(message) => Ok(message),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            };
        }
    }

    /// One transaction for all jobs, a savepoint for each; then each hears of its end.
    fn commit(&mut self, jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        let mut done = Vec::with_capacity(jobs.len());
        let committed = self.transact(jobs, &mut done);
        let outcomes = done.iter().map(|(_, outcome)| outcome).chain([&committed]);
        if let Some(error) = outcomes.filter_map(|outcome| outcome.as_ref().err()).find(|error| by_disk(error)) {
            self.refused(&StoreError::Sqlite { what: "write the database", source: Arc::clone(error) });
        }
        for (job, outcome) in done {
            let outcome = match &committed {
                Ok(()) => outcome,
                Err(error) => outcome.and(Err(Arc::clone(error))),
            };
            job.finish(outcome);
        }
    }

    fn transact(&self, jobs: Vec<Box<dyn Job>>, done: &mut Vec<Done>) -> Result<(), Arc<rusqlite::Error>> {
        let mut jobs = jobs.into_iter();
        let tx = match Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate) {
            Ok(tx) => tx,
            Err(error) => {
                done.extend(jobs.map(|job| (job, Ok(()))));
                return Err(Arc::new(error));
            }
        };
        let mut lost = None;
        for mut job in jobs.by_ref() {
            let outcome = savepoint(&tx, &mut *job).map_err(Arc::new);
            // Some errors (disk full, I/O) make SQLite roll the whole transaction back.
            if tx.is_autocommit() {
                lost = outcome.clone().err();
                done.push((job, outcome));
                break;
            }
            done.push((job, outcome));
        }
        match lost {
            Some(error) => {
                done.extend(jobs.map(|job| (job, Ok(()))));
                Err(error)
            }
            None => {
                crash::passes(Point::CommitBefore);
                tx.commit().map_err(Arc::new)?;
                crash::passes(Point::CommitAfter);
                Ok(())
            }
        }
    }

    /// The disk refused something: nothing is taken on until a trial succeeds.
    fn refused(&mut self, error: &StoreError) {
        let (first, longest) = TRIALS;
        let pause = self.failing.map_or(first, |(_, pause)| (pause * 2).min(longest));
        if self.failing.is_none() {
            tracing::error!(%error, "halted: the disk does not take what it is given");
        }
        self.failing = Some((Instant::now() + pause, pause));
        self.health.set(Some(error.to_string().into()));
    }

    /// Tries a disk that refused.
    fn attempt(&mut self) {
        let trial = |connection: &Connection| {
            connection
                .execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('disk.trial', zeroblob(?1))", [TRIAL])?;
            connection.execute("DELETE FROM meta WHERE key = 'disk.trial'", [])
        };
        let written = trial(&self.connection).map_err(StoreError::sqlite("write the database"));
        // At the end the reserve is not made again: that would take the space that was just given free.
        let held = if self.ending { Ok(()) } else { self.reserve.hold() };
        match written.and(held) {
            Ok(()) => {
                tracing::warn!("the disk takes what it is given again: going on");
                self.failing = None;
                self.health.set(None);
            }
            Err(error) => self.refused(&error),
        }
    }

    fn flush(&mut self, due: Vec<super::debounce::Due>) -> Result<(), StoreError> {
        let mut worst = Ok(());
        for due in due {
            let outcome = super::kv::put_or_remove(&self.connection, &due);
            self.held.settle(&due, outcome.is_ok(), Instant::now());
            if let Err(source) = outcome {
                let error = StoreError::sqlite("write a cached value")(source);
                tracing::warn!(%error, key = %due.key, "will be tried again");
                if error.is_transient() {
                    self.refused(&error);
                }
                worst = Err(error);
            }
        }
        worst
    }
}

type Done = (Box<dyn Job>, Result<(), Arc<rusqlite::Error>>);

fn savepoint(tx: &Transaction<'_>, job: &mut dyn Job) -> rusqlite::Result<()> {
    tx.execute_batch("SAVEPOINT job")?;
    let outcome = job.run(tx);
    if tx.is_autocommit() {
        return outcome.and_then(|()| {
            Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
                Some("the transaction was ended from inside".into()),
            ))
        });
    }
    match &outcome {
        Ok(()) => tx.execute_batch("RELEASE job")?,
        Err(_) => tx.execute_batch("ROLLBACK TO job; RELEASE job")?,
    }
    outcome
}
