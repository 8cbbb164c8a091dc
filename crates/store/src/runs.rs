//! Runs: the pieces in which the content of blocks is put into files.

use branchmesh_image::{BlockEntry, Extent, Index};

/// Most blocks of a run: as many as a mask has bits. Some 4 MiB, enough that starting with it costs nothing.
const RUN_BLOCKS_MAX: u32 = u64::BITS;

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

/// Some blocks of a run.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// The run's number.
    pub run: usize,
    /// A bit for each of its blocks, the lowest for the first.
    pub blocks: u64,
}

impl Part {
    /// How many blocks it has.
    pub fn count(&self) -> usize {
        self.blocks.count_ones() as usize
    }

    /// Whether it has the `nth` block of its run.
    pub fn has(&self, nth: usize) -> bool {
        self.blocks & (1 << nth) != 0
    }
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
                    offset += run.bytes(index, &Part { run: runs.len(), blocks: run.all() });
                    runs.push(run);
                }
            }
        }
        runs
    }

    /// All its blocks.
    pub fn all(&self) -> u64 {
        u64::MAX >> (u64::BITS - self.count)
    }

    /// The number of its `nth` block in the index.
    pub fn number(&self, nth: usize) -> u32 {
        // It has at most 64.
        self.first + u32::try_from(nth).unwrap_or(0)
    }

    /// The numbers of the blocks in `part`.
    pub fn numbers(&self, part: &Part) -> impl Iterator<Item = u32> {
        (0..self.count as usize).filter(|nth| part.has(*nth)).map(|nth| self.number(nth))
    }

    /// Its blocks.
    pub fn blocks<'a>(&self, index: &'a Index) -> &'a [BlockEntry] {
        &index.blocks()[self.first as usize..(self.first + self.count) as usize]
    }

    /// Those of its blocks that fulfil a condition.
    pub fn mask(&self, index: &Index, condition: impl Fn(&BlockEntry) -> bool) -> u64 {
        let fulfilling = self.blocks(index).iter().enumerate().filter(|(_, block)| condition(block));
        fulfilling.fold(0, |mask, (nth, _)| mask | 1 << nth)
    }

    /// Bytes of the content of those of its blocks that are in `part`.
    pub fn bytes(&self, index: &Index, part: &Part) -> u64 {
        let blocks = self.blocks(index).iter().enumerate().filter(|(nth, _)| part.has(*nth));
        blocks.map(|(_, block)| u64::from(block.blob.plain_len)).sum()
    }
}
