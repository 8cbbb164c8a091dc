//! What tasks and callers tell the agent's loop.

use crate::{shared::Held, status::StatusView};
use branchmesh_exchange::{Outcome, TransferId};
use branchmesh_repo::{Catalog, CatalogEntry, Subscription, Unmet};
use branchmesh_store::ReleaseRecord;
use branchmesh_wire::{BlockSet, IndexId, NodeId};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::oneshot;

/// Something that happened outside the loop.
pub(crate) enum Happening {
    /// Blocks of a transfer arrived, were checked and written, or not.
    Blocks(Vec<Arrival>),
    /// A transfer is over; every one of its blocks was reported before.
    TransferEnded(TransferId, Outcome),
    /// An origin failed, in words.
    OriginFailed(String),
    /// Blocks that were believed to be here are not: rotten, or lost with a failed write.
    Lost(IndexId, Vec<u32>),
    /// Blocks turned up in files of this machine, and are in the store.
    Found(IndexId, Vec<u32>),
    /// The disk does not take blocks, in words.
    DiskFailed(String),
    /// An attempt to learn of new metadata ended.
    Metadata(MetadataFrom, Result<Arc<Catalog>, String>),
    /// A release's index is here, with what the store has of it; or not, in words.
    Indexed(Box<CatalogEntry>, Result<Indexed, String>),
    /// A release's files were put in place, or not.
    Assembled(IndexId, Assembled),
    /// Somebody asks for the status.
    Status(oneshot::Sender<StatusView>),
    /// Somebody wants a release whatever the subscriptions say.
    Get(Subscription, oneshot::Sender<Result<GetAnswer, GetError>>),
}

/// One block of a transfer.
pub(crate) struct Arrival {
    pub transfer: TransferId,
    pub block: u32,
    pub result: Arrived,
}

/// What became of it.
pub(crate) enum Arrived {
    /// Verified and written.
    Stored,
    /// The other side does not have it.
    NotThere,
    /// It did not match its hash.
    Bad,
}

/// Where metadata was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetadataFrom {
    /// The WAN origins.
    Wan,
    /// The local origins.
    Local,
    /// A member.
    Member(NodeId),
}

/// A release that can be exchanged from now on.
pub(crate) struct Indexed {
    pub held: Arc<Held>,
    pub have: BlockSet,
    /// What an earlier run wrote down.
    pub record: Option<ReleaseRecord>,
}

/// How putting the files in place ended.
pub(crate) enum Assembled {
    /// They are there.
    InPlace(PathBuf),
    /// These blocks were missing or rotten: fetch them again.
    Lacking(Vec<u32>),
    /// Something else, in words.
    Failed(String),
}

/// Why a release is not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GetError {
    /// Nothing is known of the repository yet.
    #[error("no metadata of the repository has arrived yet")]
    NotYet,
    /// What is known of it is too old.
    #[error(
        "the signed metadata has expired, so that nothing new is begun: run branchmesh repo refresh there"
    )]
    Expired,
    /// The release is not for this machine.
    #[error("{release} is not for this machine: {unmet}")]
    Unsuitable {
        /// The release.
        release: String,
        /// What it needs.
        unmet: Unmet,
    },
    /// The repository has no such release.
    #[error("the repository has no {0}: see branchmesh repo list")]
    Unknown(Subscription),
    /// Not one image.
    #[error("name one image: NAME, NAME@CHANNEL or NAME@RELEASE")]
    NotOneImage,
}

/// What the asker of `POST /api/v1/get` may wait for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GetAnswer {
    /// Name of the image.
    pub image: String,
    /// The release that was chosen.
    pub release: String,
}
