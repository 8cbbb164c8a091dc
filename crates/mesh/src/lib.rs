//! The network shell: who is on the wire, and how bytes get from one node to another.
//!
//! Two planes with one identity, a device certificate of the organisation's CA:
//!
//! * the *control plane*, libp2p over TCP: mDNS finds nodes, gossipsub carries [`Status`](branchmesh_wire::Status).
//! * the *data plane*, quinn: one connection per pair of neighbours, on the same port number of UDP, for
//!   notes and requests.
//!
//! The data plane leads: whoever is heard of is dialled there ([`Mesh::dial`], bootstrap, mDNS), proves itself by
//! certificate and greets; a libp2p connection follows. This crate knows no policy: it delivers [`Event`]s and
//! carries out the calls of [`Mesh`]. It is the only crate that names libp2p or quinn.

mod ask;
mod behaviour;
mod book;
pub mod ca;
mod carrier;
mod certificate;
mod control;
mod dialler;
mod event;
mod frame;
mod goodbye;
mod gossip;
mod greeting;
mod identity;
mod limits;
mod link;
mod links;
mod mesh;
mod pace;
mod refusals;
mod reply;
mod tls;
mod trust;
mod upgrade;

pub use ask::{BlockStream, RequestError};
pub use certificate::CertificateError;
pub use event::Event;
pub use identity::{Credentials, IdentityError};
pub use link::NoteError;
pub use mesh::{Mesh, MeshConfig, MeshError};
pub use reply::{AskerGone, BlockSender, Reply};
pub use trust::Distrust;
