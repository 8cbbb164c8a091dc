//! Checkers that stand outside the code under test: they see the disks, the line and the clock of the world, and take
//! no exchange's word for anything.
//!
//! * No block that did not verify is stored: the world's agents store what verified only, and an exchange that claims
//!   more than its disk has is a violation.
//! * A block that a live member could have given does not cross the WAN, nor does one that another member is fetching:
//!   [`Violation::FetchedThoughHeld`], [`Violation::FetchedTwice`].
//! * Nobody waits for ever while a source is in reach: [`Violation::Waits`].
//! * Limits hold at every step: [`Violation::Limit`], [`Violation::LineClosed`], [`Violation::LineLimit`].
//! * Nothing is logged as an error: [`Violation::ErrorLogged`].
//! * What an honest member says is never taken for an offence: [`Violation::HonestAccused`].
//!
//! That everybody ends with everything is for the run to say, which knows when.

use crate::{
    host::{Host, HostId},
    port,
    release::BLOCK_BYTES_MAX,
    world::World,
};
use branchmesh_exchange::{AddReleaseError, Misbehaviour, Time, TransferId};
use branchmesh_wire::{BlockSet, IndexId, limits::REQUEST_BLOCKS_MAX};
use std::{collections::BTreeMap, time::Duration};

pub use crate::violation::Violation;

mod meter;
mod waits;

use meter::Meter;

/// Between two looks at who waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Requests that one host may have under way at another.
const REQUESTS_MAX: usize = 4;
/// Statuses that a host may gossip in a second.
const STATUSES_MAX: u32 = 6;
/// Violations that are kept: the first ones say it all.
const VIOLATIONS_MAX: usize = 20;

/// What was seen.
#[derive(Debug)]
pub struct Checks {
    /// How long something must have been plain to see before an exchange must know it: statuses and have-maps travel,
    /// and connections are found to be broken only after a while.
    pub grace: Duration,
    /// How long a host may get nothing while another one holds what it lacks, all the time.
    pub wait_max: Duration,
    /// How long a site may get nothing while the origin has what it lacks.
    pub origin_wait_max: Duration,
    violations: Vec<(Time, Violation)>,
    crossings: BTreeMap<IndexId, BTreeMap<u32, Crossing>>,
    last_crossing: BTreeMap<IndexId, Time>,
    longest_pause: Duration,
    requests: BTreeMap<HostId, BTreeMap<TransferId, HostId>>,
    fetches: BTreeMap<HostId, BTreeMap<TransferId, Fetch>>,
    meter: Meter,
    statuses: BTreeMap<HostId, (Time, u32)>,
    held_at_first: BTreeMap<IndexId, Vec<BlockSet>>,
    /// Since when another member has had what a host lacks.
    lacking_since: BTreeMap<(HostId, IndexId), Time>,
    next_look: Time,
}

#[derive(Debug)]
struct Crossing {
    times: u32,
    last: Time,
}

#[derive(Debug)]
struct Fetch {
    issued: Time,
    release: IndexId,
    blocks: Vec<u32>,
}

impl Checks {
    /// For a site where nothing happens that takes long to be noticed, behind a line of so many bytes a second.
    pub(crate) fn new(wan_rate: u64) -> Self {
        Self {
            grace: Duration::from_millis(2500),
            wait_max: Duration::from_secs(30),
            // Behind a thin line the next block may take minutes.
            origin_wait_max: Duration::from_secs(60) + port::duration(2 * BLOCK_BYTES_MAX, wan_rate),
            violations: Vec::new(),
            crossings: BTreeMap::new(),
            last_crossing: BTreeMap::new(),
            longest_pause: Duration::ZERO,
            requests: BTreeMap::new(),
            fetches: BTreeMap::new(),
            meter: Meter::default(),
            statuses: BTreeMap::new(),
            held_at_first: BTreeMap::new(),
            lacking_since: BTreeMap::new(),
            next_look: Time::ZERO,
        }
    }

    /// What must not be and was, in the order in which it was seen; the first few.
    #[must_use]
    pub fn violations(&self) -> &[(Time, Violation)] {
        &self.violations
    }

    /// How often each block of a release crossed the WAN.
    #[must_use]
    pub fn crossings(&self, release: &IndexId) -> BTreeMap<u32, u32> {
        let crossings = self.crossings.get(release).into_iter().flatten();
        crossings.map(|(block, crossing)| (*block, crossing.times)).collect()
    }

