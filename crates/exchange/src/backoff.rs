//! How long to wait before trying again.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Doublings after which the longest wait is certain; keeps the shift in range.
const DOUBLINGS_MAX: u32 = 30;
/// Least wait after a failure: full jitter may draw nothing at all, and a hot loop helps nobody.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// `first`, doubled `times` times, at most `longest`.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(DOUBLINGS_MAX)).min(longest)
}

/// A random wait up to `ceiling` (full jitter), so that those who failed together do not come back together.
pub(crate) fn jittered(rng: &mut ChaCha8Rng, ceiling: Duration) -> Duration {
    ceiling.mul_f64(rng.random::<f64>()).max(WAIT_MIN.min(ceiling))
}
