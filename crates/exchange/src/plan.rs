//! What is done after each event: turns, fetches, requests, notes, gossip, and the next timer.

use crate::{
    action::{Action, Failure, Reason, TransferId},
    choice,
    config::{Config, Timing},
    exchange::Exchange,
    fetchers::{Field, Scope, Turn, co_fetchers, is_my_share},
    members::{Candidate, Members},
    origin::Origin,
    quarantine::Quarantine,
    time::Time,
    transfers::{From, Transfer},
};
use branchmesh_wire::{
    IndexId, NodeId, Status, WanPolicy,
    limits::{REQUEST_BLOCKS_MAX, WIRE_VERSION},
};
use rand::RngExt;
use std::{collections::BTreeSet, time::Duration};

/// Fetches in flight: the next one is at the origin before the last one is here, so that the WAN never idles.
const FETCHES_MAX: usize = 3;
/// What one fetch should take of the WAN's time: a fetcher that vanishes or yields leaves little undone.
const FETCH_TIME: Duration = Duration::from_millis(500);
/// Bytes of one fetch, at least: half a second of 4 Mbit/s.
const FETCH_BYTES_MIN: u64 = 256 << 10;
/// Bytes of one fetch, at most: a segment.
const FETCH_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all fetches in flight.
const FETCHES_BYTES_MAX: u64 = 8 << 20;
/// Neighbours that a node of a large site connects to: well above ln N, so that the graph is connected.
const NEIGHBOURS_WANTED: usize = 32;
/// The least time that a timer may wait: no mistake here may turn into a hot loop there.
const TICK_MIN: Duration = Duration::from_millis(5);
/// How often the end game is looked at.
const ENDGAME_TICK: Duration = Duration::from_millis(250);

impl Exchange {
    /// Draws all conclusions from an event.
    pub(crate) fn settle(&mut self, now: Time) {
        self.ready = None;
        self.settle_ready(now);
    }

    /// The same after an event that gave room or blocks only to the neighbours in `ready`.
    pub(crate) fn settle_ready(&mut self, now: Time) {
        if self.leaving {
            self.timer = None;
            return;
        }
        self.notice_sleep(now);
        self.free_quarantined(now);
        self.end_stalled(now);
        if self.site_changed {
            self.members.expire(now, self.member_timeout());
            self.lease.stale = true;
        }
        self.take_turns(now);
        self.plan_wan(now);
        self.update_claim(now);
        self.plan_lan(now);
        self.plan_endgame(now);
        self.announce(now);
        self.poll_origin(now);
        if self.site_changed {
            self.fetch_metadata(now);
            self.dial(now);
        }
        if self.site_changed {
            self.silence_at = self.members.next_silence(now, self.member_timeout());
        }
        self.site_changed = false;
        if self.gossip.due(&self.config.timing, self.members.count()) <= now {
            self.gossip.send(now);
            let status = self.status();
            self.actions.push_back(Action::Gossip(status));
        }
        self.settled_at = now;
        self.timer = self.next_timer(now);
    }

    pub(crate) fn member_timeout(&self) -> Duration {
        self.config.timing.member_timeout(self.members.count())
    }

    /// A machine that slept knows nobody any more: it listens again before it may use the WAN.
    fn notice_sleep(&mut self, now: Time) {
        if now.since(self.settled_at) > self.member_timeout() {
            self.lease.listen_until(now + self.config.timing.listen);
        }
    }

    fn free_quarantined(&mut self, now: Time) {
        for (node, release) in self.quarantine.ended(self.settled_at, now) {
            if let Some(release) = self.releases.get_mut(&release) {
                release.availability.set_credited(&node, true);
                self.ready = None;
                self.lease.stale = true;
            }
        }
    }

