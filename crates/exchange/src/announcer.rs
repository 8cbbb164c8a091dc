//! Telling the neighbours what this node holds of one release, and how much of theirs is listened to.
//!
//! A neighbour gets the full have-map when the connection stands, when this node learns of the release, and once in
//! answer to its own first map (it may have learned of the release only after ours went out). Changes follow in
//! batches, which go out sooner if they name something rare.

use crate::{config::Timing, time::Time};
use branchmesh_wire::{BlockSet, IndexId, NodeId, Note, Runs};
use std::collections::{BTreeMap, BTreeSet};

/// Full have-maps that a neighbour may send at once; each costs as much work as the release has blocks. An honest
/// one sends at most one per [`Timing::have_map_gap`], and three around a connection.
const MAPS_BURST: u32 = 8;

#[derive(Default)]
pub(crate) struct Announcer {
    /// Blocks that the neighbours have not been told of, and when they will be.
    gained: Vec<u32>,
    due: Option<Time>,
    /// Neighbours that are to get the full map.
    owed: BTreeSet<NodeId>,
    partners: BTreeMap<NodeId, Partner>,
}

#[derive(Default)]
struct Partner {
    /// When it last got the full map.
    told: Option<Time>,
    /// Maps that it may still send, and when that was last raised.
    maps: u32,
    raised: Time,
    /// Blocks that it claimed again.
    repeated: u64,
}

impl Announcer {
    /// `block` is here, which so many neighbours hold already.
    pub(crate) fn gained(&mut self, now: Time, block: u32, holders: u16, neighbours: usize, timing: &Timing) {
        let at = now + timing.gained_batch(holders, neighbours);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        self.gained.push(block);
    }

    pub(crate) fn owe(&mut self, node: NodeId) {
        self.owed.insert(node);
    }

