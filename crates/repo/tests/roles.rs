//! Several people, several keys: thresholds, changes that wait for signatures, groups' teams, and new keys.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use branchmesh_repo::{
    Catalog, ContentKeys, KeyError, KeyStore, Keys, MetadataError, PublicKey, PublishError, PublishOptions,
    SigningKey, Trust, delegate, drop_staged, init_with, promote, publish, read_catalog, refresh, rotate,
    sign,
};
use common::{Fixture, files_of, noise};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tough::sign::Sign;

/// A repository whose targets two of three people must sign. Each has a folder with his keys, and the first also
/// those of snapshot and timestamp.
async fn three_people() -> (Fixture, [Keys; 3]) {
    let fixture = Fixture::of("targets=2/3 root=2/3").await;
    let people = [1, 2, 3].map(|number| {
        let folder = fixture.dir.path().join(format!("person-{number}"));
        fs::create_dir(&folder).unwrap();
        let mut files = vec!["root.json".to_owned()];
        for role in ["root", "targets"] {
            files.push(if number == 1 { format!("{role}.key") } else { format!("{role}-{number}.key") });
        }
        if number == 1 {
            files.extend(["snapshot.key".into(), "timestamp.key".into()]);
        }
        for file in files {
            fs::copy(fixture.keys.join(&file), folder.join(&file)).unwrap();
        }
        Keys::at(&folder)
    });
    fixture.write("disk.img", &noise(1, 10_000));
    (fixture, people)
}

fn with_keys(options: PublishOptions, keys: &Keys) -> PublishOptions {
    PublishOptions { keys: keys.clone(), ..options }
}

