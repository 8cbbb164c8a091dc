//! Which ranges to ask for: neighbouring blocks of one pack become one request.

use branchmesh_image::{BlockId, Location, PackId};
use std::{collections::VecDeque, ops::Range};

/// A block that is wanted: its index in the release, where it lies, its id.
pub(super) type Wanted = (u32, Location, BlockId);

/// Blocks that lie back to back in one pack, in their order there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) pack: PackId,
    pub(super) blocks: VecDeque<Wanted>,
}

impl Run {
    /// Its bytes in the pack.
    pub(super) fn range(&self) -> Range<u64> {
        let start = self.blocks.front().map_or(0, |(_, location, _)| u64::from(location.offset));
        start..self.blocks.back().map_or(start, |(_, location, _)| end(location))
    }
}

/// A run, and where it can be read.
pub(super) struct Located {
    /// The file.
    pub(super) path: String,
    /// Its first byte there: the same as in the pack, but for excerpts.
    pub(super) start: u64,
    pub(super) run: Run,
}

impl Located {
    /// The byte of the file behind its last one.
    pub(super) fn end(&self) -> u64 {
        let range = self.run.range();
        self.start + (range.end - range.start)
    }
}

/// The runs of all `wanted` blocks. Gaps are never bridged, however small: each byte crosses the WAN. Runs come
/// in the order in which the first of their blocks was wanted.
pub(super) fn runs(wanted: Vec<Wanted>) -> Vec<Run> {
    let mut sorted: Vec<(usize, Wanted)> = wanted.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, (_, location, _))| *location);
    let mut runs: Vec<(usize, Run)> = Vec::new();
    for (rank, block) in sorted {
        let (_, location, _) = &block;
        match runs.last_mut() {
            Some((first, run))
                if run.pack == location.pack && run.range().end == u64::from(location.offset) =>
            {
                *first = rank.min(*first);
                run.blocks.push_back(block);
            }
            _ => runs.push((rank, Run { pack: location.pack, blocks: VecDeque::from([block]) })),
        }
    }
    runs.sort_by_key(|(first, _)| *first);
    runs.into_iter().map(|(_, run)| run).collect()
}

fn end(location: &Location) -> u64 {
    u64::from(location.offset) + u64::from(location.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(index: u32, pack: u8, offset: u32, len: u32) -> Wanted {
        (index, Location { pack: PackId([pack; 32]), offset, len }, BlockId::of(&index.to_le_bytes()))
    }

    fn indices(wanted: Vec<Wanted>) -> Vec<Vec<u32>> {
        runs(wanted).iter().map(|run| run.blocks.iter().map(|(index, ..)| *index).collect()).collect()
    }

    #[test]
    fn only_neighbours_in_one_pack_share_a_request() {
        let wanted = vec![
            block(0, 1, 0, 10),
            block(1, 1, 10, 10),
            block(2, 1, 21, 10),
            block(3, 2, 31, 10),
            block(4, 1, 31, 5),
        ];
        assert_eq!(runs(wanted.clone())[0].range(), 0..20);
        assert_eq!(indices(wanted), vec![vec![0, 1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn the_order_of_wishes_is_the_order_of_requests() {
        let wanted = vec![block(9, 7, 100, 10), block(1, 1, 10, 10), block(8, 7, 90, 10), block(0, 1, 0, 10)];
        assert_eq!(indices(wanted), vec![vec![8, 9], vec![0, 1]]);
        assert_eq!(indices(Vec::new()), Vec::<Vec<u32>>::new());
    }

    #[test]
    fn a_block_that_is_wanted_twice_comes_twice() {
        assert_eq!(indices(vec![block(0, 1, 0, 10), block(5, 1, 0, 10)]), vec![vec![0], vec![5]]);
    }
}
