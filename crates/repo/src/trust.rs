//! What a node believes, and remembers to have believed.
//!
//! After each accepted update all its files are kept as they came: so that the node starts without a network,
//! gives them to its neighbours, and never goes back to an older state. They are kept in one file that is
//! replaced in one step, because half an update would be a hole in the protection against rollback.

use crate::{
    catalog::Catalog,
    content_keys::ContentKeys,
    disk,
    layout::{self, METADATA_MAX, ROOT, TIMESTAMP},
    new_roots::NewRoots,
    source::{MetadataSource, SourceError},
    tuf::{ALL_FILES_MAX, Basis, Files, Refusal, TrustError, Verified},
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// The file that holds all accepted files.
const KEPT_FILE: &str = "metadata.json";
/// Most bytes of it: all files, escaped once more as JSON strings.
const KEPT_MAX: u64 = 3 * ALL_FILES_MAX as u64;
/// Highest version of a first root of trust: tough adds to it without a check, and no repository has so many.
const ROOT_VERSION_MAX: u64 = u32::MAX as u64;
/// Folder in which tough works during an update.
const SCRATCH: &str = "verifying";

/// The node's trust in one repository.
pub struct Trust {
    folder: PathBuf,
    /// The root of trust that the accepted files were verified with: as configured, or what that led to.
    root: Bytes,
    accepted: Files,
    /// What came after it, and vouches for a state that is not here yet.
    new_roots: NewRoots,
    catalog: Option<Arc<Catalog>>,
    /// What opens the descriptions of sealed releases.
    keys: ContentKeys,
    /// Whether the folder has been looked into.
    is_loaded: bool,
}

impl Trust {
    /// Trust that begins with `root_json`, the repository's first root of trust. `folder` belongs to this node,
    /// outlives it, and is made where it is missing. Releases
    /// of groups whose key is not among `keys` stay sealed.
    pub fn open(root_json: &[u8], folder: &Path, keys: ContentKeys) -> Result<Self, TrustError> {
        check_root(root_json)?;
        fs::create_dir_all(folder).map_err(|source| TrustError::Keep { path: folder.into(), source })?;
        Ok(Self {
            folder: folder.into(),
            root: Bytes::copy_from_slice(root_json),
            accepted: Files::new(),
            new_roots: NewRoots::default(),
            catalog: None,
            keys,
            is_loaded: false,
        })
    }

    /// Verifies once more what was kept, without a network. What has expired meanwhile is still a catalog, and
    /// says so. `None` if nothing usable was kept.
    pub async fn load_local(&mut self) -> Result<Option<Arc<Catalog>>, TrustError> {
        self.load_local_at(Timestamp::now()).await
    }

    async fn load_local_at(&mut self, now: Timestamp) -> Result<Option<Arc<Catalog>>, TrustError> {
        self.is_loaded = true;
        let Some(mut kept) = self.read_kept()? else { return Ok(None) };
        let new_roots = NewRoots::take_kept(&mut kept);
        let nothing = Files::new();
        let scratch = self.scratch(&nothing)?;
        let basis = Basis { root: &self.root, accepted: &nothing, scratch: &scratch };
        let verified = match Verified::load(&basis, &Kept(&kept)).await {
            Ok(verified) => verified,
            Err(Refusal { error, .. }) => {
                self.new_roots = NewRoots::after(&self.root, &new_roots);
                // Rotten, or the administrator replaced root.json. Whoever can spoil the file on purpose could as
                // well remove it, so that refusing to go on would protect nobody.
                tracing::warn!(%error, folder = %self.folder.display(), "the kept metadata is not usable: starting anew");
                return Ok(None);
            }
        };
        let catalog = Arc::new(verified.catalog(now, &self.keys));
        self.believe(&verified, catalog.clone());
        self.new_roots = NewRoots::after(&self.root, &new_roots);
        Ok(Some(catalog))
    }

    /// Asks `source` for what is newest, and believes it if it is properly signed, not older than what was
    /// believed before, and not expired. On an error everything stays as it was, but for new roots of trust, which
    /// count as soon as they are seen.
    pub async fn refresh(&mut self, source: &dyn MetadataSource) -> Result<Arc<Catalog>, TrustError> {
        self.refresh_at(source, Timestamp::now()).await
    }

    async fn refresh_at(
        &mut self,
        source: &dyn MetadataSource,
        now: Timestamp,
    ) -> Result<Arc<Catalog>, TrustError> {
        if !self.is_loaded {
            self.load_local_at(now).await?;
        }
        let nothing = Files::new();
        let accepted = if self.new_roots.change_online_keys(&self.root) { &nothing } else { &self.accepted };
        let scratch = self.scratch(accepted)?;
        let root = self.new_roots.newest().unwrap_or(&self.root);
        let basis = Basis { root, accepted, scratch: &scratch };
        let verified = match Verified::load(&basis, source).await {
            Ok(verified) => verified,
            Err(Refusal { error, roots }) => {
                self.follow(&roots).await?;
                return Err(error);
            }
        };
        if let Err(error) = verified.check_expiry(now) {
            self.follow(&verified.files).await?;
            return Err(error);
        }
        let catalog = Arc::new(verified.catalog(now, &self.keys));
        let is_news = verified.files.iter().any(|(name, bytes)| self.accepted.get(name) != Some(bytes));
        if is_news {
            self.keep(self.merged(&verified.files)).await?;
        }
        self.believe(&verified, catalog.clone());
        Ok(catalog)
    }

    /// A verified metadata file under the name by which TUF clients ask for it, to be given to peers.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<Bytes> {
        self.accepted.get(name).cloned()
    }

    /// All verified metadata files, by the names by which TUF clients ask for them. Whoever serves peers needs a
    /// copy of them: two nodes that ask each other at the same moment would wait for each other, if serving had
    /// to wait for the end of an update.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, Bytes> {
        &self.accepted
    }

    /// What is believed now.
    #[must_use]
    pub fn catalog(&self) -> Option<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Remembers new roots of trust among `files`, whose state was not accepted.
    async fn follow(&mut self, files: &Files) -> Result<(), TrustError> {
        let mut all = self.new_roots.files().clone();
        all.extend(files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())));
        let new_roots = NewRoots::after(&self.root, &all);
        if new_roots.files().len() == self.new_roots.files().len() {
            return Ok(());
        }
        let mut kept = self.accepted.clone();
        kept.extend(new_roots.to_kept());
        self.keep(kept).await?;
        self.new_roots = new_roots;
        Ok(())
    }

    fn believe(&mut self, verified: &Verified, catalog: Arc<Catalog>) {
        let newest = format!("{}.{ROOT}", verified.repository.root().signed.version);
        self.accepted = self.merged(&verified.files);
        if let Some(root) = self.accepted.get(&newest) {
            self.root = root.clone();
        }
        self.new_roots = NewRoots::default();
        self.catalog = Some(catalog);
    }

    /// The files of an update, and the older roots: a neighbour's trust may begin at any of them.
    fn merged(&self, files: &Files) -> Files {
        let known = self.accepted.iter().chain(self.new_roots.files());
        let roots = known.filter(|(name, _)| layout::is_root_name(name));
        let mut merged: Files = roots.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        merged.extend(files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())));
        merged
    }

    async fn keep(&self, files: Files) -> Result<(), TrustError> {
        let failed = |source| TrustError::Keep { path: self.folder.clone(), source };
        let mut texts = BTreeMap::new();
        for (name, bytes) in &files {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| TrustError::Malformed { reason: format!("{name} is not UTF-8") })?;
            texts.insert(name.as_str(), text);
        }
        let json = serde_json::to_vec(&texts).map_err(|error| failed(error.into()))?;
        let path = self.folder.join(KEPT_FILE);
        // It waits for the disk, which others must not.
        let written = spawn_blocking(move || disk::write_atomically(&path, &json)).await;
        written.unwrap_or_else(|stopped| Err(stopped.into())).map_err(failed)
    }

    fn read_kept(&self) -> Result<Option<Files>, TrustError> {
        let path = self.folder.join(KEPT_FILE);
        let failed = |source| TrustError::Keep { path: path.clone(), source };
        let size = match fs::metadata(&path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if size > KEPT_MAX {
            tracing::warn!(size, path = %path.display(), "the kept metadata is impossibly large: starting anew");
            return Ok(None);
        }
        let json = fs::read(&path).map_err(failed)?;
        let Ok(texts) = serde_json::from_slice::<BTreeMap<String, String>>(&json) else {
            tracing::warn!(path = %path.display(), "the kept metadata is damaged: starting anew");
            return Ok(None);
        };
        Ok(Some(texts.into_iter().map(|(name, text)| (name, Bytes::from(text))).collect()))
    }

    /// A folder for tough that holds the accepted files which it compares new ones with.
    fn scratch(&self, accepted: &Files) -> Result<PathBuf, TrustError> {
        let folder = self.folder.join(SCRATCH);
        prepare_scratch(&folder, accepted)
            .map_err(|source| TrustError::Keep { path: folder.clone(), source })?;
        Ok(folder)
    }
}

