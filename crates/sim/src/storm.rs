//! Storms: random runs of transitions from a seed, which must all end well, and the way to a small one when one does not.
//!
//! A storm is a list of transitions and waits, and a world of a seed in which they happen: the same list in the same
//! world is the same run. So a failing storm can be made smaller by leaving out what it fails without.

use crate::{
    host::{HostId, HostSpec},
    nature::Nature,
    release::Release,
    transition::Transition,
    wan::OriginState,
    world::{SiteSpec, World},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{fmt, time::Duration};

/// After a storm: twice the longest rest of an origin, and the work itself.
const PATIENCE: Duration = Duration::from_secs(1000);
/// During a storm, what an exchange must know: distrust of a member that failed lasts for minutes.
const STORM_GRACE: Duration = Duration::from_secs(700);
/// The longest wait between two transitions, in milliseconds.
const WAIT_MAX: u64 = 2500;
/// The thinnest share of the line that a schedule leaves, in bytes a second.
const LINE_MIN: u64 = 200_000;
/// The slowest disk, in bytes a second.
const DISK_MIN: u64 = 200_000;

/// A run of transitions.
#[derive(Clone, Debug)]
pub struct Storm {
    /// The seed of the world.
    pub seed: u64,
    /// Its hosts.
    pub hosts: Vec<HostSpec>,
    /// Blocks of the first release.
    pub blocks: u32,
    /// What happens, each so long after the one before.
    pub steps: Vec<(Duration, Transition)>,
}

/// How much of everything a storm has.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Hosts.
    pub hosts: u32,
    /// Blocks of the first release.
    pub blocks: u32,
    /// Transitions.
    pub transitions: u32,
    /// Hosts of a hundred that are hostile from the start.
    pub hostile_percent: u32,
    /// Whether others become hostile in the course of it.
    pub turns: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self { hosts: 7, blocks: 200, transitions: 16, hostile_percent: 10, turns: true }
    }
}

/// How a storm ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was wrong; nothing if it ended well.
    pub wrong: Vec<String>,
    /// [`Trace::hash`](crate::trace::Trace::hash) of the run.
    pub trace: String,
    /// WAN bytes for each byte that the site lacked, of the first release.
    pub amplification: f64,
    /// How much virtual time it took.
    pub took: Duration,
    /// Of this, what the site took to have everything once it was healed.
    pub healed: Duration,
}

impl Verdict {
    /// Whether it ended well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl Storm {
    /// The storm of a seed.
    #[must_use]
    pub fn of_seed(seed: u64, weather: &Weather) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let hosts = (0..weather.hosts).map(|_| host(&mut rng, weather)).collect();
        let steps = (0..weather.transitions).map(|_| {
            let wait = Duration::from_millis(rng.random_range(0..WAIT_MAX));
            (wait, transition(&mut rng, weather))
        });
        let steps = steps.collect();
        Self { seed, hosts, blocks: weather.blocks, steps }
    }

    /// Lets it happen, heals the site, and waits for everybody to have everything.
    #[must_use]
    pub fn run(&self) -> Verdict {
        self.run_in(&mut self.world())
    }

    /// The same, with a text of all that happened.
    #[must_use]
    pub fn run_traced(&self) -> (Verdict, String) {
        let mut world = self.world();
        world.keep_trace();
        let verdict = self.run_in(&mut world);
        (verdict, world.trace().text().unwrap_or_default().to_owned())
    }

    /// A smaller storm that is still wrong, if this one is: steps are left out as long as it stays wrong.
    #[must_use]
    pub fn minimised(&self) -> Self {
        let mut smallest = self.clone();
        let mut size = self.steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < smallest.steps.len() {
                let smaller = smallest.without(at, size);
                if smaller.run().is_well() {
                    at += size;
                } else {
                    smallest = smaller;
                }
            }
            size /= 2;
        }
        smallest
    }

    fn world(&self) -> World {
        let mut world = World::new(self.seed, SiteSpec::default());
        world.checks_mut().grace = STORM_GRACE;
        world.publish(Release::of_blocks("release 1", self.blocks));
        for host in &self.hosts {
            world.add(host.clone());
        }
        world
    }

    fn run_in(&self, world: &mut World) -> Verdict {
        for (wait, transition) in &self.steps {
            world.run_for(*wait);
            world.apply(transition);
        }
        heal(world);
        let healed_at = world.now();
        let mut wrong: Vec<String> =
            world.run_to_completion(PATIENCE).err().map(|late| late.to_string()).into_iter().collect();
        wrong
            .extend(world.checks().violations().iter().map(|(at, violation)| format!("{at:?}: {violation}")));
        let first = world.releases().next();
        Verdict {
            wrong,
            trace: world.trace().hash(),
            amplification: first.map_or(1.0, |first| world.measured(&first).amplification()),
            took: world.now().since_start(),
            healed: world.now().since(healed_at),
        }
    }

    /// Without `count` steps from `at` on; the time that they took is kept.
    fn without(&self, at: usize, count: usize) -> Self {
        let mut steps = self.steps.clone();
        let gone: Duration = steps.drain(at..steps.len().min(at + count)).map(|(wait, _)| wait).sum();
        if let Some((wait, _)) = steps.get_mut(at) {
            *wait += gone;
        }
        Self { steps, ..self.clone() }
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} blocks", self.seed, self.blocks)?;
        for (number, host) in (0..).zip(&self.hosts) {
            writeln!(f, "  {}: {:?}, {:?}, {:?}", HostId(number), host.role, host.wan, host.nature)?;
        }
        self.steps.iter().try_for_each(|(wait, transition)| writeln!(f, "  after {wait:?}: {transition:?}"))
    }
}