    fn end_stalled(&mut self, now: Time) {
        if self.transfers.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        for id in self.transfers.find(|transfer| transfer.deadline <= now) {
            let Some(transfer) = self.end_transfer(id) else { continue };
            self.actions.push_back(Action::Cancel { transfer: id });
            match transfer.from {
                From::Origin => {
                    self.origin.failed(now, &mut self.rng, &self.config.timing);
                    self.lease.stale = true;
                }
                From::Neighbour(node) => {
                    self.neighbour_failed(now, node, transfer.release, Failure::Stalled);
                }
            }
        }
    }

    /// The turns that matter to this node now.
    fn scopes(&self, now: Time) -> Vec<Scope> {
        let fetched: Vec<IndexId> = self.transfers.fetches().map(|(_, transfer)| transfer.release).collect();
        let needed =
            self.releases.values().filter(|release| release.needs_wan(now) || fetched.contains(&release.id));
        std::iter::once(Scope::Site).chain(needed.map(|release| Scope::Release(release.id))).collect()
    }

    fn take_turns(&mut self, now: Time) {
        let scopes = self.scopes(now);
        if !self.lease.is_due(now, &scopes) {
            return;
        }
        let candidates = self.members.candidates(now, self.member_timeout(), self.config.incarnation);
        let field = field(now, &self.config, &self.members, &self.origin, &self.quarantine, &candidates);
        self.lease.update(&field, &scopes);
    }

    /// Fetches over the WAN what no neighbour holds, where it is this node's turn; gives up what it is not.
    fn plan_wan(&mut self, now: Time) {
        self.drain(now);
        let mut turns: Vec<(u64, IndexId)> = self
            .releases
            .values()
            .filter(|release| release.needs_wan(now) && self.has_turn(release.id))
            .map(|release| (release.serial, release.id))
            .collect();
        turns.sort_unstable();
        for (_, id) in turns {
            if self.is_settled(now, id) && self.origin.is_ready(now) {
                self.fetch(now, id);
            }
        }
    }

    fn has_turn(&self, release: IndexId) -> bool {
        self.lease.turn(Scope::Release(release)) == Some(Turn::Mine)
    }

    /// Lets fetches that already bring bytes end when the turn is gone; the others would only take longer.
    fn drain(&mut self, now: Time) {
        let astray: Vec<(TransferId, bool)> = self
            .transfers
            .fetches()
            .filter(|(_, transfer)| !self.has_turn(transfer.release))
            .map(|(id, transfer)| (id, transfer.delivered > 0))
            .collect();
        if astray.is_empty() {
            self.lease.draining = None;
            return;
        }
        let since = *self.lease.draining.get_or_insert(now);
        let over = now >= since + self.config.timing.drain_max;
        for (transfer, _) in astray.into_iter().filter(|(_, bringing)| over || !bringing) {
            self.end_transfer(transfer);
            self.actions.push_back(Action::Cancel { transfer });
        }
    }

    /// Whether every live member has told what it holds of the release, or has had the time to.
    fn is_settled(&mut self, now: Time, id: IndexId) -> bool {
        let timeout = self.member_timeout();
        let Some(release) = self.releases.get_mut(&id) else { return false };
        if !release.settled {
            let grace_over = now >= release.added + self.config.timing.have_map_grace;
            let mut live = self.members.live(now, timeout);
            release.settled = grace_over || live.all(|(node, _)| release.availability.knows(node));
        }
        release.settled
    }

