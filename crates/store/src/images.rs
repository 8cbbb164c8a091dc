//! Release folders, and the pointer to the one that is active.
//!
//! `current` is a text file and no link: Windows gives links to administrators only.

use crate::{
    error::StoreError,
    files,
    ledger::{self, Folder},
    store::Store,
};
use branchmesh_image::path::{COMPONENT_MAX, check_name};
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Name of the pointer, beside the folders of releases.
const CURRENT: &str = "current";
/// End of the names of folders that are being made or removed; such names begin with a dot.
pub(crate) const PARTIAL: &str = ".partial";

/// Checks names that are about to become paths, wherever they come from.
pub(crate) fn check(image: &str, release: &str) -> Result<(), StoreError> {
    check_one(image)?;
    check_one(release)
}

fn check_one(name: &str) -> Result<(), StoreError> {
    check_name(name)?;
    if name.starts_with('.') || name.eq_ignore_ascii_case(CURRENT) {
        return Err(StoreError::ReservedName(name.into()));
    }
    Ok(())
}

impl Store {
    /// Makes an assembled release the active one of its image.
    pub fn activate(&self, image: &str, release: &str) -> Result<(), StoreError> {
        check(image, release)?;
        let _turn = self.folder_turn();
        let known = self.ledger().folder(&ledger::key(image, release))?;
        if !matches!(known, Some(Folder::Assembled(_))) || !self.release_folder(image, release).is_dir() {
            return Err(StoreError::NotAssembled { image: image.into(), release: release.into() });
        }
        let pointer = self.image_folder(image).join(CURRENT);
        files::replace(&pointer, format!("{release}\n").as_bytes())
            .map_err(|error| StoreError::io("write", &pointer, error))?;
        tracing::debug!(image, release, "release is active");
        Ok(())
    }

    /// The active release of an image.
    pub fn current(&self, image: &str) -> Result<Option<String>, StoreError> {
        check_one(image)?;
        let pointer = self.image_folder(image).join(CURRENT);
        let mut text = String::new();
        let read = fs::File::open(&pointer)
            .and_then(|file| file.take(COMPONENT_MAX as u64 + 2).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &pointer, error)),
        }
        let release = text.trim_end();
        check_one(release)?;
        Ok(Some(release.to_owned()))
    }

    /// Where an image's releases and its pointer are.
    pub(crate) fn image_folder(&self, image: &str) -> PathBuf {
        self.images().join(image)
    }

    /// Where a release's files are, once they are assembled.
    pub(crate) fn release_folder(&self, image: &str, release: &str) -> PathBuf {
        self.image_folder(image).join(release)
    }

    /// Where a release's files are while they are being put together or removed.
    pub(crate) fn partial_folder(&self, image: &str, release: &str) -> PathBuf {
        self.image_folder(image).join(format!(".{release}{PARTIAL}"))
    }

    /// Where a release's older files are while they are being replaced. No release begins with a dot.
    pub(crate) fn replaced_folder(&self, image: &str, release: &str) -> PathBuf {
        self.image_folder(image).join(format!("..{release}{PARTIAL}"))
    }

    /// Removes a release's folder so that no half of it is ever seen under its name.
    pub(crate) fn remove_folder(&self, image: &str, release: &str) -> Result<(), StoreError> {
        let (folder, partial) = (self.release_folder(image, release), self.partial_folder(image, release));
        remove(&partial)?;
        if folder.exists() {
            fs::rename(&folder, &partial).map_err(|error| StoreError::io("rename", &folder, error))?;
        }
        remove(&partial)
    }

    /// Finishes the removals and throws away the half-made folders that a crash has left.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        for (key, folder) in self.ledger().folders()? {
            let Some((image, release)) = key.split_once('@').filter(|_| folder == Folder::Retiring) else {
                continue;
            };
            check(image, release)?;
            self.remove_folder(image, release)?;
            self.ledger().set_folder(&key, None)?;
        }
        for image in list(self.images())? {
            let left = list(&image)?.into_iter().filter(|path| is_partial(path));
            for path in left {
                tracing::debug!(path = %path.display(), "removing what an interrupted run has left");
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a file or folder, which may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    files::remove(path).map_err(|error| StoreError::io("remove", path, error))
}

/// What is in a folder; nothing if it is not a folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io("list", folder, error)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| StoreError::io("list", folder, error)))
        .collect()
}

fn is_partial(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with('.') && name.ends_with(PARTIAL))
}
