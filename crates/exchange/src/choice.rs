//! Which blocks are asked of which neighbour.
//!
//! Rarest segment first, random ties; inside a segment the rarest blocks first. When blocks have one holder and many
//! want them, each of these begins with its own [`Share`], and soon they have something to trade: what the only holder
//! sends twice, it could have sent of something else.

use crate::{
    blocks::Flight,
    neighbours::Neighbour,
    release::Release,
    time::Time,
    transfers::{From, Transfers},
};
use branchmesh_wire::{NodeId, limits::REQUEST_BLOCKS_MAX};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::{cmp::Reverse, time::Duration};

/// Bytes of one request: small enough that several holders share a segment, large enough that requests are few.
const REQUEST_BYTES: u64 = 512 << 10;
/// Segments that are compared: all of a release up to 256 MiB, a random sample of a larger one. Keeps the cost of a
/// choice independent of the size of the release.
const SEGMENTS_COMPARED: usize = 64;
/// Blocks that a release may have in flight for the end game to begin; bounds its work.
const ENDGAME_BLOCKS: u32 = 256;
/// Bytes of one request in the end game.
const ENDGAME_BYTES: u64 = 256 << 10;
/// An idle neighbour doubles a request only if it should be so many times faster.
const ENDGAME_FACTOR: u32 = 2;

/// Which blocks a node asks for first while they have one holder: an equal part of them, for each of all who want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// This node's place among those who want the blocks.
    pub(crate) place: u64,
    /// How many they are, this node included.
    pub(crate) of: u64,
}

impl Share {
    /// Whether `block` is in it. The same for all who agree on who wants the blocks; it does not matter much if not.
    fn has(self, block: u32) -> bool {
        u64::from(block) % self.of.max(1) == self.place
    }
}

/// The blocks to ask of `node`, ascending, at most about `room` bytes; none if it has nothing of use.
pub(crate) fn pick(
    release: &Release,
    node: &NodeId,
    share: Share,
    room: u64,
    rng: &mut ChaCha8Rng,
) -> Vec<u32> {
    let availability = &release.availability;
    if !availability.is_useful(node) {
        return Vec::new();
    }
    let start = rng.random_range(0..availability.segment_count());
    let sample = availability.useful_segments(node, start).take(SEGMENTS_COMPARED);
    let (mut others, mut rarest) = (None, None);
    for segment in sample {
        if availability.has_lonely(segment) {
            let lonely =
                || availability.useful_blocks(node, segment).filter(|block| availability.is_lonely(*block));
            let mine: Vec<u32> = lonely().filter(|block| share.has(*block)).collect();
            if !mine.is_empty() {
                return fill(release, mine.into_iter(), room);
            }
            others = others.or_else(|| lonely().next().map(|_| segment));
        }
        // Twice as common counts as more common, less does not: otherwise all nodes would want the same segment.
        let rank = (availability.commonness(segment).max(1).ilog2(), rng.random::<u32>(), segment);
        rarest = Some(rarest.map_or(rank, |best: (u32, u32, u32)| best.min(rank)));
    }
    let Some(segment) = others.or(rarest.map(|(_, _, segment)| segment)) else { return Vec::new() };
    let blocks = availability.useful_blocks(node, segment);
    let mut blocks: Vec<_> =
        blocks.map(|block| (availability.holders(block), rng.random::<u32>(), block)).collect();
    blocks.sort_unstable();
    fill(release, blocks.into_iter().map(|(_, _, block)| block), room)
}

/// The first of some blocks, as many as a request should have; ascending.
fn fill(release: &Release, blocks: impl Iterator<Item = u32>, room: u64) -> Vec<u32> {
    let (mut picked, mut bytes) = (Vec::new(), 0);
    for block in blocks.take(REQUEST_BLOCKS_MAX as usize) {
        let length = release.blocks.length(block);
        if !picked.is_empty() && bytes + length > room.min(REQUEST_BYTES) {
            break;
        }
        picked.push(block);
        bytes += length;
    }
    picked.sort_unstable();
    picked
}

/// Whether nothing is left to ask for, but little enough still flies that slow requests may be doubled.
pub(crate) fn is_endgame(release: &Release) -> bool {
    release.wanted
        && release.blocks.missing_count() == 0
        && (1..=ENDGAME_BLOCKS).contains(&release.blocks.in_flight_count())
}

/// Blocks in flight, each in one request only, that the idle `node` should deliver sooner; the oldest first.
pub(crate) fn pick_again(
    now: Time,
    after: Duration,
    release: &Release,
    transfers: &Transfers,
    node: &NodeId,
    neighbour: &Neighbour,
    expected: impl Fn(&NodeId) -> Duration,
) -> Vec<u32> {
    let slow = |flight: &Flight| {
        let transfer = transfers.get(flight.first)?;
        let age = now.since(transfer.issued);
        let slower = match transfer.from {
            From::Neighbour(source) if source == *node => return None,
            From::Neighbour(source) => expected(&source).max(age),
            // Somebody else was faster over the WAN, or the origin hangs.
            From::Origin => age,
        };
        let sooner = neighbour.time_for(ENDGAME_BYTES) * ENDGAME_FACTOR < slower;
        (age >= after && sooner).then_some(age)
    };
    let flying = release.blocks.in_flight();
    let single =
        flying.filter(|(block, flight)| flight.second.is_none() && release.availability.offers(node, *block));
    let mut slow: Vec<_> =
        single.filter_map(|(block, flight)| Some((Reverse(slow(&flight)?), block))).collect();
    slow.sort_unstable();
    let mut bytes = 0;
    let mut picked: Vec<u32> = slow
        .into_iter()
        .map(|(_, block)| block)
        .take_while(|block| {
            bytes += release.blocks.length(*block);
            bytes <= ENDGAME_BYTES
        })
        .collect();
    picked.sort_unstable();
    picked
}
