//! A release's data on its way into the repository: new blocks into packs, and the index beside them.
//!
//! Nothing in here grows with the image but its list of files and extents, which has a limit of its own. What is
//! held at the most: two packs (64 MiB), the entries that wait for a pack's name (28 MiB), the table's cache and
//! what redb adds to it (50 MiB), the steps of the pipeline (10 MiB on average) and the encoders.

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
            missing: Vec::new(),
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

#[cfg(test)]
#[cfg(target_os = "linux")] // where a process can read its peak of memory
mod tests {
    use super::*;
    use crate::{
        INDEX_BLOCKS_MAX, Keys,
        publish::block_table::{BlockTable, Met},
    };
    use branchmesh_image::{BlockEntry, BlockId, PackId, PlainHash};
    use std::{collections::HashSet, fs, path::Path, process::Command};
    use tokio::sync::{mpsc, oneshot};

    /// How many blocks the release has; [`BLOCKS`] unless somebody asks for more.
    const COUNT: &str = "BRANCHMESH_BLOCKS";
    /// Enough that all caches and buffers are full.
    const BLOCKS: usize = 600_000;
    const NAME: &str = "publish::store::tests::memory_does_not_grow_with_the_image";
    /// Set for the process whose memory is measured: nothing else may run in it.
    const MEASURED: &str = "BRANCHMESH_TEST_MEASURED";

    /// The largest release there can be: `BRANCHMESH_BLOCKS=4194304 cargo test -p branchmesh-repo --lib
    /// memory_does_not_grow -- --nocapture`.
    #[tokio::test(flavor = "multi_thread")]
    async fn memory_does_not_grow_with_the_image() {
        let count = std::env::var(COUNT).map_or(BLOCKS, |count| count.parse().unwrap());
        assert!(count <= INDEX_BLOCKS_MAX, "no release has {count} blocks");
        if std::env::var_os(MEASURED).is_some() {
            write_release(count).await;
            println!("peak memory: {}", peak_memory());
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child =
            child.args(["--exact", NAME, "--nocapture"]).env(MEASURED, "1").env(COUNT, count.to_string());
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let peak = text.lines().find_map(|line| line.strip_prefix("peak memory: ")?.parse::<u64>().ok());
        let peak = peak.unwrap_or_else(|| panic!("{text}"));
        println!("peak memory of {count} blocks: {peak}");
        assert!(peak < 256 << 20, "{} MiB", peak >> 20);
        // Rows of so many blocks in memory would be 260 MiB.
        assert!(count > BLOCKS || peak < 160 << 20, "{} MiB", peak >> 20);
    }

    async fn write_release(count: usize) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::create(&dir.path().into()).unwrap();
        let mut writer = Writer {
            packs: PackWriter::new(&place),
            index: IndexWriter::new(&place, &Cipher::None, HashSet::new()).unwrap(),
        };
        let options = PublishOptions::new(dir.path(), Keys::at(Path::new("none")), "xp", "1", Vec::new());
        let stored = writer.write(half_known_release(count), &options, &()).await.unwrap();
        assert_eq!(stored.published.blocks, count as u64);
        assert_eq!(stored.published.new_blocks, count as u64 / 2);
    }

    /// Every other of its blocks is in the repository.
    fn half_known_release(count: usize) -> Encoding {
        let (sender, steps) = mpsc::channel(128);
        let files = tokio::task::spawn_blocking(move || {
            let mut table = BlockTable::new()?;
            let known: Vec<usize> = (0..count).step_by(2).collect();
            for piece in known.chunks(256) {
                table.add_known(piece.iter().map(|number| known_block(*number)))?;
            }
            drop(known);
            let mut lookup = table.lookup()?;
            for number in 0..count {
                let step = match lookup.meet(&PlainHash::of(&number.to_le_bytes()))? {
                    Met::Known(_, entry) => Step::Known(entry),
                    Met::New(_) => Step::New(new_block(number)),
                    Met::Again(index) => panic!("block {number} was taken for block {index}"),
                };
                sender.blocking_send(step).unwrap();
            }
            Ok(Vec::new())
        });
        Encoding { steps, files }
    }

    fn known_block(number: usize) -> BlockEntry {
        let plain = PlainHash::of(&number.to_le_bytes());
        let blob = BlobRef { id: BlockId(plain.0), plain, encoded_len: 32 << 10, plain_len: 64 << 10 };
        BlockEntry { blob, pack: PackId::of(&(number / 1000).to_le_bytes()), offset: 0 }
    }

    fn new_block(number: usize) -> oneshot::Receiver<encode::Encoded> {
        let bytes = number.to_le_bytes();
        let (plain, id) = (PlainHash::of(&bytes), BlockId::of(&bytes));
        let blob = BlobRef { id, plain, encoded_len: 8, plain_len: 64 << 10 };
        let (reply, encoded) = oneshot::channel();
        reply.send(Ok((blob, VerifiedBlock::verify(&id, bytes.to_vec()).unwrap()))).unwrap();
        encoded
    }

    fn peak_memory() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}
