//! What follows from a block that comes, and from a transfer that ends: who is asked again, who is not, and which
//! other transfers have become needless.

use crate::{
    action::{Action, Failure, TransferId},
    availability::Credit,
    exchange::Exchange,
    quarantine::Offence,
    ready::Ready,
    time::Time,
    transfers::{From, Transfer},
};
use branchmesh_wire::{IndexId, NodeId, Source};
use std::time::Duration;

/// Failures in a row after which a neighbour's claims are not counted for a while.
const FAILURES_TO_DISTRUST: u32 = 2;

impl Exchange {
    /// A block of `transfer` came.
    pub(crate) fn note_delivery(&mut self, now: Time, id: TransferId, block: u32, length: u64) {
        let timing = &self.config.timing;
        let Some(transfer) = self.transfers.get_mut(id) else { return };
        if !transfer.left.remove(&block) {
            return;
        }
        transfer.bytes_left -= length;
        transfer.delivered += 1;
        let (release, from) = (transfer.release, transfer.from);
        let (issued, first) = (transfer.issued, transfer.delivered == 1);
        let mut redeemed = None;
        match from {
            From::Origin => {
                self.wait_for_origin(now);
            }
            From::Neighbour(node) => {
                let Some(neighbour) = self.neighbours.get_mut(&node) else { return };
                neighbour.delivered(now, issued, first, length);
                self.ready.add(node);
                if self.quarantine.redeem(now, node, release) {
                    redeemed = Some(node);
                }
                let patience = timing.stall + neighbour.time_for(0) * 4;
                let longest = timing.stall_max;
                let siblings = self.transfers.find(|other| other.from == from);
                self.push_deadlines(&siblings, now + patience, longest);
            }
        }
        if self.transfers.get(id).is_some_and(|transfer| transfer.left.is_empty()) {
            self.end_transfer(id);
        }
        if let Some(node) = redeemed {
            self.update_credit(now, node);
        }
    }

    /// Transfers behind one that makes progress are waited for, but not without end.
    pub(crate) fn push_deadlines(&mut self, ids: &[TransferId], deadline: Time, longest: Duration) {
        for id in ids {
            if let Some(transfer) = self.transfers.get_mut(*id) {
                transfer.deadline = transfer.deadline.max(deadline).min(transfer.issued + longest);
            }
        }
    }

    /// A block is here: no other transfer needs to bring it.
    pub(crate) fn hold(&mut self, now: Time, release: IndexId, block: u32, source: Source) {
        let Some(known) = self.releases.get_mut(&release) else { return };
        let (flight, _) = known.hold(now, block, source, &self.config.timing);
        let length = known.blocks.length(block);
        let others = flight.into_iter().flat_map(|flight| [Some(flight.first), flight.second]).flatten();
        for id in others {
            self.call_off(id, block, length);
        }
        self.check_complete(release);
    }

    /// `transfer` need not bring `block` any more, if it still would.
    pub(crate) fn call_off(&mut self, id: TransferId, block: u32, length: u64) {
        let Some(transfer) = self.transfers.get_mut(id) else { return };
        if !transfer.left.remove(&block) {
            return;
        }
        transfer.bytes_left -= length;
        let (from, empty) = (transfer.from, transfer.left.is_empty());
        if let From::Neighbour(node) = from
            && let Some(neighbour) = self.neighbours.get_mut(&node)
        {
            neighbour.relieve(length);
            self.ready.add(node);
        }
        if empty {
            self.end_transfer(id);
            self.actions.push_back(Action::Cancel { transfer: id });
        }
    }

    pub(crate) fn check_complete(&mut self, release: IndexId) {
        let Some(known) = self.releases.get_mut(&release) else { return };
        if known.wanted && known.is_full() && !known.completion_told {
            known.completion_told = true;
            known.announcer.hurry();
            self.gossip.hurry();
            self.actions.push_back(Action::Completed { release });
        }
    }

