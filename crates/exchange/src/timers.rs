//! When the exchange wants to be woken, and why.

use crate::{
    action::Reason,
    config::Timing,
    exchange::Exchange,
    fetchers::{Scope, Turn},
    time::Time,
};
use std::time::Duration;

/// The least time that a timer may wait: no mistake here may turn into a hot loop there.
const TICK_MIN: Duration = Duration::from_millis(5);

impl Exchange {
    pub(crate) fn next_timer(&self, now: Time) -> Option<(Time, Reason)> {
        let timing = &self.config.timing;
        let releases = self.releases.values();
        let have_maps = releases.clone().filter_map(|release| release.announcer.due(timing));
        let paused = releases.clone().map(|release| release.paused_until);
        let deferred = releases.filter_map(|release| release.next_deferred(now));
        let dials = self.dialled.values().map(|(at, _)| *at);
        let poll = match self.lease.turn(Scope::Site) {
            Some(Turn::Mine) => Some(self.origin.next_poll(timing)),
            _ => self.may_doubt().then(|| {
                let patience = timing.doubt(self.members.count(), self.metadata.version > 0);
                self.origin.next_doubt(patience, timing)
            }),
        };
        let timers = [
            (Some(self.gossip.due(timing, self.members.count())), Reason::Status),
            (have_maps.min(), Reason::HaveMaps),
            (self.silence_at, Reason::MemberSilent),
            (self.lease_timer(now, timing), Reason::Lease),
            (self.transfers.next_deadline(), Reason::Stall),
            (self.neighbours.next_pause_end(), Reason::PauseOver),
            (self.quarantine.next_end(now), Reason::PauseOver),
            (self.endgame_at, Reason::EndGame),
            (poll, Reason::Origin),
            (Some(self.origin.retry_at()).filter(|at| *at > now), Reason::Origin),
            (deferred.min(), Reason::Origin),
            (self.metadata.next(now, timing), Reason::Metadata),
            (dials.filter(|at| *at > now).min(), Reason::Dial),
            (paused.filter(|at| *at > now).min(), Reason::StorePause),
        ];
        let due = timers.into_iter().filter_map(|(at, reason)| Some((at?.max(now + TICK_MIN), reason)));
        due.min()
    }

    /// Whether something that concerns the members has become due since the last event.
    pub(crate) fn is_site_due(&self, now: Time) -> bool {
        let before = self.settled_at;
        let dials = self.dialled.values().map(|(at, _)| *at).filter(|at| *at > before);
        let metadata = self.metadata.next(before, &self.config.timing);
        self.silence_at.into_iter().chain(metadata).chain(dials).any(|at| at <= now)
    }

    /// When turns, a drain, or the wait for have-maps may end.
    pub(crate) fn lease_timer(&self, now: Time, timing: &Timing) -> Option<Time> {
        let drain = self.lease.draining.map(|since| since + timing.drain_max);
        let unsettled = self.releases.values().filter(|release| release.wanted && !release.settled);
        let grace = unsettled.map(|release| release.added + timing.have_map_grace);
        self.lease.wake().into_iter().chain(drain).chain(grace).filter(|at| *at > now).min()
    }
}
