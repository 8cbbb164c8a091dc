//! What is done after each event: turns, fetches, requests, notes, gossip, and the next timer.

use crate::{
    action::{Action, Failure, TransferId},
    availability::Credit,
    choice,
    exchange::Exchange,
    neighbours::Neighbour,
    ready::Ready,
    time::Time,
    transfers::{From, Transfer},
};
use branchmesh_wire::{IndexId, NodeId, Status, WanPolicy, limits::WIRE_VERSION};
use rand::RngExt;
use std::time::Duration;

/// Neighbours that a node of a large site connects to: well above ln N, so that the graph is connected.
const NEIGHBOURS_WANTED: usize = 32;

impl Exchange {
    /// Draws all conclusions from an event.
    pub(crate) fn settle(&mut self, now: Time) {
        self.ready = Ready::Anybody;
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
        self.end_pauses(now);
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

    /// A machine that slept knows nobody any more: it listens again before it may use the WAN, and what it had asked
    /// for will not come.
    fn notice_sleep(&mut self, now: Time) {
        if now.since(self.settled_at) > self.member_timeout() {
            self.lease.listen_until(now + self.config.timing.listen);
            self.drop_transfers_where(|_| true);
        }
    }

    fn free_quarantined(&mut self, now: Time) {
        for node in self.quarantine.ended(self.settled_at, now) {
            self.update_credit(now, node);
        }
    }

    fn end_pauses(&mut self, now: Time) {
        let paused = self.releases.values().map(|release| release.paused_until);
        let is_over = paused.into_iter().any(|until| self.settled_at < until && until <= now);
        if self.neighbours.end_pauses(now) || is_over {
            self.ready = Ready::Anybody;
        }
    }

    fn end_stalled(&mut self, now: Time) {
        for id in self.transfers.overdue(now) {
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

    /// Registers a transfer of missing blocks, or of blocks that fly already (the end game).
    pub(crate) fn begin(
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

    /// Asks the neighbours that are ready for what they hold, as long as any has room.
    fn plan_lan(&mut self, now: Time) {
        let releases = &self.releases;
        self.ready.retain(|node| {
            releases
                .values()
                .any(|release| release.is_hungry(now) && release.availability.offer(node).is_some())
        });
        if self.ready.is_empty() {
            return;
        }
        let ready = std::mem::replace(&mut self.ready, Ready::NOBODY);
        let mut asking = ready.with_room(now, &self.neighbours);
        if asking.is_empty() {
            return;
        }
        let hungry = self.releases.values().filter(|release| release.is_hungry(now));
        let mut hungry: Vec<(u64, IndexId)> = hungry.map(|release| (release.serial, release.id)).collect();
        hungry.sort_unstable();
        while !asking.is_empty() {
            asking.retain(|node| hungry.iter().any(|(_, id)| self.ask(now, *node, *id)));
            asking = self.neighbours.with_room_among(now, asking);
        }
    }

    fn ask(&mut self, now: Time, node: NodeId, id: IndexId) -> bool {
        let Some(release) = self.releases.get_mut(&id) else { return false };
        let room = self.neighbours.get(&node).map_or(0, |neighbour| neighbour.room(now));
        if room == 0 {
            return false;
        }
        let mut blocks = choice::pick(release, &node, room, &mut self.rng);
        if self.quarantine.credit(now, node, id) == Credit::Trial {
            // What it does not give is missed elsewhere meanwhile.
            if !self.neighbours.get(&node).is_some_and(Neighbour::is_idle) {
                return false;
            }
            blocks.truncate(1);
        }
        self.request(now, node, id, blocks)
    }

    /// Asks `node` for blocks, if there are any. Returns whether there are.
    pub(crate) fn request(&mut self, now: Time, node: NodeId, release: IndexId, blocks: Vec<u32>) -> bool {
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
        self.lease.stale = true;
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
            wan_policy: self.wan_policy(),
            incarnation: self.config.incarnation,
            sequence: self.gossip.sequence(),
            addresses: self.config.addresses.clone(),
            fetching: self.lease.claimed && self.wan_policy() != WanPolicy::Never && !self.leaving,
            metadata: self.metadata.version,
            wan_bytes: self.wan_bytes,
            releases,
            leaving: self.leaving,
        }
        .bounded()
    }
}

/// Each node of a large site prefers other partners: the graph is random, and stable.
fn pair_order(me: &NodeId, other: &NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"branchmesh pair").update(&me.0).update(&other.0);
    *hasher.finalize().as_bytes()
}
