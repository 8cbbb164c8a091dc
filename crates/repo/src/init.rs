//! Making an empty repository, and the keys to it.

use crate::{
    address::Address,
    keys::{KeyError, Keys},
    metadata::{Metadata, MetadataError, write_root},
    place::{Place, PlaceError},
};
use std::path::{Path, PathBuf};

/// Why a repository cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("{0} holds a repository already; choose another place")]
    Exists(String),
    /// Private keys would be served to everyone.
    #[error("the keys must not lie in the repository, which is served to everyone: {0} is inside of it")]
    KeysInside(PathBuf),
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

/// Makes an empty repository and its keys.
/// Neither a repository nor a key is ever overwritten.
pub async fn init(repo: &Address, keys: &Keys) -> Result<(), InitError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = Place::folder(repo)?
        && absolute(keys.folder()).starts_with(absolute(&folder))
    {
        return Err(InitError::KeysInside(keys.folder().into()));
    }
    let place = Place::create(repo)?;
    if place.holds_repository().await? {
        return Err(InitError::Exists(place.url().into()));
    }
    keys.check_absent()?;
    let _lock = place.lock()?;
    keys.create()?;
    let (root, metadata) = Metadata::create(keys).await?;
    keys.write_root_json(&root)?;
    write_root(&place, &root).await?;
    metadata.write(&place).await?;
    tracing::info!(repository = place.url(), "made an empty repository");
    Ok(())
}
