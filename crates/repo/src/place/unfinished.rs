//! What a publisher that was killed in the middle of a write leaves in a folder: `object_store` writes beside the
//! target, into `NAME#NUMBER`, and does not show such files.

use super::{Ground, Listed, Place, PlaceError};
use crate::layout;
use std::{io, path::Path, time::UNIX_EPOCH};
use walkdir::WalkDir;

impl Place {
    /// Files that were not finished. A cloud has none: there, a file is whole or not there.
    pub(crate) fn unfinished(&self) -> Result<Vec<Listed>, PlaceError> {
        let Ground::Folder(folder) = &self.ground else { return Ok(Vec::new()) };
        let folders = [layout::METADATA, layout::INDEXES, layout::PACKS, layout::STAGED];
        let mut found = Vec::new();
        for name in folders.map(|name| folder.join(name)).into_iter().filter(|path| path.is_dir()) {
            for entry in WalkDir::new(&name) {
                let failed =
                    |error: walkdir::Error| PlaceError::Io { path: name.clone(), source: error.into() };
                let entry = entry.map_err(failed)?;
                let Some(path) = path_in(folder, entry.path()).filter(|path| layout::is_unfinished(path))
                else {
                    continue;
                };
                let meta = entry.metadata().map_err(failed)?;
                let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let modified = modified.unwrap_or_default().as_secs();
                found.push(Listed { path, size: meta.len(), modified });
            }
        }
        Ok(found)
    }

    /// Removes an unfinished file.
    pub(super) fn remove_unfinished(folder: &Path, path: &str) -> Result<(), PlaceError> {
        let path = folder.join(path);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PlaceError::Io { path, source }),
            _ => Ok(()),
        }
    }
}

/// A file's path inside the repository.
fn path_in(folder: &Path, path: &Path) -> Option<String> {
    let inside = path.strip_prefix(folder).ok()?;
    let parts: Option<Vec<&str>> = inside.components().map(|part| part.as_os_str().to_str()).collect();
    Some(parts?.join("/"))
}
