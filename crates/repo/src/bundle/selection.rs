//! Which blocks a bundle holds: those of its releases that not all of the sites hold.

use super::{ExportError, space::Needed};
use crate::{contents::Contents, excerpt::ExcerptHead, holdings::Holdings, layout, place::Place};
use branchmesh_image::{BlobRef, BlockId, Extents, IndexId, Location, PackId, hash::HASH_BYTES};
use std::collections::{BTreeMap, BTreeSet};

/// What is to be in a bundle.
#[derive(Debug, Default)]
pub(super) struct Selection {
    packs: BTreeMap<PackId, PackSelection>,
    parts: BTreeMap<BlockId, Part>,
    /// Blocks that are left out, and their encoded bytes.
    pub(super) held_blocks: u64,
    pub(super) held_bytes: u64,
}

/// The blocks of one pack, in their order there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PackSelection {
    pub(super) blocks: Vec<(Location, BlockId)>,
    /// Whether they are all blocks of the pack, which its name proves.
    pub(super) is_whole: bool,
}

/// A part of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) release: IndexId,
    pub(super) blob: BlobRef,
}

impl Selection {
    /// The blocks of `releases`, without those that all of `lacking` hold.
    pub(super) fn of(releases: &[Contents], lacking: &[Holdings]) -> Self {
        let mut selection = Self::default();
        let mut blocks = BTreeSet::new();
        for contents in releases {
            blocks.extend(contents.blocks().iter().map(|block| (block.location(), block.blob.id)));
            let release = contents.entry().id();
            selection.parts.extend(contents.parts().map(|blob| (blob.id, Part { release, blob: *blob })));
        }
        for (location, id) in blocks {
            if !lacking.is_empty() && lacking.iter().all(|site| site.has(&location)) {
                selection.held_blocks += 1;
                selection.held_bytes += u64::from(location.len);
            } else {
                selection.packs.entry(location.pack).or_default().blocks.push((location, id));
            }
        }
        for (pack, selected) in &mut selection.packs {
            selected.is_whole = is_whole(pack, &selected.blocks);
        }
        selection
    }

    pub(super) fn packs(&self) -> impl Iterator<Item = (&PackId, &PackSelection)> {
        self.packs.iter()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }

    pub(super) fn blocks(&self) -> u64 {
        self.packs.values().map(|selected| selected.blocks.len() as u64).sum()
    }

    pub(super) fn block_bytes(&self) -> u64 {
        self.packs.values().map(PackSelection::bytes).sum()
    }

    /// What has to be written for it into a folder that may hold some of it.
    pub(super) async fn add_needed(&self, place: &Place, needed: &mut Needed) -> Result<(), ExportError> {
        for (pack, selected) in &self.packs {
            let found = place.origin().extents_of(pack).await;
            let mut all = found.clone();
            all.insert_all(&selected.extents());
            if all == found {
                continue;
            }
            if selected.is_whole {
                needed.add(&layout::pack_path(pack), all.bytes());
            } else {
                needed.add(&layout::excerpt_path(pack), ExcerptHead::new(all).file_len());
            }
        }
        for part in self.parts.values() {
            let path = layout::index_path(&part.blob.id);
            if place.size(&path).await?.is_none() {
                needed.add(&path, part.blob.encoded_len.into());
            }
        }
        Ok(())
    }
}

impl PackSelection {
    /// Encoded bytes of the blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(location, _)| u64::from(location.len)).sum()
    }

    pub(super) fn extents(&self) -> Extents {
        let mut extents = Extents::default();
        self.blocks.iter().for_each(|(location, _)| extents.insert(&location.range()));
        extents
    }
}

/// Whether blocks, in order, are all those of a pack: a pack is named by the ids of its blocks.
fn is_whole(pack: &PackId, blocks: &[(Location, BlockId)]) -> bool {
    let mut end = 0;
    let mut ids = Vec::with_capacity(blocks.len() * HASH_BYTES);
    for (location, id) in blocks {
        if location.offset != end {
            return false;
        }
        end += location.len;
        ids.extend_from_slice(&id.0);
    }
    PackId::of(&ids) == *pack
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack of blocks of these lengths.
    fn pack(lengths: &[u32]) -> (PackId, Vec<(Location, BlockId)>) {
        let ids: Vec<BlockId> = (0u32..).take(lengths.len()).map(|n| BlockId::of(&n.to_le_bytes())).collect();
        let pack = PackId::of(&ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>());
        let mut offset = 0;
        let place = |(len, id): (&u32, BlockId)| {
            let location = Location { pack, offset, len: *len };
            offset += len;
            (location, id)
        };
        (pack, lengths.iter().zip(ids).map(place).collect())
    }

    #[test]
    fn a_packs_name_proves_that_it_is_whole() {
        let (pack, blocks) = pack(&[10, 20, 30]);
        assert!(is_whole(&pack, &blocks));
        for part in [&blocks[..2], &blocks[1..], &[blocks[0], blocks[2]], &[]] {
            assert!(!is_whole(&pack, part), "{part:?}");
        }
    }
}
