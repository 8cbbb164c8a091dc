//! What a node believes: what is signed, fresh and not older than before, from whomever it comes.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use async_trait::async_trait;
use branchmesh_repo::{
    Catalog, ContentKeys, Keys, MetadataSource, SourceError, Trust, TrustError, init, refresh,
};
use bytes::Bytes;
use common::Fixture;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

/// Metadata in memory, that tests can spoil. Remembers what it was asked for.
#[derive(Default)]
struct Memory {
    files: BTreeMap<String, Bytes>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl MetadataSource for Memory {
    async fn metadata(&self, name: &str, _max: usize) -> Result<Option<Bytes>, SourceError> {
        self.asked.lock().unwrap().push(name.into());
        Ok(self.files.get(name).cloned())
    }
}

impl Memory {
    fn of(repo: &Path) -> Self {
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), Bytes::from(fs::read(path).unwrap()))
        };
        let files = fs::read_dir(repo.join("metadata")).unwrap().map(read).collect();
        Self { files, asked: Mutex::default() }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A source that does not work.
struct Offline;

#[async_trait]
impl MetadataSource for Offline {
    async fn metadata(&self, _: &str, _: usize) -> Result<Option<Bytes>, SourceError> {
        Err(SourceError::Members("nobody is here".into()))
    }
}

/// What a [`Trust`] relays.
struct Neighbour(Trust);

#[async_trait]
impl MetadataSource for Neighbour {
    async fn metadata(&self, name: &str, _: usize) -> Result<Option<Bytes>, SourceError> {
        assert_eq!(self.0.file(name).as_ref(), self.0.files().get(name));
        Ok(self.0.file(name))
    }
}

async fn with_release() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"content");
    fixture.publish("xp", "1").await.unwrap();
    fixture
}

fn trust(fixture: &Fixture, node: &str) -> Trust {
    Trust::open(&fixture.root_json(), &fixture.dir.path().join(node), ContentKeys::default()).unwrap()
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.releases.iter().map(branchmesh_repo::CatalogEntry::name).collect()
}

#[tokio::test]
async fn what_was_accepted_is_kept_and_relayed_to_neighbours() {
    let fixture = with_release().await;
    let mut first = trust(&fixture, "first");
    assert!(first.load_local().await.unwrap().is_none());
    assert!(first.catalog().is_none() && first.file("timestamp.json").is_none());
    let catalog = first.refresh(&fixture.origin()).await.unwrap();
    assert_eq!(names(&catalog), ["xp@1"]);
    assert!(!catalog.expired && catalog.expires > catalog.releases[0].published);

    let mut second = trust(&fixture, "second");
    assert_eq!(second.refresh(&Neighbour(first)).await.unwrap(), catalog);

    // A restart without any network.
    let mut again = trust(&fixture, "first");
    assert_eq!(again.load_local().await.unwrap(), Some(catalog.clone()));
    assert!(matches!(again.refresh(&Offline).await, Err(TrustError::Source(_))));
    assert_eq!(again.catalog(), Some(catalog));
}

#[tokio::test]
async fn an_update_without_news_costs_one_small_file() {
    let fixture = with_release().await;
    let mut node = trust(&fixture, "node");
    let source = Memory::of(&fixture.repo);
    node.refresh(&source).await.unwrap();
    source.asked();
    node.refresh(&source).await.unwrap();
    assert_eq!(source.asked(), ["2.root.json", "timestamp.json"]);
}

#[tokio::test]
async fn an_older_state_is_refused_even_after_a_restart() {
    let fixture = with_release().await;
    let old = Memory::of(&fixture.repo);
    fixture.publish("xp", "2").await.unwrap();
    let mut node = trust(&fixture, "node");
    let catalog = node.refresh(&fixture.origin()).await.unwrap();
    assert_eq!(names(&catalog), ["xp@1", "xp@2"]);

    let replayed = node.refresh(&old).await;
    assert!(matches!(replayed, Err(TrustError::Rollback { .. })), "{replayed:?}");
    assert_eq!(node.catalog(), Some(catalog.clone()));
    let mut restarted = trust(&fixture, "node");
    let replayed = restarted.refresh(&old).await;
    assert!(matches!(replayed, Err(TrustError::Rollback { .. })), "{replayed:?}");
    assert_eq!(restarted.catalog(), Some(catalog));

    // A node that knows nothing has no way to tell.
    assert_eq!(names(&trust(&fixture, "new").refresh(&old).await.unwrap()), ["xp@1"]);
}

