//! From files to encoded blocks, on all cores, in order, with bounded memory.
//!
//! One thread reads and cuts the files and knows which blocks are new; the others compress and seal those. What
//! the reader found goes through one ordered queue, in which a new block is a promise that an encoder keeps:
//! so the blocks come out in the order of the files, however long each takes.
//!
//! The reader hashes too: what it knows depends on the hashes of all blocks before, in order. At the usual zstd
//! levels it keeps two or three encoders busy; beyond that it is what limits the speed.

use super::{
    PublishError,
    block_table::{BlockTable, Lookup, Met},
};
use crate::source_files::{FileError, OpenFile, SourceFile};
use branchmesh_image::{
    BlobRef, BlockEntry, BlockError, BlockSize, Chunker, Cut, Encoder, Extent, FileEntry, PlainBlock,
    VerifiedBlock,
};
use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
};

/// Steps between reader and writer. Each holds at most a block and its encoding: 64 MiB if all are of the
/// largest kind, and 10 MiB on average.
const STEPS_MAX: usize = 128;
/// Blocks that wait for an encoder. They are among the steps.
const JOBS_MAX: usize = 64;

/// Most encoders: zstd holds up to 5 MiB for each at its highest levels. At the usual ones the reader is busy
/// long before so many are.
pub(super) const ENCODERS_MAX: usize = 16;
/// Most extents of a release: 64 MiB in memory.
const EXTENTS_MAX: usize = 4 << 20;

/// An encoded block, or why it has none.
pub(super) type Encoded = Result<(BlobRef, VerifiedBlock), BlockError>;

/// What comes next in the files, in their order.
pub(super) enum Step {
    /// Zeros, or a block that this release already has: so many bytes of plaintext, nothing to store.
    Nothing(u64),
    /// The next block of the release is in the repository.
    Known(BlockEntry),
    /// The next block of the release is new, and is being encoded.
    New(oneshot::Receiver<Encoded>),
}

/// Work under way.
pub(super) struct Encoding {
    /// Ends when all files are read, or one cannot be. Who stops receiving stops the work.
    pub(super) steps: mpsc::Receiver<Step>,
    /// The files, as the index lists them.
    pub(super) files: JoinHandle<Result<Vec<FileEntry>, PublishError>>,
}

struct Job {
    plain: PlainBlock,
    reply: oneshot::Sender<Encoded>,
}

/// Starts to read and encode `files`, with a thread for each of the `encoders`. Blocks in `table` are known.
pub(super) fn start(
    files: Vec<SourceFile>,
    size: BlockSize,
    table: BlockTable,
    encoders: Vec<Encoder>,
) -> Encoding {
    let (sender, steps) = mpsc::channel(STEPS_MAX);
    let files = spawn_blocking(move || {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let queue = Mutex::new(queue);
        thread::scope(|scope| {
            for encoder in encoders {
                scope.spawn(|| encode(&queue, encoder));
            }
            // Dropped at the end of the scope's body, which ends the encoders.
            let reader = Reader { size, table: table.lookup()?, jobs, steps: sender, extents: 0 };
            reader.read_all(files)
        })
    });
    Encoding { steps, files }
}

fn encode(queue: &Mutex<Receiver<Job>>, mut encoder: Encoder) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { plain, reply }) = job else { return };
        // Nobody waits for it when the publication was given up.
        let _ = reply.send(encoder.encode_block(&plain));
    }
}

struct Reader<'a> {
    size: BlockSize,
    table: Lookup<'a>,
    jobs: SyncSender<Job>,
    steps: mpsc::Sender<Step>,
    /// Extents of the files that were read.
    extents: usize,
}

impl Reader<'_> {
    fn read_all(mut self, files: Vec<SourceFile>) -> Result<Vec<FileEntry>, PublishError> {
        files.into_iter().map(|file| self.read(file)).collect()
    }

    fn read(&mut self, file: SourceFile) -> Result<FileEntry, PublishError> {
        let open = OpenFile::open(&file)?;
        let mut extents = Vec::new();
        let mut read = 0;
        for cut in Chunker::new(open.content(), self.size) {
            let cut = cut.map_err(|source| FileError::Unreadable { path: file.disk.clone(), source })?;
            match cut {
                Cut::Hole(length) => {
                    read += length;
                    extents.push(Extent::Hole(length));
                    self.send(Step::Nothing(length))?;
                }
                Cut::Data(plain) => {
                    read += plain.len() as u64;
                    append(&mut extents, self.block(plain)?);
                }
            }
            if self.extents + extents.len() > EXTENTS_MAX {
                return Err(FileError::TooManyExtents(EXTENTS_MAX).into());
            }
        }
        open.check_unchanged(read)?;
        self.extents += extents.len();
        extents.shrink_to_fit();
        Ok(FileEntry { path: file.path, size: read, mode: open.mode(), extents })
    }

    /// The index of the block with this plaintext, which may be a new one.
    fn block(&mut self, plain: Vec<u8>) -> Result<u32, PublishError> {
        let plain = PlainBlock::new(plain);
        let met = self.table.meet(plain.hash())?;
        if self.table.count() > crate::INDEX_BLOCKS_MAX {
            return Err(FileError::TooManyBlocks.into());
        }
        let (index, step) = match met {
            Met::Again(index) => (index, Step::Nothing(plain.bytes().len() as u64)),
            Met::Known(index, entry) => (index, Step::Known(entry)),
            Met::New(index) => {
                let (reply, encoded) = oneshot::channel();
                self.jobs.send(Job { plain, reply }).map_err(|_| FileError::Stopped)?;
                (index, Step::New(encoded))
            }
        };
        self.send(step)?;
        Ok(index)
    }

    fn send(&self, step: Step) -> Result<(), FileError> {
        self.steps.blocking_send(step).map_err(|_| FileError::Stopped)
    }
}

/// Adds a block to a file's extents, to the last run if it continues that.
fn append(extents: &mut Vec<Extent>, index: u32) {
    if let Some(Extent::Blocks { first, count }) = extents.last_mut()
        && first.checked_add(*count) == Some(index)
    {
        *count += 1;
        return;
    }
    extents.push(Extent::Blocks { first: index, count: 1 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_blocks_are_one_extent() {
        let mut extents = Vec::new();
        for index in [4, 5, 6, 5, 6, 9] {
            append(&mut extents, index);
        }
        extents.push(Extent::Hole(7));
        append(&mut extents, 10);
        let blocks = |first, count| Extent::Blocks { first, count };
        assert_eq!(extents, [blocks(4, 3), blocks(5, 2), blocks(9, 1), Extent::Hole(7), blocks(10, 1)]);
    }
}
