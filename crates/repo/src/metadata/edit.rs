//! The changes that commands make to the roles of releases and to their keys. Nothing is signed here.

use super::{Metadata, MetadataError, SPEC_VERSION, signing};
use crate::{
    catalog::{self, CatalogEntry},
    keys::{self, SigningKey},
    role::{RoleName, Threshold},
    tuf::GROUPS_MAX,
};
use branchmesh_image::{GroupKey, VerifiedBlock};
use jiff::Timestamp;
use std::{collections::HashMap, num::NonZeroU64, sync::Arc};
use tough::{
    TargetName,
    schema::{DelegatedRole, Delegations, Hashes, PathPattern, PathSet, RoleKeys, Root, Target, Targets},
};

/// Signing keys, ready to be named by a role.
pub(crate) type NewKeys = [Arc<dyn SigningKey>];

/// The keys of a role in a new repository.
pub(super) struct FirstKeys {
    pub(super) role: RoleName,
    pub(super) keys: Vec<Arc<dyn SigningKey>>,
    pub(super) threshold: Threshold,
}

impl Metadata {
    /// The number of the next publication in `role`.
    pub(crate) fn next_sequence(&self, group: Option<&str>) -> u64 {
        let releases = self.catalog().releases.iter().filter(|entry| entry.group.as_deref() == group);
        releases.map(|entry| entry.sequence).max().unwrap_or(0).saturating_add(1)
    }

    /// Adds a release whose encoded index root is `root`.
    pub(crate) fn add(&mut self, entry: &CatalogEntry, root: &VerifiedBlock) -> Result<(), MetadataError> {
        let name = TargetName::new(catalog::target_name(entry)).map_err(form)?;
        let target = Target {
            length: root.bytes().len() as u64,
            hashes: Hashes { sha256: signing::sha256(root.bytes()).into(), _extra: HashMap::new() },
            custom: self.custom(entry)?,
            _extra: HashMap::new(),
        };
        self.draft(&role_of(entry)?)?.targets.insert(name, target);
        Ok(())
    }

    /// Lets `channel` point to `release`, and to no other release of its image.
    pub(crate) fn point(&mut self, channel: &str, release: &CatalogEntry) -> Result<(), MetadataError> {
        self.edit_image(release, |entry| {
            entry.channels.retain(|other| other != channel);
            if entry.release == release.release {
                entry.channels.push(channel.into());
                entry.channels.sort();
            }
        })
    }

    /// Takes `channel` away from whichever release of `image`'s image it points to.
    pub(crate) fn unpoint(&mut self, channel: &str, image: &CatalogEntry) -> Result<(), MetadataError> {
        self.edit_image(image, |entry| entry.channels.retain(|other| other != channel))
    }

    /// Takes a release out.
    pub(crate) fn remove(&mut self, entry: &CatalogEntry) -> Result<(), MetadataError> {
        let name = TargetName::new(catalog::target_name(entry)).map_err(form)?;
        self.draft(&role_of(entry)?)?.targets.remove(&name);
        Ok(())
    }

