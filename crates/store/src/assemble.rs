//! From blocks to files: a release is put together beside its place, synced, and moved there in one step.
//!
//! Whoever looks sees no folder or a whole one. The ledger remembers which index a folder was made from, so that
//! assembling again costs nothing; that row is written before the folder gets its name, and means nothing
//! without the folder.
//!
//! Holes stay holes where a file system makes a file sparse that was only set to its length. NTFS does not: there
//! they are zeros that take up space.

use crate::{
    error::{ReadError, StoreError},
    files, images,
    ledger::{self, Folder},
    store::Store,
};
use branchmesh_image::{BlockError, BlockId, Cipher, Decoder, Extent, FileEntry, Index};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Threads that read, decode and write. The machine has other work to do, and two keep a disk busy.
const THREADS: usize = 2;

/// Blocks that a thread takes at a time: some 4 MiB, enough that opening a file for them costs nothing.
const RUN_BLOCKS_MAX: u32 = 64;

/// Why a release was not put together. Nothing of it is left, and an earlier folder of it stays.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Blocks are not here.
    #[error("{} blocks of the release are not here yet", .blocks.len())]
    Missing {
        /// Their numbers in the index, ascending.
        blocks: Vec<u32>,
    },
    /// Blocks were here, but the disk gave other bytes. They are forgotten.
    #[error("{} blocks of the release had rotted on this disk and have to be fetched again", .blocks.len())]
    Rotten {
        /// The numbers in the index of all blocks that have to be fetched, ascending.
        blocks: Vec<u32>,
    },
    /// A block is what the index says and cannot be decoded: the wrong key, or a publisher's mistake.
    #[error("block {id} of the release cannot be decoded: {source}")]
    Decode {
        /// The block.
        id: BlockId,
        /// Why.
        source: BlockError,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Some blocks in a row, and where their content belongs.
struct Run<'a> {
    file: &'a FileEntry,
    offset: u64,
    first: u32,
    count: u32,
}

/// One assembly under way, shared by its threads.
struct Work<'a> {
    store: &'a Store,
    index: &'a Index,
    cipher: &'a Cipher,
    folder: &'a Path,
    runs: Vec<Run<'a>>,
    next: AtomicUsize,
    stop: AtomicBool,
    trouble: Mutex<Trouble>,
    progress: &'a (dyn Fn(u64) + Sync),
}

/// What went wrong so far.
#[derive(Default)]
struct Trouble {
    to_fetch: BTreeSet<u32>,
    rotten: bool,
    fatal: Option<AssembleError>,
}

impl Store {
    /// Puts the files of a release in place and gives their folder. Returns at once if they are there.
    ///
    /// `progress` is called, from several threads, with the bytes of files that were done since the last call;
    /// together these are the sizes of all files, holes included.
    pub fn assemble(
        &self,
        index: &Index,
        cipher: &Cipher,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, AssembleError> {
        let (image, release) = (&index.root().image, &index.root().release);
        images::check(image, release)?;
        let _assembly = self.assembly_turn();
        let identity = BlockId::of(&index.root().to_bytes());
        let folder = self.release_folder(image, release);
        if self.is_assembled(index, identity)? {
            return Ok(folder);
        }
        let missing: Vec<u32> = (0u32..)
            .zip(index.blocks())
            .filter_map(|(number, block)| (!self.has(&block.location())).then_some(number))
            .collect();
        if !missing.is_empty() {
            return Err(AssembleError::Missing { blocks: missing });
        }
        let partial = self.partial_folder(image, release);
        images::remove(&partial)?;
        let assembled = self
            .fill(index, cipher, &partial, progress)
            .and_then(|()| Ok(self.put_in_place(image, release, identity)?));
        if let Err(error) = assembled {
            if let Err(left) = images::remove(&partial) {
                tracing::warn!(error = %left, "what was assembled so far could not be removed");
            }
            return Err(error);
        }
        tracing::debug!(%image, %release, "release is assembled");
        Ok(folder)
    }

    /// Whether the folder was made from this index and its files still have their sizes.
    fn is_assembled(&self, index: &Index, identity: BlockId) -> Result<bool, StoreError> {
        let (image, release) = (&index.root().image, &index.root().release);
        let known = self.ledger().folder(&ledger::key(image, release))?;
        let folder = self.release_folder(image, release);
        let has_its_size = |file: &FileEntry| {
            fs::metadata(path_in(&folder, file)).is_ok_and(|found| found.len() == file.size)
        };
        Ok(known == Some(Folder::Assembled(identity))
            && folder.is_dir()
            && index.files().iter().all(has_its_size))
    }

    fn fill(
        &self,
        index: &Index,
        cipher: &Cipher,
        folder: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), AssembleError> {
        create_dir(folder)?;
        let runs = runs(index);
        let size: u64 = index.files().iter().map(|file| file.size).sum();
        let data: u64 = index.files().iter().map(|file| file.size - holes(file)).sum();
        self.space().check(folder, data)?;
        index.files().iter().try_for_each(|file| create(folder, file))?;
        progress(size - data);
        let work = Work {
            store: self,
            index,
            cipher,
            folder,
            runs,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            trouble: Mutex::default(),
            progress,
        };
        std::thread::scope(|scope| {
            for _ in 1..THREADS.min(work.runs.len()) {
                scope.spawn(|| work.run());
            }
            work.run();
        });
        work.outcome()?;
        Ok(sync(folder, index.files())?)
    }

    /// Moves the finished folder to its place.
    fn put_in_place(&self, image: &str, release: &str, identity: BlockId) -> Result<(), StoreError> {
        let _turn = self.folder_turn();
        let (partial, folder) = (self.partial_folder(image, release), self.release_folder(image, release));
        let replaced = self.replaced_folder(image, release);
        images::remove(&replaced)?;
        if folder.exists() {
            tracing::warn!("a release's folder is not what its index says and is replaced");
            rename(&folder, &replaced)?;
        }
        self.ledger().set_folder(&ledger::key(image, release), Some(Folder::Assembled(identity)))?;
        rename(&partial, &folder)?;
        for parent in [self.image_folder(image).as_path(), self.images()] {
            files::sync_dir(parent).map_err(|error| StoreError::io("sync", parent, error))?;
        }
        images::remove(&replaced)
    }
}

impl Work<'_> {
    /// What each thread does: runs, one after the other, until there are no more.
    fn run(&self) {
        let done = self.try_run();
        if let Err(error) = done {
            self.stop.store(true, Ordering::Relaxed);
            self.trouble().fatal.get_or_insert(error);
        }
    }

