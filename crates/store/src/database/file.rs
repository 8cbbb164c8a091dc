//! The file of a database, on the store's disk.
//!
//! After a sync that failed, the system may show pages of the file that are not on the disk, and no later sync writes
//! them. What is built on such pages falls with them at the next power cut, everything that the file held with it. So
//! the file is written anew, all of it, before it is used again: by this process, or, if that ends before, by the next
//! one, to which a mark beside the file tells it.

use super::DbError;
use crate::{
    disk::{DiskFile, Open},
    error::StoreError,
    files::Files,
};
use redb::{Builder, Database, StorageBackend};
use std::{
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// Where the database is.
#[derive(Clone)]
pub(super) struct DatabaseFile {
    files: Files,
    path: PathBuf,
    cache_bytes: usize,
    /// A sync of it has failed, and it was not written anew since.
    is_doubtful: Arc<AtomicBool>,
}

impl DatabaseFile {
    /// At `path`, whether or not it is there.
    pub(super) fn new(path: PathBuf, cache_bytes: usize, files: Files) -> Self {
        Self { files, path, cache_bytes, is_doubtful: Arc::default() }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database; makes it if it is not there.
    pub(super) fn open(&self) -> Result<Database, StoreError> {
        if self.files.examine(&self.path)?.is_none() {
            self.make()?;
        } else if self.is_doubtful.load(Ordering::Relaxed) || self.files.examine(&self.mark())?.is_some() {
            self.write_anew()?;
        }
        // The name of one that was made before may not be durable: the sync after it may have failed.
        self.sync_name()?;
        self.open_at(&self.path, Open::Write)
    }

    /// Removes it, with all that it holds. It must not be open.
    pub(super) fn remove(&self) -> Result<(), StoreError> {
        self.files.remove(&self.path)?;
        self.files.remove(&self.mark())?;
        self.is_doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// A new database is made under another name first: redb does not open what a crash left of one that it was just
    /// making.
    fn make(&self) -> Result<(), StoreError> {
        let unfinished = self.unfinished()?;
        drop(self.open_at(&unfinished, Open::CreateNew)?);
        self.files.rename(&unfinished, &self.path)
    }

    fn write_anew(&self) -> Result<(), StoreError> {
        tracing::warn!(path = %self.path.display(), "writing the file anew, because a sync of it has failed");
        let unfinished = self.unfinished()?;
        let (from, to) =
            (self.files.open(&self.path, Open::Read)?, self.files.open(&unfinished, Open::CreateNew)?);
        copy(&*from, &*to).map_err(|error| StoreError::io("write", &unfinished, error))?;
        // Windows replaces no file that is open.
        drop((from, to));
        self.files.rename(&unfinished, &self.path)?;
        self.sync_name()?;
        self.files.remove(&self.mark())?;
        self.is_doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Where a file is made that shall become the database's; nothing is there.
    fn unfinished(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.with_extension("new");
        self.files.remove(&path)?;
        Ok(path)
    }

    fn sync_name(&self) -> Result<(), StoreError> {
        self.path.parent().map_or(Ok(()), |folder| self.files.sync_folder(folder))
    }

    /// The mark that the file must be written anew. A power cut may take it: then all is gone that is in doubt, too.
    fn mark(&self) -> PathBuf {
        self.path.with_extension("doubtful")
    }

    fn open_at(&self, path: &Path, how: Open) -> Result<Database, StoreError> {
        let file = self.files.open(path, how)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path.to_path_buf())),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path, error)),
        }
        // redb would make a database of it.
        if how == Open::Write && file.length().map_err(|error| StoreError::io("examine", path, error))? == 0 {
            return Err(StoreError::Corrupt { path: path.to_path_buf(), reason: "it is empty".into() });
        }
        Builder::new()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(OpenFile { owner: self.clone(), file })
            .map_err(|error| DbError::from(error).explain(path))
    }
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile) -> io::Result<()> {
    let (length, mut offset) = (from.length()?, 0);
    while offset < length {
        let bytes = COPY_BYTES.min(length - offset);
        let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        from.read_exact_at(&mut buffer, offset)?;
        to.write_all_at(&buffer, offset)?;
        offset += bytes;
    }
    to.sync_all()
}

/// What redb reads and writes. It needs no locks of redb's own kinds: the whole file is locked while it is open.
struct OpenFile {
    owner: DatabaseFile,
    file: Arc<dyn DiskFile>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.owner.path.display())
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.file.sync_data();
        if synced.is_err() {
            self.owner.is_doubtful.store(true, Ordering::Relaxed);
            // On a disk that takes no mark either, nothing more is recorded before it does.
            let _ = self.owner.files.open(&self.owner.mark(), Open::Create);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
