//! Which bytes of which packs are here, in memory.
//!
//! A byte of a pack is in one of three states:
//!
//! * **absent**;
//! * **fresh**: written, and readable in this process, but not yet synced and recorded;
//! * **kept**: synced and recorded in the ledger.
//!
//! `packs` holds fresh and kept bytes, `fresh` the fresh ones. The state changes by the methods below, named after
//! what happened. All of them except [`arrived`](Presence::arrived) are called by whoever holds the store's commit
//! turn, so that a commit never races with another change of what it is about to record.

use crate::{
    disk::DiskFile,
    extents::{EXTENTS_MAX, Extents},
};
use branchmesh_image::{Location, PackId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What is present.
#[derive(Default)]
pub(crate) struct Presence {
    packs: HashMap<PackId, Extents>,
    fresh: BTreeMap<PackId, Fresh>,
    /// Packs whose record in the ledger claims other bytes than are kept.
    stale: BTreeSet<PackId>,
    /// Raised whenever bytes are forgotten: a write that was under way at that moment must not be believed.
    epoch: u64,
}

/// The fresh bytes of one pack, and a handle that stays open until they are synced: the system reports a failed
/// write-back only to those who had the file open.
pub(crate) struct Fresh {
    pub(crate) extents: Extents,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Nothing of the pack was here before: its name has to be synced too.
    pub(crate) is_new: bool,
}

/// What became of a written block.
pub(crate) enum Arrival {
    /// It is present; so many packs have fresh bytes.
    Fresh { packs: usize },
    /// Something was forgotten while it was written: it has to be written again.
    Overtaken,
    /// The pack would get more ranges than are kept.
    TooManyHoles,
}

impl Presence {
    /// What the ledger said at start.
    pub(crate) fn load(kept: impl IntoIterator<Item = (PackId, Extents)>) -> Self {
        Self { packs: kept.into_iter().collect(), ..Self::default() }
    }

    /// Whether a block is here. The location must lie inside a pack.
    pub(crate) fn has(&self, at: &Location) -> bool {
        self.packs.get(&at.pack).is_some_and(|extents| extents.contains(&at.range()))
    }

    /// What is present, by pack.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PackId, &Extents)> {
        self.packs.iter().map(|(pack, extents)| (*pack, extents))
    }

    /// Present bytes of all packs.
    pub(crate) fn bytes(&self) -> u64 {
        self.packs.values().map(Extents::bytes).sum()
    }

    /// Fresh bytes of all packs.
    pub(crate) fn fresh_bytes(&self) -> u64 {
        self.fresh.values().map(|fresh| fresh.extents.bytes()).sum()
    }

    /// The packs of which something is present.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.packs.keys()
    }

    /// To be asked before a write and given to [`arrived`](Self::arrived) after it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A block was written to `file`; the write began in `epoch`.
    pub(crate) fn arrived(&mut self, at: &Location, file: &Arc<dyn DiskFile>, epoch: u64) -> Arrival {
        if epoch != self.epoch {
            return Arrival::Overtaken;
        }
        let present = self.packs.entry(at.pack).or_default();
        let is_new = present.is_empty();
        present.insert(&at.range());
        // Only a range that touches no other raises the count, so that taking it out takes nothing else.
        if present.range_count() > EXTENTS_MAX {
            present.remove(&at.range());
            return Arrival::TooManyHoles;
        }
        let fresh = self.fresh.entry(at.pack).or_insert_with(|| Fresh {
            extents: Extents::default(),
            file: Arc::clone(file),
            is_new,
        });
        fresh.extents.insert(&at.range());
        Arrival::Fresh { packs: self.fresh.len() }
    }

    /// A commit begins: what is fresh now is in its hands. It stays readable.
    pub(crate) fn commit_began(&mut self) -> BTreeMap<PackId, Fresh> {
        std::mem::take(&mut self.fresh)
    }

    /// The data of these packs is synced: the ledger may claim what is present of them.
    pub(crate) fn synced(&mut self, batch: &BTreeMap<PackId, Fresh>) {
        self.stale.extend(batch.keys());
    }

    /// What the ledger should say of the packs about which it says something else.
    pub(crate) fn to_record(&self) -> Vec<(PackId, Extents)> {
        self.stale.iter().map(|pack| (*pack, self.kept(pack))).collect()
    }

    /// The ledger took [`to_record`](Self::to_record).
    pub(crate) fn recorded(&mut self) {
        self.stale.clear();
    }

    /// The ledger did not take the claims of a commit: its blocks are fresh as before.
    pub(crate) fn commit_failed(&mut self, batch: BTreeMap<PackId, Fresh>) {
        for (pack, mut older) in batch {
            if let Some(newer) = self.fresh.remove(&pack) {
                older.extents.insert_all(&newer.extents);
            }
            self.fresh.insert(pack, older);
        }
    }

    /// Writing or syncing a pack failed: nothing of it is believed that was not kept before.
    pub(crate) fn pack_failed(&mut self, pack: &PackId, syncing: Option<&Extents>) {
        let fresh = self.fresh.remove(pack);
        if let Some(present) = self.packs.get_mut(pack) {
            fresh.iter().for_each(|fresh| present.remove_all(&fresh.extents));
            syncing.iter().for_each(|syncing| present.remove_all(syncing));
        }
        self.forgot(*pack);
    }

    /// These bytes are not what they should be, or not wanted any more.
    pub(crate) fn forget(&mut self, at: &Location) {
        if let Some(fresh) = self.fresh.get_mut(&at.pack) {
            fresh.extents.remove(&at.range());
        }
        if let Some(present) = self.packs.get_mut(&at.pack) {
            present.remove(&at.range());
        }
        self.forgot(at.pack);
    }

    /// None of these bytes of a pack is wanted any more.
    pub(crate) fn forget_all(&mut self, pack: &PackId, bytes: &Extents) {
        if let Some(fresh) = self.fresh.get_mut(pack) {
            fresh.extents.remove_all(bytes);
        }
        if let Some(present) = self.packs.get_mut(pack) {
            present.remove_all(bytes);
        }
        self.forgot(*pack);
    }

    /// What is present of a pack.
    pub(crate) fn pack(&self, pack: &PackId) -> Extents {
        self.packs.get(pack).cloned().unwrap_or_default()
    }

    /// Nothing of a pack is wanted any more. Gives the bytes that were present.
    pub(crate) fn forget_pack(&mut self, pack: &PackId) -> u64 {
        self.fresh.remove(pack);
        let bytes = self.packs.remove(pack).map_or(0, |extents| extents.bytes());
        self.forgot(*pack);
        bytes
    }

    /// Present, and not fresh.
    fn kept(&self, pack: &PackId) -> Extents {
        let mut kept = self.packs.get(pack).cloned().unwrap_or_default();
        self.fresh.get(pack).iter().for_each(|fresh| kept.remove_all(&fresh.extents));
        kept
    }

    fn forgot(&mut self, pack: PackId) {
        self.stale.insert(pack);
        self.epoch += 1;
        if self.packs.get(&pack).is_some_and(Extents::is_empty) {
            self.packs.remove(&pack);
        }
        if self.fresh.get(&pack).is_some_and(|fresh| fresh.extents.is_empty()) {
            self.fresh.remove(&pack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<dyn DiskFile> {
        Arc::new(tempfile::tempfile().unwrap())
    }

    fn at(offset: u32, len: u32) -> Location {
        Location { pack: PackId::of(b"pack"), offset, len }
    }

    #[test]
    fn a_pack_with_too_many_holes_takes_only_blocks_that_fill_them() {
        let mut extents = Extents::default();
        (0..EXTENTS_MAX as u32).for_each(|number| extents.insert(&(number * 4..number * 4 + 2)));
        let mut presence = Presence::load([(PackId::of(b"pack"), extents)]);
        let bytes = presence.bytes();
        let beyond = at(EXTENTS_MAX as u32 * 4, 2);
        assert!(matches!(presence.arrived(&beyond, &file(), 0), Arrival::TooManyHoles));
        assert!(!presence.has(&beyond));
        assert_eq!((presence.bytes(), presence.fresh_bytes()), (bytes, 0));
        assert!(matches!(presence.arrived(&at(2, 2), &file(), 0), Arrival::Fresh { packs: 1 }));
        assert!(matches!(presence.arrived(&beyond, &file(), 0), Arrival::Fresh { packs: 1 }));
    }

    #[test]
    fn fresh_bytes_are_present_and_not_recorded_until_they_are_synced() {
        let pack = PackId::of(b"pack");
        let mut presence = Presence::default();
        presence.arrived(&at(0, 10), &file(), 0);
        let batch = presence.commit_began();
        presence.arrived(&at(10, 10), &file(), 0);
        assert!(presence.has(&at(0, 20)) && presence.to_record().is_empty());
        presence.synced(&batch);
        let mut first = Extents::default();
        first.insert(&(0..10));
        assert_eq!(presence.to_record(), [(pack, first)]);
        presence.commit_failed(batch);
        assert_eq!(presence.to_record(), [(pack, Extents::default())]);
        assert_eq!(presence.fresh_bytes(), 20);
    }

    #[test]
    fn what_is_forgotten_takes_back_its_claim_and_overtakes_writes() {
        let mut presence = Presence::default();
        let epoch = presence.epoch();
        presence.arrived(&at(0, 10), &file(), epoch);
        presence.forget(&at(0, 10));
        assert_eq!((presence.bytes(), presence.fresh_bytes(), presence.packs().count()), (0, 0, 0));
        assert_eq!(presence.to_record(), [(PackId::of(b"pack"), Extents::default())]);
        assert!(matches!(presence.arrived(&at(0, 10), &file(), epoch), Arrival::Overtaken));
        presence.recorded();
        assert!(presence.to_record().is_empty());
    }
}
