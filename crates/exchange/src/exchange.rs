//! [`Exchange`]: events in, actions out. What the agent wants of it is in `wishes`, what happens to it in `events`.

use crate::{
    action::{Action, Reason},
    backoff::jittered,
    config::Config,
    fetchers::Lease,
    gossip::Gossip,
    members::Members,
    metadata::Metadata,
    neighbours::{Meter, Neighbours},
    origin::Origin,
    quarantine::Quarantine,
    ready::Ready,
    release::Release,
    time::Time,
    transfers::Transfers,
};
use branchmesh_wire::{IndexId, NodeId, Role};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};

/// Bytes a second that are assumed of the WAN before it was measured: small first fetches.
const WAN_RATE_FIRST: u64 = 500_000;

/// One node's part in the exchange of its site.
///
/// Four kinds of methods:
///
/// * *mutators* (`add_release`, `set_…`, `leave`): the agent wants something,
/// * `handle_*`: something happened,
/// * `poll_action`, `poll_timeout`: what is to be done, and when to call [`handle_timeout`](Self::handle_timeout),
/// * getters: what people want to know.
///
/// **After each mutator or `handle_*`, call [`poll_action`](Self::poll_action) until it gives nothing, then ask
/// [`poll_timeout`](Self::poll_timeout) once.** Actions come in the order in which they are to be carried out.
///
/// The agent answers each [`Action::Request`] and [`Action::Fetch`] with one `handle_block_*` for each block as it
/// arrives, and with [`handle_transfer_ended`](Self::handle_transfer_ended); blocks that were not reported until
/// then are asked for again.
pub struct Exchange {
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) members: Members,
    pub(crate) neighbours: Neighbours,
    pub(crate) releases: BTreeMap<IndexId, Release>,
    pub(crate) transfers: Transfers,
    pub(crate) quarantine: Quarantine,
    pub(crate) lease: Lease,
    pub(crate) origin: Origin,
    pub(crate) wan: Meter,
    pub(crate) wan_bytes: u64,
    pub(crate) metadata: Metadata,
    pub(crate) gossip: Gossip,
    /// Hints to dial: when the next may be given, and how many were.
    pub(crate) dialled: BTreeMap<NodeId, (Time, u32)>,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) timer: Option<(Time, Reason)>,
    /// When the last event was dealt with.
    pub(crate) settled_at: Time,
    /// Members came or went since, or have something new.
    pub(crate) site_changed: bool,
    /// When the next member may go silent.
    pub(crate) silence_at: Option<Time>,
    pub(crate) ready: Ready,
    /// When slow requests are looked at again.
    pub(crate) endgame_at: Option<Time>,
    pub(crate) leaving: bool,
    pub(crate) releases_added: u64,
}

impl Exchange {
    /// A node that starts at `now`. The same seed and the same events give the same actions.
    #[must_use]
    pub fn new(mut config: Config, seed: u64, now: Time) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        config.fetchers = config.fetchers.max(1);
        let timing = &config.timing;
        let listen = match config.role {
            Role::Seed => timing.listen_seed,
            Role::Client => timing.listen + jittered(&mut rng, timing.listen_jitter),
        };
        let mut exchange = Self {
            members: Members::new(config.node),
            neighbours: Neighbours::default(),
            releases: BTreeMap::new(),
            transfers: Transfers::default(),
            quarantine: Quarantine::default(),
            lease: Lease::new(now + listen),
            origin: Origin::default(),
            wan: Meter::new(WAN_RATE_FIRST),
            wan_bytes: 0,
            metadata: Metadata::default(),
            gossip: Gossip::default(),
            dialled: BTreeMap::new(),
            actions: VecDeque::new(),
            timer: None,
            settled_at: now,
            site_changed: true,
            silence_at: None,
            ready: Ready::Anybody,
            endgame_at: None,
            leaving: false,
            releases_added: 0,
            config,
            rng,
        };
        exchange.origin.trust(now, &mut exchange.rng);
        exchange.settle(now);
        exchange
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.timer
    }
}