    fn fetch(&mut self, now: Time, id: IndexId) {
        let others = match self.config.fetchers {
            0 | 1 => Vec::new(),
            _ => {
                let timeout = self.member_timeout();
                let candidates = self.members.candidates(now, timeout, self.config.incarnation);
                co_fetchers(
                    &field(now, &self.config, &self.members, &self.origin, &self.quarantine, &candidates),
                    id,
                )
            }
        };
        let per_fetch = (self.wan.rate() as f64 * FETCH_TIME.as_secs_f64()) as u64;
        let per_fetch = per_fetch.clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        // An origin that failed is tried with one fetch.
        let fetches_max = if self.origin.failures() > 0 { 1 } else { FETCHES_MAX };
        loop {
            let (mut fetches, mut bytes) = (0, 0);
            for (_, transfer) in self.transfers.fetches() {
                (fetches, bytes) = (fetches + 1, bytes + transfer.bytes_left);
            }
            let Some(release) = self.releases.get(&id) else { return };
            if fetches >= fetches_max || (fetches > 0 && bytes + per_fetch > FETCHES_BYTES_MAX) {
                return;
            }
            let me = self.config.node;
            let is_mine = |segment| is_my_share(me, &others, &id, segment);
            let blocks = release.next_for_wan(now, per_fetch, REQUEST_BLOCKS_MAX as usize, is_mine);
            if blocks.is_empty() {
                return;
            }
            if fetches == 0 {
                self.wan.start(now);
            }
            let transfer = self.begin(now, id, From::Origin, &blocks, now + self.config.timing.origin_stall);
            self.actions.push_back(Action::Fetch { transfer, release: id, blocks });
        }
    }

    /// Registers a transfer of missing blocks, or of blocks that fly already (the end game).
    fn begin(
        &mut self,
        now: Time,
        release: IndexId,
        from: From,
        blocks: &[u32],
        deadline: Time,
    ) -> TransferId {
        let id = self.transfers.next_id();
        let mut bytes_left = 0;
        if let Some(known) = self.releases.get_mut(&release) {
            for block in blocks {
                bytes_left += known.blocks.length(*block);
                if !known.blocks.double(*block, id) {
                    known.request(*block, id);
                }
            }
        }
        let left = blocks.iter().copied().collect();
        let transfer = Transfer { release, from, left, bytes_left, issued: now, deadline, delivered: 0 };
        self.transfers.begin(id, transfer);
        id
    }

    /// Says whether this node uses the WAN. The last changes of the have-maps go out before it says that it doesn't.
    fn update_claim(&mut self, now: Time) {
        let claimed = self.lease.wants_claim() || self.transfers.fetches().next().is_some();
        if claimed == self.lease.claimed {
            return;
        }
        tracing::debug!(claimed, ?now, "the lease changes");
        self.lease.claimed = claimed;
        self.gossip.hurry();
        if !claimed {
            self.releases.values_mut().for_each(|release| release.announcer.hurry());
        }
    }

    /// Asks neighbours for what they hold, as long as any has room. Only those are looked at that have got room or
    /// blocks since the last time: with hundreds of neighbours, everything else costs more than it finds.
    fn plan_lan(&mut self, now: Time) {
        let ready = self.ready.replace(BTreeSet::new());
        let mut hungry: Vec<(u64, IndexId)> = self
            .releases
            .values()
            .filter(|release| release.is_hungry(now))
            .map(|release| (release.serial, release.id))
            .collect();
        hungry.sort_unstable();
        if hungry.is_empty() {
            return;
        }
        let mut asking = self.neighbours.with_room(now, ready);
        while !asking.is_empty() {
            asking.retain(|node| hungry.iter().any(|(_, release)| self.ask(now, *node, *release)));
            asking = self.neighbours.with_room(now, Some(asking.into_iter().collect()));
        }
    }

    fn ask(&mut self, now: Time, node: NodeId, id: IndexId) -> bool {
        let Some(release) = self.releases.get(&id) else { return false };
        let room = self.neighbours.get(&node).map_or(0, |neighbour| neighbour.room(now));
        if room == 0 {
            return false;
        }
        let blocks = choice::pick(release, &node, room, &mut self.rng);
        self.request(now, node, id, blocks)
    }

    fn request(&mut self, now: Time, node: NodeId, release: IndexId, blocks: Vec<u32>) -> bool {
        if blocks.is_empty() {
            return false;
        }
        let timing = &self.config.timing;
        let bytes = self
            .releases
            .get(&release)
            .map_or(0, |known| blocks.iter().map(|block| known.blocks.length(*block)).sum());
        let Some(neighbour) = self.neighbours.get_mut(&node) else { return false };
        let patience = timing.stall + neighbour.time_for(bytes) * 4;
        neighbour.requested(now, bytes);
        let deadline = now + patience.min(timing.stall_max);
        let transfer = self.begin(now, release, From::Neighbour(node), &blocks, deadline);
        self.actions.push_back(Action::Request { transfer, node, release, blocks });
        true
    }

