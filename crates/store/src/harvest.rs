//! Harvest: blocks of a release that lie in files of this machine, such as an old disk or a system folder.
//!
//! Files are cut as a publisher cuts them, and [`pieces`] remembers where each piece lies, by the hash of its
//! plaintext. That is a hint: files change. A piece is read and hashed again before anything is made of it, and becomes
//! a block only if encoding it gives the block's own id, so that it can be passed on like any other. A memory that is
//! damaged or cannot be read is therefore thrown away, and the files are read again.

mod encoding;
mod pieces;
mod places;
mod scan;
mod take;

use crate::{database::Database, error::StoreError, store::Store};
use branchmesh_image::{BlockError, BlockSize, Cipher, Index};
use pieces::Pieces;
use std::{fs, path::PathBuf, sync::atomic::AtomicBool, time::Duration};

/// Memory for pages of the database: pieces come in random order, and the more of their table is in memory the better.
const CACHE_BYTES: usize = 32 << 20;

/// Why nothing can be harvested.
#[derive(Debug, thiserror::Error)]
pub enum HarvestError {
    /// What was found cannot be remembered, or not be looked up. The next call begins with what is left of it.
    #[error("what was found in the files of `harvest` is not at hand")]
    Pieces(#[source] StoreError),
    /// No encoder can be made.
    #[error("blocks cannot be encoded")]
    Encode(#[from] BlockError),
    /// The store takes no blocks.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a look through the files came to, and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that had not changed since they were read.
    pub unchanged: u64,
    /// Files that could not be read, with the reason; the first of them.
    pub unreadable: Vec<(PathBuf, String)>,
    /// How long it took.
    pub took: Duration,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// What was taken for a release, and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvested {
    /// Blocks that are in the store now.
    pub blocks: u64,
    /// Their encoded bytes: what need not be fetched.
    pub bytes: u64,
    /// Pieces that were not any more what was remembered.
    pub changed: u64,
    /// Pieces that the publisher encoded in a way that is not known here: another version of zstd, for example.
    pub foreign: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
}

/// The pieces of this machine's files. One call works at a time, others wait for it.
pub struct Harvest {
    database: Database,
    /// What lies below is the store's own.
    data_dir: PathBuf,
}

impl Harvest {
    /// With what earlier runs have found for this store. The store may be closed before it.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let (data_dir, files) = (store.data_dir(), store.files().clone());
        let database = Database::new(data_dir.join("store").join("harvest.redb"), CACHE_BYTES, files);
        // As the files are named that are found.
        let data_dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
        Self { database, data_dir }
    }

    /// Looks through `places` (files, folders with all that they hold, block devices) for pieces as blocks of
    /// `size` are cut. Files that have their size and time of change still are not read again. Ends soon after
    /// `stop` is set; the next scan goes on.
    pub fn scan(&self, places: &[PathBuf], size: BlockSize, stop: &AtomicBool) -> Result<Scan, HarvestError> {
        self.with(|pieces| scan::scan(pieces, (places, &self.data_dir), size, stop))
    }

    /// Puts the blocks of `index` that lie in the files into the store, those that it lacks, and tells their numbers
    /// as they come. The caller commits.
    pub fn take(
        &self,
        store: &Store,
        release: (&Index, &Cipher),
        stop: &AtomicBool,
        found: &mut dyn FnMut(&[u32]),
    ) -> Result<Harvested, HarvestError> {
        self.with(|pieces| take::take(pieces, store, release, stop, found))
    }

    /// Does `job` with what is remembered. What cannot be opened is thrown away before, what turns out to be damaged
    /// meanwhile after it. An error of the disk in between leaves it be: opening it again tells what became of it.
    fn with<T>(&self, job: impl FnOnce(&Pieces) -> Result<T, HarvestError>) -> Result<T, HarvestError> {
        match self.database.open() {
            Err(error @ (StoreError::Corrupt { .. } | StoreError::Io { .. })) => self.throw_away(&error),
            opened => opened,
        }
        .map_err(HarvestError::Pieces)?;
        let path = self.database.path();
        let done = self.database.with(|database| job(&Pieces::new(path, database)));
        let done = done.map_err(HarvestError::Pieces).flatten();
        if let Err(HarvestError::Pieces(error @ StoreError::Corrupt { .. })) = &done {
            self.throw_away(error).map_err(HarvestError::Pieces)?;
        }
        done
    }

    fn throw_away(&self, error: &StoreError) -> Result<(), StoreError> {
        tracing::warn!(%error, "what was harvested before is found again");
        self.database.remove()
    }
}
