//! Reading a release's index: its root, then its pieces, from wherever they may be had.

use crate::{
    catalog::CatalogEntry,
    source::{PartSource, SourceError},
};
use branchmesh_image::{
    BlobRef, BlockError, BlockId, Cipher, Decoder, Index, IndexError, IndexId, IndexPiece, IndexRoot,
    VerifiedBlock, index::ROOT_PLAIN_MAX,
};
use futures::{Stream, StreamExt, stream};

/// Most blocks of an index that is read: 256 GiB at the average block size. Bounds the memory of the block table
/// at some 450 MiB.
pub const INDEX_BLOCKS_MAX: usize = 4 << 20;

/// Pieces that are fetched at once: some 5 KB each, often behind a line with a long round trip. Half of what a
/// node may ask of another one at a time.
const PIECES_IN_FLIGHT: usize = 16;

/// Why an index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadIndexError {
    /// A part cannot be had.
    #[error("a part of the index cannot be fetched")]
    Source(#[from] SourceError),
    /// The source gave another part than it was asked for.
    #[error("the part {found} of the index came instead of {expected}")]
    WrongPart {
        /// What was asked for.
        expected: BlockId,
        /// What came.
        found: BlockId,
    },
    /// A part does not open or decode: the wrong group key, or a publisher's mistake.
    #[error("a part of the index cannot be decoded")]
    Block(#[from] BlockError),
    /// Its content makes no sense.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A publisher signed the index of one release as that of another.
    #[error(
        "it is the index of {found}, signed as that of {expected}: the publisher's mistake; publish it again"
    )]
    OtherRelease {
        /// What is signed.
        expected: String,
        /// What the index says.
        found: String,
    },
    /// It is larger than an index can be.
    #[error("the index is larger than this branchmesh reads: {0}")]
    TooLarge(String),
}

/// Reads the index of the release that `entry` describes.
pub async fn load_release(
    entry: &CatalogEntry,
    cipher: Cipher,
    parts: &dyn PartSource,
) -> Result<Index, LoadIndexError> {
    let index = load_index(&entry.root, cipher, parts).await?;
    let IndexRoot { image, release, .. } = index.root();
    if *image != entry.image || *release != entry.release {
        let found = format!("{image}@{release}");
        return Err(LoadIndexError::OtherRelease { expected: entry.name(), found });
    }
    Ok(index)
}

/// Reads the index whose root is `root`. Memory is bounded by the limits of an index, whatever the parts say.
pub async fn load_index(
    root: &BlobRef,
    cipher: Cipher,
    parts: &dyn PartSource,
) -> Result<Index, LoadIndexError> {
    let mut decoder = Decoder::new(cipher)?;
    let index = load_root(root, &mut decoder, parts).await?;
    let mut count = 0;
    let mut loaded = Vec::new();
    let mut arriving = Box::pin(pieces(IndexId(root.id.0), index.pieces.clone(), parts));
    while let Some((blob, block)) = arriving.next().await {
        let piece = decode_piece(&blob, &block?, &mut decoder)?;
        count += piece.block_count();
        if count > INDEX_BLOCKS_MAX {
            return Err(LoadIndexError::TooLarge(format!("it has more than {INDEX_BLOCKS_MAX} blocks")));
        }
        loaded.push(piece);
    }
    drop(arriving);
    Ok(Index::assemble(index, &loaded)?)
}

/// Reads the root of an index.
pub(crate) async fn load_root(
    root: &BlobRef,
    decoder: &mut Decoder,
    parts: &dyn PartSource,
) -> Result<IndexRoot, LoadIndexError> {
    if root.plain_len as usize > ROOT_PLAIN_MAX {
        return Err(LoadIndexError::TooLarge(format!("its root has {} bytes", root.plain_len)));
    }
    let bytes = decoder.decode(root, &part(parts, IndexId(root.id.0), root).await?)?;
    Ok(IndexRoot::from_bytes(&bytes)?)
}

/// Fetches pieces of the index of `release`: in order, some at once, each on its own.
pub(crate) fn pieces(
    release: IndexId,
    wanted: Vec<BlobRef>,
    parts: &dyn PartSource,
) -> impl Stream<Item = (BlobRef, Result<VerifiedBlock, LoadIndexError>)> + Send {
    stream::iter(wanted)
        .map(move |blob| async move { (blob, part(parts, release, &blob).await) })
        .buffered(PIECES_IN_FLIGHT)
}

