//! Runs: the pieces in which the content of blocks is put into files.

use branchmesh_image::{BlockEntry, Extent, Index};
use std::ops::Range;

/// Most blocks of a run: some 4 MiB, little enough to be here completely soon after its first block, and enough that
/// starting with it costs nothing.
const RUN_BLOCKS_MAX: u32 = 64;

/// Some blocks in a row, and where their content belongs.
pub(crate) struct Run {
    /// The file's number in the index.
    pub file: usize,
    /// Where the content of the first block begins in the file.
    pub offset: u64,
    /// The first block's number in the index.
    first: u32,
    count: u32,
}

impl Run {
    /// The index's blocks in runs, in the order of the files' content. An index that was put together by
    /// `Index::assemble` has all blocks that its files name.
    pub fn of(index: &Index) -> Vec<Self> {
        let mut runs = Vec::new();
        for (file, entry) in index.files().iter().enumerate() {
            let mut offset = 0;
            for extent in &entry.extents {
                let (mut first, end) = match extent {
                    Extent::Hole(length) => {
                        offset += length;
                        continue;
                    }
                    Extent::Blocks { first, count } => (*first, first + count),
                };
                while first < end {
                    let run = Self { file, offset, first, count: RUN_BLOCKS_MAX.min(end - first) };
                    first += run.count;
                    offset += run.bytes(index);
                    runs.push(run);
                }
            }
        }
        runs
    }

    /// Its blocks' numbers in the index.
    pub fn numbers(&self) -> Range<u32> {
        self.first..self.first + self.count
    }

    /// Its blocks.
    pub fn blocks<'a>(&self, index: &'a Index) -> &'a [BlockEntry] {
        &index.blocks()[self.first as usize..(self.first + self.count) as usize]
    }

    /// Bytes of its content.
    pub fn bytes(&self, index: &Index) -> u64 {
        self.blocks(index).iter().map(|block| u64::from(block.blob.plain_len)).sum()
    }
}
