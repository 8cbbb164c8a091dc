//! Token buckets for the settings `wan_limit` and `lan_limit`.

use crate::units::Rate;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Time's worth of bytes that may pass at once after a pause: long enough that a coarse timer does not cost
/// throughput, short enough that a thin line's queue stays short.
const BURST: Duration = Duration::from_millis(50);

/// Lets bytes pass at a rate, first come first served.
#[derive(Debug)]
pub struct TokenBucket(Option<Mutex<Bucket>>);

#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    /// When everything that was let through will have passed at the rate.
    settled: Instant,
}

impl TokenBucket {
    /// A bucket for `rate`; without a limit it never waits.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self(rate.0.map(|bytes_per_second| Mutex::new(Bucket { bytes_per_second, settled: Instant::now() })))
    }

    /// Waits until `bytes` may pass.
    pub async fn take(&self, bytes: u64) {
        let Some(bucket) = &self.0 else { return };
        // The lock is held while waiting: that is the queue.
        let mut bucket = bucket.lock().await;
        let settled = bucket.book(Instant::now(), bytes);
        tokio::time::sleep_until(settled.into()).await;
    }
}

impl Bucket {
    /// Lets `bytes` through; when they will have passed.
    fn book(&mut self, now: Instant, bytes: u64) -> Instant {
        let begin = self.settled.max(now.checked_sub(BURST).unwrap_or(now));
        self.settled = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn the_rate_holds_exactly_and_a_pause_is_not_saved_up() {
        let start = Instant::now();
        let mut bucket = Bucket { bytes_per_second: 1_000_000, settled: start };
        let mut now = start;
        for _ in 0..100 {
            now = bucket.book(now, 50_000);
        }
        assert_eq!((now - start).as_millis(), 5000);
        let later = now + Duration::from_secs(60);
        assert_eq!(bucket.book(later, 1_000_000), later + Duration::from_secs(1) - BURST);
    }

    #[test]
    fn no_limit_does_not_wait() {
        assert_eq!(TokenBucket::new(Rate(None)).take(u64::MAX).now_or_never(), Some(()));
    }
}
