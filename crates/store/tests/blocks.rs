//! Blocks in and out of a store on a real disk, and every way in which that disk can be wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use branchmesh_image::{BlockId, Location, PackId, VerifiedBlock};
use branchmesh_store::{Floor, ReadError, Store, StoreError};
use common::{Sample, noise, pack_path, rot};
use std::{fs, path::Path, process::Command};

fn sample() -> Sample {
    Sample::new("xp", "7", &[("disk.img", noise(7, 3 << 20))])
}

#[test]
fn blocks_are_readable_at_once_and_after_a_restart() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    assert!(matches!(store.read(&sample.at(0), sample.id(0)), Err(ReadError::NotHere(_))));
    for (number, block) in sample.blocks.iter().enumerate().rev() {
        assert!(!store.has(&sample.at(number)));
        store.write(&sample.at(number), block).unwrap();
        assert_eq!(store.read(&sample.at(number), block.id()).unwrap().bytes(), block.bytes());
    }
    let bytes = sample.index.encoded_bytes();
    assert_eq!((store.uncommitted_bytes(), store.usage().pack_bytes), (bytes, bytes));
    store.commit().unwrap();
    assert_eq!((store.uncommitted_bytes(), store.usage().pack_bytes), (0, bytes));
    assert!(store.usage().free_bytes.unwrap() > 0);
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    for (number, block) in sample.blocks.iter().enumerate() {
        assert_eq!(store.read(&sample.at(number), block.id()).unwrap().bytes(), block.bytes());
    }
    assert_eq!(store.usage().pack_bytes, bytes);
}

#[test]
fn a_pack_is_the_origins_pack_with_holes() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    store.write(&sample.at(2), &sample.blocks[2]).unwrap();
    let at = sample.at(2);
    let pack = fs::read(pack_path(data_dir.path(), &at.pack)).unwrap();
    let (before, block) = pack.split_at(at.offset as usize);
    assert!(before.iter().all(|byte| *byte == 0));
    assert_eq!(block, sample.blocks[2].bytes());
    assert!(!store.has(&sample.at(1)) && !store.has(&sample.at(3)));
}

#[test]
fn what_was_not_committed_is_not_claimed_after_a_restart() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    store.write(&sample.at(0), &sample.blocks[0]).unwrap();
    store.commit().unwrap();
    store.write(&sample.at(1), &sample.blocks[1]).unwrap();
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert!(store.has(&sample.at(0)));
    assert!(!store.has(&sample.at(1)));
}

#[test]
fn a_block_that_does_not_fit_its_place_is_refused() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    let longer = Location { len: sample.at(0).len + 1, ..sample.at(0) };
    assert!(matches!(store.write(&longer, &sample.blocks[0]), Err(StoreError::WrongLength { .. })));
    for (offset, len) in [(0, 0), (u32::MAX, 1000), (u32::MAX - 1, 2), (32 << 20, 1)] {
        let nowhere = Location { pack: PackId::of(b"pack"), offset, len };
        assert!(!store.has(&nowhere));
        assert!(matches!(store.write(&nowhere, &sample.blocks[0]), Err(StoreError::BadLocation { .. })));
        assert!(matches!(store.read(&nowhere, sample.id(0)), Err(ReadError::NotHere(_))));
        assert!(matches!(store.forget(&[nowhere]), Err(StoreError::BadLocation { .. })));
    }
}

#[test]
fn a_rotten_block_is_named_once_and_forgotten_for_good() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    sample.store(&store);
    rot(data_dir.path(), &sample.at(3));
    assert!(matches!(store.read(&sample.at(3), sample.id(3)), Err(ReadError::Rotten { .. })));
    assert!(matches!(store.read(&sample.at(3), sample.id(3)), Err(ReadError::NotHere(_))));
    assert!(
        store.read(&sample.at(2), sample.id(2)).is_ok() && store.read(&sample.at(4), sample.id(4)).is_ok()
    );
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert!(!store.has(&sample.at(3)) && store.has(&sample.at(2)) && store.has(&sample.at(4)));
    store.write(&sample.at(3), &sample.blocks[3]).unwrap();
    assert!(store.read(&sample.at(3), sample.id(3)).is_ok());
}

#[test]
fn a_pack_that_is_cut_while_the_store_is_open_is_rotten() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    sample.store(&store);
    let path = pack_path(data_dir.path(), &sample.at(0).pack);
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(10).unwrap();
    assert!(matches!(store.read(&sample.at(0), sample.id(0)), Err(ReadError::Rotten { .. })));
}

#[test]
fn packs_that_were_removed_or_cut_between_two_runs_are_not_claimed() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    sample.store(&store);
    drop(store);
    let (gone, cut) = (sample.at(0).pack, sample.at(8).pack);
    assert_ne!(gone, cut);
    fs::remove_file(pack_path(data_dir.path(), &gone)).unwrap();
    let cut_file = fs::OpenOptions::new().write(true).open(pack_path(data_dir.path(), &cut)).unwrap();
    cut_file.set_len(u64::from(sample.at(9).offset) + 5).unwrap();
    for _ in 0..2 {
        let store = Store::open(data_dir.path()).unwrap();
        let here: Vec<usize> =
            (0..sample.blocks.len()).filter(|number| store.has(&sample.at(*number))).collect();
        let expected: Vec<usize> = [8].into_iter().chain(16..sample.blocks.len()).collect();
        assert_eq!(here, expected);
    }
}

