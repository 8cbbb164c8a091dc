//! Where metadata and index parts come from: an origin, or the members of a site. One vocabulary for both.

use crate::origin::OriginError;
use async_trait::async_trait;
use branchmesh_image::{BlobRef, IndexId, VerifiedBlock};
use bytes::Bytes;

/// Gives metadata files. What it gives is believed only after [`Trust`](crate::Trust) verified it.
#[async_trait]
pub trait MetadataSource: Send + Sync {
    /// The file `name`, at most `max` bytes of it; `None` if there is no such file.
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError>;
}

/// Gives the parts of an index.
#[async_trait]
pub trait PartSource: Send + Sync {
    /// The part `blob` of the index of `release`.
    async fn part(&self, release: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError>;
}

/// Why a source did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// An origin failed, or gave something else.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The members of the site failed; in words.
    #[error("no member of the site gave it: {0}")]
    Members(String),
    /// The line to the origin is closed: it was not asked, or not listened to any more.
    #[error("the line to the WAN is closed")]
    LineClosed,
}
