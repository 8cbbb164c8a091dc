//! Time as the brain knows it: what has passed since the agent started. Always an argument, never read from a clock.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A moment, counted from the start of the agent (or of a simulated world).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment so long after the start.
    #[must_use]
    pub const fn after_start(passed: Duration) -> Self {
        Self(passed)
    }

    /// How long after the start it is.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier` it is; nothing if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier))
    }
}