#[tokio::test]
async fn a_repository_of_other_keys_is_refused() {
    let fixture = with_release().await;
    let stranger = with_release().await;
    let mut node = trust(&fixture, "node");
    let refused = node.refresh(&stranger.origin()).await;
    assert!(matches!(refused, Err(TrustError::BadSignature { .. })), "{refused:?}");
    let catalog = node.refresh(&fixture.origin()).await.unwrap();
    assert!(node.refresh(&stranger.origin()).await.is_err());
    assert_eq!(node.catalog(), Some(catalog));

    // The administrator replaces the root of trust: what was kept is void.
    let mut converted =
        Trust::open(&stranger.root_json(), &fixture.dir.path().join("node"), ContentKeys::default()).unwrap();
    assert!(converted.load_local().await.unwrap().is_none());
    converted.refresh(&stranger.origin()).await.unwrap();
}

#[tokio::test]
async fn files_of_two_states_are_not_mixed() {
    let fixture = with_release().await;
    let old = Memory::of(&fixture.repo);
    fixture.publish("xp", "2").await.unwrap();
    let mut mixed = Memory::of(&fixture.repo);
    let targets = old.files.keys().filter(|name| name.ends_with(".targets.json")).max().unwrap();
    let newest = mixed.files.keys().filter(|name| name.ends_with(".targets.json")).max().unwrap().clone();
    mixed.files.insert(newest.clone(), old.files[targets].clone());
    let refused = trust(&fixture, "node").refresh(&mixed).await;
    assert!(matches!(refused, Err(TrustError::Malformed { .. })), "{refused:?}");

    mixed.files.remove(&newest);
    let refused = trust(&fixture, "node").refresh(&mixed).await;
    assert!(matches!(&refused, Err(TrustError::Missing { name }) if *name == newest), "{refused:?}");
    mixed.files.clear();
    let refused = trust(&fixture, "node").refresh(&mixed).await;
    assert!(matches!(&refused, Err(TrustError::Missing { name }) if name == "timestamp.json"), "{refused:?}");
}

