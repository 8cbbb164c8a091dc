//! What carries bytes in the world: the LAN ports of the nodes, and the WAN, which all nodes of the world share.

use branchmesh_exchange::{Time, TransferId};
use branchmesh_wire::{IndexId, NodeId};
use std::{collections::VecDeque, time::Duration};

/// One direction of a link: bytes leave it one after the other.
#[derive(Clone, Copy, Default)]
pub struct Port {
    free_at: Time,
}

impl Port {
    /// When `bytes` that are ready at `ready` have passed.
    pub fn pass(&mut self, ready: Time, bytes: u64, rate: u64) -> Time {
        self.free_at = self.free_at.max(ready) + duration(bytes, rate);
        self.free_at
    }
}

/// What one fetch still has to bring.
pub struct Stream {
    pub node: NodeId,
    pub epoch: u32,
    pub transfer: TransferId,
    pub release: IndexId,
    pub blocks: VecDeque<u32>,
}

/// The thin link: its streams take turns, a block each.
#[derive(Default)]
pub struct Wan {
    pub streams: VecDeque<Stream>,
    pub busy: bool,
}

impl Wan {
    /// The next block to send; its stream goes to the end of the queue.
    pub fn next(&mut self) -> Option<(NodeId, u32, TransferId, IndexId, u32, bool)> {
        let mut stream = self.streams.pop_front()?;
        let block = stream.blocks.pop_front()?;
        let last = stream.blocks.is_empty();
        let sent = (stream.node, stream.epoch, stream.transfer, stream.release, block, last);
        if !last {
            self.streams.push_back(stream);
        }
        Some(sent)
    }

    /// A fetch is not wanted any more.
    pub fn cancel(&mut self, node: NodeId, transfer: Option<TransferId>) {
        self.streams.retain(|stream| {
            stream.node != node || transfer.is_some_and(|transfer| stream.transfer != transfer)
        });
    }
}

pub fn duration(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / rate.max(1))
}
