//! A release's folder while it is being filled: which runs are written, and what is still to do before it is whole.

use crate::{
    assemble::AssembleError,
    disk::Open,
    error::StoreError,
    files::Files,
    fill::{Job, Work},
    layout::{self, Ground},
    runs::Run,
    store::Store,
    unsynced::Unsynced,
};
use branchmesh_image::{Cipher, FileEntry, Index};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The folder. Nothing is on disk before the first [`write`](Self::write). All calls are for one index.
pub(crate) struct Partial {
    folder: PathBuf,
    runs: Vec<Run>,
    /// For each run, whether it is written.
    written: Vec<bool>,
    /// For each run, how many of its first blocks were here when somebody looked: nobody looks at them again before
    /// the run is written, and the writer finds out if one is gone.
    here: Vec<u8>,
    /// Bytes of runs that are not written.
    left: u64,
    /// What each file was before it was filled; none before the files are made.
    grounds: Vec<Ground>,
    unsynced: Unsynced,
}

impl Partial {
    pub fn new(folder: PathBuf, index: &Index) -> Self {
        let runs = Run::of(index);
        Self {
            folder,
            written: vec![false; runs.len()],
            here: vec![0; runs.len()],
            left: runs.iter().map(|run| run.bytes(index)).sum(),
            runs,
            grounds: Vec::new(),
            unsynced: Unsynced::default(),
        }
    }

    /// Bytes of the files that are not written.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The runs that are not written and whose blocks are all here.
    pub fn ready(&mut self, store: &Store, index: &Index) -> Vec<usize> {
        let mut ready = Vec::new();
        for (number, run) in self.runs.iter().enumerate().filter(|(number, _)| !self.written[*number]) {
            let (blocks, here) = (run.blocks(index), &mut self.here[number]);
            let more = blocks[usize::from(*here)..].iter().take_while(|block| store.has(&block.location()));
            // A run has at most 64 blocks.
            *here += u8::try_from(more.count()).unwrap_or(0);
            if usize::from(*here) == blocks.len() {
                ready.push(number);
            }
        }
        ready
    }

    /// The runs that are not written.
    pub fn rest(&self) -> Vec<usize> {
        (0..self.runs.len()).filter(|run| !self.written[*run]).collect()
    }

    /// The blocks that are still needed and not here, ascending.
    pub fn missing(&self, store: &Store, index: &Index) -> Vec<u32> {
        let rest = self.rest().into_iter().flat_map(|run| self.runs[run].numbers());
        let missing = rest.filter(|number| !store.has(&index.blocks()[*number as usize].location()));
        missing.collect::<BTreeSet<u32>>().into_iter().collect()
    }

    /// Writes these runs. After [`Missing`](AssembleError::Missing) and
    /// [`Rotten`](AssembleError::Rotten) it can go on; after another error the folder must not be believed.
    pub fn write(
        &mut self,
        store: &Store,
        (index, cipher): (&Index, &Cipher),
        todo: &[usize],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), AssembleError> {
        self.lay_out(store, index)?;
        let (folder, runs, unsynced) = (self.folder.as_path(), self.runs.as_slice(), &self.unsynced);
        let job = Job { store, index, cipher, folder, runs, grounds: &self.grounds, unsynced, progress };
        let outcome = Work::new(job, todo).run();
        todo.iter().for_each(|run| self.here[*run] = 0);
        for run in outcome.written {
            self.written[run] = true;
            self.left -= self.runs[run].bytes(index);
        }
        outcome.trouble.map_or(Ok(()), Err)
    }

    /// Sets the files' modes and makes them and their names survive a power cut. No file is open afterwards: Windows
    /// moves no folder that holds an open one.
    pub fn sync(&self, files: &Files, index: &Index) -> Result<(), StoreError> {
        let mut folders = BTreeSet::from([self.folder.clone()]);
        for (number, entry) in index.files().iter().enumerate() {
            let path = path_in(&self.folder, entry);
            let file = self.unsynced.take(number).map_or_else(|| files.open(&path, Open::Write), Ok)?;
            file.set_mode(entry.mode)
                .and_then(|()| file.sync_all())
                .map_err(|error| StoreError::io("sync", &path, error))?;
            let above = path.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.folder));
            folders.extend(above.map(Path::to_path_buf));
        }
        // Deepest first: a folder's path sorts after its parent's.
        folders.iter().rev().try_for_each(|folder| files.sync_folder(folder))
    }

    /// Takes it from the disk.
    pub fn remove(self, files: &Files) {
        // Files that are open could not be removed on Windows.
        drop(self.unsynced);
        if let Err(left) = files.remove(&self.folder) {
            tracing::warn!(error = %left, "what was assembled so far could not be removed");
        }
    }

    /// Makes the files at the first time. Each time the disk must have room for all that they will still get: blocks
    /// that arrive take space too.
    fn lay_out(&mut self, store: &Store, index: &Index) -> Result<(), StoreError> {
        if !self.grounds.is_empty() {
            return store.space().check(&self.folder, self.unreserved(index));
        }
        store.files().remove(&self.folder)?;
        store.files().create_folder(&self.folder)?;
        let others = store.assembled_beside(&index.root().image, &self.folder)?;
        for file in index.files() {
            self.grounds.push(layout::make(store, &self.folder, &others, (index, file))?);
        }
        store.space().check(&self.folder, self.unreserved(index))
    }

    /// Bytes that are not written and have no space yet. Those of clones take theirs as they are written.
    fn unreserved(&self, index: &Index) -> u64 {
        let runs = self.runs.iter().zip(&self.written);
        let runs = runs.filter(|(run, written)| !**written && self.grounds[run.file] == Ground::Empty);
        runs.map(|(run, _)| run.bytes(index)).sum()
    }
}

/// A file's path inside the release's folder. The index has checked each component.
pub(crate) fn path_in(folder: &Path, file: &FileEntry) -> PathBuf {
    file.path.split('/').fold(folder.to_path_buf(), |path, component| path.join(component))
}
