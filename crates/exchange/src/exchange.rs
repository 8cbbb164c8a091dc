//! [`Exchange`]: events in, actions out.

use crate::{
    action::{Action, AddReleaseError, Failure, Misbehaviour, Outcome, Reason, TransferId},
    backoff::jittered,
    config::Config,
    fetchers::Lease,
    gossip::Gossip,
    members::{Members, News},
    metadata::Metadata,
    neighbours::{Meter, Neighbours},
    origin::Origin,
    quarantine::{Offence, Quarantine},
    ready::Ready,
    release::{NewRelease, RELEASES_MAX, Release},
    time::Time,
    transfers::{From, Transfers},
};
use branchmesh_wire::{BlockSet, IndexId, NodeId, Note, Role, Source, Status, limits::RELEASE_BLOCKS_MAX};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

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
    releases_added: u64,
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

    // Mutators.

    /// The agent has the index of a release. The neighbours are told what is here; if it is wanted, the rest is
    /// fetched, otherwise it only serves. Adding a release again only adds what is held and changes what is wanted.
    pub fn add_release(&mut self, now: Time, new: NewRelease) -> Result<(), AddReleaseError> {
        let blocks = new.segments.block_count();
        if blocks > RELEASE_BLOCKS_MAX {
            return Err(AddReleaseError::TooLarge { blocks });
        }
        let sources = if new.sources.is_empty() { blocks as usize } else { new.sources.len() };
        for given in [new.have.capacity() as usize, sources] {
            if given != blocks as usize {
                return Err(AddReleaseError::WrongSize { given, blocks });
            }
        }
        let id = new.release;
        if let Some(known) = self.releases.get_mut(&id) {
            if known.blocks.count() != blocks {
                return Err(AddReleaseError::WrongSize {
                    given: blocks as usize,
                    blocks: known.blocks.count(),
                });
            }
            known.wanted = new.wanted;
            let found: Vec<u32> = new.have.iter().collect();
            self.handle_blocks_found(now, id, &found);
            return Ok(());
        }
        if self.releases.len() >= RELEASES_MAX {
            return Err(AddReleaseError::TooMany(RELEASES_MAX));
        }
        self.releases_added += 1;
        let mut release = Release::new(now, self.releases_added, self.config.node, new);
        self.neighbours.nodes().for_each(|node| release.announcer.owe(node));
        self.releases.insert(id, release);
        self.gossip.hurry();
        self.check_complete(id);
        self.settle(now);
        Ok(())
    }

    /// Whether the missing blocks of a release should be fetched.
    pub fn set_wanted(&mut self, now: Time, release: IndexId, wanted: bool) {
        let Some(known) = self.releases.get_mut(&release) else { return };
        if known.wanted != wanted {
            known.wanted = wanted;
            self.gossip.hurry();
            if !wanted {
                self.drop_transfers_where(|transfer| transfer.release == release);
            }
            self.check_complete(release);
        }
        self.settle(now);
    }

    /// The release is not in exchange any more: nothing of it is fetched or claimed.
    pub fn remove_release(&mut self, now: Time, release: IndexId) {
        self.drop_transfers_where(|transfer| transfer.release == release);
        if let Some(known) = self.releases.remove(&release) {
            for node in known.availability.neighbours() {
                self.actions.push_back(Action::Note { node, note: Note::Dropped { release } });
            }
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// The version of the newest verified signed timestamp.
    pub fn set_metadata_version(&mut self, now: Time, version: u64) {
        if self.metadata.version != version {
            self.metadata.advance(version);
            self.origin.trust(now, &mut self.rng);
            self.site_changed = true;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// The files of a release are in place.
    pub fn set_complete(&mut self, now: Time, release: IndexId) {
        if let Some(known) = self.releases.get_mut(&release).filter(|known| !known.in_place) {
            known.in_place = true;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// Where this node can be reached.
    pub fn set_addresses(&mut self, now: Time, addresses: Vec<SocketAddr>) {
        if self.config.addresses != addresses {
            self.config.addresses = addresses;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// Says goodbye: gives the lease away and stops all transfers. Nothing is done after the last actions.
    pub fn leave(&mut self, now: Time) {
        self.drop_transfers_where(|_| true);
        self.leaving = true;
        for release in self.releases.values_mut() {
            release.announcer.hurry();
        }
        self.announce(now);
        self.gossip.send(now);
        let status = self.status();
        self.actions.push_back(Action::Gossip(status));
        self.timer = None;
    }

    // What happened.

    /// Notes and requests reach `node` from now on.
    pub fn handle_connected(&mut self, now: Time, node: NodeId, name: &str) {
        if self.members.connect(node, name) && self.neighbours.connect(node) {
            for release in self.releases.values_mut() {
                release.availability.forget(&node);
                release.announcer.owe(node);
            }
            self.dialled.remove(&node);
            self.greet();
        }
        self.settle(now);
    }

    /// The connection to `node` is gone. Unless it says something new, so is the node.
    pub fn handle_disconnected(&mut self, now: Time, node: NodeId) {
        self.members.disconnect(now, &node);
        self.drop_neighbour(node);
        self.settle(now);
    }

    /// A status came in by gossip; its author is authenticated.
    pub fn handle_status(&mut self, now: Time, status: Status) {
        let (node, leaving, metadata) = (status.node, status.leaving, status.metadata);
        let known = self.members.get(&node).is_some_and(|member| member.status.is_some());
        let news = self.members.hear(now, status, &self.config.timing);
        self.lease.stale |= news >= News::Turns;
        self.site_changed |=
            news >= News::Presence || (news > News::None && metadata > self.metadata.version);
        if news > News::None && leaving {
            self.drop_neighbour(node);
        } else if news > News::None && !known {
            self.greet();
        }
        self.settle_ready(now);
    }

    /// A note came from a neighbour.
    pub fn handle_note(&mut self, now: Time, from: NodeId, note: Note) -> Result<(), Misbehaviour> {
        if !self.neighbours.contains(&from) {
            return Ok(());
        }
        let result = match note {
            Note::Have { release, blocks } => self.take_map(now, from, release, &blocks),
            Note::Gained { release, blocks } => self
                .watch_claims(now, from, release, |known| take_gained(known, from, &blocks))
                .unwrap_or(Ok(())),
            Note::Dropped { release } => {
                if let Some(known) = self.releases.get_mut(&release) {
                    known.availability.forget(&from);
                }
                Ok(())
            }
        };
        self.ready.add(from);
        self.settle_ready(now);
        result
    }

    /// A block of a transfer is verified and written.
    pub fn handle_block_stored(&mut self, now: Time, transfer: TransferId, block: u32) {
        let Some((release, from)) = self.transfers.about(transfer) else { return };
        let Some(known) = self.releases.get(&release).filter(|known| block < known.blocks.count()) else {
            return;
        };
        let length = known.blocks.length(block);
        let source = match from {
            From::Origin => Source::Wan,
            From::Neighbour(_) => Source::Lan,
        };
        if from == From::Origin {
            self.wan_bytes += length;
            self.wan.add(now, length);
            self.origin.succeeded();
        }
        self.note_delivery(now, transfer, block, length);
        self.hold(now, release, block, source);
        self.settle_ready(now);
    }

    /// The other side does not have a block of a transfer.
    pub fn handle_block_missing(&mut self, now: Time, transfer: TransferId, block: u32) {
        match self.return_block(transfer, block) {
            Some((release, From::Origin)) => {
                self.defer(now, release, block, self.config.timing.origin_bad_block);
            }
            Some((release, From::Neighbour(node))) => {
                if let Some(known) = self.releases.get_mut(&release) {
                    known.availability.lose(node, block);
                }
            }
            None => {}
        }
        self.settle(now);
    }

    /// A block of a transfer did not verify. The sender is quarantined for the release; an origin is asked for the
    /// block again later.
    pub fn handle_block_bad(&mut self, now: Time, transfer: TransferId, block: u32) {
        match self.return_block(transfer, block) {
            Some((release, From::Origin)) => {
                tracing::warn!(%release, block, "the origin sent a block that does not verify");
                self.defer(now, release, block, self.config.timing.origin_bad_block);
            }
            Some((release, From::Neighbour(node))) => {
                tracing::warn!(%release, block, %node, "a neighbour sent a block that does not verify");
                self.discredit(now, node, Some(release), Offence::BadBlock);
            }
            None => {}
        }
        self.settle(now);
    }

    /// A transfer ended; what it did not bring is missing again.
    pub fn handle_transfer_ended(&mut self, now: Time, transfer: TransferId, outcome: Outcome) {
        if let Some(ended) = self.end_transfer(transfer) {
            match (ended.from, outcome) {
                (_, Outcome::Failed(Failure::Local)) => self.pause_release(now, ended.release),
                // It is up: what it did not give this time may be cut off, or damaged. The rest need not wait.
                (From::Origin, _) if ended.delivered > 0 => {
                    for block in ended.left {
                        self.defer(now, ended.release, block, self.config.timing.origin_backoff_min);
                    }
                }
                (From::Origin, _) => self.origin.failed(now, &mut self.rng, &self.config.timing),
                (From::Neighbour(node), Outcome::Done) => {
                    self.neighbour_failed(now, node, ended.release, Failure::Stalled);
                }
                (From::Neighbour(node), Outcome::Failed(failure)) => {
                    self.neighbour_failed(now, node, ended.release, failure);
                }
            }
            self.lease.stale = true;
            self.ready = Ready::Anybody;
        }
        self.settle_ready(now);
    }

    /// Blocks that were held turned out to be lost or rotten on disk.
    pub fn handle_blocks_lost(&mut self, now: Time, release: IndexId, blocks: &[u32]) {
        if let Some(known) = self.releases.get_mut(&release) {
            let lost = blocks.iter().filter(|block| known.lose(**block)).count();
            if lost > 0 {
                // There is no note for a loss: the full map replaces what was said before.
                let partners: Vec<NodeId> = known.availability.neighbours().collect();
                partners.into_iter().for_each(|node| known.announcer.owe(node));
                self.gossip.hurry();
            }
        }
        self.settle(now);
    }

    /// Blocks turned up on this node's own disk (harvested, imported from a stick): they count as trimmed.
    pub fn handle_blocks_found(&mut self, now: Time, release: IndexId, blocks: &[u32]) {
        let count = self.releases.get(&release).map_or(0, |known| known.blocks.count());
        for block in blocks.iter().filter(|block| **block < count) {
            self.hold(now, release, *block, Source::Trimmed);
        }
        self.check_complete(release);
        self.settle(now);
    }

    /// The answer to [`Action::PollOrigin`]: whether the origin was reached and what it says could be verified.
    pub fn handle_origin_poll(&mut self, now: Time, ok: bool) {
        self.origin.polled(now, ok, &mut self.rng, &self.config.timing);
        self.lease.stale = true;
        self.settle(now);
    }

    /// The answer to [`Action::FetchMetadata`]: whether `node` gave metadata that could be verified. Call
    /// [`set_metadata_version`](Self::set_metadata_version) first.
    pub fn handle_metadata(&mut self, now: Time, node: NodeId, ok: bool) {
        self.metadata.answered(now, node, ok, &self.config.timing);
        self.site_changed = true;
        self.settle(now);
    }

    /// It is the time that [`poll_timeout`](Self::poll_timeout) named, or later.
    pub fn handle_timeout(&mut self, now: Time) {
        self.site_changed |= self.is_site_due(now);
        self.settle_ready(now);
    }

    // What next.

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.timer
    }

    // Helpers of the events above, in the order of their use.

    /// In a small site, a newcomer should know everybody while it still listens.
    fn greet(&mut self) {
        self.site_changed = true;
        if self.members.count() <= crate::config::SMALL_SITE_MEMBERS {
            self.gossip.hurry();
        }
    }

    fn drop_neighbour(&mut self, node: NodeId) {
        self.drop_transfers_where(|transfer| transfer.from == From::Neighbour(node));
        self.neighbours.disconnect(&node);
        for release in self.releases.values_mut() {
            release.availability.forget(&node);
            release.announcer.forget(&node);
        }
        self.site_changed = true;
    }

    /// Takes in what `from` says that it holds. If nobody in reach held some of it, `from` has brought it.
    fn watch_claims<T>(
        &mut self,
        now: Time,
        from: NodeId,
        release: IndexId,
        take: impl FnOnce(&mut Release) -> T,
    ) -> Option<T> {
        let known = self.releases.get_mut(&release)?;
        let before = known.availability.rarity().unheld_total();
        let taken = take(known);
        if known.availability.rarity().unheld_total() < before {
            self.members.brought(now, &from);
        }
        Some(taken)
    }

    fn take_map(
        &mut self,
        now: Time,
        from: NodeId,
        release: IndexId,
        blocks: &BlockSet,
    ) -> Result<(), Misbehaviour> {
        let Some(known) = self.releases.get_mut(&release) else { return Ok(()) };
        if blocks.capacity() != known.blocks.count() {
            return Err(Misbehaviour::WrongSize {
                release,
                claimed: blocks.capacity(),
                blocks: known.blocks.count(),
            });
        }
        if !known.announcer.admit_map(now, from, &self.config.timing) {
            return Err(Misbehaviour::Flood { release });
        }
        if !known.availability.knows(&from) {
            known.announcer.answer(from);
        }
        let credit = self.quarantine.credit(now, from, release);
        self.watch_claims(now, from, release, |known| known.availability.replace(from, blocks, credit));
        Ok(())
    }
}

fn take_gained(
    release: &mut Release,
    from: NodeId,
    blocks: &branchmesh_wire::Runs,
) -> Result<(), Misbehaviour> {
    let count = release.blocks.count();
    let Some(repeated) = release.availability.gain(from, blocks.blocks(count)) else { return Ok(()) };
    let normal = release.announcer.admit_repeated(from, repeated, count);
    if normal { Ok(()) } else { Err(Misbehaviour::Flood { release: release.id }) }
}