/// The catalog of a repository, for people who look at it. `root_json` is its root of trust; without one, the
/// root that the repository itself offers is believed, so that the answer is only as good as the connection.
pub async fn read_catalog(
    source: &dyn MetadataSource,
    root_json: Option<&[u8]>,
    keys: &ContentKeys,
) -> Result<Catalog, TrustError> {
    let offered;
    let root = match root_json {
        Some(root) => root,
        None => {
            let root = source.metadata(ROOT, METADATA_MAX).await?;
            offered = root.ok_or_else(|| TrustError::Missing { name: ROOT.into() })?;
            &offered
        }
    };
    Ok(load_once(root, source).await?.catalog(Timestamp::now(), keys))
}

/// Verifies a repository once, remembering nothing.
pub(crate) async fn load_once(root: &[u8], source: &dyn MetadataSource) -> Result<Verified, TrustError> {
    check_root(root)?;
    let scratch =
        tempfile::tempdir().map_err(|source| TrustError::Keep { path: std::env::temp_dir(), source })?;
    let basis = Basis { root, accepted: &Files::new(), scratch: scratch.path() };
    Ok(Verified::load(&basis, source).await?)
}

/// Fails early, and with words about root.json, if the root of trust is none.
fn check_root(root_json: &[u8]) -> Result<(), TrustError> {
    use tough::schema::{Root, Signed};
    let root: Signed<Root> = serde_json::from_slice(root_json).map_err(|error| TrustError::Malformed {
        reason: format!("root.json is no root of trust: {error}"),
    })?;
    if root.signed.version.get() > ROOT_VERSION_MAX {
        return Err(TrustError::Malformed { reason: "root.json has an impossibly high version".into() });
    }
    root.signed.verify_role(&root).map_err(|_| TrustError::BadSignature { what: "root.json itself".into() })
}

