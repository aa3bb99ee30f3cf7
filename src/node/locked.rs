//! The node while its seed is sealed: it answers, says `locked`, and waits for the passphrase.
//!
//! Decision: a locked node only waits. Rejected: following the headers meanwhile, which saves a few seconds of a start
//! and would need an engine that runs without its listeners. Cost: those seconds.
//!
//! Wrong passphrases cost the asker a growing wait: a second after the first, twice as long after each, at most a
//! minute. It is kept in memory: who can restart the daemon can also read the sealed file, and is held up by argon2 alone.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::error::{Code, NodeError};
use super::views::{Done, Unlock};
use super::{Answer, Node};
use crate::keys::{Passphrase, Sealed, Seed, SeedError};

/// The wait after the first wrong passphrase, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A sealed seed, and the way of the opened one to the stage that waits for it.
pub(super) struct Gate {
    sealed: Sealed,
    /// Empty once it is open.
    way: Mutex<Option<oneshot::Sender<Seed>>>,
    /// Why the configured passphrase file was of no use.
    trouble: Mutex<Option<String>>,
    /// One try at a time: each takes its memory.
    patience: AsyncMutex<Patience>,
}

impl Gate {
    /// The seed comes out of the second part once.
    pub(super) fn new(sealed: Sealed) -> (Self, oneshot::Receiver<Seed>) {
        let (way, seed) = oneshot::channel();
        let (way, trouble) = (Mutex::new(Some(way)), Mutex::new(None));
        (Self { sealed, way, trouble, patience: AsyncMutex::default() }, seed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.way.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What the node waits for, in words.
    pub(super) fn waits(&self) -> Vec<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let key = "the passphrase of its seed: `lightnode unlock`".to_owned();
        std::iter::once(key).chain(trouble).collect()
    }

    /// Tries the passphrase of a file, at the start. A failure is said, and the node stays locked.
    pub(super) fn try_file(&self, path: &Path) {
        let opened = Passphrase::from_file(path).and_then(|passphrase| self.sealed.open(&passphrase));
        match opened {
            Ok(seed) => self.hand_over(seed),
            Err(error) => {
                let why = match error {
                    SeedError::WrongPassphrase => {
                        format!("the passphrase in {} does not open the seed", path.display())
                    }
                    error => error.to_string(),
                };
                tracing::error!("still locked: {why}");
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        }
    }

    fn hand_over(&self, seed: Seed) {
        let way = self.way.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody waits any more only when the process is ending.
        if way.is_some_and(|way| way.send(seed).is_ok()) {
            tracing::info!("unlocked");
        }
    }
}

impl Node {
    /// The error of everything that needs keys, while there are none.
    pub(super) fn locked(&self) -> Option<NodeError> {
        self.gate()?;
        let error =
            NodeError::new(Code::Locked, "the node is locked: its seed is encrypted, and nothing is done without");
        Some(error.hint("give it the passphrase with `lightnode unlock`"))
    }

    /// The gate, while it is closed.
    pub(super) fn gate(&self) -> Option<&Gate> {
        self.0.gate.as_ref().filter(|gate| gate.is_closed())
    }

    /// Opens the seed. A wrong passphrase is refused, and the next try with it until a growing wait is over.
    pub async fn unlock(&self, request: Unlock) -> Answer<Done> {
        let open = Done { done: "the node is not locked".into() };
        let Some(gate) = self.gate() else { return Ok(open) };
        let Ok(mut patience) = gate.patience.try_lock() else {
            return Err(NodeError::new(Code::Refused, "another passphrase is being tried at this moment"));
        };
        if let Some(left) = patience.left(Instant::now()) {
            let message = format!("after wrong passphrases the next one is looked at in {} s", whole_secs(left));
            return Err(NodeError::new(Code::Refused, message).hint("wait, then try again"));
        }
        let opened = self.blocking(move |node| {
            let Some(gate) = node.gate() else { return Ok(None) };
            Ok(Some(gate.sealed.open(&Passphrase::given(request.passphrase.as_str()))))
        });
        match opened.await? {
            None => Ok(open),
            Some(Ok(seed)) => {
                gate.hand_over(seed);
                Ok(Done { done: "unlocked; the node is coming up".into() })
            }
            Some(Err(error @ SeedError::WrongPassphrase)) => {
                let wait = patience.wrong(Instant::now());
                tracing::warn!(wrong = patience.wrong, "a wrong passphrase");
                let hint =
                    format!("try again in {} s; without it only the 24 words bring the coins back", whole_secs(wait));
                Err(NodeError::new(Code::Refused, error.to_string()).hint(hint))
            }
            Some(Err(error)) => Err(NodeError::new(Code::Failed, error.to_string())),
        }
    }
}

/// Seconds, rounded up.
fn whole_secs(span: Duration) -> u64 {
    span.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// How long the next try has to wait. Pure: the time is told.
#[derive(Debug, Default)]
struct Patience {
    wrong: u32,
    until: Option<Instant>,
}

impl Patience {
    fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    fn wrong(&mut self, now: Instant) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << self.wrong.min(16)).min(LONGEST_WAIT);
        self.wrong = self.wrong.saturating_add(1);
        self.until = Some(now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_passphrase_doubles_the_wait_up_to_a_minute() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        assert_eq!(patience.left(now), None);
        for secs in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert_eq!(patience.wrong(now), Duration::from_secs(secs));
            assert_eq!(patience.left(now), Some(Duration::from_secs(secs)));
            now += Duration::from_secs(secs);
            assert_eq!(patience.left(now), None);
        }
    }
}
