//! The publishing pipeline at its edges: every block size, any number of files, always the same bytes.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use branchmesh_image::{BlockSize, Extent};
use branchmesh_repo::publish;
use common::{Fixture, files_of, noise, whole_release};
use std::{collections::BTreeMap, fs, path::PathBuf};

#[tokio::test(flavor = "multi_thread")]
async fn releases_of_every_block_size_come_back_whole() {
    let fixture = Fixture::new().await;
    let disk = [noise(1, 3 << 20), vec![0; 1 << 20], noise(2, 2 << 20), b"tail ".repeat(3000)].concat();
    fixture.write("disk.img", &disk);
    let mut counts = Vec::new();
    for size in BlockSize::ALL {
        let release = size.to_string();
        let mut options = fixture.options("xp", &release);
        options.block_size = Some(size);
        let published = publish(options, &()).await.unwrap();
        let index = fixture.index("xp", &release).await;
        let largest = index.blocks().iter().map(|block| block.blob.plain_len as usize).max().unwrap();
        assert!(largest <= size.max(), "{size}: a block of {largest} bytes");
        let entry = fixture.entry("xp", &release).await;
        let files = whole_release(&fixture.origin(), &index, fixture.cipher(&entry)).await;
        assert_eq!(files, files_of(&fixture.source), "{size}");
        counts.push(published.blocks);
    }
    assert!(counts.is_sorted_by(|more, fewer| more > fewer), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_make_the_same_packs_and_index() {
    let mut results: Vec<BTreeMap<PathBuf, Vec<u8>>> = Vec::new();
    for _ in 0..2 {
        let fixture = Fixture::new().await;
        fs::create_dir(fixture.keys.join("groups")).unwrap();
        let key = format!("branchmesh-group-key-v1:{}\n", "5c".repeat(32));
        fs::write(fixture.keys.join("groups/finance.key"), key).unwrap();
        // Blocks that take long and blocks that take no time, in turn, so that encoders overtake each other.
        for number in 0..4 {
            let text = format!("file {number} and its words ").repeat(60_000);
            fixture.write(&format!("{number}a.txt"), text.as_bytes());
            fixture.write(&format!("{number}b.img"), &noise(number, 9 << 20));
        }
        for release in ["1", "2"] {
            let mut options = fixture.options("xp", release);
            options.group = Some("finance".into());
            publish(options, &()).await.unwrap();
            fixture.write("0b.img", &noise(99, 9 << 20));
        }
        let data = |path: &PathBuf| path.starts_with("packs") || path.starts_with("indexes");
        let mut files = fixture.snapshot();
        files.retain(|path, _| data(path));
        results.push(files);
    }
    assert!(results[0].len() >= 6, "{:?}", results[0].keys());
    assert!(results[0] == results[1], "two publications of the same files differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_and_a_file_of_one_byte_are_a_release() {
    let fixture = Fixture::new().await;
    fixture.write("empty", b"");
    let published = fixture.publish("xp", "1").await.unwrap();
    assert_eq!((published.files, published.plain_bytes, published.blocks), (1, 0, 0));
    assert_eq!(fixture.packs(), Vec::<PathBuf>::new());
    fixture.write("one", b"1");
    fixture.write("zero", b"\0");
    let published = fixture.publish("xp", "2").await.unwrap();
    assert_eq!((published.files, published.plain_bytes, published.blocks), (3, 2, 1));
    for (release, count) in [("1", 1), ("2", 3)] {
        let index = fixture.index("xp", release).await;
        let entry = fixture.entry("xp", release).await;
        let files = whole_release(&fixture.origin(), &index, fixture.cipher(&entry)).await;
        assert_eq!(files.len(), count);
        assert!(files.iter().all(|(path, bytes)| fs::read(fixture.source.join(path)).unwrap() == *bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_tiny_files_are_a_release() {
    let fixture = Fixture::new().await;
    for number in 0..100_000u32 {
        if number % 1000 == 0 {
            fs::create_dir(fixture.source.join((number / 1000).to_string())).unwrap();
        }
        let path = fixture.source.join(format!("{}/{number}", number / 1000));
        fs::write(path, number.to_string()).unwrap();
    }
    let published = fixture.publish("xp", "1").await.unwrap();
    assert_eq!((published.files, published.blocks), (100_000, 100_000));
    assert_eq!(fixture.packs().len(), 1);
    let index = fixture.index("xp", "1").await;
    for file in index.files() {
        let number = file.path.split('/').next_back().unwrap();
        assert_eq!(file.size, number.len() as u64);
        let [Extent::Blocks { first, count: 1 }] = file.extents[..] else { panic!("{file:?}") };
        let hash = branchmesh_image::PlainHash::of(number.as_bytes());
        assert_eq!(index.blocks()[first as usize].blob.plain, hash, "{}", file.path);
    }
    // Only names and the root of the index are new when nothing has changed.
    let again = fixture.publish("xp", "2").await.unwrap();
    assert_eq!((again.new_blocks, again.blocks), (0, 100_000));
    assert!(again.index_bytes < published.index_bytes / 2, "{published:?} {again:?}");
}
