//! Publishing a release: files in, packs, index and signed metadata out.
//!
//! Everything that a release adds is written before the metadata that names it, and `timestamp.json` last of
//! all, so that a reader sees the release or doesn't, and a publisher may be killed at any moment.

mod encode;
mod known;

use crate::{
    catalog::CatalogEntry,
    index_io::LoadIndexError,
    keys::{KeyError, Keys},
    layout,
    metadata::{Metadata, MetadataError},
    pack::{PackWriter, Packed},
    place::{Place, PlaceError},
    source::PartSource,
    source_files::{self, FileError, SourceFile},
};
use branchmesh_image::{
    BlobRef, BlockEntry, BlockError, Cipher, Encoder, Extent, FileEntry, IndexId, IndexPiece, IndexRoot,
    PlainHash, VerifiedBlock,
    block::ZSTD_LEVEL_DEFAULT,
    index::{INDEX_VERSION, ROOT_PLAIN_MAX},
    path::{self, NameError},
};
use encode::{Encoding, Step};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// What to publish, and where.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// The repository: a path or a `file://` URL.
    pub repo: String,
    /// The folder with the keys.
    pub keys: PathBuf,
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
    /// zstd level, [`ZSTD_LEVEL_DEFAULT`] unless somebody has a reason.
    pub zstd_level: i32,
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
}

/// Is told how far a publication is, in bytes of plaintext. `()` doesn't listen.
pub trait Progress: Send + Sync {
    /// So many bytes are to be read.
    fn total(&self, bytes: u64);
    /// So many more are done.
    fn advance(&self, bytes: u64);
}

impl Progress for () {
    fn total(&self, _: u64) {}
    fn advance(&self, _: u64) {}
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
    #[error("the group's content key does not open {release}, an earlier release of the group")]
    WrongGroupKey {
        /// The release.
        release: String,
        /// What happened.
        #[source]
        source: LoadIndexError,
    },
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
    let place = Place::open(&options.repo)?;
    let _lock = place.lock()?;
    let keys = Keys::at(&options.keys);
    let mut metadata = Metadata::load(&place, &keys).await?;
    check_names(&metadata, image, release, channels)?;
    let catalog = metadata.catalog();
    let files = source_files::find(&options.paths)?;
    let cipher = match group {
        None => Cipher::None,
        Some(name) => {
            let has_releases = catalog.releases.iter().any(|entry| entry.group.as_ref() == Some(name));
            Cipher::Group(keys.group(name, has_releases)?)
        }
    };
    let known = known::known_blocks(&place, catalog, image, group.as_deref(), &cipher).await?;
    let stored = store(&place, files, known, &cipher, &options, progress).await?;

    let last_sequence = metadata.catalog().releases.iter().map(|entry| entry.sequence).max();
    let published = stored.summary(&options);
    let entry = CatalogEntry {
        image: image.clone(),
        release: release.clone(),
        group: group.clone(),
        root: stored.root,
        channels: Vec::new(),
        sequence: last_sequence.unwrap_or(0).saturating_add(1),
        published: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
        encoded_bytes: published.encoded_bytes,
        plain_bytes: published.plain_bytes,
        blocks: u32::try_from(published.blocks).map_err(|_| too_many_blocks())?,
    };
    metadata.add(&entry, &stored.root_block)?;
    for channel in channels {
        metadata.point(channel, image, release);
    }
    metadata.write(&place).await?;
    tracing::info!(new_bytes = published.new_bytes, "published a release");
    Ok(published)
}

/// Lets `channel` of `image` point to `release`.
pub async fn promote(
    repo: &str,
    keys: &Path,
    image: &str,
    release: &str,
    channel: &str,
) -> Result<(), PublishError> {
    path::check_name(channel)?;
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let keys = Keys::at(keys);
    let mut metadata = Metadata::load(&place, &keys).await?;
    let Some(entry) = metadata.catalog().find(image, release) else {
        return Err(PublishError::NotPublished(format!("{image}@{release}")));
    };
    let (image, release) = (entry.image.clone(), entry.release.clone());
    check_channel(&metadata, &image, channel)?;
    metadata.point(channel, &image, &release);
    Ok(metadata.write(&place).await?)
}

/// Signs the metadata anew as it is, so that it does not expire.
pub async fn renew(repo: &str, keys: &Path) -> Result<(), PublishError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let keys = Keys::at(keys);
    Ok(Metadata::load(&place, &keys).await?.write(&place).await?)
}

/// A release whose packs and index are in the repository; only the metadata doesn't name it yet.
struct Stored {
    files: Vec<FileEntry>,
    packed: Packed,
    root: BlobRef,
    root_block: VerifiedBlock,
    /// Bytes of the index parts that were not there before.
    index_bytes: u64,
}

