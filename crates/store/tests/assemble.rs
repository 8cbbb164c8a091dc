//! From blocks to files: what must be in the folder, and what must not happen to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use branchmesh_image::{BlockError, Cipher, GroupKey};
use branchmesh_store::{AssembleError, Floor, Store, StoreError};
use common::{Sample, noise, rot};
use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

/// All kinds of files: data between holes, twice the same, nothing, only zeros, folders.
fn sample(release: &str) -> Sample {
    let disk = [noise(1, 9 << 20), vec![0; 20 << 20], noise(2, 1 << 20), vec![0; 5 << 20]].concat();
    let files = [
        ("disk.img", disk),
        ("copy/of/disk start.img", noise(1, 9 << 20)),
        ("copy/settings.vmx", b"memsize = 512".to_vec()),
        ("empty", Vec::new()),
        ("zeros.img", vec![0; 3 << 20]),
    ];
    Sample::sealed("xp-finance", release, &files, Cipher::Group(GroupKey::generate().unwrap()))
}

fn image_folder(data_dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(data_dir.join("images/xp-finance"))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn files_are_what_was_published() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    let done = AtomicU64::new(0);
    let folder = store
        .assemble(&sample.index, &sample.cipher, &|bytes| {
            done.fetch_add(bytes, Ordering::Relaxed);
        })
        .unwrap();
    assert_eq!(folder, data_dir.path().join("images/xp-finance/7"));
    sample.assert_is_in(&folder);
    let size: usize = sample.files.iter().map(|(_, content)| content.len()).sum();
    assert_eq!(done.into_inner(), size as u64);
    assert_eq!(image_folder(data_dir.path()), ["7"]);
}

#[cfg(unix)]
#[test]
fn holes_take_no_space_and_modes_are_kept() {
    use std::os::unix::fs::MetadataExt;
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    let folder = sample.assemble(&store).unwrap();
    let disk = fs::metadata(folder.join("disk.img")).unwrap();
    assert_eq!(disk.len(), 35 << 20);
    assert!(disk.blocks() * 512 < 11 << 20, "{} bytes on disk", disk.blocks() * 512);
    assert_eq!(fs::metadata(folder.join("zeros.img")).unwrap().blocks(), 0);
    assert_eq!(disk.mode() & 0o777, 0o640);
}

#[test]
fn assembling_again_costs_nothing_and_touches_nothing() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    let folder = sample.assemble(&store).unwrap();
    let written = fs::metadata(folder.join("disk.img")).unwrap().modified().unwrap();
    // Not even blocks are needed, nor the same process.
    store.drop_unreferenced(&[].into()).unwrap();
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    let progress = |_: u64| panic!("something was done");
    assert_eq!(store.assemble(&sample.index, &sample.cipher, &progress).unwrap(), folder);
    assert_eq!(fs::metadata(folder.join("disk.img")).unwrap().modified().unwrap(), written);
}

#[test]
fn a_folder_that_lost_a_file_or_belongs_to_another_index_is_replaced() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    let folder = sample.assemble(&store).unwrap();
    fs::remove_file(folder.join("empty")).unwrap();
    sample.assemble(&store).unwrap();
    sample.assert_is_in(&folder);

    let other = Sample::new("xp-finance", "7", &[("disk.img", noise(9, 100_000))]);
    other.store(&store);
    other.assemble(&store).unwrap();
    other.assert_is_in(&folder);
    assert_eq!(image_folder(data_dir.path()), ["7"]);
}

#[test]
fn missing_blocks_are_all_named_and_leave_no_trace() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    store.forget(&[sample.at(2), sample.at(11)]).unwrap();
    let Err(AssembleError::Missing { blocks }) = sample.assemble(&store) else { panic!("assembled") };
    assert_eq!(blocks, [2, 11]);
    assert!(image_folder(data_dir.path()).is_empty());
    for number in [2, 11] {
        store.write(&sample.at(number), &sample.blocks[number]).unwrap();
    }
    sample.assert_is_in(&sample.assemble(&store).unwrap());
}

#[test]
fn rotten_blocks_are_all_named_and_an_older_folder_stays() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    // It has no file of the new one: a clone would spare reading the rotten blocks.
    let (old, new) = (Sample::new("xp-finance", "6", &[("other.img", noise(99, 100_000))]), sample("7"));
    old.store(&store);
    old.assemble(&store).unwrap();
    store.activate("xp-finance", "6").unwrap();
    new.store(&store);
    [1, 9, 20].iter().for_each(|number| rot(data_dir.path(), &new.at(*number)));
    let Err(AssembleError::Rotten { blocks }) = new.assemble(&store) else { panic!("assembled") };
    assert_eq!(blocks, [1, 9, 20]);
    let Err(AssembleError::Missing { blocks }) = new.assemble(&store) else { panic!("assembled") };
    assert_eq!(blocks, [1, 9, 20]);
    assert_eq!(image_folder(data_dir.path()), ["6", "current"]);
    old.assert_is_in(&data_dir.path().join("images/xp-finance/6"));
}

#[test]
fn a_wrong_key_is_named_as_such() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    let other = Cipher::Group(GroupKey::generate().unwrap());
    let refused = store.assemble(&sample.index, &other, &|_| {}).unwrap_err();
    assert!(matches!(refused, AssembleError::Decode { source: BlockError::Crypt(_), .. }), "{refused}");
    assert!(image_folder(data_dir.path()).is_empty());
    assert!(store.has(&sample.at(0)));
}

/// Stores the blocks whose numbers leave `rest` when divided by three, in stretches of 40.
#[test]
fn what_an_interrupted_run_left_is_removed() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample("7");
    let left = data_dir.path().join("images/xp-finance/.7.partial");
    fs::create_dir_all(left.join("copy")).unwrap();
    fs::write(left.join("half.img"), "half").unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    assert!(!left.exists());
    // And one that appears while the store is open.
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("half.img"), "half").unwrap();
    sample.store(&store);
    sample.assert_is_in(&sample.assemble(&store).unwrap());
    assert_eq!(image_folder(data_dir.path()), ["7"]);
}

#[test]
fn files_do_not_take_the_space_that_must_stay_free() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    sample.store(&store);
    store.set_floor(Floor::Bytes(u64::MAX / 2));
    let refused = sample.assemble(&store).unwrap_err();
    assert!(matches!(refused, AssembleError::Store(StoreError::BelowFloor { .. })), "{refused}");
    assert!(image_folder(data_dir.path()).is_empty());
}

#[test]
fn names_that_the_store_needs_are_refused() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    for (image, release) in [("xp", "current"), ("xp", "Current"), ("xp", ".7.partial"), (".xp", "7")] {
        let sample = Sample::new(image, release, &[("disk.img", noise(1, 1000))]);
        sample.store(&store);
        let refused = sample.assemble(&store).unwrap_err();
        assert!(matches!(refused, AssembleError::Store(StoreError::ReservedName(_))), "{refused}");
        assert!(store.put_release(&sample.record(true)).is_err());
        assert!(store.activate(image, release).is_err());
        assert!(store.retire(image, release).is_err());
    }
    for name in ["..", "a/b", "", "a@b", "nul", "c:"] {
        assert!(matches!(store.activate(name, "7"), Err(StoreError::Name(_))), "{name}");
        assert!(matches!(store.retire("xp", name), Err(StoreError::Name(_))), "{name}");
        assert!(matches!(store.current(name), Err(StoreError::Name(_))), "{name}");
    }
}
