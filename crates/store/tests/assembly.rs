//! Files that are put together while their blocks still arrive.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use branchmesh_image::{Cipher, GroupKey};
use branchmesh_store::{AssembleError, Assembly, Floor, Store, StoreError};
use common::{Sample, noise, rot};
use proptest::prelude::*;
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Several runs in one file, a file that shares blocks with it, holes, more small files than are kept open, nothing.
static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let disk = [noise(1, 9 << 20), vec![0; 4 << 20], noise(2, 1 << 20)].concat();
    let small: Vec<(String, Vec<u8>)> =
        (0..80).map(|number| (format!("logs/{number}"), noise(100 + number, 500))).collect();
    let mut files = vec![
        ("disk.img", disk),
        ("copy/start.img", noise(1, 5 << 20)),
        ("empty", Vec::new()),
        ("zeros.img", vec![0; 1 << 20]),
    ];
    files.extend(small.iter().map(|(path, content)| (path.as_str(), content.clone())));
    Sample::sealed("xp", "7", &files, Cipher::Group(GroupKey::generate().unwrap()))
});

fn begin(store: &Store, sample: &Sample) -> Assembly {
    store.begin_assembly(Arc::new(sample.index.clone()), sample.cipher.clone()).unwrap()
}

fn write(store: &Store, sample: &Sample, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        store.write(&sample.at(number), &sample.blocks[number]).unwrap();
    }
}

fn size(sample: &Sample) -> u64 {
    sample.files.iter().map(|(_, content)| content.len() as u64).sum()
}

/// Bytes that are no hole.
fn data(sample: &Sample) -> u64 {
    size(sample) - (5 << 20)
}

/// Finishes, and gives what the first call of `progress` said: what was done before.
fn finish(assembly: &mut Assembly, sample: &Sample) -> u64 {
    let (first, all) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let folder = assembly
        .finish(&|bytes| {
            first.fetch_min(
                if all.fetch_add(bytes, Ordering::SeqCst) == 0 { bytes } else { u64::MAX },
                Ordering::SeqCst,
            );
        })
        .unwrap();
    sample.assert_is_in(&folder);
    assert_eq!(all.into_inner(), size(sample));
    first.into_inner()
}

fn names(data_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(data_dir.join("images/xp")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// In whatever order blocks come, and even if some go again once they are written.
    #[test]
    fn blocks_in_any_order_become_the_same_files(
        step_of in prop::collection::vec(0..5usize, SAMPLE.blocks.len()),
        forgotten in prop::collection::vec(any::<bool>(), SAMPLE.blocks.len()),
    ) {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::open(data_dir.path()).unwrap();
        let mut assembly = begin(&store, &SAMPLE);
        let blocks = 0..SAMPLE.blocks.len();
        let mut written = 0;
        for step in 0..5 {
            write(&store, &SAMPLE, blocks.clone().filter(|number| step_of[*number] == step));
            written += assembly.advance().unwrap();
            prop_assert_eq!(assembly.advance().unwrap(), 0);
            prop_assert!(!names(data_dir.path()).contains(&"7".to_owned()));
        }
        prop_assert_eq!(written, data(&SAMPLE));
        let gone: Vec<_> =
            blocks.filter(|number| forgotten[*number]).map(|number| SAMPLE.at(number)).collect();
        store.forget(&gone).unwrap();
        prop_assert_eq!(finish(&mut assembly, &SAMPLE), size(&SAMPLE));
        prop_assert_eq!(names(data_dir.path()), ["7"]);
    }
}

#[test]
fn nothing_is_on_disk_before_blocks_are_and_a_left_over_is_not_used() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let mut assembly = begin(&store, &SAMPLE);
    assert_eq!(assembly.advance().unwrap(), 0);
    assert!(names(data_dir.path()).is_empty());
    let left = data_dir.path().join("images/xp/.7.partial");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("half.img"), "half").unwrap();
    SAMPLE.store(&store);
    assert_eq!(assembly.advance().unwrap(), data(&SAMPLE));
    finish(&mut assembly, &SAMPLE);
}