impl Stored {
    fn summary(&self, options: &PublishOptions) -> Published {
        let holes = self.files.iter().flat_map(|file| &file.extents).map(|extent| match extent {
            Extent::Hole(length) => *length,
            Extent::Blocks { .. } => 0,
        });
        Published {
            image: options.image.clone(),
            release: options.release.clone(),
            root: self.root,
            files: self.files.len(),
            plain_bytes: self.files.iter().map(|file| file.size).sum(),
            hole_bytes: holes.sum(),
            blocks: self.packed.blocks.len() as u64,
            encoded_bytes: self.packed.blocks.iter().map(|block| u64::from(block.blob.encoded_len)).sum(),
            new_blocks: self.packed.new_blocks,
            new_bytes: self.packed.new_bytes,
            index_bytes: self.index_bytes,
        }
    }
}

fn check_names(
    metadata: &Metadata,
    image: &str,
    release: &str,
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

/// Puts the files' new blocks into packs, and the index beside them; if that fails, takes the packs away again.
async fn store(
    place: &Place,
    files: Vec<SourceFile>,
    known: HashMap<PlainHash, BlockEntry>,
    cipher: &Cipher,
    options: &PublishOptions,
    progress: &dyn Progress,
) -> Result<Stored, PublishError> {
    progress.total(files.iter().map(|file| file.size).sum());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let encoders = (0..cores).map(|_| Encoder::new(options.zstd_level, cipher.clone()));
    let encoding = encode::start(files, known, encoders.collect::<Result<_, _>>()?);
    let mut packs = PackWriter::new(place);
    let stored = async {
        let (files, packed) = write_packs(&mut packs, encoding, progress).await?;
        write_index(place, options, cipher, files, packed).await
    };
    match stored.await {
        Ok(stored) => Ok(stored),
        Err(error) => {
            packs.discard().await;
            Err(error)
        }
    }
}

async fn write_packs(
    packs: &mut PackWriter,
    mut encoding: Encoding,
    progress: &dyn Progress,
) -> Result<(Vec<FileEntry>, Packed), PublishError> {
    while let Some(step) = encoding.steps.recv().await {
        match step {
            Step::Nothing(bytes) => progress.advance(bytes),
            Step::Known(entry) => {
                packs.push_known(entry);
                progress.advance(u64::from(entry.blob.plain_len));
            }
            Step::New(encoded) => {
                let (blob, block) = encoded.await.map_err(|_| PublishError::Interrupted)??;
                packs.push_new(blob, &block).await?;
                progress.advance(u64::from(blob.plain_len));
            }
        }
    }
    let files = encoding.files.await.map_err(|_| PublishError::Interrupted)??;
    Ok((files, packs.finish().await?))
}

/// Writes the parts of the index that the repository does not have.
async fn write_index(
    place: &Place,
    options: &PublishOptions,
    cipher: &Cipher,
    files: Vec<FileEntry>,
    packed: Packed,
) -> Result<Stored, PublishError> {
    // Always the same level: a piece that did not change must be the same bytes as in the release before.
    let mut encoder = Encoder::new(ZSTD_LEVEL_DEFAULT, cipher.clone())?;
    let mut index_bytes = 0;
    let mut pieces = Vec::new();
    for piece in IndexPiece::cut(&packed.blocks) {
        let (blob, block) = encoder.encode(&piece.to_bytes())?;
        index_bytes += write_part(place, &blob, &block).await?;
        pieces.push(blob);
    }
    let root = IndexRoot {
        version: INDEX_VERSION,
        image: options.image.clone(),
        release: options.release.clone(),
        files,
        pieces,
    };
    let bytes = root.to_bytes();
    if bytes.len() > ROOT_PLAIN_MAX {
        return Err(PublishError::TooLarge(format!("its list of files has {} bytes", bytes.len())));
    }
    let (blob, root_block) = encoder.encode(&bytes)?;
    index_bytes += write_part(place, &blob, &root_block).await?;
    Ok(Stored { files: root.files, packed, root: blob, root_block, index_bytes })
}

/// Writes an index part unless it is there, intact; returns the bytes that were added.
async fn write_part(place: &Place, blob: &BlobRef, part: &VerifiedBlock) -> Result<u64, PublishError> {
    if place.origin().part(IndexId(blob.id.0), blob).await.is_ok() {
        return Ok(0);
    }
    place.put(&layout::index_path(part.id()), part.bytes().clone()).await?;
    Ok(part.bytes().len() as u64)
}

fn too_many_blocks() -> PublishError {
    PublishError::TooLarge(format!("it has more than {} blocks", crate::INDEX_BLOCKS_MAX))
}
