//! Images: what people decided about an image's releases, and what hooks were told of them.
//!
//! One row of the ledger for each image, replaced as a whole: a decision is there after a crash, or it is not.

use crate::{error::StoreError, images, store::Store};
use bincode::{Decode, Encode};
use branchmesh_image::{
    BlockId,
    codec::{self, CodecError},
};
use std::collections::BTreeSet;

/// Most bytes of a stored record: some five thousand names of the greatest length.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// What a node remembers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ImageRecord {
    /// The releases that stay until somebody says otherwise.
    pub pinned: BTreeSet<String>,
    /// The releases that somebody asked for, whatever the subscriptions say.
    pub asked: BTreeSet<String>,
    /// The release that somebody made the current one, against what the subscriptions say.
    pub hold: Option<Hold>,
    /// The releases whose completion the hooks were told, by the root of their index.
    pub told_ready: BTreeSet<BlockId>,
    /// The current release as the hooks were told it last.
    pub told_active: Option<String>,
}

/// A release that stays the current one until a newer publication comes than those that it was preferred to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hold {
    /// The release.
    pub release: String,
    /// The newest publication that does not take its place, by the number of the publication.
    pub past: u64,
}

impl ImageRecord {
    /// Nothing was decided, and nothing told.
    pub const NOTHING: Self = Self {
        pinned: BTreeSet::new(),
        asked: BTreeSet::new(),
        hold: None,
        told_ready: BTreeSet::new(),
        told_active: None,
    };

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, RECORD_BYTES_MAX>(bytes)
    }
}

impl Store {
    /// What is remembered of images, by their names.
    pub fn images_remembered(&self) -> Result<Vec<(String, ImageRecord)>, StoreError> {
        self.ledger().images()
    }

    /// Remembers something else of an image. Durable when this returns.
    pub fn put_image(&self, image: &str, record: &ImageRecord) -> Result<(), StoreError> {
        images::check_one(image)?;
        let bytes = record.to_bytes();
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(StoreError::ImageRecordTooLarge {
                image: image.into(),
                bytes: bytes.len(),
                max: RECORD_BYTES_MAX,
            });
        }
        let is_empty = *record == ImageRecord::NOTHING;
        self.ledger().put_image(image, (!is_empty).then_some(bytes.as_slice()))
    }
}
