//! Bundles: the part of a repository that a site lacks, in a folder that is carried or distributed.
//!
//! A bundle has the layout of a repository: the blocks of some releases that a site does not hold, all parts of
//! their indexes, and the signed metadata as it is, so that a node that has nothing but the root of trust can verify
//! everything in it. Exports into the same folder add up. Files are written as a publisher writes them: beside their
//! name, synced, renamed, and `timestamp.json` last, so that a stick that is pulled out holds no wrong file. What is
//! in the folder already is read and checked before it is counted on.

mod error;
mod metadata;
mod pack;
mod selection;
mod space;

pub use error::ExportError;

use crate::{
    address::Address,
    catalog::{Catalog, CatalogEntry},
    content_keys::ContentKeys,
    contents::Contents,
    holdings::Holdings,
    layout::{self, METADATA_MAX, ROOT},
    origin::Origin,
    place::Place,
    publish::Progress,
    source::{MetadataSource, PartSource},
    subscription::Subscription,
    trust::load_once,
    tuf::TrustError,
};
use branchmesh_image::PackId;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use pack::PackFile;
use selection::{PackSelection, Part, Selection};
use space::Needed;
use std::path::PathBuf;

/// Packs that are in memory at once: one arrives while another is written.
const PACKS_IN_FLIGHT: usize = 2;

/// What to export, and where to.
pub struct ExportOptions {
    /// The repository to take it from.
    pub repo: Address,
    /// Its root of trust; without one, the root that it offers is believed.
    pub root: Option<Vec<u8>>,
    /// What opens the indexes of groups' releases. The blocks themselves stay sealed.
    pub keys: ContentKeys,
    /// The releases.
    pub releases: Vec<Subscription>,
    /// The folder, made where it is missing.
    pub to: PathBuf,
    /// What the sites hold to which the bundle goes: a block that all of them hold is left out.
    pub lacking: Vec<Holdings>,
}

/// What a bundle holds for the releases that were exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The releases, by name.
    pub releases: Vec<String>,
    /// Version of the metadata.
    pub version: u64,
    /// When the metadata expires, in Unix seconds: from then on nothing new is begun with this bundle.
    pub expires: u64,
    /// Blocks in the bundle.
    pub blocks: u64,
    /// Their encoded bytes.
    pub block_bytes: u64,
    /// Of these, bytes that were in the folder before.
    pub found_bytes: u64,
    /// Blocks that were left out because the sites hold them.
    pub held_blocks: u64,
    /// Their encoded bytes.
    pub held_bytes: u64,
    /// Bytes of the index parts in the bundle.
    pub index_bytes: u64,
    /// Bytes of the metadata files in the bundle.
    pub metadata_bytes: u64,
}

/// Puts releases, without what the sites hold, into a folder.
pub async fn export(options: ExportOptions, progress: &dyn Progress) -> Result<Exported, ExportError> {
    let origin = Origin::open(options.repo.clone())?;
    let place = Place::create(&options.to.as_path().into())?;
    let _lock = place.lock()?;
    for leftover in place.unfinished()? {
        place.remove(&leftover.path).await?;
    }
    let root = match options.root {
        Some(root) => root,
        None => offered_root(&origin).await?,
    };
    let verified = load_once(&root, &origin).await?;
    verified.check_expiry(Timestamp::now())?;
    let catalog = verified.catalog(Timestamp::now(), &options.keys);
    let signed = metadata::collect(&origin, verified).await?;
    metadata::check_place(&place, &signed).await?;

    let mut contents = Vec::new();
    for entry in find(&catalog, &options.releases, &origin)? {
        contents.push(Contents::load(entry, &options.keys, &origin).await?);
    }
    let selection = Selection::of(&contents, &options.lacking);
    progress.total(selection.block_bytes());
    let folder = options.to;
    let mut needed = Needed::default();
    selection.add_needed(&place, &mut needed).await?;
    metadata::add_needed(&signed, &mut needed);
    space::check(&folder, &needed)?;

    let full = |error| error::name_full_disk(error, &folder);
    let found_bytes = write_packs(&origin, &place, &selection, progress).await.map_err(full)?;
    write_parts(&origin, &place, &selection).await.map_err(full)?;
    metadata::write(&place, &signed).await.map_err(full)?;
    Ok(Exported {
        releases: contents.iter().map(|contents| contents.entry().name()).collect(),
        version: catalog.version,
        expires: contents.iter().map(|contents| contents.entry().expires).fold(catalog.expires, u64::min),
        blocks: selection.blocks(),
        block_bytes: selection.block_bytes(),
        found_bytes,
        held_blocks: selection.held_blocks,
        held_bytes: selection.held_bytes,
        index_bytes: selection.parts().map(|part| u64::from(part.blob.encoded_len)).sum(),
        metadata_bytes: signed.bytes(),
    })
}

async fn offered_root(origin: &Origin) -> Result<Vec<u8>, TrustError> {
    let root = origin.metadata(ROOT, METADATA_MAX).await?;
    root.map(Vec::from).ok_or_else(|| TrustError::Missing { name: ROOT.into() })
}

/// The releases that are meant, each once.
fn find<'a>(
    catalog: &'a Catalog,
    wanted: &[Subscription],
    origin: &Origin,
) -> Result<Vec<&'a CatalogEntry>, ExportError> {
    let mut found: Vec<&CatalogEntry> = Vec::new();
    for subscription in wanted {
        let matching = catalog.matching(subscription);
        if matching.is_empty() {
            return Err(ExportError::Unknown {
                name: subscription.to_string(),
                repo: origin.url().into(),
                sealed: catalog.sealed_groups(),
            });
        }
        found.extend(matching);
    }
    found.sort_by_key(|entry| entry.id());
    found.dedup_by_key(|entry| entry.id());
    Ok(found)
}

/// Writes what is missing of each pack; gives how many of the selected bytes were there.
async fn write_packs(
    origin: &Origin,
    place: &Place,
    selection: &Selection,
    progress: &dyn Progress,
) -> Result<u64, ExportError> {
    let assemble = |(pack, selected): (&PackId, &PackSelection)| {
        let (pack, selected) = (*pack, selected.clone());
        async move { PackFile::assemble(origin, place, pack, &selected, progress).await }
    };
    let mut files = stream::iter(selection.packs()).map(assemble).buffered(PACKS_IN_FLIGHT);
    let mut found = 0;
    while let Some(file) = files.try_next().await? {
        found += file.found_bytes;
        file.write(place).await?;
    }
    Ok(found)
}

async fn write_parts(origin: &Origin, place: &Place, selection: &Selection) -> Result<(), ExportError> {
    for Part { release, blob } in selection.parts() {
        if place.origin().part(*release, blob).await.is_ok() {
            continue;
        }
        let part = origin.part(*release, blob).await?;
        place.put(&layout::index_path(&blob.id), Bytes::copy_from_slice(part.bytes())).await?;
    }
    Ok(())
}
