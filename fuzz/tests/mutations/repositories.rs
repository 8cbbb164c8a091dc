//! Real repositories, published and signed, and all that was ever right in one of them.

use branchmesh_fuzz::world::Files;
use branchmesh_repo::{
    Address, Catalog, ContentKeys, Keys, Origin, PublishOptions, RoleName, init, publish, read_catalog,
    refresh, rotate,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tough::schema::{Root, Signed, Timestamp};

/// A repository's history, as an attacker could have written it down, and a repository of somebody else.
pub struct World {
    /// The root of trust that nodes have.
    pub root: Bytes,
    /// What the nodes may open.
    pub keys: ContentKeys,
    /// What the repository held after each publication, and what that meant.
    pub states: Vec<(Files, Catalog)>,
    /// Metadata with the same names, signed by others.
    pub foreign: Files,
}

impl World {
    /// The one world of all tests: publishing takes longer than many mutations.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        SHARED.get_or_init(|| Runtime::new().unwrap().block_on(Self::new()))
    }

    async fn new() -> Self {
        let ours = Repository::new().await;
        let mut states = vec![ours.state().await];
        for step in 0..STEPS {
            ours.step(step).await;
            states.push(ours.state().await);
        }
        let theirs = Repository::new().await;
        for step in 0..STEPS {
            theirs.step(step).await;
        }
        let (foreign, _) = theirs.state().await;
        Self { root: ours.root(), keys: ours.content_keys(), states, foreign }
    }

    /// The newest state.
    pub fn newest(&self) -> &(Files, Catalog) {
        self.states.last().unwrap()
    }

    /// Whether the catalog is that of a state that once was right.
    pub fn was_right(&self, catalog: &Catalog) -> bool {
        self.states.iter().any(|(_, right)| right == catalog)
    }

    /// Whether the file means what one of this name once meant, byte by byte or as far as it is signed. The only
    /// files that may be written in another way are those whose hash nothing names.
    pub fn is_genuine(&self, name: &str, bytes: &Bytes) -> bool {
        self.states.iter().filter_map(|(files, _)| files.get(name)).any(|right| {
            right == bytes
                || (name == "timestamp.json" && same::<Timestamp>(right, bytes))
                || (name.ends_with("root.json") && same::<Root>(right, bytes))
        })
    }
}

fn same<R: serde::de::DeserializeOwned + PartialEq>(right: &Bytes, given: &Bytes) -> bool {
    let signed = |bytes: &Bytes| serde_json::from_slice::<Signed<R>>(bytes).ok().map(|file| file.signed);
    signed(right).is_some() && signed(right) == signed(given)
}

/// Steps of a history.
const STEPS: usize = 7;

struct Repository {
    dir: TempDir,
}

impl Repository {
    async fn new() -> Self {
        let repository = Self { dir: tempfile::tempdir().unwrap() };
        init(&repository.address(), &repository.keys()).await.unwrap();
        fs::create_dir(repository.path("source")).unwrap();
        repository
    }

    /// What an administrator does, one thing after the other.
    async fn step(&self, number: usize) {
        match number {
            0 => self.publish("xp", "1", None, &["stable"]).await,
            1 => self.publish("ledger", "1", Some("finance"), &["stable"]).await,
            2 => self.publish("xp", "2", None, &["pilot"]).await,
            3 => drop(refresh(&self.address(), &self.keys(), &BTreeMap::new()).await.unwrap()),
            4 => self.rotate(RoleName::Timestamp).await,
            5 => self.rotate(RoleName::group("finance").unwrap()).await,
            _ => self.publish("ledger", "2", Some("finance"), &["stable"]).await,
        }
    }

    async fn rotate(&self, role: RoleName) {
        let keys = self.keys();
        rotate(&self.address(), &keys, &role, &keys, None).await.unwrap();
    }

    async fn publish(&self, image: &str, release: &str, group: Option<&str>, channels: &[&str]) {
        fs::write(self.path("source").join("disk.img"), format!("{image}@{release} ").repeat(100)).unwrap();
        let options = PublishOptions::new(
            self.path("repo").as_path(),
            self.keys(),
            image,
            release,
            vec![self.path("source")],
        );
        let channels = channels.iter().map(|&channel| channel.into()).collect();
        publish(PublishOptions { group: group.map(Into::into), channels, ..options }, &()).await.unwrap();
    }

    async fn state(&self) -> (Files, Catalog) {
        let files = read_folder(&self.path("repo").join("metadata"));
        let origin = Origin::open(self.path("repo").as_path()).unwrap();
        let catalog = read_catalog(&origin, Some(&self.root()), &self.content_keys()).await.unwrap();
        (files, catalog)
    }

    fn root(&self) -> Bytes {
        fs::read(self.path("keys").join("root.json")).unwrap().into()
    }

    fn address(&self) -> Address {
        self.path("repo").as_path().into()
    }

    fn keys(&self) -> Keys {
        Keys::at(&self.path("keys"))
    }

    fn content_keys(&self) -> ContentKeys {
        let line = fs::read_to_string(self.path("keys").join("groups/finance.key"));
        line.iter().map(|line| ("finance".to_owned(), line.parse().unwrap())).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn read_folder(folder: &Path) -> Files {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap().into()))
        .collect()
}
