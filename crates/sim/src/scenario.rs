//! The runs that the project's figures are about, each by name and at any size.

pub use crate::world::TooLate;
use crate::{
    host::{HostId, HostSpec},
    measure::{Measured, lan_bound},
    nature::Nature,
    release::Release,
    seeds::on_all_cores,
    transition::Transition,
    world::{SiteSpec, World},
};
use branchmesh_exchange::Time;
use branchmesh_wire::{IndexId, WanPolicy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// The longest that a run may take in virtual time.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// A port of 100 Mbit/s, in bytes a second.
pub const LAN_100: u64 = 12_500_000;
/// A port of 1 Gbit/s.
pub const LAN_1000: u64 = 125_000_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was measured.
    pub measured: Measured,
    /// What the checkers saw that must not be.
    pub violations: Vec<String>,
    /// Events that it took.
    pub events: u64,
    /// [`Trace::hash`](crate::trace::Trace::hash).
    pub trace: String,
}

/// `clients` of 200 Mbit/s that start at once, none of them a seed, behind 20 Mbit/s of WAN.
pub fn cold_start(seed: u64, clients: u32, bytes: u64) -> Result<Run, TooLate> {
    let (mut world, release) = site(seed, SiteSpec::default(), clients, bytes, &HostSpec::default());
    finish(&mut world, release)
}

/// `clients` that start at once behind a line of `wan_rate` bytes a second.
pub fn thin_line(seed: u64, clients: u32, bytes: u64, wan_rate: u64) -> Result<Run, TooLate> {
    let spec = SiteSpec { wan_rate, ..SiteSpec::default() };
    let (mut world, release) = site(seed, spec, clients, bytes, &HostSpec::default());
    finish(&mut world, release)
}

/// The same as [`cold_start`], and whoever uses the WAN is killed `times` times in the course of it, and comes back after a while.
pub fn fetcher_killed(seed: u64, clients: u32, bytes: u64, times: u32) -> Result<Run, TooLate> {
    let (mut world, release) = site(seed, SiteSpec::default(), clients, bytes, &HostSpec::default());
    let blocks = world.release(&release).map_or(1, |release| release.segments.block_count());
    for number in 1..=times {
        let enough = (u64::from(blocks) * u64::from(number) / u64::from(times + 1)) as usize;
        world.run_until(LIMIT, "more crossed", |world| world.checks().blocks_crossed(&release) >= enough)?;
        let killed = world.fetchers();
        world.apply(&Transition::KillFetchers);
        world.run_for(Duration::from_secs(8));
        killed.iter().for_each(|id| world.apply(&Transition::Start(*id)));
    }
    finish(&mut world, release)
}

/// The LAN falls apart and is healed `times` times at random.
pub fn split(seed: u64, clients: u32, bytes: u64, times: u32) -> Result<Run, TooLate> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut world, release) = site(seed, SiteSpec::default(), clients, bytes, &HostSpec::default());
    // What one part fetches while it is alone is no fault.
    world.checks_mut().grace = LIMIT;
    for _ in 0..times {
        world.run_for(Duration::from_millis(rng.random_range(2000..12_000)));
        world.apply(&Transition::Split(rng.random_range(1..clients.max(2))));
        world.run_for(Duration::from_millis(rng.random_range(1000..4000)));
        world.apply(&Transition::Heal);
    }
    finish(&mut world, release)
}

/// One holder, which has been there for a while, and `clients` that start now, all with ports of `rate` bytes a second, and
/// no way out. The second part of the answer is the least time that it could take.
pub fn lan_only(seed: u64, clients: u32, bytes: u64, rate: u64) -> Result<(Run, Duration), TooLate> {
    let mut world = World::new(seed, SiteSpec::default());
    let release = world.publish(Release::of_bytes("release 1", bytes));
    let host = HostSpec { up: rate, down: rate, wan: WanPolicy::Never, ..HostSpec::default() };
    world.add(HostSpec { holds: vec![release], wanted: false, ..host.clone() });
    world.host_mut(HostId(0)).version = 1;
    world.with(HostId(0), |exchange| exchange.set_metadata_version(Time::ZERO, 1));
    world.run_for(Duration::from_secs(5));
    let begun = world.now();
    for _ in 0..clients {
        world.add(host.clone());
    }
    let mut run = finish(&mut world, release)?;
    run.measured.completed.iter_mut().for_each(|(at, _)| *at = Time::after_start(at.since(begun)));
    let bytes = world.release(&release).map_or(0, |release| release.segments.bytes());
    Ok((run, lan_bound(bytes, clients, rate, (rate, rate))))
}

/// So many of a hundred clients are hostile, each in its own way, behind a line of `wan_rate` bytes a second.
pub fn hostile(seed: u64, clients: u32, bytes: u64, percent: u32, wan_rate: u64) -> Result<Run, TooLate> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(seed, SiteSpec { wan_rate, ..SiteSpec::default() });
    let release = world.publish(Release::of_bytes("release 1", bytes));
    for number in 0..clients {
        let is_hostile = number * percent / 100 != (number + 1) * percent / 100;
        let nature = Nature::HOSTILE[rng.random_range(0..Nature::HOSTILE.len())];
        let nature = if is_hostile { nature } else { Nature::Honest };
        world.add(HostSpec { nature, ..HostSpec::default() });
    }
    finish(&mut world, release)
}

/// A cold start in each of so many sites, which have nothing but the origin in common, on all cores. Each site has a
/// seed of its own, made of `seed`.
pub fn sites(seed: u64, sites: u32, clients: u32, bytes: u64) -> Result<Vec<Run>, TooLate> {
    let site = |site| cold_start(seed << 32 | site, clients, bytes);
    on_all_cores(0..u64::from(sites), site).into_iter().collect()
}

/// A site whose clients all start now, and a release.
fn site(seed: u64, spec: SiteSpec, clients: u32, bytes: u64, host: &HostSpec) -> (World, IndexId) {
    let mut world = World::new(seed, spec);
    let release = world.publish(Release::of_bytes("release 1", bytes));
    for _ in 0..clients {
        world.add(host.clone());
    }
    (world, release)
}

fn finish(world: &mut World, release: IndexId) -> Result<Run, TooLate> {
    world.run_to_completion(LIMIT)?;
    let violations = world.checks().violations().iter();
    Ok(Run {
        measured: world.measured(&release),
        violations: violations.map(|(at, violation)| format!("{at:?}: {violation}")).collect(),
        events: world.events(),
        trace: world.trace().hash(),
    })
}
