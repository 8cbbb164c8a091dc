//! What an update costs: predicted, and then fetched from a web server that counts.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use branchmesh_image::BlockEntry;
use branchmesh_repo::{
    Change, ContentKeys, Contents, Difference, FileDifference, Origin, PartSource, publish,
};
use common::{Fixture, Manner, Server, noise};
use futures::StreamExt;
use std::collections::HashSet;

async fn contents(fixture: &Fixture, release: &str) -> Contents {
    let entry = fixture.entry("xp", release).await;
    let keys = fixture.content_keys();
    Contents::load(&entry, &keys, &fixture.origin()).await.unwrap()
}

/// Fetches what `new` has and `old` lacks, as a node does, and says how many bytes came.
async fn fetch(origin: &Origin, old: Option<&Contents>, new: &Contents) -> u64 {
    let before = origin.wan_bytes();
    let held: HashSet<_> = old.iter().flat_map(|old| old.blocks()).map(BlockEntry::location).collect();
    let wanted = (0u32..).zip(new.blocks()).filter(|(_, block)| !held.contains(&block.location()));
    let wanted = wanted.map(|(number, block)| (number, block.location(), block.blob.id)).collect();
    let blocks: Vec<_> = origin.blocks(wanted).collect().await;
    blocks.into_iter().for_each(|block| drop(block.unwrap()));
    let parts: HashSet<_> = old.iter().flat_map(|old| old.parts()).map(|part| part.id).collect();
    for part in new.parts().filter(|part| !parts.contains(&part.id)) {
        origin.part(new.entry().id(), part).await.unwrap();
    }
    origin.wan_bytes() - before
}

fn file(difference: &Difference, path: &str) -> FileDifference {
    difference.files.iter().find(|file| file.path == path).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_costs_what_was_predicted_to_the_byte() {
    for group in [None, Some("finance".to_owned())] {
        let fixture = Fixture::new().await;
        let disk = noise(1, 24 << 20);
        fixture.write("disk.img", &disk);
        fixture.write("vm.xml", b"<vm/>");
        fixture.write("notes.txt", b"old");
        fixture.write("copy.img", &disk[..4 << 20]);
        let mut options = fixture.options("xp", "1");
        options.group.clone_from(&group);
        publish(options.clone(), &()).await.unwrap();

        let changed = [&disk[..9 << 20], &noise(2, 300_000), &disk[9 << 20..]].concat();
        fixture.write("disk.img", &changed);
        fixture.write("extra.img", &noise(3, 1 << 20));
        std::fs::remove_file(fixture.source.join("notes.txt")).unwrap();
        options.release = "2".into();
        publish(options.clone(), &()).await.unwrap();

        let (one, two) = (contents(&fixture, "1").await, contents(&fixture, "2").await);
        let server = Server::start(&fixture.repo, Manner::Good).await;
        let update = Difference::between(Some(&one), &two);
        assert_eq!(update.fetch_bytes(), fetch(&server.origin(), Some(&one), &two).await);
        assert!((1_300_000..1_900_000).contains(&update.fetch_bytes()), "{update:?}");
        let whole = Difference::between(None, &two);
        assert_eq!(whole.fetch_bytes(), fetch(&server.origin(), None, &two).await);
        assert_eq!((whole.new_blocks, whole.new_block_bytes), (update.blocks, update.block_bytes));
        assert_eq!(whole.new_index_bytes, update.index_bytes);
        assert_eq!(Difference::between(Some(&two), &two).fetch_bytes(), 0);

        let changes = ["copy.img", "disk.img", "extra.img", "notes.txt", "vm.xml"];
        assert_eq!(update.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), changes);
        let change = |path| (file(&update, path).change, file(&update, path).fetch_bytes > 0);
        assert_eq!(change("copy.img"), (Change::Same, false));
        assert_eq!(change("disk.img"), (Change::Changed, true));
        assert_eq!(change("extra.img"), (Change::New, true));
        assert_eq!(change("notes.txt"), (Change::Removed, false));
        assert_eq!(change("vm.xml"), (Change::Same, false));
        assert_eq!(file(&update, "notes.txt").old_size, Some(3));
        assert_eq!(update.files.iter().map(|file| file.fetch_bytes).sum::<u64>(), update.new_block_bytes);
        assert_eq!(whole.files.iter().map(|file| file.fetch_bytes).sum::<u64>(), whole.new_block_bytes);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_mode_is_changed_and_costs_nothing_but_index() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new().await;
    fixture.write("run.sh", b"#!/bin/sh\n");
    fixture.publish("xp", "1").await.unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fixture.source.join("run.sh"), mode).unwrap();
    fixture.publish("xp", "2").await.unwrap();
    let (one, two) = (contents(&fixture, "1").await, contents(&fixture, "2").await);
    let update = Difference::between(Some(&one), &two);
    assert_eq!(file(&update, "run.sh").change, Change::Changed);
    assert_eq!((update.new_blocks, update.new_block_bytes), (0, 0));
    assert!(update.new_index_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_a_group_needs_its_key() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"secret");
    let mut options = fixture.options("xp", "1");
    options.group = Some("finance".into());
    publish(options, &()).await.unwrap();
    let entry = fixture.entry("xp", "1").await;
    let none = Contents::load(&entry, &ContentKeys::default(), &fixture.origin()).await.unwrap_err();
    assert!(none.to_string().contains("--content-key finance=FILE"), "{none}");
}