    /// A block of a transfer will not come by it. Returns what the transfer is about, if it was to bring the block.
    pub(crate) fn return_block(&mut self, id: TransferId, block: u32) -> Option<(IndexId, From)> {
        let transfer = self.transfers.get_mut(id)?;
        if !transfer.left.remove(&block) {
            return None;
        }
        let (release, from) = (transfer.release, transfer.from);
        let known = self.releases.get_mut(&release)?;
        let length = known.blocks.length(block);
        known.give_back(block, id);
        let transfer = self.transfers.get_mut(id)?;
        transfer.bytes_left -= length;
        // The other side is alive: what it has answered is no reason to wait less for the rest.
        transfer.delivered += 1;
        let empty = transfer.left.is_empty();
        if let From::Neighbour(node) = from
            && let Some(neighbour) = self.neighbours.get_mut(&node)
        {
            neighbour.relieve(length);
        }
        if empty {
            self.end_transfer(id);
        }
        Some((release, from))
    }

    /// The origin is asked for `block` again after a while, at first `pause`.
    pub(crate) fn defer(&mut self, now: Time, release: IndexId, block: u32, pause: Duration) {
        let timing = &self.config.timing;
        let known = self.releases.get_mut(&release);
        if known.is_some_and(|known| !known.defer(now, block, pause, timing)) {
            self.origin.failed(now, &mut self.rng, timing);
        }
    }

    /// Claims of `node` about `release`, or all of them, are worth nothing for a while.
    pub(crate) fn discredit(&mut self, now: Time, node: NodeId, release: Option<IndexId>, offence: Offence) {
        self.quarantine.add(now, node, release, offence, &self.config.timing);
        self.drop_transfers_where(|transfer| {
            transfer.from == From::Neighbour(node)
                && release.is_none_or(|release| transfer.release == release)
        });
        self.update_credit(now, node);
    }

    /// What the claims of `node` are good for may have changed.
    pub(crate) fn update_credit(&mut self, now: Time, node: NodeId) {
        for (id, release) in &mut self.releases {
            release.availability.set_credit(&node, self.quarantine.credit(now, node, *id));
        }
        self.ready = Ready::Anybody;
        self.lease.stale = true;
    }

    /// A request to `node` failed.
    pub(crate) fn neighbour_failed(&mut self, now: Time, node: NodeId, release: IndexId, failure: Failure) {
        let Some(failures) = self.neighbours.failed(now, &node, &self.config.timing) else { return };
        tracing::debug!(%node, %release, ?failure, failures, "a request failed");
        match failure {
            Failure::Busy | Failure::Local => {}
            // It should have said that it dropped the release; its claims are worth nothing for now.
            Failure::NotHere => self.discredit(now, node, Some(release), Offence::Stalled),
            Failure::NotAllowed => self.discredit(now, node, Some(release), Offence::Refused),
            Failure::Invalid => self.discredit(now, node, Some(release), Offence::BadBlock),
            Failure::Stalled | Failure::Unreachable => {
                let is_on_trial = self.quarantine.credit(now, node, release) == Credit::Trial;
                if is_on_trial || failures >= FAILURES_TO_DISTRUST {
                    self.discredit(now, node, None, Offence::Stalled);
                }
            }
        }
    }

    pub(crate) fn pause_release(&mut self, now: Time, release: IndexId) {
        if let Some(known) = self.releases.get_mut(&release) {
            known.paused_until = now + self.config.timing.store_pause;
        }
        self.drop_transfers_where(|transfer| transfer.release == release);
    }

    /// Takes a transfer off the list; what it has not brought is missing again.
    pub(crate) fn end_transfer(&mut self, id: TransferId) -> Option<Transfer> {
        let transfer = self.transfers.end(id)?;
        if let From::Neighbour(node) = transfer.from
            && let Some(neighbour) = self.neighbours.get_mut(&node)
        {
            neighbour.request_ended(transfer.bytes_left);
        }
        if !transfer.left.is_empty() {
            // Others may bring it.
            self.ready = Ready::Anybody;
        }
        if let Some(release) = self.releases.get_mut(&transfer.release) {
            transfer.left.iter().for_each(|block| release.give_back(*block, id));
        }
        Some(transfer)
    }

    /// Cancels transfers.
    pub(crate) fn drop_transfers_where(&mut self, condition: impl Fn(&Transfer) -> bool) {
        for transfer in self.transfers.find(condition) {
            self.end_transfer(transfer);
            self.actions.push_back(Action::Cancel { transfer });
        }
    }
}
