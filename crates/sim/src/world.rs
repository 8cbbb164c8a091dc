//! The world: a site of hosts, its line, an origin, and a clock that jumps from event to event.

use crate::{
    checks::Checks,
    error_log,
    event::{Event, Life, Link, Message, Queue},
    host::{Host, HostId, HostSpec, Power},
    hours::Hours,
    release::Release,
    trace::Trace,
    wan::{Line, Origin, OriginState},
};
use branchmesh_exchange::{Time, Timing};
use branchmesh_wire::IndexId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeSet, time::Duration};

/// Events at one moment: more is a live-lock.
const EVENTS_AT_ONCE_MAX: u32 = 1_000_000;
/// Until a process that ended is noticed by those who are connected to it.
pub(crate) const NOTICED_AFTER: Duration = Duration::from_millis(1);
/// Until a host that starts has opened its store.
pub(crate) const OPEN_DELAY: Duration = Duration::from_millis(20);

/// What a site is.
#[derive(Clone, Debug)]
pub struct SiteSpec {
    /// One way between two hosts.
    pub lan_delay: Duration,
    /// How often a packet of the LAN is lost, from 0 to 1.
    pub lan_loss: f64,
    /// Until a gossiped status has reached a member.
    pub gossip_delay: Duration,
    /// Bytes a second that the site's line carries.
    pub wan_rate: u64,
    /// One way to the origin.
    pub wan_delay: Duration,
    /// Connections that a host looks for.
    pub connections: usize,
    /// Members that may use the WAN at a time.
    pub fetchers: usize,
    /// All durations of the exchanges.
    pub timing: Timing,
}

impl Default for SiteSpec {
    /// A branch office behind 20 Mbit/s.
    fn default() -> Self {
        Self {
            lan_delay: Duration::from_millis(1),
            lan_loss: 0.0,
            gossip_delay: Duration::from_millis(30),
            wan_rate: 2_500_000,
            wan_delay: Duration::from_millis(20),
            connections: 64,
            fetchers: 1,
            timing: Timing::default(),
        }
    }
}

/// A site under way.
pub struct World {
    pub(crate) now: Time,
    pub(crate) spec: SiteSpec,
    pub(crate) hosts: Vec<Host>,
    pub(crate) releases: Vec<Release>,
    pub(crate) origin: Origin,
    pub(crate) line: Line,
    pub(crate) hours: Hours,
    pub(crate) queue: Queue,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) links_made: u32,
    /// What arrived where it could not be taken, in order.
    pub(crate) stalled: Vec<(Link, Message)>,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    seed: u64,
    at_once: u32,
}

/// It did not come to that.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: not within {limit:?} of virtual time\n{picture}")]
pub struct TooLate {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub limit: Duration,
    /// How it looked then.
    pub picture: String,
}

impl World {
    /// A site without hosts.
    #[must_use]
    pub fn new(seed: u64, spec: SiteSpec) -> Self {
        Self {
            now: Time::ZERO,
            hosts: Vec::new(),
            releases: Vec::new(),
            origin: Origin { state: OriginState::Up, since: Time::ZERO, rotten: BTreeSet::new() },
            line: Line::default(),
            hours: Hours::default(),
            queue: Queue::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            links_made: 0,
            stalled: Vec::new(),
            checks: Checks::new(spec.wan_rate),
            trace: Trace::default(),
            spec,
            seed,
            at_once: 0,
        }
    }

    /// The origin has a new release.
    pub fn publish(&mut self, release: Release) -> IndexId {
        let id = release.id;
        self.releases.push(release);
        id
    }

    /// The origin has a new release, which differs from its newest in each `nth` block.
    pub fn publish_update(&mut self, name: &str, nth: u32) -> Option<IndexId> {
        let number = self.releases.len().checked_sub(1)?;
        let release = Release::updating(name, (number, self.releases.get(number)?), nth);
        Some(self.publish(release))
    }

