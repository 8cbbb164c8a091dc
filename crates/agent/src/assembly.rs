//! Files are put together while their blocks arrive, so that little is left to do after the last one.

use crate::{
    happening::{Assembled, Happening},
    shared::{Held, Shared},
};
use branchmesh_store::{AssembleError, Assembly, Store};
use branchmesh_wire::IndexId;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::debug;

/// A release's files on their way; taken by one thread at a time, and dropped on a thread that may wait.
#[derive(Clone)]
pub(crate) struct Assembling {
    release: IndexId,
    assembly: Arc<Mutex<Option<Assembly>>>,
}

impl Assembling {
    /// Begins; nothing is on disk before blocks are.
    pub fn begin(store: &Store, held: &Held) -> Result<Self, AssembleError> {
        let assembly = store.begin_assembly(Arc::clone(&held.index), held.cipher.clone())?;
        Ok(Self { release: held.entry.id(), assembly: Arc::new(Mutex::new(Some(assembly))) })
    }

    /// Writes what has arrived so far. Blocks.
    pub fn advance(&self, shared: &Shared) {
        let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(assembly) = assembly.as_mut() else { return };
        match assembly.advance() {
            Ok(_) => {}
            Err(AssembleError::Rotten { blocks }) => {
                shared.tell_blocking(Happening::Lost(self.release, blocks));
            }
            // Said again, with consequences, when the files are put in place.
            Err(error) => debug!(error = crate::in_words(&error), "nothing was written ahead"),
        }
    }

    /// Puts the files in place. Blocks.
    fn finish(&self) -> Result<PathBuf, AssembleError> {
        let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        // Only a finished assembly is taken away, and its release does not come here again.
        let Some(working) = assembly.as_mut() else {
            return Err(AssembleError::Missing { blocks: Vec::new() });
        };
        let folder = working.finish(&|_| ())?;
        *assembly = None;
        Ok(folder)
    }
}

impl Drop for Assembling {
    fn drop(&mut self) {
        // Dropping an unfinished assembly may wait for another one that is writing.
        let Some(assembly) = Arc::get_mut(&mut self.assembly) else { return };
        let assembly = assembly.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match (assembly, tokio::runtime::Handle::try_current()) {
            (Some(assembly), Ok(runtime)) => drop(runtime.spawn_blocking(move || drop(assembly))),
            (assembly, _) => drop(assembly),
        }
    }
}

/// Puts a release's files in place, and tells the loop.
pub(crate) async fn finish(shared: Arc<Shared>, assembling: Assembling) {
    let release = assembling.release;
    let worker = Arc::clone(&shared);
    let assembled = tokio::task::spawn_blocking(move || {
        worker.store.commit().map_err(|error| Assembled::Failed(crate::in_words(&error)))?;
        assembling.finish().map_err(|error| match error {
            AssembleError::Missing { blocks } | AssembleError::Rotten { blocks } => {
                Assembled::Lacking(blocks)
            }
            AssembleError::Store(error) if error.is_lack_of_space() => {
                Assembled::NoSpace(crate::in_words(&error))
            }
            other @ (AssembleError::Decode { .. } | AssembleError::Store(_)) => {
                Assembled::Failed(crate::in_words(&other))
            }
        })
    });
    let assembled = match assembled.await {
        Ok(Ok(path)) => Assembled::InPlace(path),
        Ok(Err(failed)) => failed,
        Err(panic) => Assembled::Failed(panic.to_string()),
    };
    shared.tell(Happening::Assembled(release, assembled)).await;
}
