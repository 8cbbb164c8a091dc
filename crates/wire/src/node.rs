//! Who a node is, in the words that travel.

use bincode::{Decode, Encode};
use std::fmt;

/// Names a node: BLAKE3 of the SubjectPublicKeyInfo of its device certificate.
///
/// libp2p's PeerId is made from the same key; this form has one size for every kind of key, orders and hashes
/// well, and spares the brain a dependency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The id of the node with this DER-encoded SubjectPublicKeyInfo.
    #[must_use]
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        Self(branchmesh_image::BlockId::of(spki_der).0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// What an administrator marked a node to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Role {
    /// Keeps everything that its site needs, and is first in line for the WAN.
    Seed,
    /// Everything else.
    Client,
}

/// What a node may do with the WAN (setting `wan`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum WanPolicy {
    /// Be the site's fetcher when its rank says so.
    Fetcher,
    /// Only when no other live member may.
    LastResort,
    /// Never.
    Never,
}

/// What a certificate says of the node on the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// From its public key.
    pub node: NodeId,
    /// libp2p's name of the same key, for people and `status`.
    pub peer_id: String,
    /// Name of the device.
    pub name: String,
    /// Site.
    pub site: String,
    /// Role.
    pub role: Role,
    /// Groups whose images it may hold.
    pub groups: Vec<String>,
}
