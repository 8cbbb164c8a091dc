//! The content keys of groups that a process holds: what it may open.

use crate::keys::KeyError;
use branchmesh_image::{Cipher, GroupKey};
use std::{collections::BTreeMap, fs, io, path::Path};
use zeroize::Zeroizing;

/// Content keys by group.
#[derive(Clone, Debug, Default)]
pub struct ContentKeys(BTreeMap<String, GroupKey>);

impl ContentKeys {
    /// The keys `groups/NAME.key` of a publisher's folder: of all groups that it publishes for.
    pub fn in_folder(folder: &Path) -> Result<Self, KeyError> {
        let folder = folder.join("groups");
        let unreadable = |source| KeyError::Io { path: folder.clone(), source };
        let mut keys = Self::default();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(keys),
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_none_or(|kind| kind != "key") {
                continue;
            }
            if let Some(group) = path.file_stem().and_then(|name| name.to_str()) {
                keys.add_file(group, &path)?;
            }
        }
        Ok(keys)
    }

    /// Reads the key of `group` from a file.
    pub fn add_file(&mut self, group: &str, path: &Path) -> Result<(), KeyError> {
        let line = fs::read_to_string(path).map(Zeroizing::new);
        let line = line.map_err(|source| KeyError::Io { path: path.into(), source })?;
        let key = line.parse().map_err(|source| KeyError::Group { path: path.into(), source })?;
        self.insert(group.into(), key);
        Ok(())
    }

    /// The key of `group`.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<&GroupKey> {
        self.0.get(group)
    }

    /// Adds a key, or replaces it.
    pub fn insert(&mut self, group: String, key: GroupKey) {
        self.0.insert(group, key);
    }

    /// What opens the blocks of an image of `group`; `None` if its key is not here.
    #[must_use]
    pub fn cipher(&self, group: Option<&str>) -> Option<Cipher> {
        match group {
            None => Some(Cipher::None),
            Some(group) => self.get(group).cloned().map(Cipher::Group),
        }
    }
}

impl FromIterator<(String, GroupKey)> for ContentKeys {
    fn from_iter<I: IntoIterator<Item = (String, GroupKey)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}
