//! What people are told: the site, each release, and why it waits.

use crate::{
    action::In,
    blocks::BytesBySource,
    exchange::Exchange,
    fetchers::{Scope, Turn},
    quarantine::Offence,
    release::Release,
    time::Time,
    transfers::From,
};
use branchmesh_wire::{BlockSet, IndexId, NodeId, Source, Status, Strip, WanPolicy};
use std::{fmt, time::Duration};

/// A member of the site, for `status`.
#[derive(Clone, Debug)]
pub struct MemberReport {
    /// Who.
    pub node: NodeId,
    /// Name of the device.
    pub name: String,
    /// Its last status; `None` while only a connection is known.
    pub status: Option<Status>,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Whether it says that it uses the WAN.
    pub fetching: bool,
    /// Bytes a second that it delivers to this node, as measured last; `None` if it delivered nothing yet.
    pub rate: Option<u64>,
    /// Releases of which nothing is taken from it now: why, and for how long.
    pub quarantined: Vec<(IndexId, Offence, Duration)>,
}

/// A release, for `status`.
#[derive(Clone, Debug)]
pub struct ReleaseReport {
    /// Which.
    pub release: IndexId,
    /// Whether its missing blocks are fetched.
    pub wanted: bool,
    /// Blocks of it.
    pub blocks_total: u32,
    /// Of these, here.
    pub blocks_have: u32,
    /// Encoded bytes of it.
    pub bytes_total: u64,
    /// Of these, here, by source.
    pub bytes: BytesBySource,
    /// Where its parts came from.
    pub strip: Strip,
    /// Blocks under way from an origin.
    pub in_flight_wan: u32,
    /// Blocks under way from neighbours.
    pub in_flight_lan: u32,
    /// Why nothing comes; `None` while something does, or nothing is missing.
    pub waiting: Option<Waiting>,
}

/// Why a release makes no progress now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Its missing blocks are not wanted.
    NotWanted,
    /// Another member fetches over the WAN for the site.
    ForFetcher {
        /// Its name.
        name: String,
    },
    /// A better-ranked member is given the time to become the fetcher.
    ForTurn {
        /// Its name, if one is known.
        name: Option<String>,
        /// For how long still.
        left: Duration,
    },
    /// The previous fetcher is about to finish.
    ForHandover {
        /// Its name.
        name: String,
        /// For how long at most.
        left: Duration,
    },
    /// This node has just started and listens who else is here.
    Listening {
        /// For how long still.
        left: Duration,
    },
    /// Members have not told yet what they hold.
    ForHaveMaps {
        /// How many.
        members: usize,
    },
    /// The neighbours that hold what is missing do not deliver; they are asked again soon.
    ForNeighbours,
    /// The origin failed; it is asked again.
    OriginFailed {
        /// Failures in a row.
        failures: u32,
        /// When.
        retry_in: Duration,
    },
    /// The origin does not give some blocks, or what it gives does not verify; it is asked again.
    OriginCorrupt {
        /// Blocks.
        blocks: usize,
        /// When.
        retry_in: Duration,
    },
    /// This node could not store what it received.
    StoreFailed {
        /// When it tries again.
        retry_in: Duration,
    },
    /// No member holds what is missing, this node may not use the WAN, and nobody who may is here.
    NoSource,
    /// The site's line is closed to this node, and nobody else fetches.
    WanClosed {
        /// For how long still; `None` if that is not known.
        left: Option<Duration>,
    },
    /// This node may use the WAN only as a last resort, and another may.
    LastResort {
        /// The other's name.
        name: String,
    },
}

impl Exchange {
    /// Whether this node uses the WAN for its site.
    #[must_use]
    pub fn is_fetcher(&self) -> bool {
        self.lease.claimed
    }

    /// Who uses the WAN now, this node included.
    #[must_use]
    pub fn fetchers(&self, now: Time) -> Vec<NodeId> {
        let others = self.members.all().filter(|(_, member)| member.is_fresh(now, self.member_timeout()));
        let claiming =
            others.filter(|(_, member)| member.status.as_ref().is_some_and(|status| status.fetching));
        let me = self.lease.claimed.then_some(self.config.node);
        me.into_iter().chain(claiming.map(|(node, _)| *node)).collect()
    }

