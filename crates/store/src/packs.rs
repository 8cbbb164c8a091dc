//! Pack files: where each lies, and the few that are held open.

use crate::{
    disk::{DiskFile, Open},
    error::StoreError,
    files::Files,
};
use branchmesh_image::PackId;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Most packs held open for reuse. With 32 MiB a pack these cover 2 GiB, more than a node serves at a time, and
/// they leave most of the 1024 descriptors that Linux gives a process.
const OPEN_PACKS_MAX: usize = 64;

/// The folder of packs.
pub(crate) struct Packs {
    folder: PathBuf,
    files: Files,
    open: Mutex<OpenPacks>,
}

#[derive(Default)]
struct OpenPacks {
    handles: HashMap<PackId, Handle>,
    uses: u64,
}

struct Handle {
    file: Arc<dyn DiskFile>,
    writable: bool,
    last_use: u64,
}

impl Packs {
    /// Packs below `folder`.
    pub(crate) fn new(folder: PathBuf, files: Files) -> Self {
        Self { folder, files, open: Mutex::default() }
    }

    /// The folder that holds the folders of packs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a pack lies.
    pub(crate) fn path(&self, pack: &PackId) -> PathBuf {
        let name = pack.to_string();
        self.folder.join(&name[..2]).join(format!("{name}.pack"))
    }

    /// A pack's file for writing, made if it is new.
    pub(crate) fn writable(&self, pack: &PackId) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(file) = self.cached(pack, true) {
            return Ok(file);
        }
        let file = self.files.open(&self.path(pack), Open::Create)?;
        Ok(self.keep(pack, file, true))
    }

    /// A pack's file for reading; `None` if there is none.
    pub(crate) fn readable(&self, pack: &PackId) -> Result<Option<Arc<dyn DiskFile>>, StoreError> {
        if let Some(file) = self.cached(pack, false) {
            return Ok(Some(file));
        }
        let file = self.files.open_if_there(&self.path(pack), Open::Read)?;
        Ok(file.map(|file| self.keep(pack, file, false)))
    }

    /// Closes a pack, so that the next use opens the file that is there then.
    pub(crate) fn close(&self, pack: &PackId) {
        self.lock().handles.remove(pack);
    }

    /// Makes the name of a new pack file survive a power cut; see [`Files::sync_name`].
    pub(crate) fn sync_name(&self, pack: &PackId, done: &mut HashSet<PathBuf>) -> Result<(), StoreError> {
        self.files.sync_name(&self.path(pack), done)
    }

    fn cached(&self, pack: &PackId, for_writing: bool) -> Option<Arc<dyn DiskFile>> {
        let mut open = self.lock();
        open.uses += 1;
        let now = open.uses;
        let handle = open.handles.get_mut(pack).filter(|handle| handle.writable || !for_writing)?;
        handle.last_use = now;
        Some(Arc::clone(&handle.file))
    }

    fn keep(&self, pack: &PackId, file: Arc<dyn DiskFile>, writable: bool) -> Arc<dyn DiskFile> {
        let mut open = self.lock();
        open.uses += 1;
        let handle = Handle { file: Arc::clone(&file), writable, last_use: open.uses };
        open.handles.insert(*pack, handle);
        if open.handles.len() > OPEN_PACKS_MAX {
            let oldest = open.handles.iter().min_by_key(|(_, handle)| handle.last_use).map(|(pack, _)| *pack);
            oldest.map(|pack| open.handles.remove(&pack));
        }
        file
    }

    fn lock(&self) -> MutexGuard<'_, OpenPacks> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_disk::SystemDisk;

    #[test]
    fn the_least_recently_used_packs_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs::new(folder.path().to_path_buf(), Files::new(Arc::new(SystemDisk)));
        let id = |number: usize| PackId::of(&number.to_le_bytes());
        for number in 0..OPEN_PACKS_MAX {
            packs.writable(&id(number)).unwrap();
        }
        assert!(packs.cached(&id(0), true).is_some());
        packs.writable(&id(OPEN_PACKS_MAX)).unwrap();
        assert_eq!(packs.lock().handles.len(), OPEN_PACKS_MAX);
        assert!(packs.cached(&id(0), true).is_some());
        assert!(packs.cached(&id(1), true).is_none());
    }

    #[test]
    fn a_handle_for_reading_is_not_used_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs::new(folder.path().to_path_buf(), Files::new(Arc::new(SystemDisk)));
        let pack = PackId::of(b"pack");
        assert!(packs.readable(&pack).unwrap().is_none());
        packs.writable(&pack).unwrap();
        packs.close(&pack);
        packs.readable(&pack).unwrap().unwrap();
        packs.writable(&pack).unwrap().write_all_at(b"data", 3).unwrap();
        let mut read = [0; 4];
        packs.readable(&pack).unwrap().unwrap().read_exact_at(&mut read, 3).unwrap();
        assert_eq!(&read, b"data");
    }
}
