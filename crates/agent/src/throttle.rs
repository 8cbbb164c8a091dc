//! Token buckets for the settings `wan_limit` and `lan_limit`.

use crate::units::Rate;
use std::time::Duration;
use tokio::{sync::Mutex, time::Instant};

/// Time's worth of bytes that may pass at once after a pause: long enough that a coarse timer does not cost
/// throughput, short enough that a thin line's queue stays short.
const BURST: Duration = Duration::from_millis(50);

/// Lets bytes pass at a rate, first come first served.
#[derive(Debug)]
pub struct TokenBucket {
    bytes_per_second: Option<u64>,
    /// When everything that was let through will have passed at the rate.
    settled: Mutex<Instant>,
}

impl TokenBucket {
    /// A bucket for `rate`; without a limit it never waits.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { bytes_per_second: rate.0, settled: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may pass.
    pub async fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        // The lock is held while waiting: that is the queue.
        let mut settled = self.settled.lock().await;
        let now = Instant::now();
        let begin = (*settled).max(now.checked_sub(BURST).unwrap_or(now));
        *settled = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        tokio::time::sleep_until(*settled).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_exactly_and_a_pause_is_not_saved_up() {
        let bucket = TokenBucket::new("1MB/s".parse().unwrap());
        let start = Instant::now();
        for _ in 0..100 {
            bucket.take(50_000).await;
        }
        let first = start.elapsed();
        assert!(first > Duration::from_millis(4900) && first < Duration::from_millis(5100), "{first:?}");
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        bucket.take(1_000_000).await;
        assert!(start.elapsed() >= Duration::from_millis(940));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_does_not_wait() {
        let start = Instant::now();
        TokenBucket::new(Rate(None)).take(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
