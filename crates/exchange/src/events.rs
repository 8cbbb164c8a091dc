//! What happens to an exchange: members come, speak and go, blocks arrive or do not, time passes.

use crate::{
    action::{Failure, Misbehaviour, Outcome, TransferId},
    exchange::Exchange,
    members::News,
    quarantine::Offence,
    ready::Ready,
    release::Release,
    time::Time,
    transfers::From,
};
use branchmesh_wire::{BlockSet, IndexId, NodeId, Note, Source, Status};

impl Exchange {
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

    /// The answer to [`Action::PollOrigin`](crate::Action::PollOrigin): whether the origin was reached and what it says could be verified.
    pub fn handle_origin_poll(&mut self, now: Time, ok: bool) {
        self.origin.polled(now, ok, &mut self.rng, &self.config.timing);
        self.lease.stale = true;
        self.settle(now);
    }

    /// The answer to [`Action::FetchMetadata`](crate::Action::FetchMetadata): whether `node` gave metadata that could be verified. Call
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
