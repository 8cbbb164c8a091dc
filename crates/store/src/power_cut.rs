//! Tests only: a disk that fails on request and loses what was not synced, and what the store promises on it.
//!
//! The disk keeps its files on the real one. It remembers which writes and which names were not synced; at a power
//! cut each of those writes survives, vanishes or is torn, and each of those names may be gone. After a failed sync
//! it behaves like Linux: the pages count as clean, and a later sync neither writes them nor complains.

use crate::{
    disk::{Disk, PackFile, SystemDisk},
    error::{ReadError, StoreError},
    files,
    store::Store,
};
use branchmesh_image::{BlockId, Location, PackId, VerifiedBlock};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// What the next call of a kind will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Write(io::ErrorKind),
    Sync,
    SyncDir,
    Read,
}

#[derive(Default)]
struct State {
    /// Unsynced writes of each file: offset and length.
    pending: BTreeMap<PathBuf, Vec<(u64, usize)>>,
    /// Writes that a failed sync has dropped.
    dropped: BTreeMap<PathBuf, Vec<(u64, usize)>>,
    /// Files and folders whose names are not synced.
    unnamed: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    /// Called once, after the next write has reached the file and before the writer goes on.
    after_write: Option<Box<dyn FnOnce() + Send>>,
}

#[derive(Clone, Default)]
struct FlakyDisk(Arc<Mutex<State>>);

struct FlakyFile {
    disk: FlakyDisk,
    path: PathBuf,
    real: Arc<dyn PackFile>,
}

impl FlakyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn fail_next(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    fn no_faults(&self) {
        self.state().faults.clear();
    }

    /// The error of a fault that `matches`, once.
    fn fault(&self, matches: impl Fn(Fault) -> bool) -> io::Result<()> {
        let mut state = self.state();
        let Some(at) = state.faults.iter().position(|fault| matches(*fault)) else { return Ok(()) };
        match state.faults.remove(at) {
            Fault::Write(kind) => Err(kind.into()),
            Fault::Sync | Fault::SyncDir | Fault::Read => Err(io::Error::other("the disk is on fire")),
        }
    }

    /// Loses what was not synced; `dice` decides for each write and each name.
    fn cut_power(&self, mut dice: impl FnMut() -> u8) {
        let state = std::mem::take(&mut *self.state());
        for (path, writes) in state.pending.iter().chain(&state.dropped) {
            let Ok(file) = SystemDisk.create(path) else { continue };
            for (offset, length) in writes {
                let lost = match dice() % 3 {
                    0 => 0,
                    1 => *length,
                    _ => length / 2,
                };
                file.write_all_at(&vec![0; lost], *offset).unwrap();
            }
        }
        for path in state.unnamed {
            if dice().is_multiple_of(2) {
                files::remove(&path).unwrap();
            }
        }
    }
}

