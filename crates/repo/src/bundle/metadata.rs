//! The signed metadata of a bundle: the repository's as it is, with every root of trust that there was, so that a
//! node can begin with any of them.

use super::{ExportError, space::Needed};
use crate::{
    layout::{self, FIRST_ROOT, METADATA_MAX, ROOT, TIMESTAMP},
    origin::Origin,
    place::Place,
    source::MetadataSource,
    tuf::{Files, Verified},
};
use std::collections::btree_map::Entry;

/// Roots of trust that are looked for: more than any repository has, and an end for one that lies.
const ROOTS_MAX: usize = 1024;

/// A verified state.
pub(super) struct Signed {
    files: Files,
    version: u64,
}

impl Signed {
    /// Bytes of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }
}

/// Completes a state that was verified with the roots before it.
pub(super) async fn collect(origin: &Origin, verified: Verified) -> Result<Signed, ExportError> {
    let newest = verified.repository.root().signed.version.get();
    let version = verified.repository.timestamp().signed.version.get();
    let mut files = verified.files;
    for number in (1..=newest).rev().take(ROOTS_MAX) {
        if let Entry::Vacant(missing) = files.entry(format!("{number}.{ROOT}")) {
            // Without a gap: where one is missing, nobody can follow from those before it.
            let Some(root) = origin.metadata(missing.key(), METADATA_MAX).await? else { break };
            missing.insert(root);
        }
    }
    if let Some(root) = files.get(&format!("{newest}.{ROOT}")).cloned() {
        files.insert(ROOT.into(), root);
    }
    Ok(Signed { files, version })
}

/// Fails if the folder holds another repository's metadata, or a later state.
pub(super) async fn check_place(place: &Place, signed: &Signed) -> Result<(), ExportError> {
    let read = async |name: &str| place.origin().metadata(name, METADATA_MAX).await;
    let Some(timestamp) = read(TIMESTAMP).await? else { return Ok(()) };
    let folder = || place.url().to_owned();
    if read(FIRST_ROOT).await?.as_ref() != signed.files.get(FIRST_ROOT) {
        return Err(ExportError::OtherRepository(folder()));
    }
    // One that is damaged is replaced.
    let timestamp: serde_json::Value = serde_json::from_slice(&timestamp).unwrap_or_default();
    match timestamp["signed"]["version"].as_u64() {
        Some(found) if found > signed.version => {
            Err(ExportError::Behind { folder: folder(), found, version: signed.version })
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn add_needed(signed: &Signed, needed: &mut Needed) {
    for (name, bytes) in &signed.files {
        needed.add(&layout::metadata_path(name), bytes.len() as u64);
    }
}

/// Writes it, `timestamp.json` last, and removes what the state before it needed.
pub(super) async fn write(place: &Place, signed: &Signed) -> Result<(), ExportError> {
    let timestamp = signed.files.get_key_value(TIMESTAMP);
    let others = signed.files.iter().filter(|(name, _)| *name != TIMESTAMP);
    for (name, bytes) in others.chain(timestamp) {
        if place.origin().metadata(name, METADATA_MAX).await.ok().flatten().as_ref() != Some(bytes) {
            place.put(&layout::metadata_path(name), bytes.clone()).await?;
        }
    }
    for file in place.list(layout::METADATA).await? {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if !signed.files.contains_key(name) && layout::is_versioned_name(name) && !layout::is_root_name(name)
        {
            place.remove(&file.path).await?;
        }
    }
    Ok(())
}
