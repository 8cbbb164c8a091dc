//! The store's files and folders: the disk, with errors that name what was tried and on what.

use crate::{
    disk::{Disk, DiskFile, DiskSpace, Found, Open},
    error::StoreError,
};
use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The disk that a store is on.
#[derive(Clone)]
pub(crate) struct Files(Arc<dyn Disk>);

impl Files {
    /// Those of `disk`.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self(disk)
    }

    /// Opens a file.
    pub(crate) fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, StoreError> {
        let what = if how.makes() { "create" } else { "open" };
        self.0.open(path, how).map_err(|error| StoreError::io(what, path, error))
    }

    /// Opens a file that need not be there.
    pub(crate) fn open_if_there(
        &self,
        path: &Path,
        how: Open,
    ) -> Result<Option<Arc<dyn DiskFile>>, StoreError> {
        if_there(self.0.open(path, how)).map_err(|error| StoreError::io("open", path, error))
    }

    /// What is in a small file; of a long one no more than its first `bytes_max` bytes. `None` if it is not there.
    pub(crate) fn read(&self, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.open_if_there(path, Open::Read)? else { return Ok(None) };
        let read = || {
            let length = file.length()?.min(bytes_max);
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        read().map(Some).map_err(|error| StoreError::io("read", path, error))
    }

    /// Writes a small file so that its old or its new content is there after a crash, never a mixture. `temporary` is
    /// a name in the same folder that nobody else uses.
    pub(crate) fn replace(&self, path: &Path, temporary: &Path, content: &[u8]) -> Result<(), StoreError> {
        self.remove(temporary)?;
        let write = || {
            let file = self.0.open(temporary, Open::CreateNew)?;
            file.write_all_at(content, 0)?;
            file.set_mode(0o644)?;
            file.sync_all()
        };
        write().map_err(|error| StoreError::io("write", temporary, error))?;
        self.rename(temporary, path)?;
        path.parent().map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    /// Makes a folder, and those above it. It may be there already.
    pub(crate) fn create_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.0.create_folder(path).map_err(|error| StoreError::io("create", path, error))
    }

    /// Gives a file or a folder another name.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.0.rename(from, to).map_err(|error| StoreError::io("rename", from, error))
    }

    /// Removes a file or a folder, which may be gone already.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.0.remove(path).map_err(|error| StoreError::io("remove", path, error))
    }

    /// The paths of what is in a folder; none if it is not a folder.
    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let listed = if_there(self.0.list(folder)).map_err(|error| StoreError::io("list", folder, error))?;
        Ok(listed.unwrap_or_default())
    }

    /// What has this name, if anything has.
    pub(crate) fn examine(&self, path: &Path) -> Result<Option<Found>, StoreError> {
        if_there(self.0.examine(path)).map_err(|error| StoreError::io("examine", path, error))
    }

    /// Whether there is a folder of this name.
    pub(crate) fn is_folder(&self, path: &Path) -> Result<bool, StoreError> {
        Ok(self.examine(path)? == Some(Found::Folder))
    }

    /// Makes new, renamed and removed names in a folder survive a power cut.
    pub(crate) fn sync_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.0.sync_folder(path).map_err(|error| StoreError::io("sync", path, error))
    }

    /// Makes the name of a new file survive a power cut, and that of its folder. `done` spares the folders that were
    /// synced for other files of the same commit.
    pub(crate) fn sync_name(&self, path: &Path, done: &mut HashSet<PathBuf>) -> Result<(), StoreError> {
        for folder in path.ancestors().skip(1).take(2) {
            if !done.contains(folder) {
                self.sync_folder(folder)?;
                done.insert(folder.to_path_buf());
            }
        }
        Ok(())
    }

    /// Makes a new file that shares its space with another one. Says whether that was possible; nothing is left if not.
    pub(crate) fn clone_file(&self, from: &Path, to: &Path) -> bool {
        match self.0.clone_file(from, to) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, path = %from.display(), "a file cannot be cloned");
                // What cannot be removed is met again when the file is made.
                let _ = self.0.remove(to);
                false
            }
        }
    }

    /// The space of the file system that holds `folder`; `None` if the system does not say.
    pub(crate) fn space(&self, folder: &Path) -> Option<DiskSpace> {
        self.0.space(folder).ok()
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
