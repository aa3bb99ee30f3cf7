//! Named, joined tasks and shutdown.
//!
//! Every task has a name and is joined. One that ends before its time, fails or panics stops the whole process with a
//! reason: a node that runs on without one of its parts would only seem to be up.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody wanted it: a signal, the API.
    Asked(String),
    /// A task could not go on.
    Failed {
        /// Its name.
        task: String,
        /// The cause in words.
        why: String,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(who) => f.write_str(who),
            Self::Failed { task, why } => write!(f, "{task}: {why}"),
        }
    }
}

/// Says to all that it is time to end. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<Option<StopReason>>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Shutdown {
    /// Not triggered yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the end. The first reason stays; true when it was this one.
    pub fn trigger(&self, reason: StopReason) -> bool {
        self.0.send_if_modified(|present| {
            let first = present.is_none();
            if first {
                *present = Some(reason);
            }
            first
        })
    }

    /// The reason, once there is one.
    pub fn reason(&self) -> Option<StopReason> {
        self.0.borrow().clone()
    }

    /// True once triggered.
    pub fn is_triggered(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns when triggered, at once when it was before. May be dropped and called anew (`select!`).
    pub async fn wait(&self) -> StopReason {
        let mut watched = self.0.subscribe();
        loop {
            if let Some(reason) = watched.borrow_and_update().clone() {
                return reason;
            }
            if watched.changed().await.is_err() {
                // Cannot be: `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// How long a task is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Until shutdown: its end before that is a failure.
    Whole,
    /// Until its work is done.
    Job,
}

/// The tasks of the process. Clones share them, so that any part can start its own.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shutdown: Shutdown,
    live: Mutex<Live>,
    /// Number of live tasks.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    tasks: HashMap<u64, Task>,
}

#[derive(Debug)]
struct Task {
    name: String,
    abort: Option<AbortHandle>,
}

/// Tasks that did not end in time. Asynchronous ones were aborted; threads run on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("did not end in time: {}", .0.join(", "))]
pub struct Hanging(pub Vec<String>);

impl Tasks {
    /// No tasks yet; a failing one will trigger `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner { shutdown, live: Mutex::default(), count: watch::Sender::new(0) }))
    }

    /// What a failing task triggers.
    pub fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    /// Starts a task that lives until shutdown; its earlier end stops the process, with or without error.
    pub fn spawn<E, F>(&self, name: impl Into<String>, task: F)
    where
        E: fmt::Display,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.start(name.into(), Life::Whole, task);
    }

    /// Starts a task that may end when its work is done; an error or a panic stops the process.
    pub fn spawn_job<E, F>(&self, name: impl Into<String>, task: F)
    where
        E: fmt::Display,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.start(name.into(), Life::Job, task);
    }

    /// As [`Self::spawn`], on a thread of its own, for code that blocks. It must look at [`Shutdown::is_triggered`].
    pub fn spawn_blocking<E, F>(&self, name: impl Into<String>, task: F)
    where
        E: fmt::Display,
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.start_blocking(name.into(), Life::Whole, task);
    }

    /// As [`Self::spawn_job`], on a thread of its own, for code that blocks.
    pub fn spawn_blocking_job<E, F>(&self, name: impl Into<String>, task: F)
    where
        E: fmt::Display,
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.start_blocking(name.into(), Life::Job, task);
    }

    /// Names of the live tasks, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.live().tasks.values().map(|task| task.name.clone()).collect();
        names.sort();
        names
    }

    /// Waits until all have ended. After `within`, aborts those that hang and names them.
    pub async fn join(&self, within: Duration) -> Result<(), Hanging> {
        let mut count = self.0.count.subscribe();
        let all_ended = count.wait_for(|count| *count == 0);
        if tokio::time::timeout(within, all_ended).await.is_ok() {
            return Ok(());
        }
        let names = self.names();
        for task in self.0.live().tasks.values() {
            if let Some(abort) = &task.abort {
                abort.abort();
            }
        }
        if names.is_empty() { Ok(()) } else { Err(Hanging(names)) }
    }

    fn start<E, F>(&self, name: String, life: Life, task: F)
    where
        E: fmt::Display,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.register(name, life, |end| {
            tokio::spawn(async move {
                let outcome = task.await;
                end.reach(outcome);
            })
        });
    }

    fn start_blocking<E, F>(&self, name: String, life: Life, task: F)
    where
        E: fmt::Display,
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        self.register(name, life, |end| {
            tokio::task::spawn_blocking(move || {
                let outcome = task();
                end.reach(outcome);
            })
        });
    }

    fn register(&self, name: String, life: Life, spawn: impl FnOnce(End) -> JoinHandle<()>) {
        let number = {
            let mut live = self.0.live();
            live.next += 1;
            let number = live.next;
            live.tasks.insert(number, Task { name: name.clone(), abort: None });
            number
        };
        self.0.count.send_modify(|count| *count += 1);
        let end = End { inner: Arc::clone(&self.0), number, name, life, outcome: None };
        let handle = spawn(end);
        // It may have ended already.
        if let Some(task) = self.0.live().tasks.get_mut(&number) {
            task.abort = Some(handle.abort_handle());
        }
    }
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped at the end of a task, however it ends: done, failed, panicked or aborted.
struct End {
    inner: Arc<Inner>,
    number: u64,
    name: String,
    life: Life,
    /// `None`: it did not come to its end.
    outcome: Option<Result<(), String>>,
}

