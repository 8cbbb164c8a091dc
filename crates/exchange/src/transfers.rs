//! Requests and fetches that are under way, and their deadlines.

use crate::{action::TransferId, time::Time};
use branchmesh_wire::{IndexId, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Transfers whose end is remembered, because blocks of theirs may still be reported: more than can be cancelled
/// at once by one event.
const LINGERING_MAX: usize = 1024;

/// Where a transfer's blocks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// An origin, over the WAN.
    Origin,
    /// A neighbour.
    Neighbour(NodeId),
}

#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) release: IndexId,
    pub(crate) from: From,
    /// Blocks that have not come.
    pub(crate) left: BTreeSet<u32>,
    /// Their bytes.
    pub(crate) bytes_left: u64,
    pub(crate) issued: Time,
    /// When it counts as stalled.
    pub(crate) deadline: Time,
    /// Blocks that have come.
    pub(crate) delivered: u32,
}

#[derive(Default)]
pub(crate) struct Transfers {
    under_way: BTreeMap<TransferId, Transfer>,
    /// How many of them are from an origin. Most nodes have none, and it is asked after each event.
    fetches: usize,
    /// No deadline is before it. Deadlines are put off with each block that comes, and to look for the first one each
    /// time costs more than to find at the end of this one that there is time left.
    first_deadline: Option<Time>,
    ended: VecDeque<(TransferId, IndexId, From)>,
    last: u64,
}

impl Transfers {
    pub(crate) fn next_id(&mut self) -> TransferId {
        self.last += 1;
        TransferId(self.last)
    }

    pub(crate) fn begin(&mut self, id: TransferId, transfer: Transfer) {
        self.fetches += usize::from(transfer.from == From::Origin);
        let first = self.first_deadline.map_or(transfer.deadline, |first| first.min(transfer.deadline));
        self.first_deadline = Some(first);
        self.under_way.insert(id, transfer);
    }

    pub(crate) fn get(&self, id: TransferId) -> Option<&Transfer> {
        self.under_way.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: TransferId) -> Option<&mut Transfer> {
        self.under_way.get_mut(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (TransferId, &Transfer)> {
        self.under_way.iter().map(|(id, transfer)| (*id, transfer))
    }

    /// The ids of those that fulfil a condition, in the order in which they began.
    pub(crate) fn find(&self, condition: impl Fn(&Transfer) -> bool) -> Vec<TransferId> {
        self.all().filter(|(_, transfer)| condition(transfer)).map(|(id, _)| id).collect()
    }

    /// What a transfer is or was about, also shortly after its end.
    pub(crate) fn about(&self, id: TransferId) -> Option<(IndexId, From)> {
        let live = self.under_way.get(&id).map(|transfer| (transfer.release, transfer.from));
        live.or_else(|| {
            let ended = self.ended.iter().rev().find(|(ended, _, _)| *ended == id);
            ended.map(|(_, release, from)| (*release, *from))
        })
    }

    /// Ends a transfer.
    pub(crate) fn end(&mut self, id: TransferId) -> Option<Transfer> {
        let transfer = self.under_way.remove(&id)?;
        self.fetches -= usize::from(transfer.from == From::Origin);
        self.ended.push_back((id, transfer.release, transfer.from));
        if self.ended.len() > LINGERING_MAX {
            self.ended.pop_front();
        }
        Some(transfer)
    }

    pub(crate) fn fetches(&self) -> impl Iterator<Item = (TransferId, &Transfer)> {
        self.all().filter(|(_, transfer)| transfer.from == From::Origin).take(self.fetches)
    }

    /// When to look for stalled ones next.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.first_deadline.filter(|_| !self.under_way.is_empty())
    }

    /// Those that are stalled. They are to be ended.
    pub(crate) fn overdue(&mut self, now: Time) -> Vec<TransferId> {
        if self.next_deadline().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let later = self.under_way.values().map(|transfer| transfer.deadline).filter(|at| *at > now);
        self.first_deadline = later.min();
        self.find(|transfer| transfer.deadline <= now)
    }
}
