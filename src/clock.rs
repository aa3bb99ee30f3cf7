//! The time, from a wall clock that may be wrong.
//!
//! A small machine has no battery for its clock: it starts in the past, and jumps when it first hears of the network's
//! time. What is sure is the chain: its median time past ([`chain_says`]) lies behind the true time, by an hour on a real
//! network. So:
//!
//! - Before anything is known of the chain, the year in which this program was written is a lower bound.
//! - [`unix_now`] is the wall clock, unless that is proven wrong: more than `LENIENCE` behind the chain's median time.
//!   Then it is that time and what has passed since it was told, by a clock that nobody sets. Invoices, the book, bans,
//!   deadlines, certificates and LDK's timers go by it.
//! - Headers are judged by the wall clock as it is: where it is behind their median, their future is not judged
//!   (`chain::header`). Waits go by monotonic time everywhere.
//! - [`look`] compares the wall with monotonic time, and tells of a jump. A clock that runs a little fast or slow, or is
//!   slewed, is no jump, and nothing is refused for it. A clock that is ahead cannot be proven wrong: it is only seen
//!   when it jumps.
//!
//! Decision: one clock for the process, as the system's is, in a static. Rejected: a handle through every room, which
//! says no more and would pass through thirty signatures. Cost: a test of one room hears what another has told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the chain's median time may be ahead before the wall clock is called wrong, in seconds (as in
/// `chain::machine`). Where many blocks are mined at once (regtest), or miners bend the time (testnets), it is ahead by
/// minutes.
const LENIENCE: u64 = 1800;
/// No clock that is right says less: this program was not written before 2026. Serves until the chain is known.
const WRITTEN: u64 = 1_767_225_600;
/// The wall clock and monotonic time may differ by so many seconds between two looks. Slewing differs by 0.05 %.
const JUMP: u64 = 60;
/// A jump is told of for so long.
const TOLD_FOR: Duration = Duration::from_secs(3600);

static CLOCK: Mutex<Clock> = Mutex::new(Clock { floor: None, seen: None, jump: None });

/// Unix seconds; never far behind the chain.
pub fn unix_now() -> u64 {
    clock().now(wall(), Instant::now())
}

/// The wall clock as it is, in Unix milliseconds; a clock before 1970 is taken as 1970.
pub fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The median time past of our best chain, Unix seconds. Told at the start and with each new tip.
pub fn chain_says(median_time: u32) {
    clock().raise(u64::from(median_time), Instant::now());
}

/// Looks at the clock; a jump since the last look is logged. Now and then, and before its state is shown.
pub fn look() {
    let jump = clock().look(wall(), Instant::now());
    if let Some(jump) = jump {
        tracing::warn!("the clock of this machine {}", jump.words());
    }
}

/// True when the wall clock is surely wrong: behind the chain's.
pub fn is_behind() -> bool {
    clock().behind(wall(), Instant::now()).is_some()
}

/// What is wrong with the clock, in words; `None`: nothing that is known.
pub fn trouble() -> Option<String> {
    clock().trouble(wall(), Instant::now())
}

fn wall() -> u64 {
    wall_millis() / 1000
}

