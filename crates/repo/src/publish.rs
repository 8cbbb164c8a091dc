//! Publishing a release: files in, packs, index and signed metadata out.
//!
//! Everything that a release adds is written before the metadata that names it, and `timestamp.json` last of
//! all, so that a reader sees the release or doesn't, and a publisher may be killed at any moment.

mod block_table;
mod encode;
mod index_writer;
#[cfg(test)]
mod interrupted;
mod known;
mod progress;
mod store;

pub use block_table::BlockTableError;
pub use progress::Progress;

use crate::{
    address::Address,
    catalog::{self, Catalog, CatalogEntry, Sealed},
    keys::{KeyError, Keys},
    metadata::{Metadata, MetadataError, Missing, Outcome},
    place::{Place, PlaceError},
    requirement::Requirement,
    role::{RoleError, RoleName, Threshold},
    source_files::{self, FileError},
};
use branchmesh_image::{
    BlobRef, BlockError, BlockSize, Cipher,
    block::ZSTD_LEVEL_DEFAULT,
    path::{self, NameError},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, path::PathBuf};
use store::store;

/// What to publish, and where.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// The repository.
    pub repo: Address,
    /// The keys that sign and encrypt.
    pub keys: Keys,
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// Files, and folders of files.
    pub paths: Vec<PathBuf>,
    /// Channels that shall point to the release.
    pub channels: Vec<String>,
    /// The group whose members may hold the image; `None` for a public, unencrypted one.
    pub group: Option<String>,
    /// Free words for people and tools, such as a ticket's number.
    pub labels: BTreeMap<String, String>,
    /// What a machine must have for the release.
    pub requires: Vec<Requirement>,
    /// zstd level, [`ZSTD_LEVEL_DEFAULT`] unless somebody has a reason.
    pub zstd_level: i32,
    /// How large its blocks are on average; `None` for those of the image's newest release, the default for its
    /// first one.
    pub block_size: Option<BlockSize>,
}

impl PublishOptions {
    /// A public release of `paths`, on no channel.
    #[must_use]
    pub fn new(
        repo: impl Into<Address>,
        keys: Keys,
        image: &str,
        release: &str,
        paths: Vec<PathBuf>,
    ) -> Self {
        Self {
            repo: repo.into(),
            keys,
            image: image.into(),
            release: release.into(),
            paths,
            channels: Vec::new(),
            group: None,
            labels: BTreeMap::new(),
            requires: Vec::new(),
            zstd_level: ZSTD_LEVEL_DEFAULT,
            block_size: None,
        }
    }
}

/// What a publication came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// The root of its index.
    pub root: BlobRef,
    /// How many files it has.
    pub files: usize,
    /// Bytes of all files.
    pub plain_bytes: u64,
    /// How many of them are holes.
    pub hole_bytes: u64,
    /// Blocks of the release, each counted once.
    pub blocks: u64,
    /// Encoded bytes of all its blocks.
    pub encoded_bytes: u64,
    /// Blocks that the repository did not have.
    pub new_blocks: u64,
    /// Their encoded bytes: what the packs grew by.
    pub new_bytes: u64,
    /// Bytes of the index parts that the repository did not have.
    pub index_bytes: u64,
    /// The signatures that the release waits for; none if it is in force.
    pub missing: Vec<Missing>,
}

