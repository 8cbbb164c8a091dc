//! Files of a release that were written to and not synced yet.
//!
//! Each stays open until it is synced: the system may report a write-back that failed only to those who had the file
//! open. And each is synced soon: whatever waits for the last sync makes everybody wait who waits for the release.

use crate::{
    disk::{DiskFile, Open},
    error::StoreError,
    files::Files,
    partial::path_in,
};
use branchmesh_image::Index;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes that are written without a sync. The last sync has at most so much to do, well under a second on any disk,
/// and a sync for less would cost more in seeks than it saves.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;

/// Most files that are open at a time. Linux gives a process 1024, and the packs have their own.
const UNSYNCED_FILES_MAX: usize = 64;

/// The files, by their numbers in the index.
#[derive(Default)]
pub(crate) struct Unsynced(Mutex<State>);

#[derive(Default)]
struct State {
    files: BTreeMap<usize, Arc<dyn DiskFile>>,
    bytes: u64,
}

impl Unsynced {
    /// The file, open for writing.
    pub fn open(
        &self,
        files: &Files,
        folder: &Path,
        index: &Index,
        file: usize,
    ) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(open) = self.state().files.get(&file) {
            return Ok(Arc::clone(open));
        }
        files.open(&path_in(folder, &index.files()[file]), Open::Write)
    }

    /// So many bytes were written to a file that [`open`](Self::open) gave. Syncs if it is time to.
    pub fn wrote(
        &self,
        folder: &Path,
        index: &Index,
        file: usize,
        handle: Arc<dyn DiskFile>,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let full = {
            let mut state = self.state();
            // Another thread may have synced and dropped it since it was opened.
            state.files.entry(file).or_insert(handle);
            state.bytes += bytes;
            if state.bytes < UNSYNCED_BYTES_MAX && state.files.len() < UNSYNCED_FILES_MAX {
                return Ok(());
            }
            std::mem::take(&mut *state)
        };
        for (file, handle) in full.files {
            handle
                .sync_data()
                .map_err(|error| StoreError::io("sync", &path_in(folder, &index.files()[file]), error))?;
        }
        Ok(())
    }

    /// The file, if it was written to and is not synced, for whoever syncs it.
    pub fn take(&self, file: usize) -> Option<Arc<dyn DiskFile>> {
        self.state().files.remove(&file)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_disk::SystemDisk;
    use branchmesh_image::{FileEntry, IndexRoot, index::INDEX_VERSION};

    fn index(files: usize) -> Index {
        let file =
            |number| FileEntry { path: format!("{number}"), size: 0, mode: 0o644, extents: Vec::new() };
        let root = IndexRoot {
            version: INDEX_VERSION,
            image: "xp".into(),
            release: "7".into(),
            files: (0..files).map(file).collect(),
            pieces: Vec::new(),
        };
        Index::assemble(root, &[]).unwrap()
    }

    #[test]
    fn files_are_synced_and_closed_when_they_are_many_or_their_bytes_are() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, index) = (folder.path(), index(UNSYNCED_FILES_MAX));
        index.files().iter().for_each(|file| std::fs::write(path_in(folder, file), "x").unwrap());
        let (files, unsynced) = (Files::new(Arc::new(SystemDisk)), Unsynced::default());
        let write = |file, bytes| {
            let handle = unsynced.open(&files, folder, &index, file).unwrap();
            unsynced.wrote(folder, &index, file, handle, bytes).unwrap();
            unsynced.state().files.len()
        };
        for file in 0..UNSYNCED_FILES_MAX - 1 {
            assert_eq!(write(file, 1), file + 1);
        }
        assert_eq!(write(UNSYNCED_FILES_MAX - 1, 1), 0);
        assert_eq!(write(3, UNSYNCED_BYTES_MAX - 1), 1);
        assert!(Arc::ptr_eq(
            &unsynced.open(&files, folder, &index, 3).unwrap(),
            &unsynced.open(&files, folder, &index, 3).unwrap()
        ));
        assert_eq!(write(3, 1), 0);
        assert!(unsynced.take(3).is_none());
    }
}
