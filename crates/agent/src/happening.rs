//! What tasks and callers tell the agent's loop.

use crate::{
    hooks::{HookError, Notice},
    requests::{Refused, ReleaseAnswer, Verb},
    shared::Held,
    status::StatusView,
};
use branchmesh_exchange::{Outcome, TransferId};
use branchmesh_repo::{Catalog, CatalogEntry, Subscription};
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
    /// Blocks turned up in files of this machine or near by, and are in the store.
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
    /// Somebody asks for something about a release.
    Asked(Verb, Subscription, oneshot::Sender<Result<ReleaseAnswer, Refused>>),
    /// A hook has ended.
    Told(Box<Notice>, Result<String, HookError>),
    /// Somebody asks which releases are wanted here, and how far they are.
    Wanted(oneshot::Sender<Vec<Wanted>>),
    /// Somebody asks what the site holds.
    SiteMaps(oneshot::Sender<SiteMaps>),
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
    /// A local origin.
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
    /// Whether it was wanted when this began: then local origins were asked for its blocks.
    pub wanted: bool,
}

/// A release that is wanted here.
pub(crate) struct Wanted {
    pub release: IndexId,
    /// `IMAGE@RELEASE`.
    pub name: String,
    /// The blocks that are here; `None` while its index is on its way.
    pub have: Option<BlockSet>,
}

/// What the members say they hold of the releases whose index is known here.
pub(crate) struct SiteMaps {
    /// Members that are connected, with this node.
    pub members: u32,
    pub maps: Vec<(IndexId, BlockSet)>,
}

/// How putting the files in place ended.
pub(crate) enum Assembled {
    /// They are there.
    InPlace(PathBuf),
    /// These blocks were missing or rotten: fetch them again.
    Lacking(Vec<u32>),
    /// The disk has no space for them, in words.
    NoSpace(String),
    /// Something else, in words.
    Failed(String),
}
