//! What an agent does with its store, from nothing to the second release, and what the store has promised it by then.

use super::{
    decision::Decision,
    harvesting::Harvesting,
    node::Node,
    on_disk::{files_below, is_there_whole, list, path},
    rot::Rot,
    world::{IMAGE, Release},
};
use crate::{
    assemble::AssembleError, error::StoreError, releases::ReleaseRecord, simulated_disk::SimulatedDisk,
    store::Store,
};
use branchmesh_image::{BlockId, Cipher, Location, PackId};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

/// Blocks between two commits.
pub(super) const BATCH: usize = 3;
/// How often an assembly that lacks blocks is begun again.
const ROUNDS_MAX: usize = 3;

/// A rollout of two releases, and what may be expected of the store by now.
#[derive(Clone)]
pub(super) struct Rollout<'a> {
    old: &'a Release,
    new: &'a Release,
    /// Blocks that were committed and not let go.
    durable: BTreeSet<Place>,
    /// Index parts that were committed and not let go.
    durable_parts: BTreeSet<BlockId>,
    /// Releases that were recorded as complete and not let go.
    complete: BTreeSet<&'static str>,
    /// What `current` may say.
    active: BTreeSet<Option<&'static str>>,
    /// Whether the old release was let go for good.
    is_old_gone: bool,
    harvesting: Harvesting,
    decision: Decision,
    rot: Rot,
    /// How many blocks were fetched, each counted as often as it was.
    pub fetched: usize,
}

/// Where a block lies.
pub(super) type Place = (PackId, u32);

impl<'a> Rollout<'a> {
    pub(super) fn new([old, new]: &'a [Release; 2]) -> Self {
        Self {
            old,
            new,
            durable: BTreeSet::new(),
            durable_parts: BTreeSet::new(),
            complete: BTreeSet::new(),
            active: BTreeSet::from([None]),
            is_old_gone: false,
            harvesting: Harvesting::default(),
            decision: Decision::for_release(new),
            rot: Rot::of_release(new),
            fetched: 0,
        }
    }

    /// How many blocks are fetched if nothing goes wrong: all that lie in no file of the machine, and one that rots.
    pub(super) fn to_fetch(&self) -> usize {
        let places: BTreeSet<Place> = self.placed().map(place).collect();
        places.len() - self.new.at_hand.blocks().len() + 1
    }

    /// Goes on from whatever is there to the end: the new release is active, the old one is gone, nothing is rotten.
    pub(super) fn go_on(&mut self, node: &Node) -> Result<(), AssembleError> {
        if node.current(IMAGE)?.is_none() {
            self.fetch(node, self.old)?;
            self.activate(node, self.old)?;
        }
        self.decision.make(node)?;
        if node.current(IMAGE)?.as_deref() != Some(self.new.name) {
            self.fetch(node, self.new)?;
            self.activate(node, self.new)?;
        }
        self.let_go_of_the_old(node)?;
        Ok(self.scrub(node)?)
    }

