//! A machine of the virtual site: its agent's exchange, its disk, its ports, and whether it runs.

use crate::{
    event::Event,
    nature::Nature,
    port::{Port, Uplink},
};
use branchmesh_exchange::{Config, Exchange, Time, Timing, TransferId};
use branchmesh_wire::{BlockSet, IndexId, NodeId, Role, WanPolicy};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// When the site's machines were switched on first, in Unix seconds: their starts are told apart by it.
const FIRST_START: u64 = 1_000_000;

/// A machine, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

impl HostId {
    /// The node that its agent is.
    #[must_use]
    pub fn node(self) -> NodeId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&self.0.to_be_bytes());
        NodeId(id)
    }

    pub(crate) fn of(node: &NodeId) -> Self {
        let [a, b, c, d, ..] = node.0;
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pc-{:03}", self.0)
    }
}

/// What a machine is.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Its role.
    pub role: Role,
    /// What it may do with the WAN.
    pub wan: WanPolicy,
    /// Bytes a second that its port sends.
    pub up: u64,
    /// Bytes a second that its port receives.
    pub down: u64,
    /// Bytes a second that its disk writes; `None` for a disk that is faster than anything else.
    pub disk: Option<u64>,
    /// Whether it wants the releases.
    pub wanted: bool,
    /// Releases that it holds from the start.
    pub holds: Vec<IndexId>,
    /// How its agent behaves.
    pub nature: Nature,
}

impl Default for HostSpec {
    /// A client at 200 Mbit/s that holds nothing.
    fn default() -> Self {
        Self {
            role: Role::Client,
            wan: WanPolicy::Fetcher,
            up: 25_000_000,
            down: 25_000_000,
            disk: None,
            wanted: true,
            holds: Vec::new(),
            nature: Nature::Honest,
        }
    }
}

/// Whether a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    On,
    /// It stands still, and goes on where it was.
    Asleep,
    /// It is off, or its agent does not run.
    Off,
}

pub(crate) struct Host {
    pub id: HostId,
    pub spec: HostSpec,
    pub exchange: Exchange,
    pub power: Power,
    /// Since when it runs, and is in its part of the LAN.
    pub settled_at: Time,
    /// The part of the LAN that it is in.
    pub part: u8,
    /// Counts its starts.
    pub life: u32,
    /// The numbers of its connections.
    pub links: BTreeMap<HostId, u32>,
    /// What is really on its disk.
    pub disk: BTreeMap<IndexId, BlockSet>,
    pub disk_full: bool,
    pub writes: Port,
    /// What its agent reads from the site's line.
    pub line: Port,
    pub up: Uplink,
    pub down: Port,
    /// Requests and fetches that its agent has under way.
    pub open: BTreeSet<TransferId>,
    pub timer: Option<Time>,
    /// What happens when it wakes up.
    pub frozen: Vec<Event>,
    /// The version of its metadata.
    pub version: u64,
    pub completed: BTreeMap<IndexId, Time>,
    /// When it got a block, or learned of a release.
    pub progress_at: Time,
    /// Since when it has the index of a release.
    pub known: BTreeMap<IndexId, Time>,
    /// Requests that it was sent.
    pub asked: u32,
    /// Bytes of whole blocks that it has got from the origin since it was started.
    pub wan_bytes: u64,
    config: Config,
    seed: u64,
}

impl Host {
    pub fn new(id: HostId, spec: HostSpec, site: (&Timing, usize), seed: u64, now: Time) -> Self {
        let [high, low] = [id.0 >> 8, id.0 & 0xff].map(|part| u8::try_from(part % 256).unwrap_or(0));
        let config = Config {
            node: id.node(),
            name: id.to_string(),
            peer_id: id.to_string(),
            role: spec.role,
            wan: spec.wan,
            addresses: vec![([192, 168, high, low], 8740).into()],
            incarnation: FIRST_START + now.since_start().as_secs(),
            fetchers: site.1,
            timing: site.0.clone(),
        };
        let seed = seed ^ u64::from(id.0) << 32;
        Self {
            id,
            exchange: Exchange::new(config.clone(), seed, now),
            power: Power::On,
            settled_at: now,
            part: 0,
            life: 0,
            links: BTreeMap::new(),
            disk: BTreeMap::new(),
            disk_full: false,
            writes: Port::default(),
            line: Port::default(),
            up: Uplink::default(),
            down: Port::default(),
            open: BTreeSet::new(),
            timer: None,
            frozen: Vec::new(),
            version: 0,
            completed: BTreeMap::new(),
            progress_at: now,
            known: BTreeMap::new(),
            asked: 0,
            wan_bytes: 0,
            spec,
            config,
            seed,
        }
    }

    pub fn runs(&self) -> bool {
        self.power == Power::On
    }

    pub fn is_honest(&self) -> bool {
        self.spec.nature == Nature::Honest
    }

    /// Whether it is really there.
    pub fn holds(&self, release: &IndexId, block: u32) -> bool {
        self.disk.get(release).is_some_and(|held| held.contains(block))
    }

    /// Stops, for good or until [`start`](Self::start).
    pub fn stop(&mut self) {
        self.power = Power::Off;
        self.links.clear();
        self.open.clear();
        self.up = Uplink::default();
        self.timer = None;
        self.frozen.clear();
    }

    /// Starts again with what is on its disk.
    pub fn start(&mut self, now: Time) {
        self.life += 1;
        self.power = Power::On;
        self.settled_at = now;
        self.progress_at = now;
        self.config.incarnation = FIRST_START + now.since_start().as_secs();
        self.exchange = Exchange::new(self.config.clone(), self.seed ^ u64::from(self.life), now);
        (self.version, self.writes, self.down) = (0, Port::default(), Port::default());
        self.completed.clear();
        self.known.clear();
        self.wan_bytes = 0;
    }
}
