//! Making an empty repository, and the keys to it.

use crate::{
    address::Address,
    keys::{KeyError, Keys},
    metadata::{self, MetadataError},
    place::{Place, PlaceError},
    role::{RoleName, Threshold},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Why a repository cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("{0} holds a repository already; choose another place")]
    Exists(String),
    /// Private keys would be served to everyone.
    #[error("the keys must not lie in the repository, which is served to everyone: {0} is inside of it")]
    KeysInside(PathBuf),
    /// A group's keys are named when the group is made.
    #[error("{0:?} is no role of a new repository; `branchmesh repo delegate` makes groups")]
    NoGroupsYet(String),
    /// The keys cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The folder cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The metadata cannot be made.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Makes an empty repository and its keys, one for each role. Neither a repository nor a key is ever overwritten.
pub async fn init(repo: &Address, keys: &Keys) -> Result<(), InitError> {
    init_with(repo, keys, &BTreeMap::new()).await
}

/// Like [`init`], with as many keys of a role as `thresholds` say.
pub async fn init_with(
    repo: &Address,
    keys: &Keys,
    thresholds: &BTreeMap<RoleName, Threshold>,
) -> Result<(), InitError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = Place::folder(repo)?
        && absolute(keys.folder()).starts_with(absolute(&folder))
    {
        return Err(InitError::KeysInside(keys.folder().into()));
    }
    if let Some(RoleName::Group(group)) = thresholds.keys().find(|role| !RoleName::TOP.contains(role)) {
        return Err(InitError::NoGroupsYet(group.clone()));
    }
    let place = Place::create(repo)?;
    if place.holds_repository().await? {
        return Err(InitError::Exists(place.url().into()));
    }
    for role in RoleName::TOP {
        keys.check_absent(&role, thresholds.get(&role).map_or(1, |threshold| threshold.keys()))?;
    }
    let _lock = place.lock()?;
    metadata::create(&place, keys, thresholds).await?;
    tracing::info!(repository = place.url(), "made an empty repository");
    Ok(())
}
