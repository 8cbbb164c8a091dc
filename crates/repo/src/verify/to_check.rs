//! Which blocks are to be read: those of as many packs as fit into memory.

use super::{Reader, VerifyError};
use crate::{catalog::CatalogEntry, contents::Contents};
use branchmesh_image::{BlobRef, BlockId, Location, PackId};
use std::{collections::BTreeMap, sync::Arc};

/// The blocks of a run of packs, by place. Two indexes that disagree about a place are both taken at their word.
#[derive(Default)]
pub(super) struct ToCheck {
    blocks: BTreeMap<(Location, BlockId), Expected>,
    /// The first pack that did not fit.
    next: Option<PackId>,
}

/// What a block must be.
#[derive(Clone)]
pub(super) struct Expected {
    pub blob: BlobRef,
    /// The group whose key opens it.
    pub group: Option<Arc<str>>,
}

/// The blocks to be read from one pack, in their order there.
pub(super) struct PackToCheck {
    pub pack: PackId,
    pub blocks: Vec<(Location, Expected)>,
}

impl ToCheck {
    /// The blocks of all `releases` in packs from `from` on: some `blocks_max` of them, whole packs.
    pub(super) async fn collect(
        reader: &Reader,
        releases: &[CatalogEntry],
        from: PackId,
        blocks_max: usize,
    ) -> Result<Self, VerifyError> {
        let mut collected = Self::default();
        for entry in releases {
            collected.add(&reader.contents(entry).await?, from);
            collected.shrink(blocks_max);
        }
        Ok(collected)
    }

    /// Where the next collection begins, if this is not the last.
    pub(super) fn next(&self) -> Option<PackId> {
        self.next
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Encoded bytes of the blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.keys().map(|(location, _)| u64::from(location.len)).sum()
    }

    /// The packs, one after the other.
    pub(super) fn into_packs(self) -> impl Iterator<Item = PackToCheck> {
        let mut blocks =
            self.blocks.into_iter().map(|((location, _), expected)| (location, expected)).peekable();
        std::iter::from_fn(move || {
            let (first, _) = blocks.peek()?;
            let pack = first.pack;
            let of_pack = std::iter::from_fn(|| blocks.next_if(|(location, _)| location.pack == pack));
            Some(PackToCheck { pack, blocks: of_pack.collect() })
        })
    }

    fn add(&mut self, contents: &Contents, from: PackId) {
        let group: Option<Arc<str>> = contents.entry().group.as_deref().map(Arc::from);
        let fits = |pack: PackId| pack >= from && self.next.is_none_or(|next| pack < next);
        for block in contents.blocks().iter().filter(|block| fits(block.pack)) {
            let expected = || Expected { blob: block.blob, group: group.clone() };
            self.blocks.entry((block.location(), block.blob.id)).or_insert_with(expected);
        }
    }

    /// Gives up the last packs until the rest fits. The first one always stays, so that there is progress.
    fn shrink(&mut self, blocks_max: usize) {
        while self.blocks.len() > blocks_max {
            let first = self.blocks.first_key_value().map(|((location, _), _)| location.pack);
            let last = self.blocks.last_key_value().map(|((location, _), _)| location.pack);
            let Some(last) = last.filter(|last| Some(*last) != first) else { return };
            let begin = Location { pack: last, offset: 0, len: 0 };
            drop(self.blocks.split_off(&(begin, BlockId([0; 32]))));
            self.next = Some(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content_keys::ContentKeys, init, keys::Keys, origin::Origin, publish, publish::PublishOptions,
        trust::read_catalog,
    };
    use std::{collections::BTreeSet, fs};

    /// Text that does not compress below a few packs.
    fn noise(length: usize) -> Vec<u8> {
        let blocks = (0u32..).flat_map(|number| BlockId::of(&number.to_le_bytes()).0);
        blocks.take(length).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_fit_comes_in_the_next_collections_and_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (repo, keys) = (crate::Address::from(path("repo").as_path()), Keys::at(&path("keys")));
        init(&repo, &keys).await.unwrap();
        for (release, length) in [("1", 70 << 20), ("2", 100 << 20)] {
            fs::write(path("disk.img"), noise(length)).unwrap();
            let options =
                PublishOptions::new(repo.clone(), keys.clone(), "xp", release, vec![path("disk.img")]);
            publish(PublishOptions { zstd_level: 1, ..options }, &()).await.unwrap();
        }
        let origin = Origin::open(repo).unwrap();
        let keys = ContentKeys::default();
        let catalog = read_catalog(&origin, None, &keys).await.unwrap();
        let reader = Reader { origin, catalog: catalog.clone(), keys };
        let begin = PackId([0; 32]);
        let all = ToCheck::collect(&reader, &catalog.releases, begin, usize::MAX).await.unwrap();
        assert!(all.next().is_none());
        let packs: BTreeSet<PackId> = all.blocks.keys().map(|(location, _)| location.pack).collect();
        assert!(packs.len() >= 4, "{packs:?}");

        let mut collected = BTreeSet::new();
        let (mut from, mut collections) = (Some(begin), 0);
        while let Some(begin) = from {
            let some = ToCheck::collect(&reader, &catalog.releases, begin, 600).await.unwrap();
            collections += 1;
            from = some.next();
            for pack in some.into_packs() {
                for (location, expected) in pack.blocks {
                    assert!(collected.insert((location, expected.blob.id)), "{location:?} came twice");
                }
            }
        }
        assert!(collections > 1);
        assert!(all.blocks.into_keys().eq(collected));
    }
}
