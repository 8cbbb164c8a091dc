//! How fast the store is on this machine: `cargo bench -p branchmesh-store --bench speed`. A folder as argument is where
//! it writes; without one it is the system's folder for temporary files, which is often no disk.
//! Figures for people, not limits: a build machine's disk is anybody's guess.

#![allow(clippy::unwrap_used, reason = "it may fail by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use branchmesh_image::{BlockId, Location, PackId, VerifiedBlock};
use branchmesh_store::Store;
use common::{Sample, noise};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// What a commit waits for.
const COMMIT_BYTES: u64 = 64 << 20;

fn report(what: &str, bytes: u64, took: Duration) {
    println!("{what}: {:.0} MiB/s ({took:.2?})", bytes as f64 / f64::from(1 << 20) / took.as_secs_f64());
}

fn main() {
    // Cargo gives `--bench` too.
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    blocks_and_files(&folder);
    opening_a_store_of_sixty_gigabytes(&folder);
}

fn blocks_and_files(folder: &Path) {
    let data_dir = tempfile::tempdir_in(folder).unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = Sample::new("xp", "7", &[("disk.img", noise(1, 512 << 20))]);
    let bytes = sample.index.encoded_bytes();

    let start = Instant::now();
    write(&store, &sample, || {});
    report("write, a commit each 64 MiB", bytes, start.elapsed());

    let start = Instant::now();
    for number in 0..sample.blocks.len() {
        store.read(&sample.at(number), sample.id(number)).unwrap();
    }
    report("read and verify, one thread, cached", bytes, start.elapsed());

    let start = Instant::now();
    sample.assemble(&store).unwrap();
    report("assemble at once, synced", bytes, start.elapsed());

    let data_dir = tempfile::tempdir_in(folder).unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let mut assembly = store.begin_assembly(Arc::new(sample.index.clone()), sample.cipher.clone()).unwrap();
    let start = Instant::now();
    write(&store, &sample, || {
        assembly.advance().unwrap();
    });
    report("write and assemble ahead", bytes, start.elapsed());
    let start = Instant::now();
    assembly.advance().unwrap();
    println!("write ahead what the last commit brought: {:.2?}", start.elapsed());
    let start = Instant::now();
    assembly.advance().unwrap();
    println!("look for new blocks, none: {:.2?}", start.elapsed());
    let start = Instant::now();
    assembly.finish(&|_| ()).unwrap();
    println!("finish what was assembled ahead, synced: {:.2?}", start.elapsed());
}

/// Stores all blocks, and says so after each commit but the last.
fn write(store: &Store, sample: &Sample, mut committed: impl FnMut()) {
    for (number, block) in sample.blocks.iter().enumerate() {
        store.write(&sample.at(number), block).unwrap();
        if store.uncommitted_bytes() > COMMIT_BYTES {
            store.commit().unwrap();
            committed();
        }
    }
    store.commit().unwrap();
}

fn opening_a_store_of_sixty_gigabytes(folder: &Path) {
    let data_dir = tempfile::tempdir_in(folder).unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let bytes = vec![1; 64];
    let block = VerifiedBlock::verify(&BlockId::of(&bytes), bytes).unwrap();
    // The claims of 2000 packs, each with 250 holes; what the blocks hold does not matter to opening.
    for pack in 0..2000u32 {
        for number in 0..250 {
            let at = Location { pack: PackId::of(&pack.to_le_bytes()), offset: number * 128_000, len: 64 };
            store.write(&at, &block).unwrap();
        }
    }
    store.commit().unwrap();
    drop(store);
    let start = Instant::now();
    let store = Store::open(data_dir.path()).unwrap();
    println!("open: {:.2?}", start.elapsed());
    assert_eq!(store.usage().pack_bytes, 2000 * 250 * 64);
}
