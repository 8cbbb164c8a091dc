//! Changes that wait for signatures: roles that were signed by some of their keys, put aside until others have
//! signed too.
//!
//! `staged/N.ROLE.json` is the role's file as it will be, and beside `signed` and `signatures` the version that it
//! `replaces`. Nobody believes it: nodes don't read it, and what it says counts when enough keys of the role in force
//! have signed it, wherever it lay before. Whoever signs is shown first what changes.

use super::{
    Metadata, MetadataError, Outcome, changes::root_changes, commit::Proposal, keys_of, signing::Missing,
};
use crate::{
    catalog::{self, Catalog, SignedTargets},
    layout::{METADATA_MAX, STAGED},
    place::Place,
    role::RoleName,
    tuf::GROUPS_MAX,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use tough::schema::{Role, Root, Signed, Targets};

/// What JSON adds to a role's file at most, with the version that it replaces.
const STAGED_MAX: usize = METADATA_MAX + 1024;
/// Files in the folder that are looked at: one for each role.
const STAGED_FILES_MAX: usize = GROUPS_MAX + 2;

/// What waits for signatures, and whose.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    /// The roles that change.
    pub roles: Vec<StagedRole>,
}

/// A change of one role.
#[derive(Clone, Debug)]
pub struct StagedRole {
    /// The role.
    pub role: RoleName,
    /// The version that it will have.
    pub version: u64,
    /// What changes, in words.
    pub changes: Vec<String>,
    /// What it lacks; `None` if enough have signed.
    pub missing: Option<Missing>,
}

/// A file in the folder.
#[derive(Serialize, Deserialize)]
struct File<R> {
    replaces: u64,
    #[serde(flatten)]
    role: Signed<R>,
}

/// All files in the folder.
#[derive(Default)]
struct Folder {
    proposal: Proposal,
    /// The version that each role replaces.
    replaces: BTreeMap<RoleName, u64>,
    /// The file of each role.
    paths: BTreeMap<RoleName, String>,
}

impl Metadata {
    /// Signs what waits with the keys at hand, after `show` has shown it, and puts in force what is complete then.
    pub(crate) async fn sign_staged(self, show: impl FnOnce(&Staged)) -> Result<Outcome, MetadataError> {
        let mut folder = self.read_folder().await?;
        if folder.paths.is_empty() {
            return Err(MetadataError::NothingStaged);
        }
        for (role, base) in &folder.replaces {
            self.check_base(role, *base)?;
        }
        self.check_legible(&folder)?;
        show(&self.describe(&folder)?);
        self.sign_folder(&mut folder).await?;
        self.write_folder(&folder.proposal).await?;
        self.finish(folder).await
    }

    /// Puts in force what is complete, if anything is.
    pub(crate) async fn finish_staged(&self) -> Result<Option<u64>, MetadataError> {
        let folder = self.read_folder().await?;
        let is_stale = |(role, base): (&RoleName, &u64)| self.check_base(role, *base).is_err();
        if folder.paths.is_empty() || folder.replaces.iter().any(is_stale) {
            return Ok(None);
        }
        self.put_complete(&folder).await
    }

    /// Takes back what waits; the roles that waited.
    pub(crate) async fn drop_staged(place: &Place) -> Result<Vec<String>, MetadataError> {
        let files = place.list(STAGED).await?;
        for file in &files {
            place.remove(&file.path).await?;
        }
        Ok(files.into_iter().map(|file| file.path).collect())
    }

