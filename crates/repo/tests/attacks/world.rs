//! A repository with thresholds and two groups, its history, and nodes that are lied to.

use crate::common::{self, noise};
use async_trait::async_trait;
use branchmesh_repo::{
    Catalog, ContentKeys, Keys, MetadataSource, Outcome, PublishOptions, SourceError, Trust, delegate,
    init_with, promote, publish, refresh, sign,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// Metadata files by name.
pub type Files = BTreeMap<String, Bytes>;

/// A state that was once in force.
#[derive(Clone)]
pub struct State {
    pub files: Files,
    pub catalog: Arc<Catalog>,
}

pub struct World {
    dir: TempDir,
    pub root: Vec<u8>,
    pub keys: ContentKeys,
    /// What was ever published, oldest first.
    pub states: Vec<State>,
}

/// A server that does what it likes: it sends more than it is asked for, if it has more.
pub struct Server(pub Files);

#[async_trait]
impl MetadataSource for Server {
    async fn metadata(&self, name: &str, _: usize) -> Result<Option<Bytes>, SourceError> {
        Ok(self.0.get(name).cloned())
    }
}

/// One for all attacks: making it takes longer than attacking it.
pub async fn world() -> &'static World {
    static WORLD: OnceCell<World> = OnceCell::const_new();
    WORLD.get_or_init(World::make).await
}

impl World {
    async fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(&dir.path().join("keys"));
        let repo = dir.path().join("repo").as_path().into();
        let two = "2/3".parse().unwrap();
        let thresholds = ["root", "targets"].map(|role| (role.parse().unwrap(), two));
        init_with(&repo, &keys, &thresholds.into_iter().collect()).await.unwrap();
        delegate(&repo, &keys, "finance", &keys, two).await.unwrap();
        delegate(&repo, &keys, "hr", &keys, "1/1".parse().unwrap()).await.unwrap();
        let source = dir.path().join("disk.img");
        let mut world = Self {
            root: fs::read(keys.folder().join("root.json")).unwrap(),
            keys: ContentKeys::in_folder(keys.folder()).unwrap(),
            dir,
            states: Vec::new(),
        };
        for (number, (image, group)) in
            [("xp", None), ("ledger", Some("finance")), ("people", Some("hr")), ("xp", None)]
                .into_iter()
                .enumerate()
        {
            fs::write(&source, noise(number as u64, 20_000)).unwrap();
            let release = number.to_string();
            let options =
                PublishOptions::new(repo.clone(), keys.clone(), image, &release, vec![source.clone()]);
            let options = PublishOptions { group: group.map(Into::into), ..options };
            assert!(publish(options, &()).await.unwrap().missing.is_empty());
            world.remember().await;
            promote(&repo, &keys, image, &release, "stable").await.unwrap();
            world.remember().await;
        }
        refresh(&repo, &keys, &BTreeMap::new()).await.unwrap();
        world.remember().await;
        let nothing: Result<Outcome, _> = sign(&repo, &keys, |_| ()).await;
        assert!(nothing.is_err(), "nothing waits");
        world
    }

    async fn remember(&mut self) {
        let files = common::files_of(&self.dir.path().join("repo/metadata"));
        let name = |path: PathBuf| path.to_str().unwrap().to_owned();
        let files: Files = files.into_iter().map(|(path, bytes)| (name(path), bytes.into())).collect();
        let catalog = Self::node(self).await.refresh(&Server(files.clone())).await.unwrap();
        self.states.push(State { files, catalog });
    }

    pub fn newest(&self) -> &State {
        self.states.last().unwrap()
    }

    /// The folder with all keys. An attacker takes only what his attack allows him.
    pub fn key_folder(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    pub async fn node(&self) -> Trust {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        self.node_in(&folder)
    }

    pub fn node_in(&self, folder: &Path) -> Trust {
        Trust::open(&self.root, folder, self.keys.clone()).unwrap()
    }

    /// A node that believes `state`.
    pub async fn believer(&self, state: &State) -> Trust {
        let mut node = self.node().await;
        node.refresh(&Server(state.files.clone())).await.unwrap();
        node
    }

    /// Serves `files` to a node that knows nothing, to one that believes the newest state, and to one that was away
    /// for a while. None believes anything that was not published, and none goes back.
    pub async fn nobody_believes(&self, files: &Files, what: &str) {
        let away = self.believer(&self.states[self.states.len() / 2]).await;
        for mut node in [self.node().await, self.believer(self.newest()).await, away] {
            self.is_not_fooled(&mut node, files, what).await;
        }
    }

    /// Whether `node` stays with what was published, and with what it believed, when `files` are served to it.
    pub async fn is_not_fooled(&self, node: &mut Trust, files: &Files, what: &str) {
        let before = node.catalog();
        let result = node.refresh(&Server(files.clone())).await;
        let after = node.catalog();
        match result {
            Err(_) => assert_eq!(after, before, "{what}: refused, and yet something changed"),
            Ok(believed) => {
                let was_published = self.states.iter().any(|state| state.catalog == believed);
                assert!(was_published, "{what}: {believed:?} was never published");
                let version = before.map_or(0, |catalog| catalog.version);
                assert!(believed.version >= version, "{what}: back from {version} to {}", believed.version);
            }
        }
    }

    /// Serves `files` to the same nodes; each of them refuses.
    pub async fn everybody_refuses(&self, files: &Files, what: &str) {
        let away = self.believer(&self.states[self.states.len() / 2]).await;
        for mut node in [self.node().await, self.believer(self.newest()).await, away] {
            let before = (node.catalog(), node.files().clone());
            let result = node.refresh(&Server(files.clone())).await;
            assert!(result.is_err(), "{what}: believed {result:?}");
            assert!((node.catalog(), node.files().clone()) == before, "{what}: something changed");
        }
    }
}
