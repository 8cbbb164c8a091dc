//! What the repository holds already: blocks of earlier releases are used again as they are, so that their ids
//! stay the same and nobody stores or fetches them twice, and so are the pieces of their indexes.

use super::{PublishError, block_table::BlockTable};
use crate::{
    catalog::{Catalog, CatalogEntry},
    index_io::{self, LoadIndexError},
    layout,
    place::Place,
};
use branchmesh_image::{BlockEntry, BlockError, BlockId, Cipher, Decoder, IndexId, PackId};
use futures::StreamExt;
use std::{
    collections::{HashMap, HashSet},
    error::Error,
};

/// What a new release may use.
pub(super) struct Known {
    /// Blocks that lie in a pack that is there.
    pub(super) blocks: BlockTable,
    /// Index pieces that are there, intact.
    pub(super) pieces: HashSet<BlockId>,
}

/// What earlier releases hold that a release of `image` for `group` may use: those of the same group, because
/// others are encrypted with another key, or not at all. The blocks of the image's newest releases come first.
pub(super) async fn known(
    place: &Place,
    catalog: &Catalog,
    image: &str,
    group: Option<&str>,
    cipher: &Cipher,
) -> Result<Known, PublishError> {
    let mut survey = Survey {
        place,
        pack_sizes: HashMap::new(),
        damaged_packs: HashSet::new(),
        decoder: Decoder::new(cipher.clone())?,
        known: Known { blocks: BlockTable::new()?, pieces: HashSet::new() },
    };
    let candidates = candidates(catalog, image, group);
    if !candidates.is_empty() {
        survey.pack_sizes = pack_sizes(place).await?;
    }
    for entry in candidates {
        survey.add(entry).await?;
    }
    Ok(survey.known)
}

/// The releases whose blocks may be used: those of the same image first, the newest first.
fn candidates<'a>(catalog: &'a Catalog, image: &str, group: Option<&str>) -> Vec<&'a CatalogEntry> {
    let mut entries: Vec<&CatalogEntry> =
        catalog.releases.iter().filter(|entry| entry.group.as_deref() == group).collect();
    entries.sort_by_key(|entry| (entry.image != image, std::cmp::Reverse(entry.sequence)));
    entries
}

/// How long each pack is. One listing instead of a question for each.
async fn pack_sizes(place: &Place) -> Result<HashMap<PackId, u64>, PublishError> {
    let listed = place.list(layout::PACKS).await?;
    Ok(listed.into_iter().filter_map(|file| Some((layout::pack_of(&file.path)?, file.size))).collect())
}

struct Survey<'a> {
    place: &'a Place,
    pack_sizes: HashMap<PackId, u64>,
    /// Packs that somebody was warned of.
    damaged_packs: HashSet<PackId>,
    decoder: Decoder,
    known: Known,
}

impl Survey<'_> {
    /// Adds what `entry` holds and no release before it did. Most pieces of a release are those of the one before.
    async fn add(&mut self, entry: &CatalogEntry) -> Result<(), PublishError> {
        let origin = self.place.origin();
        let root = match index_io::load_root(&entry.root, &mut self.decoder, origin).await {
            Ok(root) => root,
            Err(error) if is_wrong_key(&error) => {
                let group = entry.group.clone().unwrap_or_default();
                return Err(PublishError::WrongGroupKey { group });
            }
            Err(error) => {
                warn_of_damage(entry, &error);
                return Ok(());
            }
        };
        let mut wanted = root.pieces;
        wanted.retain(|piece| !self.known.pieces.contains(&piece.id));
        let mut arriving = Box::pin(index_io::pieces(IndexId(entry.root.id.0), wanted, origin));
        while let Some((blob, part)) = arriving.next().await {
            match part.and_then(|part| index_io::decode_piece(&blob, &part, &mut self.decoder)) {
                Ok(piece) => {
                    let usable: Vec<_> = piece.entries().filter(|block| self.is_there(block)).collect();
                    self.known.blocks.add_known(usable.into_iter())?;
                    self.known.pieces.insert(blob.id);
                }
                Err(error) => warn_of_damage(entry, &error),
            }
        }
        Ok(())
    }

    /// Whether the block's pack is there and reaches far enough. Blocks of others are stored again.
    fn is_there(&mut self, block: &BlockEntry) -> bool {
        let end = u64::from(block.offset) + u64::from(block.blob.encoded_len);
        if self.pack_sizes.get(&block.pack).is_some_and(|size| *size >= end) {
            return true;
        }
        if self.damaged_packs.insert(block.pack) {
            let pack = block.pack;
            tracing::warn!(%pack, "missing or cut short in the repository: its blocks are stored again");
        }
        false
    }
}

fn warn_of_damage(entry: &CatalogEntry, error: &LoadIndexError) {
    let error = error as &dyn Error;
    tracing::warn!(
        error,
        release = entry.name(),
        "a part of its index is damaged: the blocks are stored again"
    );
}

fn is_wrong_key(error: &LoadIndexError) -> bool {
    matches!(error, LoadIndexError::Block(BlockError::Crypt(_)))
}