    /// When everything that is missing flies, idle neighbours double what is slow.
    fn plan_endgame(&mut self, now: Time) {
        self.endgame_at = None;
        let ending: Vec<IndexId> = self
            .releases
            .values()
            .filter(|release| choice::is_endgame(release))
            .map(|known| known.id)
            .collect();
        for id in ending {
            self.endgame_at = Some(now + ENDGAME_TICK);
            for node in self.neighbours.with_room(now, None) {
                let Some(neighbour) = self.neighbours.get(&node).filter(|neighbour| neighbour.is_idle())
                else {
                    continue;
                };
                let Some(release) = self.releases.get(&id) else { continue };
                let expected = |source: &NodeId| {
                    let source = self.neighbours.get(source);
                    source.map_or(Duration::MAX, |source| source.time_for(0))
                };
                let after = self.config.timing.endgame_after;
                let blocks =
                    choice::pick_again(now, after, release, &self.transfers, &node, neighbour, expected);
                self.request(now, node, id, blocks);
            }
        }
    }

    /// Sends the have-maps and their changes that are due.
    pub(crate) fn announce(&mut self, now: Time) {
        let timing = &self.config.timing;
        for release in self.releases.values_mut() {
            if release.announcer.due(timing).is_none_or(|at| at > now) {
                continue;
            }
            let listeners = release.availability.neighbours();
            let held = release.blocks.held();
            for (node, note) in release.announcer.flush(now, release.id, held, listeners, timing) {
                self.actions.push_back(Action::Note { node, note });
            }
        }
    }

    fn poll_origin(&mut self, now: Time) {
        if self.lease.turn(Scope::Site) != Some(Turn::Mine) {
            self.origin.forget_polls();
        } else if self.origin.take_poll(now, &mut self.rng, &self.config.timing) {
            self.actions.push_back(Action::PollOrigin);
        }
    }

    fn fetch_metadata(&mut self, now: Time) {
        let members = &self.members;
        self.metadata.retain(|node| members.get(node).is_some());
        if !self.metadata.is_free(now, &self.config.timing) {
            return;
        }
        let newest = members.live(now, self.member_timeout()).filter(|(node, member)| {
            let version = member.status.as_ref().map_or(0, |status| status.metadata);
            member.connected && version > self.metadata.version && self.metadata.may_ask(now, node)
        });
        let newest: Vec<NodeId> = newest.map(|(node, _)| *node).collect();
        if newest.is_empty() {
            return;
        }
        let node = newest[self.rng.random_range(0..newest.len())];
        self.metadata.ask(now, node, &self.config.timing);
        self.actions.push_back(Action::FetchMetadata { node });
    }

    fn dial(&mut self, now: Time) {
        let timeout = self.member_timeout();
        self.dialled.retain(|node, _| self.members.get(node).is_some());
        let connected = self.members.live(now, timeout).filter(|(_, member)| member.connected).count();
        let lacking = NEIGHBOURS_WANTED.saturating_sub(connected);
        let mut unconnected: Vec<([u8; 32], NodeId, Vec<std::net::SocketAddr>)> = self
            .members
            .live(now, timeout)
            .filter(|(node, member)| {
                !member.connected && self.dialled.get(node).is_none_or(|(at, _)| *at <= now)
            })
            .filter_map(|(node, member)| {
                let addresses = &member.status.as_ref()?.addresses;
                (!addresses.is_empty())
                    .then(|| (pair_order(&self.config.node, node), *node, addresses.clone()))
            })
            .collect();
        unconnected.sort_unstable();
        for (_, node, addresses) in unconnected.into_iter().take(lacking) {
            let timing = &self.config.timing;
            let (at, times) = self.dialled.entry(node).or_insert((now, 0));
            *at = now + crate::backoff::doubled(timing.redial_min, *times, timing.redial_max);
            *times = times.saturating_add(1);
            self.actions.push_back(Action::Dial { node, addresses });
        }
    }