/// The piece that `block` is.
pub(crate) fn decode_piece(
    blob: &BlobRef,
    block: &VerifiedBlock,
    decoder: &mut Decoder,
) -> Result<IndexPiece, LoadIndexError> {
    Ok(IndexPiece::from_bytes(&decoder.decode(blob, block)?)?)
}

/// A part that is the one that was asked for. Its bytes are proved; that they are *these* bytes is checked here.
async fn part(
    parts: &dyn PartSource,
    release: IndexId,
    blob: &BlobRef,
) -> Result<VerifiedBlock, LoadIndexError> {
    let block = parts.part(release, blob).await?;
    if *block.id() != blob.id {
        return Err(LoadIndexError::WrongPart { expected: blob.id, found: *block.id() });
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use branchmesh_image::{BlockEntry, Encoder, PackId, PlainHash, index::INDEX_VERSION};
    use std::collections::HashMap;

    /// Parts in memory, found by the id that is asked for, whatever they are.
    #[derive(Default)]
    struct Parts(HashMap<BlockId, VerifiedBlock>);

    #[async_trait]
    impl PartSource for Parts {
        async fn part(&self, _: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError> {
            self.0.get(&blob.id).cloned().ok_or_else(|| SourceError::Members("nobody has it".into()))
        }
    }

    fn block(number: u32) -> BlockEntry {
        let name = number.to_le_bytes();
        let (id, plain) = (BlockId::of(&name), PlainHash::of(&name));
        let blob = BlobRef { id, plain, encoded_len: 10, plain_len: 20 };
        BlockEntry { blob, pack: PackId::of(b"pack"), offset: number * 10 }
    }

    /// An index of `blocks`, encoded, and its root.
    fn index(blocks: &[BlockEntry]) -> (BlobRef, Parts) {
        let mut encoder = Encoder::new(1, Cipher::None).unwrap();
        let mut parts = Parts::default();
        let mut encode = |bytes: &[u8]| {
            let (blob, block) = encoder.encode(bytes).unwrap();
            parts.0.insert(blob.id, block);
            blob
        };
        let pieces = IndexPiece::cut(blocks).map(|piece| encode(&piece.to_bytes())).collect();
        let (image, release, files) = ("xp".into(), "1".into(), Vec::new());
        let root = IndexRoot { version: INDEX_VERSION, image, release, files, pieces };
        let root = encode(&root.to_bytes());
        (root, parts)
    }

    #[tokio::test]
    async fn many_pieces_come_back_in_order() {
        let blocks: Vec<BlockEntry> = (0..20_000).map(block).collect();
        let (root, parts) = index(&blocks);
        assert!(parts.0.len() > 20);
        let index = load_index(&root, Cipher::None, &parts).await.unwrap();
        assert_eq!(index.blocks(), blocks);
    }

    #[tokio::test]
    async fn a_part_that_is_missing_or_another_one_is_not_an_index() {
        let (root, mut parts) = index(&[block(1), block(2)]);
        let piece = *parts.0.keys().find(|id| **id != root.id).unwrap();
        let other = VerifiedBlock::verify(&BlockId::of(b"other"), &b"other"[..]).unwrap();
        parts.0.insert(piece, other);
        let refused = load_index(&root, Cipher::None, &parts).await;
        assert!(matches!(refused, Err(LoadIndexError::WrongPart { expected, .. }) if expected == piece));
        parts.0.remove(&piece);
        let refused = load_index(&root, Cipher::None, &parts).await;
        assert!(matches!(refused, Err(LoadIndexError::Source(_))));
    }

    #[tokio::test]
    async fn the_index_of_another_release_is_refused_however_well_it_is_signed() {
        let (root, parts) = index(&[block(1)]);
        let described =
            |image, release| CatalogEntry { root, ..crate::catalog::tests::entry(image, release, 1, &[]) };
        assert!(load_release(&described("xp", "1"), Cipher::None, &parts).await.is_ok());
        for (image, release) in [("xp", "2"), ("win", "1")] {
            let refused = load_release(&described(image, release), Cipher::None, &parts).await;
            assert!(matches!(refused, Err(LoadIndexError::OtherRelease { .. })), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_root_that_cannot_be_one_is_not_even_fetched() {
        let (root, _) = index(&[block(1)]);
        let huge = BlobRef { plain_len: u32::MAX, ..root };
        let refused = load_index(&huge, Cipher::None, &Parts::default()).await;
        assert!(matches!(refused, Err(LoadIndexError::TooLarge(_))));
    }
}
