//! How fast the store is on this machine: `cargo test -p branchmesh-store --test speed -- --ignored --nocapture`.
//! Figures for people, not limits: a build machine's disk is anybody's guess.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use branchmesh_image::{BlockId, Location, PackId, VerifiedBlock};
use branchmesh_store::Store;
use common::{Sample, noise};
use std::time::{Duration, Instant};

fn report(what: &str, bytes: u64, took: Duration) {
    println!("{what}: {:.0} MiB/s ({took:.2?})", bytes as f64 / f64::from(1 << 20) / took.as_secs_f64());
}

#[test]
#[ignore = "measures"]
fn blocks_and_files() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = Sample::new("xp", "7", &[("disk.img", noise(1, 512 << 20))]);
    let bytes = sample.index.encoded_bytes();

    let start = Instant::now();
    for (number, block) in sample.blocks.iter().enumerate() {
        store.write(&sample.at(number), block).unwrap();
        if store.uncommitted_bytes() > 64 << 20 {
            store.commit().unwrap();
        }
    }
    store.commit().unwrap();
    report("write, a commit each 64 MiB", bytes, start.elapsed());

    let start = Instant::now();
    for number in 0..sample.blocks.len() {
        store.read(&sample.at(number), sample.id(number)).unwrap();
    }
    report("read and verify, one thread, cached", bytes, start.elapsed());

    let start = Instant::now();
    sample.assemble(&store).unwrap();
    report("assemble, synced", bytes, start.elapsed());
}

#[test]
#[ignore = "measures"]
fn opening_a_store_of_sixty_gigabytes() {
    let data_dir = tempfile::tempdir().unwrap();
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
