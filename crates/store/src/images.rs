//! Release folders, and the pointer to the one that is active.
//!
//! `current` is a text file and no link: Windows gives links to administrators only.

use crate::{
    error::StoreError,
    ledger::{self, Folder},
    store::Store,
};
use branchmesh_image::path::{COMPONENT_MAX, check_name};
use std::{
    collections::HashSet,
    io,
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

/// Checks one of them.
pub(crate) fn check_one(name: &str) -> Result<(), StoreError> {
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
        if !matches!(known, Some(Folder::Assembled(_)))
            || !self.files().is_folder(&self.release_folder(image, release))?
        {
            return Err(StoreError::NotAssembled { image: image.into(), release: release.into() });
        }
        self.sync_release_names(image)?;
        let pointer = self.image_folder(image).join(CURRENT);
        let temporary = self.image_folder(image).join(format!(".{CURRENT}{PARTIAL}"));
        self.files().replace(&pointer, &temporary, format!("{release}\n").as_bytes())?;
        tracing::debug!(image, release, "release is active");
        Ok(())
    }

    /// The active release of an image.
    pub fn current(&self, image: &str) -> Result<Option<String>, StoreError> {
        check_one(image)?;
        let pointer = self.image_folder(image).join(CURRENT);
        let Some(content) = self.files().read(&pointer, COMPONENT_MAX as u64 + 2)? else { return Ok(None) };
        let text = String::from_utf8(content)
            .map_err(|error| StoreError::io("read", &pointer, io::Error::other(error)))?;
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

    /// Where a file is cloned before it is one of an image's; for whoever has the assembly turn.
    pub(crate) fn clone_path(&self, image: &str) -> PathBuf {
        self.image_folder(image).join(format!("...clone{PARTIAL}"))
    }

    /// Makes the names of an image's releases, and what `current` says, survive a power cut.
    pub(crate) fn sync_release_names(&self, image: &str) -> Result<(), StoreError> {
        let folder = self.image_folder(image);
        if self.files().is_folder(&folder)? {
            self.files().sync_folder(&folder)?;
        }
        self.files().sync_folder(self.images())
    }

    /// The folders of an image's assembled releases, the active one first, without `folder`.
    pub(crate) fn assembled_beside(&self, image: &str, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let current = self.current(image)?;
        let mut releases: Vec<(bool, PathBuf)> = Vec::new();
        for (key, state) in self.ledger().folders()? {
            let of_image = key.split_once('@').filter(|(other, _)| *other == image);
            if let (Some((_, release)), Folder::Assembled(_)) = (of_image, state) {
                let is_current = current.as_deref() == Some(release);
                releases.push((!is_current, self.release_folder(image, release)));
            }
        }
        releases.sort();
        let others = releases.into_iter().map(|(_, path)| path).filter(|path| path != folder);
        others
            .filter_map(|path| self.files().is_folder(&path).map(|is| is.then_some(path)).transpose())
            .collect()
    }

    /// Removes a release's folder so that no half of it is ever seen under its name, and that it never comes back under
    /// it: a power cut may bring back what was removed, in parts.
    pub(crate) fn remove_folder(&self, image: &str, release: &str) -> Result<(), StoreError> {
        let (folder, partial) = (self.release_folder(image, release), self.partial_folder(image, release));
        if self.files().examine(&folder)?.is_some() {
            self.files().remove(&partial)?;
            self.files().rename(&folder, &partial)?;
        }
        self.sync_release_names(image)?;
        self.files().remove(&partial)
    }

    /// Finishes the removals and throws away the half-made folders that a crash has left, but for those of releases
    /// that are still on their way.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        for (key, folder) in self.ledger().folders()? {
            let Some((image, release)) = key.split_once('@').filter(|_| folder == Folder::Retiring) else {
                continue;
            };
            check(image, release)?;
            self.remove_folder(image, release)?;
            self.ledger().set_folder(&key, None)?;
        }
        let waiting = self.waiting_folders()?;
        for image in self.files().list(self.images())? {
            let found = self.files().list(&image)?.into_iter();
            for path in found.filter(|path| is_partial(path) && !waiting.contains(path)) {
                tracing::debug!(path = %path.display(), "removing what an interrupted run has left");
                self.files().remove(&path)?;
            }
        }
        Ok(())
    }

    /// The partial folders that the next assembly of their release goes on with.
    fn waiting_folders(&self) -> Result<HashSet<PathBuf>, StoreError> {
        let mut waiting = HashSet::new();
        for key in self.ledger().partials()? {
            let Some((image, release)) = key.split_once('@') else { continue };
            check(image, release)?;
            let folder = self.partial_folder(image, release);
            if self.ledger().has_release(&key)? && self.files().is_folder(&folder)? {
                waiting.insert(folder);
            } else {
                self.ledger().set_partial(&key, None)?;
            }
        }
        Ok(waiting)
    }
}

fn is_partial(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with('.') && name.ends_with(PARTIAL))
}
