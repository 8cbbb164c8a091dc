//! One verification of a whole set of metadata, by TUF's rules (crate `tough`).
//!
//! tough does the cryptography, the version checks and the checks of the files against each other. Two things
//! are done here instead: expiry, because a node that was cut off may still finish and serve what it knows
//! (tough can only refuse it); and keeping what was accepted, because tough writes its files one by one and
//! ignores a torn one, and a crash would then take the protection against rollback away.

use crate::{
    catalog::{Catalog, CatalogEntry, CatalogError},
    content_keys::ContentKeys,
    layout::{self, METADATA_MAX, TIMESTAMP},
    origin::root_cause,
    source::{MetadataSource, SourceError},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};
use tokio::sync::{mpsc, oneshot};
use tough::{
    ExpirationEnforcement, Limits, Repository, RepositoryLoader, Transport, TransportError,
    TransportErrorKind, TransportStream, error::Error as ToughError, schema::RoleType,
};
use url::Url;

/// Metadata files by name.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// Bytes of a timestamp: two signatures and one hash need 1 KiB.
const TIMESTAMP_MAX: usize = 64 << 10;
/// Bytes of a root or snapshot: some dozens of keys, or some thousand delegated roles.
const ROOT_MAX: usize = 1 << 20;
/// Changes of the root of trust that one update follows, so that nobody keeps a node busy with an endless chain.
const ROOT_UPDATES_MAX: u64 = 256;
/// tough wants a URL to join names to; only the last component means anything here.
const BASE_URL: &str = "file:///metadata/";

/// Why metadata is not believed. What was believed before stays.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The source does not work.
    #[error("the repository's metadata cannot be fetched")]
    Source(#[from] SourceError),
    /// The source works and has no such file.
    #[error("the metadata file {name} is missing: is there a repository at this address?")]
    Missing {
        /// The file.
        name: String,
    },
    /// Not signed by the keys that the root of trust names: damaged, forged, or of another repository.
    #[error(
        "the signatures of {what} are not those that the root of trust asks for; the metadata is damaged or forged, or root.json belongs to another repository"
    )]
    BadSignature {
        /// Which role's file.
        what: String,
    },
    /// Older than what was believed before.
    #[error(
        "the metadata is older than what this node has already accepted ({detail}); somebody replays an old state, or the repository was restored from a backup"
    )]
    Rollback {
        /// Which versions.
        detail: String,
    },
    /// Too old to be believed to be the newest.
    #[error(
        "the {role} metadata expired at {since}; publish or run `branchmesh repo refresh`, and check this machine's clock"
    )]
    Expired {
        /// Which role's file.
        role: String,
        /// When.
        since: Timestamp,
    },
    /// Not readable, or the files don't belong together.
    #[error("the repository's metadata is damaged: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Signed, and no catalog.
    #[error("the repository's metadata is signed, but makes no sense")]
    Catalog(#[from] CatalogError),
    /// The node cannot keep what it accepted.
    #[error("the metadata cannot be kept in {path}")]
    Keep {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A set of metadata files that belong together and are properly signed.
pub(crate) struct Verified {
    pub(crate) repository: Repository,
    /// All files that went into it, as they came.
    pub(crate) files: Files,
}

/// What a verification builds on.
pub(crate) struct Basis<'a> {
    /// The newest root of trust that is known.
    pub(crate) root: &'a [u8],
    /// Files that were accepted before: versioned ones are not fetched again, older ones are a rollback.
    pub(crate) accepted: &'a Files,
    /// An empty folder for tough.
    pub(crate) scratch: &'a Path,
}

impl Verified {
    /// Verifies what `source` gives. Expiry is not checked.
    pub(crate) async fn load(basis: &Basis<'_>, source: &dyn MetadataSource) -> Result<Self, TrustError> {
        let (first, reused) = attempt(basis, source, true).await;
        match first {
            // A repository that was restored from a backup may reuse version numbers for other files.
            Err(TrustError::Malformed { .. } | TrustError::BadSignature { .. }) if reused => {
                attempt(basis, source, false).await.0
            }
            result => result,
        }
    }

    /// Fails if any of the four roles has expired at `now`.
    pub(crate) fn check_expiry(&self, now: Timestamp) -> Result<(), TrustError> {
        match self.expiries().into_iter().find(|(_, expires)| *expires <= now) {
            Some((role, since)) => Err(TrustError::Expired { role: role.to_string(), since }),
            None => Ok(()),
        }
    }

    /// What it says.
    pub(crate) fn catalog(&self, now: Timestamp, _keys: &ContentKeys) -> Result<Catalog, TrustError> {
        let mut releases = Vec::new();
        for (name, target) in self.repository.all_targets() {
            match CatalogEntry::from_custom(name.raw(), target.length, &target.custom)? {
                Some(entry) => releases.push(entry),
                None => tracing::warn!(release = name.raw(), "left out: it needs a newer branchmesh"),
            }
        }
        releases.sort_by_key(|entry| entry.sequence);
        let expires = self.expiries().into_iter().map(|(_, expires)| expires).min().unwrap_or(Timestamp::MIN);
        Ok(Catalog {
            version: self.repository.timestamp().signed.version.get(),
            expires: u64::try_from(expires.as_second()).unwrap_or(0),
            expired: expires <= now,
            releases,
        })
    }

    fn expiries(&self) -> [(RoleType, Timestamp); 4] {
        let repository = &self.repository;
        [
            (RoleType::Root, repository.root().signed.expires),
            (RoleType::Targets, repository.targets().signed.expires),
            (RoleType::Snapshot, repository.snapshot().signed.expires),
            (RoleType::Timestamp, repository.timestamp().signed.expires),
        ]
    }
}

/// Loads once; also says whether a file was taken from what had been accepted before.
async fn attempt(
    basis: &Basis<'_>,
    source: &dyn MetadataSource,
    reuse: bool,
) -> (Result<Verified, TrustError>, bool) {
    let base = Url::parse(BASE_URL).expect("the constant is a URL");
    let (requests, mut inbox) = mpsc::channel(1);
    let load = RepositoryLoader::new(&basis.root, base.clone(), base)
        .transport(Relay { requests })
        .limits(limits())
        .datastore(basis.scratch)
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load();
    tokio::pin!(load);
    let mut desk = Desk { basis, source, reuse, reused: false, files: Files::new(), failure: None };
    // tough wants to own its transport, while a source is borrowed: its requests are answered from here.
    let result = loop {
        tokio::select! {
            biased;
            result = &mut load => break result,
            Some(request) = inbox.recv() => desk.answer(request).await,
        }
    };
    let Desk { reused, files, failure, .. } = desk;
    let verified = match result {
        Ok(repository) => Ok(Verified { repository, files }),
        Err(error) => Err(refusal(&error, failure)),
    };
    (verified, reused)
}

fn limits() -> Limits {
    Limits {
        max_root_size: ROOT_MAX as u64,
        max_targets_size: METADATA_MAX as u64,
        max_timestamp_size: TIMESTAMP_MAX as u64,
        max_snapshot_size: ROOT_MAX as u64,
        max_root_updates: ROOT_UPDATES_MAX,
    }
}

/// A file that tough wants, and where to send it; `None` if it cannot be had.
struct Request {
    name: String,
    reply: oneshot::Sender<Option<Bytes>>,
}

/// tough's side of the counter.
#[derive(Clone)]
struct Relay {
    requests: mpsc::Sender<Request>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}

#[async_trait]
impl Transport for Relay {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        let (reply, answer) = oneshot::channel();
        // Neither end goes away while the other is polled: then there is no file.
        let _ = self.requests.send(Request { name, reply }).await;
        match answer.await {
            Ok(Some(bytes)) => Ok(Box::pin(stream::iter([Ok(bytes)]))),
            Ok(None) | Err(_) => Err(TransportError::new(TransportErrorKind::FileNotFound, url)),
        }
    }
}

