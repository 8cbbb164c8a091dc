//! Filling files with the content of blocks: the work of an assembly, in runs that its threads share.

use crate::{
    assemble::AssembleError,
    error::{ReadError, StoreError},
    files,
    store::Store,
};
use branchmesh_image::{BlockId, Cipher, Decoder, Extent, FileEntry, Index};
use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Blocks that a thread takes at a time: some 4 MiB, enough that opening a file for them costs nothing.
const RUN_BLOCKS_MAX: u32 = 64;

/// Some blocks in a row, and where their content belongs.
pub(crate) struct Run<'a> {
    file: &'a FileEntry,
    offset: u64,
    first: u32,
    count: u32,
}

/// What is to be filled, from what.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub store: &'a Store,
    pub index: &'a Index,
    pub cipher: &'a Cipher,
    /// Where the files are, as long as they will be.
    pub folder: &'a Path,
    /// All runs of the index.
    pub runs: &'a [Run<'a>],
    /// For each run, whether it is written.
    pub done: &'a [AtomicBool],
    /// Told the bytes that were written.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// The runs that are written now, shared by the threads that do it.
pub(crate) struct Work<'a> {
    job: Job<'a>,
    todo: Vec<usize>,
    next: AtomicUsize,
    stop: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// What went wrong so far.
#[derive(Default)]
struct Trouble {
    to_fetch: BTreeSet<u32>,
    rotten: bool,
    fatal: Option<AssembleError>,
}

impl Run<'_> {
    /// Its blocks' numbers in the index.
    pub fn blocks(&self) -> Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }

    /// Bytes of its content.
    pub fn bytes(&self, index: &Index) -> u64 {
        index.blocks()[self.blocks()].iter().map(|block| u64::from(block.blob.plain_len)).sum()
    }
}

impl<'a> Work<'a> {
    pub fn new(job: Job<'a>, todo: Vec<usize>) -> Self {
        Self {
            job,
            todo,
            next: AtomicUsize::default(),
            stop: AtomicBool::default(),
            trouble: Mutex::default(),
        }
    }

    /// Writes the runs with so many threads.
    pub fn run(&self, threads: usize) -> Result<(), AssembleError> {
        std::thread::scope(|scope| {
            for _ in 1..threads.min(self.todo.len()) {
                scope.spawn(|| self.take_runs());
            }
            self.take_runs();
        });
        self.outcome()
    }

    /// What each thread does: runs, one after the other, until there are no more.
    fn take_runs(&self) {
        let done = self.try_runs();
        if let Err(error) = done {
            self.stop.store(true, Ordering::Relaxed);
            self.trouble().fatal.get_or_insert(error);
        }
    }

    fn try_runs(&self) -> Result<(), AssembleError> {
        // Making a decoder fails only if there is no memory for it; no block is to blame.
        let mut decoder = Decoder::new(self.job.cipher.clone())
            .map_err(|source| AssembleError::Decode { id: BlockId::of(&[]), source })?;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(run) = self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let written = self.write(&self.job.runs[*run], &mut decoder)?;
            self.job.done[*run].store(written, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether all of a run's blocks were here and are written now.
    fn write(&self, run: &Run<'_>, decoder: &mut Decoder) -> Result<bool, AssembleError> {
        let path = path_in(self.job.folder, run.file);
        let target = fs::OpenOptions::new().write(true).open(&path);
        let target = target.map_err(|error| StoreError::io("open", &path, error))?;
        let (mut offset, mut whole) = (run.offset, true);
        for number in run.first..run.first + run.count {
            let entry = &self.job.index.blocks()[number as usize];
            let length = u64::from(entry.blob.plain_len);
            match self.job.store.read(&entry.location(), &entry.blob.id) {
                Ok(block) => {
                    let plain = decoder
                        .decode(&entry.blob, &block)
                        .map_err(|source| AssembleError::Decode { id: entry.blob.id, source })?;
                    files::write_all_at(&target, &plain, offset)
                        .map_err(|error| StoreError::io("write", &path, error))?;
                    (self.job.progress)(length);
                }
                // Going on finds all of them at once.
                Err(ReadError::NotHere(_)) => {
                    whole = false;
                    self.to_fetch(number, false);
                }
                Err(ReadError::Rotten { .. }) => {
                    whole = false;
                    self.to_fetch(number, true);
                }
                Err(ReadError::Io(error)) => return Err(error.into()),
            }
            offset += length;
        }
        Ok(whole)
    }

    fn to_fetch(&self, number: u32, rotten: bool) {
        let mut trouble = self.trouble();
        trouble.to_fetch.insert(number);
        trouble.rotten |= rotten;
    }

    fn outcome(&self) -> Result<(), AssembleError> {
        let trouble = std::mem::take(&mut *self.trouble());
        let blocks: Vec<u32> = trouble.to_fetch.into_iter().collect();
        match trouble.fatal {
            Some(error) => Err(error),
            None if blocks.is_empty() => Ok(()),
            None if trouble.rotten => Err(AssembleError::Rotten { blocks }),
            None => Err(AssembleError::Missing { blocks }),
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index's blocks in runs. An index that was put together by `Index::assemble` has all blocks that its files
/// name.
pub(crate) fn runs(index: &Index) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    for file in index.files() {
        let mut offset = 0;
        for extent in &file.extents {
            let (first, count) = match extent {
                Extent::Hole(length) => {
                    offset += length;
                    continue;
                }
                Extent::Blocks { first, count } => (*first, *count),
            };
            let blocks = &index.blocks()[first as usize..(first + count) as usize];
            for (number, chunk) in (0u32..).zip(blocks.chunks(RUN_BLOCKS_MAX as usize)) {
                let skipped = number * RUN_BLOCKS_MAX;
                let count = RUN_BLOCKS_MAX.min(count - skipped);
                runs.push(Run { file, offset, first: first + skipped, count });
                offset += chunk.iter().map(|block| u64::from(block.blob.plain_len)).sum::<u64>();
            }
        }
    }
    runs
}

pub(crate) fn holes(file: &FileEntry) -> u64 {
    let length = |extent: &Extent| match extent {
        Extent::Hole(length) => *length,
        Extent::Blocks { .. } => 0,
    };
    file.extents.iter().map(length).sum()
}

/// A file's path inside the release's folder. The index has checked each component.
pub(crate) fn path_in(folder: &Path, file: &FileEntry) -> PathBuf {
    file.path.split('/').fold(folder.to_path_buf(), |path, component| path.join(component))
}
