//! A piece of an index: the table of a run of blocks.
//!
//! Pieces end where the blocks' own hashes say so, and speak of nothing outside themselves: an unchanged run of
//! blocks is the same piece in the next release.

use crate::{
    block::{BLOCK_ENCODED_MAX, BlobRef},
    chunk::BLOCK_PLAIN_MAX,
    codec,
    hash::{BlockId, PackId, PlainHash},
    index::{BlockEntry, INDEX_VERSION, IndexError, PACK_MAX, inconsistent},
};
use bincode::{Decode, Encode};

/// Most bytes of an index piece's plaintext: 1024 rows of some 80 bytes.
pub const PIECE_PLAIN_MAX: usize = 128 << 10;
/// Most blocks of a piece.
pub const PIECE_BLOCKS_MAX: usize = 1024;
/// A piece ends after a block whose plaintext hash ends in so many zero bits: 64 blocks on average. Smaller ones share
/// more with the next release, larger ones take fewer requests (docs/decisions/0001).
const PIECE_BOUNDARY_BITS: u32 = 6;

/// The table of a run of blocks, by columns of equal length.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IndexPiece {
    version: u16,
    packs: Vec<PackId>,
    ids: Vec<BlockId>,
    plains: Vec<PlainHash>,
    plain_lens: Vec<u32>,
    encoded_lens: Vec<u32>,
    /// Which of `packs`.
    pack_numbers: Vec<u16>,
    offsets: Vec<u32>,
}

/// Cuts the blocks of a release into pieces while they come, at boundaries that the blocks themselves choose.
#[derive(Debug, Default)]
pub struct PieceCutter {
    blocks: Vec<BlockEntry>,
}

impl IndexPiece {
    /// The table of `blocks`, at most [`PIECE_BLOCKS_MAX`].
    ///
    /// # Panics
    /// If there are more blocks than that.
    #[must_use]
    pub fn of(blocks: &[BlockEntry]) -> Self {
        assert!(blocks.len() <= PIECE_BLOCKS_MAX, "a piece of {} blocks", blocks.len());
        let mut packs: Vec<PackId> = Vec::new();
        let mut pack_numbers = Vec::with_capacity(blocks.len());
        for block in blocks {
            let number = packs.iter().position(|pack| *pack == block.pack).unwrap_or_else(|| {
                packs.push(block.pack);
                packs.len() - 1
            });
            pack_numbers.push(u16::try_from(number).expect("a piece has at most as many packs as blocks"));
        }
        Self {
            version: INDEX_VERSION,
            packs,
            ids: blocks.iter().map(|block| block.blob.id).collect(),
            plains: blocks.iter().map(|block| block.blob.plain).collect(),
            plain_lens: blocks.iter().map(|block| block.blob.plain_len).collect(),
            encoded_lens: blocks.iter().map(|block| block.blob.encoded_len).collect(),
            pack_numbers,
            offsets: blocks.iter().map(|block| block.offset).collect(),
        }
    }

    /// Cuts all blocks of a release into pieces, as [`PieceCutter`] does.
    pub fn cut(blocks: &[BlockEntry]) -> impl Iterator<Item = Self> {
        let mut cutter = PieceCutter::default();
        let mut blocks = blocks.iter();
        std::iter::from_fn(move || blocks.find_map(|block| cutter.push(*block)).or_else(|| cutter.finish()))
    }