    /// How many blocks of a release crossed the WAN, at least once.
    #[must_use]
    pub fn blocks_crossed(&self, release: &IndexId) -> usize {
        self.crossings.get(release).map_or(0, BTreeMap::len)
    }

    /// How many blocks of a release crossed the WAN, each as often as it did.
    #[must_use]
    pub fn crossings_total(&self, release: &IndexId) -> u32 {
        let crossings = self.crossings.get(release).into_iter().flatten();
        crossings.map(|(_, crossing)| crossing.times).sum()
    }

    /// When a block of a release crossed the WAN last.
    #[must_use]
    pub fn last_crossing(&self, release: &IndexId) -> Option<Time> {
        self.last_crossing.get(release).copied()
    }

    /// The longest time between two blocks of a release that crossed the WAN.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.longest_pause
    }

    /// What each host held of a release when it learned of it.
    pub(crate) fn held_at_first(&self, release: &IndexId) -> &[BlockSet] {
        self.held_at_first.get(release).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn holds_at_first(&mut self, release: IndexId, held: &BlockSet) {
        self.held_at_first.entry(release).or_default().push(held.clone());
    }

    pub(crate) fn requested(&mut self, now: Time, host: HostId, to: HostId, transfer: TransferId) {
        let requests = self.requests.entry(host).or_default();
        requests.insert(transfer, to);
        if requests.values().filter(|other| **other == to).count() > REQUESTS_MAX {
            self.violated(now, Violation::Limit { host, what: "requests under way at one member" });
        }
    }

    /// A transfer is over; whom it asked, if it was a request.
    pub(crate) fn ended(&mut self, host: HostId, transfer: TransferId) -> Option<HostId> {
        self.fetches.get_mut(&host).and_then(|fetches| fetches.remove(&transfer));
        self.requests.get_mut(&host)?.remove(&transfer)
    }

    pub(crate) fn stopped(&mut self, host: HostId) {
        self.fetches.remove(&host);
        self.requests.remove(&host);
    }

    /// The site may take so much from now on.
    pub(crate) fn line_limited(&mut self, now: Time, limit: Option<u64>) {
        self.meter.set(now, limit);
    }

    pub(crate) fn gossiped(&mut self, now: Time, host: HostId) {
        let (since, count) = self.statuses.entry(host).or_insert((now, 0));
        if now.since(*since) > Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > STATUSES_MAX {
            self.violated(now, Violation::Limit { host, what: "statuses in a second" });
        }
    }

    pub(crate) fn timer(&mut self, now: Time, host: HostId, at: Time) {
        if at <= now {
            self.violated(now, Violation::TimerInThePast { host });
        }
    }

    pub(crate) fn complaint(&mut self, now: Time, is_honest: bool, complaint: &Misbehaviour) {
        if is_honest {
            self.violated(now, Violation::HonestAccused { complaint: complaint.to_string() });
        }
    }

    pub(crate) fn added(&mut self, now: Time, added: Result<(), AddReleaseError>) {
        if let Err(error) = added {
            self.violated(now, Violation::HonestAccused { complaint: error.to_string() });
        }
    }

    pub(crate) fn logged(&mut self, now: Time, line: String) {
        self.violated(now, Violation::ErrorLogged { line });
    }

    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let is_due = now >= self.next_look;
        if is_due {
            self.next_look = now + LOOK_INTERVAL;
        }
        is_due
    }

    fn violated(&mut self, now: Time, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push((now, violation));
        }
    }
}

impl World {
    /// A block has crossed the WAN for `host`.
    pub(crate) fn note_crossing(&mut self, host: HostId, release: IndexId, block: u32) {
        let now = self.now;
        let is_honest = self.host(host).is_honest();
        if !is_honest {
            // What a hostile member takes for itself is the site's loss all the same.
            tracing::trace!(%host, block, "a hostile member used the WAN");
        }
        let bytes = self.bytes_of(&release, block);
        let part = self.host(host).part;
        let checks = &mut self.checks;
        let crossing = checks.crossings.entry(release).or_default().entry(block);
        let crossing = crossing.or_insert(Crossing { times: 0, last: now });
        (crossing.times, crossing.last) = (crossing.times + 1, now);
        // No limit holds a hostile one.
        if is_honest && !checks.meter.take(now, part, bytes) {
            checks.violated(now, Violation::LineLimit);
        }
        if let Some(before) = checks.last_crossing.insert(release, now) {
            checks.longest_pause = checks.longest_pause.max(now.since(before));
        }
    }

