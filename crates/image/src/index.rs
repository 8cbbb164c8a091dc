//! The index of a release: its files, its blocks, and where each block lies in the repository.
//!
//! An index is stored as one *root* (files, and the list of pieces) and many *pieces*, each the table of a run
//! of blocks. Piece boundaries are chosen by the blocks' own hashes, and a piece speaks of nothing outside
//! itself, so that an unchanged run of blocks is the same piece in the next release and is not stored or
//! fetched again (0.1 % of a 30 GB image is 33 MB: too much to send whole for a small change).
//!
//! The block table is columnar: hashes do not compress, lengths and offsets do. Both parts begin with a
//! version; a later version may add columns, for example a second encoding of a block as a delta.

use crate::{
    block::{BLOCK_ENCODED_MAX, BlobRef},
    chunk::BLOCK_PLAIN_MAX,
    codec::{self, CodecError},
    hash::{BlockId, PackId, PlainHash},
    path::{self, NameError},
    segment::Segments,
};
use bincode::{Decode, Encode};
use std::collections::HashSet;

/// Version of root and piece that this code writes, and the only one that it reads.
pub const INDEX_VERSION: u16 = 1;
/// Most bytes of an index root's plaintext.
pub const ROOT_PLAIN_MAX: usize = 64 << 20;
/// Most bytes of an index piece's plaintext: 1024 rows of some 80 bytes.
pub const PIECE_PLAIN_MAX: usize = 128 << 10;
/// Most blocks of a piece.
pub const PIECE_BLOCKS_MAX: usize = 1024;
/// A piece ends after a block whose plaintext hash ends in so many zero bits: 256 blocks, 16 MiB on average.
const PIECE_BOUNDARY_BITS: u32 = 8;
/// Most bytes of a pack.
pub const PACK_MAX: u32 = 32 << 20;

/// Where an encoded block lies in the repository, and at the same place in a node's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// First byte inside the pack.
    pub offset: u32,
    /// Encoded bytes.
    pub len: u32,
}

/// One block of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// How to check and decode it.
    pub blob: BlobRef,
    /// The pack that holds it.
    pub pack: PackId,
    /// First byte inside the pack.
    pub offset: u32,
}

impl BlockEntry {
    /// Where it lies.
    #[must_use]
    pub fn location(&self) -> Location {
        Location { pack: self.pack, offset: self.offset, len: self.blob.encoded_len }
    }
}

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Extent {
    /// So many zero bytes.
    Hole(u64),
    /// `count` blocks of the index from `first` on.
    Blocks {
        /// Index of the first block.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FileEntry {
    /// Relative path, components joined by `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Unix permission bits (lowest nine); ignored where the system has none.
    pub mode: u32,
    /// Its content, in order.
    pub extents: Vec<Extent>,
}

/// The part of an index that names the files and the pieces.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IndexRoot {
    /// [`INDEX_VERSION`].
    pub version: u16,
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// The files.
    pub files: Vec<FileEntry>,
    /// The pieces, in order.
    pub pieces: Vec<BlobRef>,
}

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

/// A whole index: valid, all its blocks known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    root: IndexRoot,
    blocks: Vec<BlockEntry>,
}

