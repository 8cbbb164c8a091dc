//! The ledger's file: the database on the store's disk. This file and [`ledger`](crate::ledger) alone know redb.

use crate::{
    disk::{DiskFile, Open},
    error::StoreError,
    files::Files,
};
use redb::{Builder, Database, StorageBackend};
use std::{fs::TryLockError, io, path::Path, sync::Arc};

/// redb's page cache. Presence is held in memory anyway; redb's default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;

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

/// Opens the database. A new one is made under another name first: redb does not open what a crash left of one
/// that it was just making.
pub(crate) fn open(files: &Files, path: &Path) -> Result<Database, StoreError> {
    if files.examine(path)?.is_none() {
        let unfinished = path.with_extension("new");
        files.remove(&unfinished)?;
        drop(open_with(files, &unfinished, Open::CreateNew)?);
        files.rename(&unfinished, path)?;
        path.parent().map_or(Ok(()), |folder| files.sync_folder(folder))?;
    }
    open_with(files, path, Open::Write)
}

fn open_with(files: &Files, path: &Path, how: Open) -> Result<Database, StoreError> {
    let file = files.open(path, how)?;
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
        .create_with_backend(LedgerFile(file))
        .map_err(|error| DbError::from(error).explain(path))
}

/// What redb reads and writes. It needs no locks of redb's own kinds: the whole file is locked while it is open.
struct LedgerFile(Arc<dyn DiskFile>);

impl std::fmt::Debug for LedgerFile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("the ledger's file")
    }
}

impl StorageBackend for LedgerFile {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
