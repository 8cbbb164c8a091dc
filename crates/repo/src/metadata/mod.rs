//! Changing the signed metadata: a publisher's side of TUF.
//!
//! [`Metadata`] is the state in force together with the changes to it. [`commit`](Metadata::commit) signs what
//! changed with the keys at hand. Where these suffice, the changes are put in force; where they don't, they are
//! put aside (`staged/`) until others have signed too.
//!
//! A release's target keeps its hash for ever; channels move by changing the targets' custom fields.

mod changes;
mod commit;
mod create;
mod due;
mod edit;
mod signing;
mod staged;
mod unfinished;

pub use commit::Outcome;
pub(crate) use create::create;
pub use signing::Missing;
pub use staged::{Staged, StagedRole};

use crate::{
    catalog::Catalog,
    content_keys::ContentKeys,
    keys::{KeyError, Keys, Signers},
    layout::METADATA_MAX,
    place::{Mark, Place, PlaceError},
    role::{RoleError, RoleName},
    tuf::TrustError,
};
use jiff::Timestamp;
use signing::KeySet;
use std::{collections::BTreeMap, num::NonZeroU64};
use tough::schema::{Delegations, Metafile, Root, Signed, Snapshot, Targets, Timestamp as TimestampRole};

const SPEC_VERSION: &str = "1.0.0";

/// Why metadata cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The repository's present metadata cannot be read or believed.
    #[error("the repository's present metadata cannot be used")]
    Trust(#[from] TrustError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A name that no role can have.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// It cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// None of the keys at hand can sign.
    #[error(
        "no key here is one of {role}: the repository names {}; give the folder that holds one with --keys",
        signing::list(.named)
    )]
    NoKey {
        /// The role.
        role: RoleName,
        /// The keys that could sign, by their ids.
        named: Vec<String>,
    },
    /// The role has changes that wait for signatures.
    #[error(
        "changes of {role} wait for signatures (staged/ in the repository): let the others sign with `branchmesh repo sign`, or take them back with `branchmesh repo sign --drop`; then try again"
    )]
    Pending {
        /// The role.
        role: RoleName,
    },
    /// What waits for signatures was overtaken by another change.
    #[error(
        "what waits for signatures of {role} builds on version {base}, and version {in_force} is in force: take it back with `branchmesh repo sign --drop`, and publish it again"
    )]
    Stale {
        /// The role.
        role: RoleName,
        /// The version that it replaces.
        base: u64,
        /// The version in force.
        in_force: u64,
    },
    /// A file in `staged/` is none.
    #[error("{path} in the repository cannot be read; remove it with `branchmesh repo sign --drop`")]
    StagedUnreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A new root was put, and nothing else of its change.
    #[error(
        "a change of keys was interrupted: finish it with `branchmesh repo refresh` and the new keys, then try again"
    )]
    Unfinished,
    /// Nothing waits for signatures.
    #[error("nothing waits for signatures in this repository")]
    NothingStaged,
    /// Nobody should sign what he cannot read.
    #[error(
        "what waits for signatures names releases of the group {group} that cannot be read here: put its content key into the keys folder as groups/{group}.key"
    )]
    Unreadable {
        /// The group.
        group: String,
    },
    /// The content key of a group is missing, or another one.
    #[error(
        "the content key of the group {group} is not here: put it into the keys folder as groups/{group}.key"
    )]
    NoContentKey {
        /// The group.
        group: String,
    },
    /// A group without a role.
    #[error("there is no group {group}: make it with `branchmesh repo delegate`")]
    NoGroup {
        /// The group.
        group: String,
    },
    /// A group that has a role.
    #[error("the group {group} has a role already; `branchmesh repo rotate` changes its keys")]
    GroupExists {
        /// The group.
        group: String,
    },
    /// Somebody else took the version meanwhile.
    #[error("another publisher is writing {file}; nothing is lost: try again")]
    Overtaken {
        /// The file.
        file: String,
    },
    /// A version that cannot be followed by another.
    #[error(
        "the versions of {role} are used up, which publishing cannot do: restore the repository's metadata from a backup, and rotate the keys of snapshot and timestamp"
    )]
    VersionsUsedUp {
        /// The role.
        role: RoleName,
    },
    /// A role cannot be written or read as JSON.
    #[error("the metadata cannot be written or read as JSON")]
    Json(#[source] serde_json::Error),
    /// tough refuses a name or a pattern, or cannot write a role canonically.
    #[error("the metadata cannot be made")]
    Form(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The list of releases has outgrown what nodes accept.
    #[error(
        "{role} has too many releases: its metadata would have {bytes} bytes, and nodes accept {METADATA_MAX}; remove old ones with `branchmesh repo gc --keep`"
    )]
    TooLarge {
        /// The role.
        role: RoleName,
        /// Bytes of its file.
        bytes: usize,
    },
}

/// The metadata of a repository, to be changed and signed anew.
pub(crate) struct Metadata {
    place: Place,
    mark: Mark,
    /// The root of trust that readers begin with.
    anchor: Vec<u8>,
    /// What opens and seals the descriptions of groups' releases.
    content_keys: ContentKeys,
    /// Read before any work is done, since the signing comes last.
    signers: Signers,
    in_force: InForce,
    /// The root that shall follow.
    next_root: Option<Root>,
    /// The root that is there already, while the rest of its change is not.
    unfinished: Option<Signed<Root>>,
    /// The roles of releases as they shall be.
    changes: BTreeMap<RoleName, Targets>,
    /// How long new signatures are believed, in days, where it is not as usual.
    valid_days: BTreeMap<RoleName, u32>,
}