    /// This node's account of itself, as it was or will be gossiped.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut releases: Vec<&crate::release::Release> = self.releases.values().collect();
        releases.sort_by_key(|release| std::cmp::Reverse(release.serial));
        let releases = releases.into_iter().filter_map(crate::release::Release::status).collect();
        Status {
            version: WIRE_VERSION,
            node: self.config.node,
            name: self.config.name.clone(),
            peer_id: self.config.peer_id.clone(),
            role: self.config.role,
            wan_policy: self.config.wan,
            incarnation: self.config.incarnation,
            sequence: self.gossip.sequence(),
            addresses: self.config.addresses.clone(),
            fetching: self.lease.claimed && self.config.wan != WanPolicy::Never && !self.leaving,
            metadata: self.metadata.version,
            wan_bytes: self.wan_bytes,
            releases,
            leaving: self.leaving,
        }
        .bounded()
    }

    fn next_timer(&mut self, now: Time) -> Option<(Time, Reason)> {
        let pause_end = self.neighbours.next_pause_end(now);
        let timing = &self.config.timing;
        let releases = self.releases.values();
        let have_maps = releases.clone().filter_map(|release| release.announcer.due(timing));
        let paused = releases.clone().map(|release| release.paused_until);
        let deferred = releases.filter_map(|release| release.next_deferred(now));
        let dials = self.dialled.values().map(|(at, _)| *at);
        let polls = self.lease.turn(Scope::Site) == Some(Turn::Mine);
        let timers = [
            (Some(self.gossip.due(timing, self.members.count())), Reason::Status),
            (have_maps.min(), Reason::HaveMaps),
            (self.silence_at, Reason::MemberSilent),
            (self.lease_timer(now, timing), Reason::Lease),
            (self.transfers.next_deadline(), Reason::Stall),
            (pause_end, Reason::PauseOver),
            (self.quarantine.next_end(now), Reason::PauseOver),
            (self.endgame_at, Reason::EndGame),
            (polls.then(|| self.origin.next_poll(timing)), Reason::Origin),
            (Some(self.origin.retry_at()).filter(|at| *at > now), Reason::Origin),
            (deferred.min(), Reason::Origin),
            (self.metadata.next(now, timing), Reason::Metadata),
            (dials.filter(|at| *at > now).min(), Reason::Dial),
            (paused.filter(|at| *at > now).min(), Reason::StorePause),
        ];
        let due = timers.into_iter().filter_map(|(at, reason)| Some((at?.max(now + TICK_MIN), reason)));
        due.min()
    }

    /// When turns, a drain, or the wait for have-maps may end.
    fn lease_timer(&self, now: Time, timing: &Timing) -> Option<Time> {
        let drain = self.lease.draining.map(|since| since + timing.drain_max);
        let unsettled = self.releases.values().filter(|release| release.wanted && !release.settled);
        let grace = unsettled.map(|release| release.added + timing.have_map_grace);
        self.lease.wake().into_iter().chain(drain).chain(grace).filter(|at| *at > now).min()
    }
}

/// What turns are computed from.
fn field<'a>(
    now: Time,
    config: &'a Config,
    members: &Members,
    origin: &Origin,
    quarantine: &'a Quarantine,
    candidates: &'a [Candidate<'a>],
) -> Field<'a> {
    let timeout = config.timing.member_timeout(members.count());
    Field {
        now,
        policy: config.wan,
        rank: members.my_rank(now, timeout, config.wan, config.role, config.incarnation),
        fetchers: config.fetchers,
        candidates,
        timing: &config.timing,
        resting: origin.resting(now),
        quarantine,
    }
}

/// Each node of a large site prefers other partners: the graph is random, and stable.
fn pair_order(me: &NodeId, other: &NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"branchmesh pair").update(&me.0).update(&other.0);
    *hasher.finalize().as_bytes()
}
