//! Everything that can happen to a site from outside. The list is the specification: whatever of it happens, in any order,
//! the [`checks`](crate::checks) must hold, and when it is over everybody who is honest ends with everything.
//!
//! | transition | what it tries |
//! |---|---|
//! | `Kill`, `KillFetchers` | a fetcher that is gone is replaced within 5 s; what came by it and is nowhere else crosses again, and nothing more |
//! | `CutPower` | the same without a word: silence is noticed by the status that does not come |
//! | `Leave` | a goodbye gives the lease away at once, and is not undone by words that were under way |
//! | `Start`, `Join` | a newcomer listens before it touches the WAN; what is on its disk trims for the site; its conduct is not forgotten |
//! | `Sleep`, `Wake` | what it asked for before will not come, and its claim is void; nothing that it believes is fresh |
//! | `Split`, `Heal` | each part goes on alone; when they meet, one fetcher yields, and what both hold is found out |
//! | `Origin(Down)`, `Origin(Stalls)` | one asks again at a time, ever more rarely; what members hold spreads meanwhile |
//! | `Origin(Up)` | it is used again, by one |
//! | `OriginRots`, `OriginMended` | bad blocks are not stored, delay only themselves, and are asked for again |
//! | `DiskFull`, `DiskFree` | who cannot store pauses, and does not keep the others from the WAN |
//! | `DiskSlow` | a slow writer is waited for, and delays only itself |
//! | `DiskRots` | a loss is told, and made good by the neighbours before the WAN |
//! | `LineCloses`, `LineOpens` | nothing crosses for whom the line is closed; a member whose line is open goes first, and nobody waits for another |
//! | `LineLimit` | what each part of the LAN takes stays below it, also while the lease changes hands |
//! | `Turn` | [natures](crate::nature::Nature) that lie, poison, stall, claim the WAN or flood cost time, never a bad block, and not for ever |
//! | `Publish` | news reach everybody, whoever hides them; only what no member holds crosses |

use crate::{
    host::{HostId, HostSpec, Power},
    lan::IDLE_TIMEOUT,
    nature::Nature,
    wan::OriginState,
    world::{NOTICED_AFTER, World},
};
use branchmesh_exchange::Time;
use rand::RngExt;
use std::time::Duration;

/// Until a goodbye has been heard and the process has ended.
const GOODBYE: Duration = Duration::from_millis(50);

/// Something that happens to the site.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// An agent is killed; its connections close at once, what is on its disk stays.
    Kill(HostId),
    /// Whoever uses the WAN is killed.
    KillFetchers,
    /// A machine loses power: nobody closes its connections.
    CutPower(HostId),
    /// An agent is stopped, and says goodbye.
    Leave(HostId),
    /// An agent starts again.
    Start(HostId),
    /// A machine falls asleep.
    Sleep(HostId),
    /// It wakes up.
    Wake(HostId),
    /// A machine joins.
    Join,
    /// The LAN falls apart: hosts with a bit in common with the mask are in one part, the others in another.
    Split(u32),
    /// The LAN is whole again.
    Heal,
    /// The origin works, refuses, or stalls.
    Origin(OriginState),
    /// The origin's disk rots: each so-many-th block of it is bad.
    OriginRots(u32),
    /// The origin's disk is mended.
    OriginMended,
    /// A disk is full.
    DiskFull(HostId),
    /// It has room again.
    DiskFree(HostId),
    /// A disk writes so many bytes a second.
    DiskSlow(HostId, u64),
    /// A disk loses blocks of all releases, each so-many-th; its agent finds that out.
    DiskRots(HostId, u32),
    /// A host behaves like this from now on.
    Turn(HostId, Nature),
    /// The schedule closes the line to the hosts with a bit in common with the mask, and opens it to the others.
    LineCloses(u32),
    /// It is open to everybody.
    LineOpens,
    /// So many bytes a second may pass over it, or as many as can.
    LineLimit(Option<u64>),
    /// The origin has a new release, which differs in each so-many-th block.
    Publish(u32),
}

impl World {
    /// Lets it happen now. What makes no sense, such as waking a machine that is off, does nothing.
    pub fn apply(&mut self, transition: &Transition) {
        self.trace.transition(self.now, transition);
        self.watched(|world| world.carry_out(transition));
    }

