//! What an exchange is told at its start, and every duration that it lives by.

use branchmesh_wire::{NodeId, Role, WanPolicy};
use std::{net::SocketAddr, time::Duration};

/// Members up to which a status is sent every `status_interval`; beyond, the rate falls as the site grows,
/// because gossip multiplies every message.
pub const SMALL_SITE_MEMBERS: usize = 16;

/// A block that at most so many neighbours hold is worth telling of soon.
const RARE_HOLDERS_MAX: u16 = 2;

/// Who this node is, and what it may do.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Name of the device.
    pub name: String,
    /// libp2p's PeerId as text.
    pub peer_id: String,
    /// Role.
    pub role: Role,
    /// What it may do with the WAN.
    pub wan: WanPolicy,
    /// Where it can be reached.
    pub addresses: Vec<SocketAddr>,
    /// Unix time in seconds when the process started.
    pub incarnation: u64,
    /// How many members may use the WAN at the same time; at least one.
    pub fetchers: usize,
    /// All durations.
    pub timing: Timing,
}

/// Every duration of the exchange. The defaults are what DESIGN promises; tests and planners may change them.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How often a node of a small site gossips its status. The lease is renewed by it.
    pub status_interval: Duration,
    /// Least time between two statuses, however much changes.
    pub status_gap: Duration,
    /// A member that is silent for so long, in a small site, is gone.
    pub member_timeout: Duration,
    /// After a member disconnected, statuses that were still under way do not bring it back; and nobody takes over
    /// before everybody has noticed.
    pub departure_grace: Duration,
    /// A client listens for so long before it may use the WAN.
    pub listen: Duration,
    /// Upper end of what is added to it at random, so that a classroom does not wake at once.
    pub listen_jitter: Duration,
    /// What is added while it knows of nobody at all: discovery may be late, and a second fetcher is dear.
    pub listen_alone: Duration,
    /// How long a seed listens, in any case.
    pub listen_seed: Duration,
    /// How long each better-ranked member is given to take a free lease.
    pub turn: Duration,
    /// A claim of a member that never brought a block to the site keeps others from trying for so long. Long enough for
    /// the first block over a line of 100 kbit/s. And so long may one be silent who says that bytes come in.
    pub claim_new_max: Duration,
    /// A claim of one that did, and has brought nothing for so long, no longer keeps others from trying.
    pub claim_idle_max: Duration,
    /// Either is waited for so much longer as long as it says that bytes come in: the line may be thin. Long enough for a
    /// block of 128 KiB at 10 kbit/s.
    pub claim_word_max: Duration,
    /// How long the next fetcher waits for the previous one to finish what is under way.
    pub handover_max: Duration,
    /// After the previous fetcher finished: its last have-map changes are still travelling.
    pub handover_grace: Duration,
    /// How long a fetcher that yields may go on with transfers that already brought bytes.
    pub drain_max: Duration,
    /// How long the fetcher waits for the have-maps of a new release before it uses the WAN.
    pub have_map_grace: Duration,
    /// Changes of the have-map are collected for so long, in a small site.
    pub gained_batch: Duration,
    /// Least time between two full have-maps of one release to one neighbour.
    pub have_map_gap: Duration,
    /// A request without a block for so long, plus what its bytes should take, is asked for elsewhere.
    pub stall: Duration,
    /// The longest that a slow neighbour is waited for.
    pub stall_max: Duration,
    /// First pause of a neighbour that stalled or was busy.
    pub pause: Duration,
    /// First time for which the claims of a neighbour that keeps stalling are not counted; it doubles.
    pub distrust_min: Duration,
    /// The longest such time.
    pub distrust_max: Duration,
    /// First quarantine of a neighbour that sent a bad block; it doubles.
    pub quarantine_min: Duration,
    /// The longest quarantine.
    pub quarantine_max: Duration,
    /// In the end game, a request older than this may be doubled by an idle neighbour.
    pub endgame_after: Duration,
    /// An origin transfer without a block for so long, plus what its bytes should take, has failed.
    pub origin_stall: Duration,
    /// First ceiling of the pause after the origin failed; it doubles.
    pub origin_backoff_min: Duration,
    /// The longest pause after the origin failed.
    pub origin_backoff_max: Duration,
    /// How long a fetcher whose origin keeps failing leaves the lease to the next in rank; it doubles.
    pub origin_rest: Duration,
    /// First pause before a block that did not verify is asked of the origin again; it doubles.
    pub origin_bad_block: Duration,
    /// How often a fetcher asks the origin for new metadata (setting `poll`).
    pub poll: Duration,
    /// How long a node of a small site believes, more or less, that there is no news, if another one polls; then it asks
    /// for itself.
    pub doubt: Duration,
    /// The same for a node that has no metadata at all.
    pub doubt_new: Duration,
    /// A poll, or a request for metadata, without an answer for so long has failed.
    pub metadata_timeout: Duration,
    /// First pause after a member failed to give its metadata; it doubles.
    pub metadata_backoff: Duration,
    /// First pause between two hints to dial the same member; it doubles.
    pub redial_min: Duration,
    /// The longest such pause.
    pub redial_max: Duration,
    /// After this node could not store what it received (disk full): pause of that release.
    pub store_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        Self {
            status_interval: s(1),
            status_gap: ms(200),
            member_timeout: s(4),
            departure_grace: ms(300),
            listen: ms(1500),
            listen_jitter: ms(500),
            listen_alone: s(2),
            listen_seed: ms(500),
            turn: ms(1500),
            claim_new_max: s(8),
            claim_idle_max: s(30),
            claim_word_max: s(120),
            handover_max: s(8),
            handover_grace: ms(200),
            drain_max: s(5),
            have_map_grace: s(2),
            gained_batch: ms(50),
            have_map_gap: s(1),
            stall: s(2),
            stall_max: s(30),
            pause: ms(500),
            distrust_min: s(10),
            distrust_max: s(600),
            quarantine_min: s(600),
            quarantine_max: s(24 * 3600),
            endgame_after: ms(500),
            origin_stall: s(60),
            origin_backoff_min: s(1),
            origin_backoff_max: s(300),
            origin_rest: s(30),
            origin_bad_block: s(10),
            poll: s(60),
            doubt: s(600),
            doubt_new: s(10),
            metadata_timeout: s(60),
            metadata_backoff: s(1),
            redial_min: s(2),
            redial_max: s(60),
            store_pause: s(10),
        }
    }
}

