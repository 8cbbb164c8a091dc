//! Index parts: the encoded roots and pieces of indexes, one file each, named by their hash.
//!
//! Parts are small and can be checked by their name, so that they need no ledger: a part is here if its file
//! hashes to its name. Their files are synced by the next commit rather than one by one: those that were put, and
//! those that were found, since a process before this one may have ended before it synced them.

use crate::{disk::Open, error::StoreError, files::Files, store::Store};
use branchmesh_image::{BlockId, VerifiedBlock, crypt::SEAL_OVERHEAD, index::ROOT_PLAIN_MAX};
use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most bytes of an encoded part: an index root that does not compress.
const PART_MAX: u64 = (ROOT_PLAIN_MAX + 1 + SEAL_OVERHEAD) as u64;

/// Most parts that wait for a sync; one more commits. A release of 30 GB has some 2000.
const UNSYNCED_MAX: usize = 1024;

/// The folder of index parts.
pub(crate) struct Parts {
    folder: PathBuf,
    /// Where parts are written before they get their name; on the same file system, and emptied at start.
    temporary: PathBuf,
    /// How many were written there so far: their names.
    count: AtomicU64,
    files: Files,
    known: Mutex<Known>,
}

/// What this process knows of parts that are here.
#[derive(Default)]
struct Known {
    /// To be synced by the next commit.
    unsynced: BTreeSet<BlockId>,
    /// Synced by a commit. It may have been removed since.
    synced: HashSet<BlockId>,
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
    pub(crate) fn new(folder: PathBuf, temporary: PathBuf, files: Files) -> Self {
        Self { folder, temporary, count: AtomicU64::default(), files, known: Mutex::default() }
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
        let temporary = self.temporary.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        let written = self.write(&temporary, part);
        if written.is_err() {
            // What stays goes at the next start.
            let _ = self.files.remove(&temporary);
        }
        written?;
        let mut known = self.known();
        known.synced.remove(part.id());
        known.unsynced.insert(*part.id());
        Ok(known.unsynced.len())
    }

    fn write(&self, temporary: &Path, part: &VerifiedBlock) -> Result<(), StoreError> {
        let path = self.path(part.id());
        path.parent().map_or(Ok(()), |folder| self.files.create_folder(folder))?;
        let file = self.files.open(temporary, Open::CreateNew)?;
        file.write_all_at(part.bytes(), 0).map_err(|error| StoreError::io("write", temporary, error))?;
        // Windows gives no other name to a file that is open.
        drop(file);
        self.files.rename(temporary, &path)
    }

    fn get(&self, id: &BlockId) -> Result<Option<VerifiedBlock>, StoreError> {
        let path = self.path(id);
        // One byte more than a part may have: a longer file does not verify.
        let Some(bytes) = self.files.read(&path, PART_MAX + 1)? else { return Ok(None) };
        let Ok(part) = VerifiedBlock::verify(id, bytes) else {
            tracing::warn!(part = %id, "an index part had rotted on this disk; it will be fetched again");
            self.files.remove(&path)?;
            return Ok(None);
        };
        let mut known = self.known();
        if !known.synced.contains(id) {
            known.unsynced.insert(*id);
        }
        Ok(Some(part))
    }

    /// Makes all parts that were put or found survive a power cut. A part that cannot be synced is removed: a later sync would
    /// prove nothing.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let parts = std::mem::take(&mut self.known().unsynced);
        let (mut folders, mut outcome) = (HashSet::new(), Ok(()));
        for part in parts {
            let path = self.path(&part);
            let synced = self.sync_file(&path).and_then(|()| self.files.sync_name(&path, &mut folders));
            if synced.is_err() {
                let _ = self.files.remove(&path);
            } else if let mut known = self.known()
                && !known.unsynced.contains(&part)
            {
                known.synced.insert(part);
            }
            outcome = outcome.and(synced);
        }
        outcome
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part that was found rotten and removed meanwhile needs no sync. Windows syncs only what is open for writing.
    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        let Some(file) = self.files.open_if_there(path, Open::Write)? else { return Ok(()) };
        file.sync_all().map_err(|error| StoreError::io("sync", path, error))
    }
}
