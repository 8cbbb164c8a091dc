//! Releases: what a node remembers of each across restarts.

use crate::{error::StoreError, images, store::Store};
use bincode::{Decode, Encode};
use branchmesh_image::{
    BlobRef,
    codec::{self, CodecError},
};

/// Most bytes of [`ReleaseRecord::sources`]: one byte for each block of a release of 1 TiB.
pub const SOURCES_MAX: usize = 16 << 20;

/// Most bytes of a stored record: the sources, names, hashes.
const RECORD_BYTES_MAX: usize = SOURCES_MAX + (64 << 10);

/// What a node remembers of a release.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReleaseRecord {
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// The group whose members may hold it; `None` for a public image.
    pub group: Option<String>,
    /// The root of its index.
    pub root: BlobRef,
    /// Whether all its blocks are here.
    pub complete: bool,
    /// Where each block came from, in a form that only the caller knows. At most [`SOURCES_MAX`] bytes.
    pub sources: Vec<u8>,
}

impl ReleaseRecord {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, RECORD_BYTES_MAX>(bytes)
    }
}

impl Store {
    /// Remembers a release, or what has changed of it. A record that says `complete` is durable only after the
    /// blocks are: what was written is committed first.
    pub fn put_release(&self, record: &ReleaseRecord) -> Result<(), StoreError> {
        images::check(&record.image, &record.release)?;
        if record.sources.len() > SOURCES_MAX {
            return Err(StoreError::RecordTooLarge {
                image: record.image.clone(),
                release: record.release.clone(),
                bytes: record.sources.len(),
                max: SOURCES_MAX,
            });
        }
        if record.complete {
            self.commit()?;
        }
        self.ledger().put_release(record)
    }

    /// All releases, in the order in which they were first put here: the newest last.
    pub fn releases(&self) -> Result<Vec<ReleaseRecord>, StoreError> {
        self.ledger().releases()
    }

    /// Forgets a release. Its blocks and its files stay; [`retire`](Self::retire) removes the files too.
    pub fn remove_release(&self, image: &str, release: &str) -> Result<(), StoreError> {
        images::check(image, release)?;
        self.ledger().remove_release(&crate::ledger::key(image, release), None)
    }
}
