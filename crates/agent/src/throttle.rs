//! Token buckets for the settings `wan_limit` and `lan_limit`.

use crate::units::{Limit, Rate};
use std::{
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Notify};

/// Time's worth of bytes that may pass at once after a pause: long enough that a coarse timer does not cost
/// throughput, short enough that a thin line's queue stays short.
const BURST: Duration = Duration::from_millis(50);

/// Lets bytes pass at a rate, first come first served. The rate may change at any time, also for those who wait.
#[derive(Debug)]
pub struct TokenBucket {
    /// Whoever waits holds it: that is the queue.
    queue: Mutex<()>,
    bucket: std::sync::Mutex<Bucket>,
    changed: Notify,
}

#[derive(Debug)]
struct Bucket {
    limit: Limit,
    /// Bytes that were let through and would not have passed yet at the rate; below zero, what was saved up.
    owed: f64,
    /// When that was so.
    at: Instant,
}

impl TokenBucket {
    /// A bucket for `limit`; without a limit it never waits.
    #[must_use]
    pub fn new(limit: impl Into<Limit>) -> Self {
        let bucket = Bucket { limit: limit.into(), owed: 0.0, at: Instant::now() };
        Self { queue: Mutex::default(), bucket: std::sync::Mutex::new(bucket), changed: Notify::new() }
    }

    /// From now on so much may pass.
    pub fn set(&self, limit: Limit) {
        self.bucket().set(Instant::now(), limit);
        self.changed.notify_one();
    }

    /// Waits until `bytes` may pass.
    pub async fn take(&self, bytes: u64) {
        let _turn = self.queue.lock().await;
        self.bucket().book(Instant::now(), bytes);
        loop {
            let due = self.bucket().due();
            if due.is_some_and(|due| due <= Instant::now()) {
                return;
            }
            let passed = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = passed => return,
                () = self.changed.notified() => {}
            }
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn set(&mut self, now: Instant, limit: Limit) {
        self.advance(now);
        self.limit = limit;
    }

    /// Lets `bytes` through.
    fn book(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        self.owed += bytes as f64;
    }

    /// When all that was let through will have passed; `None` while nothing passes.
    fn due(&self) -> Option<Instant> {
        match self.limit {
            Limit::Off => None,
            Limit::Rate(Rate(None)) => Some(self.at),
            Limit::Rate(Rate(Some(rate))) => {
                Some(self.at + Duration::from_secs_f64(self.owed.max(0.0) / rate as f64))
            }
        }
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        match self.limit {
            Limit::Off => {}
            Limit::Rate(Rate(None)) => self.owed = 0.0,
            Limit::Rate(Rate(Some(rate))) => {
                let rate = rate as f64;
                self.owed = (self.owed - passed * rate).max(-BURST.as_secs_f64() * rate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(bytes: u64) -> Limit {
        Limit::Rate(Rate(Some(bytes)))
    }

    fn bucket(limit: Limit) -> Bucket {
        Bucket { limit, owed: 0.0, at: Instant::now() }
    }

    #[test]
    fn the_rate_holds_exactly_and_a_pause_is_not_saved_up() {
        let mut bucket = bucket(rate(1_000_000));
        let start = bucket.at;
        let mut now = start;
        for _ in 0..100 {
            bucket.book(now, 50_000);
            now = bucket.due().unwrap();
        }
        assert_eq!((now - start).as_millis(), 5000);
        let later = now + 60 * SECOND;
        bucket.book(later, 1_000_000);
        assert_eq!(bucket.due(), Some(later + SECOND - BURST));
    }

    #[test]
    fn each_rate_holds_exactly_as_long_as_it_lasts() {
        let mut bucket = bucket(rate(1_000_000));
        let start = bucket.at;
        bucket.book(start, 2_000_000);
        bucket.set(start + SECOND, rate(100_000));
        assert_eq!(bucket.due(), Some(start + 11 * SECOND), "a million bytes are left");
        bucket.set(start + 6 * SECOND, Limit::Off);
        assert_eq!(bucket.due(), None);
        bucket.set(start + 100 * SECOND, rate(500_000));
        assert_eq!(bucket.due(), Some(start + 101 * SECOND), "nothing passed while it was off");
        bucket.set(start + 100 * SECOND, Limit::default());
        assert_eq!(bucket.due(), Some(start + 100 * SECOND));
    }

    #[test]
    fn what_was_saved_up_at_a_high_rate_is_not_spent_at_a_low_one() {
        let mut bucket = bucket(rate(100_000_000));
        let later = bucket.at + 60 * SECOND;
        bucket.set(later, rate(1000));
        bucket.book(later, 1000);
        // The saved bytes of the low rate, at the most.
        assert_eq!(bucket.due().map(|due| due > later + SECOND / 2), Some(true));
    }

    #[test]
    fn no_limit_does_not_wait() {
        assert_eq!(TokenBucket::new(Rate(None)).take(u64::MAX).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_line_opens() {
        let bucket = Arc::new(TokenBucket::new(Limit::Off));
        let waiting = tokio::spawn({
            let bucket = Arc::clone(&bucket);
            async move { bucket.take(1000).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        bucket.set(Limit::default());
        waiting.await.unwrap();
    }
}
