//! Harvesting: blocks of a release from files of the machine, whatever became of these files meanwhile.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

mod common;

use branchmesh_image::{BlockSize, Cipher, Encoder, GroupKey};
use branchmesh_store::{Harvest, Harvested, Scan, Store};
use common::{Sample, noise};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};
use tempfile::TempDir;

const SIZE: BlockSize = BlockSize::KiB64;

/// A node, and a folder with files of its machine.
struct Machine {
    dir: TempDir,
    store: Store,
    harvest: Harvest,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("node");
        let store = Store::open(&data_dir).unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        Self { harvest: Harvest::new(&store), store, dir }
    }

    fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.files().join(name), content).unwrap();
    }

    fn scan(&self) -> Scan {
        self.harvest.scan(&[self.files()], SIZE, &AtomicBool::new(false)).unwrap()
    }

    /// Takes what there is for a release; also, the numbers of the blocks.
    fn take(&self, sample: &Sample) -> (Harvested, Vec<u32>) {
        let mut numbers = Vec::new();
        let harvested = self
            .harvest
            .take(&self.store, (&sample.index, &sample.cipher), &AtomicBool::new(false), &mut |found| {
                numbers.extend_from_slice(found);
            })
            .unwrap();
        numbers.sort_unstable();
        (harvested, numbers)
    }
}

/// The blocks that the store has, each of them read and verified.
fn present(store: &Store, sample: &Sample) -> Vec<u32> {
    let numbers = 0..sample.blocks.len();
    let is_here = |number: &usize| store.read(&sample.at(*number), sample.id(*number)).is_ok();
    numbers.filter(is_here).map(|number| u32::try_from(number).unwrap()).collect()
}

/// Text that compresses, the same for the same seed.
fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length / 2).iter().flat_map(|byte| [b'a' + byte % 16, b'a' + byte / 16]).collect()
}

#[test]
fn an_old_disk_gives_all_that_the_new_one_has_in_common_with_it() {
    let machine = Machine::new();
    let old = text(1, 4 << 20);
    let mut new = old.clone();
    new.splice(2_000_000..2_000_100, noise(2, 70_000));
    machine.put("old.vhd", &[&noise(3, 512), &old[..]].concat());
    let scan = machine.scan();
    assert_eq!((scan.files, scan.bytes, scan.unchanged), (1, old.len() as u64 + 512, 0));
    assert_eq!((scan.unreadable, scan.is_stopped), (vec![], false));

    let sample = Sample::new("xp", "2", &[("disk.vhd", new)]);
    let (harvested, numbers) = machine.take(&sample);
    assert!(numbers.len() + 4 >= sample.blocks.len(), "{} of {}", numbers.len(), sample.blocks.len());
    assert_eq!(numbers, present(&machine.store, &sample));
    let bytes: u32 =
        numbers.iter().map(|number| sample.index.blocks()[*number as usize].blob.encoded_len).sum();
    assert_eq!((harvested.blocks, harvested.bytes), (numbers.len() as u64, u64::from(bytes)));
    assert_eq!((harvested.changed, harvested.foreign), (0, 0));

    let (again, none) = machine.take(&sample);
    assert_eq!((again.blocks, again.read_bytes, none), (0, 0, vec![]));
}

#[test]
fn nothing_is_read_twice_unless_it_changed() {
    let machine = Machine::new();
    machine.put("a.img", &noise(1, 300_000));
    machine.put("b.img", &noise(2, 300_000));
    assert_eq!(machine.scan().files, 2);
    let second = machine.scan();
    assert_eq!((second.files, second.bytes, second.unchanged), (0, 0, 2));

    machine.put("b.img", &noise(3, 400_000));
    let third = machine.scan();
    assert_eq!((third.files, third.bytes, third.unchanged), (1, 400_000, 1));
    let Machine { dir, store, harvest } = machine;
    drop((store, harvest));
    let harvest = Harvest::new(&Store::open(&dir.path().join("node")).unwrap());
    let fourth = harvest.scan(&[dir.path().join("files")], SIZE, &AtomicBool::new(false)).unwrap();
    assert_eq!((fourth.files, fourth.unchanged), (0, 2), "after a restart");
    let smaller =
        harvest.scan(&[dir.path().join("files")], BlockSize::KiB16, &AtomicBool::new(false)).unwrap();
    assert_eq!(smaller.files, 2, "other blocks are cut elsewhere");
}

