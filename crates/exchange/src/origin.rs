//! How the origin does: failures, pauses, when it is asked for news, and whether the line to it is open.
//!
//! A failed try is repeated after a random pause. A fetcher whose origin failed [`FAILURES_MAX`] times in a row
//! gives the lease away for a while: another node may have a better way to the origin, and if nobody has, each
//! member tries now and then, one at a time.
//!
//! A member that says that it asks the origin for the site, and hides what it hears, cannot be told from one that hears
//! nothing new. So each node takes that on trust for a while only, and then asks for itself, once.

use crate::{
    backoff::{doubled, jittered},
    config::Timing,
    line::Line,
    time::Time,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Failures in a row after which the lease is left to the next in rank.
pub(crate) const FAILURES_MAX: u32 = 3;
/// The poll interval is varied by so many per cent, so that sites do not ask in step.
const POLL_JITTER_PERCENT: u32 = 10;

#[derive(Default)]
pub(crate) struct Origin {
    /// The line to it, as this node may use it.
    pub(crate) line: Line,
    failures: u32,
    rests: u32,
    retry_at: Time,
    rest_until: Time,
    /// When the last poll was sent, while it is unanswered.
    polling: Option<Time>,
    /// When the next poll is due; `None`: as soon as this node is the fetcher.
    poll_at: Option<Time>,
    /// Since when others are taken at their word that there is nothing new.
    trusting_since: Time,
    /// How this node's patience differs from that of others, from 0 to 1.
    patience: f64,
}

impl Origin {
    /// Whether it may be asked now.
    pub(crate) fn is_ready(&self, now: Time) -> bool {
        now >= self.retry_at
    }

    /// Until when another member should try instead.
    pub(crate) fn resting(&self, now: Time) -> Option<Time> {
        (now < self.rest_until).then_some(self.rest_until)
    }

    pub(crate) fn retry_at(&self) -> Time {
        self.retry_at
    }

    /// Failures since something last worked.
    pub(crate) fn failures(&self) -> u32 {
        self.failures + self.rests * FAILURES_MAX
    }

    pub(crate) fn succeeded(&mut self) {
        (self.failures, self.rests) = (0, 0);
        self.retry_at = Time::ZERO;
    }

    /// A try failed. Several transfers that fail together are one failure.
    pub(crate) fn failed(&mut self, now: Time, rng: &mut ChaCha8Rng, timing: &Timing) {
        if now < self.retry_at {
            return;
        }
        self.failures += 1;
        if self.failures < FAILURES_MAX {
            let ceiling = doubled(timing.origin_backoff_min, self.failures - 1, timing.origin_backoff_max);
            self.retry_at = now + jittered(rng, ceiling);
            return;
        }
        let rest = doubled(timing.origin_rest, self.rests, timing.origin_backoff_max);
        self.rest_until = now + rest;
        self.retry_at = self.rest_until;
        self.failures = 0;
        self.rests = (self.rests + 1).min(u32::MAX / FAILURES_MAX - 1);
    }

    /// This node is no longer the one who polls: when it is again, it asks at once.
    pub(crate) fn forget_polls(&mut self) {
        self.poll_at = None;
    }

    /// Nobody waits for an answer any more: the line was closed. When it opens, news are asked for at once.
    pub(crate) fn hang_up(&mut self) {
        (self.polling, self.poll_at) = (None, None);
    }

    /// Whether a poll is due; if so, it counts as sent.
    pub(crate) fn take_poll(&mut self, now: Time, rng: &mut ChaCha8Rng, timing: &Timing) -> bool {
        let unanswered = self.polling.is_some_and(|since| now < since + timing.metadata_timeout);
        if unanswered || self.poll_at.is_some_and(|at| now < at) || !self.is_ready(now) {
            return false;
        }
        let spread = timing.poll * (2 * POLL_JITTER_PERCENT) / 100;
        self.polling = Some(now);
        self.poll_at = Some(now + timing.poll * (100 - POLL_JITTER_PERCENT) / 100 + jittered(rng, spread));
        true
    }

    /// There was news, or this node has looked for itself.
    pub(crate) fn trust(&mut self, now: Time, rng: &mut ChaCha8Rng) {
        (self.trusting_since, self.patience) = (now, rng.random());
    }

    /// When this node asks for itself although it is not the one who polls: after `patience`, more or less.
    pub(crate) fn next_doubt(&self, patience: Duration, timing: &Timing) -> Time {
        let answered_by = self.polling.map_or(Time::ZERO, |since| since + timing.metadata_timeout);
        // Spread as widely as it can be: the first of many to look for themselves looks soon. None does so more often
        // than the one whose turn it is.
        let least = timing.poll.min(patience / 2);
        let doubt_at = self.trusting_since + least + (patience - least).mul_f64(2.0 * self.patience);
        doubt_at.max(answered_by).max(self.retry_at)
    }

    /// Whether it asks for itself now; if so, it counts as sent.
    pub(crate) fn take_doubt(
        &mut self,
        now: Time,
        patience: Duration,
        rng: &mut ChaCha8Rng,
        timing: &Timing,
    ) -> bool {
        let doubts = now >= self.next_doubt(patience, timing);
        if doubts {
            self.polling = Some(now);
            self.trust(now, rng);
        }
        doubts
    }

    /// The poll was answered. Without an answer that was waited for, there is no failure.
    pub(crate) fn polled(&mut self, now: Time, ok: bool, rng: &mut ChaCha8Rng, timing: &Timing) {
        let was_awaited = self.polling.take().is_some();
        if ok {
            self.succeeded();
            return;
        }
        if !was_awaited {
            return;
        }
        self.failed(now, rng, timing);
        self.poll_at = Some(self.retry_at);
    }

    /// When the next poll may be sent by the one who polls.
    pub(crate) fn next_poll(&self, timing: &Timing) -> Time {
        let answered_by = self.polling.map_or(Time::ZERO, |since| since + timing.metadata_timeout);
        self.poll_at.unwrap_or_default().max(answered_by).max(self.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn three_failures_in_a_row_give_the_lease_away() {
        let (timing, mut rng) = (Timing::default(), ChaCha8Rng::seed_from_u64(1));
        let mut origin = Origin::default();
        let mut now = Time::ZERO;
        for rest in [30, 60, 120, 240, 300, 300] {
            for failure in 1..=FAILURES_MAX {
                assert!(origin.is_ready(now) && origin.resting(now).is_none());
                origin.failed(now, &mut rng, &timing);
                let failures = origin.failures();
                origin.failed(now, &mut rng, &timing);
                assert_eq!(origin.failures(), failures, "what fails together is one failure");
                assert_eq!(origin.resting(now).is_some(), failure == FAILURES_MAX);
                assert!(origin.retry_at() > now);
                if failure < FAILURES_MAX {
                    now = origin.retry_at();
                }
            }
            assert_eq!(origin.resting(now), Some(now + Duration::from_secs(rest)));
            now = origin.retry_at();
        }
        origin.succeeded();
        assert!(origin.is_ready(Time::ZERO) && origin.failures() == 0);
    }

    #[test]
    fn polls_come_at_once_then_at_the_interval_and_never_two_at_a_time() {
        let (timing, mut rng) = (Timing::default(), ChaCha8Rng::seed_from_u64(1));
        let mut origin = Origin::default();
        let now = Time::after_start(Duration::from_secs(100));
        assert!(origin.take_poll(now, &mut rng, &timing));
        let much_later = now + timing.metadata_timeout * 9 / 10;
        assert!(!origin.take_poll(much_later, &mut rng, &timing), "the first is unanswered");
        origin.polled(now, true, &mut rng, &timing);
        let next = origin.next_poll(&timing);
        let wait = next.since(now);
        assert!(wait >= timing.poll * 9 / 10 && wait <= timing.poll * 11 / 10, "{wait:?}");
        assert!(!origin.take_poll(now + wait / 2, &mut rng, &timing));
        assert!(origin.take_poll(next, &mut rng, &timing));
        origin.polled(next, false, &mut rng, &timing);
        assert!(origin.next_poll(&timing).since(next) <= timing.origin_backoff_min);
        origin.polled(next, true, &mut rng, &timing);
        origin.forget_polls();
        assert!(origin.take_poll(next, &mut rng, &timing), "a new fetcher asks at once");
    }
}
