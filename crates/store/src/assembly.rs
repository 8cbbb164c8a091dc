//! An assembly: somebody's intent to put a release together, and a release's files as far as they are written.

use crate::{
    assemble::{Ahead, AssembleError, Target},
    error::StoreError,
    store::Store,
};
use branchmesh_image::{Cipher, Index};
use std::{path::PathBuf, sync::Arc};

/// A release's files, put together while its blocks still arrive.
///
/// Several of one index fill the same files: what one has written, the others need not write, and whoever
/// [finishes](Self::finish) does it for all. If the release is [retired](Store::retire), or another index takes its
/// name, the assembly has nothing to go on with: its calls fail with [`StoreError::Superseded`], and it can only be
/// dropped. After any other error it goes on; if it was not about blocks, with nothing.
///
/// What is written and not in place stays when an assembly is dropped, and over a restart, as long as the ledger has a
/// record of the release: the next assembly of the same index goes on with it. All calls, and dropping it, wait for the
/// disk and for other assemblies that are writing.
pub struct Assembly {
    store: Store,
    index: Arc<Index>,
    cipher: Cipher,
    target: Target,
    /// The folder that it fills, from the first call on.
    begun: Option<u64>,
}

impl Store {
    /// Begins to put a release together. Nothing is on disk before the first [`advance`](Assembly::advance) that
    /// finds blocks.
    pub fn begin_assembly(&self, index: Arc<Index>, cipher: Cipher) -> Result<Assembly, AssembleError> {
        let target = self.target(&index)?;
        Ok(Assembly { store: self.clone(), index, cipher, target, begun: None })
    }
}

impl Assembly {
    /// Writes every block that is here and was not written yet, and gives the bytes. Blocks that are missing are left for
    /// later. Of blocks that have rotted it tells, after it has written all it could, so that
    /// they are fetched early: [`AssembleError::Rotten`].
    pub fn advance(&mut self) -> Result<u64, AssembleError> {
        self.in_turn(|store, ahead, target, index, cipher| store.write_ahead(ahead, target, (index, cipher)))
            .map(Option::unwrap_or_default)
    }

    /// Writes everything that is left, puts the files in place, and gives their folder. Returns at once if they are
    /// there. If blocks are lacking, what is written stays: fetch them and call it again.
    ///
    /// `progress` is called as by [`Store::assemble`]; what was written before counts in the first call.
    pub fn finish(&mut self, progress: &(dyn Fn(u64) + Sync)) -> Result<PathBuf, AssembleError> {
        let folder = self.in_turn(|store, ahead, target, index, cipher| {
            store.put_together(ahead, target, (index, cipher), progress)
        })?;
        Ok(folder.unwrap_or_else(|| self.target.folder.clone()))
    }

    /// Does something with the folder that it fills; `None` if the files are in place.
    fn in_turn<T>(
        &mut self,
        work: impl FnOnce(&Store, &mut Ahead, &Target, &Index, &Cipher) -> Result<T, AssembleError>,
    ) -> Result<Option<T>, AssembleError> {
        let mut ahead = self.store.assembly_turn();
        let number = match self.begun {
            Some(number) if ahead.has(&self.target, number) => number,
            _ if self.store.is_assembled(&self.target, &self.index)? => return Ok(None),
            Some(_) => {
                let (image, release) = (self.index.root().image.clone(), self.index.root().release.clone());
                return Err(StoreError::Superseded { image, release }.into());
            }
            None => {
                let begun = ahead.begun(self.store.files(), &self.target, &self.index);
                begun.holders += 1;
                *self.begun.insert(begun.number)
            }
        };
        let done = work(&self.store, &mut ahead, &self.target, &self.index, &self.cipher);
        if done.is_err() && !ahead.has(&self.target, number) {
            self.begun = None;
        }
        done.map(Some)
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        if let Some(number) = self.begun {
            self.store.assembly_turn().leave(&self.target, number);
        }
    }
}
