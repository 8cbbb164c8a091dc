//! Dead blocks in packs that are still needed: their space comes back, and the live ones beside them stay.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]
#![cfg(target_os = "linux")]

mod common;

use branchmesh_store::{LiveBlocks, Store};
use common::{Sample, noise, pack_path};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

/// Bytes that the packs take on the disk.
fn allocated(data_dir: &Path, sample: &Sample) -> u64 {
    let packs: BTreeSet<_> = sample.packs().collect();
    packs.iter().map(|pack| fs::metadata(pack_path(data_dir, pack)).unwrap().blocks() * 512).sum()
}

#[test]
fn dead_blocks_give_their_space_back_and_live_ones_stay() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = Sample::new("xp", "7", &[("disk.img", noise(1, 8 << 20))]);
    sample.store(&store);
    // Of each eight blocks, the first, the fourth and the fifth are needed.
    let is_live = |number: usize| matches!(number % 8, 0 | 3 | 4);
    let (live, dead): (Vec<usize>, Vec<usize>) =
        (0..sample.blocks.len()).partition(|number| is_live(*number));
    let dead_bytes: u64 = dead.iter().map(|number| u64::from(sample.at(*number).len)).sum();
    let before = allocated(data_dir.path(), &sample);

    let needed: LiveBlocks = live.iter().map(|number| sample.at(*number)).collect();
    assert_eq!(store.free_dead_blocks(&needed).unwrap(), dead_bytes);
    assert_eq!(store.free_dead_blocks(&needed).unwrap(), 0, "nothing is dead any more");
    let freed = before - allocated(data_dir.path(), &sample);
    assert!(freed > dead_bytes * 8 / 10, "{freed} of {dead_bytes} dead bytes came back");

    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert!(dead.iter().all(|number| !store.has(&sample.at(*number))));
    for number in &live {
        store.read(&sample.at(*number), sample.id(*number)).unwrap();
    }
    assert_eq!(store.usage().pack_bytes, sample.index.encoded_bytes() - dead_bytes);
    sample.store(&store);
    sample.assert_is_in(&sample.assemble(&store).unwrap());
}

#[test]
fn what_all_releases_need_or_nobody_knows_is_left_alone() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = Sample::new("xp", "7", &[("disk.img", noise(2, 1 << 20))]);
    sample.store(&store);
    let all: LiveBlocks = (0..sample.blocks.len()).map(|number| sample.at(number)).collect();
    assert_eq!(store.free_dead_blocks(&all).unwrap(), 0);
    // Packs that no release refers to go as a whole, and elsewhere.
    assert_eq!(store.free_dead_blocks(&LiveBlocks::default()).unwrap(), 0);
    sample.assert_is_in(&sample.assemble(&store).unwrap());
}
