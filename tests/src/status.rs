//! What an agent says about itself (`branchmesh status --json`), as far as the tests look at it.

use serde::Deserialize;

/// One node's status.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The node itself.
    pub node: NodeStatus,
    /// Its site.
    pub site: SiteStatus,
    /// Its releases.
    pub releases: Vec<ReleaseStatus>,
    /// The peers that it knows.
    pub peers: Vec<PeerStatus>,
    /// What it found on its machine.
    pub harvest: Option<HarvestStatus>,
}

/// What came of the setting `harvest`.
#[derive(Clone, Debug, Deserialize)]
pub struct HarvestStatus {
    /// Files that were read.
    pub files: u64,
    /// Blocks that were taken.
    pub blocks: u64,
    /// What need not be fetched.
    pub bytes_saved: u64,
    /// What cannot be read.
    pub unreadable: Vec<String>,
}

/// Who it is.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Name of the device.
    pub name: String,
    /// libp2p's name of its key.
    pub peer_id: String,
    /// Its site.
    pub site: String,
    /// `seed` or `client`.
    pub role: String,
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
    /// What it may take from the WAN now.
    pub line: LineStatus,
}

/// The line to the WAN, by the setting `wan_limit`.
#[derive(Clone, Debug, Deserialize)]
pub struct LineStatus {
    /// Whether nothing may pass.
    pub closed: bool,
    /// Bytes a second that may.
    pub limit: Option<u64>,
    /// The same in words.
    pub words: Option<String>,
}

/// What it knows about its site.
#[derive(Clone, Debug, Deserialize)]
pub struct SiteStatus {
    /// Live members, itself included.
    pub members: usize,
    /// Peer ids of those that use the WAN.
    pub fetchers: Vec<String>,
    /// Bytes that crossed the WAN / unique bytes that the site lacked.
    pub amplification: Option<f64>,
}

/// How far it is with a release.
#[derive(Clone, Debug, Deserialize)]
pub struct ReleaseStatus {
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// One of the states of DESIGN section 7.
    pub state: String,
    /// Why it waits, or failed.
    pub reason: Option<String>,
    /// Blocks.
    pub blocks: Share,
    /// Encoded bytes.
    pub bytes: Bytes,
    /// Bytes that it takes to fetch it, if it is only announced.
    pub cost: Option<u64>,
    /// Whether it was pinned.
    pub pinned: bool,
    /// Whether somebody made it current.
    pub held: bool,
    /// Whether the repository has it no longer.
    pub withdrawn: bool,
    /// Why it stays.
    pub kept: Option<String>,
    /// Its place among those that go.
    pub goes: Option<u32>,
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Share {
    /// The whole.
    pub total: u64,
    /// The part that is here.
    pub have: u64,
}

/// Encoded bytes of a release, by where they came from.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Bytes {
    /// All.
    pub total: u64,
    /// Here.
    pub have: u64,
    /// From WAN origins.
    pub wan: u64,
    /// From other nodes.
    pub lan: u64,
    /// Already here.
    pub trimmed: u64,
}

/// Another node.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerStatus {
    /// Name of the device.
    pub name: String,
    /// `connected` or something else.
    pub state: String,
}

impl Status {
    /// The status of one release.
    #[must_use]
    pub fn release(&self, image: &str, release: &str) -> Option<&ReleaseStatus> {
        self.releases.iter().find(|entry| entry.image == image && entry.release == release)
    }

    /// Whether a release is in this state.
    #[must_use]
    pub fn is(&self, image: &str, release: &str, state: &str) -> bool {
        self.release(image, release).is_some_and(|found| found.state == state)
    }

    /// All that it complains of: its problems, and why its releases wait or failed.
    #[must_use]
    pub fn complaints(&self) -> String {
        let reasons = self.releases.iter().filter_map(|release| {
            Some(format!(
                "{}@{} is {}: {}",
                release.image,
                release.release,
                release.state,
                release.reason.as_ref()?
            ))
        });
        self.node.problems.iter().cloned().chain(reasons).collect::<Vec<_>>().join("\n")
    }
}