    fn fetch(&mut self, node: &Node, release: &Release) -> Result<(), AssembleError> {
        for part in &release.parts {
            if node.part(part.id())?.is_none() {
                node.put_part(part)?;
            }
        }
        if !node.releases()?.iter().any(|record| record.release == release.name) {
            node.put_release(&record(release, false))?;
        }
        let mut assembly = node.begin_assembly(Arc::clone(&release.index), Cipher::None)?;
        // Never more blocks at a time than one thread writes: operations keep their order.
        assembly.advance()?;
        if !release.at_hand.blocks().is_empty() {
            self.harvesting.take(node, release)?;
            self.commit(node)?;
            assembly.advance()?;
        }
        for _ in 0..ROUNDS_MAX {
            let mut batch = 0;
            for (at, block) in &release.blocks {
                if node.has(at) {
                    continue;
                }
                self.fetched += 1;
                node.write(at, block)?;
                batch += 1;
                if batch % BATCH == 0 {
                    self.commit(node)?;
                    assembly.advance()?;
                }
            }
            self.commit(node)?;
            match assembly.finish(&|_| ()) {
                Err(AssembleError::Missing { .. }) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    node.put_release(&record(release, true))?;
                    self.complete.insert(release.name);
                    return Ok(());
                }
            }
        }
        panic!("{} still lacks blocks that were written and committed", release.name);
    }

    fn commit(&mut self, store: &Store) -> Result<(), StoreError> {
        store.commit()?;
        let present = self.placed().filter(|at| store.has(at)).map(place).collect::<BTreeSet<_>>();
        self.durable.extend(present);
        for part in self.old.parts.iter().chain(&self.new.parts) {
            if store.part(part.id())?.is_some() {
                self.durable_parts.insert(*part.id());
            }
        }
        Ok(())
    }

    fn activate(&mut self, store: &Store, release: &Release) -> Result<(), StoreError> {
        self.active.insert(Some(release.name));
        store.activate(IMAGE, release.name)?;
        self.active = BTreeSet::from([Some(release.name)]);
        Ok(())
    }

    fn let_go_of_the_old(&mut self, store: &Store) -> Result<(), StoreError> {
        let (packs, parts) = (self.new.packs(), self.new.part_ids());
        self.complete.remove(self.old.name);
        let live: BTreeSet<Place> = self.new.blocks.iter().map(|(at, _)| place(at)).collect();
        self.durable.retain(|place| live.contains(place));
        self.durable_parts.retain(|part| parts.contains(part));
        store.retire(IMAGE, self.old.name)?;
        self.is_old_gone = true;
        store.drop_unreferenced(&packs)?;
        store.free_dead_blocks(&self.new.blocks.iter().map(|(at, _)| *at).collect())?;
        store.drop_unreferenced_parts(&parts)
    }

    fn scrub(&mut self, node: &Node) -> Result<(), StoreError> {
        if node.scrub_state()?.finished {
            return Ok(());
        }
        self.rot.scrub(node, self.new)?;
        for (at, block) in self.new.blocks.iter().filter(|(at, _)| !node.has(at)) {
            self.fetched += 1;
            node.write(at, block)?;
        }
        self.commit(node)?;
        self.rot.is_replaced(node)
    }

    /// Whether the store keeps its promises in this process.
    pub(super) fn expect_honest(&self, store: &Store) {
        let blocks = self.old.blocks.iter().chain(&self.new.blocks);
        blocks.filter(|(at, _)| store.has(at)).for_each(|block| self.rot.expect_readable(store, block));
    }

    /// Whether the store that a new process has opened keeps the promises that were made to the one before.
    pub(super) fn expect_kept(&self, disk: &SimulatedDisk, store: &Store) {
        self.expect_honest(store);
        self.decision.expect_kept(store);
        self.rot.expect_kept(store);
        for at in self.placed() {
            let is_owed = self.durable.contains(&place(at)) && !self.rot.is_over(at);
            assert!(!is_owed || store.has(at), "a committed block is gone: {at:?}");
        }
        for part in self.old.parts.iter().chain(&self.new.parts) {
            let found = store.part(part.id()).unwrap();
            assert!(
                found.is_some() || !self.durable_parts.contains(part.id()),
                "a committed index part is gone"
            );
        }
        let current = store.current(IMAGE).unwrap();
        assert!(
            self.active.contains(&current.as_deref()),
            "current names {current:?}, not {:?}",
            self.active
        );
        let records = store.releases().unwrap();
        for release in [self.old, self.new] {
            let is_there = is_there_whole(disk, release);
            let is_recorded = records.iter().any(|found| *found == record(release, true));
            let is_complete = self.complete.contains(release.name);
            assert!(is_recorded || !is_complete, "the record of {} is gone", release.name);
            assert!(is_there || !is_complete, "the files of {} are gone", release.name);
            assert!(is_there || current.as_deref() != Some(release.name), "the active release is gone");
            if is_recorded {
                assert!(
                    release.blocks.iter().all(|(at, _)| store.has(at) || self.rot.is_over(at)),
                    "a complete release lacks blocks"
                );
            }
        }
        if self.is_old_gone {
            assert!(!is_there_whole(disk, self.old), "the old release is back");
            assert!(records.iter().all(|found| found.release != self.old.name));
        }
        let left: Vec<PathBuf> = list(disk, &["images", IMAGE])
            .into_iter()
            .chain(list(disk, &["store", "tmp"]))
            .filter(|path| path.extension().is_some() || path.starts_with("/disk/data/store/tmp"))
            .collect();
        let on_its_way = [self.old, self.new].into_iter().filter(|release| {
            let is_recorded = records.iter().any(|found| found.release == release.name);
            is_recorded && !self.complete.contains(release.name)
        });
        let waiting: Vec<PathBuf> = on_its_way
            .map(|release| path(&["images", IMAGE, &format!(".{}.partial", release.name)]))
            .collect();
        assert!(left.iter().all(|path| waiting.contains(path)), "a crash has left {left:?}");
    }

    /// Whether everything is as it should be at the end, and nothing else is there.
    pub(super) fn expect_done(&self, disk: &SimulatedDisk, store: &Store) {
        self.expect_kept(disk, store);
        assert_eq!(store.current(IMAGE).unwrap().as_deref(), Some(self.new.name));
        assert_eq!(store.releases().unwrap(), [record(self.new, true)]);
        assert_eq!(files_below(disk, &path(&["store", "packs"])), self.new.packs().len());
        assert_eq!(files_below(disk, &path(&["store", "indexes"])), self.new.parts.len());
        let is_large = |at: &&Location| at.len > 1 << 16;
        assert!(self.placed().filter(is_large).all(|at| !store.has(at)), "a dead block keeps its space");
        let names: Vec<PathBuf> = list(disk, &["images", IMAGE]);
        assert_eq!(names, [path(&["images", IMAGE, self.new.name]), path(&["images", IMAGE, "current"])]);
    }

    /// Whether the node remembers all that nothing but an error may take from it.
    pub(super) fn expect_remembered(&self, node: &Node) {
        self.expect_files_remembered(node);
        assert!(node.rotten_within(Duration::MAX).unwrap() > 0, "that a block has rotted is forgotten");
    }

    pub(super) fn expect_files_remembered(&self, node: &Node) {
        self.harvesting.expect_remembered(node, self.new);
    }

    fn placed(&self) -> impl Iterator<Item = &Location> {
        self.old.blocks.iter().chain(&self.new.blocks).map(|(at, _)| at)
    }
}

pub(super) fn place(at: &Location) -> Place {
    (at.pack, at.offset)
}

pub(super) fn record(release: &Release, complete: bool) -> ReleaseRecord {
    ReleaseRecord {
        image: IMAGE.into(),
        release: release.name.into(),
        group: None,
        root: release.root,
        complete,
        sources: vec![1, 2, 3],
    }
}
