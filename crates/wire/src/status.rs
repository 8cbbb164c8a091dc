//! What a node tells its whole site about itself, now and then.

use crate::{
    limits::{NAME_MAX, STATUS_ADDRESSES_MAX, STATUS_RELEASES_MAX, WIRE_VERSION},
    node::{NodeId, Role, WanPolicy},
};
use bincode::{Decode, Encode};
use branchmesh_image::IndexId;
use std::net::SocketAddr;

/// A node's account of itself: complete each time, because gossip may miss one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// [`WIRE_VERSION`].
    pub version: u16,
    /// Who.
    pub node: NodeId,
    /// Name of the device.
    pub name: String,
    /// libp2p's PeerId as text.
    pub peer_id: String,
    /// Role.
    pub role: Role,
    /// What it may do with the WAN.
    pub wan_policy: WanPolicy,
    /// Unix time in seconds when the process started: a restarted node is a new one.
    pub incarnation: u64,
    /// Counts the statuses of this incarnation: a late one does not undo a newer one.
    pub sequence: u64,
    /// Where it can be reached: TCP for discovery and gossip, UDP with the same number for blocks.
    pub addresses: Vec<SocketAddr>,
    /// Whether it uses the WAN now: the lease, renewed by each status.
    pub fetching: bool,
    /// Version of the newest signed timestamp that it has verified; 0 for none.
    pub metadata: u64,
    /// Bytes that it took from WAN origins since it started, with indexes and metadata.
    pub wan_bytes: u64,
    /// What it holds or wants, newest first.
    pub releases: Vec<ReleaseStatus>,
    /// It is about to stop: take it off the list now instead of waiting for silence.
    pub leaving: bool,
}

/// How far a node is with one release.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReleaseStatus {
    /// Which.
    pub release: IndexId,
    /// Encoded bytes of the whole release.
    pub bytes_total: u64,
    /// Of these, here.
    pub bytes_have: u64,
    /// Of these, from WAN origins.
    pub bytes_wan: u64,
    /// Of these, from other nodes.
    pub bytes_lan: u64,
    /// Bytes that WAN origins sent to this node for the release, whatever became of them: its index, and blocks that
    /// were thrown away, too.
    pub bytes_crossed: u64,
    /// Whether its files are in place.
    pub complete: bool,
    /// Where its segments came from, for pictures.
    pub strip: Strip,
}

/// Where a block came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A WAN origin.
    Wan,
    /// Another node of the site.
    Lan,
    /// It was here before (an older release, a harvest, a local origin).
    Trimmed,
}

/// A release as a strip of [`Strip::CELLS`] cells, two bits each: missing, or the source of most of what is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Strip([u8; 32]);

impl Strip {
    /// Cells of a strip.
    pub const CELLS: usize = 128;

    /// Sets a cell; cells beyond the end are ignored.
    pub fn set(&mut self, cell: usize, source: Option<Source>) {
        let code = match source {
            None => 0,
            Some(Source::Wan) => 1,
            Some(Source::Lan) => 2,
            Some(Source::Trimmed) => 3,
        };
        if let Some(byte) = self.0.get_mut(cell / 4) {
            let shift = cell % 4 * 2;
            *byte = *byte & !(3 << shift) | code << shift;
        }
    }

    /// All cells.
    pub fn cells(&self) -> impl Iterator<Item = Option<Source>> + '_ {
        (0..Self::CELLS).map(|cell| match self.0[cell / 4] >> (cell % 4 * 2) & 3 {
            0 => None,
            1 => Some(Source::Wan),
            2 => Some(Source::Lan),
            _ => Some(Source::Trimmed),
        })
    }
}

impl Status {
    /// Cuts off whatever exceeds the limits, so that a node with much to say still says the newest.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.releases.truncate(STATUS_RELEASES_MAX);
        self.addresses.truncate(STATUS_ADDRESSES_MAX);
        for text in [&mut self.name, &mut self.peer_id] {
            text.truncate(text.floor_char_boundary(NAME_MAX));
        }
        self
    }

    /// Whether a received status keeps to the limits and to this version.
    #[must_use]
    pub fn is_acceptable(&self) -> bool {
        self.version == WIRE_VERSION
            && self.releases.len() <= STATUS_RELEASES_MAX
            && self.addresses.len() <= STATUS_ADDRESSES_MAX
            && self.name.len() <= NAME_MAX
            && self.peer_id.len() <= NAME_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn a_strip_keeps_what_was_set() {
        let mut strip = Strip::default();
        strip.set(0, Some(Source::Wan));
        strip.set(5, Some(Source::Lan));
        strip.set(127, Some(Source::Trimmed));
        strip.set(128, Some(Source::Wan));
        strip.set(0, Some(Source::Trimmed));
        let set: Vec<_> =
            strip.cells().enumerate().filter_map(|(at, source)| source.map(|source| (at, source))).collect();
        assert_eq!(set, [(0, Source::Trimmed), (5, Source::Lan), (127, Source::Trimmed)]);
    }

    #[test]
    fn names_are_cut_at_their_limit_and_not_before() {
        let peer_id = "12D3KooWJVBxeWXDgGabxr1DfjBvRHMzBuweuwtC3oL6f3w3vVmc";
        let said = Status { name: format!("x{}", "é".repeat(500)), peer_id: peer_id.into(), ..fullest() };
        let bounded = said.bounded();
        assert_eq!(bounded.peer_id, peer_id);
        assert_eq!(bounded.name.len(), NAME_MAX - 1);
    }

    #[test]
    fn the_fullest_status_is_within_its_limit() {
        let status = fullest();
        assert!(!status.is_acceptable());
        let bounded = status.bounded();
        assert!(bounded.is_acceptable());
        assert!(bounded.to_bytes().len() <= Status::MAX, "{} bytes", bounded.to_bytes().len());
        assert_eq!(Status::from_bytes(&bounded.to_bytes()).unwrap(), bounded);
    }

    fn fullest() -> Status {
        let release = ReleaseStatus {
            release: IndexId::of(b"release"),
            bytes_total: u64::MAX,
            bytes_have: u64::MAX,
            bytes_wan: u64::MAX,
            bytes_lan: u64::MAX,
            bytes_crossed: u64::MAX,
            complete: true,
            strip: Strip::default(),
        };
        Status {
            version: WIRE_VERSION,
            node: NodeId([255; 32]),
            name: "é".repeat(500),
            peer_id: "1".repeat(500),
            role: Role::Seed,
            wan_policy: WanPolicy::Never,
            incarnation: u64::MAX,
            sequence: u64::MAX,
            addresses: vec!["[2001:db8::1]:65535".parse().unwrap(); 50],
            fetching: true,
            metadata: u64::MAX,
            wan_bytes: u64::MAX,
            releases: vec![release; 100],
            leaving: false,
        }
    }
}
