//! Which plaintext the repository holds already, and where: blocks of earlier releases are used again as they
//! are, so that their ids stay the same and nobody stores or fetches them twice.

use super::PublishError;
use crate::{
    catalog::{Catalog, CatalogEntry},
    index_io::{LoadIndexError, load_index},
    layout,
    place::Place,
};
use branchmesh_image::{BlockEntry, BlockError, Cipher, PackId, PlainHash};
use std::collections::{HashMap, HashSet};

/// Blocks that are remembered while publishing: 64 GiB of plaintext in some 170 MiB of memory. The newest
/// releases come first.
const KNOWN_BLOCKS_MAX: usize = 1 << 20;

/// The blocks of earlier releases that a release of `image` for `group` may use: those of the same group,
/// because others are encrypted with another key, or not at all.
pub(super) async fn known_blocks(
    place: &Place,
    catalog: &Catalog,
    image: &str,
    group: Option<&str>,
    cipher: &Cipher,
) -> Result<HashMap<PlainHash, BlockEntry>, PublishError> {
    let mut known: HashMap<PlainHash, BlockEntry> = HashMap::new();
    for entry in candidates(catalog, image, group) {
        if known.len() >= KNOWN_BLOCKS_MAX {
            break;
        }
        let index = match load_index(&entry.root, cipher.clone(), place.origin()).await {
            Ok(index) => index,
            Err(error) if is_wrong_key(&error) => {
                return Err(PublishError::WrongGroupKey { release: entry.name(), source: error });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    release = entry.name(),
                    "its blocks are not used again: its index is damaged"
                );
                continue;
            }
        };
        let room = KNOWN_BLOCKS_MAX - known.len();
        for block in index.blocks().iter().take(room) {
            // A newer release's entry stays.
            known.entry(block.blob.plain).or_insert(*block);
        }
    }
    forget_what_is_gone(place, &mut known).await?;
    Ok(known)
}

/// The releases whose blocks may be used: those of the same image first, the newest first.
fn candidates<'a>(catalog: &'a Catalog, image: &str, group: Option<&str>) -> Vec<&'a CatalogEntry> {
    let mut entries: Vec<&CatalogEntry> =
        catalog.releases.iter().filter(|entry| entry.group.as_deref() == group).collect();
    entries.sort_by_key(|entry| (entry.image != image, std::cmp::Reverse(entry.sequence)));
    entries
}

/// Drops blocks whose pack is missing or too short: they are stored again.
async fn forget_what_is_gone(
    place: &Place,
    known: &mut HashMap<PlainHash, BlockEntry>,
) -> Result<(), PublishError> {
    let mut ends: HashMap<PackId, u64> = HashMap::new();
    for block in known.values() {
        let end = u64::from(block.offset) + u64::from(block.blob.encoded_len);
        let known_end = ends.entry(block.pack).or_default();
        *known_end = end.max(*known_end);
    }
    let mut gone = HashSet::new();
    for (pack, end) in ends {
        let size = place.size(&layout::pack_path(&pack)).await?;
        if size.is_none_or(|size| size < end) {
            tracing::warn!(%pack, "missing or cut short in the repository: its blocks are stored again");
            gone.insert(pack);
        }
    }
    known.retain(|_, block| !gone.contains(&block.pack));
    Ok(())
}

fn is_wrong_key(error: &LoadIndexError) -> bool {
    matches!(error, LoadIndexError::Block(BlockError::Crypt(_)))
}
