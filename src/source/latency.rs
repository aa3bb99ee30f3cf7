//! How long a server takes from question to answer, smoothed: the last eight or so count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In microseconds; 0 until something was measured.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    /// An answer took so long. One task measures.
    pub(super) fn measure(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let smoothed = match self.0.load(Ordering::Relaxed) {
            0 => took,
            before => before - before / 8 + took / 8,
        };
        self.0.store(smoothed.max(1), Ordering::Relaxed);
    }

    /// Zero until something was measured.
    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_counts_whole_and_each_later_one_an_eighth() {
        let latency = Latency::default();
        assert_eq!(latency.get(), Duration::ZERO);
        latency.measure(Duration::from_micros(800));
        assert_eq!(latency.get(), Duration::from_micros(800));
        latency.measure(Duration::from_micros(1600));
        assert_eq!(latency.get(), Duration::from_micros(900));
        (0..200).for_each(|_| latency.measure(Duration::ZERO));
        assert!(latency.get() < Duration::from_micros(10));
        latency.measure(Duration::MAX);
        assert!(latency.get() > Duration::from_secs(1));
    }
}
