//! Publishing: what goes in comes out, only what is new is stored, and nothing that fails leaves a trace.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use branchmesh_repo::{
    ContentKeys, FileError, InitError, KeyError, Keys, MetadataError, PlaceError, Progress, PublishError,
    init, load_index, promote, publish, read_catalog, refresh,
};
use common::{Fixture, Manner, Server, files_of, noise, whole_release};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_comes_back_from_a_folder_and_from_a_web_server() {
    for group in [None, Some("finance".to_owned())] {
        let fixture = Fixture::new().await;
        let disk = [noise(1, 3 << 20), vec![0; 5 << 20], b"text ".repeat(50_000), vec![0; 4096]].concat();
        fixture.write("disk.img", &disk);
        fixture.write("vm/settings.xml", b"<vm/>");
        fixture.write("vm/empty", b"");
        let mut options = fixture.options("xp", "1");
        options.group.clone_from(&group);
        options.channels = vec!["stable".into()];
        let published = publish(options, &()).await.unwrap();

        let entry = fixture.entry("xp", "1").await;
        assert_eq!((&entry.group, &entry.channels[..]), (&group, &["stable".to_owned()][..]));
        assert_eq!(entry.root, published.root);
        assert_eq!((published.files, published.plain_bytes), (3, disk.len() as u64 + 5));
        assert!(published.hole_bytes > (5 << 20) - 4096, "{published:?}");
        assert!(published.encoded_bytes < 3_300_000, "{published:?}");
        assert_eq!((published.new_bytes, published.new_blocks), (published.encoded_bytes, published.blocks));
        let stored: u64 = fixture.packs().iter().map(|pack| fixture.snapshot()[pack].len() as u64).sum();
        assert_eq!(stored, published.new_bytes);

        let server = Server::start(&fixture.repo, Manner::Good).await;
        for origin in [fixture.origin(), server.origin()] {
            let cipher = fixture.cipher(&entry);
            let catalog =
                read_catalog(&origin, Some(&fixture.root_json()), &fixture.content_keys()).await.unwrap();
            assert_eq!(catalog.releases, std::slice::from_ref(&entry));
            let index = load_index(&entry.root, cipher.clone(), &origin).await.unwrap();
            let before = origin.wan_bytes();
            assert_eq!(whole_release(&origin, &index, cipher).await, files_of(&fixture.source));
            let read = origin.wan_bytes() - before;
            assert_eq!(read, if origin.is_local() { 0 } else { entry.encoded_bytes });
        }
        assert_eq!(server.ranges().len(), fixture.packs().len(), "each pack should be one request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_release_stores_only_what_changed() {
    let fixture = Fixture::new().await;
    let old = noise(2, 48 << 20);
    fixture.write("disk.img", &old);
    let first = fixture.publish("xp", "1").await.unwrap();
    let packs = fixture.packs();

    let new = [&old[..5_000_000], b"an insertion", &old[5_000_000..]].concat();
    fixture.write("disk.img", &new);
    let second = fixture.publish("xp", "2").await.unwrap();
    assert!((1..=3).contains(&second.new_blocks), "{second:?}");
    assert!(second.new_bytes < 1 << 20, "{second:?}");
    assert!(second.index_bytes < first.index_bytes, "{first:?} {second:?}");
    assert_eq!(fixture.packs().len(), packs.len() + 1);

    let ids = |index: &branchmesh_image::Index| -> HashSet<_> {
        index.blocks().iter().map(|block| (block.blob.id, block.location())).collect()
    };
    let (one, two) = (fixture.index("xp", "1").await, fixture.index("xp", "2").await);
    assert_eq!(ids(&two).difference(&ids(&one)).count() as u64, second.new_blocks);
    let entry = fixture.entry("xp", "2").await;
    assert_eq!(entry.sequence, fixture.entry("xp", "1").await.sequence + 1);
    let files = whole_release(&fixture.origin(), &two, fixture.cipher(&entry)).await;
    assert_eq!(files, files_of(&fixture.source));

    // The same content again: another release, nothing new but the root of its index.
    let third = fixture.publish("xp", "3").await.unwrap();
    assert_eq!((third.new_blocks, third.new_bytes), (0, 0));
    assert!(third.index_bytes < 2000, "{third:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_blocks_are_stored_once_within_a_release_and_across_images_but_not_across_groups() {
    let fixture = Fixture::new().await;
    let disk = noise(3, 2 << 20);
    fixture.write("one.img", &disk);
    fixture.write("two.img", &disk);
    let published = fixture.publish("xp", "1").await.unwrap();
    assert_eq!(published.plain_bytes, 4 << 20);
    assert!(published.encoded_bytes < 2_100_000, "{published:?}");

    let other = fixture.publish("win", "1").await.unwrap();
    assert_eq!(other.new_bytes, 0);

    let mut options = fixture.options("secret", "1");
    options.group = Some("finance".into());
    let secret = publish(options.clone(), &()).await.unwrap();
    assert_eq!(secret.new_blocks, secret.blocks);
    options.release = "2".into();
    assert_eq!(publish(options, &()).await.unwrap().new_blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_release_fills_several_packs_none_above_the_limit() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(4, 70 << 20));
    fixture.publish("xp", "1").await.unwrap();
    let sizes: Vec<u64> =
        fixture.packs().iter().map(|pack| fs::metadata(fixture.repo.join(pack)).unwrap().len()).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 32 << 20), "{sizes:?}");
    let index = fixture.index("xp", "1").await;
    let entry = fixture.entry("xp", "1").await;
    let files = whole_release(&fixture.origin(), &index, fixture.cipher(&entry)).await;
    assert_eq!(files, files_of(&fixture.source));
}

/// Removes a file at the moment when the reading begins.
struct Saboteur(PathBuf);

impl Progress for Saboteur {
    fn total(&self, _: u64) {
        fs::remove_file(&self.0).unwrap();
    }
    fn advance(&self, _: u64) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_leaves_the_repository_as_it_was() {
    let fixture = Fixture::new().await;
    fixture.write("a.img", &noise(5, 1 << 20));
    fixture.publish("xp", "1").await.unwrap();
    let before = fixture.snapshot();

    // More than a pack is written before the second file is missed.
    fixture.write("a.img", &noise(6, 40 << 20));
    fixture.write("b.img", b"soon gone");
    let saboteur = Saboteur(fixture.source.join("b.img"));
    let error = publish(fixture.options("xp", "2"), &saboteur).await.unwrap_err();
    assert!(
        matches!(&error, PublishError::File(FileError::Unreadable { path, .. }) if path.ends_with("b.img"))
    );
    assert_eq!(fixture.snapshot(), before);
    fixture.publish("xp", "2").await.unwrap();
}

/// Says when the first blocks are through.
#[derive(Default)]
struct Bell {
    done: AtomicU64,
    rung: Notify,
}

impl Progress for Bell {
    fn total(&self, _: u64) {}
    fn advance(&self, bytes: u64) {
        if self.done.fetch_add(bytes, Ordering::Relaxed) > 34 << 20 {
            self.rung.notify_one();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_stops_half_way_is_as_if_it_had_not_begun() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(7, 1 << 20));
    fixture.publish("xp", "1").await.unwrap();
    let before = fixture.snapshot();

    fixture.write("disk.img", &noise(8, 64 << 20));
    let bell = Bell::default();
    tokio::select! {
        result = publish(fixture.options("xp", "2"), &bell) => panic!("it ended before it was stopped: {result:?}"),
        () = bell.rung.notified() => {}
    }
    for (path, bytes) in &before {
        assert_eq!(&fs::read(fixture.repo.join(path)).unwrap(), bytes, "{} changed", path.display());
    }
    let catalog =
        read_catalog(&fixture.origin(), Some(&fixture.root_json()), &ContentKeys::default()).await.unwrap();
    assert_eq!(catalog.releases.len(), 1);

    // And it can be done again, over what is left.
    fixture.publish("xp", "2").await.unwrap();
    let index = fixture.index("xp", "2").await;
    let entry = fixture.entry("xp", "2").await;
    let files = whole_release(&fixture.origin(), &index, fixture.cipher(&entry)).await;
    assert_eq!(files, files_of(&fixture.source));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_never_changes_and_names_stay_unambiguous() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"content");
    let mut options = fixture.options("xp", "1");
    options.channels = vec!["stable".into()];
    publish(options.clone(), &()).await.unwrap();
    let before = fixture.snapshot();

    let refused = |error: PublishError, expected: fn(&PublishError) -> bool| {
        assert!(expected(&error), "{error:?}");
        assert_eq!(fixture.snapshot(), before);
    };
    let again = publish(options.clone(), &()).await.unwrap_err();
    refused(again, |error| matches!(error, PublishError::AlreadyPublished(_)));
    let capitals = fixture.publish("XP", "2").await.unwrap_err();
    refused(capitals, |error| matches!(error, PublishError::SameSpelling { .. }));
    let channel = fixture.publish("xp", "stable").await.unwrap_err();
    refused(channel, |error| matches!(error, PublishError::ChannelIsRelease { .. }));
    options.release = "2".into();
    options.channels = vec!["1".into()];
    let release = publish(options.clone(), &()).await.unwrap_err();
    refused(release, |error| matches!(error, PublishError::ChannelIsRelease { .. }));
    options.channels = vec!["../x".into()];
    refused(publish(options, &()).await.unwrap_err(), |error| matches!(error, PublishError::Name(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_moves_and_metadata_is_renewed() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.to_str().unwrap();
    fixture.write("disk.img", b"content");
    fixture.publish("xp", "1").await.unwrap();
    fixture.publish("xp", "2").await.unwrap();
    for release in ["1", "2", "2"] {
        promote(&repo.into(), &fixture.keys(), "xp", release, "stable").await.unwrap();
        let catalog = read_catalog(&fixture.origin(), Some(&fixture.root_json()), &ContentKeys::default())
            .await
            .unwrap();
        let pointing: Vec<&str> = catalog
            .releases
            .iter()
            .filter(|r| r.channels == ["stable"])
            .map(|r| r.release.as_str())
            .collect();
        assert_eq!(pointing, [release]);
    }
    let unknown = promote(&repo.into(), &fixture.keys(), "xp", "9", "stable").await;
    assert!(matches!(unknown, Err(PublishError::NotPublished(_))));

    let before = read_catalog(&fixture.origin(), None, &ContentKeys::default()).await.unwrap();
    refresh(&repo.into(), &fixture.keys(), &BTreeMap::new()).await.unwrap();
    let after = read_catalog(&fixture.origin(), None, &ContentKeys::default()).await.unwrap();
    assert_eq!(after.version, before.version + 1);
    assert_eq!(after.releases, before.releases);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_the_repository_lost_are_stored_again() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(9, 2 << 20));
    let first = fixture.publish("xp", "1").await.unwrap();
    fs::remove_file(fixture.repo.join(&fixture.packs()[0])).unwrap();
    let second = fixture.publish("xp", "2").await.unwrap();
    assert_eq!(second.new_blocks, first.blocks);

    // A damaged index part: its blocks are not found again, and the part itself is written anew.
    let is_part = |path: &PathBuf| path.starts_with("indexes");
    for part in fixture.snapshot().into_keys().filter(is_part) {
        fixture.flip(&part);
    }
    let third = fixture.publish("xp", "3").await.unwrap();
    assert_eq!(third.new_blocks, third.blocks);
    fixture.index("xp", "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_group_and_of_a_repository_are_not_mixed_up() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"secret");
    let mut options = fixture.options("xp", "1");
    options.group = Some("finance".into());
    publish(options.clone(), &()).await.unwrap();
    options.release = "2".into();
    let key = fixture.keys.join("groups/finance.key");
    let line = fs::read_to_string(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let missing = publish(options.clone(), &()).await;
    assert!(matches!(missing, Err(PublishError::Key(KeyError::GroupKeyMissing { .. }))));
    let digits = line.trim_end();
    let other = format!("{}{}", &digits[..digits.len() - 1], if digits.ends_with('0') { '1' } else { '0' });
    fs::write(&key, other).unwrap();
    let wrong = publish(options.clone(), &()).await;
    assert!(matches!(wrong, Err(PublishError::WrongGroupKey { .. })), "{wrong:?}");
    fs::write(&key, line).unwrap();
    publish(options, &()).await.unwrap();

    let stranger = Fixture::new().await;
    fs::copy(stranger.keys.join("targets.key"), fixture.keys.join("targets.key")).unwrap();
    let foreign = fixture.publish("open", "1").await;
    let is_foreign = matches!(foreign, Err(PublishError::Metadata(MetadataError::NoKey { .. })));
    assert!(is_foreign, "{foreign:?}");
    fs::copy(stranger.keys.join("root.json"), fixture.keys.join("root.json")).unwrap();
    let foreign = fixture.publish("open", "1").await;
    assert!(matches!(foreign, Err(PublishError::Metadata(MetadataError::Trust(_)))), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_initialised_twice_and_keys_stay_out_of_the_repository() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.to_str().unwrap();
    let again = init(&repo.into(), &Keys::at(&fixture.dir.path().join("other-keys"))).await;
    assert!(matches!(again, Err(InitError::Exists(_))));
    let other = fixture.dir.path().join("other");
    let other = other.to_str().unwrap();
    assert!(matches!(
        init(&other.into(), &fixture.keys()).await,
        Err(InitError::Key(KeyError::Exists { .. }))
    ));
    let inside = fixture.dir.path().join("other/keys");
    assert!(matches!(init(&other.into(), &Keys::at(&inside)).await, Err(InitError::KeysInside(_))));
    let web = init(&"https://example.com/repo".into(), &fixture.keys()).await;
    assert!(matches!(web, Err(InitError::Place(PlaceError::ReadOnly(_)))));

    let url = url::Url::from_directory_path(other).unwrap();
    init(&url.as_str().into(), &Keys::at(&fixture.dir.path().join("other-keys"))).await.unwrap();
}
