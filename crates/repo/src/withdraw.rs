//! Taking back: a channel from a release, a release from the repository.
//!
//! Both change only the signed metadata. The files of a release that was removed stay until [`gc`](crate::gc())
//! collects them.

use crate::{
    address::Address,
    catalog::{CatalogEntry, STABLE},
    keys::Keys,
    metadata::{Metadata, MetadataError, Outcome},
    place::{Place, PlaceError},
};

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum WithdrawError {
    /// The metadata cannot be read or changed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The repository cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is no such release.
    #[error("{0} is not in the repository; `branchmesh repo list` shows what is")]
    NotPublished(String),
    /// Nodes follow the channel to the release.
    #[error(
        "nodes follow {} to {release}: promote another release, or demote this one, and then remove it",
        .channels.join(", ")
    )]
    OnChannel {
        /// The release.
        release: String,
        /// Its channels.
        channels: Vec<String>,
    },
    /// The channel points to another release, or to none.
    #[error("{channel} does not point to {release}, but to {}", .points_to.as_deref().unwrap_or("no release"))]
    NotPointing {
        /// The channel.
        channel: String,
        /// The release that it should have pointed to.
        release: String,
        /// The one that it points to.
        points_to: Option<String>,
    },
    /// Without the channel, nodes would take the newest release.
    #[error(
        "nodes that subscribe to {image} alone follow {STABLE}, and without it the newest release: say with --to which release they shall have instead (there is: {})",
        .others.join(", ")
    )]
    NeedsSuccessor {
        /// The image.
        image: String,
        /// Its other releases, the newest first.
        others: Vec<String>,
    },
}

/// Takes the release `image@release` out of the repository. Refused while a channel points to it.
pub async fn remove_release(
    repo: &Address,
    keys: &Keys,
    image: &str,
    release: &str,
) -> Result<Outcome, WithdrawError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, keys).await?;
    let entry = find(&metadata, image, release)?;
    if !entry.channels.is_empty() {
        return Err(WithdrawError::OnChannel { release: entry.name(), channels: entry.channels });
    }
    metadata.remove(&entry)?;
    Ok(metadata.commit().await?)
}

/// Takes `channel` away from `image@release`, and gives it to the release `successor` of the image, if there is one.
/// A channel without a release leaves the nodes that follow it with what they have.
pub async fn demote(
    repo: &Address,
    keys: &Keys,
    image: &str,
    release: &str,
    channel: &str,
    successor: Option<&str>,
) -> Result<Outcome, WithdrawError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, keys).await?;
    let entry = find(&metadata, image, release)?;
    if !has_channel(&entry, channel) {
        let of_image = |other: &&CatalogEntry| other.image == image && has_channel(other, channel);
        let points_to = metadata.catalog().releases.iter().find(of_image).map(CatalogEntry::name);
        let channel = channel.into();
        return Err(WithdrawError::NotPointing { channel, release: entry.name(), points_to });
    }
    match successor {
        Some(successor) => metadata.point(channel, &find(&metadata, image, successor)?)?,
        None if channel == STABLE => {
            let others = metadata.catalog().releases.iter().rev();
            let others = others.filter(|other| other.image == image && other.release != release);
            let others = others.map(|other| other.release.clone()).collect();
            return Err(WithdrawError::NeedsSuccessor { image: image.into(), others });
        }
        None => metadata.unpoint(channel, &entry)?,
    }
    Ok(metadata.commit().await?)
}

fn find(metadata: &Metadata, image: &str, release: &str) -> Result<CatalogEntry, WithdrawError> {
    let entry = metadata.catalog().find(image, release).cloned();
    entry.ok_or_else(|| WithdrawError::NotPublished(format!("{image}@{release}")))
}

fn has_channel(entry: &CatalogEntry, channel: &str) -> bool {
    entry.channels.iter().any(|candidate| candidate == channel)
}