#[test]
fn what_changed_since_it_was_read_is_not_used() {
    let machine = Machine::new();
    let content = noise(1, 2 << 20);
    machine.put("changed.img", &content);
    machine.put("gone.img", &noise(2, 1 << 20));
    machine.scan();
    let mut changed = content.clone();
    changed[1_000_000] ^= 1;
    machine.put("changed.img", &changed);
    fs::remove_file(machine.files().join("gone.img")).unwrap();

    let sample = Sample::new("xp", "1", &[("a.img", content), ("b.img", noise(2, 1 << 20))]);
    let (harvested, numbers) = machine.take(&sample);
    assert!(harvested.blocks > 0 && harvested.changed > 1, "{harvested:?}");
    assert_eq!(harvested.blocks + harvested.changed, sample.blocks.len() as u64);
    assert_eq!(numbers, present(&machine.store, &sample));

    // The next scan forgets the file that is gone.
    machine.scan();
    assert_eq!(machine.take(&sample).0.changed, 0);
}

#[test]
fn blocks_of_a_group_and_of_any_level_come_out_as_their_publisher_made_them() {
    let content = text(5, 1 << 20);
    let group = Cipher::Group(GroupKey::generate().unwrap());
    for cipher in [Cipher::None, group] {
        let machine = Machine::new();
        machine.put("old.img", &content);
        machine.scan();
        let sample = Sample::sealed("xp", "1", &[("disk.img", content.clone())], cipher);
        let (harvested, numbers) = machine.take(&sample);
        assert_eq!(numbers, present(&machine.store, &sample));
        assert_eq!((numbers.len(), harvested.foreign), (sample.blocks.len(), 0));
        sample.assert_is_in(&sample.assemble(&machine.store).unwrap());
    }
    // The samples above are made at level 1, and 3 is what is tried first.
    let mut encoder = Encoder::new(3, Cipher::None).unwrap();
    let sample = Sample::new("xp", "1", &[("disk.img", content.clone())]);
    assert_ne!(encoder.encode(&content[..50_000]).unwrap().1.bytes(), sample.blocks[0].bytes());
}

#[test]
fn a_scan_that_is_stopped_is_gone_on_with() {
    let machine = Machine::new();
    machine.put("a.img", &noise(1, 300_000));
    let stopped = machine.harvest.scan(&[machine.files()], SIZE, &AtomicBool::new(true)).unwrap();
    assert_eq!((stopped.files, stopped.is_stopped), (0, true));
    assert_eq!(machine.scan().files, 1);
    let sample = Sample::new("xp", "1", &[("disk.img", noise(1, 300_000))]);
    let taken = machine.harvest.take(
        &machine.store,
        (&sample.index, &sample.cipher),
        &AtomicBool::new(true),
        &mut |found| assert!(found.is_empty()),
    );
    assert_eq!(taken.map(|taken| (taken.blocks, taken.is_stopped)).unwrap(), (0, true));
}

#[test]
fn what_cannot_be_read_is_named_and_a_damaged_memory_is_made_anew() {
    let machine = Machine::new();
    machine.put("a.img", &noise(1, 300_000));
    let missing = machine.files().join("missing");
    let places = [missing.clone(), machine.files()];
    let scan = machine.harvest.scan(&places, SIZE, &AtomicBool::new(false)).unwrap();
    assert_eq!(scan.files, 1);
    assert_eq!(scan.unreadable.iter().map(|(path, _)| path.as_path()).collect::<Vec<&Path>>(), [missing]);

    let Machine { dir, store, harvest } = machine;
    drop(harvest);
    let memory = dir.path().join("node/store/harvest.redb");
    for damage in [&b"no database"[..], b"", &[0; 100_000]] {
        fs::write(&memory, damage).unwrap();
        let scan = Harvest::new(&store).scan(&[dir.path().join("files")], SIZE, &AtomicBool::new(false));
        assert_eq!(scan.unwrap().files, 1);
    }
}
