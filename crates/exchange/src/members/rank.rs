//! The order in which members may use the WAN.
//!
//! Ranks are computed from gossiped words alone, so that every member computes the same ones. A rank is not a lease:
//! see `fetchers`.

use branchmesh_wire::{NodeId, Role, WanPolicy};

/// A member that started so much earlier than the youngest counts as long-running, in seconds.
const LONG_RUNNING_SECONDS: u64 = 600;

/// Order in which members may use the WAN; the lowest is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    policy: u8,
    role: u8,
    young: bool,
    hash: RankHash,
}

/// A hash in four words, the most significant one first: members are sorted by it often.
pub(super) type RankHash = [u64; 4];

impl Rank {
    pub(super) fn of(policy: WanPolicy, role: Role, incarnation: u64, youngest: u64, hash: RankHash) -> Self {
        Self {
            policy: match policy {
                WanPolicy::Fetcher => 0,
                WanPolicy::LastResort => 1,
                WanPolicy::Never => 2,
            },
            role: match role {
                Role::Seed => 0,
                Role::Client => 1,
            },
            young: incarnation.saturating_add(LONG_RUNNING_SECONDS) > youngest,
            hash,
        }
    }
}

/// Ties are broken by a hash that nothing else in the mesh is ordered by (who dials whom follows the bare id).
pub(super) fn rank_hash(node: &NodeId) -> RankHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"branchmesh rank").update(&node.0);
    let mut words = hasher.finalize_xof();
    std::array::from_fn(|_| {
        let mut word = [0; 8];
        words.fill(&mut word);
        u64::from_be_bytes(word)
    })
}