fn prepare_scratch(folder: &Path, accepted: &Files) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(folder)?,
    }
    let snapshot = accepted.iter().find(|(name, _)| name.ends_with(".snapshot.json"));
    if let (Some(timestamp), Some((_, snapshot))) = (accepted.get(TIMESTAMP), snapshot) {
        fs::write(folder.join(TIMESTAMP), timestamp)?;
        fs::write(folder.join("snapshot.json"), snapshot)?;
    }
    Ok(())
}

/// Kept files as a source.
struct Kept<'a>(&'a Files);

#[async_trait]
impl MetadataSource for Kept<'_> {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        Ok(self.0.get(name).filter(|bytes| bytes.len() <= max).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{init, keys::Keys, origin::Origin};
    use jiff::SignedDuration;

    #[tokio::test]
    async fn expired_metadata_begins_nothing_and_what_was_accepted_before_stays_usable() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, keys, node) = (dir.path().join("repo"), dir.path().join("keys"), dir.path().join("node"));
        init(&repo.as_path().into(), &Keys::at(&keys)).await.unwrap();
        let root = fs::read(keys.join("root.json")).unwrap();
        let origin = Origin::open(repo.to_str().unwrap()).unwrap();
        let in_time = Timestamp::now() + SignedDuration::from_hours(29 * 24);
        let too_late = Timestamp::now() + SignedDuration::from_hours(31 * 24);

        let mut trust = Trust::open(&root, &node, ContentKeys::default()).unwrap();
        let refused = trust.refresh_at(&origin, too_late).await;
        assert!(
            matches!(&refused, Err(TrustError::Expired { role, .. }) if role == "timestamp"),
            "{refused:?}"
        );
        assert!(trust.catalog().is_none() && trust.file(TIMESTAMP).is_none());
        assert!(!trust.refresh_at(&origin, in_time).await.unwrap().expired);
        assert!(trust.refresh_at(&origin, too_late).await.is_err());
        assert!(trust.catalog().is_some());

        let mut restarted = Trust::open(&root, &node, ContentKeys::default()).unwrap();
        assert!(restarted.load_local_at(too_late).await.unwrap().unwrap().expired);
        assert!(!restarted.load_local_at(in_time).await.unwrap().unwrap().expired);
    }
}
