//! Slowing down when a server says so. Pure.
//!
//! 429 and 503 mean "later", with `Retry-After` where the server knows when (RFC 9110, 10.2.3; its form as a date is
//! not read). A short wait happens in place: the connection lives, and with it what is known of every script. A long
//! one, or one after another, ends the connection, and the server is left alone until the wait is over.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait where the server names none; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// A longer one is not waited for in place.
const LONGEST_IN_PLACE: Duration = Duration::from_secs(30);
/// Nobody sends us away for longer, in seconds.
const LONGEST: u64 = 3600;
/// So many refusals one after another, and the connection is over.
const STRIKES: u32 = 5;

/// When a server may be asked again.
#[derive(Debug, Default)]
pub(super) struct Gate {
    until: Option<Instant>,
    strikes: u32,
}

/// What to do about a server that asks us to slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Ask again after the wait that [`Gate::closed`] tells.
    Wait,
    /// Leave it alone for so long.
    Leave(Duration),
}

impl Gate {
    /// How long it is still to be left alone.
    pub(super) fn closed(&self, now: Instant) -> Option<Duration> {
        self.until.filter(|until| *until > now).map(|until| until - now)
    }

    /// It answered.
    pub(super) fn passed(&mut self) {
        self.strikes = 0;
    }

    /// It asks us to slow down. Up to a quarter more than asked for is waited, by `draw`: clients that were refused
    /// together come back apart.
    pub(super) fn slow_down(&mut self, now: Instant, retry_after: Option<u64>, draw: u8) -> Pace {
        // Requests in flight are refused together; that is one refusal.
        if self.closed(now).is_none() {
            self.strikes += 1;
        }
        let own = FIRST_WAIT.saturating_mul(1 << self.strikes.min(16).saturating_sub(1));
        let wait = match retry_after {
            Some(secs) => Duration::from_secs(secs.clamp(1, LONGEST)),
            None => own,
        };
        let wait = wait + wait.mul_f64(f64::from(draw) / 1024.0);
        self.until = self.until.max(Some(now + wait));
        match wait > LONGEST_IN_PLACE + LONGEST_IN_PLACE / 4 || self.strikes >= STRIKES {
            true => Pace::Leave(wait),
            false => Pace::Wait,
        }
    }
}

/// Seconds of a `Retry-After`.
pub(super) fn retry_after(value: &str) -> Option<u64> {
    let text = value.trim();
    (text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_short_wait_is_waited_in_place_and_never_shorter_than_asked_for() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.closed(now), None);
        assert_eq!(gate.slow_down(now, Some(10), 255), Pace::Wait);
        let wait = gate.closed(now).unwrap();
        assert!(wait >= 10 * SECOND && wait <= 13 * SECOND, "{wait:?}");
        assert_eq!(gate.closed(now + wait), None);
    }

    #[test]
    fn a_server_that_wants_long_peace_is_left_and_not_for_ever() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.slow_down(now, Some(120), 0), Pace::Leave(120 * SECOND));
        assert_eq!(gate.closed(now), Some(120 * SECOND));
        assert_eq!(gate.slow_down(now, Some(u64::MAX), 0), Pace::Leave(Duration::from_secs(LONGEST)));
    }

    #[test]
    fn refusals_one_after_another_double_the_wait_and_then_end_the_connection() {
        let (mut gate, mut now) = (Gate::default(), Instant::now());
        for wait in [2, 4, 8, 16] {
            assert_eq!(gate.slow_down(now, None, 0), Pace::Wait);
            // Those that were in flight with it.
            assert_eq!(gate.slow_down(now, None, 0), Pace::Wait);
            assert_eq!(gate.closed(now), Some(wait * SECOND));
            now += wait * SECOND;
        }
        assert!(matches!(gate.slow_down(now, None, 0), Pace::Leave(_)));
        gate.passed();
        now += 60 * SECOND;
        assert_eq!(gate.slow_down(now, None, 0), Pace::Wait);
        assert_eq!(gate.closed(now), Some(2 * SECOND));
    }

    #[test]
    fn only_seconds_are_read() {
        assert_eq!(retry_after(" 7 "), Some(7));
        for text in ["", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "99999999999999999999", "7s"] {
            assert_eq!(retry_after(text), None, "{text}");
        }
    }
}
