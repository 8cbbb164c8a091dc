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
    block::BlobRef,
    codec::{self, CodecError},
    hash::PackId,
    path::{self, NameError},
    piece::{IndexPiece, PIECE_PLAIN_MAX},
    segment::Segments,
};
use bincode::{Decode, Encode};
use std::{collections::HashSet, ops::Range};

/// Version of root and piece that this code writes, and the only one that it reads.
pub const INDEX_VERSION: u16 = 1;
/// Most bytes of an index root's plaintext.
pub const ROOT_PLAIN_MAX: usize = 64 << 20;
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

impl Location {
    /// The bytes of the pack that the block takes. Indexes are checked: no block ends beyond the largest pack.
    #[must_use]
    pub fn range(&self) -> Range<u32> {
        self.offset..self.offset.saturating_add(self.len)
    }
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

pub(crate) fn inconsistent(what: impl Into<String>) -> IndexError {
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
pub(crate) mod tests {
    use super::*;
    use crate::hash::{BlockId, PlainHash};
    use proptest::prelude::*;

    pub(crate) fn block(number: u32) -> BlockEntry {
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

    pub(crate) fn root(files: Vec<FileEntry>) -> IndexRoot {
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
