//! The end game: when everything that is missing is on its way, idle neighbours double what is slow. Bounded, so that it
//! costs little where nobody is slow.

use crate::{exchange::Exchange, neighbours::Neighbour, release::Release, time::Time, transfers::From};
use branchmesh_wire::{IndexId, NodeId};
use std::{cmp::Reverse, time::Duration};

/// How often slow requests are looked for.
const TICK: Duration = Duration::from_millis(250);
/// Blocks that a release may have in flight for the end game to begin; bounds its work.
const BLOCKS_MAX: u32 = 256;
/// Bytes of one request in the end game.
const REQUEST_BYTES: u64 = 256 << 10;
/// An idle neighbour doubles a request only if it should be so many times faster.
const FACTOR: u32 = 2;

/// A block in flight, in one transfer only, for which others may be asked too.
struct Slow {
    /// Since when it flies.
    age: Duration,
    block: u32,
    /// The neighbour that was asked; `None` if it is an origin.
    source: Option<NodeId>,
    /// What it should take in all.
    time: Duration,
}

impl Exchange {
    /// Has idle neighbours double what is slow.
    pub(crate) fn plan_endgame(&mut self, now: Time) {
        let ending = self.releases.values().filter(|release| is_endgame(release));
        let ending: Vec<IndexId> = ending.map(|release| release.id).collect();
        if ending.is_empty() {
            self.endgame_at = None;
            return;
        }
        if self.endgame_at.is_some_and(|at| now < at) {
            return;
        }
        self.endgame_at = Some(now + TICK);
        for id in ending {
            self.double_slow(now, id);
        }
    }

    fn double_slow(&mut self, now: Time, id: IndexId) {
        let mut slow = self.slow(now, id);
        if slow.is_empty() {
            return;
        }
        for node in self.neighbours.with_room(now) {
            let idle = self.neighbours.get(&node).filter(|neighbour| neighbour.is_idle());
            let (Some(neighbour), Some(release)) = (idle, self.releases.get(&id)) else { continue };
            let blocks = pick(release, &slow, &node, neighbour);
            slow.retain(|one| !blocks.contains(&one.block));
            self.request(now, node, id, blocks);
        }
    }

    /// What of a release is slow, the oldest first.
    fn slow(&self, now: Time, id: IndexId) -> Vec<Slow> {
        let flying = self.releases.get(&id).into_iter().flat_map(|release| release.blocks.in_flight());
        let single = flying.filter(|(_, flight)| flight.second.is_none());
        let mut slow: Vec<Slow> = single
            .filter_map(|(block, flight)| {
                let transfer = self.transfers.get(flight.first)?;
                let age = now.since(transfer.issued);
                let (source, time) = match transfer.from {
                    // Somebody else was faster over the WAN, or the origin hangs.
                    From::Origin => (None, age),
                    From::Neighbour(source) => {
                        let neighbour = self.neighbours.get(&source);
                        let time = neighbour.map_or(Duration::MAX, |source| source.time_for(0));
                        (Some(source), time.max(age))
                    }
                };
                (age >= self.config.timing.endgame_after).then_some(Slow { age, block, source, time })
            })
            .collect();
        slow.sort_unstable_by_key(|one| (Reverse(one.age), one.block));
        slow
    }
}

/// Whether nothing is left to ask for, but little enough still flies that slow requests may be doubled.
fn is_endgame(release: &Release) -> bool {
    release.wanted
        && release.blocks.missing_count() == 0
        && (1..=BLOCKS_MAX).contains(&release.blocks.in_flight_count())
}

/// The slow blocks that the idle `node` should deliver sooner; ascending.
fn pick(release: &Release, slow: &[Slow], node: &NodeId, neighbour: &Neighbour) -> Vec<u32> {
    let time = neighbour.time_for(REQUEST_BYTES) * FACTOR;
    let sooner = slow.iter().filter(|one| one.source != Some(*node) && time < one.time);
    let offered = sooner.map(|one| one.block).filter(|block| release.availability.offers(node, *block));
    let mut bytes = 0;
    let mut picked: Vec<u32> = offered
        .take_while(|block| {
            bytes += release.blocks.length(*block);
            bytes <= REQUEST_BYTES
        })
        .collect();
    picked.sort_unstable();
    picked
}
