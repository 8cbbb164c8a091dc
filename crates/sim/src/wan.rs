//! The site's line, which all its hosts share, and the origin at its other end.

use crate::{
    event::{Event, Life},
    host::HostId,
    port::{Content, duration},
    world::World,
};
use branchmesh_exchange::{Failure, Outcome, Time, TransferId};
use branchmesh_wire::IndexId;
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// How long an agent waits for the next byte of an origin's answer.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How the origin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginState {
    /// As it should.
    Up,
    /// It refuses.
    Down,
    /// It takes requests and answers nothing.
    Stalls,
}

/// The origin.
pub(crate) struct Origin {
    pub state: OriginState,
    /// Since when.
    pub since: Time,
    /// Blocks that it has with a flipped bit.
    pub rotten: BTreeSet<u32>,
}

/// What one fetch still has to bring.
pub(crate) struct Stream {
    pub host: Life,
    pub transfer: TransferId,
    pub release: IndexId,
    pub blocks: VecDeque<u32>,
}

/// The thin link: its streams take turns, a block each.
#[derive(Default)]
pub(crate) struct Line {
    streams: VecDeque<Stream>,
    /// What is on the line now.
    carries: Option<Carried>,
}

struct Carried {
    host: Life,
    transfer: TransferId,
    release: IndexId,
    block: u32,
    is_last: bool,
    since: Time,
}

impl Line {
    /// A fetch is not wanted any more, or none of a host is.
    pub fn cancel(&mut self, host: HostId, transfer: Option<TransferId>) {
        self.streams.retain(|stream| {
            stream.host.0 != host || transfer.is_some_and(|transfer| stream.transfer != transfer)
        });
    }

    /// Whose streams there are, the one whose turn it is first.
    fn readers(&self) -> Vec<HostId> {
        self.streams.iter().map(|stream| stream.host.0).collect()
    }

    /// The next block of the stream in this place; the stream goes to the end of the queue.
    fn next(&mut self, since: Time, place: usize) -> Option<Carried> {
        let mut stream = self.streams.remove(place)?;
        let block = stream.blocks.pop_front()?;
        let is_last = stream.blocks.is_empty();
        let Stream { host, transfer, release, .. } = stream;
        let carried = Carried { host, transfer, release, block, is_last, since };
        if !is_last {
            self.streams.push_back(stream);
        }
        Some(carried)
    }
}

impl World {
    pub(crate) fn open_stream(&mut self, stream: Stream) {
        if !self.is_life(stream.host) || !self.host(stream.host.0).open.contains(&stream.transfer) {
            return;
        }
        if self.origin.state == OriginState::Down {
            self.end_transfer(stream.host, stream.transfer, Outcome::Failed(Failure::Unreachable));
            return;
        }
        if self.origin.state == OriginState::Stalls {
            self.fall_silent(stream.host, stream.transfer);
        }
        self.line.streams.push_back(stream);
        self.feed_line();
    }

    /// Nothing more comes by a fetch, and nobody says so: the agent waits for as long as it does for any answer.
    fn fall_silent(&mut self, host: Life, transfer: TransferId) {
        let outcome = Outcome::Failed(Failure::Stalled);
        self.after(SILENCE_MAX, Event::Ended { host, transfer, outcome });
    }

    /// The fetches of a host that falls asleep are dead.
    pub(crate) fn silence_fetches(&mut self, id: HostId) {
        let asleep = self.line.streams.iter().filter(|stream| stream.host.0 == id);
        let mut silent: Vec<(Life, TransferId)> =
            asleep.map(|stream| (stream.host, stream.transfer)).collect();
        silent.extend(
            self.line
                .carries
                .iter()
                .filter(|carried| carried.host.0 == id)
                .map(|one| (one.host, one.transfer)),
        );
        self.line.cancel(id, None);
        silent.into_iter().for_each(|(host, transfer)| self.fall_silent(host, transfer));
    }

    /// The line carries the next block, if there is one.
    pub(crate) fn feed_line(&mut self) {
        if self.line.carries.is_some() || self.origin.state != OriginState::Up {
            return;
        }
        let readers = self.line.readers();
        let first = readers.iter().enumerate().map(|(place, id)| (self.reads_at(*id), place)).min();
        let Some((at, place)) = first else { return };
        if at > self.now {
            self.queue.plan(at, Event::ReadsOn);
            return;
        }
        let Some(carried) = self.line.next(self.now, place) else { return };
        self.check_line(carried.host.0);
        let bytes = self.bytes_of(&carried.release, carried.block);
        self.pay(carried.host.0, bytes);
        self.line.carries = Some(carried);
        self.after(duration(bytes, self.spec.wan_rate), Event::Crossed);
    }

    /// What a host's agent has got from the origin, with the part of a block that is on the line.
    pub(crate) fn wan_bytes(&self, id: HostId) -> u64 {
        let carried = self.line.carries.as_ref().filter(|carried| carried.host == (id, self.host(id).life));
        let part = carried.map_or(Duration::ZERO, |carried| self.now.since(carried.since));
        self.host(id).wan_bytes + (part.as_secs_f64() * self.spec.wan_rate as f64) as u64
    }

