//! Time that never goes back, from a wall clock that may.

/// The wall clock of a Raspberry Pi jumps when it first hears of the network's time. Waits are measured on a count of
/// the milliseconds by which it went forwards, so that a jump backwards makes none longer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    wall: u64,
    elapsed: u64,
}

impl Clock {
    pub(super) fn set(&mut self, wall: u64) {
        self.elapsed += wall.saturating_sub(self.wall);
        self.wall = wall;
    }

    /// Milliseconds, for waits.
    pub(super) fn now(self) -> u64 {
        self.elapsed
    }

    /// Unix seconds as the wall clock has them, for the rules about headers from the future.
    pub(super) fn seconds(self) -> u64 {
        self.wall / 1000
    }

    /// The wall time at which a wait until `at` ends.
    pub(super) fn wall(self, at: u64) -> u64 {
        self.wall + at.saturating_sub(self.elapsed)
    }
}
