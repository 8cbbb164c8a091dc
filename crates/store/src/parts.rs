//! Index parts: the encoded roots and pieces of indexes, one file each, named by their hash.
//!
//! Parts are small and can be checked by their name, so that they need no ledger: a part is here if its file
//! hashes to its name. Their files are synced by the next commit rather than one by one.

use crate::{error::StoreError, files, store::Store};
use branchmesh_image::{BlockId, VerifiedBlock, crypt::SEAL_OVERHEAD, index::ROOT_PLAIN_MAX};
use std::{
    collections::HashSet,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Most bytes of an encoded part: an index root that does not compress.
const PART_MAX: u64 = (ROOT_PLAIN_MAX + 1 + SEAL_OVERHEAD) as u64;

/// Most parts that wait for a sync; one more commits. A release of 30 GB has some 2000.
const UNSYNCED_MAX: usize = 1024;

/// The folder of index parts.
pub(crate) struct Parts {
    folder: PathBuf,
    /// Where parts are written before they get their name; on the same file system.
    temporary: PathBuf,
    unsynced: Mutex<HashSet<BlockId>>,
}

impl Store {
    /// Keeps an index part. It survives a power cut from the next [`commit`](Self::commit) on.
    pub fn put_part(&self, part: &VerifiedBlock) -> Result<(), StoreError> {
        self.space().claim(part.bytes().len() as u64)?;
        if self.parts().put(part)? >= UNSYNCED_MAX { self.commit() } else { Ok(()) }
    }

    /// Reads an index part, hashed again. A rotten one is removed, and `None` like one that never came.
    pub fn part(&self, id: &BlockId) -> Result<Option<VerifiedBlock>, StoreError> {
        self.parts().get(id)
    }
}

impl Parts {
    /// Parts below `folder`.
    pub(crate) fn new(folder: PathBuf, temporary: PathBuf) -> Self {
        Self { folder, temporary, unsynced: Mutex::default() }
    }

    /// The folder that holds the folders of parts.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, id: &BlockId) -> PathBuf {
        let name = id.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    /// Writes a part; gives how many wait for a sync.
    fn put(&self, part: &VerifiedBlock) -> Result<usize, StoreError> {
        let path = self.path(part.id());
        self.write(&path, part.bytes()).map_err(|error| StoreError::io("write", &path, error))?;
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.insert(*part.id());
        Ok(unsynced.len())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.temporary)?;
        file.write_all(bytes)?;
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn get(&self, id: &BlockId) -> Result<Option<VerifiedBlock>, StoreError> {
        let path = self.path(id);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let Ok(part) = VerifiedBlock::verify(id, bytes) else {
            tracing::warn!(part = %id, "an index part had rotted on this disk; it will be fetched again");
            files::remove(&path).map_err(|error| StoreError::io("remove", &path, error))?;
            return Ok(None);
        };
        Ok(Some(part))
    }

    /// Makes all parts that were put survive a power cut. A part that cannot be synced is removed.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let parts = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        if parts.is_empty() {
            return Ok(());
        }
        let mut folders: Vec<PathBuf> = vec![self.folder.clone()];
        let mut outcome = Ok(());
        for part in parts {
            let path = self.path(&part);
            folders.extend(path.parent().map(Path::to_path_buf));
            if let Err(error) = sync_file(&path) {
                let _ = files::remove(&path);
                outcome = Err(StoreError::io("sync", &path, error));
            }
        }
        folders.sort();
        folders.dedup();
        for folder in folders {
            files::sync_dir(&folder).map_err(|error| StoreError::io("sync", &folder, error))?;
        }
        outcome
    }
}

/// Reads at most one byte more than a part may have: a longer file does not verify.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(PART_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Windows syncs only what is open for writing. A part that was found rotten and removed meanwhile needs no sync.
fn sync_file(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).open(path) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