    /// `node` has just learned of the release: what it was told before it could not use.
    pub(crate) fn answer(&mut self, node: NodeId) {
        if let Some(partner) = self.partners.get_mut(&node) {
            partner.told = None;
        }
        self.owe(node);
    }

    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.owed.remove(node);
        self.partners.remove(node);
    }

    /// Whether one more map of `node` is listened to.
    pub(crate) fn admit_map(&mut self, now: Time, node: NodeId, timing: &Timing) -> bool {
        let fresh = || Partner { maps: MAPS_BURST, raised: now, ..Partner::default() };
        let partner = self.partners.entry(node).or_insert_with(fresh);
        let gap = (timing.have_map_gap / 2).as_nanos().max(1);
        let earned = u32::try_from(now.since(partner.raised).as_nanos() / gap).unwrap_or(u32::MAX);
        if earned > 0 {
            partner.raised = now;
            partner.maps = partner.maps.saturating_add(earned).min(MAPS_BURST);
        }
        let admitted = partner.maps > 0;
        partner.maps = partner.maps.saturating_sub(1);
        partner.repeated = 0;
        admitted
    }

    /// `node` claimed so many blocks again that it had claimed before. Returns whether that is still normal.
    pub(crate) fn admit_repeated(&mut self, node: NodeId, blocks: u64, release_blocks: u32) -> bool {
        let partner = self.partners.entry(node).or_default();
        partner.repeated = partner.repeated.saturating_add(blocks);
        partner.repeated <= 2 * u64::from(release_blocks)
    }

    /// When something is due.
    pub(crate) fn due(&self, timing: &Timing) -> Option<Time> {
        let owed = self.owed.iter().map(|node| self.owed_at(node, timing)).min();
        self.due.into_iter().chain(owed).min()
    }

    /// The batch goes out at the next flush, whatever its age.
    pub(crate) fn hurry(&mut self) {
        if self.due.is_some() {
            self.due = Some(Time::ZERO);
        }
    }

    /// Notes that are due. `listeners` are the neighbours that know the release.
    pub(crate) fn flush(
        &mut self,
        now: Time,
        release: IndexId,
        held: &BlockSet,
        listeners: impl Iterator<Item = NodeId>,
        timing: &Timing,
    ) -> Vec<(NodeId, Note)> {
        let due: Vec<NodeId> =
            self.owed.iter().filter(|node| self.owed_at(node, timing) <= now).copied().collect();
        let mut notes = Vec::new();
        for node in &due {
            self.owed.remove(node);
            let fresh = || Partner { maps: MAPS_BURST, raised: now, ..Partner::default() };
            self.partners.entry(*node).or_insert_with(fresh).told = Some(now);
            notes.push((*node, Note::Have { release, blocks: held.clone() }));
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let mut gained = std::mem::take(&mut self.gained);
            gained.sort_unstable();
            let batches = Runs::pack(gained.into_iter().filter(|block| held.contains(*block)));
            for node in listeners.filter(|node| !due.contains(node)) {
                let gained = batches.iter().map(|blocks| Note::Gained { release, blocks: blocks.clone() });
                notes.extend(gained.map(|note| (node, note)));
            }
        }
        notes
    }

    fn owed_at(&self, node: &NodeId, timing: &Timing) -> Time {
        let told = self.partners.get(node).and_then(|partner| partner.told);
        told.map_or(Time::ZERO, |at| at + timing.have_map_gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Time {
        Time::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn changes_go_out_in_batches_to_those_who_listen() {
        let timing = Timing::default();
        let (release, node) = (IndexId::of(b""), NodeId([1; 32]));
        let held = BlockSet::full(9);
        let mut announcer = Announcer::default();
        assert_eq!(announcer.due(&timing), None);
        announcer.gained(at(100), 4, 0, 1, &timing);
        announcer.gained(at(120), 3, 0, 1, &timing);
        assert_eq!(announcer.due(&timing), Some(at(150)));
        assert!(announcer.flush(at(149), release, &held, [node].into_iter(), &timing).is_empty());
        let blocks = Runs::pack(3..5).remove(0);
        let notes = announcer.flush(at(150), release, &held, [node].into_iter(), &timing);
        assert_eq!(notes, [(node, Note::Gained { release, blocks })]);
        assert_eq!(announcer.due(&timing), None);
    }

    #[test]
    fn a_large_neighbourhood_hears_of_rare_blocks_sooner_than_of_common_ones() {
        let timing = Timing::default();
        let mut announcer = Announcer::default();
        announcer.gained(at(1000), 1, 60, 64, &timing);
        assert_eq!(announcer.due(&timing), Some(at(1200)));
        announcer.gained(at(1001), 2, 1, 64, &timing);
        let soon = announcer.due(&timing).unwrap();
        assert!(at(1010) < soon && soon < at(1020), "{soon:?}");
        announcer.gained(at(1002), 3, 60, 64, &timing);
        assert_eq!(announcer.due(&timing), Some(soon), "all go out together");
    }

    #[test]
    fn full_maps_are_spaced_and_spare_the_batch() {
        let timing = Timing::default();
        let (release, node) = (IndexId::of(b""), NodeId([1; 32]));
        let held = BlockSet::full(9);
        let full = [(node, Note::Have { release, blocks: held.clone() })];
        let mut announcer = Announcer::default();
        announcer.owe(node);
        announcer.gained(at(0), 1, 0, 1, &timing);
        assert_eq!(announcer.flush(at(50), release, &held, [node].into_iter(), &timing), full);
        announcer.owe(node);
        assert_eq!(announcer.due(&timing), Some(at(1050)));
        assert!(announcer.flush(at(1049), release, &held, [node].into_iter(), &timing).is_empty());
        assert_eq!(announcer.flush(at(1050), release, &held, [node].into_iter(), &timing), full);
    }

    #[test]
    fn floods_are_told_from_honest_talk() {
        let timing = Timing::default();
        let node = NodeId([1; 32]);
        let mut announcer = Announcer::default();
        let admitted = (0..100).filter(|_| announcer.admit_map(at(0), node, &timing)).count();
        assert_eq!(admitted, MAPS_BURST as usize);
        // An honest node's rate is always admitted.
        assert!((1..100).all(|second| announcer.admit_map(at(second * 1000), node, &timing)));
        assert!(announcer.admit_repeated(node, 20, 10));
        assert!(!announcer.admit_repeated(node, 1, 10));
    }
}