/// The state that readers see.
struct InForce {
    root: Signed<Root>,
    timestamp: NonZeroU64,
    snapshot: Signed<Snapshot>,
    /// How the timestamp names the snapshot's file.
    snapshot_file: Metafile,
    /// Targets, and the roles of groups.
    roles: BTreeMap<RoleName, Signed<Targets>>,
    catalog: Catalog,
}

impl Metadata {
    /// Reads and verifies what is in the repository, to be replaced by the next version. Expired metadata is
    /// accepted: this is how it is renewed.
    pub(crate) async fn load(place: &Place, keys: &Keys) -> Result<Self, MetadataError> {
        let mark = place.mark().await?;
        let anchor = keys.read_root_json()?;
        let (verified, unfinished) = unfinished::load(&anchor, place.origin()).await?;
        let content_keys = ContentKeys::in_folder(keys.folder())?;
        let repository = &verified.repository;
        let mut roles: BTreeMap<_, _> =
            verified.groups().map(|(role, signed)| (role, signed.clone())).collect();
        let mut targets = repository.targets().clone();
        // The delegated roles stand for themselves in `roles`.
        targets
            .signed
            .delegations
            .iter_mut()
            .flat_map(|delegations| &mut delegations.roles)
            .for_each(|role| role.targets = None);
        roles.insert(RoleName::Targets, targets);
        let in_force = InForce {
            root: repository.root().clone(),
            timestamp: repository.timestamp().signed.version,
            snapshot: repository.snapshot().clone(),
            snapshot_file: snapshot_file(&repository.timestamp().signed)?,
            roles,
            catalog: verified.catalog(Timestamp::now(), &content_keys),
        };
        let mut metadata = Self {
            place: place.clone(),
            mark,
            anchor,
            content_keys,
            signers: keys.signers()?,
            in_force,
            next_root: None,
            unfinished,
            changes: BTreeMap::new(),
            valid_days: BTreeMap::new(),
        };
        metadata.go_on()?;
        Ok(metadata)
    }

    /// The releases as they were loaded.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.in_force.catalog
    }

    /// What opens the descriptions and indexes of groups' releases.
    pub(crate) fn content_keys(&self) -> &ContentKeys {
        &self.content_keys
    }

    /// The versions in force, of all roles with a version in their files' names except root.
    pub(crate) fn versions(&self) -> BTreeMap<RoleName, u64> {
        let roles = self.in_force.roles.keys().cloned().chain([RoleName::Snapshot]);
        roles.map(|role| (role.clone(), self.in_force.version(&role))).collect()
    }

    /// Fails unless a change of `role` can be signed here, at least by some of its keys, and none is waiting.
    pub(crate) async fn check_may_change(&self, role: &RoleName) -> Result<(), MetadataError> {
        self.check_not_pending([role]).await?;
        if let Some(keys) = keys_of(role, self.root(), self.delegations())
            && !keys.has_signer(&self.signers)
        {
            return Err(MetadataError::NoKey { role: role.clone(), named: keys.ids() });
        }
        Ok(())
    }

    /// The root as it shall be.
    fn root(&self) -> &Root {
        let unfinished = self.unfinished.as_ref().map(|root| &root.signed);
        self.next_root.as_ref().or(unfinished).unwrap_or(&self.in_force.root.signed)
    }

    /// The targets as they shall be.
    fn targets(&self) -> Option<&Targets> {
        self.changes.get(&RoleName::Targets).or_else(|| self.in_force.role(&RoleName::Targets))
    }

    /// The groups as they shall be.
    fn delegations(&self) -> Option<&Delegations> {
        self.targets()?.delegations.as_ref()
    }
}

impl InForce {
    fn role(&self, role: &RoleName) -> Option<&Targets> {
        self.roles.get(role).map(|signed| &signed.signed)
    }

    fn delegations(&self) -> Option<&Delegations> {
        self.role(&RoleName::Targets)?.delegations.as_ref()
    }

    /// The version of a role, 0 where it has none yet.
    fn version(&self, role: &RoleName) -> u64 {
        match role {
            RoleName::Root => self.root.signed.version.get(),
            RoleName::Timestamp => self.timestamp.get(),
            RoleName::Snapshot => self.snapshot.signed.version.get(),
            RoleName::Targets | RoleName::Group(_) => {
                self.role(role).map_or(0, |targets| targets.version.get())
            }
        }
    }
}

fn snapshot_file(timestamp: &TimestampRole) -> Result<Metafile, TrustError> {
    let file = timestamp.meta.get(&RoleName::Snapshot.file()).cloned();
    file.ok_or_else(|| TrustError::Malformed { reason: "the timestamp names no snapshot".into() })
}

/// The keys of a role under `root` and `delegations`; `None` if they name none.
fn keys_of(role: &RoleName, root: &Root, delegations: Option<&Delegations>) -> Option<KeySet> {
    match role {
        RoleName::Group(group) => KeySet::of_group(delegations?, group),
        RoleName::Root | RoleName::Targets | RoleName::Snapshot | RoleName::Timestamp => {
            KeySet::of_root(root, role)
        }
    }
}