    /// How many blocks it lists.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.ids.len()
    }

    /// The plaintext that is encoded and stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads and checks a piece.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        let piece: Self = codec::decode::<_, { 2 * PIECE_PLAIN_MAX }>(bytes)?;
        if piece.version != INDEX_VERSION {
            return Err(IndexError::Version(piece.version));
        }
        let rows = piece.ids.len();
        let columns = [
            piece.plains.len(),
            piece.plain_lens.len(),
            piece.encoded_lens.len(),
            piece.pack_numbers.len(),
            piece.offsets.len(),
        ];
        if rows == 0 || rows > PIECE_BLOCKS_MAX || columns.iter().any(|column| *column != rows) {
            return Err(inconsistent("a piece's columns differ in length, or it has too many rows, or none"));
        }
        for row in 0..rows {
            piece.check_row(row)?;
        }
        Ok(piece)
    }

    fn check_row(&self, row: usize) -> Result<(), IndexError> {
        let (plain, encoded) = (self.plain_lens[row] as usize, self.encoded_lens[row]);
        if plain == 0 || plain > BLOCK_PLAIN_MAX || encoded == 0 || encoded as usize > BLOCK_ENCODED_MAX {
            return Err(inconsistent(format!("block {} has an impossible length", self.ids[row])));
        }
        if self.offsets[row].checked_add(encoded).is_none_or(|end| end > PACK_MAX) {
            return Err(inconsistent(format!("block {} lies beyond the end of its pack", self.ids[row])));
        }
        if usize::from(self.pack_numbers[row]) >= self.packs.len() {
            return Err(inconsistent(format!("block {} lies in a pack that is not named", self.ids[row])));
        }
        Ok(())
    }

    /// Its blocks, in order.
    pub fn entries(&self) -> impl Iterator<Item = BlockEntry> + '_ {
        (0..self.ids.len()).map(|row| BlockEntry {
            blob: BlobRef {
                id: self.ids[row],
                plain: self.plains[row],
                encoded_len: self.encoded_lens[row],
                plain_len: self.plain_lens[row],
            },
            pack: self.packs[usize::from(self.pack_numbers[row])],
            offset: self.offsets[row],
        })
    }
}

impl PieceCutter {
    /// Takes the next block; gives the piece that it completes.
    pub fn push(&mut self, block: BlockEntry) -> Option<IndexPiece> {
        self.blocks.push(block);
        let tail = u32::from_le_bytes(*block.blob.plain.0.last_chunk().expect("a hash has 32 bytes"));
        let is_boundary = tail.trailing_zeros() >= PIECE_BOUNDARY_BITS;
        if is_boundary || self.blocks.len() >= PIECE_BLOCKS_MAX { self.finish() } else { None }
    }

    /// The piece of the blocks that are left; `None` if there are none.
    pub fn finish(&mut self) -> Option<IndexPiece> {
        let piece = (!self.blocks.is_empty()).then(|| IndexPiece::of(&self.blocks));
        self.blocks.clear();
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{
        Index,
        tests::{block, root},
    };

    #[test]
    fn pieces_hold_all_blocks_in_order_and_an_insertion_changes_few_of_them() {
        let blocks: Vec<BlockEntry> = (0..20_000).map(block).collect();
        let pieces: Vec<IndexPiece> = IndexPiece::cut(&blocks).collect();
        assert!((160..800).contains(&pieces.len()), "{} pieces", pieces.len());
        for piece in &pieces {
            let bytes = piece.to_bytes();
            assert!(bytes.len() <= PIECE_PLAIN_MAX);
            assert_eq!(&IndexPiece::from_bytes(&bytes).unwrap(), piece);
        }
        let index = Index::assemble(root(Vec::new()), &pieces).unwrap();
        assert_eq!(index.blocks(), blocks);

        let mut longer = blocks;
        longer.insert(5000, block(77_777));
        let changed = IndexPiece::cut(&longer).filter(|piece| !pieces.contains(piece)).count();
        assert!((1..=2).contains(&changed), "{changed} pieces changed");
    }

    #[test]
    fn a_piece_that_contradicts_itself_is_refused() {
        type Spoil = fn(&mut IndexPiece);
        let spoilers: [Spoil; 6] = [
            |piece| piece.ids.truncate(1),
            |piece| piece.offsets[0] = PACK_MAX,
            |piece| piece.pack_numbers[0] = 9,
            |piece| piece.encoded_lens[0] = u32::MAX,
            |piece| piece.plain_lens[0] = 0,
            |piece| piece.version = 9,
        ];
        for (number, spoil) in spoilers.iter().enumerate() {
            let mut piece = IndexPiece::of(&[block(0), block(1)]);
            spoil(&mut piece);
            assert!(IndexPiece::from_bytes(&piece.to_bytes()).is_err(), "spoiler {number}");
        }
    }
}
