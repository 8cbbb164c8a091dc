//! What the exchange asks its agent to do, and the words in which the agent answers.

use crate::time::Time;
use branchmesh_wire::{IndexId, NodeId, Note, Status};
use std::{fmt, net::SocketAddr};

/// Names one request or fetch while it is under way. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// Something for the agent to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a neighbour for blocks, in this order; report each by `handle_block_*`, and the end.
    Request {
        /// Name of the transfer.
        transfer: TransferId,
        /// Whom to ask.
        node: NodeId,
        /// The release.
        release: IndexId,
        /// The blocks, ascending, at most a request's worth.
        blocks: Vec<u32>,
    },
    /// Fetch blocks from an origin, over the WAN.
    Fetch {
        /// Name of the transfer.
        transfer: TransferId,
        /// The release.
        release: IndexId,
        /// The blocks, ascending.
        blocks: Vec<u32>,
    },
    /// Stop a transfer; its end need not be reported. Blocks that are stored all the same may still be.
    Cancel {
        /// The transfer.
        transfer: TransferId,
    },
    /// Tell a neighbour.
    Note {
        /// The neighbour.
        node: NodeId,
        /// What.
        note: Note,
    },
    /// Tell the site.
    Gossip(Status),
    /// Connect to a member that is here and not connected.
    Dial {
        /// The member.
        node: NodeId,
        /// Where it says it is.
        addresses: Vec<SocketAddr>,
    },
    /// Ask the origin whether there is newer metadata; answer with `handle_origin_poll`.
    PollOrigin,
    /// Take newer metadata from a connected member; answer with `handle_metadata`.
    FetchMetadata {
        /// The member.
        node: NodeId,
    },
    /// All blocks of a wanted release are held.
    Completed {
        /// The release.
        release: IndexId,
    },
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other side sent what it had to send.
    Done,
    /// It did not.
    Failed(Failure),
}

/// Why a transfer failed, as far as it matters for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The neighbour has too much to do: ask again soon.
    Busy,
    /// The neighbour does not hold the release (any more).
    NotHere,
    /// The neighbour may not give it to this node.
    NotAllowed,
    /// Nothing came for too long.
    Stalled,
    /// The connection failed, or the origin answered with an error.
    Unreachable,
    /// The other side broke the protocol.
    Invalid,
    /// The other side is innocent: this node could not store what it received.
    Local,
}

/// Why a timer will fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A status is due.
    Status,
    /// Changes of have-maps are due.
    HaveMaps,
    /// A member may have gone silent.
    MemberSilent,
    /// The lease may change hands.
    Lease,
    /// A transfer may have stalled.
    Stall,
    /// A neighbour's pause or quarantine ends.
    PauseOver,
    /// Slow requests may be doubled.
    EndGame,
    /// The origin may be asked again.
    Origin,
    /// Metadata may be asked for again.
    Metadata,
    /// A member may be dialled again.
    Dial,
    /// A release that could not be stored may be tried again.
    StorePause,
}

/// A neighbour said something that no honest node of this version says. The agent may hang up; the exchange has
/// ignored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// A have-map for another number of blocks than the release has.
    #[error("sent a have-map of {claimed} blocks for release {release}, which has {blocks}")]
    WrongSize {
        /// The release.
        release: IndexId,
        /// Blocks of the map.
        claimed: u32,
        /// Blocks of the release.
        blocks: u32,
    },
    /// Full have-maps, or repeated claims, faster than any honest node sends them.
    #[error("floods have-maps of release {release}")]
    Flood {
        /// The release.
        release: IndexId,
    },
}

/// A release that could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddReleaseError {
    /// [`RELEASES_MAX`](crate::release::RELEASES_MAX) are there already.
    #[error("{0} releases are in exchange already; remove one first")]
    TooMany(usize),
    /// More blocks than have-maps can name.
    #[error("the release has {blocks} blocks, the most that can be exchanged is {max}", max = branchmesh_wire::limits::RELEASE_BLOCKS_MAX)]
    TooLarge {
        /// Blocks of the release.
        blocks: u32,
    },
    /// The set of held blocks, or the list of their sources, belongs to another release.
    #[error("what is held was given for {given} blocks, the release has {blocks}")]
    WrongSize {
        /// Blocks of what was given.
        given: usize,
        /// Blocks of the release.
        blocks: u32,
    },
}

/// Seconds until `then`, for people.
pub(crate) struct In(pub(crate) Time, pub(crate) Time);

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} s", self.1.since(self.0).as_secs_f64().ceil())
    }
}
