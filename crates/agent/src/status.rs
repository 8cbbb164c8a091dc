//! What `status` shows: one view for the command line, the API, the live page and the metrics.
//!
//! The JSON shape is a promise: later versions only add to it. Bytes are encoded bytes, rates bytes per second.

use branchmesh_wire::{Source, Status, Strip};
use serde::{Deserialize, Serialize};

/// The answer of `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// This node.
    pub node: NodeView,
    /// Its site, as this node sees it.
    pub site: SiteView,
    /// The releases that this node holds, wants or could have.
    pub releases: Vec<ReleaseView>,
    /// The nodes that it knows, without itself.
    pub peers: Vec<PeerView>,
    /// What the setting `harvest` saved and cost since the start; null without it.
    #[serde(default)]
    pub harvest: Option<HarvestView>,
}

/// What was found in files of this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HarvestView {
    /// Whether it looks through the files now.
    pub scanning: bool,
    /// Files that were read. Those that had not changed were not.
    pub files: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// How long it took, at idle priority.
    pub seconds: f64,
    /// Blocks that were taken from files.
    pub blocks: u64,
    /// Their encoded bytes: what need not be fetched.
    pub bytes_saved: u64,
    /// Blocks that are in the files, but were encoded by another version of zstd, and are fetched.
    pub foreign_blocks: u64,
    /// Files that cannot be read, with the reason; the first of them.
    pub unreadable: Vec<String>,
    /// Why nothing is harvested now.
    pub problem: Option<String>,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Name of the device.
    pub name: String,
    /// libp2p's PeerId.
    pub peer_id: String,
    /// Site.
    pub site: String,
    /// `seed` or `client`.
    pub role: String,
    /// Version of the program.
    pub version: String,
    /// Since the agent started.
    pub uptime_seconds: u64,
    /// What is wrong with this node, in words: its disk, its origins, its metadata.
    pub problems: Vec<String>,
    /// What it may take from the WAN now, by the setting `wan_limit`.
    #[serde(default)]
    pub line: LineView,
}

/// The line to the WAN, as the setting `wan_limit` allows it to be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LineView {
    /// Whether nothing may pass.
    pub closed: bool,
    /// The most that the site may take, in bytes a second; null without a limit, and while it is closed.
    pub limit: Option<u64>,
    /// When that changes, in local time (RFC 3339); null if it does not.
    pub until: Option<String>,
    /// The same in words; null if there is neither a limit nor a change.
    pub words: Option<String>,
}

/// The site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteView {
    /// Live nodes, with this one.
    pub members: usize,
    /// PeerIds of the nodes that use the WAN now.
    pub fetchers: Vec<String>,
    /// WAN bytes / unique encoded bytes that the site lacked; null before anything crossed the WAN.
    pub amplification: Option<f64>,
    /// Bytes that WAN origins sent to live members for the releases that they hold or want, with their indexes.
    pub wan_bytes: u64,
    /// Encoded bytes that the site lacked and that crossed the WAN, each block counted once.
    pub unique_bytes: u64,
    /// This node's rate from WAN origins.
    pub wan_rate: u64,
    /// This node's rate from other nodes.
    pub lan_rate: u64,
    /// All live nodes, with this one.
    pub nodes: Vec<MemberView>,
}

/// A live node of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Name of the device.
    pub name: String,
    /// libp2p's PeerId.
    pub peer_id: String,
    /// `seed` or `client`.
    pub role: String,
    /// Whether it is this node.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Whether it uses the WAN now.
    pub fetching: bool,
    /// Whether this node has a connection to it.
    pub connected: bool,
    /// Where it listens.
    pub address: String,
    /// Bytes from WAN origins since it started.
    pub wan_bytes: u64,
    /// Its releases.
    pub releases: Vec<MemberReleaseView>,
}

/// How far a node of the site is with a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberReleaseView {
    /// Name of the image, if this node knows it.
    pub image: String,
    /// Name of the release, or its id if this node does not know it.
    pub release: String,
    /// Whether its files are in place.
    pub complete: bool,
    /// Encoded bytes.
    pub bytes: BytesView,
    /// 128 characters: `w` from the WAN, `l` from the LAN, `t` trimmed, `.` missing.
    pub strip: String,
}

/// A release on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// `announced`, `unsuitable`, `waiting`, `fetching`, `assembling`, `complete`, `active` or `failed`.
    pub state: String,
    /// Why it waits or failed, or what it needs to go on, in words.
    pub reason: Option<String>,
    /// Its blocks.
    pub blocks: BlocksView,
    /// Its encoded bytes.
    pub bytes: BytesView,
    /// Rate at which it arrives.
    pub rate: u64,
    /// Time left at this rate.
    pub eta_seconds: Option<u64>,
    /// Where its files are, once they are in place.
    pub path: Option<String>,
    /// Of an announced release: the encoded bytes that it takes to fetch it, once its index tells.
    #[serde(default)]
    pub cost: Option<u64>,
    /// Whether somebody pinned it: it stays until it is unpinned.
    #[serde(default)]
    pub pinned: bool,
    /// Whether somebody made it current: it stays so until something newer comes.
    #[serde(default)]
    pub held: bool,
    /// Whether the repository has it no longer.
    #[serde(default)]
    pub withdrawn: bool,
    /// Why it stays on this disk, in words; null if nothing of it is here, or if it goes.
    #[serde(default)]
    pub kept: Option<String>,
    /// Its place among those that go when others come or space is needed: 1 goes first. Null while it is needed.
    #[serde(default)]
    pub goes: Option<u32>,
}

