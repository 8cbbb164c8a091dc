//! From blocks to files: a release is put together beside its place, synced, and moved there in one step.
//!
//! Much of it can be done [ahead](Store::assemble_ahead), while blocks still arrive: after the last one, only what
//! that brought has to be written. What was done ahead is remembered in memory; after a restart it is done again.
//!
//! Whoever looks sees no folder or a whole one. The ledger remembers which index a folder was made from, so that
//! assembling again costs nothing; that row is written before the folder gets its name, and means nothing
//! without the folder.
//!
//! Holes stay holes where a file system makes a file sparse that was only set to its length. NTFS does not: there
//! they are zeros that take up space.

use crate::{
    error::StoreError,
    files,
    fill::{Job, Run, Work, holes, path_in, runs},
    images,
    ledger::{self, Folder},
    store::Store,
};
use branchmesh_image::{BlockError, BlockId, Cipher, FileEntry, Index};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{
        TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Threads that read, decode and write. The machine has other work to do, and two keep a disk busy.
const THREADS: usize = 2;

/// Releases that are put together ahead at the same time. Each has a flag in memory for each run: 16 KiB for 60 GB.
const AHEAD_MAX: usize = 8;

/// What was written ahead of the releases whose blocks still arrive, by ledger key.
#[derive(Default)]
pub(crate) struct Ahead(HashMap<String, Begun>);

/// A folder that is being filled.
struct Begun {
    /// Of which index.
    identity: BlockId,
    /// For each run, whether it is written.
    done: Vec<AtomicBool>,
}

impl Ahead {
    /// Forgets what was written of a release; its folder goes, or is gone.
    pub(crate) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

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
        let mut ahead = self.assembly_turn();
        let (identity, key) = (identity(index), ledger::key(image, release));
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
        let runs = runs(index);
        let partial = self.partial_folder(image, release);
        let assembled = self
            .begun(&mut ahead, &key, identity, index, &runs)
            .and_then(|begun| self.finish(index, cipher, &partial, &runs, &begun.done, progress))
            .and_then(|()| Ok(self.put_in_place(image, release, identity)?));
        ahead.forget(&key);
        if let Err(error) = assembled {
            if let Err(left) = images::remove(&partial) {
                tracing::warn!(error = %left, "what was assembled so far could not be removed");
            }
            return Err(error);
        }
        tracing::debug!(%image, %release, "release is assembled");
        Ok(folder)
    }

    /// Writes what is here of a release's files and was not written yet, beside their place, and gives the bytes.
    /// It ends soon after `budget` bytes, and does nothing while an assembly is under way. After an error the release
    /// can still be [assembled](Self::assemble), which will say what is wrong.
    pub fn assemble_ahead(&self, index: &Index, cipher: &Cipher, budget: u64) -> Result<u64, AssembleError> {
        let (image, release) = (&index.root().image, &index.root().release);
        images::check(image, release)?;
        let mut ahead = match self.try_assembly_turn() {
            Ok(ahead) => ahead,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(0),
        };
        let (identity, key) = (identity(index), ledger::key(image, release));
        let is_full = ahead.0.len() >= AHEAD_MAX && !ahead.0.contains_key(&key);
        if is_full || self.is_assembled(index, identity)? {
            return Ok(0);
        }
        let runs = runs(index);
        let begun = self.begun(&mut ahead, &key, identity, index, &runs)?;
        let mut bytes = 0;
        let todo = (0..runs.len())
            .filter(|run| !begun.done[*run].load(Ordering::Relaxed))
            .filter(|run| index.blocks()[runs[*run].blocks()].iter().all(|block| self.has(&block.location())))
            .take_while(|run| {
                let within = bytes < budget;
                bytes += runs[*run].bytes(index);
                within
            })
            .collect();
        let written = AtomicU64::new(0);
        let count = |bytes| {
            written.fetch_add(bytes, Ordering::Relaxed);
        };
        let partial = self.partial_folder(image, release);
        // One thread: the machine has other work to do, and the network is slower.
        let (folder, done) = (partial.as_path(), begun.done.as_slice());
        let job = Job { store: self, index, cipher, folder, runs: &runs, done, progress: &count };
        Work::new(job, todo).run(1)?;
        Ok(written.into_inner())
    }

    /// The folder that is being filled for this index, new if there is none yet.
    fn begun<'a>(
        &self,
        ahead: &'a mut Ahead,
        key: &str,
        identity: BlockId,
        index: &Index,
        runs: &[Run<'_>],
    ) -> Result<&'a Begun, AssembleError> {
        if ahead.0.get(key).is_none_or(|begun| begun.identity != identity) {
            ahead.forget(key);
            let partial = self.partial_folder(&index.root().image, &index.root().release);
            images::remove(&partial)?;
            if let Err(error) = self.lay_out(index, &partial) {
                images::remove(&partial)?;
                return Err(error.into());
            }
            let done = runs.iter().map(|_| AtomicBool::new(false)).collect();
            ahead.0.insert(key.into(), Begun { identity, done });
        }
        Ok(&ahead.0[key])
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

    /// Makes the files, each one hole, if the disk has room for all that they will hold.
    fn lay_out(&self, index: &Index, folder: &Path) -> Result<(), StoreError> {
        create_dir(folder)?;
        let data: u64 = index.files().iter().map(|file| file.size - holes(file)).sum();
        self.space().check(folder, data)?;
        index.files().iter().try_for_each(|file| create(folder, file))
    }

    /// Writes all that is not written yet, and makes it durable.
    fn finish(
        &self,
        index: &Index,
        cipher: &Cipher,
        folder: &Path,
        runs: &[Run<'_>],
        done: &[AtomicBool],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), AssembleError> {
        let todo: Vec<usize> = (0..runs.len()).filter(|run| !done[*run].load(Ordering::Relaxed)).collect();
        let size: u64 = index.files().iter().map(|file| file.size).sum();
        progress(size - todo.iter().map(|run| runs[*run].bytes(index)).sum::<u64>());
        let job = Job { store: self, index, cipher, folder, runs, done, progress };
        Work::new(job, todo).run(THREADS)?;
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

/// What a folder's origin is remembered by.
fn identity(index: &Index) -> BlockId {
    BlockId::of(&index.root().to_bytes())
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
