//! Which files are looked through: those that were named, and all below the folders that were named.

use super::pieces::FileState;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use walkdir::{DirEntry, WalkDir};

/// Shorter files are no block of a disk.
const FILE_BYTES_MIN: u64 = 4096;

/// A file or a block device.
pub(super) struct Candidate {
    pub path: PathBuf,
    state: FileState,
}

impl Candidate {
    /// What tells whether it has changed.
    pub fn state(&self) -> FileState {
        self.state
    }
}

/// All of them, in a fixed order, without what is below `own`. What cannot be looked at comes as an error. Links
/// are followed where they were named, and not below folders: they might lead in circles.
pub(super) fn candidates<'a>(
    places: &'a [PathBuf],
    own: &'a Path,
) -> impl Iterator<Item = Result<Candidate, (PathBuf, io::Error)>> + 'a {
    places.iter().flat_map(move |place| below(place, own))
}

/// A file that was read before, if it still is one. Others might make whoever opens them wait for ever.
pub(super) fn open_again(path: &Path) -> Option<fs::File> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() || system::is_block_device(&metadata)).then(|| fs::File::open(path).ok())?
}

fn below<'a>(
    place: &'a Path,
    own: &'a Path,
) -> Box<dyn Iterator<Item = Result<Candidate, (PathBuf, io::Error)>> + 'a> {
    let found = fs::canonicalize(place).and_then(|path| Ok((fs::metadata(&path)?, path)));
    let (metadata, path) = match found {
        Ok(found) => found,
        Err(error) => return Box::new(std::iter::once(Err((place.to_path_buf(), error)))),
    };
    if !metadata.is_dir() {
        let named = if system::is_block_device(&metadata) { device(path) } else { file(path, &metadata) };
        return Box::new(named.into_iter());
    }
    let is_own = move |entry: &DirEntry| entry.path().starts_with(own);
    let entries = WalkDir::new(path).sort_by_file_name().into_iter();
    Box::new(entries.filter_entry(move |entry| !is_own(entry)).filter_map(|entry| match entry {
        Ok(entry) if entry.file_type().is_file() => match entry.metadata() {
            Ok(metadata) => file(entry.into_path(), &metadata),
            Err(error) => Some(Err((entry.into_path(), error.into()))),
        },
        Ok(_) => None,
        Err(error) => Some(Err((error.path().unwrap_or(place).to_path_buf(), error.into()))),
    }))
}

/// A regular file that is long enough.
fn file(path: PathBuf, metadata: &fs::Metadata) -> Option<Result<Candidate, (PathBuf, io::Error)>> {
    if !metadata.is_file() {
        let error = io::Error::other("it is neither a file, nor a folder, nor a block device");
        return Some(Err((path, error)));
    }
    if metadata.len() < FILE_BYTES_MIN {
        return None;
    }
    Some(Ok(Candidate { path, state: FileState::of_file(metadata) }))
}

fn device(path: PathBuf) -> Option<Result<Candidate, (PathBuf, io::Error)>> {
    let length =
        fs::File::open(&path).and_then(|mut device| io::Seek::seek(&mut device, io::SeekFrom::End(0)));
    Some(match length {
        Ok(length) => Ok(Candidate { path, state: FileState::of_device(length) }),
        Err(error) => Err((path, error)),
    })
}

#[cfg(unix)]
mod system {
    use std::{fs, os::unix::fs::FileTypeExt};

    pub(super) fn is_block_device(metadata: &fs::Metadata) -> bool {
        metadata.file_type().is_block_device()
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs;

    /// Devices have names of their own kind there (`\\.\PhysicalDrive0`), and are not read.
    pub(super) fn is_block_device(_: &fs::Metadata) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_below_folders_but_not_the_stores_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for folder in ["old/deep", "own/store"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let long = vec![1; 5000];
        for file in ["old/a.vhd", "old/deep/b.vhd", "own/store/c.pack", "d.vhd"] {
            fs::write(root.join(file), &long).unwrap();
        }
        fs::write(root.join("old/short"), "x").unwrap();
        let places = [root.join("d.vhd"), root.join("old"), root.clone(), root.join("not-there")];
        let mut found = Vec::new();
        let mut errors = Vec::new();
        for candidate in candidates(&places, &root.join("own")) {
            match candidate {
                Ok(candidate) => {
                    found.push(candidate.path.strip_prefix(&root).unwrap().display().to_string());
                }
                Err((path, error)) => errors.push((path, error.kind())),
            }
        }
        let below_old = [Path::new("old").join("a.vhd"), Path::new("old").join("deep").join("b.vhd")];
        let below_old = below_old.map(|path| path.display().to_string());
        let all = [&["d.vhd".to_owned()][..], &below_old, &["d.vhd".to_owned()], &below_old].concat();
        assert_eq!(found, all);
        assert_eq!(errors, [(root.join("not-there"), io::ErrorKind::NotFound)]);
    }
}
