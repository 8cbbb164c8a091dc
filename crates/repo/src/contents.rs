//! What a release consists of: its place in the catalog and its whole index. The tools that look into releases
//! (`diff`, `verify`, `gc`) begin here.

use crate::{
    catalog::CatalogEntry,
    content_keys::ContentKeys,
    index_io::{LoadIndexError, load_release},
    source::PartSource,
};
use branchmesh_image::{BlobRef, BlockEntry, BlockError, Cipher, FileEntry, Index};
use std::iter;

/// A release whose index has been read.
#[derive(Clone, Debug)]
pub struct Contents {
    entry: CatalogEntry,
    index: Index,
}

/// Why a release cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// It is encrypted, and the key is not here.
    #[error(
        "{release} belongs to the group {group}, whose content key is not here; give it with --content-key {group}=FILE, or the folder of all keys with --keys DIR"
    )]
    NoKey {
        /// The release.
        release: String,
        /// The group.
        group: String,
    },
    /// It is encrypted with another key.
    #[error("the content key that was given for the group {group} does not open {release}")]
    WrongKey {
        /// The release.
        release: String,
        /// The group.
        group: String,
        /// What happened.
        #[source]
        source: LoadIndexError,
    },
    /// Its index cannot be had, or is damaged.
    #[error("the index of {release} cannot be read")]
    Index {
        /// The release.
        release: String,
        /// Why.
        #[source]
        source: LoadIndexError,
    },
}

impl Contents {
    /// Reads the index of `entry` from `parts`.
    pub async fn load(
        entry: &CatalogEntry,
        keys: &ContentKeys,
        parts: &dyn PartSource,
    ) -> Result<Self, ContentsError> {
        let release = || entry.name();
        let group = || entry.group.clone().unwrap_or_default();
        let cipher = keys
            .cipher(entry.group.as_deref())
            .ok_or_else(|| ContentsError::NoKey { release: release(), group: group() })?;
        let is_sealed = matches!(cipher, Cipher::Group(_));
        match load_release(entry, cipher, parts).await {
            Ok(index) => Ok(Self { entry: entry.clone(), index }),
            Err(source @ LoadIndexError::Block(BlockError::Crypt(_))) if is_sealed => {
                Err(ContentsError::WrongKey { release: release(), group: group(), source })
            }
            Err(source) => Err(ContentsError::Index { release: release(), source }),
        }
    }

    /// What the catalog says of it.
    #[must_use]
    pub fn entry(&self) -> &CatalogEntry {
        &self.entry
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        self.index.files()
    }

    /// Its blocks, each once, in the order of their first use.
    #[must_use]
    pub fn blocks(&self) -> &[BlockEntry] {
        self.index.blocks()
    }

    /// The parts of its index: the root, then the pieces.
    pub fn parts(&self) -> impl Iterator<Item = &BlobRef> {
        iter::once(&self.entry.root).chain(&self.index.root().pieces)
    }
}