    /// Whether there is a role for the releases of `group`.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.delegations().is_some_and(|delegations| delegations.roles.iter().any(|role| role.name == group))
    }

    /// Whether the role of `group` names any release, readable here or not.
    pub(crate) fn has_releases(&self, group: &RoleName) -> bool {
        self.in_force.role(group).is_some_and(|targets| !targets.targets.is_empty())
    }

    /// Lets the descriptions of `group` be sealed and opened with `key`.
    pub(crate) fn add_content_key(&mut self, group: &str, key: GroupKey) {
        self.content_keys.insert(group.into(), key);
    }

    /// Makes the role of `group`, signed by `keys`.
    pub(crate) fn delegate(
        &mut self,
        group: &str,
        keys: &NewKeys,
        threshold: Threshold,
    ) -> Result<(), MetadataError> {
        let role = RoleName::group(group)?;
        if self.has_group(group) {
            return Err(MetadataError::GroupExists { group: group.into() });
        }
        self.sign_with(keys)?;
        let targets = self.draft(&RoleName::Targets)?;
        let delegations = targets.delegations.get_or_insert_with(Delegations::new);
        if delegations.roles.len() >= GROUPS_MAX {
            return Err(form(format!("a repository has at most {GROUPS_MAX} groups")));
        }
        delegations.roles.push(DelegatedRole {
            name: group.into(),
            keyids: named(&mut delegations.keys, keys)?,
            threshold: threshold.needed(),
            paths: PathSet::Paths(vec![PathPattern::new(format!("{group}/*")).map_err(form)?]),
            terminating: true,
            targets: None,
        });
        self.draft(&role).map(drop)
    }

    /// Gives `role` other keys.
    pub(crate) fn rekey(
        &mut self,
        role: &RoleName,
        keys: &NewKeys,
        threshold: Threshold,
    ) -> Result<(), MetadataError> {
        self.sign_with(keys)?;
        let RoleName::Group(group) = role else {
            let mut root = self.next_root()?;
            let keyids = named(&mut root.keys, keys)?;
            let keys = RoleKeys { keyids, threshold: threshold.needed(), _extra: HashMap::new() };
            root.roles.insert(role.kind(), keys);
            let in_use: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
            root.keys.retain(|id, _| in_use.contains(id));
            self.next_root = Some(root);
            if *role == RoleName::Targets {
                self.draft(role)?;
            }
            return Ok(());
        };
        let no_group = || MetadataError::NoGroup { group: group.clone() };
        let targets = self.draft(&RoleName::Targets)?;
        let delegations = targets.delegations.as_mut().ok_or_else(no_group)?;
        let keyids = named(&mut delegations.keys, keys)?;
        let delegated = delegations.roles.iter_mut().find(|role| role.name == *group).ok_or_else(no_group)?;
        delegated.keyids = keyids;
        delegated.threshold = threshold.needed();
        let in_use: Vec<_> = delegations.roles.iter().flat_map(|role| role.keyids.clone()).collect();
        delegations.keys.retain(|id, _| in_use.contains(id));
        self.draft(role).map(drop)
    }

    /// Lets `role` be signed anew as it is.
    pub(crate) fn renew(&mut self, role: &RoleName) -> Result<(), MetadataError> {
        match role {
            RoleName::Root => self.next_root = Some(self.next_root()?),
            RoleName::Targets | RoleName::Group(_) => drop(self.draft(role)?),
            // These two are signed anew with every change.
            RoleName::Snapshot | RoleName::Timestamp => {}
        }
        Ok(())
    }

    /// Adds keys to those that sign.
    fn sign_with(&mut self, keys: &NewKeys) -> Result<(), MetadataError> {
        for key in keys {
            self.signers.insert(keys::key_id(&key.public())?, key.clone());
        }
        Ok(())
    }

    fn next_root(&self) -> Result<Root, MetadataError> {
        if let Some(root) = &self.next_root {
            return Ok(root.clone());
        }
        if self.unfinished.is_some() {
            return Err(MetadataError::Unfinished);
        }
        let root = self.in_force.root.signed.clone();
        let version = root.version.checked_add(1);
        let version = version.ok_or(MetadataError::VersionsUsedUp { role: RoleName::Root })?;
        Ok(Root { version, ..root })
    }

    /// The role of releases as it shall be, to be changed.
    fn draft(&mut self, role: &RoleName) -> Result<&mut Targets, MetadataError> {
        if !self.changes.contains_key(role) {
            let draft = match (self.in_force.role(role), role) {
                (Some(targets), _) => targets.clone(),
                (None, RoleName::Group(group)) if !self.has_group(group) => {
                    return Err(MetadataError::NoGroup { group: group.clone() });
                }
                (None, _) => empty_targets(),
            };
            self.changes.insert(role.clone(), draft);
        }
        Ok(self.changes.entry(role.clone()).or_insert_with(empty_targets))
    }

    /// Applies `change` to the descriptions of all releases of `image`'s image.
    fn edit_image(
        &mut self,
        image: &CatalogEntry,
        change: impl Fn(&mut CatalogEntry),
    ) -> Result<(), MetadataError> {
        let role = role_of(image)?;
        let content_keys = self.content_keys.clone();
        let mut changed = Vec::new();
        for (name, target) in &self.draft(&role)?.targets {
            let read = catalog::read_target(&role, name.raw(), target, 0, &content_keys);
            let Ok(catalog::Reading::Open(before)) = read else { continue };
            if before.image != image.image {
                continue;
            }
            let mut after = before.clone();
            change(&mut after);
            if after != before {
                changed.push((name.clone(), *after));
            }
        }
        for (name, entry) in changed {
            let custom = self.custom(&entry)?;
            if let Some(target) = self.draft(&role)?.targets.get_mut(&name) {
                target.custom.extend(custom);
            }
        }
        Ok(())
    }

    fn custom(&self, entry: &CatalogEntry) -> Result<HashMap<String, serde_json::Value>, MetadataError> {
        let key = entry.group.as_ref().and_then(|group| self.content_keys.get(group));
        catalog::to_custom(entry, key)
            .ok_or_else(|| MetadataError::NoContentKey { group: entry.group.clone().unwrap_or_default() })
    }
}

/// A first root that names `keys` for its roles.
pub(super) fn first_root(keys: Vec<FirstKeys>) -> Result<Root, MetadataError> {
    let mut root = Root {
        spec_version: SPEC_VERSION.into(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: Timestamp::MIN,
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for FirstKeys { role, keys, threshold } in keys {
        let keyids = named(&mut root.keys, &keys)?;
        let keys = RoleKeys { keyids, threshold: threshold.needed(), _extra: HashMap::new() };
        root.roles.insert(role.kind(), keys);
    }
    Ok(root)
}

/// Targets without releases or groups. Version and expiry are set when it is signed.
pub(super) fn empty_targets() -> Targets {
    let mut targets = Targets::new(SPEC_VERSION.into(), NonZeroU64::MIN, Timestamp::MIN);
    targets.delegations = None;
    targets
}

fn role_of(entry: &CatalogEntry) -> Result<RoleName, MetadataError> {
    Ok(RoleName::of_releases(entry.group.as_deref())?)
}

/// Adds the public halves of `keys` to `known`; their ids.
fn named(
    known: &mut HashMap<keys::KeyId, keys::PublicKey>,
    new: &NewKeys,
) -> Result<Vec<keys::KeyId>, MetadataError> {
    let mut ids = Vec::new();
    for key in new {
        let public = key.public();
        let id = keys::key_id(&public)?;
        known.insert(id.clone(), public);
        ids.push(id);
    }
    Ok(ids)
}

fn form(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> MetadataError {
    MetadataError::Form(error.into())
}
