//! Whether the files of an assembled release still are what was published. Nothing is changed: whoever uses an image
//! may have written into it on purpose.

use crate::{
    disk::{DiskFile, Found, Open},
    error::StoreError,
    fill::holds,
    partial::path_in,
    store::Store,
};
use branchmesh_image::{Extent, FileEntry, Index};

/// Bytes of a hole that are read at once.
const HOLE_READ: u64 = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Files of the release.
    pub files: usize,
    /// Bytes that were compared.
    pub bytes: u64,
    /// Files that are not as they were published.
    pub changed: Vec<ChangedFile>,
}

/// A file that is not as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path in the release.
    pub path: String,
    /// What is different.
    pub change: FileChange,
}

/// What is different about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// It is not there, or something else has its name.
    Missing,
    /// It has so many bytes.
    Length(u64),
    /// Of its bytes so many are in blocks and holes that are different; the first begins at `first`.
    Content {
        /// Offset of the first.
        first: u64,
        /// Bytes of all.
        bytes: u64,
    },
}

impl Store {
    /// Reads all files of a release that is in place, and compares them with the index. `progress` is told the bytes
    /// since the last call.
    pub fn inspect(&self, index: &Index, progress: &mut dyn FnMut(u64)) -> Result<Inspection, StoreError> {
        let target = self.target(index)?;
        if !self.is_in_place(&target)? {
            let (image, release) = (index.root().image.clone(), index.root().release.clone());
            return Err(StoreError::NotAssembled { image, release });
        }
        let mut inspection = Inspection { files: index.files().len(), ..Inspection::default() };
        for entry in index.files() {
            let path = path_in(&target.folder, entry);
            let change = match self.files().examine(&path)? {
                Some(Found::File(length)) if length == entry.size => {
                    let file = self.files().open(&path, Open::Read)?;
                    let mut compared = |bytes| {
                        inspection.bytes += bytes;
                        progress(bytes);
                    };
                    compare(&*file, (index, entry), &mut compared)
                }
                Some(Found::File(length)) => Some(FileChange::Length(length)),
                Some(Found::Folder) | None => Some(FileChange::Missing),
            };
            let changed = change.map(|change| ChangedFile { path: entry.path.clone(), change });
            inspection.changed.extend(changed);
        }
        Ok(inspection)
    }
}

fn compare(
    file: &dyn DiskFile,
    (index, entry): (&Index, &FileEntry),
    compared: &mut dyn FnMut(u64),
) -> Option<FileChange> {
    let (mut offset, mut changed): (u64, Option<(u64, u64)>) = (0, None);
    let mut look = |bytes: u64, is_right: &dyn Fn(u64) -> bool| {
        if !is_right(offset) {
            let (_, sum) = changed.get_or_insert((offset, 0));
            *sum += bytes;
        }
        offset += bytes;
        compared(bytes);
    };
    for extent in &entry.extents {
        match extent {
            Extent::Hole(length) => {
                let mut left = *length;
                while left > 0 {
                    let some = left.min(HOLE_READ);
                    left -= some;
                    look(some, &|offset| is_zero(file, offset, some));
                }
            }
            Extent::Blocks { first, count } => {
                for block in &index.blocks()[*first as usize..(*first + *count) as usize] {
                    look(block.blob.plain_len.into(), &|offset| holds(file, offset, &block.blob));
                }
            }
        }
    }
    changed.map(|(first, bytes)| FileChange::Content { first, bytes })
}

/// Whether a part of a hole is one. What cannot be read is not what was published either.
fn is_zero(file: &dyn DiskFile, offset: u64, bytes: u64) -> bool {
    // Far smaller than 4 GiB.
    let mut found = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.read_exact_at(&mut found, offset).is_ok() && found.iter().all(|byte| *byte == 0)
}
