//! A release's files before they are filled.
//!
//! A file that an earlier run has begun is taken up again. Otherwise, where the file system can, a file begins as a clone
//! of the same file of another release: what both have in common is on the disk once, and only what differs is written.
//! Nothing of either is believed: whoever fills the file compares each block with its hash first. Otherwise a file
//! begins as one hole, and the space for its data is reserved at once where the system can do that, so that a full disk
//! is noticed now and the data lies together.
//!
//! Holes are never written. So a file that has its name and its length in a partial folder of this index has its holes
//! too: a clone, whose holes are punched, gets its name only when they are durable.

use crate::{
    disk::{DiskFile, Found, Open},
    error::StoreError,
    files::Files,
    partial::path_in,
    store::Store,
};
use branchmesh_image::{Extent, FileEntry, Index};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Zeros that are written at once where no hole can be punched.
const ZEROS: usize = 256 << 10;

/// What a file is before it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A hole. Its data needs space.
    Empty,
    /// A hole where holes are, and reserved space elsewhere.
    Reserved,
    /// What another release or an earlier run has put there, with holes where they belong. Blocks may be there already;
    /// where they are not, whether the space is taken already is not known.
    Filled,
}

/// Makes a file of `index` in `folder` if it is not there, from the same file in one of the folders `others` if possible.
pub(crate) fn make(
    store: &Store,
    folder: &Path,
    others: &[PathBuf],
    (index, entry): (&Index, &FileEntry),
) -> Result<Ground, StoreError> {
    let files = store.files();
    let path = path_in(folder, entry);
    path.parent().map_or(Ok(()), |folder| files.create_folder(folder))?;
    match files.examine(&path)? {
        Some(Found::File(length)) if length == entry.size => return Ok(Ground::Filled),
        Some(_) => files.remove(&path)?,
        None => {}
    }
    let clone = store.clone_path(&index.root().image);
    for other in others {
        let from = path_in(other, entry);
        let Some(Found::File(length @ 1..)) = files.examine(&from)? else { continue };
        files.remove(&clone)?;
        if !files.clone_file(&from, &clone) {
            // The others are on the same file system.
            break;
        }
        match prepare_clone(files, &clone, (index, entry), length) {
            Ok(()) => {
                files.rename(&clone, &path)?;
                return Ok(Ground::Filled);
            }
            Err(error) => {
                tracing::warn!(%error, "a clone cannot be used, and the file is written as a whole");
                files.remove(&clone)?;
            }
        }
    }
    store.space().check(folder, data(index, entry).map(|(_, bytes)| bytes).sum())?;
    let file = files.open(&path, Open::CreateNew)?;
    file.set_length(entry.size).map_err(|error| StoreError::io("create", &path, error))?;
    match data(index, entry).try_for_each(|(offset, bytes)| file.reserve(offset, bytes)) {
        Ok(()) => Ok(Ground::Reserved),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Ground::Empty),
        Err(error) => Err(StoreError::io("reserve space for", &path, error)),
    }
}

/// Gives a clone of `length` bytes its length and its holes, and makes these durable.
fn prepare_clone(
    files: &Files,
    path: &Path,
    (index, entry): (&Index, &FileEntry),
    length: u64,
) -> Result<(), StoreError> {
    let file = files.open(path, Open::Write)?;
    let prepare = || {
        file.set_length(entry.size)?;
        // What lies beyond the old length is one hole.
        let mut holes = holes(index, entry).filter(|(offset, _)| *offset < length).peekable();
        if holes.peek().is_none() {
            return Ok(());
        }
        holes.try_for_each(|(offset, bytes)| {
            let bytes = bytes.min(length - offset);
            match file.punch(offset, bytes) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    write_zeros(&*file, offset, bytes)
                }
                punched => punched,
            }
        })?;
        file.sync_data()
    };
    prepare().map_err(|error| StoreError::io("prepare", path, error))
}

fn write_zeros(file: &dyn DiskFile, mut offset: u64, bytes: u64) -> io::Result<()> {
    let (zeros, end) = (vec![0; ZEROS], offset + bytes);
    while offset < end {
        let some = usize::try_from(end - offset).unwrap_or(ZEROS).min(ZEROS);
        file.write_all_at(&zeros[..some], offset)?;
        offset += some as u64;
    }
    Ok(())
}

/// Offset and length of the holes of a file.
fn holes<'a>(index: &'a Index, entry: &'a FileEntry) -> impl Iterator<Item = (u64, u64)> + 'a {
    stretches(index, entry).filter_map(|(offset, bytes, is_hole)| is_hole.then_some((offset, bytes)))
}

/// Offset and length of the data of a file.
fn data<'a>(index: &'a Index, entry: &'a FileEntry) -> impl Iterator<Item = (u64, u64)> + 'a {
    stretches(index, entry).filter_map(|(offset, bytes, is_hole)| (!is_hole).then_some((offset, bytes)))
}

/// Offset and length of the holes and of what lies between them, and whether it is a hole.
fn stretches<'a>(index: &'a Index, entry: &'a FileEntry) -> impl Iterator<Item = (u64, u64, bool)> + 'a {
    let mut offset = 0;
    entry.extents.iter().map(move |extent| {
        let (begin, bytes, is_hole) = match extent {
            Extent::Hole(bytes) => (offset, *bytes, true),
            Extent::Blocks { first, count } => {
                let blocks = &index.blocks()[*first as usize..(*first + *count) as usize];
                (offset, blocks.iter().map(|block| u64::from(block.blob.plain_len)).sum(), false)
            }
        };
        offset += bytes;
        (begin, bytes, is_hole)
    })
}