impl Disk for FlakyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn PackFile>> {
        let folder = path.parent().unwrap();
        for name in [folder, path] {
            if !name.exists() {
                self.state().unnamed.insert(name.to_path_buf());
            }
        }
        let real = SystemDisk.create(path)?;
        Ok(Arc::new(FlakyFile { disk: self.clone(), path: path.to_path_buf(), real }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn PackFile>> {
        let real = SystemDisk.open(path)?;
        Ok(Arc::new(FlakyFile { disk: self.clone(), path: path.to_path_buf(), real }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fault(|fault| fault == Fault::SyncDir)?;
        self.state().unnamed.retain(|name| name.parent() != Some(path));
        SystemDisk.sync_dir(path)
    }
}

impl PackFile for FlakyFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.fault(|fault| fault == Fault::Read)?;
        self.real.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = (offset, bytes.len());
        // Half of a failing write reaches the file.
        let failed = self.disk.fault(|fault| matches!(fault, Fault::Write(_)));
        let written = if failed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let mut state = self.disk.state();
        state.dropped.entry(self.path.clone()).or_default().retain(|dropped| *dropped != write);
        state.pending.entry(self.path.clone()).or_default().push(write);
        self.real.write_all_at(written, offset)?;
        let after = state.after_write.take();
        drop(state);
        after.into_iter().for_each(|after| after());
        failed
    }

    fn sync(&self) -> io::Result<()> {
        let failed = self.disk.fault(|fault| fault == Fault::Sync);
        let mut state = self.disk.state();
        let writes = state.pending.remove(&self.path).unwrap_or_default();
        if failed.is_err() {
            state.dropped.entry(self.path.clone()).or_default().extend(writes);
        }
        failed
    }
}

/// Blocks of the little world in which the tests happen.
const BLOCKS: u32 = 24;
const BLOCKS_PER_PACK: u32 = 6;
const BLOCK_BYTES: u32 = 1000;

fn pack_of(number: u32) -> PackId {
    PackId::of(&(number / BLOCKS_PER_PACK).to_le_bytes())
}

fn block(number: u32) -> (Location, VerifiedBlock) {
    let bytes: Vec<u8> = (0..BLOCK_BYTES).map(|at| (number + at * 7 + 1) as u8 | 1).collect();
    let at =
        Location { pack: pack_of(number), offset: number % BLOCKS_PER_PACK * BLOCK_BYTES, len: BLOCK_BYTES };
    (at, VerifiedBlock::verify(&BlockId::of(&bytes), bytes).unwrap())
}

fn present(store: &Store) -> BTreeSet<u32> {
    (0..BLOCKS).filter(|number| store.has(&block(*number).0)).collect()
}

/// Everything that is claimed can be read.
fn assert_honest(store: &Store) {
    for number in present(store) {
        let (at, expected) = block(number);
        let read = store.read(&at, expected.id());
        assert_eq!(read.expect("a claimed block").bytes(), expected.bytes(), "block {number}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u32),
    Commit,
    FailWrite,
    FillDisk,
    FailSync,
    FailSyncDir,
    Forget(u32),
    DropAllBut(Vec<u32>),
    CutPower(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..BLOCKS).prop_map(Step::Write),
        4 => Just(Step::Commit),
        1 => Just(Step::FailWrite),
        1 => Just(Step::FillDisk),
        1 => Just(Step::FailSync),
        1 => Just(Step::FailSyncDir),
        1 => (0..BLOCKS).prop_map(Step::Forget),
        1 => prop::collection::vec(0..BLOCKS, 0..3).prop_map(Step::DropAllBut),
        2 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Step::CutPower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_nothing_false_is_claimed_and_nothing_committed_is_lost(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let data_dir = tempfile::tempdir().unwrap();
        let disk = FlakyDisk::default();
        let mut store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
        // Committed, and not dropped since.
        let mut durable = BTreeSet::new();
        for step in steps {
            match step {
                Step::Write(number) => {
                    let (at, block) = block(number);
                    let written = store.write(&at, &block);
                    prop_assert_eq!(store.has(&at), written.is_ok() || durable.contains(&number));
                }
                Step::Commit => {
                    if store.commit().is_ok() {
                        durable = present(&store);
                        prop_assert_eq!(store.uncommitted_bytes(), 0);
                    }
                }
                Step::FailWrite => disk.fail_next(Fault::Write(io::ErrorKind::Other)),
                Step::FillDisk => disk.fail_next(Fault::Write(io::ErrorKind::StorageFull)),
                Step::FailSync => disk.fail_next(Fault::Sync),
                Step::FailSyncDir => disk.fail_next(Fault::SyncDir),
                Step::Forget(number) => {
                    store.forget(&[block(number).0]).unwrap();
                    durable.remove(&number);
                }
                Step::DropAllBut(numbers) => {
                    let referenced: HashSet<PackId> = numbers.into_iter().map(pack_of).collect();
                    store.drop_unreferenced(&referenced).unwrap();
                    durable.retain(|number| referenced.contains(&pack_of(*number)));
                }
                Step::CutPower(dice) => {
                    drop(store);
                    disk.no_faults();
                    let mut dice = dice.into_iter().cycle();
                    disk.cut_power(|| dice.next().unwrap());
                    store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
                }
            }
            assert_honest(&store);
            prop_assert!(durable.is_subset(&present(&store)), "{:?} is gone", durable);
        }
    }
}

fn write(store: &Store, numbers: std::ops::Range<u32>) -> Result<(), StoreError> {
    numbers.map(block).try_for_each(|(at, block)| store.write(&at, &block))
}

#[test]
fn blocks_of_a_failed_sync_are_forgotten_and_a_later_sync_does_not_bring_them_back() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    write(&store, 0..3).unwrap();
    store.commit().unwrap();
    write(&store, 3..6).unwrap();
    disk.fail_next(Fault::Sync);
    assert!(matches!(store.commit(), Err(StoreError::Io { .. })));
    assert_eq!(present(&store), (0..3).collect());
    store.commit().unwrap();
    drop(store);
    disk.cut_power(|| 1);
    let store = Store::open_on(data_dir.path(), Arc::new(disk)).unwrap();
    assert_eq!(present(&store), (0..3).collect());
    assert_honest(&store);
}

#[test]
fn a_write_that_a_failed_sync_overtakes_is_done_again() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    write(&store, 0..1).unwrap();
    let committer = store.clone();
    disk.fail_next(Fault::Sync);
    // The sync that fails has block 1 in its hands, which its writer has not yet reported.
    disk.state().after_write = Some(Box::new(move || assert!(committer.commit().is_err())));
    write(&store, 1..2).unwrap();
    store.commit().unwrap();
    assert_eq!(present(&store), BTreeSet::from([1]));
    drop(store);
    disk.cut_power(|| 1);
    let store = Store::open_on(data_dir.path(), Arc::new(disk)).unwrap();
    assert_eq!(present(&store), BTreeSet::from([1]));
    assert_honest(&store);
}

#[test]
fn a_write_to_a_pack_that_is_dropped_meanwhile_is_done_again() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    let dropper = store.clone();
    disk.state().after_write = Some(Box::new(move || {
        dropper.drop_unreferenced(&HashSet::new()).unwrap();
    }));
    write(&store, 0..1).unwrap();
    assert_eq!(present(&store), BTreeSet::from([0]));
    assert_honest(&store);
}

#[test]
fn one_failing_pack_does_not_take_the_others_with_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    write(&store, 0..BLOCKS).unwrap();
    disk.fail_next(Fault::Sync);
    assert!(store.commit().is_err());
    let left = present(&store);
    assert_eq!(left.len() as u32, BLOCKS - BLOCKS_PER_PACK);
    drop(store);
    disk.cut_power(|| 1);
    assert_eq!(present(&Store::open_on(data_dir.path(), Arc::new(disk)).unwrap()), left);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_taken_for_rot() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    write(&store, 0..1).unwrap();
    let (at, block) = block(0);
    disk.fail_next(Fault::Read);
    assert!(matches!(store.read(&at, block.id()), Err(ReadError::Io(StoreError::Io { .. }))));
    assert!(store.read(&at, block.id()).is_ok());
}