impl Timing {
    /// How often a node gossips in a site of so many members.
    pub(crate) fn status_interval(&self, members: usize) -> Duration {
        self.scaled(self.status_interval, members)
    }

    /// When silence means absence in a site of so many members.
    pub(crate) fn member_timeout(&self, members: usize) -> Duration {
        self.scaled(self.member_timeout, members)
    }

    /// How long a node of a site of so many members believes that there is no news; less if it `knows` of no release.
    pub(crate) fn doubt(&self, members: usize, knows: bool) -> Duration {
        self.scaled(if knows { self.doubt } else { self.doubt_new }, members)
    }

    /// For how long a change of the have-map may be collected with others, if so many of the neighbours hold the block
    /// already. The more neighbours, the more it matters that they hear soon of what is rare, and the less that they hear of
    /// what is common: they will have it themselves before they could ask for it.
    pub(crate) fn gained_batch(&self, holders: u16, neighbours: usize) -> Duration {
        if holders > RARE_HOLDERS_MAX {
            return self.scaled(self.gained_batch, neighbours);
        }
        let neighbours = u32::try_from(neighbours.max(SMALL_SITE_MEMBERS)).unwrap_or(u32::MAX);
        self.gained_batch.saturating_mul(SMALL_SITE_MEMBERS as u32) / neighbours
    }

    fn scaled(&self, duration: Duration, members: usize) -> Duration {
        let members = u32::try_from(members.max(SMALL_SITE_MEMBERS)).unwrap_or(u32::MAX);
        duration.saturating_mul(members) / SMALL_SITE_MEMBERS as u32
    }
}
