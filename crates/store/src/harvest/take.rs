//! From remembered pieces to blocks in the store.

use super::{
    HarvestError, Harvested,
    encoding::Reencoder,
    pieces::{Piece, Pieces},
    places,
};
use crate::{disk::DiskFile, store::Store};
use branchmesh_image::{Cipher, Index, PlainHash};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// Blocks that are told at once.
const TOLD_BLOCKS: usize = 64;

/// See [`Harvest::take`](super::Harvest::take).
pub(super) fn take(
    pieces: &Pieces,
    store: &Store,
    (index, cipher): (&Index, &Cipher),
    stop: &AtomicBool,
    found: &mut dyn FnMut(&[u32]),
) -> Result<Harvested, HarvestError> {
    let begun = Instant::now();
    let mut harvested = Harvested::default();
    let mut wanted = wanted_of(pieces, store, index)?;
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
            let path = pieces.path(piece.file)?;
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
fn wanted_of(pieces: &Pieces, store: &Store, index: &Index) -> Result<Vec<(Piece, u32)>, HarvestError> {
    let lookup = pieces.lookup()?;
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