#[test]
fn the_next_assembly_of_a_release_that_is_on_its_way_goes_on_over_a_restart() {
    let data_dir = tempfile::tempdir().unwrap();
    let left = data_dir.path().join("images/xp/.7.partial");
    for is_recorded in [true, false] {
        let store = Store::open(data_dir.path()).unwrap();
        if is_recorded {
            store.put_release(&SAMPLE.record(false)).unwrap();
        }
        write(&store, &SAMPLE, 0..100);
        let mut assembly = begin(&store, &SAMPLE);
        let written = assembly.advance().unwrap();
        assert!(written > 0);
        drop(assembly);
        assert!(left.is_dir());
        assert_eq!(begin(&store, &SAMPLE).advance().unwrap(), written);
        // As a process that was killed leaves them, and worse.
        fs::remove_file(left.join("logs/3")).unwrap();
        fs::write(left.join("logs/4"), "of another length").unwrap();
        let mut disk = fs::OpenOptions::new().write(true).open(left.join("disk.img")).unwrap();
        disk.seek(SeekFrom::Start(1 << 20)).unwrap();
        disk.write_all(b"rotten").unwrap();
        drop((disk, store));

        let store = Store::open(data_dir.path()).unwrap();
        assert_eq!(left.exists(), is_recorded);
        SAMPLE.store(&store);
        finish(&mut begin(&store, &SAMPLE), &SAMPLE);
        assert_eq!(names(data_dir.path()), ["7"]);
        store.retire("xp", "7").unwrap();
    }
}

#[test]
fn what_was_written_of_another_index_is_not_taken_up() {
    let (data, hole) = (noise(7, 1 << 20), vec![0; 1 << 20]);
    let files = [[data.clone(), hole.clone()].concat(), [hole, data].concat()];
    let [first, second] = files.map(|disk| Sample::new("xp", "7", &[("disk.img", disk)]));
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    [&first, &second].into_iter().for_each(|sample| sample.store(&store));
    store.put_release(&first.record(false)).unwrap();
    assert_eq!(begin(&store, &first).advance().unwrap(), 1 << 20);
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert_eq!(names(data_dir.path()), [".7.partial"]);
    finish(&mut begin(&store, &second), &second);
    // And the other way round, in one process.
    assert_eq!(begin(&store, &first).advance().unwrap(), 1 << 20);
    finish(&mut begin(&store, &first), &first);
}

#[test]
fn each_block_that_is_here_is_written_whatever_its_neighbours_do() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let (even, odd): (Vec<_>, Vec<_>) = (0..SAMPLE.blocks.len()).partition(|number| number % 2 == 0);
    let mut assembly = begin(&store, &SAMPLE);
    write(&store, &SAMPLE, even);
    let first = assembly.advance().unwrap();
    write(&store, &SAMPLE, odd);
    let second = assembly.advance().unwrap();
    assert_eq!(first + second, data(&SAMPLE));
    assert!(first.min(second) > data(&SAMPLE) / 3, "{first} and {second} bytes");
    assert_eq!(finish(&mut assembly, &SAMPLE), size(&SAMPLE), "nothing was left to do");
}

#[test]
fn an_assembly_that_lacks_blocks_goes_on_when_they_are_here() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let last = SAMPLE.blocks.len() - 1;
    write(&store, &SAMPLE, (0..last).filter(|number| *number != 2));
    let mut assembly = begin(&store, &SAMPLE);
    for _ in 0..2 {
        let Err(AssembleError::Missing { blocks }) = assembly.finish(&|_| {}) else { panic!("finished") };
        assert_eq!(blocks, [2, u32::try_from(last).unwrap()]);
        assembly.advance().unwrap();
    }
    assert!(names(data_dir.path()).contains(&".7.partial".into()));
    write(&store, &SAMPLE, [2, last]);
    assert!(finish(&mut assembly, &SAMPLE) > size(&SAMPLE) / 4);
}

#[test]
fn rotten_blocks_are_told_early_and_only_they_are_written_again() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    SAMPLE.store(&store);
    let last = SAMPLE.blocks.len() - 1;
    rot(data_dir.path(), &SAMPLE.at(last));
    let mut assembly = begin(&store, &SAMPLE);
    let rotten = u32::try_from(last).unwrap();
    let Err(AssembleError::Rotten { blocks }) = assembly.advance() else { panic!("written") };
    assert_eq!(blocks, [rotten]);
    assert_eq!(assembly.advance().unwrap(), 0);
    let Err(AssembleError::Missing { blocks }) = assembly.finish(&|_| {}) else { panic!("finished") };
    assert_eq!(blocks, [rotten]);
    write(&store, &SAMPLE, [last]);
    assert_eq!(assembly.advance().unwrap(), 500, "the last file has 500 bytes");

    // And one that rots between the last look and the end.
    drop(assembly);
    store.retire("xp", "7").unwrap();
    let mut assembly = begin(&store, &SAMPLE);
    rot(data_dir.path(), &SAMPLE.at(1));
    assert!(matches!(assembly.finish(&|_| {}), Err(AssembleError::Rotten { blocks }) if blocks == [1]));
    write(&store, &SAMPLE, [1]);
    assert!(finish(&mut assembly, &SAMPLE) > size(&SAMPLE) / 4);
}

