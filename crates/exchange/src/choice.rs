//! Which blocks are asked of which neighbour.
//!
//! Rarest segment first, random ties; inside a segment the rarest blocks first, random ties again: when a new block
//! has one holder and many want it, each of them takes another one first, and soon they have something to trade.

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

/// The blocks to ask of `node`, ascending, at most about `room` bytes; none if it has nothing of use.
pub(crate) fn pick(release: &Release, node: &NodeId, room: u64, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let availability = &release.availability;
    if !availability.is_useful(node) {
        return Vec::new();
    }
    let start = rng.random_range(0..availability.segment_count());
    let sample = availability.useful_segments(node, start).take(SEGMENTS_COMPARED);
    // Twice as common counts as more common, less does not: otherwise all nodes would want the same segment.
    let rarest =
        sample.min_by_key(|segment| (availability.commonness(*segment).max(1).ilog2(), rng.random::<u32>()));
    let Some(segment) = rarest else { return Vec::new() };

    let blocks = availability.useful_blocks(node, segment);
    let mut blocks: Vec<_> =
        blocks.map(|block| (availability.holders(block), rng.random::<u32>(), block)).collect();
    blocks.sort_unstable();
    let mut picked = Vec::new();
    let mut bytes = 0;
    for (_, _, block) in blocks.into_iter().take(REQUEST_BLOCKS_MAX as usize) {
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
        let From::Neighbour(source) = transfer.from else { return None };
        let age = now.since(transfer.issued);
        let sooner = neighbour.time_for(ENDGAME_BYTES) * ENDGAME_FACTOR < expected(&source).max(age);
        (source != *node && age >= after && sooner).then_some(age)
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
