//! What the mesh tells its owner.

use crate::reply::Reply;
use branchmesh_wire::{Identity, NodeId, Note, Request, Status};
use std::net::SocketAddr;

/// Something happened on the network. For one neighbour: [`Connected`](Self::Connected) first, then its notes and
/// requests, [`Disconnected`](Self::Disconnected) last.
#[derive(Debug)]
pub enum Event {
    /// A neighbour greeted us and can be sent notes and requests.
    Connected {
        /// Who it is, from its certificate.
        identity: Identity,
        /// Where it is reached.
        address: SocketAddr,
    },
    /// A neighbour is gone.
    Disconnected {
        /// Who.
        node: NodeId,
        /// Why, in words.
        reason: String,
    },
    /// Gossip of a member of this site, neighbour or not. Node, name, role and PeerId are those of its certificate.
    Status {
        /// What it says.
        status: Status,
    },
    /// A note of a neighbour. Claims, not facts.
    Note {
        /// Of whom.
        from: NodeId,
        /// What it says.
        note: Note,
    },
    /// A neighbour asks for something.
    Request {
        /// Who, with the groups of its certificate.
        from: Identity,
        /// For what.
        request: Request,
        /// The way back. Dropping it breaks the request off.
        reply: Reply,
    },
    /// A peer was not let in, or did not let us in. The same is told at most once a minute.
    Refused {
        /// Where it is.
        address: SocketAddr,
        /// Why, in words.
        reason: String,
    },
}
