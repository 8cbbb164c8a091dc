//! What the site takes of its line, against what it may.

use branchmesh_exchange::Time;
use std::collections::BTreeMap;

/// Seconds' worth of the limit that may pass beyond it. When a LAN is whole again, each of its parts has a fetcher,
/// and they have to hear of each other first: a status a second. 1,500 storms have not shown more than 1.8.
const OVERLAP: f64 = 2.5;
/// Bytes that may pass beyond it: an agent begins to read a block when its turn has come, and pays for it then.
const READ_AT_ONCE: f64 = 1_000_000.0;

/// In any span of time at most the limit's worth of bytes may pass, and what is said above: so much is owed at most. Each
/// part of a LAN is a site of its own as long as it is apart.
#[derive(Debug, Default)]
pub(super) struct Meter {
    limit: Option<u64>,
    /// By part.
    owed: BTreeMap<u8, f64>,
    at: Time,
}

impl Meter {
    pub(super) fn set(&mut self, now: Time, limit: Option<u64>) {
        self.advance(now);
        self.limit = limit;
    }

    /// Bytes have passed into a part. Returns whether that is within the limit.
    pub(super) fn take(&mut self, now: Time, part: u8, bytes: u64) -> bool {
        self.advance(now);
        let owed = self.owed.entry(part).or_default();
        *owed += bytes as f64;
        self.limit.is_none_or(|limit| *owed <= limit as f64 * OVERLAP + READ_AT_ONCE)
    }

    fn advance(&mut self, now: Time) {
        let passed = now.since(self.at).as_secs_f64();
        let paid = self.limit.map_or(f64::INFINITY, |limit| passed * limit as f64);
        self.owed.values_mut().for_each(|owed| *owed = (*owed - paid).max(0.0));
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn more_than_the_limit_is_seen_after_the_time_that_two_may_overlap() {
        let mut meter = Meter::default();
        let mut now = Time::ZERO;
        assert!(meter.take(now, 0, 1 << 40), "there is no limit");
        meter.set(now, Some(1_000_000));
        for _ in 0..1000 {
            now = now + SECOND;
            assert!(meter.take(now, 0, 1_000_000));
            assert!(meter.take(now, 1, 1_000_000), "the other part is a site of its own");
        }
        let mut twice = (0..).map(|_| {
            now = now + SECOND;
            meter.take(now, 0, 2_000_000)
        });
        assert_eq!(twice.position(|is_within| !is_within), Some(2));
    }
}
