//! Filling files with the content of blocks: the work of an assembly, in parts of runs that its threads share.

use crate::{
    assemble::AssembleError,
    disk::DiskFile,
    error::{ReadError, StoreError},
    layout::Ground,
    partial::path_in,
    runs::{Part, Run},
    store::Store,
    unsynced::Unsynced,
};
use branchmesh_image::{BlobRef, BlockEntry, BlockId, Cipher, Decoder, Index, PlainHash};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// What is to be filled, from what.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub store: &'a Store,
    pub index: &'a Index,
    pub cipher: &'a Cipher,
    /// Where the files are, as long as they will be.
    pub folder: &'a Path,
    /// All runs of the index.
    pub runs: &'a [Run],
    /// What each file was before it was filled.
    pub grounds: &'a [Ground],
    /// Where written files wait for their sync.
    pub unsynced: &'a Unsynced,
    /// Told the bytes that were written.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Most threads that read, decode and write: four keep any disk busy.
const THREADS_MAX: usize = 4;
/// Blocks for which a thread is worth its start.
const THREAD_BLOCKS: usize = 64;

/// What is written now, shared by the threads that do it.
pub(crate) struct Work<'a> {
    job: Job<'a>,
    todo: &'a [Part],
    next: AtomicUsize,
    stop: AtomicBool,
    found: Mutex<Found>,
}

/// What came of it.
pub(crate) struct Outcome {
    /// What is written.
    pub written: Vec<Part>,
    /// Why the rest is not.
    pub trouble: Option<AssembleError>,
}

/// What came of one block.
enum Put {
    /// The file had it.
    Held,
    /// The file has it now.
    Written,
    /// It is not here, or not any more.
    ToFetch {
        /// Whether the disk gave other bytes.
        rotten: bool,
    },
}

/// What threads have found so far.
#[derive(Default)]
struct Found {
    written: Vec<Part>,
    to_fetch: BTreeSet<u32>,
    rotten: bool,
    fatal: Option<AssembleError>,
}

impl<'a> Work<'a> {
    pub fn new(job: Job<'a>, todo: &'a [Part]) -> Self {
        Self { job, todo, next: AtomicUsize::default(), stop: AtomicBool::default(), found: Mutex::default() }
    }

    /// Writes it.
    pub fn run(self) -> Outcome {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let blocks: usize = self.todo.iter().map(Part::count).sum();
        std::thread::scope(|scope| {
            for _ in 1..cores.min(THREADS_MAX).min(blocks.div_ceil(THREAD_BLOCKS)) {
                scope.spawn(|| self.take_parts());
            }
            self.take_parts();
        });
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner).outcome()
    }

    /// What each thread does: one part after the other, until there are no more.
    fn take_parts(&self) {
        let done = self.try_parts();
        if let Err(error) = done {
            self.stop.store(true, Ordering::Relaxed);
            self.found().fatal.get_or_insert(error);
        }
    }

    fn try_parts(&self) -> Result<(), AssembleError> {
        // Making a decoder fails only if there is no memory for it; no block is to blame.
        let mut decoder = Decoder::new(self.job.cipher.clone())
            .map_err(|source| AssembleError::Decode { id: BlockId::of(&[]), source })?;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(part) = self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let blocks = self.write(part, &mut decoder)?;
            self.found().written.push(Part { blocks, ..*part });
        }
        Ok(())
    }

    /// Writes a part, and gives the blocks that were here and are written now.
    fn write(&self, part: &Part, decoder: &mut Decoder) -> Result<u64, AssembleError> {
        let Job { store, index, folder, unsynced, .. } = self.job;
        let run = &self.job.runs[part.run];
        let target = unsynced.open(store.files(), folder, index, run.file)?;
        let (mut offset, mut done, mut written) = (run.offset, 0, 0);
        for (nth, entry) in run.blocks(index).iter().enumerate() {
            let at = offset;
            offset += u64::from(entry.blob.plain_len);
            if !part.has(nth) {
                continue;
            }
            match self.put(run, entry, (&*target, at), decoder)? {
                Put::Held => done |= 1 << nth,
                Put::Written => {
                    done |= 1 << nth;
                    written += u64::from(entry.blob.plain_len);
                }
                // Going on finds all of them at once.
                Put::ToFetch { rotten } => self.to_fetch(run.number(nth), rotten),
            }
        }
        unsynced.wrote(folder, index, run.file, target, written)?;
        Ok(done)
    }

    /// Puts one block's content where it belongs.
    fn put(
        &self,
        run: &Run,
        entry: &BlockEntry,
        (target, offset): (&dyn DiskFile, u64),
        decoder: &mut Decoder,
    ) -> Result<Put, AssembleError> {
        let Job { store, index, folder, progress, .. } = self.job;
        let length = u64::from(entry.blob.plain_len);
        let is_filled = self.job.grounds[run.file] == Ground::Filled;
        if is_filled && holds(target, offset, &entry.blob) {
            progress(length);
            return Ok(Put::Held);
        }
        let block = match store.read(&entry.location(), &entry.blob.id) {
            Ok(block) => block,
            Err(ReadError::NotHere(_)) => return Ok(Put::ToFetch { rotten: false }),
            Err(ReadError::Rotten { .. }) => return Ok(Put::ToFetch { rotten: true }),
            Err(ReadError::Io(error)) => return Err(error.into()),
        };
        let plain = decoder
            .decode(&entry.blob, &block)
            .map_err(|source| AssembleError::Decode { id: entry.blob.id, source })?;
        if is_filled {
            store.space().claim(length)?;
        }
        target
            .write_all_at(&plain, offset)
            .map_err(|error| StoreError::io("write", &path_in(folder, &index.files()[run.file]), error))?;
        progress(length);
        Ok(Put::Written)
    }

    fn to_fetch(&self, number: u32, rotten: bool) {
        let mut found = self.found();
        found.to_fetch.insert(number);
        found.rotten |= rotten;
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file has a block's plaintext at `offset`. What cannot be read is not there.
pub(crate) fn holds(file: &dyn DiskFile, offset: u64, blob: &BlobRef) -> bool {
    let mut plain = vec![0; blob.plain_len as usize];
    file.read_exact_at(&mut plain, offset).is_ok() && PlainHash::of(&plain) == blob.plain
}

impl Found {
    fn outcome(self) -> Outcome {
        let blocks: Vec<u32> = self.to_fetch.into_iter().collect();
        let trouble = match self.fatal {
            Some(error) => Some(error),
            None if blocks.is_empty() => None,
            None if self.rotten => Some(AssembleError::Rotten { blocks }),
            None => Some(AssembleError::Missing { blocks }),
        };
        Outcome { written: self.written, trouble }
    }
}
