//! What all the releases refer to that somebody may still go by.

use super::{GcError, history::History};
use crate::{
    catalog::{CatalogEntry, Reading, read_target},
    content_keys::ContentKeys,
    contents::{Contents, ContentsError},
    index_io::LoadIndexError,
    layout::{self, METADATA_MAX},
    metadata::Metadata,
    place::Place,
    references::References,
    role::RoleName,
    source::SourceError,
};
use branchmesh_image::IndexId;
use std::collections::{BTreeMap, BTreeSet};
use tough::schema::{Signed, Targets};

/// What JSON adds to a role's file while it waits for signatures.
const STAGED_OVERHEAD: usize = 1024;

/// What the metadata says of all releases, old and new.
#[derive(Default)]
struct Live {
    /// The releases; whether each is in force, or may come into force.
    releases: BTreeMap<IndexId, (CatalogEntry, bool)>,
    /// Groups with releases that cannot be opened.
    sealed: BTreeSet<String>,
}

/// Reads every index that counts.
pub(super) async fn references(
    place: &Place,
    metadata: &Metadata,
    history: &History,
) -> Result<References, GcError> {
    let keys = metadata.content_keys();
    let mut live = Live::default();
    for (role, path, is_in_force) in &history.kept {
        live.read(place, role, path, *is_in_force, keys).await?;
    }
    for file in place.list(layout::STAGED).await? {
        let Some((_, role)) = layout::version_of(&file.path) else { continue };
        let Ok(role) = role.parse() else { continue };
        live.read(place, &role, &file.path, true, keys).await?;
    }
    if !live.sealed.is_empty() {
        return Err(GcError::Sealed { groups: live.sealed });
    }
    let mut references = References::default();
    for (entry, is_needed) in live.releases.values() {
        match Contents::load(entry, keys, place.origin()).await {
            Ok(contents) => references.add(&contents),
            Err(error) if !is_needed && is_damage(&error) => {
                tracing::warn!(id = %entry.root.id, "a removed release cannot be fetched any more: its index is damaged");
            }
            Err(error) => return Err(GcError::Damaged(error)),
        }
    }
    Ok(references)
}

impl Live {
    /// Adds the releases of a role's file.
    async fn read(
        &mut self,
        place: &Place,
        role: &RoleName,
        path: &str,
        is_needed: bool,
        keys: &ContentKeys,
    ) -> Result<(), GcError> {
        match role {
            RoleName::Targets | RoleName::Group(_) => {}
            RoleName::Root | RoleName::Snapshot | RoleName::Timestamp => return Ok(()),
        }
        let bytes = place.read_bounded(path, METADATA_MAX + STAGED_OVERHEAD).await?;
        let signed: Signed<Targets> = match serde_json::from_slice(&bytes) {
            Ok(signed) => signed,
            Err(_) if !is_needed => return Ok(()),
            Err(source) => return Err(GcError::Malformed { path: path.into(), source }),
        };
        for (name, target) in &signed.signed.targets {
            match read_target(role, name.raw(), target, 0, keys) {
                Ok(Reading::Open(entry)) => {
                    let known = self.releases.entry(entry.id()).or_insert_with(|| (*entry, is_needed));
                    known.1 |= is_needed;
                }
                Ok(Reading::Sealed(release)) => {
                    self.sealed.insert(release.group);
                }
                Ok(Reading::Later) => return Err(GcError::Later { target: name.raw().into() }),
                // Every reader leaves it out, so that nobody can need its blocks.
                Err(error) => tracing::warn!(%error, "a release that makes no sense does not count"),
            }
        }
        Ok(())
    }
}

/// Whether an index cannot be had because of what it is, and not because of the moment.
fn is_damage(error: &ContentsError) -> bool {
    match error {
        ContentsError::Index { source: LoadIndexError::Source(SourceError::Origin(error)), .. } => {
            error.is_about_one_file()
        }
        ContentsError::Index { .. } => true,
        ContentsError::NoKey { .. } | ContentsError::WrongKey { .. } => false,
    }
}
