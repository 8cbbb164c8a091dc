//! What a run is judged by: bytes over the WAN, and time against the physical bound.

use crate::{
    host::{Host, HostId},
    port::duration,
    world::World,
};
use branchmesh_exchange::Time;
use branchmesh_wire::{BlockSet, IndexId};
use std::time::Duration;

/// What a run came to, for one release.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Bytes of blocks that crossed the WAN.
    pub wan_bytes: u64,
    /// Bytes of blocks that nobody on the site held when the release appeared.
    pub lacking_bytes: u64,
    /// When the last block crossed the WAN; `None` if none did.
    pub wan_done: Option<Time>,
    /// When each host that wanted it had it, the first one first. Those that held all of it from the start are not in it.
    pub completed: Vec<(Time, HostId)>,
    /// The longest time in which no block reached the site or a host that lacked it.
    pub longest_pause: Duration,
}

impl Measured {
    /// WAN bytes for each byte that the site lacked. 1 is perfect.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    pub fn amplification(&self) -> f64 {
        self.wan_bytes as f64 / self.lacking_bytes.max(1) as f64
    }

    /// When the last host had it.
    #[must_use]
    pub fn last(&self) -> Time {
        self.completed.last().map_or(Time::ZERO, |(at, _)| *at)
    }

    /// How long after the last byte from the WAN the last host had it.
    #[must_use]
    pub fn site_lag(&self) -> Duration {
        self.wan_done.map_or(Duration::ZERO, |at| self.last().since(at))
    }
}

/// The least time in which `bytes` can reach `clients` equal hosts over a LAN from one that holds them, in a fluid
/// model: max(F/u_seed, F/d_min, N F / (u_seed + sum u_i)) (Kumar and Ross, Peer-Assisted File Distribution, 2006).
#[must_use]
pub fn lan_bound(bytes: u64, clients: u32, seed_up: u64, client: (u64, u64)) -> Duration {
    let (up, down) = client;
    let total = seed_up + up * u64::from(clients);
    duration(bytes, seed_up).max(duration(bytes, down)).max(duration(bytes * u64::from(clients), total))
}

impl World {
    /// What the run came to so far for a release.
    #[must_use]
    pub fn measured(&self, id: &IndexId) -> Measured {
        let crossings = self.checks.crossings(id);
        let Some(release) = self.release(id) else { return Measured::nothing() };
        let wan_bytes =
            crossings.iter().map(|(block, times)| release.bytes_of(*block) * u64::from(*times)).sum();
        let took = |host: &Host| Some((*host.completed.get(id)?, host.id)).filter(|_| host.is_honest());
        let mut completed: Vec<_> =
            self.hosts.iter().filter(|host| !host.spec.holds.contains(id)).filter_map(took).collect();
        completed.sort_unstable();
        Measured {
            wan_bytes,
            lacking_bytes: release.segments.bytes() - self.held_at_first(id),
            wan_done: self.checks.last_crossing(id),
            completed,
            longest_pause: self.checks.longest_pause(),
        }
    }

    /// Bytes of a release that the site's hosts held, of it or of an older one, before anybody fetched it.
    fn held_at_first(&self, id: &IndexId) -> u64 {
        let Some(release) = self.release(id) else { return 0 };
        let mut held = BlockSet::empty(release.segments.block_count());
        for found in self.checks.held_at_first(id) {
            held.union_with(found);
        }
        held.iter().map(|block| release.bytes_of(block)).sum()
    }
}

impl Measured {
    fn nothing() -> Self {
        Self {
            wan_bytes: 0,
            lacking_bytes: 0,
            wan_done: None,
            completed: Vec::new(),
            longest_pause: Duration::ZERO,
        }
    }
}
