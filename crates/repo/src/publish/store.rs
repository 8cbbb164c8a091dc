//! A release's data on its way into the repository: new blocks into packs, and the index beside them.

use super::{
    PublishError, PublishOptions, Published,
    encode::{self, Encoding, Step},
    index_writer::{IndexWriter, WrittenIndex},
    known::Known,
    progress::Progress,
};
use crate::{pack::PackWriter, place::Place, source_files::SourceFile};
use branchmesh_image::{
    BlobRef, BlockSize, Cipher, Encoder, Extent, FileEntry, IndexRoot, VerifiedBlock, index::INDEX_VERSION,
};
use std::num::NonZeroUsize;

/// A release whose packs and index are in the repository; only the metadata doesn't name it yet.
pub(super) struct Stored {
    pub(super) root: BlobRef,
    pub(super) root_block: VerifiedBlock,
    pub(super) published: Published,
}

/// Puts the files' new blocks into packs, and the index beside them; if that fails, takes both away again,
/// unless the place keeps them.
pub(super) async fn store(
    place: &Place,
    files: Vec<SourceFile>,
    size: BlockSize,
    known: Known,
    cipher: &Cipher,
    options: &PublishOptions,
    progress: &dyn Progress,
) -> Result<Stored, PublishError> {
    progress.total(files.iter().map(|file| file.size).sum());
    let mut writer =
        Writer { packs: PackWriter::new(place), index: IndexWriter::new(place, cipher, known.pieces)? };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let encoders =
        (0..cores.min(encode::ENCODERS_MAX)).map(|_| Encoder::new(options.zstd_level, cipher.clone()));
    let encoding = encode::start(files, size, known.blocks, encoders.collect::<Result<_, _>>()?);
    match writer.write(encoding, options, progress).await {
        Ok(stored) => Ok(stored),
        Err(error) if place.keeps_uploads() => Err(error),
        Err(error) => {
            writer.packs.discard().await;
            writer.index.discard().await;
            Err(error)
        }
    }
}

/// Where the steps of an [`Encoding`] end.
struct Writer {
    packs: PackWriter,
    index: IndexWriter,
}

impl Writer {
    async fn write(
        &mut self,
        mut encoding: Encoding,
        options: &PublishOptions,
        progress: &dyn Progress,
    ) -> Result<Stored, PublishError> {
        while let Some(step) = encoding.steps.recv().await {
            self.take(step, progress).await?;
        }
        let files = encoding.files.await.map_err(|_| PublishError::Interrupted)??;
        self.packs.finish().await?;
        self.pass_on().await?;
        let mut root = IndexRoot {
            version: INDEX_VERSION,
            image: options.image.clone(),
            release: options.release.clone(),
            files,
            pieces: Vec::new(),
        };
        let index = self.index.finish(&mut root).await?;
        Ok(self.summary(&root, index))
    }

    async fn take(&mut self, step: Step, progress: &dyn Progress) -> Result<(), PublishError> {
        let bytes = match step {
            Step::Nothing(bytes) => bytes,
            Step::Known(entry) => {
                self.packs.push_known(entry).await?;
                u64::from(entry.blob.plain_len)
            }
            Step::New(encoded) => {
                let (blob, block) = encoded.await.map_err(|_| PublishError::Interrupted)??;
                self.packs.push_new(blob, &block).await?;
                u64::from(blob.plain_len)
            }
        };
        progress.advance(bytes);
        self.pass_on().await
    }

    /// Lets the index have the blocks whose place is known.
    async fn pass_on(&mut self) -> Result<(), PublishError> {
        for block in self.packs.take_placed() {
            self.index.push(block).await?;
        }
        Ok(())
    }

    fn summary(&self, root: &IndexRoot, index: WrittenIndex) -> Stored {
        let (new_blocks, new_bytes) = self.packs.added();
        let published = Published {
            image: root.image.clone(),
            release: root.release.clone(),
            root: index.root,
            files: root.files.len(),
            plain_bytes: root.files.iter().map(|file| file.size).sum(),
            hole_bytes: root.files.iter().map(hole_bytes).sum(),
            blocks: index.blocks,
            encoded_bytes: index.encoded_bytes,
            new_blocks,
            new_bytes,
            index_bytes: index.new_bytes,
        };
        Stored { root: index.root, root_block: index.root_block, published }
    }
}

fn hole_bytes(file: &FileEntry) -> u64 {
    let holes = file.extents.iter().map(|extent| match extent {
        Extent::Hole(length) => *length,
        Extent::Blocks { .. } => 0,
    });
    holes.sum()
}