/// Why nothing was published. The repository is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file cannot be part of the release.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository's folder cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A key is missing.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The metadata cannot be changed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A name that no group can have.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Labels or requirements that a release cannot have.
    #[error("the release cannot have these labels or requirements: {0}")]
    Labels(&'static str),
    /// An image belongs to one group, or to the public.
    #[error("the image {image} belongs to {owner}; publish it there, or choose another name")]
    OtherOwner {
        /// The image.
        image: String,
        /// Whose releases it has, in words.
        owner: String,
    },
    /// Releases never change.
    #[error("{0} is published already, and a release never changes; choose another release name")]
    AlreadyPublished(String),
    /// Two names that Windows cannot tell apart.
    #[error(
        "{new:?} and the published {old:?} differ in capitals only, which folders on Windows cannot; use one spelling"
    )]
    SameSpelling {
        /// The new name.
        new: String,
        /// The published one.
        old: String,
    },
    /// `NAME@X` would mean two things.
    #[error("{name:?} would be both a channel and a release of {image:?}; choose another name")]
    ChannelIsRelease {
        /// The image.
        image: String,
        /// The name.
        name: String,
    },
    /// There is no such release.
    #[error("{0} is not in the repository; `branchmesh repo list` shows what is")]
    NotPublished(String),
    /// The group's key is not the one that its releases were encrypted with.
    #[error(
        "the content key groups/{group}.key in the keys folder is not the one that the group's releases were encrypted with; get the right one from where they were published"
    )]
    WrongGroupKey {
        /// The group.
        group: String,
    },
    /// There is no room for what has to be remembered meanwhile.
    #[error(transparent)]
    Table(#[from] BlockTableError),
    /// A block cannot be encoded.
    #[error("a block cannot be encoded")]
    Block(#[from] BlockError),
    /// The release is larger than a release can be.
    #[error("the release is too large: {0}")]
    TooLarge(String),
    /// The program is ending.
    #[error("publishing was interrupted")]
    Interrupted,
}

/// Publishes a release. Reads each file once, with bounded memory; stores only blocks that are new.
pub async fn publish(options: PublishOptions, progress: &dyn Progress) -> Result<Published, PublishError> {
    let PublishOptions { image, release, channels, group, .. } = &options;
    [image, release].into_iter().chain(channels).chain(group).try_for_each(|name| path::check_name(name))?;
    catalog::check_labels(&options.labels, &options.requires).map_err(PublishError::Labels)?;
    let place = Place::open(&options.repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, &options.keys).await?;
    check_names(&metadata, image, release, group.as_deref(), channels)?;
    let files = source_files::find(&options.paths)?;
    let cipher = prepare_role(&mut metadata, &options.keys, group.as_deref()).await?;
    let catalog = metadata.catalog();
    let known = known::known(&place, catalog, image, group.as_deref(), &cipher).await?;
    let size = options.block_size.unwrap_or_else(|| block_size_of(catalog, image));
    let stored = store(&place, files, size, known, &cipher, &options, progress).await?;

    let mut published = stored.published;
    let entry = CatalogEntry {
        image: image.clone(),
        release: release.clone(),
        group: group.clone(),
        root: stored.root,
        channels: Vec::new(),
        labels: options.labels.clone(),
        requires: options.requires.clone(),
        block_size: u32::try_from(size.average()).map_err(|_| too_many_blocks())?,
        sequence: metadata.next_sequence(group.as_deref()),
        published: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
        expires: 0,
        encoded_bytes: published.encoded_bytes,
        plain_bytes: published.plain_bytes,
        blocks: u32::try_from(published.blocks).map_err(|_| too_many_blocks())?,
    };
    metadata.add(&entry, &stored.root_block)?;
    for channel in channels {
        metadata.point(channel, &entry)?;
    }
    published.missing = metadata.commit().await?.missing;
    tracing::info!(new_bytes = published.new_bytes, "published a release");
    Ok(published)
}

/// Lets `channel` of `image` point to `release`.
pub async fn promote(
    repo: &Address,
    keys: &Keys,
    image: &str,
    release: &str,
    channel: &str,
) -> Result<Outcome, PublishError> {
    path::check_name(channel)?;
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, keys).await?;
    let Some(entry) = metadata.catalog().find(image, release).cloned() else {
        return Err(PublishError::NotPublished(format!("{image}@{release}")));
    };
    check_channel(&metadata, image, channel)?;
    metadata.point(channel, &entry)?;
    Ok(metadata.commit().await?)
}

/// Sees to it that the role of the releases can be signed, and gives what encrypts them. The first publication for a
/// group makes its role and its keys.
async fn prepare_role(
    metadata: &mut Metadata,
    keys: &Keys,
    group: Option<&str>,
) -> Result<Cipher, PublishError> {
    let role = RoleName::of_releases(group)?;
    let Some(group) = group else {
        metadata.check_may_change(&role).await?;
        return Ok(Cipher::None);
    };
    if metadata.has_group(group) {
        metadata.check_may_change(&role).await?;
    } else {
        metadata.check_may_change(&RoleName::Targets).await?;
        metadata.delegate(group, &keys.role_keys(&role, Threshold::ONE.keys())?, Threshold::ONE)?;
    }
    let sealed = metadata.catalog().sealed.iter().find(|release| release.group == group);
    if sealed.is_some_and(|release| release.reason == Sealed::WrongKey) {
        return Err(PublishError::WrongGroupKey { group: group.into() });
    }
    let key = keys.group(group, metadata.has_releases(&role))?;
    metadata.add_content_key(group, key.clone());
    Ok(Cipher::Group(key))
}

/// The size that the blocks of the image's newest release were cut to: another one would share no block with it.
fn block_size_of(catalog: &Catalog, image: &str) -> BlockSize {
    let newest = catalog.releases.iter().rev().find(|entry| entry.image == image);
    newest.and_then(|entry| BlockSize::of_average(entry.block_size)).unwrap_or_default()
}

fn check_names(
    metadata: &Metadata,
    image: &str,
    release: &str,
    group: Option<&str>,
    channels: &[String],
) -> Result<(), PublishError> {
    let folds = |a: &str, b: &str| a != b && a.to_lowercase() == b.to_lowercase();
    for entry in &metadata.catalog().releases {
        if entry.image == image && entry.release == release {
            return Err(PublishError::AlreadyPublished(entry.name()));
        }
        if folds(&entry.image, image) || (entry.image == image && folds(&entry.release, release)) {
            return Err(PublishError::SameSpelling { new: format!("{image}@{release}"), old: entry.name() });
        }
        if entry.image == image && entry.group.as_deref() != group {
            let owner =
                entry.group.as_ref().map_or("the public images".into(), |group| format!("the group {group}"));
            return Err(PublishError::OtherOwner { image: image.into(), owner });
        }
        if entry.image == image && entry.channels.iter().any(|channel| channel == release) {
            return Err(PublishError::ChannelIsRelease { image: image.into(), name: release.into() });
        }
    }
    if channels.iter().any(|channel| channel == release) {
        return Err(PublishError::ChannelIsRelease { image: image.into(), name: release.into() });
    }
    channels.iter().try_for_each(|channel| check_channel(metadata, image, channel))
}

fn check_channel(metadata: &Metadata, image: &str, channel: &str) -> Result<(), PublishError> {
    match metadata.catalog().find(image, channel) {
        Some(_) => Err(PublishError::ChannelIsRelease { image: image.into(), name: channel.into() }),
        None => Ok(()),
    }
}

fn too_many_blocks() -> PublishError {
    PublishError::TooLarge(format!("it has more than {} blocks", crate::INDEX_BLOCKS_MAX))
}
