//! From files to encoded blocks, on all cores, in order, with bounded memory.
//!
//! One thread reads and cuts the files and knows which blocks are new; the others compress and seal those. What
//! the reader found goes through one ordered queue, in which a new block is a promise that an encoder keeps:
//! so the blocks come out in the order of the files, however long each takes.

use crate::source_files::{FileError, OpenFile, SourceFile};
use branchmesh_image::{
    BlobRef, BlockEntry, BlockError, BlockSize, Chunker, Cut, Encoder, Extent, FileEntry, PlainHash,
    VerifiedBlock,
};
use std::{
    collections::HashMap,
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
    pub(super) files: JoinHandle<Result<Vec<FileEntry>, FileError>>,
}

struct Job {
    plain: Vec<u8>,
    reply: oneshot::Sender<Encoded>,
}

/// Starts to read and encode `files`, with a thread for each of the `encoders`.
pub(super) fn start(
    files: Vec<SourceFile>,
    known: HashMap<PlainHash, BlockEntry>,
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
            let reader = Reader { known, seen: HashMap::new(), jobs, steps: sender };
            reader.read_all(&files)
        })
    });
    Encoding { steps, files }
}

fn encode(queue: &Mutex<Receiver<Job>>, mut encoder: Encoder) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { plain, reply }) = job else { return };
        // Nobody waits for it when the publication was given up.
        let _ = reply.send(encoder.encode(&plain));
    }
}

struct Reader {
    /// Blocks of earlier releases.
    known: HashMap<PlainHash, BlockEntry>,
    /// Blocks of this release, and their index.
    seen: HashMap<PlainHash, u32>,
    jobs: SyncSender<Job>,
    steps: mpsc::Sender<Step>,
}

impl Reader {
    fn read_all(mut self, files: &[SourceFile]) -> Result<Vec<FileEntry>, FileError> {
        files.iter().map(|file| self.read(file)).collect()
    }

    fn read(&mut self, file: &SourceFile) -> Result<FileEntry, FileError> {
        let unreadable = |source| FileError::Unreadable { path: file.disk.clone(), source };
        let open = OpenFile::open(file)?;
        let mut extents = Vec::new();
        let mut read = 0;
        for cut in Chunker::new(open.content(), BlockSize::default()) {
            match cut.map_err(unreadable)? {
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
        }
        open.check_unchanged(read)?;
        Ok(FileEntry { path: file.path.clone(), size: read, mode: open.mode(), extents })
    }

    /// The index of the block with this plaintext, which may be a new one.
    fn block(&mut self, plain: Vec<u8>) -> Result<u32, FileError> {
        let hash = PlainHash::of(&plain);
        if let Some(index) = self.seen.get(&hash) {
            self.send(Step::Nothing(plain.len() as u64))?;
            return Ok(*index);
        }
        let index = u32::try_from(self.seen.len()).map_err(|_| FileError::TooManyBlocks)?;
        if self.seen.len() >= crate::INDEX_BLOCKS_MAX {
            return Err(FileError::TooManyBlocks);
        }
        self.seen.insert(hash, index);
        let step = match self.known.get(&hash) {
            Some(entry) => Step::Known(*entry),
            None => {
                let (reply, encoded) = oneshot::channel();
                self.jobs.send(Job { plain, reply }).map_err(|_| FileError::Stopped)?;
                Step::New(encoded)
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