/// Why bytes are not an index. All of these mean a publisher's mistake or an unknown version: what reaches the
/// decoder has already been checked against signed hashes.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not decodable.
    #[error("the index is malformed")]
    Codec(#[from] CodecError),
    /// Made by another version.
    #[error("the index has format version {0}, this branchmesh reads version {INDEX_VERSION}; update it")]
    Version(u16),
    /// Decodable, but it contradicts itself.
    #[error("the index contradicts itself: {0}")]
    Inconsistent(String),
    /// A file or the release has a name that cannot be used.
    #[error("the index holds a name that is not allowed")]
    Name(#[from] NameError),
}

fn inconsistent(what: impl Into<String>) -> IndexError {
    IndexError::Inconsistent(what.into())
}

impl IndexRoot {
    /// The plaintext that is encoded and stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads and checks what can be checked without the pieces.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        let root: Self = codec::decode::<_, ROOT_PLAIN_MAX>(bytes)?;
        if root.version != INDEX_VERSION {
            return Err(IndexError::Version(root.version));
        }
        path::check_name(&root.image)?;
        path::check_name(&root.release)?;
        let mut seen = HashSet::new();
        for file in &root.files {
            path::check_path(&file.path)?;
            // Windows and macOS fold case: two such files would overwrite each other.
            if !seen.insert(file.path.to_lowercase()) {
                return Err(inconsistent(format!("the file {:?} is listed twice", file.path)));
            }
        }
        if let Some(piece) = root.pieces.iter().find(|piece| piece.plain_len as usize > PIECE_PLAIN_MAX) {
            return Err(inconsistent(format!("piece {} is larger than {PIECE_PLAIN_MAX} bytes", piece.id)));
        }
        Ok(root)
    }
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

    /// Cuts all blocks of a release into pieces, at boundaries that the blocks themselves choose.
    pub fn cut(blocks: &[BlockEntry]) -> impl Iterator<Item = Self> {
        let mut rest = blocks;
        std::iter::from_fn(move || {
            let ends_piece = |block: &BlockEntry| {
                let tail = u32::from_le_bytes(*block.blob.plain.0.last_chunk().expect("a hash has 32 bytes"));
                tail.trailing_zeros() >= PIECE_BOUNDARY_BITS
            };
            let boundary = rest.iter().position(ends_piece).map_or(rest.len(), |at| at + 1);
            let (piece, after) = rest.split_at(boundary.min(PIECE_BLOCKS_MAX));
            rest = after;
            (!piece.is_empty()).then(|| Self::of(piece))
        })
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

    fn entries(&self) -> impl Iterator<Item = BlockEntry> + '_ {
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

impl Index {
    /// Puts root and pieces together and checks that each file is exactly as long as it says.
    pub fn assemble(root: IndexRoot, pieces: &[IndexPiece]) -> Result<Self, IndexError> {
        let blocks: Vec<BlockEntry> = pieces.iter().flat_map(IndexPiece::entries).collect();
        if u32::try_from(blocks.len()).is_err() {
            return Err(inconsistent("it has more than 2^32 blocks"));
        }
        let index = Self { root, blocks };
        for file in &index.root.files {
            let size = index.extents_size(file).ok_or_else(|| {
                inconsistent(format!("the file {:?} uses blocks that do not exist", file.path))
            })?;
            if size != file.size {
                return Err(inconsistent(format!(
                    "the extents of {:?} do not add up to its size",
                    file.path
                )));
            }
        }
        Ok(index)
    }

    fn extents_size(&self, file: &FileEntry) -> Option<u64> {
        file.extents.iter().try_fold(0u64, |size, extent| {
            let length = match extent {
                Extent::Hole(length) => *length,
                Extent::Blocks { first, count } => {
                    let blocks = self.blocks.get(*first as usize..first.checked_add(*count)? as usize)?;
                    blocks.iter().map(|block| u64::from(block.blob.plain_len)).sum()
                }
            };
            size.checked_add(length)
        })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &IndexRoot {
        &self.root
    }

    /// All blocks, each once, in the order of their first use.
    #[must_use]
    pub fn blocks(&self) -> &[BlockEntry] {
        &self.blocks
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.root.files
    }

    /// Its segments.
    #[must_use]
    pub fn segments(&self) -> Segments {
        Segments::of(self.blocks.iter().map(|block| block.blob.encoded_len).collect())
    }

    /// Encoded bytes of all blocks.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.blob.encoded_len)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(number: u32) -> BlockEntry {
        let name = number.to_le_bytes();
        BlockEntry {
            blob: BlobRef {
                id: BlockId::of(&name),
                plain: PlainHash::of(&name),
                encoded_len: 1000 + number % 1000,
                plain_len: 2000 + number % 1000,
            },
            pack: PackId::of(&(number / 900).to_le_bytes()),
            offset: (number % 900) * 2000,
        }
    }

    fn root(files: Vec<FileEntry>) -> IndexRoot {
        IndexRoot {
            version: INDEX_VERSION,
            image: "xp".into(),
            release: "7".into(),
            files,
            pieces: Vec::new(),
        }
    }

    fn file(path: &str, size: u64, extents: Vec<Extent>) -> FileEntry {
        FileEntry { path: path.into(), size, mode: 0o644, extents }
    }

    #[test]
    fn pieces_hold_all_blocks_in_order_and_an_insertion_changes_few_of_them() {
        let blocks: Vec<BlockEntry> = (0..20_000).map(block).collect();
        let pieces: Vec<IndexPiece> = IndexPiece::cut(&blocks).collect();
        assert!((40..200).contains(&pieces.len()), "{} pieces", pieces.len());
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
    fn a_root_that_contradicts_itself_is_refused() {
        let pieces = [IndexPiece::of(&[block(0), block(1)])];
        let whole = || vec![Extent::Hole(10), Extent::Blocks { first: 0, count: 2 }];
        let good = root(vec![file("disk.img", 4011, whole())]);
        assert!(Index::assemble(IndexRoot::from_bytes(&good.to_bytes()).unwrap(), &pieces).is_ok());

        let wrong_size = root(vec![file("disk.img", 4012, whole())]);
        assert!(Index::assemble(wrong_size, &pieces).is_err());
        for extent in [
            Extent::Blocks { first: 1, count: 2 },
            Extent::Blocks { first: u32::MAX, count: 2 },
            Extent::Hole(u64::MAX),
        ] {
            let mut extents = whole();
            extents.push(extent);
            assert!(Index::assemble(root(vec![file("disk.img", 4011, extents)]), &pieces).is_err());
        }
        for files in [
            vec![file("../evil", 0, Vec::new())],
            vec![file("Disk", 0, Vec::new()), file("disk", 0, Vec::new())],
        ] {
            assert!(IndexRoot::from_bytes(&root(files).to_bytes()).is_err());
        }
        let future = IndexRoot { version: 2, ..good };
        assert!(matches!(IndexRoot::from_bytes(&future.to_bytes()), Err(IndexError::Version(2))));
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

    proptest! {
        #[test]
        fn decoding_hostile_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let _ = IndexRoot::from_bytes(&bytes);
            let _ = IndexPiece::from_bytes(&bytes);
        }

        #[test]
        fn a_mutated_index_is_refused_or_consistent(at: usize, value: u8) {
            let pieces = [IndexPiece::of(&(0..50).map(block).collect::<Vec<_>>())];
            let size = (0..50).map(|n| u64::from(block(n).blob.plain_len)).sum();
            let good = root(vec![file("disk.img", size, vec![Extent::Blocks { first: 0, count: 50 }])]);
            let mut bytes = good.to_bytes();
            let position = at % bytes.len();
            bytes[position] = value;
            if let Ok(root) = IndexRoot::from_bytes(&bytes) {
                let _ = Index::assemble(root, &pieces);
            }
            let mut bytes = pieces[0].to_bytes();
            let position = at % bytes.len();
            bytes[position] = value;
            if let Ok(piece) = IndexPiece::from_bytes(&bytes) {
                let _ = Index::assemble(good, &[piece]);
            }
        }
    }
}
