//! This node and the WAN: when it is its turn, what it fetches then, and how it gives the turn away.

use crate::{
    action::{Action, TransferId},
    config::Config,
    exchange::Exchange,
    fetchers::{Field, Scope, Turn, is_my_share},
    members::{Candidate, Members},
    metadata::Metadata,
    origin::Origin,
    quarantine::Quarantine,
    time::Time,
    transfers::From,
};
use branchmesh_wire::{IndexId, Role, WanPolicy, limits::REQUEST_BLOCKS_MAX};
use std::time::Duration;

/// Fetches in flight: the next one is at the origin before the last one is here, so that the WAN never idles.
const FETCHES_MAX: usize = 3;
/// What one fetch should take of the WAN's time: a fetcher that vanishes or yields leaves little undone. One block, at
/// least, and as long as nothing is known of the line.
const FETCH_TIME: Duration = Duration::from_millis(500);
/// A line of 8 kbit/s: what one is waited for as if it were of which nothing is known.
const THIN_LINE: f64 = 1000.0;
/// An origin's blocks may take so many times as long as its rate says.
const PATIENCE: u32 = 4;
/// Bytes of one fetch, at most: a segment.
const FETCH_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all fetches in flight.
const FETCHES_BYTES_MAX: u64 = 8 << 20;

impl Exchange {
    /// The turns that matter to this node now.
    pub(crate) fn scopes(&self, now: Time) -> Vec<Scope> {
        let fetched: Vec<IndexId> = self.transfers.fetches().map(|(_, transfer)| transfer.release).collect();
        let needed =
            self.releases.values().filter(|release| release.needs_wan(now) || fetched.contains(&release.id));
        std::iter::once(Scope::Site).chain(needed.map(|release| Scope::Release(release.id))).collect()
    }

    pub(crate) fn take_turns(&mut self, now: Time) {
        let scopes = self.scopes(now);
        self.lease.need(now, &scopes);
        if !self.lease.is_due(now, &scopes) {
            return;
        }
        let candidates = self.members.candidates(now, self.member_timeout(), self.config.incarnation);
        let field = field(
            now,
            &self.config,
            &self.members,
            &self.origin,
            &self.quarantine,
            &self.metadata,
            &candidates,
        );
        self.lease.update(&field, &scopes);
    }