    /// The members that are here, without this node.
    #[must_use]
    pub fn members(&self, now: Time) -> Vec<MemberReport> {
        let live = self.members.live(now, self.member_timeout());
        let reports = live.map(|(node, member)| MemberReport {
            node: *node,
            name: member.name.clone(),
            fetching: member.status.as_ref().is_some_and(|status| status.fetching),
            status: member.status.clone(),
            connected: member.connected,
            rate: self.neighbours.get(node).and_then(crate::neighbours::Neighbour::rate),
            quarantined: self
                .releases
                .keys()
                .filter_map(|release| {
                    let (offence, until) = self.quarantine.sentence(now, *node, *release)?;
                    Some((*release, offence, until.since(now)))
                })
                .collect(),
        });
        reports.collect()
    }

    /// Encoded bytes that this node took from WAN origins since it started.
    #[must_use]
    pub fn wan_bytes(&self) -> u64 {
        self.wan_bytes
    }

    /// Requests and fetches that are under way.
    #[must_use]
    pub fn transfers_under_way(&self) -> usize {
        self.transfers.all().count()
    }

    /// The releases in exchange.
    pub fn releases(&self) -> impl Iterator<Item = IndexId> + '_ {
        self.releases.keys().copied()
    }

    /// The blocks of a release that are here.
    #[must_use]
    pub fn held(&self, release: &IndexId) -> Option<&BlockSet> {
        self.releases.get(release).map(|known| known.blocks.held())
    }

    /// The blocks of a release that this node holds, or that a neighbour says it holds.
    #[must_use]
    pub fn held_on_site(&self, release: &IndexId) -> Option<BlockSet> {
        let known = self.releases.get(release)?;
        let mut held = known.availability.rarity().held_by_any();
        held.union_with(known.blocks.held());
        Some(held)
    }

    /// Where each block of a release came from; nothing for those that are not here.
    #[must_use]
    pub fn sources(&self, release: &IndexId) -> Option<&[Option<Source>]> {
        self.releases.get(release).map(|known| known.blocks.sources())
    }

    /// How a release does.
    #[must_use]
    pub fn release(&self, now: Time, release: &IndexId) -> Option<ReleaseReport> {
        let known = self.releases.get(release)?;
        let (mut in_flight_wan, mut in_flight_lan) = (0, 0);
        for (_, flight) in known.blocks.in_flight() {
            match self.transfers.get(flight.first).map(|transfer| transfer.from) {
                Some(From::Origin) => in_flight_wan += 1,
                Some(From::Neighbour(_)) | None => in_flight_lan += 1,
            }
        }
        Some(ReleaseReport {
            release: *release,
            wanted: known.wanted,
            blocks_total: known.blocks.count(),
            blocks_have: known.blocks.held().len(),
            bytes_total: known.blocks.segments().bytes(),
            bytes: known.blocks.bytes(),
            strip: known.blocks.strip(),
            in_flight_wan,
            in_flight_lan,
            waiting: self.waiting(now, known),
        })
    }

    fn waiting(&self, now: Time, release: &Release) -> Option<Waiting> {
        if release.is_full() {
            return None;
        }
        if !release.wanted {
            return Some(Waiting::NotWanted);
        }
        if now < release.paused_until {
            return Some(Waiting::StoreFailed { retry_in: release.paused_until.since(now) });
        }
        if release.blocks.in_flight_count() > 0 {
            return None;
        }
        if release.availability.rarity().unheld_total() == 0 {
            return Some(Waiting::ForNeighbours);
        }
        let name = |node: NodeId| {
            self.members.get(&node).map_or_else(|| node.to_string(), |member| member.name.clone())
        };
        match self.lease.turn(Scope::Release(release.id))? {
            Turn::Mine => self.waiting_for_origin(now, release),
            Turn::Handover { from, until } => {
                Some(Waiting::ForHandover { name: name(from), left: until.since(now) })
            }
            Turn::Listening { until } => Some(Waiting::Listening { left: until.since(now) }),
            Turn::Resting { until } => {
                let failures = self.origin.failures();
                Some(Waiting::OriginFailed { failures, retry_in: until.since(now) })
            }
            Turn::Taken { by } => Some(Waiting::ForFetcher { name: name(by) }),
            Turn::Offered { to, until } => {
                Some(Waiting::ForTurn { name: to.map(name), left: until.since(now) })
            }
            Turn::NotLastResort { other } => Some(Waiting::LastResort { name: name(other) }),
            Turn::Closed { until } => Some(
                self.waiting_for_fetcher(now)
                    .unwrap_or(Waiting::WanClosed { left: until.map(|until| until.since(now)) }),
            ),
            Turn::Forbidden => Some(self.waiting_for_others(now)),
        }
    }

    fn waiting_for_origin(&self, now: Time, release: &Release) -> Option<Waiting> {
        if !release.settled {
            let live = self.members.live(now, self.member_timeout());
            let members = live.filter(|(node, _)| !release.availability.knows(node)).count();
            return Some(Waiting::ForHaveMaps { members });
        }
        if !self.origin.is_ready(now) {
            let retry_in = self.origin.retry_at().since(now);
            return Some(Waiting::OriginFailed { failures: self.origin.failures(), retry_in });
        }
        let (blocks, until) = release.deferred();
        until.map(|until| Waiting::OriginCorrupt { blocks, retry_in: until.since(now) })
    }

    /// This node may not use the WAN: who will?
    fn waiting_for_others(&self, now: Time) -> Waiting {
        let may_fetch = self.find_member(now, |said| said.wan_policy != WanPolicy::Never);
        let soon = may_fetch.map(|name| Waiting::ForTurn { name: Some(name), left: Duration::ZERO });
        self.waiting_for_fetcher(now).or(soon).unwrap_or(Waiting::NoSource)
    }

    fn waiting_for_fetcher(&self, now: Time) -> Option<Waiting> {
        let name = self.find_member(now, |said| said.fetching)?;
        Some(Waiting::ForFetcher { name })
    }

    /// The name of a live member whose status is as `wanted` says.
    fn find_member(&self, now: Time, wanted: impl Fn(&Status) -> bool) -> Option<String> {
        let mut live = self.members.live(now, self.member_timeout()).map(|(_, member)| member);
        let found = live.find(|member| member.status.as_ref().is_some_and(&wanted));
        found.map(|member| member.name.clone())
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |left: &Duration| In(Time::ZERO, Time::after_start(*left));
        match self {
            Self::NotWanted => f.write_str("not subscribed: only what is here is served"),
            Self::ForFetcher { name } => write!(f, "{name} fetches over the WAN for the site"),
            Self::ForTurn { name: Some(name), .. } => {
                write!(f, "{name} comes first for the WAN and has not begun")
            }
            Self::ForTurn { name: None, left } => {
                write!(f, "about to take over the WAN, in {}", span(left))
            }
            Self::ForHandover { name, left } => {
                write!(f, "takes over the WAN from {name}, which finishes first (at most {})", span(left))
            }
            Self::Listening { left } => {
                write!(f, "just started, listens for other members for {} more", span(left))
            }
            Self::ForHaveMaps { members } => write!(f, "{members} members have not said yet what they hold"),
            Self::ForNeighbours => {
                f.write_str("the members that hold the rest do not deliver; asks them again")
            }
            Self::OriginFailed { failures, retry_in } => write!(
                f,
                "the origin failed {failures} times and no member holds the rest; tries again in {}",
                span(retry_in)
            ),
            Self::OriginCorrupt { blocks, retry_in } => write!(
                f,
                "{blocks} blocks are missing or damaged at the origin (run `branchmesh repo verify` there); tries again in {}",
                span(retry_in)
            ),
            Self::StoreFailed { retry_in } => {
                write!(f, "blocks could not be stored (see the log); tries again in {}", span(retry_in))
            }
            Self::NoSource => {
                f.write_str("no member holds the rest, and none that may use the WAN now is here")
            }
            Self::WanClosed { left: Some(left) } => {
                write!(f, "no member holds the rest, and the WAN is closed for {} more", span(left))
            }
            Self::WanClosed { left: None } => {
                f.write_str("no member holds the rest, and the WAN is closed until further notice")
            }
            Self::LastResort { name } => {
                write!(f, "may use the WAN only as a last resort, and {name} is here")
            }
        }
    }
}
