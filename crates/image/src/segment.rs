//! Segments: runs of consecutive blocks, about 4 MiB encoded; the unit of work, leases and progress.
//!
//! Segments are never stored: every node computes the same ones from the lengths in the index.

use std::ops::Range;

/// Encoded bytes after which a segment ends.
pub const SEGMENT_TARGET_BYTES: u64 = 4 << 20;
/// Most blocks of a segment, so that a segment of tiny blocks is not too many requests.
pub const SEGMENT_BLOCKS_MAX: u32 = 1024;

/// A run of consecutive blocks of one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Block indices.
    pub blocks: Range<u32>,
    /// Encoded bytes of all its blocks.
    pub bytes: u64,
}

/// How an index is cut into segments, with the encoded length of each block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    lengths: Vec<u32>,
    segments: Vec<Segment>,
    bytes: u64,
}

impl Segments {
    /// Cuts blocks with these encoded lengths, in index order.
    #[must_use]
    pub fn of(lengths: Vec<u32>) -> Self {
        let mut segments = Vec::new();
        let (mut first, mut bytes) = (0, 0);
        for (index, length) in (0u32..).zip(&lengths) {
            bytes += u64::from(*length);
            if bytes >= SEGMENT_TARGET_BYTES || index + 1 - first >= SEGMENT_BLOCKS_MAX {
                segments.push(Segment { blocks: first..index + 1, bytes });
                (first, bytes) = (index + 1, 0);
            }
        }
        let count = u32::try_from(lengths.len()).expect("an index has at most 2^32 blocks");
        if first < count {
            segments.push(Segment { blocks: first..count, bytes });
        }
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Self { lengths, segments, bytes }
    }

    /// How many blocks there are.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        self.segments.last().map_or(0, |segment| segment.blocks.end)
    }

    /// Encoded bytes of all blocks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Encoded length of a block; `None` if there is no such block.
    #[must_use]
    pub fn block_len(&self, block: u32) -> Option<u32> {
        self.lengths.get(block as usize).copied()
    }

    /// All segments, in order.
    #[must_use]
    pub fn all(&self) -> &[Segment] {
        &self.segments
    }

    /// The segment that holds `block`; `None` if there is no such block.
    #[must_use]
    pub fn containing(&self, block: u32) -> Option<usize> {
        let at = self.segments.partition_point(|segment| segment.blocks.end <= block);
        (at < self.segments.len()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_each_block_once() {
        let lengths: Vec<u32> = (0..5000).map(|n| (n * 7919) % 200_000).collect();
        let segments = Segments::of(lengths.clone());
        let mut next = 0;
        for (at, segment) in segments.all().iter().enumerate() {
            assert_eq!(segment.blocks.start, next);
            assert!(!segment.blocks.is_empty() && segment.blocks.len() <= SEGMENT_BLOCKS_MAX as usize);
            let bytes: u64 = segment.blocks.clone().map(|block| u64::from(lengths[block as usize])).sum();
            assert_eq!(segment.bytes, bytes);
            assert_eq!(segments.containing(segment.blocks.start), Some(at));
            assert_eq!(segments.containing(segment.blocks.end - 1), Some(at));
            next = segment.blocks.end;
        }
        assert_eq!(next, 5000);
        assert_eq!(segments.containing(5000), None);
        assert_eq!(segments.bytes(), lengths.iter().map(|length| u64::from(*length)).sum::<u64>());
    }

    #[test]
    fn nothing_has_no_segments() {
        let none = Segments::of(Vec::new());
        assert_eq!((none.block_count(), none.bytes(), none.all().len()), (0, 0, 0));
    }
}
