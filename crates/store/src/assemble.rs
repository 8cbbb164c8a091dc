//! From blocks to files: a release is put together beside its place, synced, and moved there in one step.
//!
//! Much of it can be done while blocks still arrive, by an [`Assembly`](crate::Assembly): after the last block, only
//! what that brought has to be written. What was written is remembered in memory; after a restart it is read and
//! compared, and only what differs is written again.
//!
//! A release has one partial folder, whoever fills it, and only whoever has the assembly turn touches it. [`Begun`]
//! says what was written there. A failed write or sync leaves files that may show what is not on the disk, so it ends
//! the entry and the folder, and the next one begins with nothing.
//!
//! Whoever looks sees no folder or a whole one. The ledger remembers which index a folder was made from, so that
//! assembling again costs nothing; that row is written before the folder gets its name, and means nothing
//! without the folder.
//!
//! Holes stay holes where a file system makes a file sparse that was only set to its length. NTFS does not: there
//! they are zeros that take up space.

use crate::{
    disk::Found,
    error::StoreError,
    files::Files,
    images,
    ledger::{self, Folder},
    partial::{Partial, path_in},
    store::Store,
};
use branchmesh_image::{BlockError, BlockId, Cipher, Index};
use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

/// The partial folders that are being filled, by ledger key. Belongs to whoever has the assembly turn.
#[derive(Default)]
pub(crate) struct Ahead {
    begun: HashMap<String, Begun>,
    /// Those whose folder should have been removed and could not be.
    doubtful: HashSet<String>,
    /// How many there were so far.
    count: u64,
}

/// A partial folder that is being filled.
pub(crate) struct Begun {
    /// Of which index.
    identity: BlockId,
    /// Tells it from an earlier one of the same release.
    pub number: u64,
    /// Assemblies that fill it.
    pub holders: usize,
    partial: Partial,
}

/// Which index is put together, and where.
#[derive(Clone)]
pub(crate) struct Target {
    /// The release, as in the ledger.
    pub key: String,
    /// The hash of the index's root.
    pub identity: BlockId,
    /// Where its files will be.
    pub folder: PathBuf,
    /// Where they are until then.
    pub partial: PathBuf,
}

impl Ahead {
    /// Forgets what was written of a release; its folder goes, or is gone.
    pub(crate) fn forget(&mut self, key: &str) {
        self.begun.remove(key);
        self.doubtful.remove(key);
    }

    /// Whether this folder is still being filled.
    pub(crate) fn has(&self, target: &Target, number: u64) -> bool {
        self.begun.get(&target.key).is_some_and(|begun| begun.number == number)
    }

    /// One of those who fill this folder has gone. After the last one, what is written waits for the next.
    pub(crate) fn leave(&mut self, target: &Target, number: u64) {
        let Some(begun) = self.begun.get_mut(&target.key).filter(|begun| begun.number == number) else {
            return;
        };
        begun.holders -= 1;
        if begun.holders == 0 {
            self.begun.remove(&target.key);
        }
    }

    /// The folder that is being filled for this index. A new one takes the place of another index's.
    pub(crate) fn begun(&mut self, files: &Files, target: &Target, index: &Index) -> &mut Begun {
        if !self.is_begun(target) {
            self.discard(files, target);
            self.count += 1;
        }
        self.begun.entry(target.key.clone()).or_insert_with(|| Begun {
            identity: target.identity,
            number: self.count,
            holders: 0,
            partial: Partial::new(target.clone(), index, self.doubtful.remove(&target.key)),
        })
    }

    fn is_begun(&self, target: &Target) -> bool {
        self.begun.get(&target.key).is_some_and(|begun| begun.identity == target.identity)
    }

    fn discard(&mut self, files: &Files, target: &Target) {
        let Some(begun) = self.begun.remove(&target.key) else { return };
        if let Err(left) = begun.partial.remove(files) {
            tracing::warn!(error = %left, "what was assembled so far could not be removed");
            self.doubtful.insert(target.key.clone());
        }
    }
}

/// Why a release was not put together. An earlier folder of it stays.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Blocks are not here.
    #[error("{} blocks of the release are not here yet", .blocks.len())]
    Missing {
        /// Their numbers in the index, ascending.
        blocks: Vec<u32>,
    },
    /// Blocks were here, but the disk gave other bytes. They are forgotten.
    #[error("{} blocks of the release had rotted on this disk and have to be fetched again", .blocks.len())]
    Rotten {
        /// The numbers in the index of all blocks that have to be fetched, ascending.
        blocks: Vec<u32>,
    },
    /// A block is what the index says and cannot be decoded: the wrong key, or a publisher's mistake.
    #[error("block {id} of the release cannot be decoded: {source}")]
    Decode {
        /// The block.
        id: BlockId,
        /// Why.
        source: BlockError,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AssembleError {
    /// Whether it is enough to fetch blocks: what was written is as good as before.
    fn wants_blocks(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Rotten { .. } => true,
            Self::Decode { .. } | Self::Store(_) => false,
        }
    }
}