impl End {
    fn reach<E: fmt::Display>(mut self, outcome: Result<(), E>) {
        self.outcome = Some(outcome.map_err(|error| error.to_string()));
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let ending = self.inner.shutdown.is_triggered();
        let why = match self.outcome.take() {
            Some(Ok(())) if self.life == Life::Job || ending => None,
            Some(Ok(())) => Some("ended before its time".to_owned()),
            Some(Err(error)) => Some(error),
            None if std::thread::panicking() => Some("panicked".to_owned()),
            None if ending => None,
            None => Some("was aborted".to_owned()),
        };
        if let Some(why) = why {
            tracing::error!(task = %self.name, %why, "a task failed");
            self.inner.shutdown.trigger(StopReason::Failed { task: self.name.clone(), why });
        }
        self.inner.live().tasks.remove(&self.number);
        self.inner.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Never = std::convert::Infallible;

    fn tasks() -> (Shutdown, Tasks) {
        let shutdown = Shutdown::new();
        (shutdown.clone(), Tasks::new(shutdown))
    }

    fn failed(task: &str, why: &str) -> StopReason {
        StopReason::Failed { task: task.into(), why: why.into() }
    }

    #[tokio::test]
    async fn tasks_that_end_after_shutdown_are_joined() {
        let (shutdown, tasks) = tasks();
        let until = shutdown.clone();
        tasks.spawn("engine", async move {
            until.wait().await;
            Ok::<_, Never>(())
        });
        assert_eq!(tasks.names(), ["engine"]);
        assert!(shutdown.trigger(StopReason::Asked("SIGTERM".into())));
        tasks.join(Duration::from_secs(60)).await.unwrap();
        assert_eq!(shutdown.reason(), Some(StopReason::Asked("SIGTERM".into())));
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn a_task_that_ends_before_its_time_stops_the_process() {
        let (shutdown, tasks) = tasks();
        tasks.spawn("engine", async { Ok::<_, Never>(()) });
        assert_eq!(shutdown.wait().await, failed("engine", "ended before its time"));
    }

    #[tokio::test]
    async fn an_error_stops_the_process_with_its_text() {
        let (shutdown, tasks) = tasks();
        tasks.spawn_job("load", async { Err("no disk") });
        assert_eq!(shutdown.wait().await, failed("load", "no disk"));
    }

    #[tokio::test]
    async fn a_panic_stops_the_process_on_a_task_as_on_a_thread() {
        let (shutdown, tasks) = tasks();
        tasks.spawn("engine", async { if tasks_panic() { panic!("as the test wants") } else { Ok::<_, Never>(()) } });
        assert_eq!(shutdown.wait().await, failed("engine", "panicked"));
        let (shutdown, tasks) = self::tasks();
        tasks.spawn_blocking("scan", || if tasks_panic() { panic!("as the test wants") } else { Ok::<_, Never>(()) });
        assert_eq!(shutdown.wait().await, failed("scan", "panicked"));
        tasks.join(Duration::from_secs(60)).await.unwrap();
    }

    fn tasks_panic() -> bool {
        true
    }

    #[tokio::test]
    async fn a_job_may_end_when_its_work_is_done() {
        let (shutdown, tasks) = tasks();
        tasks.spawn_job("load", async { Ok::<_, Never>(()) });
        tasks.spawn_blocking_job("scan", || Ok::<_, Never>(()));
        tasks.join(Duration::from_secs(60)).await.unwrap();
        assert!(!shutdown.is_triggered());
    }

    #[tokio::test]
    async fn the_first_reason_stays() {
        let (shutdown, _tasks) = tasks();
        assert!(shutdown.trigger(StopReason::Asked("SIGINT".into())));
        assert!(!shutdown.trigger(failed("engine", "later")));
        assert_eq!(shutdown.wait().await, StopReason::Asked("SIGINT".into()));
    }

    #[tokio::test]
    async fn a_task_that_hangs_at_shutdown_is_named_and_aborted() {
        let (shutdown, tasks) = tasks();
        tasks.spawn("deaf", std::future::pending::<Result<(), Never>>());
        shutdown.trigger(StopReason::Asked("stop".into()));
        assert_eq!(tasks.join(Duration::ZERO).await, Err(Hanging(vec!["deaf".into()])));
        tasks.join(Duration::from_secs(60)).await.unwrap();
    }
}
