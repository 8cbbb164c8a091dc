//! The site that most promises are about: some clients that start at once, and a release that takes 13 s of the line.

use branchmesh_exchange::{ReleaseReport, Time};
use branchmesh_sim::{HostId, HostSpec, Nature, OriginState, SiteSpec, Transition, World, release::Release};
use branchmesh_wire::IndexId;
use std::time::Duration;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
/// Blocks of the usual release: about 32 MiB.
pub const BLOCKS: u32 = 512;

/// A site, and the release that it is about.
pub struct Classroom {
    pub world: World,
    pub release: IndexId,
}

impl Classroom {
    /// `clients` as they usually are, and the usual release.
    pub fn new(seed: u64, clients: usize) -> Self {
        Self::of(seed, SiteSpec::default(), BLOCKS, &vec![HostSpec::default(); clients])
    }

    /// Any clients, which start now, and a release of so many blocks.
    pub fn of(seed: u64, site: SiteSpec, blocks: u32, hosts: &[HostSpec]) -> Self {
        let mut world = World::new(seed, site);
        let release = world.publish(Release::of_blocks("release 1", blocks));
        hosts.iter().for_each(|host| {
            world.add(host.clone());
        });
        Self { world, release }
    }

    pub fn apply(&mut self, transition: &Transition) {
        self.world.apply(transition);
    }

    pub fn origin(&mut self, state: OriginState) {
        self.apply(&Transition::Origin(state));
    }

    pub fn turn(&mut self, host: HostId, nature: Nature) {
        self.apply(&Transition::Turn(host, nature));
    }

    pub fn run_for(&mut self, span: Duration) {
        self.world.run_for(span);
    }

    pub fn run_until(&mut self, limit: Duration, what: &str, condition: impl Fn(&World) -> bool) {
        self.world.run_until(limit, what, condition).unwrap();
    }

    /// Until everybody who should have everything has it; then nothing may have been wrong so far.
    pub fn run_to_completion(&mut self, limit: Duration) {
        self.world.run_to_completion(limit).unwrap();
        self.assert_well();
    }

    /// Until so many blocks have crossed the WAN.
    pub fn run_until_crossed(&mut self, blocks: u32) {
        let release = self.release;
        self.run_until(30 * SECOND, "more has crossed", |world| {
            world.checks().crossings_total(&release) >= blocks
        });
    }

    /// Until somebody else takes over from who used the WAN; how long that took.
    pub fn run_to_take_over(&mut self) -> Duration {
        let (begun, release) = (self.now(), self.release);
        // One block may have been on the line.
        let crossed = self.crossings() + 1;
        self.run_until(5 * SECOND, "take-over", |world| world.checks().crossings_total(&release) > crossed);
        self.now().since(begun)
    }

    pub fn now(&self) -> Time {
        self.world.now()
    }

    /// Blocks of the release that crossed the WAN, counted with repetitions.
    pub fn crossings(&self) -> u32 {
        self.world.checks().crossings_total(&self.release)
    }

    /// How long ago the last block crossed the WAN.
    pub fn lag(&self) -> Duration {
        self.now().since(self.world.checks().last_crossing(&self.release).unwrap())
    }

    /// The only one who uses the WAN.
    pub fn fetcher(&self) -> HostId {
        let fetchers = self.world.fetchers();
        assert_eq!(fetchers.len(), 1, "{fetchers:?}");
        fetchers[0]
    }

    pub fn report(&self, host: HostId) -> ReleaseReport {
        self.world.report(host, &self.release).unwrap()
    }

    /// Bytes of the release.
    pub fn bytes(&self) -> u64 {
        self.world.release(&self.release).unwrap().segments.bytes()
    }

    /// Whether all of these hosts have all of the release.
    pub fn have(&self, hosts: Vec<HostId>) -> impl Fn(&World) -> bool + use<> {
        let release = self.release;
        move |world| hosts.iter().all(|host| world.completed_at(*host, &release).is_some())
    }

    /// Everybody but one.
    pub fn others(&self, than: HostId) -> Vec<HostId> {
        self.world.ids().filter(|host| *host != than).collect()
    }

    /// The checkers have seen nothing that must not be.
    pub fn assert_well(&self) {
        assert_eq!(self.world.checks().violations(), []);
    }
}

/// Who becomes the fetcher of a [classroom](Classroom::new) if nothing happens to it.
pub fn first_fetcher(seed: u64, clients: usize) -> HostId {
    let mut room = Classroom::new(seed, clients);
    room.run_for(3 * SECOND);
    room.fetcher()
}
