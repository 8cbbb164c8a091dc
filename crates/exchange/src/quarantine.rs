//! Whose blocks of which release are not taken for now.
//!
//! Never for ever: honest machines with bad memory, full queues and slow disks exist. An offence that is repeated
//! costs twice as long each time. It outlives a reconnect.

use crate::{backoff::doubled, config::Timing, time::Time};
use branchmesh_wire::{IndexId, NodeId};
use std::{collections::BTreeMap, time::Duration};

/// Offences that are remembered; protects memory. When full, the one that is over first is forgotten.
const QUARANTINE_MAX: usize = 4096;
/// An offence is forgotten when its sentence is over for so many times its length.
const MEMORY_FACTOR: u32 = 4;

/// What a neighbour did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It sent bytes that are not the block.
    BadBlock,
    /// It claims blocks, and does not deliver.
    Stalled,
    /// It refuses to give the release to this node.
    Refused,
}

struct Entry {
    offence: Offence,
    times: u32,
    until: Time,
    sentence: Duration,
}

#[derive(Default)]
pub(crate) struct Quarantine {
    entries: BTreeMap<(NodeId, IndexId), Entry>,
}

impl Quarantine {
    /// Whether nothing of `release` is taken from `node` now.
    pub(crate) fn holds(&self, now: Time, node: NodeId, release: IndexId) -> bool {
        self.entries.get(&(node, release)).is_some_and(|entry| now < entry.until)
    }

    /// Punishes. Returns until when.
    pub(crate) fn add(
        &mut self,
        now: Time,
        node: NodeId,
        release: IndexId,
        offence: Offence,
        timing: &Timing,
    ) -> Time {
        self.forget(now);
        let (min, max) = match offence {
            Offence::BadBlock | Offence::Refused => (timing.quarantine_min, timing.quarantine_max),
            Offence::Stalled => (timing.distrust_min, timing.distrust_max),
        };
        let entry = self.entries.entry((node, release)).or_insert(Entry {
            offence,
            times: 0,
            until: now,
            sentence: Duration::ZERO,
        });
        let sentence = doubled(min, entry.times, max);
        entry.times += 1;
        if now + sentence >= entry.until {
            (entry.offence, entry.until, entry.sentence) = (offence, now + sentence, sentence);
        }
        entry.until
    }

    /// Those who are in quarantine now.
    pub(crate) fn current(&self, now: Time) -> impl Iterator<Item = (NodeId, IndexId, Offence, Time)> + '_ {
        let held = self.entries.iter().filter(move |(_, entry)| now < entry.until);
        held.map(|((node, release), entry)| (*node, *release, entry.offence, entry.until))
    }

    /// Sentences that ended after `since`, up to `now`.
    pub(crate) fn ended(&self, since: Time, now: Time) -> Vec<(NodeId, IndexId)> {
        let over = self.entries.iter().filter(|(_, entry)| since < entry.until && entry.until <= now);
        over.map(|(key, _)| *key).collect()
    }

    pub(crate) fn next_end(&self, now: Time) -> Option<Time> {
        self.entries.values().map(|entry| entry.until).filter(|until| *until > now).min()
    }

    fn forget(&mut self, now: Time) {
        self.entries.retain(|_, entry| now < entry.until + entry.sentence * MEMORY_FACTOR);
        while self.entries.len() >= QUARANTINE_MAX {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.until).map(|(key, _)| *key);
            let Some(first) = first else { return };
            self.entries.remove(&first);
        }
    }
}
