//! Reading a release's index: its root, then its pieces, from wherever they may be had.

use crate::source::{PartSource, SourceError};
use branchmesh_image::{
    BlobRef, BlockError, BlockId, Cipher, Decoder, Index, IndexError, IndexId, IndexPiece, IndexRoot,
    VerifiedBlock, index::ROOT_PLAIN_MAX,
};
use futures::{StreamExt, TryStreamExt, stream};

/// Most blocks of an index that is read: 256 GiB at the average block size. Bounds the memory of the block table
/// at some 450 MiB.
pub const INDEX_BLOCKS_MAX: usize = 4 << 20;

/// Pieces that are fetched at once: small files behind a line with a long round trip.
const PIECES_IN_FLIGHT: usize = 8;

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
    /// It is larger than an index can be.
    #[error("the index is larger than this branchmesh reads: {0}")]
    TooLarge(String),
}

/// Reads the index whose root is `root`. Memory is bounded by the limits of an index, whatever the parts say.
pub async fn load_index(
    root: &BlobRef,
    cipher: Cipher,
    parts: &dyn PartSource,
) -> Result<Index, LoadIndexError> {
    if root.plain_len as usize > ROOT_PLAIN_MAX {
        return Err(LoadIndexError::TooLarge(format!("its root has {} bytes", root.plain_len)));
    }
    let release = IndexId(root.id.0);
    let mut decoder = Decoder::new(cipher)?;
    let bytes = decoder.decode(root, &part(parts, release, root).await?)?;
    let index = IndexRoot::from_bytes(&bytes)?;

    let mut blocks = 0;
    let mut pieces = Vec::new();
    let mut arriving = stream::iter(index.pieces.clone())
        .map(|blob| async move { Ok::<_, LoadIndexError>((blob, part(parts, release, &blob).await?)) })
        .buffered(PIECES_IN_FLIGHT);
    while let Some((blob, block)) = arriving.try_next().await? {
        let piece = IndexPiece::from_bytes(&decoder.decode(&blob, &block)?)?;
        blocks += piece.block_count();
        if blocks > INDEX_BLOCKS_MAX {
            return Err(LoadIndexError::TooLarge(format!("it has more than {INDEX_BLOCKS_MAX} blocks")));
        }
        pieces.push(piece);
    }
    drop(arriving);
    Ok(Index::assemble(index, &pieces)?)
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