/// Numbers of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlocksView {
    /// All.
    pub total: u64,
    /// Here.
    pub have: u64,
}

/// Encoded bytes by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BytesView {
    /// All.
    pub total: u64,
    /// Here.
    pub have: u64,
    /// Of these, from WAN origins.
    pub wan: u64,
    /// Of these, from other nodes.
    pub lan: u64,
    /// Of these, were here before.
    pub trimmed: u64,
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Name of the device.
    pub name: String,
    /// libp2p's PeerId.
    pub peer_id: String,
    /// Where it listens.
    pub address: String,
    /// `connected` or `known`.
    pub state: String,
    /// Rate at which it delivered to this node when it last did.
    #[serde(default)]
    pub rate: u64,
}

/// Amplification of a site, from its members' accounts of themselves.
///
/// What crossed the WAN is known: each member counts the bytes that origins sent it for a release. How much of that
/// was unique is a close estimate: a release's blocks cannot have been lacked more often than once, so the sum of
/// what its members hold from the WAN is cut off at what the release has beyond the best trimmed member.
#[must_use]
pub fn amplification(statuses: &[Status]) -> (u64, u64, Option<f64>) {
    let all = statuses.iter().flat_map(|status| &status.releases);
    let wan_bytes = all.clone().fold(0u64, |sum, release| sum.saturating_add(release.bytes_crossed));
    let mut releases = std::collections::BTreeMap::new();
    for release in all {
        let (wan, lacked) = releases.entry(release.release).or_insert((0u64, u64::MAX));
        let trimmed = release.bytes_have.saturating_sub(release.bytes_wan).saturating_sub(release.bytes_lan);
        *wan = wan.saturating_add(release.bytes_wan);
        *lacked = (*lacked).min(release.bytes_total.saturating_sub(trimmed));
    }
    let unique = releases.values().map(|(wan, lacked)| wan.min(lacked)).sum();
    let ratio = (unique > 0).then(|| wan_bytes as f64 / unique as f64);
    (wan_bytes, unique, ratio)
}

/// A strip as text.
#[must_use]
pub fn strip_text(strip: &Strip) -> String {
    let letter = |cell: Option<Source>| match cell {
        None => '.',
        Some(Source::Wan) => 'w',
        Some(Source::Lan) => 'l',
        Some(Source::Trimmed) => 't',
    };
    strip.cells().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use branchmesh_wire::{IndexId, NodeId, ReleaseStatus, Role, WanPolicy, limits::WIRE_VERSION};

    fn member(crossed: u64, have: u64, wan: u64, lan: u64) -> Status {
        Status {
            version: WIRE_VERSION,
            node: NodeId([0; 32]),
            name: String::new(),
            peer_id: String::new(),
            role: Role::Client,
            wan_policy: WanPolicy::Fetcher,
            incarnation: 0,
            sequence: 0,
            addresses: Vec::new(),
            fetching: false,
            metadata: 0,
            wan_bytes: 0,
            releases: vec![ReleaseStatus {
                release: IndexId::of(b"release"),
                bytes_total: 1000,
                bytes_have: have,
                bytes_wan: wan,
                bytes_lan: lan,
                bytes_crossed: crossed,
                complete: false,
                strip: Strip::default(),
            }],
            leaving: false,
        }
    }

    #[test]
    fn once_over_the_wan_is_one() {
        let site = [member(1000, 1000, 1000, 0), member(0, 1000, 0, 1000)];
        assert_eq!(amplification(&site), (1000, 1000, Some(1.0)));
    }

    #[test]
    fn a_block_that_crossed_twice_shows() {
        let site = [member(1000, 1000, 1000, 0), member(500, 1000, 500, 500)];
        assert_eq!(amplification(&site).2, Some(1.5));
        // Half of the release was on a member before: what crossed beyond the other half crossed twice.
        let site = [member(500, 1000, 500, 500), member(100, 1000, 100, 400)];
        assert_eq!(amplification(&site), (600, 500, Some(1.2)));
        // Two fetchers that shared the work.
        let site = [member(500, 500, 500, 0), member(100, 1000, 100, 900)];
        assert_eq!(amplification(&site), (600, 600, Some(1.0)));
    }

    #[test]
    fn nothing_crossed_is_no_number() {
        assert_eq!(amplification(&[member(0, 1000, 0, 0)]).2, None);
    }
}