/// Our side: answers from what was accepted before, or from the source, and remembers what it gave.
struct Desk<'a> {
    basis: &'a Basis<'a>,
    source: &'a dyn MetadataSource,
    reuse: bool,
    reused: bool,
    files: Files,
    /// Why the latest request was not answered.
    failure: Option<TrustError>,
}

impl Desk<'_> {
    async fn answer(&mut self, request: Request) {
        let Request { name, reply } = request;
        self.failure = None;
        let file = match self.file(&name).await {
            Ok(Some(bytes)) => {
                self.files.insert(name, bytes.clone());
                Some(bytes)
            }
            Ok(None) => {
                self.failure = Some(TrustError::Missing { name });
                None
            }
            Err(error) => {
                self.failure = Some(error.into());
                None
            }
        };
        // tough waits for nothing else.
        let _ = reply.send(file);
    }

    async fn file(&mut self, name: &str) -> Result<Option<Bytes>, SourceError> {
        if self.reuse
            && layout::is_versioned_name(name)
            && let Some(bytes) = self.basis.accepted.get(name)
        {
            self.reused = true;
            return Ok(Some(bytes.clone()));
        }
        let max = match name {
            TIMESTAMP => TIMESTAMP_MAX,
            _ if name.ends_with(".root.json") || name.ends_with(".snapshot.json") => ROOT_MAX,
            _ => METADATA_MAX,
        };
        self.source.metadata(name, max).await
    }
}

/// What tough's error means. `failure` says why the last file that it asked for was not given, if so.
fn refusal(error: &ToughError, failure: Option<TrustError>) -> TrustError {
    if let (ToughError::Transport { .. }, Some(failure)) = (error, failure) {
        return failure;
    }
    if let ToughError::VerifyMetadata { role, .. } = error {
        return TrustError::BadSignature { what: format!("the {role} metadata") };
    }
    if let ToughError::VerifyRoleMetadata { role, .. } = error {
        return TrustError::BadSignature { what: format!("the metadata of {role}") };
    }
    if let ToughError::VerifyTrustedMetadata { .. } = error {
        return TrustError::BadSignature { what: "root.json itself".into() };
    }
    let is_rollback = matches!(
        error,
        ToughError::OlderMetadata { .. }
            | ToughError::OlderSnapshotInTimestamp { .. }
            | ToughError::SnapshotRoleMissing { .. }
            | ToughError::SnapshotRoleRollback { .. }
    );
    if is_rollback {
        return TrustError::Rollback { detail: error.to_string() };
    }
    TrustError::Malformed { reason: root_cause(error) }
}