    pub(crate) fn check_request(&mut self, host: HostId, release: &IndexId, blocks: &[u32]) {
        let disk = self.host(host).disk.get(release);
        let is_needless = blocks.iter().any(|block| disk.is_some_and(|disk| disk.contains(*block)));
        let limits = [
            (blocks.is_empty(), "a request without blocks"),
            (!blocks.is_sorted(), "a request out of order"),
            (blocks.len() > REQUEST_BLOCKS_MAX as usize, "blocks of one request"),
            (is_needless, "asks for what it holds"),
        ];
        for (_, what) in limits.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            self.checks.violated(self.now, Violation::Limit { host, what });
        }
    }

    /// A host is about to fetch blocks over the WAN.
    pub(crate) fn check_fetch(
        &mut self,
        host: HostId,
        transfer: TransferId,
        release: &IndexId,
        blocks: &[u32],
    ) {
        let now = self.now;
        self.check_line(host);
        if self.host(host).is_honest() {
            for block in blocks {
                let violation = self
                    .held_elsewhere(host, release, *block)
                    .or_else(|| self.fetched_elsewhere(host, release, *block));
                violation.into_iter().for_each(|violation| self.checks.violated(now, violation));
            }
            if self.host(host).spec.wan == branchmesh_wire::WanPolicy::Never {
                self.checks.violated(now, Violation::Limit { host, what: "may not use the WAN" });
            }
        }
        let fetch = Fetch { issued: now, release: *release, blocks: blocks.to_vec() };
        self.checks.fetches.entry(host).or_default().insert(transfer, fetch);
    }

    /// A host is about to use the line, or says that it does.
    pub(crate) fn check_line(&mut self, host: HostId) {
        if self.hours.close_to(host) {
            self.checks.violated(self.now, Violation::LineClosed { host });
        }
    }

    fn held_elsewhere(&self, host: HostId, release: &IndexId, block: u32) -> Option<Violation> {
        let (now, grace) = (self.now, self.checks.grace);
        let crossed = self.checks.crossings.get(release).and_then(|blocks| blocks.get(&block));
        if crossed.is_some_and(|crossing| now.since(crossing.last) < grace) {
            return None;
        }
        let holders = self.hosts.iter().filter(|other| other.id != host && other.holds(release, block));
        let holder = holders.into_iter().find(|other| self.is_plain(host, other, release, grace))?.id;
        Some(Violation::FetchedThoughHeld { host, block, holder })
    }

    fn fetched_elsewhere(&self, host: HostId, release: &IndexId, block: u32) -> Option<Violation> {
        let grace = self.checks.grace;
        for (other, fetches) in self.checks.fetches.iter().filter(|(other, _)| **other != host) {
            let is_fetching = fetches.values().any(|fetch| {
                self.now.since(fetch.issued) >= grace
                    && fetch.release == *release
                    && fetch.blocks.contains(&block)
            });
            if is_fetching && self.is_plain(host, self.host(*other), release, grace) {
                return Some(Violation::FetchedTwice { host, block, other: *other });
            }
        }
        None
    }

    /// Whether a host must know by now that another one is there, honest, and has a release.
    fn is_plain(&self, host: HostId, other: &Host, release: &IndexId, grace: Duration) -> bool {
        let is_old = |since: Option<&Time>| since.is_some_and(|since| self.now.since(*since) >= grace);
        let host = self.host(host);
        other.is_honest()
            && self.reaches(host.id, other.id)
            && is_old(Some(&host.settled_at))
            && is_old(Some(&other.settled_at))
            && is_old(host.known.get(release))
            && is_old(other.known.get(release))
    }

    /// A host's exchange says that it has all of a release.
    pub(crate) fn check_completed(&mut self, host: HostId, release: &IndexId) {
        if !self.host(host).disk.get(release).is_some_and(BlockSet::is_full) {
            self.checks.violated(self.now, Violation::ClaimsWhatIsNotThere { host });
        }
    }
}

#[cfg(test)]
mod tests;