#[test]
fn failures_have_names() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    let (at, block) = block(0);
    let fail = |kind| {
        disk.fail_next(Fault::Write(kind));
        store.write(&at, &block).unwrap_err()
    };
    assert!(matches!(fail(io::ErrorKind::StorageFull), StoreError::DiskFull { .. }));
    assert!(matches!(fail(io::ErrorKind::QuotaExceeded), StoreError::DiskFull { .. }));
    assert!(matches!(fail(io::ErrorKind::ReadOnlyFilesystem), StoreError::ReadOnly { .. }));
    assert!(matches!(fail(io::ErrorKind::PermissionDenied), StoreError::Denied { .. }));
    assert!(matches!(fail(io::ErrorKind::TimedOut), StoreError::Io { .. }));
    store.write(&at, &block).unwrap();
}

#[test]
fn many_threads_and_a_failing_disk_leave_an_honest_store() {
    let data_dir = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let store = Store::open_on(data_dir.path(), Arc::new(disk.clone())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (store, disk) = (store.clone(), disk.clone());
            scope.spawn(move || {
                for round in 0..300 {
                    let number = (round * 7 + thread * 5) % BLOCKS;
                    let (at, block) = block(number);
                    match (thread, round % 20) {
                        (0, 3) => disk.fail_next(Fault::Sync),
                        (0, 7) => disk.fail_next(Fault::Write(io::ErrorKind::StorageFull)),
                        (0, _) => drop(store.commit()),
                        (1, 5) => drop(store.drop_unreferenced(&HashSet::from([at.pack])).unwrap()),
                        (1, _) => store.forget(&[at]).unwrap(),
                        (2, _) => match store.read(&at, block.id()) {
                            // Forgotten while it was read: what was there may be there in part.
                            Ok(_) | Err(ReadError::NotHere(_) | ReadError::Rotten { .. }) => {}
                            Err(ReadError::Io(error)) => panic!("{error}"),
                        },
                        _ => drop(store.write(&at, &block)),
                    }
                }
            });
        }
    });
    assert_honest(&store);
    disk.no_faults();
    store.commit().unwrap();
    let left = present(&store);
    drop(store);
    disk.cut_power(|| 1);
    let store = Store::open_on(data_dir.path(), Arc::new(disk)).unwrap();
    assert_honest(&store);
    assert_eq!(present(&store), left);
}