impl Store {
    /// Puts the files of a release in place and gives their folder. Returns at once if they are there. Uses what was
    /// written of it already; that stays if only blocks are lacking. Otherwise an error leaves nothing.
    ///
    /// `progress` is called, from several threads, with the bytes of files that were done since the last call;
    /// together these are the sizes of all files, holes included.
    pub fn assemble(
        &self,
        index: &Index,
        cipher: &Cipher,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, AssembleError> {
        let target = self.target(index)?;
        let mut ahead = self.assembly_turn();
        self.put_together(&mut ahead, &target, (index, cipher), progress)
    }

    /// What an index is put together to. Checks the names.
    pub(crate) fn target(&self, index: &Index) -> Result<Target, StoreError> {
        let (image, release) = (&index.root().image, &index.root().release);
        images::check(image, release)?;
        Ok(Target {
            key: ledger::key(image, release),
            identity: BlockId::of(&index.root().to_bytes()),
            folder: self.release_folder(image, release),
            partial: self.partial_folder(image, release),
        })
    }

    /// Writes the runs whose blocks are all here, and gives the bytes. Blocks that are missing are left for later.
    pub(crate) fn write_ahead(
        &self,
        ahead: &mut Ahead,
        target: &Target,
        (index, cipher): (&Index, &Cipher),
    ) -> Result<u64, AssembleError> {
        let partial = &mut ahead.begun(self.files(), target, index).partial;
        let todo = partial.ready(self, index);
        if todo.is_empty() {
            return Ok(0);
        }
        let left = partial.left();
        let written = partial.write(self, (index, cipher), &todo, &|_| {});
        let bytes = left - partial.left();
        match written {
            Ok(()) | Err(AssembleError::Missing { .. }) => Ok(bytes),
            Err(error) => {
                if !error.wants_blocks() {
                    ahead.discard(self.files(), target);
                }
                Err(error)
            }
        }
    }

    /// Writes all that is not written yet, and puts the files in place.
    pub(crate) fn put_together(
        &self,
        ahead: &mut Ahead,
        target: &Target,
        (index, cipher): (&Index, &Cipher),
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, AssembleError> {
        if self.is_assembled(target, index)? {
            return Ok(target.folder.clone());
        }
        let was_begun = ahead.is_begun(target);
        let partial = &mut ahead.begun(self.files(), target, index).partial;
        let finished = self
            .finish(partial, (index, cipher), progress)
            .and_then(|()| Ok(self.put_in_place(target, index)?));
        if let Err(error) = finished {
            if !(was_begun && error.wants_blocks()) {
                ahead.discard(self.files(), target);
            }
            return Err(error);
        }
        ahead.forget(&target.key);
        tracing::debug!(image = index.root().image, release = index.root().release, "release is assembled");
        Ok(target.folder.clone())
    }

    /// Whether the folder was made from this index and its files still have their sizes. Then it stays there: who put it
    /// in place may have ended, or met an error, before its name was synced.
    pub(crate) fn is_assembled(&self, target: &Target, index: &Index) -> Result<bool, StoreError> {
        if !self.is_in_place(target)? {
            return Ok(false);
        }
        for file in index.files() {
            if self.files().examine(&path_in(&target.folder, file))? != Some(Found::File(file.size)) {
                return Ok(false);
            }
        }
        self.sync_release_names(&index.root().image)?;
        Ok(true)
    }

    /// Whether the folder was made from this index, whatever became of its files.
    pub(crate) fn is_in_place(&self, target: &Target) -> Result<bool, StoreError> {
        let known = self.ledger().folder(&target.key)?;
        Ok(known == Some(Folder::Assembled(target.identity)) && self.files().is_folder(&target.folder)?)
    }

    /// Writes all that is not written yet, and makes it durable.
    fn finish(
        &self,
        partial: &mut Partial,
        (index, cipher): (&Index, &Cipher),
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), AssembleError> {
        let blocks = partial.missing(self, index);
        if !blocks.is_empty() {
            return Err(AssembleError::Missing { blocks });
        }
        progress(index.files().iter().map(|file| file.size).sum::<u64>() - partial.left());
        let rest = partial.rest();
        partial.write(self, (index, cipher), &rest, progress)?;
        Ok(partial.sync(self.files(), index)?)
    }

    /// Moves the finished folder to its place.
    fn put_in_place(&self, target: &Target, index: &Index) -> Result<(), StoreError> {
        let _turn = self.folder_turn();
        let (image, release) = (&index.root().image, &index.root().release);
        let replaced = self.replaced_folder(image, release);
        let files = self.files();
        files.remove(&replaced)?;
        if files.examine(&target.folder)?.is_some() {
            tracing::warn!("a release's folder is not what its index says and is replaced");
            files.rename(&target.folder, &replaced)?;
        }
        // What is under the release's name must not come back to it once the ledger says something else of it.
        files.sync_folder(&self.image_folder(image))?;
        self.ledger().set_folder(&target.key, Some(Folder::Assembled(target.identity)))?;
        files.rename(&target.partial, &target.folder)?;
        self.sync_release_names(image)?;
        files.remove(&replaced)
    }
}
