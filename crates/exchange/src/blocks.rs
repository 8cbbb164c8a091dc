//! The state of every block of one release: the only owner of its transitions. See `STATE.md`.
//!
//! A block is *missing*, *in flight* in one or two transfers, or *held*. Counters per segment and per strip cell
//! are kept with each transition, so that no event costs more than the blocks that it names.

use crate::action::TransferId;
use branchmesh_wire::{BlockSet, Segments, Source, Strip};
use std::collections::BTreeMap;

/// The transfers that a block is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) first: TransferId,
    /// Its copy in the end game.
    pub(crate) second: Option<TransferId>,
}

/// Bytes held, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BytesBySource {
    /// From WAN origins.
    pub wan: u64,
    /// From other nodes of the site.
    pub lan: u64,
    /// Here before.
    pub trimmed: u64,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    blocks: u32,
    wan: u32,
    lan: u32,
    trimmed: u32,
}

pub(crate) struct Blocks {
    segments: Segments,
    held: BlockSet,
    in_flight: BTreeMap<u32, Flight>,
    sources: Vec<Option<Source>>,
    bytes: BytesBySource,
    cells: Vec<Cell>,
}

impl Blocks {
    /// All `held` blocks count as `sources` says (`None`, or no list: trimmed).
    pub(crate) fn new(segments: Segments, held: &BlockSet, sources: &[Option<Source>]) -> Self {
        let count = segments.block_count();
        let mut blocks = Self {
            held: BlockSet::empty(count),
            in_flight: BTreeMap::new(),
            sources: vec![None; count as usize],
            bytes: BytesBySource::default(),
            cells: vec![Cell::default(); Strip::CELLS],
            segments,
        };
        for block in 0..count {
            let cell = blocks.cell_of(block);
            blocks.cells[cell].blocks += 1;
        }
        for block in held.iter() {
            let source = sources.get(block as usize).copied().flatten().unwrap_or(Source::Trimmed);
            blocks.hold(block, source);
        }
        blocks
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    pub(crate) fn held(&self) -> &BlockSet {
        &self.held
    }

    pub(crate) fn count(&self) -> u32 {
        self.held.capacity()
    }

    pub(crate) fn is_missing(&self, block: u32) -> bool {
        block < self.count() && !self.held.contains(block) && !self.in_flight.contains_key(&block)
    }

    /// Neither held nor in flight.
    pub(crate) fn missing_count(&self) -> u32 {
        self.count() - self.held.len() - self.in_flight_count()
    }

    pub(crate) fn in_flight_count(&self) -> u32 {
        u32::try_from(self.in_flight.len()).expect("no more than there are blocks")
    }

    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (u32, Flight)> + '_ {
        self.in_flight.iter().map(|(block, flight)| (*block, *flight))
    }

    /// Encoded length; 0 for a block that does not exist.
    pub(crate) fn length(&self, block: u32) -> u64 {
        self.segments.block_len(block).map_or(0, u64::from)
    }

    pub(crate) fn bytes(&self) -> BytesBySource {
        self.bytes
    }

    /// Where each block came from; nothing for those that are not here.
    pub(crate) fn sources(&self) -> &[Option<Source>] {
        &self.sources
    }

    pub(crate) fn strip(&self) -> Strip {
        let mut strip = Strip::default();
        // With fewer blocks than cells, a cell without a block of its own shows the block that covers it.
        let mut last = None;
        for (at, cell) in self.cells.iter().enumerate() {
            if cell.blocks > 0 {
                last = cell.source();
            }
            strip.set(at, last);
        }
        strip
    }

    /// Missing → in flight.
    pub(crate) fn request(&mut self, block: u32, transfer: TransferId) {
        assert!(self.is_missing(block), "block {block} was requested although it is not missing");
        self.in_flight.insert(block, Flight { first: transfer, second: None });
    }

    /// In flight → in flight twice. Returns false if it is in no flight, or in two already.
    pub(crate) fn double(&mut self, block: u32, transfer: TransferId) -> bool {
        let Some(flight) = self.in_flight.get_mut(&block) else { return false };
        let free = flight.second.is_none();
        if free {
            flight.second = Some(transfer);
        }
        free
    }

    /// Missing or in flight → held. Returns the flight that it was in, and whether it is new.
    pub(crate) fn hold(&mut self, block: u32, source: Source) -> (Option<Flight>, bool) {
        let flight = self.in_flight.remove(&block);
        let new = self.held.insert(block);
        assert!(new || flight.is_none(), "block {block} was held and in flight");
        if new {
            self.sources[block as usize] = Some(source);
            self.account(block, source, true);
        }
        (flight, new)
    }

