//! Tests only: what the store promises about blocks, on a disk that fails at chosen moments and loses what was not
//! synced.

use crate::{
    error::{ReadError, StoreError},
    simulated_disk::{Failure, Kind, Loss, SimulatedDisk},
    store::Store,
};
use branchmesh_image::{BlockId, Location, PackId, VerifiedBlock};
use proptest::prelude::*;
use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

const DATA_DIR: &str = "/data";
/// Ends the names of the files in which blocks lie.
const PACK: &str = ".pack";
const ON_FIRE: Failure = Failure::Error(io::ErrorKind::Other);
const FULL: Failure = Failure::Error(io::ErrorKind::StorageFull);

fn open(disk: &SimulatedDisk) -> Store {
    Store::open_on(Path::new(DATA_DIR), Arc::new(disk.clone())).unwrap()
}

/// The power goes while the store is open, and comes back.
fn cut_power(store: Store, disk: &SimulatedDisk, loss: Loss) -> Store {
    disk.cut_power();
    drop(store);
    disk.power_on(loss);
    open(disk)
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
    FailSyncFolder,
    Forget(u32),
    DropAllBut(Vec<u32>),
    CutPower(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..BLOCKS).prop_map(Step::Write),
        4 => Just(Step::Commit),
        1 => Just(Step::FailWrite),
        1 => Just(Step::FillDisk),
        1 => Just(Step::FailSync),
        1 => Just(Step::FailSyncFolder),
        1 => (0..BLOCKS).prop_map(Step::Forget),
        1 => prop::collection::vec(0..BLOCKS, 0..3).prop_map(Step::DropAllBut),
        2 => any::<u64>().prop_map(Step::CutPower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_nothing_false_is_claimed_and_nothing_committed_is_lost(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let disk = SimulatedDisk::new();
        let mut store = open(&disk);
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
                Step::FailWrite => disk.fail_next(Kind::Write, PACK, ON_FIRE),
                Step::FillDisk => disk.fail_next(Kind::Write, PACK, Failure::ShortWrite),
                Step::FailSync => disk.fail_next(Kind::Sync, PACK, ON_FIRE),
                Step::FailSyncFolder => disk.fail_next(Kind::SyncFolder, "", ON_FIRE),
                Step::Forget(number) => {
                    store.forget(&[block(number).0]).unwrap();
                    durable.remove(&number);
                }
                Step::DropAllBut(numbers) => {
                    let referenced: HashSet<PackId> = numbers.into_iter().map(pack_of).collect();
                    store.drop_unreferenced(&referenced).unwrap();
                    durable.retain(|number| referenced.contains(&pack_of(*number)));
                }
                Step::CutPower(seed) => store = cut_power(store, &disk, Loss::Some(seed)),
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
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    write(&store, 0..3).unwrap();
    store.commit().unwrap();
    write(&store, 3..6).unwrap();
    disk.fail_next(Kind::Sync, PACK, ON_FIRE);
    assert!(matches!(store.commit(), Err(StoreError::Io { .. })));
    assert_eq!(present(&store), (0..3).collect());
    store.commit().unwrap();
    let store = cut_power(store, &disk, Loss::Everything);
    assert_eq!(present(&store), (0..3).collect());
    assert_honest(&store);
}

#[test]
fn a_write_that_a_failed_sync_overtakes_is_done_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    write(&store, 0..1).unwrap();
    let committer = store.clone();
    disk.fail_next(Kind::Sync, PACK, ON_FIRE);
    // The sync that fails has block 1 in its hands, which its writer has not yet reported.
    disk.after_next_write(move || assert!(committer.commit().is_err()));
    write(&store, 1..2).unwrap();
    store.commit().unwrap();
    assert_eq!(present(&store), BTreeSet::from([1]));
    let store = cut_power(store, &disk, Loss::Everything);
    assert_eq!(present(&store), BTreeSet::from([1]));
    assert_honest(&store);
}

#[test]
fn a_write_to_a_pack_that_is_dropped_meanwhile_is_done_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let dropper = store.clone();
    disk.after_next_write(move || {
        dropper.drop_unreferenced(&HashSet::new()).unwrap();
    });
    write(&store, 0..1).unwrap();
    assert_eq!(present(&store), BTreeSet::from([0]));
    assert_honest(&store);
}

#[test]
fn one_failing_pack_does_not_take_the_others_with_it() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    write(&store, 0..BLOCKS).unwrap();
    disk.fail_next(Kind::Sync, PACK, ON_FIRE);
    assert!(store.commit().is_err());
    let left = present(&store);
    assert_eq!(left.len() as u32, BLOCKS - BLOCKS_PER_PACK);
    assert_eq!(present(&cut_power(store, &disk, Loss::Everything)), left);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_taken_for_rot() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    write(&store, 0..1).unwrap();
    let (at, block) = block(0);
    disk.fail_next(Kind::Look, PACK, ON_FIRE);
    assert!(matches!(store.read(&at, block.id()), Err(ReadError::Io(StoreError::Io { .. }))));
    assert!(store.read(&at, block.id()).is_ok());
}

#[test]
fn what_has_rotted_is_forgotten_for_good_until_it_is_written_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    write(&store, 0..3).unwrap();
    store.commit().unwrap();
    let (at, block) = block(1);
    disk.rot(&store.packs().path(&at.pack), at.offset);
    assert!(matches!(store.read(&at, block.id()), Err(ReadError::Rotten { .. })));
    let store = cut_power(store, &disk, Loss::Everything);
    assert_eq!(present(&store), BTreeSet::from([0, 2]));
    assert_eq!(store.rotten_within(Duration::MAX).unwrap(), 1);
    write(&store, 1..2).unwrap();
    store.commit().unwrap();
    let store = cut_power(store, &disk, Loss::Everything);
    assert_eq!(present(&store), BTreeSet::from([0, 1, 2]));
    assert_honest(&store);
}

#[test]
fn failures_have_names() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let (at, block) = block(0);
    let fail = |kind| {
        disk.fail_next(Kind::Write, PACK, Failure::Error(kind));
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
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (store, disk) = (store.clone(), disk.clone());
            scope.spawn(move || {
                for round in 0..300 {
                    let number = (round * 7 + thread * 5) % BLOCKS;
                    let (at, block) = block(number);
                    match (thread, round % 20) {
                        (0, 3) => disk.fail_next(Kind::Sync, PACK, ON_FIRE),
                        (0, 7) => disk.fail_next(Kind::Write, PACK, FULL),
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
    let store = cut_power(store, &disk, Loss::Everything);
    assert_honest(&store);
    assert_eq!(present(&store), left);
}
