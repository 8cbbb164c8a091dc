//! Whose blocks are not taken for now, and whose claims do not keep the WAN from being used.
//!
//! Never for ever: honest machines with bad memory, full queues and slow disks exist. A sentence that is served gives back
//! the first half of a neighbour's credit: it is asked again, one block at a time. The other half, that what it claims is as
//! good as held, it gets back with the next good block that it gives: otherwise one that always promises and never gives
//! would keep the site waiting again after each sentence. An offence that is repeated costs twice as long each time.
//! All this outlives a reconnect.

use crate::{availability::Credit, backoff::doubled, config::Timing, time::Time};
use branchmesh_wire::{IndexId, NodeId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Offences that are remembered; protects memory. When full, the one that is over first is forgotten.
const QUARANTINE_MAX: usize = 4096;
/// An offence is forgotten when its sentence is over for so many times its length.
const MEMORY_FACTOR: u32 = 4;
/// But not before that, if nothing good has come since.
const TRIAL_MEMORY: Duration = Duration::from_secs(3600);

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

/// What a sentence is about: one release, or all (`None`).
type Key = (NodeId, Option<IndexId>);

struct Entry {
    offence: Offence,
    times: u32,
    until: Time,
    sentence: Duration,
    /// It has given a good block since.
    is_proven: bool,
}

impl Entry {
    fn forgotten_at(&self) -> Time {
        let memory = self.sentence * MEMORY_FACTOR;
        self.until + if self.is_proven { memory } else { memory.max(TRIAL_MEMORY) }
    }
}

#[derive(Default)]
pub(crate) struct Quarantine {
    entries: BTreeMap<Key, Entry>,
    /// Whose offences were forgotten before their time.
    pardoned: BTreeSet<NodeId>,
}

impl Quarantine {
    /// What the claims of `node` about `release` are good for now.
    pub(crate) fn credit(&self, now: Time, node: NodeId, release: IndexId) -> Credit {
        let credit = |entry: &Entry| match (now < entry.until, entry.is_proven) {
            (true, _) => Credit::Nothing,
            (false, false) => Credit::Trial,
            (false, true) => Credit::Full,
        };
        self.about(node, release).map(credit).min().unwrap_or(Credit::Full)
    }

    /// Whether `node` will be of no use for `release` for long, because its blocks are bad or it refuses them.
    pub(crate) fn is_useless(&self, now: Time, node: NodeId, release: IndexId) -> bool {
        self.about(node, release).any(|entry| now < entry.until && entry.offence != Offence::Stalled)
    }

    /// Punishes, for what it did about `release`, or in general.
    pub(crate) fn add(
        &mut self,
        now: Time,
        node: NodeId,
        release: Option<IndexId>,
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
            is_proven: false,
        });
        let sentence = doubled(min, entry.times, max);
        entry.times += 1;
        entry.is_proven = false;
        if now + sentence >= entry.until {
            (entry.offence, entry.until, entry.sentence) = (offence, now + sentence, sentence);
        }
    }

    /// `node` gave a good block of `release`. Returns whether that changes its credit.
    pub(crate) fn redeem(&mut self, now: Time, node: NodeId, release: IndexId) -> bool {
        let mut changed = false;
        for key in [(node, None), (node, Some(release))] {
            if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.until <= now) {
                changed |= !std::mem::replace(&mut entry.is_proven, true);
            }
        }
        changed
    }

    /// Why nothing of `release` is taken from `node` now, and until when.
    pub(crate) fn sentence(&self, now: Time, node: NodeId, release: IndexId) -> Option<(Offence, Time)> {
        let served = self.about(node, release).filter(|entry| now < entry.until);
        served.max_by_key(|entry| entry.until).map(|entry| (entry.offence, entry.until))
    }

    /// Those whose credit has grown after `since`, up to `now`, because a sentence ended or was forgotten.
    pub(crate) fn ended(&mut self, since: Time, now: Time) -> BTreeSet<NodeId> {
        let over = self.entries.iter().filter(|(_, entry)| since < entry.until && entry.until <= now);
        let mut over: BTreeSet<NodeId> = over.map(|((node, _), _)| *node).collect();
        over.append(&mut self.pardoned);
        over
    }

    pub(crate) fn next_end(&self, now: Time) -> Option<Time> {
        self.entries.values().map(|entry| entry.until).filter(|until| *until > now).min()
    }

    fn about(&self, node: NodeId, release: IndexId) -> impl Iterator<Item = &Entry> {
        [(node, None), (node, Some(release))].into_iter().filter_map(|key| self.entries.get(&key))
    }

    fn forget(&mut self, now: Time) {
        let old = self.entries.iter().filter(|(_, entry)| entry.forgotten_at() <= now);
        let mut old: Vec<Key> = old.map(|(key, _)| *key).collect();
        if self.entries.len() - old.len() >= QUARANTINE_MAX {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            old.extend(first.map(|(key, _)| *key));
        }
        for key in old {
            self.entries.remove(&key);
            self.pardoned.insert(key.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const MS: Duration = Duration::from_millis(1);

    fn release() -> IndexId {
        IndexId::of(b"release")
    }

    #[test]
    fn sentences_double_end_and_are_forgotten() {
        let timing = Timing::default();
        let mut quarantine = Quarantine::default();
        let mut now = Time::ZERO;
        let mut sentence = timing.quarantine_min;
        for _ in 0..10 {
            quarantine.add(now, NODE, Some(release()), Offence::BadBlock, &timing);
            let end = now + sentence;
            assert!(quarantine.is_useless(now, NODE, release()));
            assert_eq!(quarantine.next_end(now), Some(end));
            assert!(quarantine.ended(now, end - Duration::from_secs(1)).is_empty());
            assert_eq!(quarantine.ended(now, end), BTreeSet::from([NODE]));
            assert!(!quarantine.is_useless(end, NODE, release()));
            now = end;
            sentence = (sentence * 2).min(timing.quarantine_max);
        }
        now = now + timing.quarantine_max * (MEMORY_FACTOR + 1);
        quarantine.add(now, NODE, Some(release()), Offence::BadBlock, &timing);
        assert_eq!(quarantine.next_end(now), Some(now + timing.quarantine_min), "old sins are forgotten");
    }

    /// The table of STATE.md, walked.
    #[test]
    fn credit_comes_back_in_two_steps() {
        let timing = Timing::default();
        let other = IndexId::of(b"another release");
        let mut quarantine = Quarantine::default();
        let credit = |quarantine: &Quarantine, now| {
            [release(), other].map(|release| quarantine.credit(now, NODE, release))
        };
        let now = Time::ZERO;
        assert_eq!(credit(&quarantine, now), [Credit::Full; 2]);
        quarantine.add(now, NODE, None, Offence::Stalled, &timing);
        quarantine.add(now, NODE, Some(other), Offence::BadBlock, &timing);
        assert_eq!(credit(&quarantine, now), [Credit::Nothing; 2]);
        assert!(!quarantine.redeem(now, NODE, release()), "it serves its sentence to the end");
        let now = now + timing.distrust_min;
        assert_eq!(credit(&quarantine, now), [Credit::Trial, Credit::Nothing]);
        // A minute without being asked for anything proves nothing.
        let now = now + timing.distrust_min * (MEMORY_FACTOR + 1);
        quarantine.forget(now);
        assert_eq!(credit(&quarantine, now), [Credit::Trial, Credit::Nothing]);
        assert!(quarantine.redeem(now, NODE, release()) && !quarantine.redeem(now, NODE, release()));
        assert_eq!(credit(&quarantine, now), [Credit::Full, Credit::Nothing]);
        let now = Time::ZERO + timing.quarantine_min;
        assert_eq!(credit(&quarantine, now), [Credit::Full, Credit::Trial]);
        assert!(!quarantine.redeem(now, NODE, release()), "the other release is another matter");
        assert!(quarantine.redeem(now, NODE, other));
        assert_eq!(credit(&quarantine, now), [Credit::Full; 2]);
    }

    #[test]
    fn who_stalls_again_waits_for_longer() {
        let timing = Timing::default();
        let mut quarantine = Quarantine::default();
        let mut now = Time::ZERO;
        for sentence in [1, 2, 4].map(|factor| timing.distrust_min * factor) {
            quarantine.add(now, NODE, None, Offence::Stalled, &timing);
            assert_eq!(quarantine.credit(now + sentence - MS, NODE, release()), Credit::Nothing);
            now = now + sentence;
            assert_eq!(quarantine.credit(now, NODE, release()), Credit::Trial);
        }
    }

    #[test]
    fn a_lesser_offence_does_not_shorten_a_sentence() {
        let timing = Timing::default();
        let mut quarantine = Quarantine::default();
        quarantine.add(Time::ZERO, NODE, Some(release()), Offence::BadBlock, &timing);
        quarantine.add(Time::ZERO, NODE, Some(release()), Offence::Stalled, &timing);
        quarantine.add(Time::ZERO, NODE, None, Offence::Stalled, &timing);
        let now = Time::ZERO + timing.quarantine_min / 2;
        assert!(quarantine.is_useless(now, NODE, release()));
        let until = Time::ZERO + timing.quarantine_min;
        assert_eq!(quarantine.sentence(now, NODE, release()), Some((Offence::BadBlock, until)));
    }

    #[test]
    fn memory_is_bounded_and_the_pardoned_are_named() {
        let timing = Timing::default();
        let mut quarantine = Quarantine::default();
        let node = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            NodeId(id)
        };
        for number in 0..QUARANTINE_MAX as u32 + 10 {
            let now = Time::after_start(Duration::from_millis(number.into()));
            quarantine.add(now, node(number), Some(release()), Offence::BadBlock, &timing);
        }
        assert_eq!(quarantine.entries.len(), QUARANTINE_MAX);
        let now = Time::after_start(Duration::from_secs(10));
        assert_eq!(quarantine.ended(now, now), (0..10).map(node).collect());
        assert!(quarantine.ended(now, now).is_empty());
    }
}
