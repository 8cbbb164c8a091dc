//! Releases across restarts: records, the active one, and those that are let go.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use branchmesh_store::{Hold, ImageRecord, SOURCES_MAX, Store, StoreError};
use common::{Sample, noise, pack_path};
use std::{collections::HashSet, fs};

fn sample(release: &str) -> Sample {
    let seed = release.bytes().map(u64::from).sum();
    Sample::new("xp", release, &[("disk.img", noise(seed, 1 << 20))])
}

#[test]
fn records_are_kept_in_the_order_of_their_arrival() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let releases = ["9", "10", "2"].map(sample);
    releases.iter().for_each(|release| store.put_release(&release.record(false)).unwrap());
    store.put_release(&releases[0].record(true)).unwrap();
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    let expected = [releases[0].record(true), releases[1].record(false), releases[2].record(false)];
    assert_eq!(store.releases().unwrap(), expected);
    store.remove_release("xp", "10").unwrap();
    store.remove_release("xp", "10").unwrap();
    assert_eq!(store.releases().unwrap(), [expected[0].clone(), expected[2].clone()]);
}

#[test]
fn a_complete_record_brings_its_blocks_with_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let sample = sample("7");
    for (number, block) in sample.blocks.iter().enumerate() {
        store.write(&sample.at(number), block).unwrap();
    }
    store.put_release(&sample.record(true)).unwrap();
    assert_eq!(store.uncommitted_bytes(), 0);
}

#[test]
fn a_record_beyond_its_limit_is_refused() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let mut record = sample("7").record(false);
    record.sources = vec![0xff; SOURCES_MAX];
    store.put_release(&record).unwrap();
    assert_eq!(store.releases().unwrap(), [record.clone()]);
    record.sources.push(0);
    assert!(matches!(store.put_release(&record), Err(StoreError::RecordTooLarge { .. })));
}

#[test]
fn the_active_release_is_named_by_a_pointer_that_is_never_half_written() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    assert_eq!(store.current("xp").unwrap(), None);
    assert!(matches!(store.activate("xp", "6"), Err(StoreError::NotAssembled { .. })));
    for release in ["6", "7"] {
        let sample = sample(release);
        sample.store(&store);
        sample.assemble(&store).unwrap();
        store.activate("xp", release).unwrap();
        assert_eq!(store.current("xp").unwrap().as_deref(), Some(release));
    }
    let pointer = data_dir.path().join("images/xp/current");
    assert_eq!(fs::read_to_string(&pointer).unwrap(), "7\n");
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert_eq!(store.current("xp").unwrap().as_deref(), Some("7"));
    fs::write(&pointer, "../../etc").unwrap();
    assert!(matches!(store.current("xp"), Err(StoreError::Name(_))));
    fs::write(&pointer, [0xff; 1000]).unwrap();
    assert!(store.current("xp").is_err());
}

#[test]
fn the_newest_complete_releases_stay_and_so_does_the_active_one() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    for release in ["5", "6", "7", "8"] {
        let sample = sample(release);
        sample.store(&store);
        sample.assemble(&store).unwrap();
        store.put_release(&sample.record(release != "8")).unwrap();
    }
    let surplus = |keep| -> Vec<String> {
        store.surplus(keep).unwrap().into_iter().map(|(_, release)| release).collect()
    };
    assert_eq!(surplus(2), ["5"]);
    assert_eq!(surplus(1), ["5", "6"]);
    store.activate("xp", "5").unwrap();
    assert_eq!(surplus(1), ["6"]);
    assert!(surplus(3).is_empty());
    let other = Sample::new("win", "1", &[("a", noise(1, 10))]);
    store.put_release(&other.record(true)).unwrap();
    assert_eq!(surplus(1), ["6"]);
}

#[test]
fn a_retired_release_leaves_no_file_and_its_packs_go_when_nobody_refers_to_them() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let (old, new) = (sample("6"), sample("7"));
    for sample in [&old, &new] {
        sample.store(&store);
        sample.assemble(&store).unwrap();
        store.put_release(&sample.record(true)).unwrap();
    }
    store.activate("xp", "6").unwrap();
    assert!(matches!(store.retire("xp", "6"), Err(StoreError::Active { .. })));
    store.activate("xp", "7").unwrap();
    store.retire("xp", "6").unwrap();
    store.retire("xp", "6").unwrap();
    assert_eq!(store.releases().unwrap(), [new.record(true)]);
    assert!(!data_dir.path().join("images/xp/6").exists());

    // A pack that a crash has left without a claim goes too; what the store did not make stays.
    let stray = pack_path(data_dir.path(), &branchmesh_image::PackId::of(b"stray"));
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, "x").unwrap();
    let foreign = data_dir.path().join("store/packs/README");
    fs::write(&foreign, "x").unwrap();
    assert!(store.has(&old.at(0)));
    let referenced: HashSet<_> = new.packs().collect();
    assert_eq!(store.drop_unreferenced(&referenced).unwrap(), old.index.encoded_bytes());
    assert!(!store.has(&old.at(0)) && store.has(&new.at(0)));
    assert!(old.packs().all(|pack| !pack_path(data_dir.path(), &pack).exists()));
    assert!(!stray.exists() && foreign.exists());
    assert_eq!(store.usage().pack_bytes, new.index.encoded_bytes());
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert!(!store.has(&old.at(0)) && store.has(&new.at(0)));
    new.assert_is_in(&new.assemble(&store).unwrap());
    // What was dropped can come back.
    old.store(&store);
    old.assert_is_in(&old.assemble(&store).unwrap());
}

#[test]
fn what_was_decided_about_an_image_is_there_again_after_a_restart() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let mut record = ImageRecord {
        pinned: ["6".to_owned(), "5".into()].into(),
        asked: ["7".to_owned()].into(),
        hold: Some(Hold { release: "6".into(), past: 9 }),
        told_ready: [sample("6").record(true).root.id].into(),
        told_active: Some("6".into()),
    };
    store.put_image("xp", &record).unwrap();
    store.put_image("win", &record).unwrap();
    record.hold = None;
    store.put_image("xp", &record).unwrap();
    store.put_image("win", &ImageRecord::default()).unwrap();
    drop(store);
    let store = Store::open(data_dir.path()).unwrap();
    assert_eq!(store.images_remembered().unwrap(), [("xp".to_owned(), record.clone())]);

    assert!(matches!(store.put_image("current", &record), Err(StoreError::ReservedName(_))));
    record.pinned = (0..10_000).map(|number| format!("{number:0>200}")).collect();
    assert!(matches!(store.put_image("xp", &record), Err(StoreError::ImageRecordTooLarge { .. })));
}
