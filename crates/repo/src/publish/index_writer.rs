//! Writing an index while its blocks come: a piece as soon as it is complete, the root at the end.

use super::PublishError;
use crate::{
    layout,
    place::{Place, PlaceError},
};
use branchmesh_image::{
    BlobRef, BlockEntry, BlockError, BlockId, Cipher, Encoder, IndexPiece, IndexRoot, PieceCutter,
    VerifiedBlock, block::ZSTD_LEVEL_DEFAULT, index::ROOT_PLAIN_MAX,
};
use std::collections::HashSet;
use tokio::task::JoinSet;

/// Parts that are written at once: small files, each of which waits for a disk or a line.
const PARTS_IN_FLIGHT: usize = 8;

/// Takes the blocks of a release in their order and writes the parts of its index that the repository lacks.
/// Of the blocks it keeps those of the piece at hand.
pub(super) struct IndexWriter {
    place: Place,
    encoder: Encoder,
    /// Pieces that need not be written.
    there: HashSet<BlockId>,
    cutter: PieceCutter,
    pieces: Vec<BlobRef>,
    /// Each gives the path that it brought into the repository, `None` if it was there in some form.
    writing: JoinSet<Result<Option<String>, PlaceError>>,
    created: Vec<String>,
    new_bytes: u64,
    blocks: u64,
    encoded_bytes: u64,
}

/// An index that is in the repository.
pub(super) struct WrittenIndex {
    pub(super) root: BlobRef,
    pub(super) root_block: VerifiedBlock,
    /// Blocks of the release, and their encoded bytes.
    pub(super) blocks: u64,
    pub(super) encoded_bytes: u64,
    /// Bytes of the parts that were not there before.
    pub(super) new_bytes: u64,
}

impl IndexWriter {
    pub(super) fn new(place: &Place, cipher: &Cipher, there: HashSet<BlockId>) -> Result<Self, BlockError> {
        Ok(Self {
            place: place.clone(),
            // Always the same level: a piece that did not change must be the same bytes as in the release before.
            encoder: Encoder::new(ZSTD_LEVEL_DEFAULT, cipher.clone())?,
            there,
            cutter: PieceCutter::default(),
            pieces: Vec::new(),
            writing: JoinSet::new(),
            created: Vec::new(),
            new_bytes: 0,
            blocks: 0,
            encoded_bytes: 0,
        })
    }

    /// The next block of the release.
    pub(super) async fn push(&mut self, block: BlockEntry) -> Result<(), PublishError> {
        self.blocks += 1;
        self.encoded_bytes += u64::from(block.blob.encoded_len);
        match self.cutter.push(block) {
            Some(piece) => self.write_piece(&piece).await,
            None => Ok(()),
        }
    }

    /// Writes what is left, and `root`, whose pieces this adds. All is durable when it returns.
    pub(super) async fn finish(&mut self, root: &mut IndexRoot) -> Result<WrittenIndex, PublishError> {
        if let Some(piece) = self.cutter.finish() {
            self.write_piece(&piece).await?;
        }
        root.pieces = std::mem::take(&mut self.pieces);
        let bytes = root.to_bytes();
        if bytes.len() > ROOT_PLAIN_MAX {
            return Err(PublishError::TooLarge(format!("its list of files has {} bytes", bytes.len())));
        }
        let (root, root_block) = self.encoder.encode(&bytes)?;
        self.write(&root_block).await?;
        while !self.writing.is_empty() {
            self.one_written().await?;
        }
        Ok(WrittenIndex {
            root,
            root_block,
            blocks: self.blocks,
            encoded_bytes: self.encoded_bytes,
            new_bytes: self.new_bytes,
        })
    }

    /// Removes the parts that this writer brought into the repository, because no metadata will name them.
    pub(super) async fn discard(mut self) {
        while !self.writing.is_empty() {
            // Its result does not matter any more, but it must not come after the removal.
            let _ = self.one_written().await;
        }
        self.place.remove_leftovers(&self.created).await;
    }

    async fn write_piece(&mut self, piece: &IndexPiece) -> Result<(), PublishError> {
        let (blob, part) = self.encoder.encode(&piece.to_bytes())?;
        self.pieces.push(blob);
        if self.there.contains(&blob.id) { Ok(()) } else { self.write(&part).await }
    }

    async fn write(&mut self, part: &VerifiedBlock) -> Result<(), PublishError> {
        if self.writing.len() >= PARTS_IN_FLIGHT {
            self.one_written().await?;
        }
        let (place, path, bytes) = (self.place.clone(), layout::index_path(part.id()), part.bytes().clone());
        self.new_bytes += bytes.len() as u64;
        self.writing.spawn(async move {
            let is_new = place.size(&path).await?.is_none();
            place.put(&path, bytes).await?;
            Ok(is_new.then_some(path))
        });
        Ok(())
    }

    async fn one_written(&mut self) -> Result<(), PlaceError> {
        let written = self.writing.join_next().await.unwrap_or(Ok(Ok(None)));
        self.created.extend(written.unwrap_or(Err(PlaceError::Interrupted))?);
        Ok(())
    }
}
