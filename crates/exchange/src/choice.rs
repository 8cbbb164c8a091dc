//! Which blocks are asked of which neighbour.
//!
//! Rarest segment first, random ties; inside a segment the rarest blocks first. When blocks have one holder and many
//! want them, each of these begins with its own [`Share`], and soon they have something to trade: what the only holder
//! sends twice, it could have sent of something else.

use crate::release::Release;
use branchmesh_wire::{NodeId, limits::REQUEST_BLOCKS_MAX};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Bytes of one request: small enough that several holders share a segment, large enough that requests are few.
const REQUEST_BYTES: u64 = 512 << 10;
/// Segments that are compared: all of a release up to 256 MiB, a random sample of a larger one. Keeps the cost of a
/// choice independent of the size of the release.
const SEGMENTS_COMPARED: usize = 64;

/// Which blocks a node asks for first while they have one holder: an equal part of them, for each of all who want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// This node's place among those who want the blocks.
    place: u64,
    /// How many they are, this node included.
    of: u64,
}

impl Share {
    fn of(release: &Release) -> Self {
        let (before, others) = release.availability.lacking();
        Self { place: before, of: others + 1 }
    }

    /// Whether `block` is in it. The same for all who agree on who wants the blocks; it does not matter much if not.
    fn has(self, block: u32) -> bool {
        u64::from(block) % self.of.max(1) == self.place
    }
}

/// The blocks to ask of `node`, ascending, at most about `room` bytes; none if it has nothing of use.
pub(crate) fn pick(release: &mut Release, node: &NodeId, room: u64, rng: &mut ChaCha8Rng) -> Vec<u32> {
    if release.availability.offer(node).is_none() {
        return Vec::new();
    }
    let start = rng.random_range(0..release.availability.rarity().segment_count());
    let segments = release.availability.useful_segments(node, start, SEGMENTS_COMPARED);
    let Some(offer) = release.availability.offer(node) else { return Vec::new() };
    let share = Share::of(release);
    let mut others = None;
    for segment in &segments {
        let mut mine = offer.lonely(*segment).filter(|block| share.has(*block)).peekable();
        if mine.peek().is_some() {
            return fill(release, mine, room);
        }
        others = others.or_else(|| offer.lonely(*segment).next().map(|_| *segment));
    }
    let rarity = release.availability.rarity();
    // Twice as common counts as more common, less does not: otherwise all nodes would want the same segment.
    let rank = |segment: &u32| (rarity.commonness(*segment).max(1).ilog2(), rng.random::<u32>(), *segment);
    let rarest = || segments.iter().map(rank).min().map(|(_, _, segment)| segment);
    let Some(segment) = others.or_else(rarest) else { return Vec::new() };
    let blocks = offer.blocks(segment);
    let mut blocks: Vec<_> =
        blocks.map(|block| (rarity.holders(block), rng.random::<u32>(), block)).collect();
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
