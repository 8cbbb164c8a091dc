//! Filling files with the content of blocks: the work of an assembly, in runs that its threads share.

use crate::{
    assemble::AssembleError,
    disk::DiskFile,
    error::{ReadError, StoreError},
    layout::Ground,
    partial::path_in,
    runs::Run,
    store::Store,
    unsynced::Unsynced,
};
use branchmesh_image::{BlobRef, BlockId, Cipher, Decoder, Index, PlainHash};
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

/// The runs that are written now, shared by the threads that do it.
pub(crate) struct Work<'a> {
    job: Job<'a>,
    todo: &'a [usize],
    next: AtomicUsize,
    stop: AtomicBool,
    found: Mutex<Found>,
}

/// What came of it.
pub(crate) struct Outcome {
    /// The runs that are written.
    pub written: Vec<usize>,
    /// Why others are not.
    pub trouble: Option<AssembleError>,
}

/// What threads have found so far.
#[derive(Default)]
struct Found {
    written: Vec<usize>,
    to_fetch: BTreeSet<u32>,
    rotten: bool,
    fatal: Option<AssembleError>,
}

impl<'a> Work<'a> {
    pub fn new(job: Job<'a>, todo: &'a [usize]) -> Self {
        Self { job, todo, next: AtomicUsize::default(), stop: AtomicBool::default(), found: Mutex::default() }
    }

    /// Writes the runs.
    pub fn run(self) -> Outcome {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..cores.min(THREADS_MAX).min(self.todo.len()) {
                scope.spawn(|| self.take_runs());
            }
            self.take_runs();
        });
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner).outcome()
    }

    /// What each thread does: runs, one after the other, until there are no more.
    fn take_runs(&self) {
        let done = self.try_runs();
        if let Err(error) = done {
            self.stop.store(true, Ordering::Relaxed);
            self.found().fatal.get_or_insert(error);
        }
    }

    fn try_runs(&self) -> Result<(), AssembleError> {
        // Making a decoder fails only if there is no memory for it; no block is to blame.
        let mut decoder = Decoder::new(self.job.cipher.clone())
            .map_err(|source| AssembleError::Decode { id: BlockId::of(&[]), source })?;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(run) = self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            if self.write(&self.job.runs[*run], &mut decoder)? {
                self.found().written.push(*run);
            }
        }
        Ok(())
    }

    /// Whether all of a run's blocks were here and are written now.
    fn write(&self, run: &Run, decoder: &mut Decoder) -> Result<bool, AssembleError> {
        let Job { store, index, folder, unsynced, progress, .. } = self.job;
        let target = unsynced.open(store.files(), folder, index, run.file)?;
        let is_filled = self.job.grounds[run.file] == Ground::Filled;
        let (mut offset, mut done, mut written) = (run.offset, 0, 0);
        for (number, entry) in run.numbers().zip(run.blocks(index)) {
            let length = u64::from(entry.blob.plain_len);
            if is_filled && holds(&*target, offset, &entry.blob) {
                progress(length);
                (done, offset) = (done + length, offset + length);
                continue;
            }
            match store.read(&entry.location(), &entry.blob.id) {
                Ok(block) => {
                    let plain = decoder
                        .decode(&entry.blob, &block)
                        .map_err(|source| AssembleError::Decode { id: entry.blob.id, source })?;
                    if is_filled {
                        store.space().claim(length)?;
                    }
                    target.write_all_at(&plain, offset).map_err(|error| {
                        StoreError::io("write", &path_in(folder, &index.files()[run.file]), error)
                    })?;
                    progress(length);
                    (done, written) = (done + length, written + length);
                }
                // Going on finds all of them at once.
                Err(ReadError::NotHere(_)) => self.to_fetch(number, false),
                Err(ReadError::Rotten { .. }) => self.to_fetch(number, true),
                Err(ReadError::Io(error)) => return Err(error.into()),
            }
            offset += length;
        }
        unsynced.wrote(folder, index, run.file, target, written)?;
        Ok(offset - run.offset == done)
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
