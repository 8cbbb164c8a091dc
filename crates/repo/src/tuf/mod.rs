//! One verification of a whole set of metadata, by TUF's rules (crate `tough`).
//!
//! tough does the cryptography, the version checks and the checks of the files against each other. Three things
//! are done here instead: expiry, because a node that was cut off may still finish and serve what it knows
//! (tough can only refuse it); keeping what was accepted, because tough writes its files one by one and
//! ignores a torn one, and a crash would then take the protection against rollback away; and the rules for groups
//! and for jumping versions, which TUF leaves to its users ([`check`]).

mod check;
mod desk;

pub(crate) use desk::{ALL_FILES_MAX, GROUPS_MAX};

use crate::{
    catalog::{Catalog, SignedTargets, gather},
    content_keys::ContentKeys,
    layout::METADATA_MAX,
    origin::root_cause,
    role::RoleName,
    source::{MetadataSource, SourceError},
};
use bytes::Bytes;
use desk::{Desk, Relay};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;
use tough::{
    ExpirationEnforcement, Limits, Repository, RepositoryLoader,
    error::Error as ToughError,
    schema::{RoleType, Signed, Targets},
};
use url::Url;

/// Metadata files by name.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// Bytes of a timestamp: two signatures and one hash need 1 KiB.
const TIMESTAMP_MAX: usize = 64 << 10;
/// Bytes of a root or snapshot: some dozens of keys, or some thousand delegated roles.
const ROOT_MAX: usize = 1 << 20;
/// Changes of the root of trust that one update follows, so that nobody keeps a node busy with an endless chain.
pub(crate) const ROOT_UPDATES_MAX: u64 = 256;
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
    /// Versions have jumped further than publishing explains (TUF calls it fast-forward).
    #[error(
        "the version of {file} jumped from {old} to {new}, further than publishing explains: somebody who has its keys may be at work; the repository's owner must rotate the keys of snapshot and timestamp, which this node will then follow"
    )]
    FastForward {
        /// Which file.
        file: String,
        /// The version that was believed.
        old: u64,
        /// The version that is offered.
        new: u64,
    },
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

/// A set of metadata that is not believed.
pub(crate) struct Refusal {
    pub(crate) error: TrustError,
    /// New roots of trust that are, whatever is wrong with the rest (TUF section 5.3.8).
    pub(crate) roots: Files,
}

impl From<Refusal> for TrustError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
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
    /// Verifies what `source` gives. Expiry is not checked, nor are the releases.
    pub(crate) async fn load(basis: &Basis<'_>, source: &dyn MetadataSource) -> Result<Self, Refusal> {
        let (first, reused) = attempt(basis, source, true).await;
        match first {
            // A repository that was restored from a backup may reuse version numbers for other files.
            Err(Refusal {
                error: TrustError::Malformed { .. } | TrustError::BadSignature { .. }, ..
            }) if reused => attempt(basis, source, false).await.0,
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
    pub(crate) fn catalog(&self, now: Timestamp, keys: &ContentKeys) -> Catalog {
        let expires = self.expiries().into_iter().map(|(_, expires)| expires).min().unwrap_or(Timestamp::MIN);
        let mut catalog = Catalog {
            version: self.repository.timestamp().signed.version.get(),
            expires: unix_seconds(expires),
            expired: expires <= now,
            ..Catalog::default()
        };
        let roles = [(RoleName::Targets, self.repository.targets())].into_iter().chain(self.groups());
        let roles: Vec<_> = roles
            .map(|(role, signed)| SignedTargets {
                role,
                expires: unix_seconds(signed.signed.expires),
                targets: &signed.signed.targets,
            })
            .collect();
        gather(&mut catalog, &roles, keys);
        catalog
    }

    /// The roles of the groups, in the order in which targets delegates to them.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (RoleName, &Signed<Targets>)> {
        let delegations = self.repository.targets().signed.delegations.iter();
        delegations
            .flat_map(|delegations| &delegations.roles)
            .filter_map(|role| Some((RoleName::Group(role.name.clone()), role.targets.as_ref()?)))
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
) -> (Result<Verified, Refusal>, bool) {
    let base = Url::parse(BASE_URL).expect("the constant is a URL");
    let (requests, mut inbox) = mpsc::channel(1);
    let load = RepositoryLoader::new(&basis.root, base.clone(), base)
        .transport(Relay { requests })
        .limits(limits())
        .datastore(basis.scratch)
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load();
    tokio::pin!(load);
    let mut desk = Desk::new(basis, source, reuse);
    // tough wants to own its transport, while a source is borrowed: its requests are answered from here.
    let result = loop {
        tokio::select! {
            biased;
            result = &mut load => break result,
            Some(request) = inbox.recv() => desk.answer(request).await,
        }
    };
    let Desk { reused, files, roots, failure, .. } = desk;
    let verified = match result {
        Ok(repository) => check::check(&repository, basis).map(|()| Verified { repository, files }),
        Err(error) => Err(refusal(&error, failure)),
    };
    (verified.map_err(|error| Refusal { error, roots }), reused)
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

fn unix_seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

/// What tough's error means. `failure` says why the last file that it asked for was not given, if so.
fn refusal(error: &ToughError, failure: Option<TrustError>) -> TrustError {
    if let (ToughError::Transport { .. }, Some(failure)) = (error, failure) {
        return failure;
    }
    if let ToughError::VerifyMetadata { role, .. } = error {
        return TrustError::BadSignature { what: format!("the {role} metadata") };
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
