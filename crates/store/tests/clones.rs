//! A release's files begin as clones of an earlier release's, where the file system has clones: what both have in
//! common is on the disk once. `.ci/file-systems` runs this on file systems that have them, and sets
//! `BRANCHMESH_EXPECT_CLONES`; elsewhere the files must be right all the same.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

mod common;

use branchmesh_store::Store;
use common::{Sample, noise};
use std::{fs, path::Path};

const MIB: usize = 1 << 20;

/// Bytes that are free on the file system, once all is written.
fn free(folder: &Path, store: &Store) -> u64 {
    store.commit().unwrap();
    fs::File::open(folder).unwrap().sync_all().unwrap();
    store.usage().free_bytes.unwrap()
}

/// A disk with holes and data, and what becomes of it: other bytes, a hole where data was, data where a hole was.
fn disks() -> (Vec<u8>, Vec<u8>) {
    let mut old = noise(1, 24 * MIB);
    old[4 * MIB..6 * MIB].fill(0);
    let mut new = old.clone();
    new[10 * MIB..10 * MIB + 5000].copy_from_slice(&noise(2, 5000));
    new[14 * MIB..15 * MIB].fill(0);
    new[5 * MIB..5 * MIB + 100_000].copy_from_slice(&noise(3, 100_000));
    new.extend(noise(4, MIB / 2));
    (old, new)
}

#[test]
fn what_two_releases_have_in_common_is_on_the_disk_once() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let (old, new) = disks();
    let first = Sample::new("xp", "1", &[("disk.img", old), ("etc/vm.xml", b"<vm/>".to_vec())]);
    let second = Sample::new("xp", "2", &[("disk.img", new), ("etc/vm.xml", b"<vm cpus='2'/>".to_vec())]);
    first.store(&store);
    let folder = first.assemble(&store).unwrap();
    store.activate("xp", "1").unwrap();
    second.store(&store);

    let before = free(data_dir.path(), &store);
    second.assert_is_in(&second.assemble(&store).unwrap());
    let taken = before.saturating_sub(free(data_dir.path(), &store));
    first.assert_is_in(&folder);
    println!("the second release takes {taken} bytes beside the first");
    if std::env::var_os("BRANCHMESH_EXPECT_CLONES").is_some() {
        assert!(taken < 6 * MIB as u64, "{taken} bytes of new files");
    }

    // Whoever uses an image may write into it. What was made from it is right none the less.
    let third = Sample::new("xp", "3", &[("disk.img", noise(1, 24 * MIB)), ("etc/vm.xml", b"<vm>".to_vec())]);
    third.store(&store);
    let mut used = fs::read(folder.join("disk.img")).unwrap();
    used[MIB..2 * MIB].copy_from_slice(&noise(5, MIB));
    fs::write(folder.join("disk.img"), used).unwrap();
    fs::write(folder.join("etc/vm.xml"), "longer than it was before").unwrap();
    third.assert_is_in(&third.assemble(&store).unwrap());
}
