//! The writing side of a repository: a folder or a cloud's bucket, files put whole and durably, and no two
//! publishers who undo each other's work.
//!
//! Files go through `object_store`. In a folder it writes beside the target, syncs, renames and syncs the
//! folder, and a lock lets in one publisher at a time. A bucket has no lock: publishers may work side by side,
//! what they add has names of its own, and the one file that is replaced, `timestamp.json`, is replaced only
//! while it still is what the publication was built on.

mod error;
mod lease;
mod lock;
mod unfinished;

pub use error::PlaceError;
pub(crate) use lease::Lease;
pub(crate) use lock::PublisherLock;

use crate::{
    address::{Address, Target},
    cloud::{self, Cloud, Purpose},
    layout::{self, FIRST_ROOT, METADATA_MAX, TIMESTAMP},
    origin::Origin,
};
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::{
    GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, local::LocalFileSystem,
    path::Path as StorePath,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How the name of a file begins that is written to read the clock, and removed at once.
const CLOCK_FILE: &str = "clock";
/// An `ETag` and a generation that no file has.
const NO_SUCH_ETAG: &str = "\"00000000000000000000000000000000\"";
const NO_SUCH_GENERATION: &str = "1";

/// Seconds for which a file that nothing names yet may be counted on: half of what `repo gc` gives publishers, who
/// need the other half to name it.
const ARRIVED_AGE_MAX: i64 = 12 * 60 * 60;

/// A repository that can be written.
#[derive(Clone)]
pub(crate) struct Place {
    ground: Ground,
    store: Arc<dyn ObjectStore>,
    origin: Origin,
    /// Whether this is gc at work, which keeps all others out.
    holds_lease: bool,
}

/// What a repository stands on.
#[derive(Clone)]
enum Ground {
    Folder(PathBuf),
    Cloud,
}

/// The state of the repository that a publication builds on: its `timestamp.json`, if there was one.
pub(crate) struct Mark(Option<(Bytes, UpdateVersion)>);

/// A file of the repository.
pub(crate) struct Listed {
    /// Its path inside the repository.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was written, in Unix seconds.
    pub(crate) modified: u64,
}

impl Place {
    /// The folder that `repo` names, if it is one. An address that cannot be written is an error.
    pub(crate) fn folder(repo: &Address) -> Result<Option<PathBuf>, PlaceError> {
        match repo.target()? {
            Target::Folder(folder) => Ok(Some(folder)),
            Target::Cloud(..) => Ok(None),
            Target::Web(_) => Err(PlaceError::ReadOnly(repo.shown())),
        }
    }

    /// Opens the repository in `repo`. Whether there is one in a cloud shows when its metadata is read.
    pub(crate) fn open(repo: &Address) -> Result<Self, PlaceError> {
        match Self::folder(repo)? {
            Some(folder) if !folder.join("metadata").is_dir() => Err(PlaceError::NoRepository(folder)),
            Some(folder) => Self::in_folder(&folder),
            None => Self::in_cloud(repo),
        }
    }

    /// Opens a place for a new repository; makes the folder where it is missing.
    pub(crate) fn create(repo: &Address) -> Result<Self, PlaceError> {
        let Some(folder) = Self::folder(repo)? else { return Self::in_cloud(repo) };
        fs::create_dir_all(&folder).map_err(|source| PlaceError::Io { path: folder.clone(), source })?;
        Self::in_folder(&folder)
    }

    fn in_folder(folder: &Path) -> Result<Self, PlaceError> {
        let failed = |source| PlaceError::Io { path: folder.to_owned(), source };
        let folder = fs::canonicalize(folder).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| PlaceError::Write { path: folder.display().to_string(), source })?
            .with_fsync(true);
        let origin = Origin::of_folder(&folder)?;
        Ok(Self { ground: Ground::Folder(folder), store: Arc::new(store), origin, holds_lease: false })
    }

    fn in_cloud(repo: &Address) -> Result<Self, PlaceError> {
        let Target::Cloud(provider, url) = repo.target()? else {
            return Err(PlaceError::ReadOnly(repo.shown()));
        };
        let origin = Origin::open(repo.clone())?;
        let cloud = Cloud::open(provider, &url, &repo.access, Purpose::Publishing)?;
        Ok(Self { ground: Ground::Cloud, store: cloud.store, origin, holds_lease: false })
    }

    /// Its URL, for people.
    pub(crate) fn url(&self) -> &str {
        self.origin.url()
    }

    /// Its reading side.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Makes this the only publisher, where that can be.
    pub(crate) fn lock(&self) -> Result<PublisherLock, PlaceError> {
        match &self.ground {
            Ground::Folder(folder) => PublisherLock::take(folder),
            Ground::Cloud => Ok(PublisherLock::none()),
        }
    }

    /// Whether a repository was made here.
    pub(crate) async fn holds_repository(&self) -> Result<bool, PlaceError> {
        match &self.ground {
            Ground::Folder(folder) => Ok(folder.join("metadata").exists()),
            Ground::Cloud => Ok(self.size(&layout::metadata_path(FIRST_ROOT)).await?.is_some()),
        }
    }

    /// How long the file at `path` is; `None` if there is none.
    pub(crate) async fn size(&self, path: &str) -> Result<Option<u64>, PlaceError> {
        match self.store.head(&StorePath::from(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Whether the file at `path`, whose name is the hash of what it holds, has arrived whole and will stay. A
    /// cloud shows a file when all of it is there; a disk may lose its end, so in a folder the answer is no.
    pub(crate) async fn has_arrived(&self, path: &str, length: u64) -> Result<bool, PlaceError> {
        if let Ground::Folder(_) = self.ground {
            return Ok(false);
        }
        match self.store.head(&StorePath::from(path)).await {
            Ok(meta) => {
                let age = Timestamp::now().as_second() - meta.last_modified.timestamp();
                Ok(meta.size == length && age < ARRIVED_AGE_MAX)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// The file at `path`, of at most `max` bytes.
    pub(crate) async fn read_bounded(&self, path: &str, max: usize) -> Result<Bytes, PlaceError> {
        Ok(self.origin.whole(path, max).await?)
    }

    /// Writes a whole file, replacing one that is there. Durable when it returns.
    pub(crate) async fn put(&self, path: &str, bytes: Bytes) -> Result<(), PlaceError> {
        let written = self.store.put(&StorePath::from(path), bytes.into()).await;
        written.map(drop).map_err(|error| self.failed(path, error))
    }

    /// Writes a whole file unless there is another one of that name: whether it is there now. Durable when it
    /// returns.
    pub(crate) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool, PlaceError> {
        match self.ground {
            Ground::Folder(_) => {
                // Under the lock nobody comes between the two. A hard link would need no lock, but sticks know none.
                if self.size(path).await?.is_some() {
                    return Ok(false);
                }
                self.put(path, bytes).await.map(|()| true)
            }
            Ground::Cloud => self.put_if(path, bytes, PutMode::Create).await,
        }
    }

    /// The repository's state as it is now: what a publication builds on. To be asked before the metadata is read.
    pub(crate) async fn mark(&self) -> Result<Mark, PlaceError> {
        if let Ground::Cloud = self.ground {
            self.check_conditions().await?;
        }
        let mark = Mark(self.timestamp().await?);
        if let Ground::Cloud = self.ground {
            self.check_no_lease().await?;
        }
        Ok(mark)
    }

    /// Fails if somebody else came into force since `mark`.
    pub(crate) async fn check_unchanged(&self, mark: &Mark) -> Result<(), PlaceError> {
        let now = self.timestamp().await?.map(|(now, _)| now);
        if now.as_ref() == mark.0.as_ref().map(|(before, _)| before) {
            return Ok(());
        }
        Err(PlaceError::Overtaken { version: now.map_or_else(|| "0".into(), |now| version_of(&now)) })
    }

    /// Puts `timestamp.json` in force, unless somebody else did since `mark`.
    pub(crate) async fn put_timestamp(&self, mark: &Mark, bytes: Bytes) -> Result<(), PlaceError> {
        let path = layout::metadata_path(TIMESTAMP);
        let is_in_force = match (&self.ground, &mark.0) {
            (Ground::Folder(_), before) => {
                // The lock should have kept everybody out. On a network drive that takes locks for a formality,
                // or after a restored backup, this still notices.
                let now = self.timestamp().await?;
                let unchanged = now.map(|(now, _)| now) == before.as_ref().map(|(before, _)| before.clone());
                if unchanged {
                    self.put(&path, bytes).await?;
                }
                unchanged
            }
            (Ground::Cloud, None) => self.put_if(&path, bytes, PutMode::Create).await?,
            (Ground::Cloud, Some((_, version))) => {
                self.put_if(&path, bytes, PutMode::Update(version.clone())).await?
            }
        };
        if is_in_force {
            return Ok(());
        }
        let now = self.timestamp().await?;
        Err(PlaceError::Overtaken { version: now.map_or_else(|| "0".into(), |(now, _)| version_of(&now)) })
    }

    /// All files whose path begins with `prefix`, a folder.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError> {
        let files = self.store.list(Some(&StorePath::from(prefix)));
        let files: Vec<_> = files.try_collect().await.map_err(|error| self.failed(prefix, error))?;
        let listed = |meta: object_store::ObjectMeta| Listed {
            path: meta.location.to_string(),
            size: meta.size,
            modified: u64::try_from(meta.last_modified.timestamp()).unwrap_or(0),
        };
        Ok(files.into_iter().map(listed).collect())
    }

    /// What time it is by the clock that dates this place's files, in Unix seconds: a server's or a network
    /// drive's may differ from this machine's.
    pub(crate) async fn now(&self) -> Result<u64, PlaceError> {
        // Others may be asking too.
        let path = format!("{CLOCK_FILE}-{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
        self.put(&path, Bytes::new()).await?;
        let meta = self.store.head(&StorePath::from(&*path)).await;
        let modified = meta.map_err(|error| self.failed(&path, error))?.last_modified;
        self.remove(&path).await?;
        Ok(u64::try_from(modified.timestamp()).unwrap_or(0))
    }

    /// Removes a file; none there is as good.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), PlaceError> {
        if let (Ground::Folder(folder), true) = (&self.ground, layout::is_unfinished(path)) {
            return Self::remove_unfinished(folder, path);
        }
        match self.store.delete(&StorePath::from(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Removes files that nothing will name, of a publication that failed.
    pub(crate) async fn remove_leftovers(&self, paths: &[String]) {
        for path in paths {
            if let Err(error) = self.remove(path).await {
                tracing::warn!(%error, %path, "a file that no release needs is left in the repository");
            }
        }
    }

    /// Whether the files of a publication that failed stay. In a cloud they do: the next attempt need not send them
    /// again, and another publisher, whom no lock keeps out, may have found them there and count on them.
    /// `repo gc` removes what nobody names in the end.
    pub(crate) fn keeps_uploads(&self) -> bool {
        matches!(self.ground, Ground::Cloud)
    }

    /// Writes a file of a cloud if `mode` allows it: whether the file holds `bytes` now.
    async fn put_if(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<bool, PlaceError> {
        let location = StorePath::from(path);
        let options = PutOptions { mode, ..PutOptions::default() };
        let error = match self.store.put_opts(&location, bytes.clone().into(), options).await {
            Ok(_) => return Ok(true),
            Err(error @ object_store::Error::NotImplemented { .. }) => return Err(self.failed(path, error)),
            Err(error) => error,
        };
        // The answer to a try that did arrive may have been lost: what counts is what is there.
        match self.read(path).await {
            Ok(Some((now, _))) if now == bytes => Ok(true),
            Ok(_) if is_refusal(&error) => Ok(false),
            Ok(_) | Err(_) => Err(self.failed(path, error)),
        }
    }

    /// Makes sure that the server honours conditions, by writing what is there already under conditions that do
    /// not hold. A server that ignores them changes nothing by it.
    async fn check_conditions(&self) -> Result<(), PlaceError> {
        let path = layout::metadata_path(FIRST_ROOT);
        let Some((root, _)) = self.read(&path).await? else { return Ok(()) };
        let never =
            UpdateVersion { e_tag: Some(NO_SUCH_ETAG.into()), version: Some(NO_SUCH_GENERATION.into()) };
        for mode in [PutMode::Create, PutMode::Update(never)] {
            let options = PutOptions { mode, ..PutOptions::default() };
            match self.store.put_opts(&StorePath::from(&*path), root.clone().into(), options).await {
                Err(error) if is_refusal(&error) => {}
                Ok(_) => return Err(PlaceError::NoConditions { url: self.url().into() }),
                Err(error) => return Err(self.failed(&path, error)),
            }
        }
        Ok(())
    }

    async fn timestamp(&self) -> Result<Option<(Bytes, UpdateVersion)>, PlaceError> {
        self.read(&layout::metadata_path(TIMESTAMP)).await
    }

    /// A whole metadata file, and which one it is; `None` if there is none.
    async fn read(&self, path: &str) -> Result<Option<(Bytes, UpdateVersion)>, PlaceError> {
        let answer: GetResult = match self.store.get(&StorePath::from(path)).await {
            Ok(answer) => answer,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(path, error)),
        };
        if answer.meta.size > METADATA_MAX as u64 {
            let url = format!("{}{path}", self.url());
            return Err(crate::OriginError::TooLarge { url, max: METADATA_MAX }.into());
        }
        let version =
            UpdateVersion { e_tag: answer.meta.e_tag.clone(), version: answer.meta.version.clone() };
        let bytes = answer.bytes().await.map_err(|error| self.failed(path, error))?;
        Ok(Some((bytes, version)))
    }

    fn failed(&self, path: &str, error: object_store::Error) -> PlaceError {
        match (&self.ground, error) {
            (Ground::Cloud, object_store::Error::NotImplemented { .. }) => {
                PlaceError::NoConditions { url: self.url().into() }
            }
            (Ground::Cloud, error) => {
                PlaceError::Upload(cloud::failed(format!("{}{path}", self.url()), &error))
            }
            (Ground::Folder(_), source) => PlaceError::Write { path: path.into(), source },
        }
    }
}

/// Whether a write was refused because its condition did not hold.
fn is_refusal(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotModified { .. }
    )
}

/// The version that a timestamp gives itself, for people: nothing is verified.
fn version_of(timestamp: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(timestamp).unwrap_or_default();
    value["signed"]["version"].as_u64().map_or_else(|| "unknown".into(), |version| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_publisher_is_told_so_and_the_lock_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::create(&dir.path().into()).unwrap();
        let lock = place.lock().unwrap();
        assert!(matches!(place.lock(), Err(PlaceError::Locked { .. })));
        drop(lock);
        assert!(place.lock().is_ok());
    }

    #[test]
    fn a_web_server_and_an_empty_folder_cannot_be_published_into() {
        let web = Place::open(&"https://anna:s3cret@example.com/repo".into());
        assert!(matches!(web, Err(PlaceError::ReadOnly(url)) if url == "https://example.com/repo"));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Place::open(&dir.path().into()), Err(PlaceError::NoRepository(_))));
    }
}