fn clock() -> MutexGuard<'static, Clock> {
    // Every change is one assignment.
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pure: both times are told, the wall's in Unix seconds.
#[derive(Debug, Default)]
struct Clock {
    /// The chain's time, and when it was told.
    floor: Option<(u64, Instant)>,
    seen: Option<(u64, Instant)>,
    jump: Option<(Jump, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jump {
    Forward(u64),
    Back(u64),
}

impl Clock {
    fn raise(&mut self, median: u64, at: Instant) {
        if self.floor(at).is_none_or(|floor| median > floor) {
            self.floor = Some((median, at));
        }
    }

    fn floor(&self, at: Instant) -> Option<u64> {
        self.floor.map(|(median, told)| median.saturating_add(at.saturating_duration_since(told).as_secs()))
    }

    fn behind(&self, wall: u64, at: Instant) -> Option<u64> {
        let floor = self.floor(at).unwrap_or(0).max(WRITTEN);
        Some(floor).filter(|floor| wall.saturating_add(LENIENCE) < *floor)
    }

    fn now(&self, wall: u64, at: Instant) -> u64 {
        self.behind(wall, at).unwrap_or(wall)
    }

    fn look(&mut self, wall: u64, at: Instant) -> Option<Jump> {
        let (before, then) = self.seen.replace((wall, at))?;
        let expected = before.saturating_add(at.saturating_duration_since(then).as_secs());
        let jump = match (wall.saturating_sub(expected), expected.saturating_sub(wall)) {
            (ahead, _) if ahead > JUMP => Jump::Forward(ahead),
            (_, behind) if behind > JUMP => Jump::Back(behind),
            _ => return None,
        };
        self.jump = Some((jump, at));
        Some(jump)
    }

    fn trouble(&self, wall: u64, at: Instant) -> Option<String> {
        if let Some(floor) = self.behind(wall, at) {
            return Some(format!(
                "it is behind the chain's by {} or more: set it. Until then invoices, certificates and the book go by \
                 the chain's time, and gossip may be refused",
                span(floor - wall)
            ));
        }
        let (jump, since) = self.jump.filter(|(_, since)| at.saturating_duration_since(*since) < TOLD_FOR)?;
        let ago = at.saturating_duration_since(since).as_secs();
        Some(format!("it {}, {} ago", jump.words(), span(ago)))
    }
}

impl Jump {
    fn words(self) -> String {
        match self {
            Self::Forward(secs) => format!("was set forward by {}, or the machine slept", span(secs)),
            Self::Back(secs) => format!("was set back by {}", span(secs)),
        }
    }
}

/// In the two largest units.
fn span(secs: u64) -> String {
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_clock_far_behind_the_chain_is_not_believed_and_time_goes_on() {
        let (mut clock, at) = (Clock::default(), Instant::now());
        assert_eq!(clock.now(0, at), WRITTEN, "nothing is known yet");
        assert_eq!(clock.now(WRITTEN, at), WRITTEN);
        clock.raise(NOW, at);
        assert_eq!(clock.now(0, at), NOW);
        assert_eq!(clock.now(90, at + secs(90)), NOW + 90);
        assert_eq!(clock.now(NOW - LENIENCE - 1, at), NOW);
        // A lower time, of a chain that was left, takes nothing back; a higher one counts.
        clock.raise(NOW - HOUR, at + secs(90));
        assert_eq!(clock.now(0, at + secs(90)), NOW + 90);
        clock.raise(NOW + 100, at + secs(90));
        assert_eq!(clock.now(0, at + secs(91)), NOW + 101);
    }

    #[test]
    fn a_clock_that_is_a_little_off_or_ahead_is_taken_as_it_is() {
        let (mut clock, at) = (Clock::default(), Instant::now());
        clock.raise(NOW, at);
        for wall in [NOW - LENIENCE, NOW - 1, NOW, NOW + HOUR, NOW + 100_000 * HOUR] {
            assert_eq!(clock.now(wall, at), wall);
            assert_eq!(clock.trouble(wall, at), None);
        }
    }

    #[test]
    fn a_jump_is_told_once_and_shown_for_an_hour() {
        let (mut clock, at) = (Clock::default(), Instant::now());
        assert_eq!(clock.look(NOW, at), None);
        assert_eq!(clock.look(NOW + 10 + JUMP, at + secs(10)), None, "not far enough");
        assert_eq!(clock.look(NOW + 20 + 2 * HOUR, at + secs(20)), Some(Jump::Forward(2 * HOUR - JUMP)));
        assert_eq!(clock.look(NOW + 30 + 2 * HOUR, at + secs(30)), None);
        assert_eq!(
            clock.trouble(NOW + 2 * HOUR + 80, at + secs(80)).unwrap(),
            "it was set forward by 1 h 59 min, or the machine slept, 1 min ago"
        );
        assert_eq!(clock.look(NOW, at + secs(40)), Some(Jump::Back(2 * HOUR + 40)));
        assert_eq!(clock.trouble(NOW, at + secs(40)).unwrap(), "it was set back by 2 h 0 min, 0 s ago");
        assert_eq!(clock.trouble(NOW + HOUR, at + secs(40 + HOUR)), None);
    }

    #[test]
    fn a_clock_behind_the_chain_is_said_before_a_jump() {
        let (mut clock, at) = (Clock::default(), Instant::now());
        clock.look(NOW, at);
        clock.raise(NOW, at);
        clock.look(NOW - 50 * HOUR, at);
        let said = clock.trouble(NOW - 50 * HOUR, at).unwrap();
        assert!(said.starts_with("it is behind the chain's by 2 days or more: set it"), "{said}");
    }
}
