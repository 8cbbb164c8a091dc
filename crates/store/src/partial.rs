//! A release's folder while it is being filled: which runs are written, and what is still to do before it is whole.
//!
//! The folder outlives the process. The ledger says for which index it is, and is told before the first file is there;
//! what of its files can be used is found out by comparing.

use crate::{
    assemble::{AssembleError, Target},
    disk::Open,
    error::StoreError,
    files::Files,
    fill::{Job, Work},
    layout::{self, Ground},
    runs::{Part, Run},
    store::Store,
    unsynced::Unsynced,
};
use branchmesh_image::{Cipher, FileEntry, Index};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The folder. The first [`write`](Self::write) makes it, or takes it up again. All calls are for one index.
pub(crate) struct Partial {
    target: Target,
    /// What is there is not believed, even if it compares well: a write or a sync has failed.
    is_doubtful: bool,
    runs: Vec<Run>,
    /// For each run, the blocks that are written.
    written: Vec<u64>,
    /// Bytes of blocks that are not written.
    left: u64,
    /// What each file was before it was filled; none before the files are made.
    grounds: Vec<Ground>,
    unsynced: Unsynced,
}

impl Partial {
    pub fn new(target: Target, index: &Index, is_doubtful: bool) -> Self {
        let runs = Run::of(index);
        let mut partial = Self {
            target,
            is_doubtful,
            written: vec![0; runs.len()],
            left: 0,
            runs,
            grounds: Vec::new(),
            unsynced: Unsynced::default(),
        };
        partial.left = partial.bytes(index, &partial.rest());
        partial
    }

    /// Bytes of the files that are not written.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// What is not written, and is here.
    pub fn ready(&self, store: &Store, index: &Index) -> Vec<Part> {
        let (ready, _) = self.divide(store, index);
        ready
    }

    /// What is not written.
    pub fn rest(&self) -> Vec<Part> {
        let runs = self.runs.iter().zip(&self.written).enumerate();
        let parts = runs.map(|(number, (run, written))| Part { run: number, blocks: run.all() & !written });
        parts.filter(|part| part.blocks != 0).collect()
    }

    /// The blocks that are still needed and not here, ascending.
    pub fn missing(&self, store: &Store, index: &Index) -> Vec<u32> {
        let (_, missing) = self.divide(store, index);
        let numbers = missing.iter().flat_map(|part| self.runs[part.run].numbers(part));
        numbers.collect::<BTreeSet<u32>>().into_iter().collect()
    }

    /// What is not written: what of it is here, and what is not.
    fn divide(&self, store: &Store, index: &Index) -> (Vec<Part>, Vec<Part>) {
        let divided = self.rest().into_iter().map(|part| {
            let look = store.look();
            let here = self.runs[part.run].mask(index, |block| look(&block.location()));
            (Part { blocks: part.blocks & here, ..part }, Part { blocks: part.blocks & !here, ..part })
        });
        let (mut here, mut lacking): (Vec<Part>, Vec<Part>) = divided.unzip();
        here.retain(|part| part.blocks != 0);
        lacking.retain(|part| part.blocks != 0);
        (here, lacking)
    }

    /// Writes these blocks. After [`Missing`](AssembleError::Missing) and
    /// [`Rotten`](AssembleError::Rotten) it can go on; after another error the folder must not be believed.
    pub fn write(
        &mut self,
        store: &Store,
        (index, cipher): (&Index, &Cipher),
        todo: &[Part],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), AssembleError> {
        self.lay_out(store, index)?;
        let (folder, runs, unsynced) = (&*self.target.partial, &*self.runs, &self.unsynced);
        let job = Job { store, index, cipher, folder, runs, grounds: &self.grounds, unsynced, progress };
        let outcome = Work::new(job, todo).run();
        for part in &outcome.written {
            self.written[part.run] |= part.blocks;
        }
        self.left -= self.bytes(index, &outcome.written);
        outcome.trouble.map_or(Ok(()), Err)
    }

    /// Sets the files' modes and makes them and their names survive a power cut. No file is open afterwards: Windows
    /// moves no folder that holds an open one.
    pub fn sync(&self, files: &Files, index: &Index) -> Result<(), StoreError> {
        let folder = &self.target.partial;
        let mut folders = BTreeSet::from([folder.clone()]);
        for (number, entry) in index.files().iter().enumerate() {
            let path = path_in(folder, entry);
            let file = self.unsynced.take(number).map_or_else(|| files.open(&path, Open::Write), Ok)?;
            file.set_mode(entry.mode)
                .and_then(|()| file.sync_all())
                .map_err(|error| StoreError::io("sync", &path, error))?;
            let above = path.ancestors().skip(1).take_while(|parent| parent.starts_with(folder));
            folders.extend(above.map(Path::to_path_buf));
        }
        // Deepest first: a folder's path sorts after its parent's.
        folders.iter().rev().try_for_each(|folder| files.sync_folder(folder))
    }

    /// Takes it from the disk.
    pub fn remove(self, files: &Files) -> Result<(), StoreError> {
        // Files that are open could not be removed on Windows.
        drop(self.unsynced);
        files.remove(&self.target.partial)
    }

    /// Makes the files at the first time. Each time the disk must have room for all that they will still get: blocks
    /// that arrive take space too.
    fn lay_out(&mut self, store: &Store, index: &Index) -> Result<(), StoreError> {
        let (target, image) = (&self.target, &index.root().image);
        if self.grounds.is_empty() {
            take_up(store, (target, image), self.is_doubtful)?;
            self.is_doubtful = false;
            let others = store.assembled_beside(image, &target.folder)?;
            let make = |file| layout::make(store, &target.partial, &others, (index, file));
            self.grounds = index.files().iter().map(make).collect::<Result<_, _>>()?;
        }
        store.space().check(&target.partial, self.unreserved(index))
    }

    /// Bytes that are not written and have no space yet. Those of clones take theirs as they are written.
    fn unreserved(&self, index: &Index) -> u64 {
        let mut parts = self.rest();
        parts.retain(|part| self.grounds[self.runs[part.run].file] == Ground::Empty);
        self.bytes(index, &parts)
    }

    fn bytes(&self, index: &Index, parts: &[Part]) -> u64 {
        parts.iter().map(|part| self.runs[part.run].bytes(index, part)).sum()
    }
}

/// Makes a partial folder, or takes up the one that was begun for the same index.
fn take_up(store: &Store, (target, image): (&Target, &str), is_doubtful: bool) -> Result<(), StoreError> {
    let (files, identity) = (store.files(), Some(target.identity));
    if is_doubtful || store.ledger().partial(&target.key)? != identity {
        files.remove(&target.partial)?;
        // It must not come back to a row that speaks of another index.
        store.sync_release_names(image)?;
        store.ledger().set_partial(&target.key, identity.as_ref())?;
    }
    files.create_folder(&target.partial)
}

/// A file's path inside the release's folder. The index has checked each component.
pub(crate) fn path_in(folder: &Path, file: &FileEntry) -> PathBuf {
    file.path.split('/').fold(folder.to_path_buf(), |path, component| path.join(component))
}
