//! Publishing under every fault: whatever operation of a publisher fails, gets no answer, or is its last, readers
//! see the old state or the new one, whole, and the next publisher goes on.

use super::{PublishError, PublishOptions, promote, publish};
use crate::{
    Address, Catalog, ContentKeys, Keys, Origin,
    cloud::memory::{Fault, Memory},
    index_io::load_index,
    init,
    metadata::MetadataError,
    place::PlaceError,
    role::RoleName,
    roles::{refresh, rotate},
    trust::read_catalog,
};
use branchmesh_image::{Cipher, PlainHash};
use futures::StreamExt;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// More operations than any change of a small repository needs.
const OPERATIONS_MAX: usize = 500;

/// A repository in memory with one release, and what the next one is made of.
struct Desk {
    dir: TempDir,
    cloud: Memory,
    name: &'static str,
}

impl Desk {
    async fn new(name: &'static str) -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap(), cloud: Memory::new(), name };
        let address = Address::from(desk.cloud.publish_as(name));
        init(&address, &desk.keys()).await.unwrap();
        publish(desk.release(&address, &desk.keys(), "old", 1), &()).await.unwrap();
        desk
    }

    fn keys(&self) -> Keys {
        Keys::at(&self.dir.path().join("keys"))
    }

    /// A copy of the keys, for one try.
    fn keys_of(&self, attempt: &str) -> Keys {
        let folder = self.dir.path().join(attempt);
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(self.keys().folder()).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        Keys::at(&folder)
    }

    /// A release of one file: about ten blocks, that no other seed has.
    fn release(&self, repo: &Address, keys: &Keys, release: &str, seed: u8) -> PublishOptions {
        let path: PathBuf = self.dir.path().join(format!("{seed}.img"));
        let bytes =
            (0u32..20_000).flat_map(|number| PlainHash::of(&[&[seed], &number.to_le_bytes()[..]].concat()).0);
        fs::write(&path, bytes.collect::<Vec<u8>>()).unwrap();
        PublishOptions::new(repo.clone(), keys.clone(), "xp", release, vec![path])
    }

    /// All releases, each of which is complete: a reader with the root of trust gets every block.
    async fn releases(&self, cloud: &Memory) -> Vec<String> {
        let address = Address::from(cloud.for_another_user().publish_as(&format!("{}-reader", self.name)));
        let origin = Origin::open(address).unwrap();
        let root = fs::read(self.dir.path().join("keys/root.json")).unwrap();
        let catalog: Catalog = read_catalog(&origin, Some(&root), &ContentKeys::default()).await.unwrap();
        for entry in &catalog.releases {
            let index = load_index(&entry.root, Cipher::None, &origin).await.unwrap();
            let wanted =
                (0u32..).zip(index.blocks()).map(|(at, block)| (at, block.location(), block.blob.id));
            let came: Vec<_> = origin.blocks(wanted.collect()).collect().await;
            assert!(came.iter().all(Result::is_ok), "{} has damaged blocks", entry.name());
            assert_eq!(came.len(), index.blocks().len(), "{} lacks blocks", entry.name());
        }
        let with_channels =
            |entry: &crate::CatalogEntry| format!("{} {}", entry.name(), entry.channels.join(","));
        let mut names: Vec<String> = catalog.releases.iter().map(with_channels).collect();
        names.sort();
        names
    }
}

/// Lets `change` meet each fault at each of its operations. Afterwards the repository is as before or as `new`;
/// then `again`, and it is as `new`.
async fn under_every_fault(desk: &Desk, new: &[&str], change: impl AsyncFn(Address, Keys) -> bool) {
    let old = desk.releases(&desk.cloud).await;
    for fault in [Fault::Refused, Fault::Unanswered, Fault::DiesBefore, Fault::DiesAfter] {
        for at in 1.. {
            assert!(at < OPERATIONS_MAX, "it does not end");
            let cloud = desk.cloud.fork().with(at, fault);
            let keys = desk.keys_of(&format!("{fault:?}-{at}"));
            let is_done = change(cloud.publish_as(desk.name).into(), keys.clone()).await;
            if !cloud.has_failed() {
                assert!(is_done && at > 5, "{at} operations, and it failed without a fault");
                break;
            }
            let left = desk.releases(&cloud).await;
            let is_new = left == new;
            assert!(is_new || left == old, "{fault:?} at {at}: {left:?}");
            assert!(is_new || !is_done, "{fault:?} at {at}: it is said to be done, and is not");

            let healed = cloud.for_another_user();
            change(healed.publish_as(desk.name).into(), keys).await;
            assert_eq!(desk.releases(&healed).await, new, "{fault:?} at {at}, and once more");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_published_under_any_fault() {
    let desk = Desk::new("faults-publish").await;
    under_every_fault(&desk, &["xp@new ", "xp@old "], async |repo: Address, keys: Keys| {
        publish(desk.release(&repo, &keys, "new", 2), &()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_moved_under_any_fault() {
    let desk = Desk::new("faults-promote").await;
    under_every_fault(&desk, &["xp@old stable"], async |repo: Address, keys: Keys| {
        promote(&repo, &keys, "xp", "old", "stable").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_signed_anew_under_any_fault() {
    let desk = Desk::new("faults-refresh").await;
    let all = [RoleName::Targets, RoleName::Snapshot].map(|role| (role, 30)).into();
    under_every_fault(&desk, &["xp@old "], async |repo: Address, keys: Keys| {
        refresh(&repo, &keys, &all).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_replaced_under_any_fault() {
    let desk = Desk::new("faults-rotate").await;
    under_every_fault(&desk, &["xp@old "], async |repo: Address, keys: Keys| {
        rotate(&repo, &keys, &RoleName::Targets, &keys, None)
            .await
            .is_ok_and(|outcome| outcome.in_force.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_publisher_at_any_moment_takes_nothing_away() {
    let desk = Desk::new("meanwhile").await;
    for at in 1.. {
        assert!(at < OPERATIONS_MAX, "it does not end");
        let cloud = desk.cloud.fork().with(at, Fault::Waits);
        let (reached, go) = (cloud.reached.clone(), cloud.go.clone());
        let slow = desk.release(&cloud.publish_as("meanwhile-slow").into(), &desk.keys(), "slow", 2);
        let mut slow = tokio::spawn(async move { publish(slow, &()).await });
        let ended = tokio::select! {
            () = reached.notified() => None,
            result = &mut slow => Some(result),
        };
        if let Some(result) = ended {
            assert!(at > 5 && !cloud.has_failed());
            result.unwrap().unwrap();
            break;
        }
        let other = cloud.for_another_user();
        let repo = Address::from(other.publish_as("meanwhile-quick"));
        publish(desk.release(&repo, &desk.keys(), "quick", 3), &()).await.unwrap();
        go.notify_one();
        match slow.await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert!(is_overtaken(&error), "at {at}: {error:?}");
                publish(desk.release(&repo, &desk.keys(), "slow", 2), &()).await.unwrap();
            }
        }
        assert_eq!(desk.releases(&other).await, ["xp@old ", "xp@quick ", "xp@slow "], "at {at}");
    }
}

fn is_overtaken(error: &PublishError) -> bool {
    matches!(
        error,
        PublishError::Metadata(
            MetadataError::Overtaken { .. } | MetadataError::Place(PlaceError::Overtaken { .. })
        )
    )
}
