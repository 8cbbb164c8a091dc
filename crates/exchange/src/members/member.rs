//! One member: what its statuses and its connection tell, and how it keeps its word.
//!
//! How a member kept its word outlives its restart, as its name does: otherwise a restart would buy a new one. It is forgotten
//! with the member.

use super::rank::{RankHash, rank_hash};
use crate::{config::Timing, time::Time};
use branchmesh_wire::{NodeId, ReleaseStatus, Status};
use std::time::Duration;

/// Claims in a row without any success after which a new claim of a member does not count.
pub(super) const VAIN_MAX: u32 = 3;

/// What is known of one member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its last status; `None` while only a connection is known.
    pub status: Option<Status>,
    /// Name of the device.
    pub name: String,
    /// Whether notes and requests reach it.
    pub connected: bool,
    pub(super) heard: Option<Time>,
    /// When it hung up or said goodbye; only a later word brings it back.
    pub(super) departed: Option<Time>,
    /// When it last brought something to the site, or began to claim that it would.
    pub(super) progress: Time,
    /// Times that it began to claim since it last brought something.
    pub(super) vain: u32,
    /// Whether it ever brought something to the site.
    pub(super) proven: bool,
    /// What it says of its bytes from the WAN.
    pub(super) word: Word,
    pub(super) hash: RankHash,
}

/// What a status says of its sender that was not known before; what is more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// Nothing: it is late, foreign, or an echo.
    None,
    /// That it is still here, and how far it is.
    Progress,
    /// Something that turns for the WAN depend on.
    Turns,
    /// That it has come or gone, or where it is.
    Presence,
}

/// What a member says that it takes from the WAN, beside what it brings to the site.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Word {
    /// When it last said that it has taken more.
    pub(crate) at: Time,
    /// What it has taken since it last brought something, or began to claim, as it says.
    pub(crate) bytes: u64,
}

impl Member {
    pub(super) fn new(node: &NodeId, name: String) -> Self {
        Self {
            status: None,
            name,
            connected: false,
            heard: None,
            departed: None,
            progress: Time::ZERO,
            vain: 0,
            proven: false,
            word: Word::default(),
            hash: rank_hash(node),
        }
    }

    /// Whether it is here: connected, or heard of lately.
    pub(crate) fn is_live(&self, now: Time, timeout: Duration) -> bool {
        self.departed.is_none() && (self.connected || self.heard.is_some_and(|at| now < at + timeout))
    }

    /// Whether its last word is fresh: a lease that is not renewed is not a lease.
    pub(crate) fn is_fresh(&self, now: Time, timeout: Duration) -> bool {
        self.departed.is_none() && self.heard.is_some_and(|at| now < at + timeout)
    }

    pub(super) fn expires(&self, timeout: Duration) -> Option<Time> {
        let last = self.heard.max(self.departed).unwrap_or_default();
        (!self.connected).then(|| last + timeout)
    }

    pub(super) fn would_take(&self, now: Time, status: &Status, timing: &Timing) -> bool {
        let Some(last) = &self.status else { return true };
        let same = status.incarnation == last.incarnation;
        let newer = status.incarnation > last.incarnation || (same && status.sequence > last.sequence);
        let Some(departed) = self.departed else { return newer };
        // Gone: words that were under way when it went do not bring it back, and a goodbye is final.
        if same {
            return newer && !last.leaving && now >= departed + timing.departure_grace;
        }
        // A restarted node. Its clock may have been set back.
        newer || now >= departed + timing.departure_grace
    }

    /// It has brought something, or says that it will.
    pub(super) fn begin(&mut self, now: Time) {
        self.progress = now;
        self.word.bytes = 0;
    }

    pub(super) fn take(&mut self, now: Time, status: Status, timeout: Duration) -> News {
        let news = self.news(now, &status, timeout);
        let (claimed, taken) =
            self.status.as_ref().map_or((false, u64::MAX), |last| (last.fetching, last.wan_bytes));
        if status.fetching && !claimed && self.vain < VAIN_MAX {
            self.begin(now);
            self.vain += 1;
        }
        if let Some(more) = status.wan_bytes.checked_sub(taken).filter(|more| *more > 0) {
            self.word = Word { at: now, bytes: self.word.bytes.saturating_add(more) };
            // What it brings is seen from its have-map; of one that tells none here, its word must do.
            if !self.connected {
                self.proven = true;
                self.begin(now);
            }
        }
        self.heard = Some(now);
        self.departed = status.leaving.then_some(now);
        self.name.clone_from(&status.name);
        self.status = Some(status);
        news
    }

    /// What a status changes.
    fn news(&self, now: Time, status: &Status, timeout: Duration) -> News {
        let Some(last) = &self.status else { return News::Presence };
        if self.departed.is_some() != status.leaving || last.addresses != status.addresses {
            return News::Presence;
        }
        let said = |status: &Status| (status.fetching, status.wan_policy, status.role, status.incarnation);
        let lacks = |one: &ReleaseStatus| (one.release, one.bytes_have < one.bytes_total);
        let is_same = said(last) == said(status)
            && last.releases.iter().map(lacks).eq(status.releases.iter().map(lacks))
            && last.wan_bytes == status.wan_bytes
            && self.is_fresh(now, timeout);
        if is_same { News::Progress } else { News::Turns }
    }
}
