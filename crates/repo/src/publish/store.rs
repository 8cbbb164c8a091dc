//! A release's data on its way into the repository: new blocks into packs, and the index beside them.

use super::{
    PublishError, PublishOptions, Published,
    encode::{self, Encoding, Step},
    progress::Progress,
};
use crate::{
    layout,
    pack::{PackWriter, Packed},
    place::Place,
    source::PartSource,
    source_files::SourceFile,
};
use branchmesh_image::{
    BlobRef, BlockEntry, Cipher, Encoder, Extent, FileEntry, IndexId, IndexPiece, IndexRoot, PlainHash,
    VerifiedBlock,
    block::ZSTD_LEVEL_DEFAULT,
    index::{INDEX_VERSION, ROOT_PLAIN_MAX},
};
use std::{collections::HashMap, num::NonZeroUsize};

/// A release whose packs and index are in the repository; only the metadata doesn't name it yet.
pub(super) struct Stored {
    files: Vec<FileEntry>,
    packed: Packed,
    pub(super) root: BlobRef,
    pub(super) root_block: VerifiedBlock,
    /// Bytes of the index parts that were not there before.
    index_bytes: u64,
}

impl Stored {
    pub(super) fn summary(&self, options: &PublishOptions) -> Published {
        let holes = self.files.iter().flat_map(|file| &file.extents).map(|extent| match extent {
            Extent::Hole(length) => *length,
            Extent::Blocks { .. } => 0,
        });
        Published {
            image: options.image.clone(),
            release: options.release.clone(),
            root: self.root,
            files: self.files.len(),
            plain_bytes: self.files.iter().map(|file| file.size).sum(),
            hole_bytes: holes.sum(),
            blocks: self.packed.blocks.len() as u64,
            encoded_bytes: self.packed.blocks.iter().map(|block| u64::from(block.blob.encoded_len)).sum(),
            new_blocks: self.packed.new_blocks,
            new_bytes: self.packed.new_bytes,
            index_bytes: self.index_bytes,
        }
    }
}

/// Puts the files' new blocks into packs, and the index beside them; if that fails, takes the packs away again.
pub(super) async fn store(
    place: &Place,
    files: Vec<SourceFile>,
    known: HashMap<PlainHash, BlockEntry>,
    cipher: &Cipher,
    options: &PublishOptions,
    progress: &dyn Progress,
) -> Result<Stored, PublishError> {
    progress.total(files.iter().map(|file| file.size).sum());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let encoders = (0..cores).map(|_| Encoder::new(options.zstd_level, cipher.clone()));
    let encoding = encode::start(files, known, encoders.collect::<Result<_, _>>()?);
    let mut packs = PackWriter::new(place);
    let stored = async {
        let (files, packed) = write_packs(&mut packs, encoding, progress).await?;
        write_index(place, options, cipher, files, packed).await
    };
    match stored.await {
        Ok(stored) => Ok(stored),
        Err(error) => {
            packs.discard().await;
            Err(error)
        }
    }
}

async fn write_packs(
    packs: &mut PackWriter,
    mut encoding: Encoding,
    progress: &dyn Progress,
) -> Result<(Vec<FileEntry>, Packed), PublishError> {
    while let Some(step) = encoding.steps.recv().await {
        match step {
            Step::Nothing(bytes) => progress.advance(bytes),
            Step::Known(entry) => {
                packs.push_known(entry);
                progress.advance(u64::from(entry.blob.plain_len));
            }
            Step::New(encoded) => {
                let (blob, block) = encoded.await.map_err(|_| PublishError::Interrupted)??;
                packs.push_new(blob, &block).await?;
                progress.advance(u64::from(blob.plain_len));
            }
        }
    }
    let files = encoding.files.await.map_err(|_| PublishError::Interrupted)??;
    Ok((files, packs.finish().await?))
}

/// Writes the parts of the index that the repository does not have.
async fn write_index(
    place: &Place,
    options: &PublishOptions,
    cipher: &Cipher,
    files: Vec<FileEntry>,
    packed: Packed,
) -> Result<Stored, PublishError> {
    // Always the same level: a piece that did not change must be the same bytes as in the release before.
    let mut encoder = Encoder::new(ZSTD_LEVEL_DEFAULT, cipher.clone())?;
    let mut index_bytes = 0;
    let mut pieces = Vec::new();
    for piece in IndexPiece::cut(&packed.blocks) {
        let (blob, block) = encoder.encode(&piece.to_bytes())?;
        index_bytes += write_part(place, &blob, &block).await?;
        pieces.push(blob);
    }
    let root = IndexRoot {
        version: INDEX_VERSION,
        image: options.image.clone(),
        release: options.release.clone(),
        files,
        pieces,
    };
    let bytes = root.to_bytes();
    if bytes.len() > ROOT_PLAIN_MAX {
        return Err(PublishError::TooLarge(format!("its list of files has {} bytes", bytes.len())));
    }
    let (blob, root_block) = encoder.encode(&bytes)?;
    index_bytes += write_part(place, &blob, &root_block).await?;
    Ok(Stored { files: root.files, packed, root: blob, root_block, index_bytes })
}

/// Writes an index part unless it is there, intact; returns the bytes that were added.
async fn write_part(place: &Place, blob: &BlobRef, part: &VerifiedBlock) -> Result<u64, PublishError> {
    if place.origin().part(IndexId(blob.id.0), blob).await.is_ok() {
        return Ok(0);
    }
    place.put(&layout::index_path(part.id()), part.bytes().clone()).await?;
    Ok(part.bytes().len() as u64)
}
