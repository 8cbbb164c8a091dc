//! When this node's status goes out.

use crate::{config::Timing, time::Time};

#[derive(Default)]
pub(crate) struct Gossip {
    sequence: u64,
    last: Option<Time>,
    hurry: bool,
}

impl Gossip {
    /// Something changed that the site should know sooner than usual.
    pub(crate) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// When the next status is due.
    pub(crate) fn due(&self, timing: &Timing, members: usize) -> Time {
        let wait = if self.hurry { timing.status_gap } else { timing.status_interval(members) };
        self.last.map_or(Time::ZERO, |last| last + wait)
    }

    /// A status goes out, with the next number.
    pub(crate) fn send(&mut self, now: Time) {
        self.last = Some(now);
        self.hurry = false;
        self.sequence += 1;
    }

    /// The number of the last status.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }
}
