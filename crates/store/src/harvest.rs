//! Harvest: blocks of a release that lie in files of this machine, such as an old disk or a system folder.
//!
//! Files are cut as a publisher cuts them, and [`pieces`] remembers where each piece lies, by the hash of its
//! plaintext. That is a hint: files change. A piece is read and hashed again before anything is made of it, and becomes
//! a block only if encoding it gives the block's own id, so that it can be passed on like any other.

mod encoding;
mod pieces;
mod places;

use crate::{disk::DiskFile, error::StoreError, store::Store};
use branchmesh_image::{BlockError, BlockSize, Chunker, Cipher, Cut, Index, PlainHash, Source};
use encoding::Reencoder;
use pieces::{Batch, FileState, Piece, Pieces};
use places::Candidate;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Most files that are named in [`Scan::unreadable`].
const UNREADABLE_MAX: usize = 16;
/// Pieces that are remembered in one transaction: rarely enough that syncs cost nothing.
const BATCH_PIECES: usize = 16 << 10;
/// Blocks that are told at once.
const TOLD_BLOCKS: usize = 64;
/// How long what was seen on a block device counts: a device does not tell when it was written.
const DEVICE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why nothing can be harvested.
#[derive(Debug, thiserror::Error)]
pub enum HarvestError {
    /// What was found is remembered in a file that cannot be used.
    #[error("{} cannot be used; remove it to look through the files of `harvest` again", .path.display())]
    Pieces {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<redb::Error>,
    },
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

/// The pieces of this machine's files.
pub struct Harvest {
    pieces: Pieces,
    data_dir: PathBuf,
}

impl Harvest {
    /// Opens what earlier runs have found, below the folder of a store. What cannot be read is found again.
    pub fn open(data_dir: &Path) -> Result<Self, HarvestError> {
        let data_dir =
            fs::canonicalize(data_dir).map_err(|error| StoreError::io("examine", data_dir, error))?;
        let pieces = Pieces::open(&data_dir.join("store").join("harvest.redb"))?;
        Ok(Self { pieces, data_dir })
    }

    /// Looks through `places` (files, folders with all that they hold, block devices) for pieces as blocks of
    /// `size` are cut. Files that have their size and time of change still are not read again. Ends soon after
    /// `stop` is set; the next scan goes on.
    pub fn scan(&self, places: &[PathBuf], size: BlockSize, stop: &AtomicBool) -> Result<Scan, HarvestError> {
        let begun = Instant::now();
        let mut scan = Scan::default();
        let mut batch = self.pieces.batch()?;
        batch.forget_the_gone()?;
        for candidate in places::candidates(places, &self.data_dir) {
            if stop.load(Ordering::Relaxed) {
                scan.is_stopped = true;
                break;
            }
            let failed = match candidate {
                Ok(candidate) => {
                    let state = candidate.state();
                    if batch.is_known(&candidate.path, size, &state, DEVICE_AGE_MAX)? {
                        scan.unchanged += 1;
                        continue;
                    }
                    let read = self.read(&mut batch, &candidate, size, state, stop)?;
                    read.map(|bytes| {
                        scan.files += 1;
                        scan.bytes += bytes;
                    })
                    .map_err(|error| (candidate.path.clone(), error))
                }
                Err(failed) => Err(failed),
            };
            if let Err((path, error)) = failed
                && scan.unreadable.len() < UNREADABLE_MAX
            {
                scan.unreadable.push((path, error.to_string()));
            }
            if batch.pieces() >= BATCH_PIECES {
                batch.commit()?;
                batch = self.pieces.batch()?;
            }
        }
        scan.is_stopped |= stop.load(Ordering::Relaxed);
        batch.commit()?;
        self.pieces.forget_the_replaced()?;
        scan.took = begun.elapsed();
        Ok(scan)
    }

    /// Puts the blocks of `index` that lie in the files into the store, those that it lacks, and tells their numbers
    /// as they come. The caller commits.
    pub fn take(
        &self,
        store: &Store,
        (index, cipher): (&Index, &Cipher),
        stop: &AtomicBool,
        found: &mut dyn FnMut(&[u32]),
    ) -> Result<Harvested, HarvestError> {
        let begun = Instant::now();
        let mut harvested = Harvested::default();
        let mut wanted = self.wanted(store, index)?;
        // In the order in which they lie: a disk reads fastest so.
        wanted.sort_unstable_by_key(|(piece, _)| (piece.file, piece.offset));
        let mut encoder = Reencoder::new(cipher.clone())?;
        let mut open = None;
        let mut told = Vec::with_capacity(TOLD_BLOCKS);
        for (piece, number) in wanted {
            if stop.load(Ordering::Relaxed) {
                harvested.is_stopped = true;
                break;
            }
            if open.as_ref().is_none_or(|(file, _)| *file != piece.file) {
                let path = self.pieces.path(piece.file)?;
                open = Some((piece.file, path.map(|path| places::open_again(&path))));
            }
            let Some((_, Some(file))) = &open else { continue };
            let Some(file) = file else {
                harvested.changed += 1;
                continue;
            };
            let entry = &index.blocks()[number as usize];
            let mut plain = vec![0; piece.len as usize];
            harvested.read_bytes += u64::from(piece.len);
            let read = file.read_exact_at(&mut plain, piece.offset);
            if read.is_err() || PlainHash::of(&plain) != entry.blob.plain {
                harvested.changed += 1;
                continue;
            }
            let Some(block) = encoder.block(&entry.blob, &plain)? else {
                harvested.foreign += 1;
                continue;
            };
            store.write(&entry.location(), &block)?;
            harvested.blocks += 1;
            harvested.bytes += u64::from(entry.blob.encoded_len);
            told.push(number);
            if told.len() == TOLD_BLOCKS {
                found(&told);
                told.clear();
            }
        }
        found(&told);
        harvested.took = begun.elapsed();
        Ok(harvested)
    }

    /// Where the blocks lie that the store lacks.
    fn wanted(&self, store: &Store, index: &Index) -> Result<Vec<(Piece, u32)>, HarvestError> {
        let lookup = self.pieces.lookup()?;
        let mut wanted = Vec::new();
        for (number, entry) in (0u32..).zip(index.blocks()) {
            if store.has(&entry.location()) {
                continue;
            }
            if let Some(piece) =
                lookup.piece(&entry.blob.plain)?.filter(|piece| piece.len == entry.blob.plain_len)
            {
                wanted.push((piece, number));
            }
        }
        Ok(wanted)
    }

    /// Cuts a file. The inner error is the file's.
    fn read(
        &self,
        batch: &mut Batch,
        candidate: &Candidate,
        size: BlockSize,
        state: FileState,
        stop: &AtomicBool,
    ) -> Result<io::Result<u64>, HarvestError> {
        let file = match fs::File::open(&candidate.path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let number = batch.begin(&candidate.path)?;
        let mut offset = 0;
        for cut in Chunker::new(Reader { file, stop }, size) {
            match cut {
                Ok(Cut::Hole(length)) => offset += length,
                Ok(Cut::Data(plain)) => {
                    // A block is far shorter than 4 GiB.
                    let len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
                    batch.add(&PlainHash::of(&plain), Piece { file: number, offset, len })?;
                    offset += u64::from(len);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        if !stop.load(Ordering::Relaxed) {
            batch.finish(&candidate.path, size, number, &state)?;
        }
        Ok(Ok(offset))
    }
}

/// A file that ends when somebody stops the scan.
struct Reader<'a> {
    file: fs::File,
    stop: &'a AtomicBool,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) { Ok(0) } else { self.file.read(buffer) }
    }
}

impl Source for Reader<'_> {}