    /// A machine is there, and starts now.
    pub fn add(&mut self, spec: HostSpec) -> HostId {
        let id = HostId(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        let mut host = Host::new(id, spec, (&self.spec.timing, self.spec.fetchers), self.seed, self.now);
        for release in host.spec.holds.clone() {
            if let Some(published) = self.release(&release) {
                let all = branchmesh_wire::BlockSet::full(published.segments.block_count());
                host.disk.insert(release, all);
            }
        }
        self.hosts.push(host);
        self.watched(|world| world.begin_life(id));
        id
    }

    /// Lets something happen; what is logged as an error meanwhile is a violation.
    pub(crate) fn watched<T>(&mut self, happen: impl FnOnce(&mut Self) -> T) -> T {
        let (done, errors) = error_log::collect(|| happen(self));
        errors.into_iter().for_each(|line| self.checks.logged(self.now, line));
        done
    }

    /// What stands outside and watches.
    #[must_use]
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// What is watched, and how strictly.
    pub fn checks_mut(&mut self) -> &mut Checks {
        &mut self.checks
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Keeps a text of what happens from now on.
    pub fn keep_trace(&mut self) {
        self.trace.keep();
    }

    /// Events that were planned so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.queue.planned()
    }

    /// Runs until `condition` holds; for `limit` of virtual time at most.
    pub fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), TooLate> {
        let end = self.now + limit;
        self.watched(|world| {
            while !condition(world) {
                if world.queue.next_at().is_none_or(|at| at > end) {
                    return Err(TooLate { what: what.into(), limit, picture: world.picture() });
                }
                world.step();
            }
            Ok(())
        })
    }

    /// Runs until everybody who should have the newest release has it.
    pub fn run_to_completion(&mut self, limit: Duration) -> Result<(), TooLate> {
        self.run_until(limit, "everybody has all", Self::is_complete)
    }

    /// Runs for so long.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.watched(|world| {
            while world.queue.next_at().is_some_and(|at| at <= end) {
                world.step();
            }
        });
        self.now = end;
    }

    pub(crate) fn host(&self, id: HostId) -> &Host {
        &self.hosts[id.index()]
    }

    pub(crate) fn host_mut(&mut self, id: HostId) -> &mut Host {
        &mut self.hosts[id.index()]
    }

    /// Whether a host still runs as it did then.
    pub(crate) fn is_life(&self, (id, life): Life) -> bool {
        self.host(id).power != Power::Off && self.host(id).life == life
    }

    pub(crate) fn after(&mut self, later: Duration, event: Event) {
        self.queue.plan(self.now + later, event);
    }

    /// An agent starts.
    pub(crate) fn begin_life(&mut self, id: HostId) {
        self.look_at_clock(id);
        self.open_disk(id);
        self.look_around(id, Duration::ZERO);
        self.settle(id);
    }

    /// A host that starts goes on with the releases on its disk.
    fn open_disk(&mut self, id: HostId) {
        let life = (id, self.host(id).life);
        for release in self.host(id).disk.keys().copied().collect::<Vec<_>>() {
            self.after(OPEN_DELAY, Event::Index { host: life, release });
        }
    }

    /// A host stops; those who are connected to it notice after a while.
    pub(crate) fn stop(&mut self, id: HostId, noticed_after: Duration) {
        self.give_up_links(id, noticed_after);
        self.host_mut(id).stop();
        self.line.cancel(id, None);
        self.checks.stopped(id);
        self.stalled.retain(|(link, _)| link.from != id && link.to != id);
    }

    fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
        assert!(self.at_once < EVENTS_AT_ONCE_MAX, "live-lock\n{}", self.picture());
        if self.checks.is_due(at) {
            self.now = at;
            self.check_waits();
        }
        self.now = at;
        match event.host().filter(|id| self.host(*id).power == Power::Asleep) {
            Some(id) => self.host_mut(id).frozen.push(event),
            None => self.happen(event),
        }
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Timer(host) => self.wake(host, self.now),
            Event::Found(a, _) if self.host(a).links.len() >= self.spec.connections => {}
            Event::Found(a, b) | Event::Meet(a, b) => self.meet(a, b),
            Event::LinkDown(link) => {
                let is_known = self.host(link.to).links.get(&link.from) == Some(&link.number);
                if self.host(link.from).runs() && !(is_known && self.reaches(link.from, link.to)) {
                    self.lose_link(link);
                }
            }
            Event::Message(link, message) => self.arrive(link, message),
            Event::Gossip { from, to, status } => {
                if self.reaches(from, to) {
                    let now = self.now;
                    self.with(to, |exchange| exchange.handle_status(now, (*status).clone()));
                }
            }
            Event::Sent(host, parcel) => self.sent(host, parcel),
            Event::Written { host, transfer, release, block } => {
                if self.is_life(host) {
                    self.store(host.0, transfer, release, block);
                }
            }
            Event::Ended { host, transfer, outcome } => self.end_transfer(host, transfer, outcome),
            Event::Fetch(stream) => self.open_stream(stream),
            Event::Crossed => self.crossed(),
            Event::ReadsOn => self.feed_line(),
            Event::Polled(host) => self.answer_poll(host),
            Event::Metadata { host, from } => self.answer_metadata(host, HostId::of(&from)),
            Event::Index { host, release } => {
                if self.is_life(host) {
                    self.begin(host.0, release);
                }
            }
        }
    }
}
