//! gc and a publisher in one cloud: each is stopped before each of its operations while the other does all its work.
//! Whatever comes of it, every release is whole, even if nothing is spared for its age.

use super::{Collected, GcError, GcOptions, gc};
use crate::{
    Address, ContentKeys, Keys,
    cloud::memory::{Fault, Memory},
    init, layout,
    metadata::MetadataError,
    place::{Place, PlaceError},
    publish::{PublishError, PublishOptions, publish},
    verify::verify,
    withdraw::remove_release,
};
use branchmesh_image::{PlainHash, index::PACK_MAX};
use std::{fs, sync::Arc, time::Duration};
use tempfile::TempDir;

/// More operations than either has.
const OPERATIONS_MAX: usize = 500;

struct World {
    dir: TempDir,
    cloud: Memory,
    name: &'static str,
}

impl World {
    /// A repository with a release, what is left of a removed one, and the packs of an upload that was interrupted.
    async fn new(name: &'static str) -> Arc<Self> {
        let world = Self { dir: tempfile::tempdir().unwrap(), cloud: Memory::new(), name };
        let repo = world.cloud.publish_as(name).into();
        init(&repo, &world.keys()).await.unwrap();
        for (release, seed) in [("kept", 1), ("removed", 2)] {
            world.publish(&repo, release, seed).await.unwrap();
        }
        remove_release(&repo, &world.keys(), "xp", "removed").await.unwrap();
        let elsewhere = Address::from(world.cloud.fork().publish_as(&format!("{name}-elsewhere")));
        world.publish_next(&elsewhere).await.unwrap();
        let (from, to) = (Place::open(&elsewhere).unwrap(), Place::open(&repo).unwrap());
        for pack in from.list(layout::PACKS).await.unwrap() {
            let bytes = from.read_bounded(&pack.path, PACK_MAX as usize).await.unwrap();
            to.put(&pack.path, bytes).await.unwrap();
        }
        Arc::new(world)
    }

    fn keys(&self) -> Keys {
        Keys::at(&self.dir.path().join("keys"))
    }

    /// The same state, in which one user will be stopped before its operation number `at`, and another will not.
    fn stopping_at(&self, at: usize) -> (Memory, Address, Address) {
        let cloud = self.cloud.fork().with(at, Fault::Waits);
        let other = cloud.for_another_user().publish_as(&format!("{}-other", self.name));
        let stopped = cloud.publish_as(self.name);
        (cloud, stopped.into(), other.into())
    }

    async fn publish_next(&self, repo: &Address) -> Result<(), PublishError> {
        self.publish(repo, "next", 3).await
    }

    async fn publish(&self, repo: &Address, release: &str, seed: u8) -> Result<(), PublishError> {
        let path = self.dir.path().join(format!("{seed}.img"));
        let bytes =
            (0u32..8000).flat_map(|number| PlainHash::of(&[&[seed], &number.to_le_bytes()[..]].concat()).0);
        fs::write(&path, bytes.collect::<Vec<u8>>()).unwrap();
        let options = PublishOptions::new(repo.clone(), self.keys(), "xp", release, vec![path]);
        publish(options, &()).await.map(drop)
    }

    async fn gc(&self, repo: &Address) -> Result<Collected, GcError> {
        let grace = Duration::ZERO;
        gc(&GcOptions { repo: repo.clone(), keys: self.keys(), keep: None, grace, dry_run: false }).await
    }

    /// The releases, all of which are whole.
    async fn releases(&self, repo: &Address) -> Vec<String> {
        let found = verify(repo, None, &ContentKeys::default(), &()).await.unwrap();
        assert!(found.is_whole(), "{:?}", found.damages);
        found.catalog.releases.into_iter().map(|entry| entry.release).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_gc_overtakes_anywhere_loses_nothing() {
    let world = World::new("gc-overtakes").await;
    let (mut published, mut overtaken) = (0, 0);
    for at in 1..OPERATIONS_MAX {
        let (cloud, stopped, other) = world.stopping_at(at);
        let publisher = Arc::clone(&world);
        let mut publishing = tokio::spawn(async move { publisher.publish_next(&stopped).await });
        tokio::select! {
            () = cloud.reached.notified() => {}
            result = &mut publishing => {
                result.unwrap().unwrap();
                assert!(published > 0 && overtaken > 10, "{at} operations: {published}, {overtaken}");
                return;
            }
        }
        world.gc(&other).await.unwrap();
        cloud.go.notify_one();
        match publishing.await.unwrap() {
            Ok(()) => published += 1,
            Err(_) => {
                overtaken += 1;
                assert_eq!(world.releases(&other).await, ["kept"], "overtaken at {at}");
                world.publish_next(&other).await.unwrap();
            }
        }
        assert_eq!(world.releases(&other).await, ["kept", "next"], "overtaken at {at}");
    }
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_while_gc_works_waits_or_is_seen() {
    let world = World::new("gc-works").await;
    let (mut published, mut refused) = (0, 0);
    for at in 1..OPERATIONS_MAX {
        let (cloud, stopped, other) = world.stopping_at(at);
        let collector = Arc::clone(&world);
        let mut collecting = tokio::spawn(async move { collector.gc(&stopped).await });
        tokio::select! {
            () = cloud.reached.notified() => {}
            result = &mut collecting => {
                assert!(result.unwrap().unwrap().packs.files > 0);
                assert!(published > 0 && refused > 10, "{at} operations: {published}, {refused}");
                return;
            }
        }
        let result = world.publish_next(&other).await;
        cloud.go.notify_one();
        collecting.await.unwrap().unwrap();
        match result {
            Ok(()) => published += 1,
            Err(PublishError::Metadata(MetadataError::Place(PlaceError::Leased { .. }))) => {
                refused += 1;
                assert_eq!(world.releases(&other).await, ["kept"], "stopped at {at}");
                world.publish_next(&other).await.unwrap();
            }
            Err(error) => panic!("stopped at {at}: {error}"),
        }
        assert_eq!(world.releases(&other).await, ["kept", "next"], "stopped at {at}");
    }
    panic!("it does not end");
}

#[tokio::test]
async fn the_lease_of_a_killed_gc_ends() {
    let world = World::new("gc-killed").await;
    let repo = Address::from(world.cloud.publish_as("gc-killed"));
    let place = Place::open(&repo).unwrap();
    let now = place.now().await.unwrap();
    let left = |until: u64| format!(r#"{{"holder": "process 7", "until": {until}}}"#).into_bytes();
    place.put("gc.json", left(now + 600).into()).await.unwrap();
    let refused = world.gc(&repo).await.unwrap_err();
    assert!(matches!(&refused, GcError::Place(PlaceError::Leased { holder, .. }) if holder == "process 7"));
    assert!(world.publish_next(&repo).await.is_err());

    place.put("gc.json", left(now).into()).await.unwrap();
    world.publish_next(&repo).await.unwrap();
    world.gc(&repo).await.unwrap();
    assert_eq!(place.size("gc.json").await.unwrap(), None);
    assert_eq!(world.releases(&repo).await, ["kept", "next"]);
}
