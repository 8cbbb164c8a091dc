//! What the schedule of the site's line allows: to whom it is closed, and how much the site may take of it.
//!
//! Machines whose clocks differ, or whose settings do, open and close at different moments: so it is closed to some
//! hosts and open to others.

use crate::{
    host::{HostId, Power},
    world::World,
};
use branchmesh_exchange::Time;
use std::time::Duration;

/// The schedule, as it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hours {
    /// The line is closed to hosts with a bit in common with it.
    closed: u32,
    /// Since when.
    pub since: Time,
    /// Bytes a second that the whole site may take, if that is less than the line carries.
    pub limit: Option<u64>,
}

impl Hours {
    /// Whether the line is closed to a host.
    pub fn close_to(&self, id: HostId) -> bool {
        (id.0 + 1) & self.closed != 0
    }

    /// Whether it has been open to everybody for so long.
    pub fn open_to_all_for(&self, now: Time, span: Duration) -> bool {
        self.closed == 0 && now.since(self.since) >= span
    }
}

impl World {
    /// The line closes to the hosts with a bit in common with the mask, and opens to the others.
    pub(crate) fn close_line(&mut self, closed: u32) {
        self.hours = Hours { closed, since: self.now, ..self.hours };
        for id in self.ids() {
            if self.host(id).power == Power::On {
                self.look_at_clock(id);
            }
        }
    }

    /// The site may take so much from now on.
    pub(crate) fn limit_line(&mut self, limit: Option<u64>) {
        self.hours.limit = limit;
        self.checks.line_limited(self.now, limit);
        self.feed_line();
    }

    /// A host's agent tells its exchange what the hour allows.
    pub(crate) fn look_at_clock(&mut self, id: HostId) {
        let (now, is_closed) = (self.now, self.hours.close_to(id));
        self.with(id, |exchange| match is_closed {
            true => exchange.set_wan_closed(now, None),
            false => exchange.set_wan_open(now),
        });
    }

    /// When a host's agent reads on from the line: its share of the limit goes round among those who may fetch.
    pub(crate) fn reads_at(&self, id: HostId) -> Time {
        match self.hours.limit {
            None => self.now,
            Some(_) => self.host(id).line.free_at().max(self.now),
        }
    }

    /// A host's agent has begun to read a block.
    pub(crate) fn pay(&mut self, id: HostId, bytes: u64) {
        let Some(limit) = self.hours.limit else { return };
        let (now, share) = (self.now, limit / self.spec.fetchers.max(1) as u64);
        self.host_mut(id).line.pass(now, bytes, share.max(1));
    }
}
