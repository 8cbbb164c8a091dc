//! Databases of the store: redb on the store's disk.
//!
//! redb refuses to work after an error of the disk until it is opened again. That happens here at the next use, so that
//! a disk that was full and has space again needs no restart. This room alone opens redb.

mod file;

use crate::{error::StoreError, files::Files};
use file::DatabaseFile;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Any of redb's errors.
pub(crate) struct DbError(Box<redb::Error>);

/// A database that is opened when it is used, and made if it is not there.
pub(crate) struct Database {
    file: DatabaseFile,
    open: Mutex<Option<redb::Database>>,
}

impl Database {
    /// At `path`, whether or not it is there, with so much memory for its pages.
    pub(crate) fn new(path: PathBuf, cache_bytes: usize, files: Files) -> Self {
        Self { file: DatabaseFile::new(path, cache_bytes, files), open: Mutex::default() }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Opens it, if it is not open.
    pub(crate) fn open(&self) -> Result<(), StoreError> {
        self.with(|_| Ok::<_, StoreError>(()))?
    }

    /// Does `job` with the open database, one job at a time. The outer error is that it could not be opened.
    pub(crate) fn with<T, E>(
        &self,
        job: impl FnOnce(&redb::Database) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let mut slot = self.lock();
        let database = match slot.take() {
            Some(database) => database,
            None => self.file.open()?,
        };
        let result = job(&database);
        // One that has met an error is closed: the next use opens it, and where necessary repairs it.
        if result.is_ok() {
            *slot = Some(database);
        }
        Ok(result)
    }

    /// Removes it with all that it holds; the next use makes a new one.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        let mut slot = self.lock();
        slot.take();
        self.file.remove()
    }

    fn lock(&self) -> MutexGuard<'_, Option<redb::Database>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Database {
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().is_some()
    }
}

impl<E: Into<redb::Error>> From<E> for DbError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl DbError {
    /// What it means for the database at `path`.
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