#[test]
fn files_that_are_in_place_are_not_touched() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    SAMPLE.store(&store);
    let folder = SAMPLE.assemble(&store).unwrap();
    let mut assembly = begin(&store, &SAMPLE);
    assert_eq!(assembly.advance().unwrap(), 0);
    assert_eq!(assembly.finish(&|_| panic!("something was done")).unwrap(), folder);
    drop(assembly);
    assert_eq!(names(data_dir.path()), ["7"]);
    SAMPLE.assert_is_in(&folder);
}

#[test]
fn assemblies_of_one_index_share_their_work() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    SAMPLE.store(&store);
    let (mut first, mut second) = (begin(&store, &SAMPLE), begin(&store, &SAMPLE));
    assert_eq!(first.advance().unwrap(), data(&SAMPLE));
    assert_eq!(second.advance().unwrap(), 0);
    drop(first);
    assert_eq!(finish(&mut second, &SAMPLE), size(&SAMPLE));
    store.retire("xp", "7").unwrap();

    let mut assemblies = [(); 2].map(|()| begin(&store, &SAMPLE));
    std::thread::scope(|scope| {
        for assembly in &mut assemblies {
            scope.spawn(|| {
                assembly.advance().unwrap();
                SAMPLE.assert_is_in(&assembly.finish(&|_| {}).unwrap());
            });
        }
    });
    drop(assemblies);
    assert_eq!(names(data_dir.path()), ["7"]);
}

#[test]
fn an_assembly_whose_release_is_retired_or_replaced_has_come_to_its_end() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let other = Sample::new("xp", "7", &[("disk.img", noise(9, 1 << 20))]);
    SAMPLE.store(&store);
    other.store(&store);
    let superseded =
        |error: &AssembleError| matches!(error, AssembleError::Store(StoreError::Superseded { .. }));

    let mut retired = begin(&store, &SAMPLE);
    retired.advance().unwrap();
    store.retire("xp", "7").unwrap();
    assert!(names(data_dir.path()).is_empty());
    assert!(superseded(&retired.advance().unwrap_err()) && superseded(&retired.finish(&|_| {}).unwrap_err()));

    let mut replaced = begin(&store, &SAMPLE);
    replaced.advance().unwrap();
    let mut newest = begin(&store, &other);
    assert!(newest.advance().unwrap() > 0);
    assert!(superseded(&replaced.advance().unwrap_err()));
    // What they leave behind is not theirs any more.
    drop((retired, replaced));
    other.assert_is_in(&newest.finish(&|_| {}).unwrap());
}

#[test]
fn an_assembly_keeps_the_floor_at_every_step_and_begins_anew_after_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    write(&store, &SAMPLE, 0..100);
    let mut assembly = begin(&store, &SAMPLE);
    assert!(assembly.advance().unwrap() > 0);
    store.set_floor(Floor::Bytes(0));
    SAMPLE.store(&store);
    store.set_floor(Floor::Bytes(u64::MAX / 2));
    let refused = assembly.advance().unwrap_err();
    assert!(matches!(refused, AssembleError::Store(StoreError::BelowFloor { .. })), "{refused}");
    assert!(names(data_dir.path()).is_empty());
    store.set_floor(Floor::Bytes(0));
    assert_eq!(finish(&mut assembly, &SAMPLE), 5 << 20, "only holes were done before");
}

#[test]
fn what_cannot_be_decoded_leaves_nothing() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    SAMPLE.store(&store);
    let other = Cipher::Group(GroupKey::generate().unwrap());
    let mut assembly = store.begin_assembly(Arc::new(SAMPLE.index.clone()), other).unwrap();
    for _ in 0..2 {
        assert!(matches!(assembly.advance(), Err(AssembleError::Decode { .. })));
        assert!(names(data_dir.path()).is_empty());
    }
}