#[tokio::test]
async fn a_repository_that_reuses_version_numbers_is_understood() {
    let fixture = with_release().await;
    let backup = common::files_of(&fixture.repo);
    fixture.publish("xp", "2").await.unwrap();
    let mut node = trust(&fixture, "node");
    node.refresh(&fixture.origin()).await.unwrap();

    // Restored from a backup, and published anew: the same versions, other files.
    fs::remove_dir_all(&fixture.repo).unwrap();
    for (path, bytes) in backup {
        let path = fixture.repo.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert!(matches!(node.refresh(&fixture.origin()).await, Err(TrustError::Rollback { .. })));
    fixture.publish("xp", "2b").await.unwrap();
    assert_eq!(names(&node.refresh(&fixture.origin()).await.unwrap()), ["xp@1", "xp@2b"]);
}

#[tokio::test]
async fn endless_files_are_not_read() {
    let fixture = with_release().await;
    let mut source = Memory::of(&fixture.repo);
    source.files.insert("timestamp.json".into(), Bytes::from(vec![b' '; 1 << 20]));
    let refused = trust(&fixture, "node").refresh(&source).await;
    assert!(matches!(refused, Err(TrustError::Malformed { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_memory_is_forgotten_not_believed() {
    let fixture = with_release().await;
    let mut node = trust(&fixture, "node");
    node.refresh(&fixture.origin()).await.unwrap();
    let kept = fixture.dir.path().join("node/metadata.json");
    let good = fs::read(&kept).unwrap();
    for spoiled in [&good[..good.len() / 2], b"", b"{}", b"[1]"] {
        fs::write(&kept, spoiled).unwrap();
        let mut node = trust(&fixture, "node");
        assert!(node.load_local().await.unwrap().is_none());
        node.refresh(&fixture.origin()).await.unwrap();
    }
    assert!(Trust::open(b"{}", &fixture.dir.path().join("node"), ContentKeys::default()).is_err());
    let forged =
        String::from_utf8(fixture.root_json()).unwrap().replacen("\"version\": 1", "\"version\": 2", 1);
    let forged = Trust::open(forged.as_bytes(), &fixture.dir.path().join("node"), ContentKeys::default());
    assert!(matches!(forged, Err(TrustError::BadSignature { .. })));
}

#[tokio::test]
async fn renewed_metadata_is_news() {
    let fixture = with_release().await;
    let mut node = trust(&fixture, "node");
    let before = node.refresh(&fixture.origin()).await.unwrap();
    refresh(&fixture.repo.as_path().into(), &fixture.keys(), &BTreeMap::new()).await.unwrap();
    let after = node.refresh(&fixture.origin()).await.unwrap();
    assert!(after.version > before.version && after.releases == before.releases);
}

/// A root of trust, metadata under it, and what that says.
struct Good {
    root: Vec<u8>,
    files: BTreeMap<String, Bytes>,
    catalog: Arc<Catalog>,
}

/// One for all cases of the properties below: making one takes longer than checking one.
fn shared() -> &'static Good {
    static SHARED: OnceLock<Good> = OnceLock::new();
    SHARED.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let fixture = with_release().await;
            let catalog = trust(&fixture, "node").refresh(&fixture.origin()).await.unwrap();
            Good { root: fixture.root_json(), files: Memory::of(&fixture.repo).files, catalog }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn changed_metadata_is_refused_or_says_the_same(file: prop::sample::Index, at: prop::sample::Index, byte: u8, cut in 0..8) {
        let Good { root, files, catalog } = shared();
        let name = file.get(&files.keys().cloned().collect::<Vec<_>>()).clone();
        let mut bytes = files[&name].to_vec();
        let at = at.index(bytes.len());
        if cut == 0 { bytes.truncate(at) } else { bytes[at] = byte }
        let mut files = files.clone();
        files.insert(name, Bytes::from(bytes));
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let source = Memory { files, asked: Mutex::default() };
        let mut node = Trust::open(root, dir.path(), ContentKeys::default()).unwrap();
        if let Ok(believed) = runtime.block_on(node.refresh(&source)) {
            prop_assert_eq!(&believed, catalog);
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let Good { root, files, .. } = shared();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for name in files.keys() {
            let dir = tempfile::tempdir().unwrap();
            let mut files = files.clone();
            files.insert(name.clone(), Bytes::from(bytes.clone()));
            let source = Memory { files, asked: Mutex::default() };
            let refused = runtime.block_on(Trust::open(root, dir.path(), ContentKeys::default()).unwrap().refresh(&source));
            // Files of an older version are not looked at, nor is a root that the node has.
            let is_read = ["timestamp.json", "2.snapshot.json", "2.targets.json"].contains(&name.as_str());
            prop_assert_eq!(refused.is_err(), is_read, "{}", name);
        }
    }
}

#[tokio::test]
async fn an_empty_repository_is_a_catalog_too() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, keys) = (dir.path().join("repo"), dir.path().join("keys"));
    init(&repo.as_path().into(), &Keys::at(&keys)).await.unwrap();
    let root = fs::read(keys.join("root.json")).unwrap();
    let mut node = Trust::open(&root, &dir.path().join("node"), ContentKeys::default()).unwrap();
    let catalog = node.refresh(&Memory::of(&repo)).await.unwrap();
    assert_eq!((catalog.version, names(&catalog)), (1, Vec::<String>::new()));
}