    fn try_run(&self) -> Result<(), AssembleError> {
        // Making a decoder fails only if there is no memory for it; no block is to blame.
        let mut decoder = Decoder::new(self.cipher.clone())
            .map_err(|source| AssembleError::Decode { id: BlockId::of(&[]), source })?;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(run) = self.runs.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            self.write(run, &mut decoder)?;
        }
        Ok(())
    }

    fn write(&self, run: &Run<'_>, decoder: &mut Decoder) -> Result<(), AssembleError> {
        let path = path_in(self.folder, run.file);
        let target = fs::OpenOptions::new().write(true).open(&path);
        let target = target.map_err(|error| StoreError::io("open", &path, error))?;
        let mut offset = run.offset;
        for number in run.first..run.first + run.count {
            let entry = &self.index.blocks()[number as usize];
            let length = u64::from(entry.blob.plain_len);
            match self.store.read(&entry.location(), &entry.blob.id) {
                Ok(block) => {
                    let plain = decoder
                        .decode(&entry.blob, &block)
                        .map_err(|source| AssembleError::Decode { id: entry.blob.id, source })?;
                    files::write_all_at(&target, &plain, offset)
                        .map_err(|error| StoreError::io("write", &path, error))?;
                    (self.progress)(length);
                }
                // Going on finds all of them at once.
                Err(ReadError::NotHere(_)) => self.to_fetch(number, false),
                Err(ReadError::Rotten { .. }) => self.to_fetch(number, true),
                Err(ReadError::Io(error)) => return Err(error.into()),
            }
            offset += length;
        }
        Ok(())
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
fn runs(index: &Index) -> Vec<Run<'_>> {
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

fn holes(file: &FileEntry) -> u64 {
    let length = |extent: &Extent| match extent {
        Extent::Hole(length) => *length,
        Extent::Blocks { .. } => 0,
    };
    file.extents.iter().map(length).sum()
}

/// A file's path inside the release's folder. The index has checked each component.
fn path_in(folder: &Path, file: &FileEntry) -> PathBuf {
    file.path.split('/').fold(folder.to_path_buf(), |path, component| path.join(component))
}

fn create_dir(folder: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(folder).map_err(|error| StoreError::io("create", folder, error))
}

/// Makes a file that is one hole; runs fill in the data.
fn create(folder: &Path, file: &FileEntry) -> Result<(), StoreError> {
    let path = path_in(folder, file);
    path.parent().map_or(Ok(()), create_dir)?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|created| created.set_len(file.size))
        .map_err(|error| StoreError::io("create", &path, error))
}

/// Sets the files' modes and makes them and their names survive a power cut.
fn sync(folder: &Path, entries: &[FileEntry]) -> Result<(), StoreError> {
    let mut folders = BTreeSet::from([folder.to_path_buf()]);
    for entry in entries {
        let path = path_in(folder, entry);
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| files::set_mode(&file, entry.mode).and_then(|()| file.sync_all()))
            .map_err(|error| StoreError::io("sync", &path, error))?;
        let above = path.ancestors().skip(1).take_while(|parent| parent.starts_with(folder));
        folders.extend(above.map(Path::to_path_buf));
    }
    // Deepest first: a folder's path sorts after its parent's.
    folders
        .iter()
        .rev()
        .try_for_each(|folder| files::sync_dir(folder).map_err(|error| StoreError::io("sync", folder, error)))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::io("rename", from, error))
}
