//! What an update costs, before it is rolled out: the blocks and index parts of a release that another one lacks.
//!
//! A node keeps blocks where the repository has them, so that "has it" means the same place in the same pack. Index
//! parts are named by their hash. Both are taken over as they are; so the prediction is exact: it is what
//! the first node of a site that holds the old release takes from the origin, beside the signed metadata.

use crate::contents::Contents;
use branchmesh_image::{BlockEntry, Extent, FileEntry, Location, PlainHash};
use std::collections::{BTreeMap, HashSet};

/// What a node that holds one release must fetch to hold another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Blocks of the new release.
    pub blocks: u64,
    /// Those that the old one lacks.
    pub new_blocks: u64,
    /// Encoded bytes of all blocks of the new release.
    pub block_bytes: u64,
    /// Encoded bytes of those that the old one lacks.
    pub new_block_bytes: u64,
    /// Bytes of all parts of the new release's index.
    pub index_bytes: u64,
    /// Bytes of those that the old one lacks.
    pub new_index_bytes: u64,
    /// Each file of either release, by path.
    pub files: Vec<FileDifference>,
}

/// How a file differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDifference {
    /// Its path in the release.
    pub path: String,
    /// What happened to it.
    pub change: Change,
    /// Its bytes in the old release.
    pub old_size: Option<u64>,
    /// Its bytes in the new one.
    pub new_size: Option<u64>,
    /// Encoded bytes of the blocks that must be fetched for it. A block that several files share counts for the
    /// first of them, so that all files together cost what the update costs.
    pub fetch_bytes: u64,
}

/// What happened to a file between two releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the new release has it.
    New,
    /// Its content or its mode is another one.
    Changed,
    /// Only the old release has it.
    Removed,
    /// Both have it, and it is the same.
    Same,
}

impl Difference {
    /// What comes over the line from a node that holds `old` to hold `new`; all of `new` for one that holds nothing.
    #[must_use]
    pub fn between(old: Option<&Contents>, new: &Contents) -> Self {
        let held: HashSet<Location> =
            old.iter().flat_map(|old| old.blocks()).map(BlockEntry::location).collect();
        let lacking: Vec<bool> = new.blocks().iter().map(|block| !held.contains(&block.location())).collect();
        let encoded = |block: &BlockEntry| u64::from(block.blob.encoded_len);
        let fetched = || new.blocks().iter().zip(&lacking).filter(|(_, lacking)| **lacking);

        let held_parts: HashSet<_> = old.iter().flat_map(|old| old.parts()).map(|part| part.id).collect();
        // An index may list a piece twice; it is stored and fetched once.
        let parts: BTreeMap<_, _> = new.parts().map(|part| (part.id, u64::from(part.encoded_len))).collect();
        let new_parts = parts.iter().filter(|(part, _)| !held_parts.contains(part));
        Self {
            blocks: new.blocks().len() as u64,
            new_blocks: fetched().count() as u64,
            block_bytes: new.blocks().iter().map(encoded).sum(),
            new_block_bytes: fetched().map(|(block, _)| encoded(block)).sum(),
            index_bytes: parts.values().sum(),
            new_index_bytes: new_parts.map(|(_, bytes)| bytes).sum(),
            files: files(old, new, lacking),
        }
    }

    /// All that must be fetched.
    #[must_use]
    pub fn fetch_bytes(&self) -> u64 {
        self.new_block_bytes + self.new_index_bytes
    }
}

/// `lacking` says of each block of `new` whether it must be fetched.
fn files(old: Option<&Contents>, new: &Contents, mut lacking: Vec<bool>) -> Vec<FileDifference> {
    let mut before: BTreeMap<&str, &FileEntry> =
        old.iter().flat_map(|old| old.files()).map(|file| (file.path.as_str(), file)).collect();
    let mut differences = Vec::new();
    for file in new.files() {
        let former = before.remove(file.path.as_str());
        let change = match (former, old) {
            (Some(former), Some(old)) if is_same((old, former), (new, file)) => Change::Same,
            (Some(_), _) => Change::Changed,
            (None, _) => Change::New,
        };
        differences.push(FileDifference {
            path: file.path.clone(),
            change,
            old_size: former.map(|former| former.size),
            new_size: Some(file.size),
            fetch_bytes: take_lacking(new, file, &mut lacking),
        });
    }
    differences.extend(before.into_values().map(|removed| FileDifference {
        path: removed.path.clone(),
        change: Change::Removed,
        old_size: Some(removed.size),
        new_size: None,
        fetch_bytes: 0,
    }));
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    differences
}

/// Encoded bytes of the file's lacking blocks, which are not lacking for the next file any more.
fn take_lacking(contents: &Contents, file: &FileEntry, lacking: &mut [bool]) -> u64 {
    let mut bytes = 0;
    for extent in &file.extents {
        let Extent::Blocks { first, count } = extent else { continue };
        for at in (*first as usize..).take(*count as usize) {
            if std::mem::take(&mut lacking[at]) {
                bytes += u64::from(contents.blocks()[at].blob.encoded_len);
            }
        }
    }
    bytes
}

/// Whether two files have the same mode, and the same content as far as their blocks tell: files that were cut
/// with different block sizes count as changed.
fn is_same((old, former): (&Contents, &FileEntry), (new, file): (&Contents, &FileEntry)) -> bool {
    former.size == file.size && former.mode == file.mode && stretches(old, former).eq(stretches(new, file))
}

/// A file's content as its index tells it.
#[derive(PartialEq, Eq)]
enum Stretch {
    Hole(u64),
    Block(PlainHash),
}

fn stretches<'a>(contents: &'a Contents, file: &'a FileEntry) -> impl Iterator<Item = Stretch> + 'a {
    file.extents.iter().flat_map(|extent| {
        let (hole, blocks) = match extent {
            Extent::Hole(length) => (Some(Stretch::Hole(*length)), 0..0),
            Extent::Blocks { first, count } => (None, *first as usize..*first as usize + *count as usize),
        };
        let blocks = contents.blocks()[blocks].iter().map(|block| Stretch::Block(block.blob.plain));
        hole.into_iter().chain(blocks)
    })
}
