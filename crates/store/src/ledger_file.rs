//! The ledger's file: the database on the store's disk. This file and [`ledger`](crate::ledger) alone know
//! its redb.
//!
//! After a sync that failed, the system may show pages of the file that are not on the disk, and no later sync writes
//! them. What is built on such pages falls with them at the next power cut, everything that the ledger held with it. So
//! the file is written anew, all of it, before it is used again: by this process, or, if that ends before, by the next
//! one, to which a mark beside the file tells it.

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

/// redb's page cache. Presence is held in memory anyway; redb's default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;
/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// Any of redb's errors.
pub(crate) struct DbError(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for DbError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl DbError {
    /// What it means for the ledger at `path`.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all that is not the disk means the file is not usable"
    )]
    pub(crate) fn explain(self, path: &Path) -> StoreError {
        match *self.0 {
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                StoreError::io("use", path, source)
            }
            other => StoreError::Corrupt { path: path.to_path_buf(), reason: other.to_string() },
        }
    }
}

/// Where the database is.
#[derive(Clone)]
pub(crate) struct LedgerFile {
    files: Files,
    path: PathBuf,
    /// A sync of it has failed, and it was not written anew since.
    is_doubtful: Arc<AtomicBool>,
}

impl LedgerFile {
    /// At `path`, whether or not it is there.
    pub(crate) fn new(path: PathBuf, files: Files) -> Self {
        Self { files, path, is_doubtful: Arc::default() }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database; makes it if it is not there.
    pub(crate) fn open(&self) -> Result<Database, StoreError> {
        if self.files.examine(&self.path)?.is_none() {
            self.make()?;
        } else if self.is_doubtful.load(Ordering::Relaxed) || self.files.examine(&self.mark())?.is_some() {
            self.write_anew()?;
        }
        self.open_at(&self.path, Open::Write)
    }

    /// A new database is made under another name first: redb does not open what a crash left of one that it was just
    /// making.
    fn make(&self) -> Result<(), StoreError> {
        let unfinished = self.unfinished()?;
        drop(self.open_at(&unfinished, Open::CreateNew)?);
        self.put_in_place(&unfinished)
    }

    fn write_anew(&self) -> Result<(), StoreError> {
        tracing::warn!(path = %self.path.display(), "writing the ledger anew, because a sync of it has failed");
        let unfinished = self.unfinished()?;
        let (from, to) =
            (self.files.open(&self.path, Open::Read)?, self.files.open(&unfinished, Open::CreateNew)?);
        copy(&*from, &*to).map_err(|error| StoreError::io("write", &unfinished, error))?;
        // Windows replaces no file that is open.
        drop((from, to));
        self.put_in_place(&unfinished)?;
        self.files.remove(&self.mark())?;
        self.is_doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Where a file is made that shall become the ledger's; nothing is there.
    fn unfinished(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.with_extension("new");
        self.files.remove(&path)?;
        Ok(path)
    }

    fn put_in_place(&self, unfinished: &Path) -> Result<(), StoreError> {
        self.files.rename(unfinished, &self.path)?;
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
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(OpenLedger { ledger: self.clone(), file })
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
struct OpenLedger {
    ledger: LedgerFile,
    file: Arc<dyn DiskFile>,
}

impl std::fmt::Debug for OpenLedger {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.ledger.path.display())
    }
}

impl StorageBackend for OpenLedger {
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
            self.ledger.is_doubtful.store(true, Ordering::Relaxed);
            // On a disk that takes no mark either, nothing more is recorded before it does.
            let _ = self.ledger.files.open(&self.ledger.mark(), Open::Create);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
