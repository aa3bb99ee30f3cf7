//! Waiting for something to become true, and saying what is known when it does not.
//!
//! Nothing in the tests sleeps for a fixed time and hopes. A condition is polled until it holds or an absolute
//! deadline passes; then the test fails with the last value seen and with what every running part can tell about
//! itself (log tails, transcripts). Set `LIGHTNODE_TEST_PATIENCE=3` to stretch all deadlines on a slow machine.

use std::cell::{Cell, RefCell};
use std::fmt::{Debug, Display};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long [`eventually`] waits, before [`patience`].
const DEADLINE: Duration = Duration::from_secs(60);

/// The wait between two looks grows from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// `span` stretched by the factor in `LIGHTNODE_TEST_PATIENCE`.
pub(crate) fn patience(span: Duration) -> Duration {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    span.mul_f64(*FACTOR.get_or_init(|| match std::env::var("LIGHTNODE_TEST_PATIENCE") {
        Ok(text) => text.parse().expect("LIGHTNODE_TEST_PATIENCE is a number, such as 2.5"),
        Err(_) => 1.0,
    }))
}

/// Looks until `there` accepts what `observe` returns, and returns that. Panics after the deadline.
///
/// ```ignore
/// let height = eventually("the node reaches block 130", || node.height(), |h| *h >= 130);
/// ```
pub(crate) fn eventually<T: Debug>(what: &str, observe: impl FnMut() -> T, there: impl FnMut(&T) -> bool) -> T {
    within(DEADLINE, what, observe, there)
}

/// [`eventually`] with another deadline than 60 s.
pub(crate) fn within<T: Debug>(
    span: Duration,
    what: &str,
    mut observe: impl FnMut() -> T,
    mut there: impl FnMut(&T) -> bool,
) -> T {
    let look = || {
        let value = observe();
        if there(&value) { Ok(value) } else { Err(value) }
    };
    match poll(span, look, |_| false) {
        Ok(value) => value,
        Err(last) => fail(what, span, &format!("{last:?}")),
    }
}

/// Looks until `observe` equals `wanted`.
pub(crate) fn eventually_eq<T: Debug + PartialEq>(what: &str, wanted: T, observe: impl FnMut() -> T) {
    eventually(what, observe, |seen| *seen == wanted);
}

/// Tries until `attempt` succeeds; on failure the last error is shown.
pub(crate) fn eventually_ok<T, E: Display>(what: &str, attempt: impl FnMut() -> Result<T, E>) -> T {
    match poll(DEADLINE, attempt, |_| false) {
        Ok(value) => value,
        Err(error) => fail(what, DEADLINE, &error.to_string()),
    }
}

/// Asserts that `holds` stays true for the whole span: for promises that something does *not* happen.
pub(crate) fn throughout(span: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let outcome = poll(span, || if holds() { Err(()) } else { Ok(()) }, |_| false);
    assert!(outcome.is_err(), "no longer true: {what}{}", report());
}

/// The bare loop: tries until success, a hopeless error, or the deadline, and returns the last outcome.
pub(crate) fn poll<T, E>(
    span: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
    hopeless: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + patience(span);
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Err(error) if Instant::now() < deadline && !hopeless(&error) => std::thread::sleep(pause),
            outcome => return outcome,
        }
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}

fn fail(what: &str, span: Duration, last: &str) -> ! {
    let waited = patience(span).as_secs_f32();
    panic!("did not happen within {waited} s: {what}\nlast seen: {last}{}", report())
}

type Teller = Box<dyn Fn() -> String>;

thread_local! {
    static TELLERS: RefCell<Vec<(u64, String, Teller)>> = const { RefCell::new(Vec::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static REPORTED: Cell<bool> = const { Cell::new(false) };
}

/// Something that can tell about itself when this thread's test fails, as long as this value lives.
#[must_use = "it tells only while it lives"]
pub(crate) struct Diagnostic(u64);

impl Diagnostic {
    /// Registers `tell`; it is called only after a failure.
    pub(crate) fn new(title: impl Into<String>, tell: impl Fn() -> String + 'static) -> Self {
        let id = NEXT.replace(NEXT.get() + 1);
        TELLERS.with_borrow_mut(|all| {
            if all.is_empty() {
                REPORTED.set(false);
            }
            all.push((id, title.into(), Box::new(tell)));
        });
        Self(id)
    }
}

impl Drop for Diagnostic {
    fn drop(&mut self) {
        let teller = TELLERS.try_with(|all| {
            let mut all = all.borrow_mut();
            let place = all.iter().position(|(id, ..)| *id == self.0)?;
            Some(all.remove(place))
        });
        // A plain failed assertion unwinds through here: the part tells on its way out.
        if let (true, Ok(Some((_, title, tell)))) = (std::thread::panicking() && !REPORTED.get(), teller) {
            eprintln!("{}", section(&title, &tell()));
        }
    }
}

/// What every registered part of this thread tells, once.
fn report() -> String {
    REPORTED.set(true);
    TELLERS.with_borrow(|all| all.iter().map(|(_, title, tell)| section(title, &tell())).collect())
}

fn section(title: &str, text: &str) -> String {
    format!("\n--- {title} ---\n{}", text.trim_end())
}