#[test]
fn forgotten_blocks_stay_forgotten() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    sample.store(&store);
    store.forget(&[sample.at(1), sample.at(5)]).unwrap();
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    let gone: Vec<usize> =
        (0..sample.blocks.len()).filter(|number| !store.has(&sample.at(*number))).collect();
    assert_eq!(gone, [1, 5]);
}

#[test]
fn two_stores_never_share_a_folder() {
    let data_dir = tempfile::tempdir().unwrap();
    let first = Store::open(data_dir.path()).unwrap();
    let clone = first.clone();
    let refused = |path: &Path| Store::open(path).err().unwrap();
    assert!(matches!(refused(data_dir.path()), StoreError::InUse(_)));
    drop(first);
    let error = refused(data_dir.path());
    assert!(error.to_string().contains("another branchmesh agent"), "{error}");
    drop(clone);
    Store::open(data_dir.path()).unwrap();
}

#[test]
fn a_data_dir_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = Store::open(&file.join("data")).err().unwrap();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("cannot create"), "{error}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_data_dir_without_permission_says_whose_it_should_be() {
    // Nobody may write here, not even root.
    let error = Store::open(Path::new("/proc/branchmesh")).err().unwrap();
    assert!(error.to_string().contains("/proc/branchmesh"), "{error}");
}

#[test]
fn the_floor_of_free_space_is_kept() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let store = Store::open(data_dir.path()).unwrap();
    store.set_floor(Floor::Percent(100));
    let refused = store.write(&sample.at(0), &sample.blocks[0]).unwrap_err();
    assert!(matches!(refused, StoreError::BelowFloor { .. }), "{refused}");
    assert!(!store.has(&sample.at(0)));
    store.set_floor(Floor::Bytes(1));
    store.write(&sample.at(0), &sample.blocks[0]).unwrap();
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn remount(&self, option: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{option}")]).arg(self.0.path());
        mount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_store_whose_last_user_is_just_ending_is_waited_for() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(store);
    });
    Store::open(data_dir.path()).unwrap();
    ending.join().unwrap();
}

#[test]
fn a_full_disk_is_named_loses_nothing_and_needs_no_restart() {
    let Some(disk) = SmallDisk::mount("12M") else {
        eprintln!("skipped: mounting a small tmpfs needs root on Linux");
        return;
    };
    let data_dir = disk.0.path().join("data");
    let sample = Sample::new("xp", "7", &[("disk.img", noise(3, 16 << 20))]);
    let store = Store::open(&data_dir).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    sample.blocks[..20].iter().enumerate().for_each(|(n, block)| store.write(&sample.at(n), block).unwrap());
    store.commit().unwrap();
    let error = (20..sample.blocks.len())
        .find_map(|number| store.write(&sample.at(number), &sample.blocks[number]).err())
        .expect("the disk to be full");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    // The ledger may lack space too. Either way what was committed is still here, and can be read.
    let _ = store.commit();
    (0..20).for_each(|number| drop(store.read(&sample.at(number), sample.id(number)).unwrap()));

    fs::remove_file(&ballast).unwrap();
    let next = (20..sample.blocks.len()).find(|number| !store.has(&sample.at(*number))).unwrap();
    store.write(&sample.at(next), &sample.blocks[next]).unwrap();
    store.commit().unwrap();
    drop(store);
    let store = Store::open(&data_dir).unwrap();
    (0..20).chain([next]).for_each(|number| drop(store.read(&sample.at(number), sample.id(number)).unwrap()));
    drop(store);
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = SmallDisk::mount("32M") else {
        eprintln!("skipped: mounting a small tmpfs needs root on Linux");
        return;
    };
    let data_dir = disk.0.path().join("data");
    sample().store(&Store::open(&data_dir).unwrap());
    assert!(disk.remount("ro"));
    for data_dir in [data_dir, disk.0.path().join("other")] {
        let error = Store::open(&data_dir).err().unwrap();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
}

#[test]
fn index_parts_are_kept_checked_and_replaced() {
    let data_dir = tempfile::tempdir().unwrap();
    let part = |content: &[u8]| VerifiedBlock::verify(&BlockId::of(content), content.to_vec()).unwrap();
    let (root, piece) = (part(b"the root"), part(b"a piece"));
    let store = Store::open(data_dir.path()).unwrap();
    assert!(store.part(root.id()).unwrap().is_none());
    store.put_part(&root).unwrap();
    store.put_part(&root).unwrap();
    store.put_part(&piece).unwrap();
    store.commit().unwrap();
    drop(store);

    fs::write(data_dir.path().join("store/tmp/left-by-a-crash"), "x").unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    assert_eq!(fs::read_dir(data_dir.path().join("store/tmp")).unwrap().count(), 0);
    assert_eq!(store.part(root.id()).unwrap().unwrap().bytes(), root.bytes());
    let name = root.id().to_string();
    let path = data_dir.path().join("store/indexes").join(&name[..2]).join(&name);
    fs::write(&path, b"the toor").unwrap();
    assert!(store.part(root.id()).unwrap().is_none());
    assert!(!path.exists());
    store.put_part(&root).unwrap();
    assert!(store.part(root.id()).unwrap().is_some());

    store.drop_unreferenced_parts(&[*piece.id()].into()).unwrap();
    assert!(store.part(root.id()).unwrap().is_none());
    assert!(store.part(piece.id()).unwrap().is_some());
}
