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
    /// Sentences that were forgotten before their end.
    pardoned: Vec<(NodeId, IndexId)>,
}

impl Quarantine {
    /// Whether nothing of `release` is taken from `node` now.
    pub(crate) fn holds(&self, now: Time, node: NodeId, release: IndexId) -> bool {
        self.entries.get(&(node, release)).is_some_and(|entry| now < entry.until)
    }

    /// Whether `node` will be of no use for `release` for long, because its blocks are bad or it refuses them.
    pub(crate) fn is_useless(&self, now: Time, node: NodeId, release: IndexId) -> bool {
        let entry = self.entries.get(&(node, release)).filter(|entry| now < entry.until);
        entry.is_some_and(|entry| entry.offence != Offence::Stalled)
    }

    /// Punishes.
    pub(crate) fn add(
        &mut self,
        now: Time,
        node: NodeId,
        release: IndexId,
        offence: Offence,
        timing: &Timing,
    ) {
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
    }

    /// Those who are in quarantine now.
    pub(crate) fn current(&self, now: Time) -> impl Iterator<Item = (NodeId, IndexId, Offence, Time)> + '_ {
        let held = self.entries.iter().filter(move |(_, entry)| now < entry.until);
        held.map(|((node, release), entry)| (*node, *release, entry.offence, entry.until))
    }

    /// Sentences that ended after `since`, up to `now`.
    pub(crate) fn ended(&mut self, since: Time, now: Time) -> Vec<(NodeId, IndexId)> {
        let over = self.entries.iter().filter(|(_, entry)| since < entry.until && entry.until <= now);
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        self.pardoned.drain(..).filter(|key| !self.entries.contains_key(key)).chain(over).collect()
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
            self.pardoned.push(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_double_end_and_are_forgotten() {
        let timing = Timing::default();
        let (node, release) = (NodeId([1; 32]), IndexId::of(b"release"));
        let mut quarantine = Quarantine::default();
        let mut now = Time::ZERO;
        let mut sentence = timing.quarantine_min;
        for _ in 0..10 {
            quarantine.add(now, node, release, Offence::BadBlock, &timing);
            let end = now + sentence;
            assert!(quarantine.is_useless(now, node, release));
            assert_eq!(quarantine.next_end(now), Some(end));
            assert!(quarantine.ended(now, end - Duration::from_secs(1)).is_empty());
            assert_eq!(quarantine.ended(now, end), [(node, release)]);
            assert!(!quarantine.holds(end, node, release));
            now = end;
            sentence = (sentence * 2).min(timing.quarantine_max);
        }
        now = now + timing.quarantine_max * (MEMORY_FACTOR + 1);
        quarantine.add(now, node, release, Offence::BadBlock, &timing);
        assert_eq!(quarantine.next_end(now), Some(now + timing.quarantine_min), "old sins are forgotten");
    }

    #[test]
    fn a_lesser_offence_does_not_shorten_a_sentence() {
        let timing = Timing::default();
        let (node, release) = (NodeId([1; 32]), IndexId::of(b"release"));
        let mut quarantine = Quarantine::default();
        quarantine.add(Time::ZERO, node, release, Offence::BadBlock, &timing);
        quarantine.add(Time::ZERO, node, release, Offence::Stalled, &timing);
        assert!(quarantine.is_useless(Time::ZERO + timing.quarantine_min / 2, node, release));
    }

    #[test]
    fn memory_is_bounded_and_the_pardoned_are_named() {
        let timing = Timing::default();
        let mut quarantine = Quarantine::default();
        for number in 0..QUARANTINE_MAX as u32 + 10 {
            let release = IndexId::of(&number.to_le_bytes());
            let now = Time::after_start(Duration::from_millis(number.into()));
            quarantine.add(now, NodeId([1; 32]), release, Offence::BadBlock, &timing);
        }
        assert_eq!(quarantine.entries.len(), QUARANTINE_MAX);
        let now = Time::after_start(Duration::from_secs(10));
        assert_eq!(quarantine.ended(now, now).len(), 10);
        assert!(quarantine.ended(now, now).is_empty());
    }
}
