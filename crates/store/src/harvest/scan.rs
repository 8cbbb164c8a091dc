//! A look through files for pieces.

use super::{
    HarvestError, Scan,
    pieces::{Batch, FileState, Piece, Pieces},
    places::{self, Candidate},
};
use branchmesh_image::{BlockSize, Chunker, Cut, PlainHash, Source};
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
/// How long what was seen on a block device counts: a device does not tell when it was written.
const DEVICE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// See [`Harvest::scan`](super::Harvest::scan); what is below `own` is passed over.
pub(super) fn scan(
    pieces: &Pieces,
    (places, own): (&[PathBuf], &Path),
    size: BlockSize,
    stop: &AtomicBool,
) -> Result<Scan, HarvestError> {
    let begun = Instant::now();
    let mut scan = Scan::default();
    let mut batch = pieces.batch()?;
    batch.forget_the_gone()?;
    for candidate in places::candidates(places, own) {
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
                let read = read(&mut batch, &candidate, size, state, stop)?;
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
            batch = pieces.batch()?;
        }
    }
    scan.is_stopped |= stop.load(Ordering::Relaxed);
    batch.commit()?;
    pieces.forget_the_replaced()?;
    scan.took = begun.elapsed();
    Ok(scan)
}

/// Cuts a file. The inner error is the file's.
fn read(
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