    /// In flight → missing, or in flight once if another transfer has it too. Returns whether it is missing now.
    pub(crate) fn give_back(&mut self, block: u32, transfer: TransferId) -> bool {
        let Some(flight) = self.in_flight.get_mut(&block) else { return false };
        match (flight.first == transfer, flight.second) {
            (true, Some(second)) => (flight.first, flight.second) = (second, None),
            (true, None) => {
                self.in_flight.remove(&block);
                return true;
            }
            (false, Some(second)) if second == transfer => flight.second = None,
            (false, _) => {}
        }
        false
    }

    /// Held → missing. Returns whether it was held.
    pub(crate) fn lose(&mut self, block: u32) -> bool {
        let lost = self.held.remove(block);
        if lost && let Some(source) = self.sources[block as usize].take() {
            self.account(block, source, false);
        }
        lost
    }

    fn account(&mut self, block: u32, source: Source, gained: bool) {
        let (length, cell) = (self.length(block), self.cell_of(block));
        let cell = &mut self.cells[cell];
        let (bytes, count) = match source {
            Source::Wan => (&mut self.bytes.wan, &mut cell.wan),
            Source::Lan => (&mut self.bytes.lan, &mut cell.lan),
            Source::Trimmed => (&mut self.bytes.trimmed, &mut cell.trimmed),
        };
        if gained {
            (*bytes, *count) = (*bytes + length, *count + 1);
        } else {
            (*bytes, *count) = (*bytes - length, *count - 1);
        }
    }

    fn cell_of(&self, block: u32) -> usize {
        (u64::from(block) * Strip::CELLS as u64 / u64::from(self.count().max(1))) as usize
    }
}

impl Cell {
    /// Where most of it came from; nothing while any of it is missing.
    fn source(self) -> Option<Source> {
        let complete = self.wan + self.lan + self.trimmed == self.blocks;
        let by_count = [(self.wan, Source::Wan), (self.lan, Source::Lan), (self.trimmed, Source::Trimmed)];
        let most = by_count.into_iter().max_by_key(|(count, _)| *count).map(|(_, source)| source);
        most.filter(|_| complete)
    }
}

impl BytesBySource {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.wan + self.lan + self.trimmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TransferId = TransferId(1);
    const TWO: TransferId = TransferId(2);

    fn blocks(count: u32) -> Blocks {
        Blocks::new(Segments::of(vec![10; count as usize]), &BlockSet::empty(count), &[])
    }

    /// The table of STATE.md, walked.
    #[test]
    fn a_block_goes_through_its_states() {
        let mut blocks = blocks(4);
        assert!(blocks.is_missing(0));
        blocks.request(0, ONE);
        assert!(!blocks.is_missing(0) && !blocks.held().contains(0));
        assert!(blocks.double(0, TWO) && !blocks.double(0, TWO));
        assert!(!blocks.give_back(0, ONE), "the copy still flies");
        assert!(!blocks.give_back(0, ONE), "it left already");
        assert!(blocks.give_back(0, TWO));
        assert!(blocks.is_missing(0));

        blocks.request(0, TWO);
        assert_eq!(blocks.hold(0, Source::Lan), (Some(Flight { first: TWO, second: None }), true));
        assert_eq!(blocks.hold(0, Source::Wan), (None, false), "held twice");
        assert_eq!(blocks.bytes(), BytesBySource { lan: 10, ..BytesBySource::default() });
        assert!(!blocks.double(0, ONE) && !blocks.give_back(0, ONE));
        assert!(blocks.lose(0) && !blocks.lose(0));
        assert_eq!(blocks.bytes().total(), 0);
        assert_eq!(blocks.missing_count(), 4);
    }

    #[test]
    fn a_cell_shows_a_source_once_it_is_complete() {
        let mut blocks = blocks(256);
        blocks.hold(0, Source::Wan);
        assert_eq!(blocks.strip().cells().flatten().count(), 0);
        blocks.hold(1, Source::Wan);
        blocks.hold(254, Source::Trimmed);
        blocks.hold(255, Source::Trimmed);
        let cells: Vec<_> = blocks.strip().cells().collect();
        assert_eq!((cells[0], cells[1], cells[127]), (Some(Source::Wan), None, Some(Source::Trimmed)));
    }

    #[test]
    fn few_blocks_fill_the_whole_strip() {
        let mut blocks = blocks(3);
        for block in 0..3 {
            blocks.hold(block, Source::Lan);
        }
        assert_eq!(blocks.strip().cells().flatten().count(), Strip::CELLS);
    }
}
