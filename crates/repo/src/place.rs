//! The writing side of a repository: files put whole and durably, and one publisher at a time.
//!
//! Files go through object_store, which writes beside the target, syncs, renames and syncs the folder; S3 and
//! others can be added here without a change elsewhere.

use crate::{
    address::Address,
    origin::{self, Origin, OriginError},
};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as StorePath};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Locked by the publisher at work. The lock ends with the process, however it ends.
const LOCK_FILE: &str = "publish.lock";
/// Bytes of the lock file that an error message quotes.
const LOCK_TEXT_MAX: usize = 120;

/// Why a repository cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its address is not that of a folder.
    #[error("a repository is published into a folder: give its path or a file:// URL, not {0:?}")]
    NotAFolder(String),
    /// There is none.
    #[error("{0} holds no repository; make one with `branchmesh repo init`")]
    NoRepository(PathBuf),
    /// Its address makes no sense.
    #[error(transparent)]
    Url(#[from] OriginError),
    /// Somebody else publishes.
    #[error("another publisher is at work in {path} ({owner}); try again when it is done")]
    Locked {
        /// The repository.
        path: PathBuf,
        /// What is known about it.
        owner: String,
    },
    /// The folder itself cannot be used.
    #[error("the folder {path} cannot be used")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program is ending.
    #[error("writing to the repository was interrupted")]
    Interrupted,
    /// A file cannot be written or looked at.
    #[error("{path} cannot be written to the repository")]
    Write {
        /// Path inside the repository.
        path: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

/// A repository that can be written.
#[derive(Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    store: Arc<dyn ObjectStore>,
    origin: Origin,
}

/// A state of the repository that a publication builds on.
pub(crate) struct Mark {}

/// A file of the repository.
pub(crate) struct Listed {
    /// Its path inside the repository.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was written, in Unix seconds.
    pub(crate) modified: u64,
}

/// Held by the one publisher.
pub(crate) struct PublisherLock {
    _file: File,
}

impl Place {
    /// The folder that `repo` names.
    pub(crate) fn folder(repo: &Address) -> Result<PathBuf, PlaceError> {
        origin::local_folder(&repo.url)?.ok_or_else(|| PlaceError::NotAFolder(repo.url.clone()))
    }

    /// Opens the repository in `repo`.
    pub(crate) fn open(repo: &Address) -> Result<Self, PlaceError> {
        let folder = Self::folder(repo)?;
        if !folder.join("metadata").is_dir() {
            return Err(PlaceError::NoRepository(folder));
        }
        Self::at(&folder)
    }

    /// Opens a folder for a new repository; makes the folder where it is missing.
    pub(crate) fn create(repo: &Address) -> Result<Self, PlaceError> {
        let folder = Self::folder(repo)?;
        fs::create_dir_all(&folder).map_err(|source| PlaceError::Io { path: folder.clone(), source })?;
        Self::at(&folder)
    }

    fn at(folder: &Path) -> Result<Self, PlaceError> {
        let failed = |source| PlaceError::Io { path: folder.to_owned(), source };
        let folder = fs::canonicalize(folder).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| PlaceError::Write { path: folder.display().to_string(), source })?
            .with_fsync(true);
        let origin = Origin::of_folder(&folder)?;
        Ok(Self { folder, store: Arc::new(store), origin })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Its reading side.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Makes this the only publisher.
    pub(crate) fn lock(&self) -> Result<PublisherLock, PlaceError> {
        let path = self.folder.join(LOCK_FILE);
        let failed = |source| PlaceError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                // Windows refuses to read a locked file; the message is as useful without.
                let owner = fs::read_to_string(&path).unwrap_or_default();
                let owner = owner.trim().chars().take(LOCK_TEXT_MAX).collect::<String>();
                let owner = if owner.is_empty() { "unknown process".into() } else { owner };
                return Err(PlaceError::Locked { path: self.folder.clone(), owner });
            }
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(PublisherLock { _file: file })
    }

    /// How long the file at `path` is; `None` if there is none.
    pub(crate) async fn size(&self, path: &str) -> Result<Option<u64>, PlaceError> {
        match self.store.head(&StorePath::from(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(PlaceError::Write { path: path.into(), source }),
        }
    }

    /// Writes a whole file, replacing one that is there. Durable when it returns.
    pub(crate) async fn put(&self, path: &str, bytes: Bytes) -> Result<(), PlaceError> {
        let written = self.store.put(&StorePath::from(path), bytes.into()).await;
        written.map(drop).map_err(|source| PlaceError::Write { path: path.into(), source })
    }

    /// Writes a whole file unless there is one of that name: whether it did. Durable when it returns.
    pub(crate) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool, PlaceError> {
        if self.size(path).await?.is_some() {
            return Ok(false);
        }
        self.put(path, bytes).await.map(|()| true)
    }

    /// The repository's state as it is now: what a publication builds on.
    pub(crate) async fn mark(&self) -> Result<Mark, PlaceError> {
        Ok(Mark {})
    }

    /// Puts `timestamp.json` in force, unless somebody else did since `mark`.
    pub(crate) async fn put_timestamp(&self, _mark: &Mark, bytes: Bytes) -> Result<(), PlaceError> {
        self.put(&crate::layout::metadata_path(crate::layout::TIMESTAMP), bytes).await
    }

    /// All files whose path begins with `prefix`, a folder.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError> {
        let failed = |source| PlaceError::Write { path: prefix.into(), source };
        let files = self.store.list(Some(&StorePath::from(prefix)));
        let files: Vec<_> = files.try_collect().await.map_err(failed)?;
        let listed = |meta: object_store::ObjectMeta| Listed {
            path: meta.location.to_string(),
            size: meta.size,
            modified: u64::try_from(meta.last_modified.timestamp()).unwrap_or(0),
        };
        Ok(files.into_iter().map(listed).collect())
    }

    /// Removes a file; none there is as good.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), PlaceError> {
        match self.store.delete(&StorePath::from(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(PlaceError::Write { path: path.into(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_publisher_is_told_so_and_the_lock_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::create(&dir.path().into()).unwrap();
        let lock = place.lock().unwrap();
        assert!(matches!(place.lock(), Err(PlaceError::Locked { .. })));
        drop(lock);
        assert!(place.lock().is_ok());
    }

    #[test]
    fn only_folders_can_be_published_into() {
        assert!(matches!(Place::open(&"https://example.com/repo".into()), Err(PlaceError::NotAFolder(_))));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Place::open(&dir.path().into()), Err(PlaceError::NoRepository(_))));
    }
}
