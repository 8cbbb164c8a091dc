//! A host's port: bytes pass one after the other, and blocks of different peers take turns.

use crate::{event::Link, host::HostId};
use branchmesh_exchange::{Time, TransferId};
use branchmesh_wire::IndexId;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// One direction of a link, or a disk: bytes pass one after the other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Port {
    free_at: Time,
}

impl Port {
    /// When everything that was to pass has passed.
    pub fn free_at(&self) -> Time {
        self.free_at
    }

    /// When `bytes` that are ready at `ready` have passed.
    pub fn pass(&mut self, ready: Time, bytes: u64, rate: u64) -> Time {
        self.free_at = self.free_at.max(ready) + duration(bytes, rate);
        self.free_at
    }
}

/// What a block in an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The block.
    Good,
    /// Other bytes.
    Bad,
    /// The word that it is not there.
    Missing,
}

/// A block on its way to who asked for it.
pub(crate) struct Parcel {
    pub link: Link,
    pub transfer: TransferId,
    pub release: IndexId,
    pub block: u32,
    pub content: Content,
    pub bytes: u64,
    /// Whether it is the last of its transfer.
    pub is_last: bool,
}

/// What a host's port has to send: the peers take turns, a block each.
#[derive(Default)]
pub(crate) struct Uplink {
    lanes: BTreeMap<HostId, VecDeque<Parcel>>,
    last: Option<HostId>,
    /// Whether a block is leaving.
    pub is_busy: bool,
}

impl Uplink {
    /// Puts a block at the end of its peer's lane.
    pub fn push(&mut self, parcel: Parcel) {
        self.lanes.entry(parcel.link.to).or_default().push_back(parcel);
    }

    /// Takes the next block, of the peer whose turn it is.
    pub fn next(&mut self) -> Option<Parcel> {
        let after = self.last.and_then(|last| self.lanes.range(HostId(last.0 + 1)..).next());
        let to = *after.or_else(|| self.lanes.iter().next())?.0;
        let lane = self.lanes.get_mut(&to)?;
        let parcel = lane.pop_front();
        if lane.is_empty() {
            self.lanes.remove(&to);
        }
        self.last = Some(to);
        parcel
    }

    /// What waits for a peer, of one transfer or of all, is not sent.
    pub fn cancel(&mut self, to: HostId, transfer: Option<TransferId>) {
        if let Some(lane) = self.lanes.get_mut(&to) {
            lane.retain(|parcel| transfer.is_some_and(|transfer| parcel.transfer != transfer));
            if lane.is_empty() {
                self.lanes.remove(&to);
            }
        }
    }

    /// What waits, peer by peer.
    #[cfg(test)]
    pub fn waiting(&self) -> impl Iterator<Item = &Parcel> {
        self.lanes.values().flatten()
    }
}

/// How long `bytes` take at `rate` bytes a second.
pub(crate) fn duration(bytes: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_passes_bytes_at_its_rate_one_after_the_other() {
        let at = |ms| Time::after_start(Duration::from_millis(ms));
        let mut port = Port::default();
        assert_eq!(port.pass(at(0), 1000, 1000), at(1000));
        assert_eq!(port.pass(at(500), 500, 1000), at(1500), "it waits for those before it");
        assert_eq!(port.pass(at(9000), 500, 1000), at(9500), "an idle port saves nothing up");
        assert_eq!(duration(1, 3), Duration::from_nanos(333_333_333));
    }

    #[test]
    fn peers_take_turns_at_a_port() {
        let mut uplink = Uplink::default();
        let parcel = |to: u32, block: u32| Parcel {
            link: Link { from: HostId(9), to: HostId(to), number: 1 },
            transfer: TransferId(u64::from(block % 2)),
            release: IndexId::of(b""),
            block,
            content: Content::Good,
            bytes: 1,
            is_last: false,
        };
        for (to, block) in [(1, 0), (1, 1), (1, 2), (2, 3), (3, 4), (3, 5)] {
            uplink.push(parcel(to, block));
        }
        uplink.cancel(HostId(3), Some(TransferId(0)));
        let sent = std::iter::from_fn(|| uplink.next()).map(|parcel| parcel.block);
        assert_eq!(sent.collect::<Vec<_>>(), [0, 3, 5, 1, 2]);
    }
}
