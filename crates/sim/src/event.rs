//! What will happen, and when. Things of one moment happen in the order in which they were planned.

use crate::{host::HostId, port::Parcel, wan::Stream};
use branchmesh_exchange::{Outcome, Time, TransferId};
use branchmesh_wire::{IndexId, NodeId, Note, Status};
use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

/// A life of a host: what was meant for an earlier one is lost.
pub(crate) type Life = (HostId, u32);

/// A connection, from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub from: HostId,
    pub to: HostId,
    /// Which connection of the two it is.
    pub number: u32,
}

pub(crate) enum Event {
    /// A host's exchange wanted to be woken.
    Timer(Life),
    /// The first host has found the second one, and connects to it unless it has connections enough.
    Found(HostId, HostId),
    /// Two hosts connect.
    Meet(HostId, HostId),
    /// The end `from` notices that a connection is gone.
    LinkDown(Link),
    /// Something arrives over a connection.
    Message(Link, Message),
    /// A status arrives by gossip.
    Gossip { from: HostId, to: HostId, status: Arc<Status> },
    /// A host's port has sent a block.
    Sent(Life, Parcel),
    /// A host's disk has written a block of a transfer.
    Written { host: Life, transfer: TransferId, release: IndexId, block: u32 },
    /// A transfer has ended, as far as the other side is concerned.
    Ended { host: Life, transfer: TransferId, outcome: Outcome },
    /// A fetch reaches the origin.
    Fetch(Stream),
    /// The site's line has carried a block of a fetch to its end.
    Crossed,
    /// An agent reads on from the site's line.
    ReadsOn,
    /// The origin's answer to a poll arrives.
    Polled(Life),
    /// A member's answer to a request for metadata arrives.
    Metadata { host: Life, from: NodeId },
    /// A host has got the index of a release.
    Index { host: Life, release: IndexId },
}

impl Event {
    /// The host that must be awake for it.
    pub fn host(&self) -> Option<HostId> {
        match self {
            Self::Timer((id, _))
            | Self::Sent((id, _), _)
            | Self::Polled((id, _))
            | Self::Written { host: (id, _), .. }
            | Self::Ended { host: (id, _), .. }
            | Self::Metadata { host: (id, _), .. }
            | Self::Index { host: (id, _), .. }
            | Self::LinkDown(Link { from: id, .. }) => Some(*id),
            Self::Found(..)
            | Self::Meet(..)
            | Self::Message(..)
            | Self::Gossip { .. }
            | Self::Fetch(_)
            | Self::Crossed
            | Self::ReadsOn => None,
        }
    }
}

/// What travels over a connection.
pub(crate) enum Message {
    Note(Note),
    Request { transfer: TransferId, release: IndexId, blocks: Vec<u32> },
    Cancel(TransferId),
    Block(Parcel),
}

/// What will happen, the next first.
#[derive(Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<Entry>>,
    /// Events are large, and a heap moves its entries about: they stay where they are until they happen.
    events: Vec<Option<Event>>,
    /// Where there is none.
    free: Vec<usize>,
    planned: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Time,
    number: u64,
    /// Which of the events it is.
    place: usize,
}

impl Queue {
    pub fn plan(&mut self, at: Time, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.planned += 1;
        self.order.push(Reverse(Entry { at, number: self.planned, place }));
    }

    pub fn next_at(&self) -> Option<Time> {
        self.order.peek().map(|Reverse(entry)| entry.at)
    }

    pub fn pop(&mut self) -> Option<(Time, Event)> {
        let Reverse(Entry { at, place, .. }) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take()?))
    }

    /// Events that were planned so far.
    pub fn planned(&self) -> u64 {
        self.planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_planned_for_one_moment_happens_in_the_order_of_the_plan() {
        let at = |ms| Time::after_start(Duration::from_millis(ms));
        let mut queue = Queue::default();
        for (number, ms) in [(0, 20), (1, 10), (2, 20), (3, 10), (4, 5)] {
            queue.plan(at(ms), Event::Timer((HostId(number), 0)));
        }
        assert_eq!(queue.next_at(), Some(at(5)));
        let popped = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event.host().unwrap().0);
        assert_eq!(popped.collect::<Vec<_>>(), [4, 1, 3, 0, 2]);
        assert_eq!(queue.planned(), 5);
    }
}