    fn carry_out(&mut self, transition: &Transition) {
        match *transition {
            Transition::Kill(id) if self.is_on(id) => self.stop(id, NOTICED_AFTER),
            Transition::KillFetchers => {
                self.fetchers().into_iter().for_each(|id| self.stop(id, NOTICED_AFTER));
            }
            Transition::CutPower(id) if self.is_on(id) => self.stop(id, IDLE_TIMEOUT),
            Transition::Leave(id) if self.is_on(id) => {
                let now = self.now;
                self.with(id, |exchange| exchange.leave(now));
                self.stop(id, GOODBYE);
            }
            Transition::Start(id) if self.power(id) == Some(Power::Off) => self.start(id),
            Transition::Sleep(id) if self.is_on(id) => self.sleep(id),
            Transition::Wake(id) if self.power(id) == Some(Power::Asleep) => self.wake_up(id),
            Transition::Join => drop(self.add(HostSpec::default())),
            Transition::Split(mask) => self.divide(|id| u8::from((id.0 + 1) & mask == 0)),
            Transition::Heal => self.divide(|_| 0),
            Transition::Origin(state) => self.set_origin(state),
            Transition::OriginRots(nth) => {
                let blocks =
                    self.releases.iter().map(|release| release.segments.block_count()).max().unwrap_or(0);
                self.origin.rotten = (0..blocks).step_by(nth.max(1) as usize).collect();
            }
            Transition::OriginMended => self.origin.rotten.clear(),
            Transition::DiskFull(id) if self.power(id).is_some() => self.host_mut(id).disk_full = true,
            Transition::DiskFree(id) if self.power(id).is_some() => {
                let now = self.now;
                let host = self.host_mut(id);
                (host.disk_full, host.progress_at) = (false, now);
            }
            Transition::DiskSlow(id, rate) if self.power(id).is_some() => {
                self.host_mut(id).spec.disk = Some(rate.max(1));
            }
            Transition::DiskRots(id, nth) if self.is_on(id) => self.rot(id, nth.max(1)),
            Transition::Turn(id, nature) if self.power(id).is_some() => {
                self.host_mut(id).spec.nature = nature;
            }
            Transition::LineCloses(mask) => self.close_line(mask),
            Transition::LineOpens => self.close_line(0),
            Transition::LineLimit(limit) => self.limit_line(limit),
            Transition::Publish(nth) => {
                let name = format!("release {}", self.releases.len() + 1);
                self.publish_update(&name, nth.max(1));
            }
            Transition::Kill(_)
            | Transition::CutPower(_)
            | Transition::Leave(_)
            | Transition::Start(_)
            | Transition::Sleep(_)
            | Transition::Wake(_)
            | Transition::DiskFull(_)
            | Transition::DiskFree(_)
            | Transition::DiskSlow(..)
            | Transition::DiskRots(..)
            | Transition::Turn(..) => {}
        }
    }

    fn power(&self, id: HostId) -> Option<Power> {
        self.hosts.get(id.index()).map(|host| host.power)
    }

    fn is_on(&self, id: HostId) -> bool {
        self.power(id) == Some(Power::On)
    }

    fn start(&mut self, id: HostId) {
        let now = self.now;
        self.host_mut(id).start(now);
        self.begin_life(id);
    }

    fn sleep(&mut self, id: HostId) {
        self.give_up_links(id, IDLE_TIMEOUT);
        self.silence_fetches(id);
        let host = self.host_mut(id);
        (host.power, host.timer) = (Power::Asleep, None);
    }

    fn wake_up(&mut self, id: HostId) {
        let now: Time = self.now;
        let host = self.host_mut(id);
        (host.power, host.settled_at, host.progress_at) = (Power::On, now, now);
        let frozen = std::mem::take(&mut host.frozen);
        self.look_at_clock(id);
        // Connections that the others gave up meanwhile are gone for it too.
        for link in self.one_sided(id) {
            self.lose_link(link);
        }
        frozen.into_iter().for_each(|event| self.happen(event));
        self.deliver_stalled();
        self.with(id, |exchange| exchange.handle_timeout(now));
        self.look_around(id, Duration::ZERO);
    }

    fn rot(&mut self, id: HostId, nth: u32) {
        let now = self.now;
        let start = self.rng.random_range(0..nth);
        for release in self.releases().collect::<Vec<_>>() {
            let host = self.host_mut(id);
            let Some(disk) = host.disk.get_mut(&release) else { continue };
            let lost: Vec<u32> = disk.iter().skip(start as usize).step_by(nth as usize).collect();
            lost.iter().for_each(|block| {
                disk.remove(*block);
            });
            if !lost.is_empty() {
                host.completed.remove(&release);
                host.progress_at = now;
                self.with(id, |exchange| exchange.handle_blocks_lost(now, release, &lost));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Event, release::Release, world::SiteSpec};

    const ONE: HostId = HostId(0);

    #[test]
    fn what_happens_to_a_sleeping_host_happens_when_it_wakes() {
        let mut world = World::new(1, SiteSpec::default());
        let release = world.publish(Release::of_blocks("release 1", 8));
        world.apply(&Transition::Origin(OriginState::Down));
        world.add(HostSpec::default());
        world.add(HostSpec::default());
        world.run_for(Duration::from_secs(1));
        world.apply(&Transition::Sleep(ONE));
        world.after(Duration::from_secs(1), Event::Index { host: (ONE, 0), release });
        world.run_for(Duration::from_secs(10));
        assert!(world.report(ONE, &release).is_none());
        assert!(world.host(HostId(1)).links.is_empty(), "the other one has noticed");
        world.apply(&Transition::Wake(ONE));
        assert!(world.report(ONE, &release).is_some());
        assert_eq!(world.host(ONE).known.get(&release), Some(&world.now()));
        world.run_for(Duration::from_secs(1));
        assert!(world.host(ONE).links.contains_key(&HostId(1)));
    }

    #[test]
    fn what_was_meant_for_a_host_before_it_was_killed_does_not_happen() {
        let mut world = World::new(1, SiteSpec::default());
        let release = world.publish(Release::of_blocks("release 1", 8));
        world.apply(&Transition::Origin(OriginState::Down));
        world.add(HostSpec::default());
        world.after(Duration::from_secs(1), Event::Index { host: (ONE, 0), release });
        world.apply(&Transition::Kill(ONE));
        world.apply(&Transition::Start(ONE));
        world.run_for(Duration::from_secs(5));
        assert!(world.report(ONE, &release).is_none());
    }

    #[test]
    fn what_makes_no_sense_does_nothing() {
        let mut world = World::new(1, SiteSpec::default());
        world.add(HostSpec::default());
        let nobody = HostId(7);
        for transition in [
            Transition::Start(ONE),
            Transition::Wake(ONE),
            Transition::Kill(nobody),
            Transition::Turn(nobody, Nature::Liar),
            Transition::DiskRots(nobody, 1),
            Transition::Publish(1),
        ] {
            world.apply(&transition);
        }
        assert_eq!((world.host(ONE).life, world.releases().count()), (0, 0));
    }
}
