//! Which files of a repository releases refer to.

use crate::{contents::Contents, layout};
use branchmesh_image::{BlockId, PackId};
use std::collections::HashSet;

/// Packs and index parts that somebody needs.
#[derive(Debug, Default)]
pub(crate) struct References {
    packs: HashSet<PackId>,
    parts: HashSet<BlockId>,
}

impl References {
    /// Everything that a release refers to.
    pub(crate) fn add(&mut self, contents: &Contents) {
        self.packs.extend(contents.blocks().iter().map(|block| block.pack));
        self.parts.extend(contents.parts().map(|part| part.id));
    }

    /// Whether the file at `path` is needed. `None` for files that are neither packs nor index parts.
    pub(crate) fn has(&self, path: &str) -> Option<bool> {
        let pack = layout::pack_of(path).map(|pack| self.packs.contains(&pack));
        pack.or_else(|| layout::part_of(path).map(|part| self.parts.contains(&part)))
    }
}