/// Everything is as it should be again, but those who are hostile: the site must live with them.
fn heal(world: &mut World) {
    let transitions = [
        Transition::Heal,
        Transition::Origin(OriginState::Up),
        Transition::OriginMended,
        Transition::LineOpens,
        Transition::LineLimit(None),
    ];
    transitions.iter().for_each(|transition| world.apply(transition));
    for id in world.ids() {
        for transition in [Transition::DiskFree(id), Transition::Wake(id), Transition::Start(id)] {
            world.apply(&transition);
        }
    }
}

fn host(rng: &mut ChaCha8Rng, weather: &Weather) -> HostSpec {
    let is_hostile = rng.random_range(0..100) < weather.hostile_percent;
    HostSpec { nature: if is_hostile { hostile(rng) } else { Nature::Honest }, ..HostSpec::default() }
}

fn hostile(rng: &mut ChaCha8Rng) -> Nature {
    Nature::HOSTILE[rng.random_range(0..Nature::HOSTILE.len())]
}

fn transition(rng: &mut ChaCha8Rng, weather: &Weather) -> Transition {
    let id = HostId(rng.random_range(0..weather.hosts));
    match rng.random_range(0..if weather.turns { 29 } else { 28 }) {
        0 | 1 => Transition::Kill(id),
        2 | 3 => Transition::KillFetchers,
        4 | 5 => Transition::CutPower(id),
        6 => Transition::Leave(id),
        7..=9 => Transition::Start(id),
        10 => Transition::Sleep(id),
        11 => Transition::Wake(id),
        12 => Transition::Join,
        13 => Transition::Split(rng.random_range(1..8)),
        14 => Transition::Heal,
        15 => Transition::Origin([OriginState::Down, OriginState::Stalls][rng.random_range(0..2)]),
        16 | 17 => Transition::Origin(OriginState::Up),
        18 => Transition::OriginRots(rng.random_range(2..50)),
        19 => Transition::DiskFull(id),
        20 => Transition::DiskFree(id),
        21 => Transition::DiskSlow(id, rng.random_range(DISK_MIN..DISK_MIN * 100)),
        22 => Transition::DiskRots(id, rng.random_range(2..50)),
        23 => Transition::Publish(rng.random_range(2..20)),
        // To everybody, or to some.
        24 => Transition::LineCloses([u32::MAX, rng.random_range(1..8)][rng.random_range(0..2)]),
        25 | 26 => Transition::LineOpens,
        27 => Transition::LineLimit(Some(rng.random_range(LINE_MIN..LINE_MIN * 10))),
        // For good: whom it cheated distrusts it for longer than a storm lasts.
        _ => Transition::Turn(id, hostile(rng)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use branchmesh_wire::WanPolicy;

    const MS: Duration = Duration::from_millis(1);

    /// Only the first host may use the WAN, and soon does not any more.
    fn failing() -> Storm {
        let mut storm = Storm {
            seed: 1,
            hosts: vec![HostSpec::default(); 3],
            blocks: 20,
            steps: vec![
                (100 * MS, Transition::DiskSlow(HostId(0), 1_000_000)),
                (100 * MS, Transition::Heal),
                (1000 * MS, Transition::Turn(HostId(0), Nature::Usurper)),
                (100 * MS, Transition::OriginMended),
                (100 * MS, Transition::Kill(HostId(1))),
                (100 * MS, Transition::DiskFree(HostId(2))),
            ],
        };
        storm.hosts[1..].iter_mut().for_each(|host| host.wan = WanPolicy::Never);
        storm
    }

    #[test]
    fn a_failing_storm_becomes_small_and_still_fails() {
        let storm = failing();
        assert!(!storm.run().is_well());
        let smallest = storm.minimised();
        // What is left happens when it did.
        assert_eq!(smallest.steps, [(1200 * MS, Transition::Turn(HostId(0), Nature::Usurper))]);
        assert!(!smallest.run().is_well());
        assert_eq!((smallest.seed, smallest.blocks, smallest.hosts.len()), (1, 20, 3));
    }

    #[test]
    fn a_storm_that_ends_well_stays_as_it_is() {
        let mut storm = failing();
        storm.steps.remove(2);
        assert!(storm.run().is_well());
        assert_eq!(storm.minimised().steps, storm.steps);
    }

    #[test]
    fn a_traced_run_is_the_same_run() {
        let storm =
            Storm::of_seed(3, &Weather { hosts: 3, blocks: 20, transitions: 4, ..Weather::default() });
        let (verdict, text) = storm.run_traced();
        assert_eq!(verdict.trace, storm.run().trace);
        assert_eq!(text.matches("***").count(), storm.steps.len() + 5 + 3 * storm.hosts.len());
    }
}