    /// Fails if a change of any of `roles` waits for signatures.
    pub(super) async fn check_not_pending<'a>(
        &self,
        roles: impl IntoIterator<Item = &'a RoleName>,
    ) -> Result<(), MetadataError> {
        let files = self.place.list(STAGED).await?;
        let waiting: BTreeSet<RoleName> = files.iter().filter_map(|file| role_of(&file.path)).collect();
        match roles.into_iter().find(|role| waiting.contains(role)) {
            Some(role) => Err(MetadataError::Pending { role: role.clone() }),
            None => Ok(()),
        }
    }

    /// Puts a proposal aside.
    pub(super) async fn stage(&self, proposal: &Proposal) -> Result<(), MetadataError> {
        self.write_folder(proposal).await
    }

    /// Takes a proposal away again.
    pub(super) async fn unstage(&self, proposal: &Proposal) -> Result<(), MetadataError> {
        let root = proposal.root.iter().map(|root| RoleName::Root.versioned_file(root.signed.version));
        let roles = proposal.roles.iter().map(|(role, signed)| role.versioned_file(signed.signed.version));
        for file in root.chain(roles) {
            self.place.remove(&format!("{STAGED}/{file}")).await?;
        }
        Ok(())
    }

    async fn read_folder(&self) -> Result<Folder, MetadataError> {
        let mut folder = Folder::default();
        let files = self.place.list(STAGED).await?;
        for file in files.into_iter().take(STAGED_FILES_MAX) {
            let Some(role) = role_of(&file.path) else { continue };
            let bytes = self.place.read_bounded(&file.path, STAGED_MAX).await?;
            let replaces = match &role {
                RoleName::Root => {
                    let File { replaces, role } = parse::<Root>(&file.path, &bytes)?;
                    folder.proposal.root = Some(role);
                    replaces
                }
                RoleName::Targets | RoleName::Group(_) => {
                    let File { replaces, role: signed } = parse::<Targets>(&file.path, &bytes)?;
                    folder.proposal.roles.insert(role.clone(), signed);
                    replaces
                }
                // These two are signed when a change is put in force, never in advance.
                RoleName::Snapshot | RoleName::Timestamp => continue,
            };
            folder.replaces.insert(role.clone(), replaces);
            folder.paths.insert(role, file.path);
        }
        Ok(folder)
    }

    async fn write_folder(&self, proposal: &Proposal) -> Result<(), MetadataError> {
        if let Some(root) = &proposal.root {
            self.write_file(&RoleName::Root, root).await?;
        }
        for (role, signed) in &proposal.roles {
            self.write_file(role, signed).await?;
        }
        Ok(())
    }

    async fn write_file<R: Role + Clone>(
        &self,
        role: &RoleName,
        signed: &Signed<R>,
    ) -> Result<(), MetadataError> {
        let path = format!("{STAGED}/{}", role.versioned_file(signed.signed.version()));
        let file = File { replaces: self.in_force.version(role), role: signed.clone() };
        let bytes = serde_json::to_vec_pretty(&file).map_err(MetadataError::Json)?;
        Ok(self.place.put(&path, bytes.into()).await?)
    }

    fn check_base(&self, role: &RoleName, base: u64) -> Result<(), MetadataError> {
        let in_force = self.in_force.version(role);
        if base == in_force {
            return Ok(());
        }
        Err(MetadataError::Stale { role: role.clone(), base, in_force })
    }

    /// Fails if a waiting change names a new release whose description cannot be read here.
    fn check_legible(&self, folder: &Folder) -> Result<(), MetadataError> {
        let known = &self.catalog().sealed;
        let mut waiting = Catalog::default();
        let roles: Vec<SignedTargets<'_>> = folder.proposal.roles.iter().map(as_signed_targets).collect();
        catalog::gather(&mut waiting, &roles, &self.content_keys);
        match waiting.sealed.iter().find(|sealed| !known.iter().any(|before| before.id == sealed.id)) {
            Some(sealed) => Err(MetadataError::Unreadable { group: sealed.group.clone() }),
            None => Ok(()),
        }
    }

    /// Adds the signatures of the keys at hand; fails if none of them is asked for.
    async fn sign_folder(&self, folder: &mut Folder) -> Result<(), MetadataError> {
        let before = folder.proposal.clone();
        let is_asked = |role: &RoleName| {
            let old = keys_of(role, &self.in_force.root.signed, self.in_force.delegations());
            let new = keys_of(role, self.root_after(&before), self.delegations_after(&before));
            old.into_iter().chain(new).any(|keys| keys.has_signer(&self.signers))
        };
        let roles: Vec<RoleName> = folder.paths.keys().filter(|role| is_asked(role)).cloned().collect();
        if roles.is_empty() {
            let missing = self.missing(&before);
            let role = missing.first().map_or(RoleName::Targets, |missing| missing.role.clone());
            let named = missing.into_iter().flat_map(|missing| missing.absent).collect();
            return Err(MetadataError::NoKey { role, named });
        }
        for role in roles {
            if role == RoleName::Root
                && let Some(root) = &mut folder.proposal.root
            {
                self.sign(&role, root, &before).await?;
            }
            if let Some(signed) = folder.proposal.roles.get_mut(&role) {
                self.sign(&role, signed, &before).await?;
            }
        }
        Ok(())
    }

    async fn finish(&self, folder: Folder) -> Result<Outcome, MetadataError> {
        let in_force = self.put_complete(&folder).await?;
        let missing = if in_force.is_some() { Vec::new() } else { self.missing(&folder.proposal) };
        Ok(Outcome { in_force, missing })
    }

    /// Puts in force the largest part of the folder that is complete, and removes its files.
    async fn put_complete(&self, folder: &Folder) -> Result<Option<u64>, MetadataError> {
        let Some(complete) = self.complete(&folder.proposal) else { return Ok(None) };
        let version = self.put_in_force(&complete).await?;
        let root = complete.root.as_ref().map(|_| &RoleName::Root);
        for role in complete.roles.keys().chain(root) {
            if let Some(path) = folder.paths.get(role) {
                self.place.remove(path).await?;
            }
        }
        Ok(Some(version))
    }

    /// The largest part of `all` that lacks nothing. A root or targets that are not complete leave the keys as they
    /// are, and with them each group's role stands or falls for itself.
    fn complete(&self, all: &Proposal) -> Option<Proposal> {
        let choices = [(true, true), (true, false), (false, true), (false, false)];
        choices.into_iter().find_map(|(with_root, with_targets)| {
            let mut part = all.clone();
            if !with_root {
                part.root = None;
            }
            if !with_targets {
                part.roles.remove(&RoleName::Targets);
            }
            let incomplete: BTreeSet<RoleName> =
                self.missing(&part).into_iter().map(|missing| missing.role).collect();
            part.roles.retain(|role, _| !matches!(role, RoleName::Group(_)) || !incomplete.contains(role));
            let is_empty = part.root.is_none() && part.roles.is_empty();
            (!is_empty && self.missing(&part).is_empty()).then_some(part)
        })
    }

    fn describe(&self, folder: &Folder) -> Result<Staged, MetadataError> {
        let mut roles = Vec::new();
        let missing = self.missing(&folder.proposal);
        let missing = |role: &RoleName| missing.iter().find(|missing| missing.role == *role).cloned();
        if let Some(root) = &folder.proposal.root {
            let version = root.signed.version.get();
            let changes = root_changes(&self.in_force.root.signed, &root.signed);
            roles.push(StagedRole {
                missing: missing(&RoleName::Root),
                role: RoleName::Root,
                version,
                changes,
            });
        }
        for (role, signed) in &folder.proposal.roles {
            let version = signed.signed.version.get();
            let changes = self.role_changes(role, &signed.signed);
            roles.push(StagedRole { missing: missing(role), role: role.clone(), version, changes });
        }
        Ok(Staged { roles })
    }
}

/// The role that the file at `path` belongs to, if it is one of a waiting change.
fn role_of(path: &str) -> Option<RoleName> {
    let name = path.strip_prefix(STAGED)?.strip_prefix('/')?.strip_suffix(".json")?;
    let (version, role) = name.split_once('.')?;
    version.parse::<u64>().ok()?;
    role.parse().ok()
}

fn parse<R: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<File<R>, MetadataError> {
    serde_json::from_slice(bytes)
        .map_err(|source| MetadataError::StagedUnreadable { path: path.into(), source })
}

fn as_signed_targets<'a>((role, signed): (&RoleName, &'a Signed<Targets>)) -> SignedTargets<'a> {
    SignedTargets { role: role.clone(), expires: 0, targets: &signed.signed.targets }
}
