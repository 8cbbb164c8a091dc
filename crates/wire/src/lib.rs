//! What nodes say to each other, and how much of it is listened to.
//!
//! Three kinds of words travel between nodes:
//!
//! * a [`Status`] is gossiped over the site now and then: who is here, and how far. Small and rare.
//! * a [`Note`] goes to one neighbour on an ordered stream: greetings, have-maps and their changes.
//! * a [`Request`] opens a stream of its own and is answered there with bytes.
//!
//! Nothing here is believed because it decodes: have-maps are claims, and bytes are checked against hashes.
//! This crate knows no sockets and no policy.

pub mod block_set;
pub mod limits;
pub mod message;
pub mod node;
pub mod status;

pub use block_set::{BlockSet, Runs};
pub use branchmesh_image::{
    codec::CodecError,
    hash::{BlockId, IndexId},
    segment::{Segment, Segments},
};
pub use message::{BlockFrame, Hello, Message, Note, Refusal, Request, ResponseHead};
pub use node::{Identity, NodeId, Role, WanPolicy};
pub use status::{ReleaseStatus, Source, Status, Strip};