    /// A block is at the end of the line.
    pub(crate) fn crossed(&mut self) {
        if let Some(Carried { host, transfer, release, block, is_last, .. }) = self.line.carries.take() {
            self.note_crossing(host.0, release, block);
            if self.is_life(host) {
                self.host_mut(host.0).wan_bytes += self.bytes_of(&release, block);
            }
            if self.is_life(host) && self.host(host.0).open.contains(&transfer) {
                let is_rotten = self.origin.rotten.contains(&block);
                self.take(
                    host.0,
                    transfer,
                    release,
                    block,
                    if is_rotten { Content::Bad } else { Content::Good },
                );
                if is_last {
                    self.end_after_writes(host.0, transfer);
                }
            }
        }
        self.feed_line();
    }

    /// The origin changes. What was under way when it went down fails.
    pub(crate) fn set_origin(&mut self, state: OriginState) {
        (self.origin.state, self.origin.since) = (state, self.now);
        let waiting: Vec<_> = self.line.streams.iter().map(|stream| (stream.host, stream.transfer)).collect();
        match state {
            OriginState::Up => {}
            OriginState::Stalls => waiting.into_iter().for_each(|(host, one)| self.fall_silent(host, one)),
            OriginState::Down => {
                self.line.streams.clear();
                for (host, transfer) in waiting {
                    self.end_transfer(host, transfer, Outcome::Failed(Failure::Unreachable));
                }
            }
        }
        self.feed_line();
    }

    pub(crate) fn answer_poll(&mut self, host: Life) {
        // When the line closes, an agent hangs up.
        if !self.is_life(host) || self.hours.close_to(host.0) {
            return;
        }
        let (now, is_up) = (self.now, self.origin.state == OriginState::Up);
        if is_up {
            self.learn(host.0, self.releases.len() as u64);
        }
        self.with(host.0, |exchange| exchange.handle_origin_poll(now, is_up));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::HostSpec, release::Release, transition::Transition, world::SiteSpec};
    use std::time::Duration;

    const ONE: HostId = HostId(0);

    /// Two hosts that each fetch three blocks now.
    fn site() -> (World, IndexId) {
        let mut world = World::new(1, SiteSpec::default());
        let release = world.publish(Release::of_blocks("release 1", 64));
        for number in 0..2 {
            let host = world.add(HostSpec::default());
            let (transfer, first) = (TransferId(1_000_000), number * 3);
            world.host_mut(host).open.insert(transfer);
            let blocks = (first..first + 3).collect();
            world.open_stream(Stream { host: (host, 0), transfer, release, blocks });
        }
        (world, release)
    }

    fn crossed(world: &World, release: &IndexId) -> Vec<u32> {
        world.checks.crossings(release).into_keys().collect()
    }

    fn time_of(world: &World, release: &IndexId, blocks: &[u32]) -> Duration {
        let release = world.release(release).unwrap();
        duration(blocks.iter().map(|block| release.bytes_of(*block)).sum(), world.spec.wan_rate)
    }

    #[test]
    fn the_line_passes_bytes_at_its_rate_and_its_streams_take_turns() {
        let (mut world, release) = site();
        let (half, all) =
            (time_of(&world, &release, &[0, 3, 1]), time_of(&world, &release, &[0, 1, 2, 3, 4, 5]));
        world.run_for(half + Duration::from_micros(1));
        assert_eq!(crossed(&world, &release), [0, 1, 3]);
        world.run_for(all - half - Duration::from_micros(3));
        assert_eq!(crossed(&world, &release).len(), 5);
        world.run_for(Duration::from_micros(3));
        assert_eq!(crossed(&world, &release).len(), 6);
        assert_eq!(world.checks.crossings_total(&release), 6);
    }

    #[test]
    fn a_fetch_that_was_cancelled_leaves_the_line_to_the_others() {
        let (mut world, release) = site();
        world.line.cancel(ONE, None);
        world.run_for(time_of(&world, &release, &[0, 3, 4, 5]) + Duration::from_micros(4));
        // The block that was on its way cannot be stopped.
        assert_eq!(crossed(&world, &release), [0, 3, 4, 5]);
    }

    #[test]
    fn an_origin_that_stalls_goes_on_where_it_was_and_one_that_went_down_does_not() {
        for (state, blocks) in [(OriginState::Stalls, 6), (OriginState::Down, 1)] {
            let (mut world, release) = site();
            world.apply(&Transition::Origin(state));
            world.run_for(Duration::from_secs(1));
            assert_eq!(crossed(&world, &release), [0], "what was on the line arrives");
            world.apply(&Transition::Origin(OriginState::Up));
            world.run_for(Duration::from_millis(300));
            assert_eq!(crossed(&world, &release).len(), blocks, "{state:?}");
        }
    }
}