    /// Fetches over the WAN what no neighbour holds, where it is this node's turn; gives up what it is not.
    pub(crate) fn plan_wan(&mut self, now: Time) {
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

    pub(crate) fn has_turn(&self, release: IndexId) -> bool {
        self.lease.turn(Scope::Release(release)) == Some(Turn::Mine)
    }

    /// Lets fetches that already bring bytes end when the turn is gone; the others would only take longer.
    pub(crate) fn drain(&mut self, now: Time) {
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
    pub(crate) fn is_settled(&mut self, now: Time, id: IndexId) -> bool {
        let timeout = self.member_timeout();
        let Some(release) = self.releases.get_mut(&id) else { return false };
        if !release.settled {
            let grace_over = now >= release.added + self.config.timing.have_map_grace;
            let mut live = self.members.live(now, timeout);
            release.settled = grace_over || live.all(|(node, _)| release.availability.knows(node));
            if release.settled {
                tracing::debug!(release = %id, ?now, grace_over, "the members have told what they hold");
            }
        }
        release.settled
    }

    pub(crate) fn fetch(&mut self, now: Time, id: IndexId) {
        let others = match self.config.fetchers {
            0 | 1 => Vec::new(),
            _ => {
                let timeout = self.member_timeout();
                let candidates = self.members.candidates(now, timeout, self.config.incarnation);
                self.lease.co_fetchers(
                    &field(
                        now,
                        &self.config,
                        &self.members,
                        &self.origin,
                        &self.quarantine,
                        &self.metadata,
                        &candidates,
                    ),
                    id,
                )
            }
        };
        let rate = self.wan.measured();
        let per_fetch = (rate.unwrap_or(0) as f64 * FETCH_TIME.as_secs_f64()) as u64;
        let per_fetch = per_fetch.min(FETCH_BYTES_MAX);
        // Several fetches over a thin line only make each of them take longer.
        let bytes_max = (per_fetch * FETCHES_MAX as u64).min(FETCHES_BYTES_MAX);
        // An origin that failed is tried with one fetch, and so is a line of which nothing is known.
        let fetches_max = if self.origin.failures() > 0 || rate.is_none() { 1 } else { FETCHES_MAX };
        loop {
            let (mut fetches, mut bytes) = (0, 0);
            for (_, transfer) in self.transfers.fetches() {
                (fetches, bytes) = (fetches + 1, bytes + transfer.bytes_left);
            }
            let Some(release) = self.releases.get(&id) else { return };
            if fetches >= fetches_max || (fetches > 0 && bytes + per_fetch > bytes_max) {
                return;
            }
            let me = self.config.node;
            let is_mine = |segment| is_my_share(me, &others, &id, segment);
            let blocks = release.next_for_wan(now, per_fetch, REQUEST_BLOCKS_MAX as usize, is_mine);
            if blocks.is_empty() {
                return;
            }
            if fetches == 0 && !self.wan.is_undecided() {
                self.wan.start(now);
            }
            let transfer = self.begin(now, id, From::Origin, &blocks, now);
            self.wait_for_origin(now);
            self.actions.push_back(Action::Fetch { transfer, release: id, blocks });
        }
    }

    /// The deadlines of all fetches: none has failed as long as the line is busy with them.
    pub(crate) fn wait_for_origin(&mut self, now: Time) {
        let bytes: u64 = self.transfers.fetches().map(|(_, transfer)| transfer.bytes_left).sum();
        let needed = match self.wan.measured() {
            Some(_) => self.wan.time_for(bytes) * PATIENCE,
            None => Duration::from_secs_f64(bytes as f64 / THIN_LINE),
        };
        let fetches: Vec<TransferId> = self.transfers.fetches().map(|(id, _)| id).collect();
        self.push_deadlines(&fetches, now + self.config.timing.origin_stall + needed, Duration::MAX);
    }

    /// Says whether this node uses the WAN. The last changes of the have-maps go out before it says that it doesn't.
    pub(crate) fn update_claim(&mut self, now: Time) {
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

    pub(crate) fn poll_origin(&mut self, now: Time) {
        let timing = &self.config.timing;
        let asks = if self.lease.turn(Scope::Site) == Some(Turn::Mine) {
            self.origin.take_poll(now, &mut self.rng, timing)
        } else {
            self.origin.forget_polls();
            let patience = timing.doubt(self.members.count(), self.metadata.version > 0);
            self.may_doubt() && self.origin.take_doubt(now, patience, &mut self.rng, timing)
        };
        if asks {
            self.actions.push_back(Action::PollOrigin);
        }
    }

    /// Whether this node may ask the origin for itself although another one says that it does.
    pub(crate) fn may_doubt(&self) -> bool {
        self.wan_policy() != WanPolicy::Never
    }
}

/// What turns are computed from.
fn field<'a>(
    now: Time,
    config: &'a Config,
    members: &Members,
    origin: &Origin,
    quarantine: &'a Quarantine,
    metadata: &'a Metadata,
    candidates: &'a [Candidate<'a>],
) -> Field<'a> {
    let timeout = config.timing.member_timeout(members.count());
    let alone = members.count() == 1 && config.role == Role::Client;
    Field {
        now,
        policy: config.wan,
        rank: members.my_rank(now, timeout, config.wan, config.role, config.incarnation),
        fetchers: config.fetchers,
        candidates,
        timing: &config.timing,
        line: origin.line,
        resting: origin.resting(now),
        listen_longer: if alone { config.timing.listen_alone } else { Duration::ZERO },
        quarantine,
        metadata,
    }
}
