//! The content keys of groups that a process holds: what it may open.

use branchmesh_image::{Cipher, GroupKey};
use std::collections::BTreeMap;

/// Content keys by group.
#[derive(Clone, Debug, Default)]
pub struct ContentKeys(BTreeMap<String, GroupKey>);

impl ContentKeys {
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