async fn catalog(fixture: &Fixture) -> Catalog {
    read_catalog(&fixture.origin(), Some(&fixture.root_json()), &fixture.content_keys()).await.unwrap()
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.releases.iter().map(branchmesh_repo::CatalogEntry::name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_in_force_when_enough_have_signed_and_not_before() {
    let (fixture, [one, two, three]) = three_people().await;
    let repo = fixture.repo.as_path().into();
    let before = files_of(&fixture.repo.join("metadata"));
    let published = publish(with_keys(fixture.options("xp", "1"), &two), &()).await.unwrap();
    let [missing, ..] = &published.missing[..] else { panic!("it is in force") };
    assert_eq!((missing.role.to_string(), missing.signed, missing.needed), ("targets".into(), 1, 2));
    assert_eq!(missing.absent.len(), 2);
    assert_eq!(files_of(&fixture.repo.join("metadata")), before, "nodes must see nothing of it");

    // Nothing else begins from the same state, but what does not touch it goes on.
    let second = publish(with_keys(fixture.options("xp", "2"), &one), &()).await;
    assert!(matches!(second, Err(PublishError::Metadata(MetadataError::Pending { .. }))), "{second:?}");
    refresh(&repo, &one, &BTreeMap::new()).await.unwrap();
    assert!(names(&catalog(&fixture).await).is_empty());
    // The same person twice is still one.
    let again = sign(&repo, &two, |_| ()).await.unwrap();
    assert_eq!(again.missing.iter().find(|missing| missing.role.to_string() == "targets").unwrap().signed, 1);

    let mut shown = Vec::new();
    let outcome = sign(&repo, &three, |staged| {
        shown = staged.roles.iter().flat_map(|role| role.changes.clone()).collect();
    });
    let outcome = outcome.await.unwrap();
    assert_eq!(shown, ["adds xp@1"]);
    // Enough for targets; the keys of snapshot and timestamp are with the first person.
    assert_eq!(outcome.in_force, None);
    assert!(names(&catalog(&fixture).await).is_empty());
    refresh(&repo, &one, &BTreeMap::new()).await.unwrap();
    assert_eq!(names(&catalog(&fixture).await), ["xp@1"]);
    assert!(files_of(&fixture.repo.join("staged")).is_empty());
    assert!(matches!(sign(&repo, &three, |_| ()).await, Err(MetadataError::NothingStaged)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_taken_back_and_never_overtakes_what_came_later() {
    let (fixture, [one, two, three]) = three_people().await;
    let repo = fixture.repo.as_path().into();
    publish(with_keys(fixture.options("xp", "1"), &two), &()).await.unwrap();
    let waiting = files_of(&fixture.repo.join("staged"));
    assert_eq!(drop_staged(&repo).await.unwrap().len(), 1);
    assert!(files_of(&fixture.repo.join("staged")).is_empty());

    publish(with_keys(fixture.options("xp", "2"), &two), &()).await.unwrap();
    sign(&repo, &one, |_| ()).await.unwrap();
    assert_eq!(names(&catalog(&fixture).await), ["xp@2"]);
    // Somebody puts the old change back.
    for (name, bytes) in waiting {
        fs::create_dir_all(fixture.repo.join("staged")).unwrap();
        fs::write(fixture.repo.join("staged").join(name), bytes).unwrap();
    }
    let stale = sign(&repo, &three, |_| ()).await;
    assert!(matches!(stale, Err(MetadataError::Stale { .. })), "{stale:?}");
    refresh(&repo, &one, &BTreeMap::new()).await.unwrap();
    assert_eq!(names(&catalog(&fixture).await), ["xp@2"]);
    drop_staged(&repo).await.unwrap();

    fs::write(fixture.repo.join("staged/9.targets.json"), "rubbish").unwrap();
    let rubbish = sign(&repo, &one, |_| ()).await;
    assert!(matches!(rubbish, Err(MetadataError::StagedUnreadable { .. })), "{rubbish:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_signs_its_own_images_without_the_keys_of_targets_or_root() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.as_path().into();
    let team = Keys::at(&fixture.dir.path().join("team"));
    delegate(&repo, &fixture.keys(), "finance", &team, "1/1".parse().unwrap()).await.unwrap();
    let twice = delegate(&repo, &fixture.keys(), "finance", &team, "1/1".parse().unwrap()).await;
    assert!(matches!(twice, Err(MetadataError::GroupExists { .. })), "{twice:?}");
    for role in ["snapshot", "timestamp"] {
        let file = format!("{role}.key");
        fs::copy(fixture.keys.join(&file), team.folder().join(file)).unwrap();
    }
    fixture.write("disk.img", &noise(2, 10_000));
    let mut options = with_keys(fixture.options("ledger", "1"), &team);
    options.group = Some("finance".into());
    options.channels = vec!["stable".into()];
    options.labels = BTreeMap::from([("ticket".into(), "CHG-4711-ledgers".into())]);
    options.requires = vec!["engine >= 6.1".parse().unwrap()];
    assert!(publish(options.clone(), &()).await.unwrap().missing.is_empty());
    promote(&repo, &team, "ledger", "1", "pilot").await.unwrap();
    let keys = ContentKeys::in_folder(team.folder()).unwrap();
    let catalog = read_catalog(&fixture.origin(), Some(&fixture.root_json()), &keys).await.unwrap();
    let entry = catalog.find("ledger", "1").unwrap();
    assert_eq!(entry.channels, ["pilot", "stable"]);
    assert_eq!((&entry.labels, &entry.requires), (&options.labels, &options.requires));

    // For others the release is there, and closed; nothing that they can read names it.
    let closed =
        read_catalog(&fixture.origin(), Some(&fixture.root_json()), &ContentKeys::default()).await.unwrap();
    assert_eq!((closed.releases.len(), closed.sealed.len()), (0, 1));
    assert_eq!(closed.sealed[0].id, entry.id());
    let text: Vec<u8> = files_of(&fixture.repo).into_values().flatten().collect();
    for word in ["ledger", "CHG-4711-ledgers", "pilot", "engine"] {
        let found = text.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!found, "{word:?} is in clear");
    }

    // The team can neither publish for the public, nor make groups, nor take the name of a public image.
    let public =
        publish(PublishOptions { group: None, ..with_keys(fixture.options("xp", "1"), &team) }, &()).await;
    assert!(matches!(public, Err(PublishError::Metadata(MetadataError::NoKey { .. }))), "{public:?}");
    let other =
        publish(PublishOptions { group: Some("hr".into()), release: "2".into(), ..options.clone() }, &())
            .await;
    assert!(other.is_err(), "{other:?}");
    fixture.publish("xp", "1").await.unwrap();
    let taken = publish(PublishOptions { image: "xp".into(), release: "2".into(), ..options }, &()).await;
    assert!(matches!(taken, Err(PublishError::OtherOwner { .. })), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_of_two_signs_in_turn_and_nobody_signs_what_he_cannot_read() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.as_path().into();
    delegate(&repo, &fixture.keys(), "finance", &fixture.keys(), "2/2".parse().unwrap()).await.unwrap();
    let second = fixture.dir.path().join("second");
    fs::create_dir(&second).unwrap();
    fs::rename(fixture.keys.join("group-finance-2.key"), second.join("group-finance-2.key")).unwrap();
    fs::copy(fixture.keys.join("root.json"), second.join("root.json")).unwrap();
    fixture.write("disk.img", &noise(3, 10_000));
    let mut options = fixture.options("ledger", "1");
    options.group = Some("finance".into());
    assert_eq!(publish(options, &()).await.unwrap().missing.len(), 1);
    // Another group's change is not held up by it.
    fixture.publish("xp", "1").await.unwrap();

    let blind = sign(&repo, &Keys::at(&second), |_| panic!("there is nothing to show")).await;
    assert!(matches!(blind, Err(MetadataError::Unreadable { .. })), "{blind:?}");
    fs::create_dir(second.join("groups")).unwrap();
    fs::copy(fixture.keys.join("groups/finance.key"), second.join("groups/finance.key")).unwrap();
    sign(&repo, &Keys::at(&second), |_| ()).await.unwrap();
    let finished = refresh(&repo, &fixture.keys(), &BTreeMap::new()).await.unwrap();
    assert!(finished.due.is_empty());
    let mut names = names(&catalog(&fixture).await);
    names.sort();
    assert_eq!(names, ["ledger@1", "xp@1"]);
}

/// The folder with the newest key of each role after `rotate` put it into `new`.
fn adopt(fixture: &Fixture, new: &Keys, role: &str) {
    let file = format!("{role}.key");
    fs::rename(new.folder().join(&file), fixture.keys.join(file)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_gets_new_keys_and_the_old_ones_count_no_more() {
    for role in ["root", "targets", "snapshot", "timestamp", "finance"] {
        let fixture = Fixture::new().await;
        let repo = fixture.repo.as_path().into();
        fixture.write("disk.img", &noise(4, 10_000));
        let mut options = fixture.options("ledger", "1");
        options.group = Some("finance".into());
        publish(options, &()).await.unwrap();
        let mut node =
            Trust::open(&fixture.root_json(), &fixture.dir.path().join("node"), fixture.content_keys())
                .unwrap();
        let before = node.refresh(&fixture.origin()).await.unwrap();

        let new = Keys::at(&fixture.dir.path().join("new"));
        let outcome = rotate(&repo, &fixture.keys(), &role.parse().unwrap(), &new, None).await.unwrap();
        assert!(outcome.missing.is_empty(), "{role}: {outcome:?}");
        let after = node.refresh(&fixture.origin()).await.unwrap();
        assert_eq!(names(&after), names(&before), "{role}");
        assert!(after.version > before.version);

        let days = BTreeMap::from([(role.parse().unwrap(), 100)]);
        let old = refresh(&repo, &fixture.keys(), &days).await;
        let signs =
            old.is_ok_and(|refreshed| refreshed.renewed.iter().any(|renewed| renewed.to_string() == role));
        assert!(!signs, "the old key of {role} still signs");
        adopt(&fixture, &new, if role == "finance" { "group-finance" } else { role });
        refresh(&repo, &fixture.keys(), &days).await.unwrap();
        node.refresh(&fixture.origin()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_were_away_during_three_rotations_of_root_all_follow() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.as_path().into();
    fixture.write("disk.img", &noise(5, 10_000));
    fixture.publish("xp", "1").await.unwrap();
    let first_root = fixture.root_json();
    let node = |number: usize| {
        let folder = fixture.dir.path().join(format!("node-{number}"));
        Trust::open(&first_root, &folder, ContentKeys::default()).unwrap()
    };
    let mut nodes: Vec<Trust> = (0..10).map(node).collect();
    for node in &mut nodes[..9] {
        node.refresh(&fixture.origin()).await.unwrap();
    }
    for rotation in 0..3 {
        for role in ["root", "targets", "snapshot", "timestamp"] {
            let new = Keys::at(&fixture.dir.path().join(format!("new-{rotation}")));
            let outcome = rotate(&repo, &fixture.keys(), &role.parse().unwrap(), &new, None).await.unwrap();
            assert!(outcome.missing.is_empty(), "{outcome:?}");
            adopt(&fixture, &new, role);
        }
        // Each time some are away; the last one has never been here.
        for (number, node) in nodes[..9].iter_mut().enumerate() {
            if (number >> rotation) & 1 == 1 {
                node.refresh(&fixture.origin()).await.unwrap();
            }
        }
    }
    let published = fixture.publish("xp", "2").await.unwrap();
    assert!(published.missing.is_empty());
    for (number, mut node) in nodes.into_iter().enumerate() {
        let catalog = node.refresh(&fixture.origin()).await.unwrap();
        assert_eq!(names(&catalog), ["xp@1", "xp@2"], "node {number}");
        assert!(node.file("13.root.json").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_replaced_without_it() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.as_path().into();
    fixture.write("disk.img", &noise(6, 10_000));
    fixture.publish("xp", "1").await.unwrap();
    let mut node =
        Trust::open(&fixture.root_json(), &fixture.dir.path().join("node"), ContentKeys::default()).unwrap();
    node.refresh(&fixture.origin()).await.unwrap();
    for role in ["timestamp", "targets"] {
        fs::remove_file(fixture.keys.join(format!("{role}.key"))).unwrap();
        let new = Keys::at(&fixture.dir.path().join("new"));
        let outcome = rotate(&repo, &fixture.keys(), &role.parse().unwrap(), &new, None).await.unwrap();
        assert!(outcome.missing.is_empty(), "{role}: {outcome:?}");
        adopt(&fixture, &new, role);
        node.refresh(&fixture.origin()).await.unwrap();
    }
    fixture.publish("xp", "2").await.unwrap();
    assert_eq!(names(&node.refresh(&fixture.origin()).await.unwrap()), ["xp@1", "xp@2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_keys_that_was_killed_between_root_and_timestamp_is_finished_by_a_refresh() {
    for role in ["timestamp", "targets"] {
        let fixture = Fixture::new().await;
        let repo = fixture.repo.as_path().into();
        fixture.write("disk.img", &noise(8, 10_000));
        fixture.publish("xp", "1").await.unwrap();
        let node = fixture.dir.path().join("node");
        let mut node = Trust::open(&fixture.root_json(), &node, ContentKeys::default()).unwrap();
        let before = node.refresh(&fixture.origin()).await.unwrap();
        // Without the old key nothing can be signed with both, and the root must come first.
        fs::remove_file(fixture.keys.join(format!("{role}.key"))).unwrap();
        let timestamp = fs::read(fixture.repo.join("metadata/timestamp.json")).unwrap();
        let new = Keys::at(&fixture.dir.path().join("new"));
        rotate(&repo, &fixture.keys(), &role.parse().unwrap(), &new, None).await.unwrap();
        fs::write(fixture.repo.join("metadata/timestamp.json"), timestamp).unwrap();
        adopt(&fixture, &new, role);

        assert!(node.refresh(&fixture.origin()).await.is_err(), "{role}");
        assert_eq!(node.catalog().unwrap(), before);
        refresh(&repo, &fixture.keys(), &BTreeMap::new()).await.unwrap();
        let after = node.refresh(&fixture.origin()).await.unwrap();
        assert_eq!(names(&after), ["xp@1"], "{role}");
        fixture.publish("xp", "2").await.unwrap();
    }
}

/// Signing keys in memory: what a hardware module looks like from here.
#[derive(Default)]
struct Module(Mutex<BTreeMap<String, Arc<Ed25519KeyPair>>>);

/// A handle of one key in the module.
struct Handle(Arc<Ed25519KeyPair>);

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Module")
    }
}

#[async_trait]
impl SigningKey for Handle {
    fn public(&self) -> PublicKey {
        self.0.tuf_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(Ed25519KeyPair::sign(&self.0, message).as_ref().to_vec())
    }
}

impl KeyStore for Module {
    fn signing_keys(&self) -> Result<Vec<Arc<dyn SigningKey>>, KeyError> {
        let keys = self.0.lock().unwrap();
        Ok(keys.values().map(|pair| Arc::new(Handle(pair.clone())) as Arc<dyn SigningKey>).collect())
    }

    fn get(&self, name: &str) -> Result<Option<Arc<dyn SigningKey>>, KeyError> {
        let keys = self.0.lock().unwrap();
        Ok(keys.get(name).map(|pair| Arc::new(Handle(pair.clone())) as Arc<dyn SigningKey>))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn SigningKey>, KeyError> {
        let pair = Arc::new(Ed25519KeyPair::generate().map_err(|error| KeyError::Store(Box::new(error)))?);
        self.0.lock().unwrap().insert(name.into(), pair.clone());
        Ok(Arc::new(Handle(pair)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_never_leave_a_module_make_and_publish_a_repository() {
    let dir = tempfile::tempdir().unwrap();
    let module: Arc<dyn KeyStore> = Arc::new(Module::default());
    let keys = Keys::with_store(&dir.path().join("keys"), module);
    let repo = dir.path().join("repo");
    let thresholds = BTreeMap::from([("targets".parse().unwrap(), "2/2".parse().unwrap())]);
    init_with(&repo.as_path().into(), &keys, &thresholds).await.unwrap();
    let source: PathBuf = dir.path().join("disk.img");
    fs::write(&source, noise(7, 10_000)).unwrap();
    let options = PublishOptions::new(repo.as_path(), keys.clone(), "xp", "1", vec![source]);
    let published = publish(PublishOptions { group: Some("finance".into()), ..options }, &()).await.unwrap();
    assert!(published.missing.is_empty());
    let files: Vec<String> =
        files_of(keys.folder()).into_keys().map(|path| path.to_string_lossy().replace('\\', "/")).collect();
    assert_eq!(files, ["groups/finance.key", "root.json"]);
    let content_keys = ContentKeys::in_folder(keys.folder()).unwrap();
    let origin = branchmesh_repo::Origin::open(repo.to_str().unwrap()).unwrap();
    let root = keys.read_root_json().unwrap();
    let catalog = read_catalog(&origin, Some(&root), &content_keys).await.unwrap();
    assert_eq!(names(&catalog), ["xp@1"]);
}
