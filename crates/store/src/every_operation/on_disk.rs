//! What lies on the simulated disk, looked at from outside of the store.

use super::world::{IMAGE, Release};
use crate::{
    disk::{Disk, Found, Open},
    simulated_disk::SimulatedDisk,
};
use std::path::{Path, PathBuf};

/// Not there at first, nor is the folder above.
pub(super) const DATA_DIR: &str = "/disk/data";

/// Whether a release's folder is there. Half of one must never be.
pub(super) fn is_there_whole(disk: &SimulatedDisk, release: &Release) -> bool {
    let folder = path(&["images", IMAGE, release.name]);
    let is_there = disk.examine(&folder).is_ok();
    if is_there {
        expect_files(disk, &folder, release);
    }
    is_there
}

/// Whether a folder holds a release's files, and nothing else.
pub(super) fn expect_files(disk: &SimulatedDisk, folder: &Path, release: &Release) {
    for (name, content) in &release.files {
        let path = folder.join(name);
        let file = disk.open(&path, Open::Read).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == *content, "{} is not what was published", path.display());
    }
    assert_eq!(files_below(disk, folder), release.files.len());
}

pub(super) fn path(names: &[&str]) -> PathBuf {
    names.iter().fold(PathBuf::from(DATA_DIR), |path, name| path.join(name))
}

pub(super) fn list(disk: &SimulatedDisk, names: &[&str]) -> Vec<PathBuf> {
    disk.list(&path(names)).unwrap_or_default()
}

pub(super) fn files_below(disk: &SimulatedDisk, path: &Path) -> usize {
    match disk.examine(path).unwrap() {
        Found::File(_) => 1,
        Found::Folder => disk.list(path).unwrap().iter().map(|path| files_below(disk, path)).sum(),
    }
}
