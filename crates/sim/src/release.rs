//! Releases that the origin of the virtual site has.

use branchmesh_wire::{BlockSet, IndexId, Segments};

/// Mean bytes of a block of [`Release::of_blocks`].
pub const BLOCK_BYTES_MEAN: u64 = 64 << 10;

/// The least bytes of one.
const BLOCK_BYTES_MIN: u64 = 16 << 10;
/// More than any has.
pub const BLOCK_BYTES_MAX: u64 = 112 << 10;

/// A release.
pub struct Release {
    /// Its index.
    pub id: IndexId,
    /// Its blocks.
    pub segments: Segments,
    /// For each block, the equal block of the release with this number among those of the world.
    pub(crate) base: Option<(usize, Vec<Option<u32>>)>,
}

impl Release {
    /// One of `blocks` blocks of 16 to 112 KiB.
    #[must_use]
    pub fn of_blocks(name: &str, blocks: u32) -> Self {
        let (least, spread) = (BLOCK_BYTES_MIN as u32, (BLOCK_BYTES_MAX - BLOCK_BYTES_MIN) as u32);
        let lengths = (0..blocks).map(|block| least + block % 9973 * 7919 % spread).collect();
        Self { id: IndexId::of(name.as_bytes()), segments: Segments::of(lengths), base: None }
    }

    /// One of so many bytes, more or less.
    #[must_use]
    pub fn of_bytes(name: &str, bytes: u64) -> Self {
        let blocks = (bytes / BLOCK_BYTES_MEAN).max(1);
        Self::of_blocks(name, u32::try_from(blocks).unwrap_or(u32::MAX))
    }

    /// One that differs from `base`, which has the number `number`, in each `nth` block.
    #[must_use]
    pub fn updating(name: &str, (number, base): (usize, &Self), nth: u32) -> Self {
        let equal = (0..base.segments.block_count()).map(|block| (block % nth != 0).then_some(block));
        Self {
            id: IndexId::of(name.as_bytes()),
            segments: base.segments.clone(),
            base: Some((number, equal.collect())),
        }
    }

    /// Its blocks that are equal to those `held` of its base.
    pub(crate) fn trimmed_by(&self, held: &BlockSet) -> BlockSet {
        let mut trimmed = BlockSet::empty(self.segments.block_count());
        let equal = self.base.iter().flat_map(|(_, equal)| (0u32..).zip(equal));
        for (block, base) in equal {
            if base.is_some_and(|base| held.contains(base)) {
                trimmed.insert(block);
            }
        }
        trimmed
    }

    /// Bytes of a block.
    pub(crate) fn bytes_of(&self, block: u32) -> u64 {
        self.segments.block_len(block).map_or(0, u64::from)
    }
}
